"""
The life of a gateway: what starts after what, what ends after what, and what may happen
meanwhile.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher

from tests.api.ends import OK, STREAM_HEAD, Client, EngineEnd, chunk
from tests.assembly.fakes import ScriptedEngine, StillReactor, load
from twisted_llama.assembly.gateway import FLUSH_SECONDS, GatewayService
from twisted_llama.engine.status import EngineStatus
from twisted_llama.errors import StartupError

SECRET = b"sk-a-key-of-this-gateway"


class Life:
    """
    One gateway on a reactor that stands still, with a scripted engine and real requests.
    """

    def __init__(self, directory: Path, **given: object) -> None:
        self.key_file = directory / "api_keys.txt"
        self.write_keys(b"user:" + SECRET)
        self.reactor = StillReactor()
        self.closings: list[Callable[[], None]] = []
        self.events: list[LogEvent] = []
        self.engine = ScriptedEngine(EngineStatus("ready", external=True))
        self.service = GatewayService(load(directory, **given), self.reactor, {})
        self.graph = self.service.graph
        self.graph.engine = self.engine
        self.graph.pool._connect_to = self._connect
        self.engine_ends: list[EngineEnd] = []

    def write_keys(self, *lines: bytes) -> None:
        """
        Replace the key file.
        """
        self.key_file.write_bytes(b"\n".join([*lines, b""]))
        self.key_file.chmod(0o600)

    def _connect(self, factory: ClientFactory) -> None:
        end = EngineEnd(self, factory.buildProtocol(None))  # type: ignore[arg-type]  # see settle
        self.engine_ends.append(end)
        end.connect()

    @property
    def site(self) -> object:
        """
        See L{tests.api.world.World}.
        """
        return self.graph.site

    def settle(self) -> None:
        """
        See L{tests.api.world.World}.
        """
        while self.closings:
            self.closings.pop(0)()

    def start(self) -> None:
        """
        As C{twistd} does.
        """
        self.service.privilegedStartService()
        self.service.startService()

    def stop(self) -> Deferred[None]:
        """
        Begin to end.
        """
        ended = self.service.stopService()
        self.settle()
        return ended

    def client(self) -> Client:
        """
        Somebody connects.
        """
        return Client(self, "192.0.2.7")  # type: ignore[arg-type]  # see settle

    def stream(self) -> Client:
        """
        Somebody in the middle of a stream.
        """
        client = self.client().ask(b"POST", b"/v1/x", key=SECRET, body=b"{}")
        self.engine_ends[-1].answer(STREAM_HEAD + chunk(b"data: x\n\n"))
        return client

    @property
    def log(self) -> str:
        """
        What was logged.
        """
        return "\n".join(
            event["log_format"].format(**event) for event in self.events if event["log_format"]
        )

    @property
    def listens(self) -> list[bool]:
        """
        Whether the health port and the gateway's are open.
        """
        listeners = (self.graph.health_listener, self.graph.gateway_listener)
        return [listener.port is not None for listener in listeners]


MakeLife = Callable[..., Life]


@pytest.fixture
def make_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeLife]:
    """
    Makes gateways; after the test each is ended, and nothing may be left of it.
    """
    monkeypatch.setattr("twisted_llama.assembly.gateway.raise_file_limit", lambda: None)
    made: list[Life] = []

    def make(**given: object) -> Life:
        life = Life(tmp_path, **given)
        globalLogPublisher.addObserver(life.events.append)
        made.append(life)
        return life

    yield make
    for life in made:
        globalLogPublisher.removeObserver(life.events.append)
        if not life.service._stopping:
            life.stop()
        life.reactor.advance(100)
        life.settle()
        life.reactor.advance(100)
        if not life.engine.stopped.called:
            life.engine.stopped.callback(None)
        life.settle()
        assert life.listens == [False, False]
        assert life.reactor.getDelayedCalls() == []


def test_ports_open_first(make_life: MakeLife) -> None:
    """
    The health port before the gateway's, both before the engine is started.
    """
    life = make_life(port=8000, port_health=8001)
    life.service.privilegedStartService()
    assert [server[0] for server in life.reactor.tcpServers] == [8001, 8000]
    assert life.engine.calls == []
    life.service.startService()
    assert life.engine.calls == ["start"]
    assert "has started" in life.log


def test_the_engines_port_is_taken(make_life: MakeLife) -> None:
    """
    The start ends with one line, before the gateway's own port opens.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        life = make_life(engine="mock", port_backend=taken.getsockname()[1])
        with pytest.raises(StartupError, match=r"^PORT_BACKEND \d+ is taken"):
            life.service.privilegedStartService()
    assert life.listens == [True, False]


