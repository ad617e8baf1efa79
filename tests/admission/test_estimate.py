"""
When a refused request should come again.
"""

from __future__ import annotations

import pytest

from twisted_llama.admission.estimate import clamp, next_mean, retry_after


@pytest.mark.parametrize(
    ("mean", "waiting", "slots", "expected"),
    [
        (None, 50, 1, 1.0),
        (0.001, 0, 4, 1.0),
        (10.0, 0, 1, 10.0),
        (10.0, 3, 2, 20.0),
        (10.0, 0, 4, 3.0),
        (60.0, 1000, 1, 300.0),
    ],
)
def test_retry_after(mean: float | None, waiting: int, slots: int, expected: float) -> None:
    assert retry_after(mean, waiting, slots) == expected


def test_the_first_measure_is_the_mean_and_later_ones_move_it() -> None:
    mean = next_mean(None, 10.0)
    assert mean == 10.0
    assert 10.0 < next_mean(mean, 20.0) < 15.0


def test_a_client_is_asked_for_whole_seconds_within_bounds() -> None:
    assert [clamp(seconds) for seconds in (-1.0, 0.0, 1.2, 1e9)] == [1.0, 1.0, 2.0, 300.0]
