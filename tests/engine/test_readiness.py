"""
The questions asked of an engine that was just started.
"""

from __future__ import annotations

from itertools import islice
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from twisted_llama.engine.readiness import Readiness, parse_slots, pauses_seconds

from .fakes import FakeInquiry

T = TypeVar("T")


def result_of(deferred: Deferred[T]) -> T:
    """
    The result that a Deferred must have by now.
    """
    results: list[T] = []
    deferred.addCallback(results.append)
    assert results, "no result yet"
    return results[0]


def test_pauses_grow_to_a_second() -> None:
    """
    From a quarter of a second, for ever.
    """
    pauses = list(islice(pauses_seconds(), 100))
    assert pauses[0] == 0.25
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_asks_until_ready() -> None:
    """
    Silence and 503 are waited out; the first answer is reported once.
    """
    inquiry, clock, answers = FakeInquiry(), Clock(), []
    waiting = Deferred.fromCoroutine(
        Readiness(inquiry, clock).when_ready(lambda: answers.append(1))
    )
    clock.pump([1.0] * 5)
    assert answers == []
    inquiry.will(b"/health", 503)
    clock.pump([1.0] * 5)
    assert answers == [1]
    inquiry.will(b"/health", 200)
    clock.advance(1.0)
    assert waiting.called
    assert clock.getDelayedCalls() == []
    assert len(inquiry.asked) >= 12


def test_asking_can_be_given_up() -> None:
    """
    Cancelling leaves no call behind.
    """
    inquiry, clock = FakeInquiry(), Clock()
    waiting = Deferred.fromCoroutine(Readiness(inquiry, clock).when_ready(lambda: None))
    waiting.cancel()
    failures: list[object] = []
    waiting.addErrback(lambda failure: failures.append(failure.type))
    assert failures == [CancelledError]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("tokenize", "props", "objects"),
    [
        (401, 200, False),
        (403, None, False),
        (200, 401, True),
        (204, None, True),
        (404, 401, False),
        (404, 200, True),
        (None, 401, False),
        (None, None, False),
        (404, 404, False),
    ],
)
def test_key_must_be_wanted(tokenize: int | None, props: int | None, objects: bool) -> None:
    """
    Success without a key is an objection; the first clear answer counts.
    """
    inquiry = FakeInquiry()
    for path, status in ((b"/tokenize", tokenize), (b"/props", props)):
        if status is not None:
            inquiry.will(path, status, with_key=False)
    asking = Deferred.fromCoroutine(Readiness(inquiry, Clock()).key_objection())
    assert (result_of(asking) is not None) == objects
    assert all(not with_key for _, _, with_key in inquiry.asked)


def test_slots_are_asked_for() -> None:
    """
    From C{/props}, if that is answered.
    """
    inquiry = FakeInquiry()
    readiness = Readiness(inquiry, Clock())
    assert result_of(Deferred.fromCoroutine(readiness.count_slots())) is None
    inquiry.will(b"/props", 404)
    assert result_of(Deferred.fromCoroutine(readiness.count_slots())) is None
    inquiry.will(b"/props", 200, b'{"total_slots": 3}')
    assert result_of(Deferred.fromCoroutine(readiness.count_slots())) == 3


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"total_slots":0}', b'{"total_slots":true}'])
def test_slots_unknown(body: bytes) -> None:
    """
    Anything but a count is not one.
    """
    assert parse_slots(body) is None


@given(st.binary())
def test_slots_never_raise(body: bytes) -> None:
    """
    Whatever is answered.
    """
    assert parse_slots(body) is None or body


def test_slots_of_a_hostile_answer() -> None:
    """
    Deep nesting is no answer either.
    """
    assert parse_slots(b"[" * 200_000) is None
