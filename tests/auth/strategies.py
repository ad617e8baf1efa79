"""
What the tests of this room draw from.
"""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

ALPHABET = string.ascii_letters + string.digits + "_-"

key_ids = st.text(ALPHABET, min_size=1, max_size=64)
secrets = st.text(ALPHABET, min_size=16, max_size=128)
rates = st.none() | st.integers(min_value=1, max_value=2**32 - 1)
zones = st.just(UTC) | st.integers(min_value=-23 * 60, max_value=23 * 60).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
moments = st.none() | st.datetimes(
    min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31), timezones=zones
)
entries = st.tuples(key_ids, secrets, rates, moments)
# Lines that come near to the grammar find more than arbitrary text does.
near_lines = st.lists(
    st.sampled_from(
        [
            ":",
            "#",
            " ",
            "\t",
            "\r",
            "\u00a0",
            "\ufeff",
            "\0",
            "sha256=",
            "60",
            "0",
            "-1",
            "2027-01-01",
            "T00:00:00",
            "Z",
            "+02:00",
            "alice",
            "a" * 16,
            "b" * 64,
            "é",
        ]
    )
    | secrets,
    max_size=9,
).map("".join)
texts = st.text() | st.lists(near_lines, max_size=8).map("\n".join)