def test_no_key_file_yet(make_life: MakeLife) -> None:
    """
    The gateway starts, refuses everybody, and takes keys when they come.
    """
    life = make_life()
    life.key_file.unlink()
    life.start()
    client = life.client().ask(b"GET", b"/v1/models", key=SECRET)
    assert client.answer.status == 401
    life.write_keys(b"user:" + SECRET)
    life.reactor.pump([1.0] * 6)
    client.ask(b"GET", b"/v1/models", key=SECRET)
    assert len(life.engine_ends) == 1


def test_a_key_file_that_cannot_be_read(make_life: MakeLife) -> None:
    """
    That is said aloud, and every request refused.
    """
    life = make_life()
    life.key_file.write_bytes(b"\xff\xfe")
    life.start()
    assert "Until then every request is refused" in life.log
    assert life.client().ask(key=SECRET).answer.status == 401


def test_keys_off(make_life: MakeLife) -> None:
    """
    That is said aloud too.
    """
    life = make_life(auth_enabled="false")
    life.start()
    assert "everybody who reaches the port may use the engine" in life.log


def test_warnings_and_the_boot_log(make_life: MakeLife) -> None:
    """
    What settings were found, and what to look at.
    """
    life = make_life(backend_port="8080")
    life.start()
    assert "BACKEND_PORT" in life.log
    assert "requests per minute and key" in life.log


