"""
What happens to the engine, as the gate, the pool and requests hear of it.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.assembly.fakes import ScriptedEngine
from tests.http.bench import NO_EPOLL
from twisted_llama.admission.gate import Gate
from twisted_llama.assembly.engine_link import EngineLink
from twisted_llama.engine.status import EngineState, EngineStatus
from twisted_llama.errors import EngineUnavailable, ModelLoading
from twisted_llama.http.deadlines import Deadlines
from twisted_llama.http.pool import EnginePool
from twisted_llama.http.turn import Turn


class Linked:
    """
    An engine with its link.
    """

    def __init__(self, status: EngineStatus | None = None, follow_slots: bool = True) -> None:
        clock = Clock()
        self.engine = ScriptedEngine(status)
        self.gate = Gate(clock, 1, 0, 10)
        self.closed = 0
        self.pool = EnginePool(lambda factory: None, Deadlines(clock), Turn(clock), NO_EPOLL, 10)
        self.pool.close = self._close  # type: ignore[method-assign]  # to count
        self.link = EngineLink(self.engine, self.gate, self.pool, follow_slots)

    def _close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    "state", ["stopped", "starting", "loading", "stopping", "crashed", "backoff"]
)
def test_not_ready(state: EngineState) -> None:
    """
    Requests wait, and connections to what was there are of no use.
    """
    linked = Linked(EngineStatus(state))
    assert isinstance(linked.gate.would_refuse(), ModelLoading)
    assert not linked.link.answers_now()
    assert linked.closed == 1


def test_ready_and_gone_again() -> None:
    """
    The gate opens and closes with it.
    """
    linked = Linked()
    linked.engine.become(EngineStatus("ready"))
    assert linked.gate.would_refuse() is None
    assert linked.link.answers_now()
    closed = linked.closed
    linked.engine.become(EngineStatus("crashed"))
    assert linked.closed == closed + 1
    assert not linked.link.answers_now()


def test_failed() -> None:
    """
    Clients are told why.
    """
    linked = Linked()
    linked.engine.become(EngineStatus("failed", reason="The model file is broken."))
    refusal = linked.gate.would_refuse()
    assert isinstance(refusal, EngineUnavailable)
    assert str(refusal) == "The model file is broken."


@pytest.mark.parametrize("state", ["starting", "loading", "failed", "ready"])
def test_external(state: EngineState) -> None:
    """
    Requests go there whatever its health says.
    """
    linked = Linked(EngineStatus(state, external=True))
    assert linked.gate.would_refuse() is None
    assert linked.link.answers_now()
    assert linked.closed == 0


def test_slots() -> None:
    """
    As many at once as the engine has, unless the settings name a number.
    """
    linked = Linked()
    linked.engine.become(EngineStatus("ready", slots=4))
    assert linked.gate.max_concurrent == 4
    linked.engine.become(EngineStatus("ready", slots=None))
    assert linked.gate.max_concurrent == 4
    fixed = Linked(follow_slots=False)
    fixed.engine.become(EngineStatus("ready", slots=4))
    assert fixed.gate.max_concurrent == 1


@pytest.mark.parametrize(
    ("address", "key", "lines"),
    [
        (("127.0.0.1", 8080), None, b"Host: 127.0.0.1:8080\r\n"),
        (("::1", 81), "k", b"Host: [::1]:81\r\nAuthorization: Bearer k\r\n"),
        (("gpu.test", 1), "k", b"Host: gpu.test:1\r\nAuthorization: Bearer k\r\n"),
    ],
)
def test_identity(address: tuple[str, int], key: str | None, lines: bytes) -> None:
    """
    What it wants to hear, which may be another at every start.
    """
    linked = Linked()
    linked.engine.address, linked.engine.api_key = address, key
    linked.engine.become(EngineStatus("ready"))
    assert linked.link.identity() == lines
