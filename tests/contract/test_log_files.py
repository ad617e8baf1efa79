"""
The files of a gateway's logs, as an operator finds them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.conftest import BACKEND_KEY, FILE_QUEUE_TIMEOUT
from tests.gateway.running import Gateway, running, until
from tests.gateway.talking import CHAT, chat
from tests.tiny_model import tiny_model

MAX_BYTES = 3000
KEEP = 2
OLD_STARTS = 4


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """
    The LOG_DIR of a gateway with small files, strange names and some starts behind it.
    """
    directory = tmp_path_factory.mktemp("logs")
    log_dir = directory / "elsewhere"
    for name, kind in (("_boot", "boot"), ("my-llama-co-der", "server")):
        (log_dir / name).mkdir(parents=True)
        for at in range(OLD_STARTS):
            old = log_dir / name / f"2020010{at + 1}_120000_{kind}_old.log"
            old.write_text("old\n")
            os.utime(old, (1577880000 + at, 1577880000 + at))
        (log_dir / name / "notes.txt").write_text("an operator's own")
    settings = {
        "ENGINE": "mock",
        "LOG_DIR": log_dir,
        "LOG_MAX_BYTES": MAX_BYTES,
        "LOG_KEEP": KEEP,
        "INSTANCE_ID": "pod/7 a",
        "LOG_NAME": "my llama",
        "WORKER_TYPE": "co/der",
    }
    with running(Gateway(directory, settings)) as gateway:
        for _ in range(120):
            gateway.ask("GET", "/nowhere")
        assert gateway.ask("POST", CHAT, body=chat()).status == 200
        until((log_dir / "_boot" / "latest.txt").exists, "the boot log")
        access_log = log_dir / "api_access.log"
        # Lines are written a moment later; this one is the last.
        until(
            lambda: access_log.exists() and f"POST {CHAT} " in access_log.read_text(),
            "the last line of the access log",
        )
        yield log_dir


def test_the_access_log_is_rotated_and_pruned(logs: Path) -> None:
    """Whole lines in files of LOG_MAX_BYTES, of which LOG_KEEP old ones are kept."""
    names = sorted(path.name for path in logs.glob("api_access.log*"))
    assert names == ["api_access.log", *(f"api_access.log.{at + 1}" for at in range(KEEP))]
    for name in names:
        lines = (logs / name).read_text().splitlines(keepends=True)
        assert sum(map(len, lines[:-1])) <= MAX_BYTES
        assert all(line.endswith("\n") and line.count(" | ") == 6 for line in lines)


@pytest.mark.parametrize(("name", "kind"), [("_boot", "boot"), ("my-llama-co-der", "server")])
def test_names_links_and_old_starts(logs: Path, name: str, kind: str) -> None:
    """Names are made harmless, latest.txt is a link to the newest, old ones go."""
    latest = logs / name / "latest.txt"
    assert latest.is_symlink()
    target = os.readlink(latest)
    assert re.fullmatch(rf"\d{{8}}_\d{{6}}_{kind}_pod-7-a\.log", target)
    starts = sorted(path.name for path in (logs / name).glob("*.log"))
    assert starts == [f"2020010{OLD_STARTS}_120000_{kind}_old.log", target]
    assert (logs / name / "notes.txt").exists()


def test_what_the_engine_prints(logs: Path) -> None:
    """It is in the file of its start."""
    assert "mock engine: listening" in (logs / "my-llama-co-der" / "latest.txt").read_text()


def boot_log(gateway: Gateway) -> str:
    """
    The boot log of the last start.
    """
    latest = gateway.data_dir / "logs" / "_boot" / "latest.txt"
    return until(lambda: latest.exists() and latest.read_text(), "the boot log") or ""


def test_what_a_start_reports(front: Gateway) -> None:
    """Settings with their sources, secrets masked, versions and limits."""
    text = boot_log(front)
    settings = dict(re.findall(r"^(\w+) += (.*)$", text, re.MULTILINE))
    assert settings["MAX_CONCURRENT_REQUESTS"] == "64  (environment)"
    assert settings["QUEUE_TIMEOUT"].startswith(f"{FILE_QUEUE_TIMEOUT}")
    assert re.search(r"\(file .*gateway\.yaml", settings["QUEUE_TIMEOUT"])
    assert settings["PORT_BACKEND"].endswith("(environment)")
    assert settings["LOAD_TIMEOUT"] == "600  (default)"
    assert "(environment)" in settings["BACKEND_API_KEY"]
    assert BACKEND_KEY not in text
    for section in ("[versions]", "[hardware]", "[model]", "[limits]", "[settings]"):
        assert section in text
    assert re.search(r"^twisted +\d+\.", text, re.MULTILINE)
    assert "requests per minute and key = 100000" in text


def test_what_a_start_reports_of_the_engine(real: Gateway) -> None:
    """Which one it is, its model with its size, and what it runs on."""
    text = boot_log(real)
    assert "embedded" in text
    assert f"tiny.gguf ({tiny_model().stat().st_size} bytes" in text
    assert re.search(r"\[hardware\]\n.*(GPU|CPU|cores)", text)


def test_a_log_directory_on_a_full_or_closed_disk(tmp_path: Path) -> None:
    """The reports of a start go to stderr, with one warning, and requests are served."""
    blocked = tmp_path / "blocked"
    blocked.touch()
    settings = {"ENGINE": "mock", "LOG_DIR": blocked / "logs"}
    with running(Gateway(tmp_path, settings)) as gateway:
        assert gateway.ask("POST", CHAT, body=chat()).status == 200
        gateway.printed(r"LOG_DIR +=")
        assert gateway.output.count("Logs go to stderr only") == 1
