"""
Stand-ins for the world of an engine: a reactor that starts no processes, and an
inquiry that asks nobody.  Both are stricter than the real thing.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_llama.engine.inquiry import Answer


@define(eq=False)
class FakeProcess:
    """
    A child that does what a test says.
    """

    protocol: ProcessProtocol
    argv: list[str]
    env: dict[str, str]
    pid: int
    signals: list[str] = field(factory=list)
    stdin_open: bool = True
    pipes_open: bool = True
    alive: bool = True
    _exit: Failure | None = None

    def closeStdin(self) -> None:
        self.stdin_open = False

    def signalProcess(self, signal_name: str) -> None:
        if not self.alive:
            raise ProcessExitedAlready
        self.signals.append(signal_name)

    def loseConnection(self) -> None:
        self.close_pipes()

    def die(self, code: int | None = 0, signal: int | None = None, *, pipes: bool = True) -> None:
        """
        The process ends; its pipes too, unless someone else holds them.
        """
        assert self.alive
        self.alive = False
        failed = code != 0 or signal is not None
        self._exit = Failure(ProcessTerminated(code, signal) if failed else ProcessDone(0))
        self.protocol.processExited(self._exit)
        if pipes:
            self.close_pipes()

    def close_pipes(self) -> None:
        if self.pipes_open:
            self.pipes_open = False
            assert self._exit is not None
            self.protocol.processEnded(self._exit)


class FakeReactor(Clock):
    """
    Time that a test moves, and processes that a test ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.spawn_error: OSError | None = None

    def spawnProcess(
        self, protocol: ProcessProtocol, executable: str, args: list[str], *, env: dict[str, str]
    ) -> FakeProcess:
        assert executable == args[0]
        assert all(not process.alive for process in self.processes)
        if self.spawn_error is not None:
            raise self.spawn_error
        process = FakeProcess(protocol, args, env, 100 + len(self.processes))
        self.processes.append(process)
        protocol.makeConnection(process)
        return process

    @property
    def process(self) -> FakeProcess:
        return self.processes[-1]


@define
class FakeInquiry:
    """
    Answers by path, as C{{(path, with_key): status}}; no entry is no answer.
    """

    answers: dict[tuple[bytes, bool], Answer] = field(factory=dict)
    asked: list[tuple[bytes, bytes, bool]] = field(factory=list)
    hang: Callable[[], Deferred[None]] | None = None

    def will(self, path: bytes, status: int, body: bytes = b"", *, with_key: bool = True) -> None:
        self.answers[path, with_key] = Answer(status, body)

    async def ask(
        self, method: bytes, path: bytes, *, with_key: bool = True, body: bytes | None = None
    ) -> Answer | None:
        self.asked.append((method, path, with_key))
        if self.hang is not None:
            await self.hang()
        return self.answers.get((path, with_key))
