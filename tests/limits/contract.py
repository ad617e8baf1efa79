"""
What every store of limits promises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest_twisted
from attrs import frozen
from twisted.internet.defer import Deferred

from twisted_llama.limits.decision import Decision


class Limits(Protocol):
    """
    A store of limits.
    """

    def take(self, key_id: str, limit: int) -> Decision | Deferred[Decision]: ...

    def give_back(self, key_id: str, decision: Decision) -> None: ...


@frozen
class Store:
    """
    A store under test, and the way to let time pass for it.
    """

    limits: Limits
    advance: Callable[[float], None]

    async def take(self, key_id: str, limit: int) -> Decision:
        """
        Ask, whether the store answers at once or later.
        """
        answer = self.limits.take(key_id, limit)
        return answer if isinstance(answer, Decision) else await answer


class LimitsContract:
    """
    Subclasses give the C{store} fixture.
    """

    @pytest_twisted.ensureDeferred
    async def test_as_many_as_the_limit_are_accepted(self, store: Store) -> None:
        decisions = [await store.take("a", 3) for _ in range(5)]
        assert [one.allowed for one in decisions] == [True, True, True, False, False]
        assert [one.remaining for one in decisions] == [2, 1, 0, 0, 0]
        assert {one.limit for one in decisions} == {3}

    @pytest_twisted.ensureDeferred
    async def test_the_times_told_are_within_the_window(self, store: Store) -> None:
        accepted = await store.take("a", 1)
        assert accepted.retry_after_seconds == 0
        assert accepted.reset_seconds == 60
        store.advance(20)
        refused = await store.take("a", 1)
        assert 30 < refused.retry_after_seconds <= 40
        assert 30 < refused.reset_seconds <= 40

    @pytest_twisted.ensureDeferred
    async def test_keys_do_not_share(self, store: Store) -> None:
        assert (await store.take("a", 1)).allowed
        assert (await store.take("b", 1)).allowed
        assert not (await store.take("a", 1)).allowed

    @pytest_twisted.ensureDeferred
    async def test_the_window_slides(self, store: Store) -> None:
        assert (await store.take("a", 2)).allowed
        store.advance(40)
        assert (await store.take("a", 2)).allowed
        assert not (await store.take("a", 2)).allowed
        store.advance(21)
        assert (await store.take("a", 2)).allowed
        assert not (await store.take("a", 2)).allowed

    @pytest_twisted.ensureDeferred
    async def test_refused_ones_are_not_counted(self, store: Store) -> None:
        assert (await store.take("a", 1)).allowed
        for _ in range(5):
            store.advance(10)
            assert not (await store.take("a", 1)).allowed
        store.advance(11)
        assert (await store.take("a", 1)).allowed

    @pytest_twisted.ensureDeferred
    async def test_what_is_given_back_is_free_again(self, store: Store) -> None:
        await store.take("a", 2)
        second = await store.take("a", 2)
        store.limits.give_back("a", second)
        assert (await store.take("a", 2)).allowed
        assert not (await store.take("a", 2)).allowed

    @pytest_twisted.ensureDeferred
    async def test_giving_back_twice_takes_nobody_elses(self, store: Store) -> None:
        first = await store.take("a", 2)
        await store.take("a", 2)
        store.limits.give_back("a", first)
        store.limits.give_back("a", first)
        assert (await store.take("a", 2)).allowed
        assert not (await store.take("a", 2)).allowed

    @pytest_twisted.ensureDeferred
    async def test_giving_back_what_was_refused_or_is_forgotten_is_harmless(
        self, store: Store
    ) -> None:
        old = await store.take("a", 1)
        refused = await store.take("a", 1)
        store.limits.give_back("a", refused)
        assert not (await store.take("a", 1)).allowed
        store.advance(61)
        await store.take("b", 1)
        assert (await store.take("a", 1)).allowed
        store.limits.give_back("a", old)
        store.limits.give_back("never used", old)
        assert not (await store.take("a", 1)).allowed

    @pytest_twisted.ensureDeferred
    async def test_a_limit_may_change_between_two_requests(self, store: Store) -> None:
        for _ in range(3):
            assert (await store.take("a", 3)).allowed
        assert not (await store.take("a", 2)).allowed
        raised = await store.take("a", 5)
        assert raised.allowed
        assert raised.remaining == 1
