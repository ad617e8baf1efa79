"""
The fair queue against a slow and simple one.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_llama.admission.queue import FairQueue

KEYS = st.sampled_from("abc")


def drained(queue: FairQueue[str]) -> list[str]:
    """
    All entries in the order in which they are served.
    """
    served = []
    while (entry := queue.pop()) is not None:
        served.append(entry)
    return served


def joined(names: str) -> FairQueue[str]:
    """
    A queue of entries such as C{a1 a2 b1}, whose first letter is their key.
    """
    queue: FairQueue[str] = FairQueue()
    for place, name in enumerate(names.split()):
        queue.join(name[0], name, float(place))
    return queue


def test_one_key_is_first_come_first_served() -> None:
    assert drained(joined("a1 a2 a3")) == ["a1", "a2", "a3"]


def test_keys_take_turns() -> None:
    assert drained(joined("a1 a2 a3 b1 b2 c1")) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_key_that_was_served_stands_behind_one_that_came_meanwhile() -> None:
    queue = joined("a1 a2")
    assert queue.pop() == "a1"
    queue.join("b", "b1", 9.0)
    queue.join("a", "a3", 9.0)
    assert drained(queue) == ["b1", "a2", "a3"]


def test_a_key_that_was_served_without_waiting_has_had_its_turn() -> None:
    queue = joined("a2 a3 b1 c1 b2")
    queue.served_last = "a"
    assert drained(queue) == ["b1", "c1", "a2", "b2", "a3"]


def test_the_only_key_that_waits_is_served_again() -> None:
    queue = joined("a2 a3")
    queue.served_last = "a"
    assert drained(queue) == ["a2", "a3"]


def test_leaving_from_the_middle_keeps_the_turn_of_the_key() -> None:
    queue = joined("a1 a2 b1 a3")
    assert queue.remove("a1")
    assert "a1" not in queue
    assert not queue.remove("a1")
    assert drained(queue) == ["a2", "b1", "a3"]


def test_the_last_entry_of_a_key_takes_the_key_along() -> None:
    queue = joined("a1 b1")
    assert queue.remove("a1")
    queue.join("a", "a2", 9.0)
    assert drained(queue) == ["b1", "a2"]


def test_deadlines_come_in_the_order_of_joining() -> None:
    queue = joined("a1 a2 b1")
    assert queue.next_deadline() == 0.0
    assert queue.pop_expired(-1.0) is None
    assert [queue.pop_expired(1.0) for _ in range(3)] == ["a1", "a2", None]
    assert queue.next_deadline() == 2.0
    assert drained(queue) == ["b1"]
    assert queue.next_deadline() is None
    assert queue.pop() is None
    assert queue.pop_expired(99.0) is None
    assert len(queue) == 0


@given(st.lists(st.tuples(st.sampled_from(["join", "join", "pop", "remove"]), KEYS), max_size=60))
def test_it_agrees_with_the_obvious_slow_queue(steps: list[tuple[str, str]]) -> None:
    """
    The slow queue is a list of keys and a list of numbers for each.
    """
    queue: FairQueue[int] = FairQueue()
    last = ""
    ring: list[str] = []
    lines: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for number, (step, key) in enumerate(steps):
        expected: int | None = None
        if step == "join":
            queue.join(key, number, float(number))
            lines[key].append(number)
            if key not in ring:
                ring.append(key)
            continue
        if step == "pop":
            if ring:
                if ring[0] == last:
                    ring.append(ring.pop(0))
                turn = last = ring.pop(0)
                expected = lines[turn].pop(0)
                if lines[turn]:
                    ring.append(turn)
            assert queue.pop() == expected
        elif lines[key]:
            gone = lines[key].pop(len(lines[key]) // 2)
            if not lines[key]:
                ring.remove(key)
            assert queue.remove(gone)
        assert len(queue) == sum(map(len, lines.values()))
