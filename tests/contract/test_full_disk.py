"""
Logs that cannot be written: requests go on, and what is lost is counted.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Require
from tests.gateway.running import Gateway, running, until
from tests.gateway.talking import Answer

QUESTION = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
_SEVEN_FIELDS = re.compile(r"[^|]+( \| [^|]+){6}")


def ask(gateway: Gateway) -> Answer:
    """
    A request that is served, and has its line.
    """
    answer = gateway.ask("POST", "/v1/chat/completions", body=QUESTION)
    assert answer.status == 200
    return answer


def lost_lines(gateway: Gateway) -> int:
    """
    How many lines are lost, as C{/metrics} says.
    """
    page = gateway.ask("GET", "/metrics", key=None, headers={"Accept": "text/plain"})
    found = re.search(rb"^llm_gateway_log_lines_lost_total (\S+)$", page.body, re.MULTILINE)
    assert found
    return int(float(found[1]))


def ask_until(gateway: Gateway, enough: Callable[[], object]) -> int:
    """
    Go on asking.

    @return: how often.
    """
    asked = []

    def look() -> object:
        asked.append(ask(gateway))
        return enough()

    until(look, "enough was asked")
    return len(asked)


def test_a_disk_that_fills_up_and_gets_room_again(tmp_path: Path, require: Require) -> None:
    """
    Every request is answered, every line is in the log or counted as lost, and after the room is
    there again so are the lines.
    """
    require(hasattr(resource, "prlimit"), "the limits of a running process cannot be set here")
    with running(Gateway(tmp_path, {"ENGINE": "mock"})) as gateway:
        log = tmp_path / "logs" / "api_access.log"
        ask(gateway)
        until(lambda: log.exists() and log.stat().st_size, "there is a log")
        # No file may grow by more than two and a half lines: as on a full disk, the last of
        # them is torn.
        pid = gateway.process.pid
        size = log.stat().st_size
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size * 7 // 2, hard))
        asked = 1 + ask_until(gateway, lambda: lost_lines(gateway) >= 20)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        before = len(gateway.access_lines())
        asked += ask_until(gateway, lambda: len(gateway.access_lines()) > before + 5)
        until(
            lambda: (
                sum(map(bool, map(_SEVEN_FIELDS.fullmatch, gateway.access_lines())))
                + lost_lines(gateway)
                == asked
            ),
            "every line is there or counted",
        )
        said = re.findall(r"(\d+) lines of access log could not be written", gateway.output)
        assert len(said) == 1, gateway.output
        assert "Traceback" not in gateway.output


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_disk_that_is_full(tmp_path: Path, log_format: str) -> None:
    """As the system's own full device is: nothing is ever written, and no request is held up."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "api_access.log").symlink_to("/dev/full")
    settings = {"ENGINE": "mock", "LOG_FORMAT": log_format}
    with running(Gateway(tmp_path, settings)) as gateway:
        for _ in range(30):
            ask(gateway)
        until(lambda: lost_lines(gateway) == 30, "all lines are counted as lost")
        # It is told when the next line comes.
        said = "lines of access log could not be written and are lost; requests go on"
        ask_until(gateway, lambda: said in gateway.output)
