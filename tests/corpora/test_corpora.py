"""
Hostile bytes that others have collected, sent by their own drivers to a real gateway.  They are
no part of this project: C{TEST_CORPORA} names the directory they are in.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Require
from tests.gateway.running import Gateway, clean_environment, running, until

CHAT = "/v1/chat/completions"
KNOWN = Path(__file__).with_name("known.txt")
LOCAL = "127.0.0.1"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpora(require: Require) -> Path:
    """
    Where the corpora are.
    """
    named = Path(os.environ.get("TEST_CORPORA", ROOT.parent / "shared" / "corpora"))
    directory = named.parent if named.name == "data" else named
    require(
        (directory / "http11probe.py").is_file(),
        "the corpora of hostile HTTP are missing: TEST_CORPORA names their directory",
    )
    return directory


def free_port() -> int:
    """
    A port where nothing listens now; a driver that is an engine takes none but a number.
    """
    with socket.socket() as taken:
        taken.bind((LOCAL, 0))
        return int(taken.getsockname()[1])


def listens(port: int) -> bool:
    """
    Whether somebody answers there.
    """
    with socket.socket() as client:
        return client.connect_ex((LOCAL, port)) == 0


def external(engine_port: int, **settings: object) -> dict[str, object]:
    """
    The settings of a gateway without keys in front of an engine.
    """
    return {
        "ENGINE": "external",
        "PORT_BACKEND": engine_port,
        "AUTH_ENABLED": "false",
        "MAX_CONCURRENT_REQUESTS": 64,
        "CLIENT_HEADER_TIMEOUT": 3,
        **settings,
    }


def run(corpora: Path, driver: str, port: int, *arguments: str) -> tuple[int, str]:
    """
    Run a driver.

    @return: how many cases have passed, and what it printed.
    """
    done = subprocess.run(
        [sys.executable, "-B", str(corpora / driver), LOCAL, str(port), *arguments],
        cwd=corpora,
        env=clean_environment(),
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=300,
        check=False,
    )
    summary = re.search(r"^PASS (\d+) FAIL 0$", done.stdout, re.MULTILINE)
    assert summary, f"{driver}:\n{done.stdout[-5000:]}{done.stderr[-2000:]}"
    return int(summary[1]), done.stdout


@pytest.fixture(scope="module")
def echo(corpora: Path) -> Iterator[int]:
    """
    The corpora's own engine.
    """
    port = free_port()
    engine = subprocess.Popen(
        [sys.executable, "-B", str(corpora / "echo_engine.py"), str(port)], env=clean_environment()
    )
    until(lambda: listens(port), "the echo engine listens")
    yield port
    engine.kill()
    engine.wait()


@pytest.fixture(scope="module")
def gateway(echo: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """
    A gateway in front of it.
    """
    settings = external(echo, PROXY_EXTRA_PATHS="/echo,/cookie,/ok")
    with running(Gateway(tmp_path_factory.mktemp("echo"), settings, {})) as started:
        yield started
    assert "Traceback" not in started.output


@pytest.mark.parametrize(
    ("driver", "arguments", "at_least"),
    [
        ("http11probe.py", (), 170),
        ("corpus.py", ("--set", "gunicorn"), 95),
        ("corpus.py", ("--set", "llhttp"), 80),
        ("corpus.py", ("--set", "desync"), 130),
        ("smuggler_te.py", ("--sample", "6"), 280),
    ],
    ids=["http11probe", "gunicorn", "llhttp", "desync", "smuggler"],
)
def test_requests(
    corpora: Path, gateway: Gateway, driver: str, arguments: tuple[str, ...], at_least: int
) -> None:
    """
    No case fails but those that are known, each for its reason.
    """
    options = ("--get-path", "/ping", "--known", str(KNOWN), "--jobs", "8", "--timeout", "3")
    passed, printed = run(corpora, driver, gateway.port, CHAT, *options, *arguments)
    assert passed >= at_least, printed


def test_answers(corpora: Path, tmp_path: Path) -> None:
    """
    The driver is the engine; whatever it says, no client is misled.
    """
    engine_port = free_port()
    settings = external(engine_port)
    with running(Gateway(tmp_path, settings, {}), ready=False) as gateway:
        gateway.printed("has started")
        passed, printed = run(
            corpora, "resp_corpus.py", gateway.port, "--up", str(engine_port), "--known", str(KNOWN)
        )
        assert passed >= 45, printed
        assert "Traceback" not in gateway.output
