"""
The log under a real C{twistd}.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TAC = """
from twisted.application.service import Application, Service
from twisted.internet import reactor
from twisted.logger import Logger
from twisted_llama.telemetry.logs import LoggedMultiService, make_observer, own_log_sink
from twisted_llama.telemetry.writer import LogWriter

class Talker(Service):
    def startService(self):
        for number in range({events}):
            Logger("talker").info("key {{key}} " + "x" * 1000, key="sk-" + "k" * 43)
        reactor.callLater(0, reactor.stop)

writer = LogWriter(reactor, own_log_sink({{}}, 1000, 1), "stderr")
root = LoggedMultiService(make_observer(writer.put))
writer.setServiceParent(root)
Talker().setServiceParent(root)
application = Application("gateway")
root.setServiceParent(application)
"""


@pytest.fixture
def environment() -> dict[str, str]:
    """Where the source tree is found."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def twistd(tmp_path: Path, events: int) -> list[str]:
    """A foreground twistd with a service that logs so many events."""
    tac = tmp_path / "gateway.tac"
    tac.write_text(TAC.format(events=events))
    start = "from twisted.scripts.twistd import run; run()"
    return [sys.executable, "-c", start, "-n", "--pidfile=", "-y", str(tac)]


def test_lines_are_on_stderr_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    """In our format, redacted, and once."""
    done = subprocess.run(
        twistd(tmp_path, 1), env=environment, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    talk = [line for line in done.stderr.splitlines() if b"[talker]" in line]
    assert len(talk) == 1
    assert b"Z info     [talker] key sk-*** x" in talk[0]


def test_a_pipe_that_nobody_reads(tmp_path: Path, environment: dict[str, str]) -> None:
    """More than a pipe holds is logged; the gateway runs on and ends all the same."""
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            twistd(tmp_path, 500),
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=writer,
            timeout=60,
        )
        assert done.returncode == 0
    finally:
        os.close(reader)
        os.close(writer)
