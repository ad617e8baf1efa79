"""
An engine that somebody else runs.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from twisted_llama.engine.external import ExternalEngine, judge_health
from twisted_llama.engine.inquiry import Answer
from twisted_llama.engine.spec import EngineSpec
from twisted_llama.engine.status import EngineStatus

from .test_supervisor import FakeAgent, FakeResponse

SPEC = EngineSpec(kind="external", host="10.0.0.1", port=9, api_key="k", health_timeout=2.0)


def engine_and_agent() -> tuple[ExternalEngine, FakeAgent, Clock, list[EngineStatus]]:
    agent, clock = FakeAgent(), Clock()
    engine = ExternalEngine(SPEC, clock, wall_clock=lambda: 50.0, agent=agent)  # type: ignore[arg-type]  # a fake
    statuses: list[EngineStatus] = []
    engine.on_change(statuses.append)
    return engine, agent, clock, statuses


@pytest.mark.parametrize(
    ("status", "state", "word"),
    [
        (None, "failed", "does not answer"),
        (200, "ready", ""),
        (404, "ready", ""),
        (503, "loading", "loading"),
        (401, "failed", "BACKEND_API_KEY"),
        (500, "failed", "500"),
    ],
)
def test_health_is_judged(status: int | None, state: str, word: str) -> None:
    """
    What each answer means.
    """
    found = judge_health(None if status is None else Answer(status, b""))
    assert found[0] == state
    assert word in found[1]


def test_is_polled() -> None:
    """
    Every five seconds, with the key, and slots are asked for when it becomes ready.
    """
    engine, agent, clock, statuses = engine_and_agent()
    assert engine.status.external
    assert engine.address == ("10.0.0.1", 9)
    assert engine.api_key == "k"
    engine.startService()
    assert (engine.status.state, engine.status.reachable) == ("failed", False)
    agent.health = 503
    clock.advance(5)
    assert (engine.status.state, engine.status.reachable) == ("loading", True)
    agent.health = 200
    clock.advance(5)
    assert (engine.status.state, engine.status.slots, engine.status.ready_since) == ("ready", 2, 50)
    assert all(key == b"Bearer k" for _, _, key in agent.requests)
    published = len(statuses)
    clock.advance(5)
    assert len(statuses) == published
    assert [path for _, path, _ in agent.requests].count(b"/props") == 1
    engine.stopService()
    assert engine.status.state == "stopped"
    assert clock.getDelayedCalls() == []


def test_can_be_asked_at_once() -> None:
    """
    C{retry} does not wait for the next turn.
    """
    engine, agent, _, _ = engine_and_agent()
    engine.retry()
    assert agent.requests == []
    engine.startService()
    agent.health = 200
    engine.retry()
    assert engine.status.state == "ready"
    engine.stopService()
    engine.stopService()


def test_a_silent_engine() -> None:
    """
    A question is given up after HEALTH_TIMEOUT, and never asked twice at once;
    stopping gives up the one that is under way.
    """
    waiting: list[Deferred[FakeResponse]] = []

    class SilentAgent(FakeAgent):
        def request(self, *_: object, **__: object) -> Deferred[FakeResponse]:
            waiting.append(Deferred())
            return waiting[-1]

    clock = Clock()
    engine = ExternalEngine(SPEC, clock, agent=SilentAgent())  # type: ignore[arg-type]  # a fake
    engine.startService()
    engine.retry()
    engine._poll()
    assert len(waiting) == 1
    assert engine.status.state == "starting"
    clock.advance(2)
    assert engine.status.state == "failed"
    clock.advance(3)
    assert len(waiting) == 2
    engine.stopService()
    assert engine.status.state == "stopped"
    assert clock.getDelayedCalls() == []


def test_is_not_ours() -> None:
    """
    It has no output to see and cannot be ended.
    """
    engine, _, _, _ = engine_and_agent()
    engine.on_output(lambda _: None)
    engine.kill_now()
    assert engine.output_tail == []


def test_careless_observers_and_defects() -> None:
    """
    A defect is logged, and the asking goes on.
    """
    engine, agent, clock, statuses = engine_and_agent()

    def fail(_: object) -> None:
        raise RuntimeError("elsewhere")

    engine.on_change(fail)
    engine.on_change(statuses.append)
    with capturedLogs() as logs:
        engine.startService()
    assert any("observer" in str(formatEvent(event)) for event in logs)
    agent.health = 200
    with pytest.MonkeyPatch.context() as patch, capturedLogs() as logs:
        patch.setattr("twisted_llama.engine.external.judge_health", fail)
        clock.advance(5)
    assert any("failed" in str(formatEvent(event)) for event in logs)
    clock.advance(5)
    assert engine.status.state == "ready"
    engine.stopService()