def test_a_boot_log_that_fails(make_life: MakeLife, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Costs nothing but itself.
    """

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("twisted_llama.assembly.gateway.publish_boot_report", fail)
    life = make_life()
    life.start()
    assert "The boot log could not be written" in life.log
    assert life.engine.calls == ["start"]


def test_an_end_before_the_boot_log(make_life: MakeLife, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nobody waits for a GPU that does not answer.
    """

    async def describe_gpus(*_: object) -> None:
        await Deferred()

    monkeypatch.setattr("twisted_llama.assembly.gateway.describe_gpus", describe_gpus)
    life = make_life()
    life.start()
    life.stop()
    assert "could not be written" not in life.log


def test_the_file_of_keys_changes(make_life: MakeLife) -> None:
    """
    Within five seconds; streams of a key that is gone end.
    """
    life = make_life()
    life.start()
    stream = life.stream()
    life.write_keys(b"other:sk-quite-another-key")
    life.reactor.pump([1.0] * 6)
    life.settle()
    assert stream.closed
    assert b"invalid_api_key" in stream.received
    assert b"[DONE]" not in stream.received


def hang_up(life: Life) -> None:
    """
    SIGHUP, as the handler passes it on.
    """
    life.service._reload_asked()
    life.settle()


def test_sighup(make_life: MakeLife) -> None:
    """
    Keys at once, and another try for an engine that has failed; only for one.
    """
    life = make_life()
    life.start()
    stream = life.stream()
    hang_up(life)
    assert not stream.closed
    assert life.engine.calls == ["start"]
    assert "Reloaded: 1 keys" in life.log
    life.write_keys(b"other:sk-quite-another-key")
    life.engine.status = EngineStatus("failed")
    hang_up(life)
    assert stream.closed
    assert life.engine.calls == ["start", "retry"]


def test_sighup_and_a_bad_file(make_life: MakeLife) -> None:
    """
    The old keys stay, and the engine is tried all the same.
    """
    life = make_life()
    life.start()
    stream = life.stream()
    life.key_file.unlink()
    life.engine.status = EngineStatus("failed")
    hang_up(life)
    assert not stream.closed
    assert life.engine.calls == ["start", "retry"]
    assert "The keys in force stay" in life.log


def test_sighup_with_keys_off(make_life: MakeLife) -> None:
    """
    There is nothing to read.
    """
    life = make_life(auth_enabled="false")
    life.start()
    hang_up(life)
    assert "Reloaded" not in life.log


def test_the_page_tries_a_failed_engine_again(make_life: MakeLife) -> None:
    """
    C{POST /reload} is a SIGHUP for those who have no shell.
    """
    life = make_life()
    life.start()
    life.engine.status = EngineStatus("failed")
    client = life.client().ask(b"POST", b"/reload", key=SECRET)
    assert client.answer.json == {"status": "ok", "keys_loaded": 1}
    assert life.engine.calls == ["start", "retry"]


def test_an_orderly_end(make_life: MakeLife) -> None:
    """
    No new work, then the work under way, then the gateway's port, then the engine, and last
    the health port.
    """
    life = make_life(max_concurrent_requests=1)
    life.start()
    idle = life.client()
    stream = life.stream()
    waiting = life.client().ask(b"POST", b"/v1/x", key=SECRET, body=b"{}")
    ended = life.stop()
    assert idle.closed
    assert waiting.answer.code == "draining"
    assert not stream.closed
    assert life.listens == [True, True]
    late = life.client().ask(b"POST", b"/v1/x", key=SECRET, body=b"{}")
    assert (late.answer.status, late.answer.code) == (503, "draining")
    assert life.client().ask(b"GET", b"/health", key=None).answer.json["status"] == "draining"
    life.engine_ends[0].answer(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    life.settle()
    assert stream.answer.whole
    assert stream.closed
    assert life.listens == [True, False]
    assert life.engine.calls == ["start", "stop"]
    assert not ended.called
    life.engine.stopped.callback(None)
    assert ended.called
    assert life.listens == [False, False]


def test_an_end_when_nothing_is_under_way(make_life: MakeLife) -> None:
    """
    It waits for nothing.
    """
    life = make_life()
    life.start()
    life.engine.stopped.callback(None)
    assert life.stop().called


def test_the_drain_has_its_time(make_life: MakeLife) -> None:
    """
    DRAIN_TIMEOUT; then streams are told and ended.
    """
    life = make_life(drain_timeout=30)
    life.start()
    stream = life.stream()
    life.stop()
    life.reactor.advance(29)
    life.settle()
    assert not stream.closed
    life.reactor.advance(1)
    life.settle()
    assert stream.closed
    assert b'"draining"' in stream.received
    assert not stream.answer.whole
    assert life.engine.calls == ["start", "stop"]


def test_a_client_that_does_not_take_its_end(make_life: MakeLife) -> None:
    """
    It is waited for a little, and cut off.
    """
    life = make_life()
    life.start()
    idle = life.client()
    stream = life.stream()
    closings = life.closings = NeverSettled()
    life.stop()
    life.engine_ends[0].answer(b"0\r\n\r\n")
    assert life.engine.calls == ["start"]
    life.reactor.advance(FLUSH_SECONDS)
    assert life.engine.calls == ["start", "stop"]
    life.closings = list(closings.kept)
    life.settle()
    assert stream.transport.lost
    assert idle.transport.lost


class NeverSettled(list[Any]):
    """
    Closings that nobody is told of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def append(self, closing: Any) -> None:
        self.kept.append(closing)


def test_a_client_on_the_health_port(make_life: MakeLife) -> None:
    """
    It is cut off at the very end.
    """
    life = make_life()
    life.start()
    channel = life.graph.health_site.buildProtocol(None)
    assert channel is not None
    transport = StringTransport()
    channel.makeConnection(transport)
    life.stop()
    assert not transport.disconnecting
    life.engine.stopped.callback(None)
    assert transport.disconnecting or transport.disconnected


def test_signals_end_it(make_life: MakeLife, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The first one in good order, the second at once.
    """
    installed: dict[int, Callable[..., Any]] = {}
    monkeypatch.setattr(signal, "signal", lambda number, act: installed.update({number: act}))
    life = make_life()
    life.start()
    for call, args, named in life.reactor.whenRunningHooks:
        call(*args, **named)
    stream = life.stream()
    installed[signal.SIGTERM](signal.SIGTERM, None)
    assert life.reactor.stops == 1
    life.stop()
    assert not stream.closed
    installed[signal.SIGINT](signal.SIGINT, None)
    life.settle()
    assert "SIGINT again" in life.log
    assert stream.transport.lost
    assert life.engine.calls == ["start", "kill_now", "stop"]
    installed[signal.SIGHUP](signal.SIGHUP, None)


def test_an_engine_that_must_not_run(
    make_life: MakeLife, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The gateway ends with exit status 1, once all is put away.
    """
    life = make_life()
    life.start()
    triggers: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        life.reactor, "addSystemEventTrigger", lambda *args: triggers.append(args), raising=False
    )
    life.service._fatal(StartupError("it is open to everybody"))
    assert triggers == [("after", "shutdown", os._exit, 1)]
    assert life.reactor.stops == 1
    assert "FATAL: it is open to everybody" in life.log
    life.stop()
    life.service._fatal(StartupError("again"))
    assert life.reactor.stops == 1


def test_a_request_while_it_runs(make_life: MakeLife) -> None:
    """
    All of it together.
    """
    life = make_life()
    life.start()
    client = life.client().ask(b"GET", b"/v1/models", key=SECRET)
    life.engine_ends[0].answer(OK)
    assert client.answer.status == 200
    client.leave()
