"""
Time that does not jump, signals, the limit of open files, and holding still.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from tests.assembly.fakes import StillReactor, load
from twisted_llama.assembly.debug_shell import DebugShell, masked_environment
from twisted_llama.assembly.monotonic import MonotonicTime
from twisted_llama.assembly.open_files import enlarge_descriptor_table, raise_file_limit
from twisted_llama.assembly.signals import install_signals
from twisted_llama.errors import StartupError


def test_monotonic_time() -> None:
    """
    The reactor's calls with another clock.
    """
    clock = Clock()
    called: list[tuple[int, int]] = []
    monotonic = MonotonicTime(clock)
    assert verifyObject(IReactorTime, monotonic)
    call = monotonic.callLater(3, lambda a, b: called.append((a, b)), 1, b=2)
    assert list(monotonic.getDelayedCalls()) == [call]
    clock.advance(3)
    assert called == [(1, 2)]
    before = time.monotonic()
    assert before <= monotonic.seconds() <= time.monotonic()


def test_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    They are taken over, and acted on in the reactor's own time.
    """
    installed: dict[int, Callable[..., Any]] = {}
    monkeypatch.setattr(signal, "signal", lambda number, act: installed.update({number: act}))
    reactor, seen = StillReactor(), []
    install_signals(reactor, seen.append, lambda: seen.append("reload"))
    assert set(installed) == {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        installed[number](number, None)
    assert seen == ["SIGTERM", "reload", "SIGINT"]


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As many as the system allows.
    """
    asked: list[object] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda *limit: asked.append(limit))
    raise_file_limit()
    assert asked == [(resource.RLIMIT_NOFILE, (4096, 4096))]


@pytest.mark.parametrize(("limit", "highest"), [(4096, 4095), (1_000_000, 16383), (-1, 16383)])
def test_room_for_descriptors(monkeypatch: pytest.MonkeyPatch, limit: int, highest: int) -> None:
    """
    One with a high number is opened, no higher than it may be, and none is left.
    """
    asked: list[int] = []
    opened: list[int] = []

    def control(descriptor: int, command: int, argument: int) -> int:
        assert command == fcntl.F_DUPFD_CLOEXEC
        asked.append(argument)
        opened.extend((descriptor, os.dup(descriptor)))
        return opened[-1]

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    monkeypatch.setattr("twisted_llama.assembly.open_files.fcntl.fcntl", control)
    enlarge_descriptor_table()
    assert asked == [highest]
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_no_room_for_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The start goes on without.
    """
    opened: list[int] = []

    def refuse(descriptor: int, command: int, argument: int) -> int:
        opened.append(descriptor)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("twisted_llama.assembly.open_files.fcntl.fcntl", refuse)
    enlarge_descriptor_table()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_environment_is_masked() -> None:
    """
    By name, and by what values look like.
    """
    environ = {
        "PORT": "8000",
        "HF_TOKEN": "hf_abcdef",
        "BACKEND_API_KEY": "let-me-in",
        "Db_Password": "hunter2",
        "AWS_SECRET_ACCESS": "xyz",
        "REDIS_URL": "redis://:pass@host",
        "AUTH": "keyfile:/x",
        "AUTH_ENABLED": "true",
        "EMPTY_KEY": "",
        "NOTE": "use sk-0123456789abcdefghij please",
        "URL": "https://user:pass@host/x",
    }
    shown = dict(masked_environment(environ))
    assert list(shown) == sorted(environ)
    assert shown["PORT"] == "8000"
    assert shown["AUTH_ENABLED"] == "true"
    assert shown["EMPTY_KEY"] == ""
    text = " ".join(shown.values())
    for secret in ("hf_abc", "let-me-in", "hunter2", "xyz", "pass@", "0123456789", "keyfile:/x"):
        assert secret not in text


def test_debug_shell(tmp_path: Path) -> None:
    """
    It shows settings and environment without secrets, and only the health port answers.
    """
    reactor = StillReactor()
    loaded = load(tmp_path, debug_shell="true", backend_api_key="let-me-in", port_health=8001)
    shell = DebugShell(loaded, reactor, {"HF_TOKEN": "hf_abcdef", "HOME": "/home/x"})
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        shell.privilegedStartService()
        shell.startService()
    finally:
        globalLogPublisher.removeObserver(events.append)
    ((port, site, _, interface),) = reactor.tcpServers
    assert (port, interface) == (8001, "0.0.0.0")
    assert site.buildProtocol(None) is not None
    assert reactor.tcpClients == []
    text = "\n".join(event["log_format"].format(**event) for event in events)
    assert "environment: HOME=/home/x" in text
    assert "port_health" in text.lower()
    assert "DEBUG_SHELL=true: the engine is not started" in text
    assert "hf_abcdef" not in text
    assert "let-me-in" not in text
    shell.stopService()
    assert not shell.running


def test_debug_shell_takes_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As soon as the reactor runs; one ends it.
    """
    installed: dict[int, Callable[..., Any]] = {}
    monkeypatch.setattr(signal, "signal", lambda number, act: installed.update({number: act}))
    reactor = StillReactor()
    shell = DebugShell(load(tmp_path, debug_shell="true"), reactor, {})
    shell.startService()
    for call, args, named in reactor.whenRunningHooks:
        call(*args, **named)
    installed[signal.SIGHUP](signal.SIGHUP, None)
    assert reactor.stops == 0
    installed[signal.SIGTERM](signal.SIGTERM, None)
    assert reactor.stops == 1


def test_debug_shell_listens_where_it_is_told(tmp_path: Path) -> None:
    """
    HEALTH_ENDPOINT counts here too, and a bad one ends the start.
    """
    reactor = StillReactor()
    loaded = load(tmp_path, debug_shell="true", health_endpoint="tcp:9009")
    DebugShell(loaded, reactor, {}).privilegedStartService()
    assert [server[0] for server in reactor.tcpServers] == [9009]
    with pytest.raises(StartupError, match=r"^HEALTH_ENDPOINT=what:1 is not"):
        DebugShell(load(tmp_path, debug_shell="true", health_endpoint="what:1"), reactor, {})
