"""
The supervisor, with a reactor that starts no processes.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.logger import capturedLogs, formatEvent
from twisted.web.http_headers import Headers

from twisted_llama.engine import supervisor as supervisor_module
from twisted_llama.engine.process import exit_facts, signal_name
from twisted_llama.engine.sockets import Listener
from twisted_llama.engine.spec import EngineSpec
from twisted_llama.engine.status import EngineStatus, LastExit
from twisted_llama.engine.supervisor import EngineSupervisor
from twisted_llama.errors import StartupError

from .fakes import FakeReactor


@define
class FakeResponse:
    """
    An answer that is there at once.
    """

    code: int
    body: bytes

    def deliverBody(self, protocol: Any) -> None:
        protocol.dataReceived(self.body)
        protocol.connectionLost(None)


@define
class FakeAgent:
    """
    An engine's HTTP side: loading, then ready.
    """

    health: int | None = None
    slots: int = 2
    wants_key: bool = True
    requests: list[tuple[bytes, bytes, bytes | None]] = field(factory=list)

    def request(
        self, method: bytes, uri: bytes, headers: Headers, bodyProducer: object = None
    ) -> Deferred[FakeResponse]:
        key = (headers.getRawHeaders(b"Authorization") or [None])[0]
        path = b"/" + uri.split(b"/", 3)[3]
        self.requests.append((method, path, key))
        if self.health is None:
            failing: Deferred[FakeResponse] = Deferred()
            failing.errback(Refused())
            return failing
        if path == b"/health":
            return succeed(FakeResponse(self.health, b"{}"))
        if key is None and self.wants_key:
            return succeed(FakeResponse(401, b"{}"))
        return succeed(FakeResponse(200, json.dumps({"total_slots": self.slots}).encode()))


@define
class World:
    """
    A supervisor and what it sees.
    """

    supervisor: EngineSupervisor
    reactor: FakeReactor
    agent: FakeAgent
    keys: Path
    fatal: list[StartupError]
    killed: list[tuple[int, int]]
    statuses: list[EngineStatus]

    @property
    def states(self) -> list[str]:
        seen = [status.state for status in self.statuses]
        return [state for at, state in enumerate(seen) if at == 0 or seen[at - 1] != state]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Any]:
    """
    Makes worlds, and ends them.
    """
    worlds: list[World] = []

    def make(groups: bool = False, **spec: Any) -> World:
        reactor, agent = FakeReactor(), FakeAgent()
        fatal: list[StartupError] = []
        killed: list[tuple[int, int]] = []

        def kill_group(group: int, number: int) -> None:
            if not groups:
                raise ProcessLookupError
            killed.append((group, number))

        values = {"kind": "llama-server", "binary": Path("/x/ls"), "model_path": Path("/m/a.gguf")}
        supervisor = EngineSupervisor(
            EngineSpec(**{**values, "port": 8080, **spec}),
            reactor,
            environ={"PATH": "/bin", "BACKEND_API_KEY": "secret"},
            on_fatal=fatal.append,
            wall_clock=lambda: 1000.0,
            agent=agent,
            key_parents=[tmp_path],
            kill_group=kill_group,
        )
        world = World(supervisor, reactor, agent, tmp_path, fatal, killed, [])
        supervisor.on_change(world.statuses.append)
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        stopped = world.supervisor.stopService()
        if world.reactor.processes and world.reactor.process.alive:
            world.reactor.process.die()
        assert stopped.called
        assert list(tmp_path.iterdir()) == []
        assert world.reactor.getDelayedCalls() == []


def test_to_ready_and_back(make_world: Any) -> None:
    """
    The whole of an ordinary life.
    """
    world = make_world()
    world.supervisor.startService()
    process = world.reactor.process
    assert process.argv[0] == sys.executable
    assert "/x/ls" in process.argv
    assert process.env == {"PATH": "/bin"}
    assert not process.stdin_open
    assert world.supervisor.api_key not in " ".join(process.argv)
    assert world.supervisor.address == ("127.0.0.1", 8080)
    world.agent.health = 503
    world.reactor.advance(1)
    world.agent.health = 200
    world.reactor.advance(1)
    assert world.states == ["starting", "loading", "ready"]
    status = world.supervisor.status
    assert (status.slots, status.pid, status.model, status.ready_since) == (2, 100, "a.gguf", 1000)
    assert world.agent.requests[0][2] == f"Bearer {world.supervisor.api_key}".encode()
    stopped = world.supervisor.stopService()
    assert not stopped.called
    assert process.signals == ["TERM"]
    process.die()
    assert stopped.called
    assert world.supervisor.api_key is None
    assert world.states[-2:] == ["stopping", "stopped"]


def test_stubborn_child_is_killed(make_world: Any) -> None:
    """
    TERM, ten seconds, KILL, and again if that is not seen.
    """
    world = make_world()
    world.supervisor.startService()
    world.supervisor.stopService()
    world.reactor.advance(9.9)
    assert world.reactor.process.signals == ["TERM"]
    world.reactor.advance(0.2)
    assert world.reactor.process.signals == ["TERM", "KILL"]
    world.reactor.advance(10)
    assert world.reactor.process.signals == ["TERM", "KILL", "KILL"]
    world.reactor.process.die(None, 9)


def test_second_signal(make_world: Any) -> None:
    """
    The child can be killed at once.
    """
    world = make_world()
    world.supervisor.kill_now()
    world.supervisor.startService()
    world.supervisor.stopService()
    world.supervisor.kill_now()
    assert world.reactor.process.signals == ["TERM", "KILL"]
    world.reactor.process.die(None, 9)
    world.supervisor.kill_now()


def test_whole_group_is_ended(make_world: Any) -> None:
    """
    Also what the child started, when the child itself is gone.
    """
    world = make_world(groups=True, max_restarts=0)
    world.supervisor.startService()
    world.reactor.process.die(1)
    assert world.killed == [(100, signal.SIGKILL)]
    world.supervisor.stopService()
    assert world.killed == [(100, signal.SIGKILL)]


def test_signal_to_a_group(make_world: Any) -> None:
    """
    TERM goes to the group too.
    """
    world = make_world(groups=True)
    world.supervisor.startService()
    world.supervisor.stopService()
    world.reactor.process.die()
    assert world.killed == [(100, signal.SIGTERM), (100, signal.SIGKILL)]


def test_pipes_held_by_a_stranger(make_world: Any) -> None:
    """
    They are closed after a while, so that the end is seen.
    """
    world = make_world(max_restarts=0)
    world.supervisor.startService()
    world.reactor.process.die(1, pipes=False)
    assert world.states == ["starting"]
    world.supervisor.stopService()
    world.reactor.advance(2)
    assert world.states[-1] == "stopped"


def test_crash_is_explained_and_repeated(make_world: Any) -> None:
    """
    One line with the exit and the reason; a new start after a second.
    """
    world = make_world(max_restarts=1)
    seen: list[str] = []
    world.supervisor.on_output(seen.append)
    world.supervisor.startService()
    world.reactor.process.protocol.childDataReceived(1, b"hello\n")
    world.reactor.process.protocol.childDataReceived(2, b"failed to load model")
    with capturedLogs() as logs:
        world.reactor.process.die(1)
    lines = [str(formatEvent(event)) for event in logs]
    crashes = [line for line in lines if "crashed (exit code 1): bad model file" in line]
    assert len(crashes) == 1
    assert "Restart 1 of 1 in 1 s" in crashes[0]
    assert seen == world.supervisor.output_tail == ["hello", "failed to load model"]
    assert world.supervisor.status.state == "backoff"
    world.reactor.advance(1)
    assert len(world.reactor.processes) == 2
    assert world.supervisor.output_tail == []
    with capturedLogs() as logs:
        world.reactor.process.die(None, 9)
    assert any("signal SIGKILL" in str(formatEvent(event)) for event in logs)
    assert world.supervisor.status.state == "failed"
    assert world.supervisor.status.last_exit is not None
    world.supervisor.retry()
    assert world.supervisor.status.state == "starting"
    assert world.supervisor.status.restarts == 2


def test_no_question_after_a_crash(make_world: Any) -> None:
    """
    The engine is not asked while it does not run.
    """
    world = make_world()
    world.supervisor.startService()
    world.reactor.process.die(1)
    asked = len(world.agent.requests)
    world.reactor.advance(0.9)
    assert len(world.agent.requests) == asked


@pytest.mark.parametrize(
    ("said", "expected"),
    [(b"", "Raise LOAD_TIMEOUT"), (b"CUDA error: out of memory\n", "out of memory")],
)
def test_load_timeout(make_world: Any, said: bytes, expected: str) -> None:
    """
    An overdue engine is ended, and the reason is the timeout.
    """
    world = make_world(load_timeout=5.0)
    world.supervisor.startService()
    world.reactor.process.protocol.childDataReceived(1, said)
    world.reactor.advance(5)
    assert world.reactor.process.signals == ["TERM"]
    world.reactor.process.die()
    last_exit = world.supervisor.status.last_exit
    assert last_exit is not None
    assert "LOAD_TIMEOUT=5 s" in last_exit.reason
    assert expected in last_exit.reason


def test_no_process_to_be_had(make_world: Any) -> None:
    """
    A failed fork is a crash like others.
    """
    world = make_world(max_restarts=0)
    world.reactor.spawn_error = OSError(11, "Resource temporarily unavailable")
    world.supervisor.startService()
    assert world.supervisor.status.state == "failed"
    assert "Resource temporarily unavailable" in world.supervisor.status.reason
    world.supervisor.kill_now()


def test_engine_without_a_lock(make_world: Any) -> None:
    """
    An engine that answers without a key is stopped for good.
    """
    world = make_world()
    world.agent.health, world.agent.wants_key = 200, False
    world.supervisor.startService()
    assert world.supervisor.status.state == "stopping"
    assert "no key" in str(world.fatal[0])
    world.reactor.process.die()
    assert world.supervisor.status.state == "stopped"
    assert len(world.reactor.processes) == 1


def test_engine_in_public(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An engine that others can reach is stopped for good.
    """
    tables = iter([frozenset(), frozenset({Listener("0.0.0.0", "1")})])
    monkeypatch.setattr("twisted_llama.engine.child.listeners_on", lambda _: next(tables))
    world = make_world()
    world.agent.health = 200
    world.supervisor.startService()
    assert "0.0.0.0 port 8080" in str(world.fatal[0])
    world.reactor.process.die()


