"""
C{twistd llama-gateway}: its options, and what it makes of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred
from twisted.python.usage import UsageError

from twisted_llama.assembly.debug_shell import DebugShell
from twisted_llama.assembly.gateway import GatewayService
from twisted_llama.errors import StartupError
from twisted_llama.tap import Options, Plainspoken, makeService


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """
    That of a gateway which could start.
    """
    monkeypatch.setattr("os.environ", {})
    for name, value in {
        "ENGINE": "mock",
        "DATA_DIR": str(tmp_path),
        "LOG_DIR": "/dev/null/no-logs",
        "PORT": "0",
        "PORT_HEALTH": "0",
        "PORT_BACKEND": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def parsed(*words: str) -> Options:
    """
    A command line.
    """
    options = Options()
    options.parent = None
    options.parseOptions(list(words))
    return options


def inner(top: IService) -> IService:
    """
    What is started in the end.
    """
    assert isinstance(top, MultiService)
    (plainspoken,) = [child for child in top if isinstance(child, Plainspoken)]
    return plainspoken._service


def test_options_by_default() -> None:
    """
    Nothing is asked for.
    """
    assert dict(parsed()) == {"check": 0, "config": None, "auth": None}


def test_options() -> None:
    """
    All of them.
    """
    given = parsed("--config", "a.yaml", "--auth", "keyfile:/x", "--check")
    assert dict(given) == {"check": 1, "config": "a.yaml", "auth": "keyfile:/x"}
    assert parsed("-c", "b.yaml")["config"] == "b.yaml"
    with pytest.raises(UsageError):
        parsed("--port", "1")


def test_kinds_of_checkers() -> None:
    """
    C{--help-auth-kinds}.
    """
    with pytest.raises(SystemExit, match="keyfile"):
        parsed("--help-auth-kinds")


def test_it_makes_a_gateway() -> None:
    """
    With a log of its own beside it.
    """
    top = makeService(parsed())
    assert isinstance(inner(top), GatewayService)
    assert len(list(top)) == 2


def test_with_a_log_that_twistd_makes() -> None:
    """
    C{--syslog} and C{--logger} are left to it.
    """
    options = parsed()
    options.parent = {"syslog": True}
    assert len(list(makeService(options))) == 1


def test_debug_shell(environment: pytest.MonkeyPatch) -> None:
    """
    Instead of the gateway.
    """
    environment.setenv("DEBUG_SHELL", "true")
    assert isinstance(inner(makeService(parsed())), DebugShell)


def test_a_checker_from_the_command_line(tmp_path: Path) -> None:
    """
    It goes before the settings.
    """
    gateway = inner(makeService(parsed("--auth", f"keyfile:{tmp_path}/mine.txt")))
    assert isinstance(gateway, GatewayService)
    assert gateway.graph.checker.path == tmp_path / "mine.txt"


def test_check() -> None:
    """
    Nothing is wrong, so the status is 0; nothing is started.
    """
    with pytest.raises(SystemExit) as caught:
        makeService(parsed("--check"))
    assert caught.value.code == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "70000", "PORT"),
        ("AUTH_ENABLED", "maybe", "AUTH_ENABLED"),
        ("MAX_CONCURRENT_REQUESTS", "0", "MAX_CONCURRENT_REQUESTS"),
        ("GATEWAY_CONFIG", "/no/such/file.yaml", "/no/such/file.yaml"),
        ("CORS_ORIGINS", "chat.example.org", "CORS_ORIGINS"),
    ],
)
@pytest.mark.parametrize("words", [(), ("--check",)])
def test_bad_settings(
    environment: pytest.MonkeyPatch, name: str, value: str, said: str, words: tuple[str, ...]
) -> None:
    """
    One line that names the setting, and no traceback.
    """
    environment.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        makeService(parsed(*words))
    message = str(caught.value)
    assert message.startswith("FATAL: ")
    assert said in message
    assert caught.value.code != 0


def test_bad_endpoint(environment: pytest.MonkeyPatch) -> None:
    """
    What is found only when everything is made is told in the same way.
    """
    environment.setenv("GATEWAY_ENDPOINT", "what:1")
    with pytest.raises(SystemExit, match=r"^FATAL: GATEWAY_ENDPOINT=what:1 is not an endpoint"):
        makeService(parsed())


def test_a_file_of_settings(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    """
    C{--config}, below the environment.
    """
    path = tmp_path / "gateway.yaml"
    path.write_text("max_queue_size: 7\nport: 1234\n")
    gateway = inner(makeService(parsed("--config", str(path))))
    assert isinstance(gateway, GatewayService)
    assert gateway.graph.settings.max_queue_size == 7
    assert gateway.graph.settings.port == 0
    path.write_text("max_queue_sise: 7\n")
    with pytest.raises(SystemExit, match="max_queue_sise"):
        makeService(parsed("--config", str(path)))


class Stage(Service):
    """
    A service that cannot start.
    """

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.ended: Deferred[None] = Deferred()

    def privilegedStartService(self) -> None:
        if self.fails == "privileged":
            raise StartupError("PORT=1: taken.")

    def startService(self) -> None:
        super().startService()
        if self.fails == "start":
            raise StartupError("PORT=2: taken.")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self.ended


def test_plainspoken() -> None:
    """
    What prevents a start is one line; the end is waited for.
    """
    service = Stage()
    plain = Plainspoken(service)
    plain.privilegedStartService()
    plain.startService()
    assert service.running
    assert plain.running
    assert plain.stopService() is service.ended
    assert not service.running
    with pytest.raises(SystemExit, match=r"^FATAL: PORT=1: taken\.$"):
        Plainspoken(Stage("privileged")).privilegedStartService()
    with pytest.raises(SystemExit, match=r"^FATAL: PORT=2: taken\.$"):
        Plainspoken(Stage("start")).startService()