def test_port_of_its_own_choice(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    PORT_BACKEND=0 takes a new port for every start.
    """
    ports = iter([4001, 4002])
    monkeypatch.setattr(supervisor_module, "free_loopback_port", lambda: next(ports))
    world = make_world(port=0, kind="mock", binary=None)
    world.supervisor.startService()
    assert world.supervisor.address == ("127.0.0.1", 4001)
    assert "PYTHONPATH" in world.reactor.process.env
    world.reactor.process.die(1)
    world.reactor.advance(1)
    assert world.supervisor.address == ("127.0.0.1", 4002)


def test_careless_observers(make_world: Any) -> None:
    """
    A defect elsewhere does not stop the supervision.
    """
    world = make_world()

    def fail(_: object) -> None:
        raise RuntimeError("elsewhere")

    world.supervisor.on_change(fail)
    world.supervisor.on_output(fail)
    with capturedLogs() as logs:
        world.supervisor.startService()
        world.reactor.process.protocol.childDataReceived(1, b"x\n")
    assert sum("observer" in str(formatEvent(event)) for event in logs) == 3
    assert world.supervisor.status.state == "starting"


def test_defect_while_watching(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is logged, and the load timeout does the rest.
    """

    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("twisted_llama.engine.child.binding_objection", fail)
    world = make_world(load_timeout=3.0)
    world.agent.health = 200
    with capturedLogs() as logs:
        world.supervisor.startService()
    assert any("Watching" in str(formatEvent(event)) for event in logs)
    world.reactor.advance(3)
    assert world.supervisor.status.state == "crashed"


def test_stop_before_start(make_world: Any) -> None:
    """
    There is nothing to wait for.
    """
    world = make_world()
    assert world.supervisor.stopService().called


def test_restart_of_the_service(make_world: Any) -> None:
    """
    Started again while it stops, it keeps its key file.
    """
    world = make_world()
    world.supervisor.startService()
    world.supervisor.stopService()
    world.supervisor.startService()
    world.reactor.process.die()
    assert world.supervisor.status.state == "starting"
    assert world.supervisor.api_key is not None


def test_names_of_exits() -> None:
    """
    In two words.
    """
    assert LastExit(3, None, "").how() == "exit code 3"
    assert LastExit(None, "SIGILL", "").how() == "signal SIGILL"
    assert LastExit(None, None, "").how() == "not started"
    assert signal_name(9) == "SIGKILL"
    assert signal_name(12345) == "signal 12345"
    from twisted.internet.error import ProcessDone
    from twisted.python.failure import Failure

    assert exit_facts(Failure(ProcessDone(0))) == (0, None)
