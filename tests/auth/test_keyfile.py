"""
The grammar of the key file.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.auth import strategies
from twisted_llama.auth.keyfile import (
    BadField,
    KeyEntry,
    digest_of,
    format_line,
    parse_expires,
    parse_keyfile,
    parse_rate,
)

SECRET = "sk-0123456789abcdef"
OTHER = "sk-fedcba9876543210"
DIGEST = sha256(SECRET.encode()).digest()
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC).timestamp()


def only_entry(text: str) -> KeyEntry:
    """The entry of a text that has one valid line and no bad one."""
    keyfile = parse_keyfile(text)
    assert keyfile.problems == ()
    (entry,) = keyfile.entries
    return entry


@pytest.mark.parametrize(
    ("limits", "rate", "expires"),
    [
        ("", None, None),
        (":", None, None),
        ("::", None, None),
        (":60", 60, None),
        (":60:", 60, None),
        (":007", 7, None),
        (":60:2027-01-01", 60, NEW_YEAR),
        ("::2027-01-01", None, NEW_YEAR),
        (":2027-01-01", None, NEW_YEAR),
        ("::2027-01-01T00:00:00+02:00", None, NEW_YEAR - 7200),
        (":2027-01-01T00:00:00+02:00", None, NEW_YEAR - 7200),
        (":60:2027-01-01T00:00:00.5Z", 60, NEW_YEAR + 0.5),
        ("::2027-01-01t01:00:00z", None, NEW_YEAR + 3600),
        ("::2027-01-01 01:00", None, NEW_YEAR + 3600),
        ("::2027-01-01T01:00:30-0130", None, NEW_YEAR + 3630 + 5400),
        ("::20270101T010000Z", None, NEW_YEAR + 3600),
        (":20270101", 20270101, None),
    ],
)
def test_optional_fields(limits: str, rate: int | None, expires: float | None) -> None:
    """Rate and expiry may be empty or left out, and the expiry has colons of its own."""
    entry = only_entry(f"alice:{SECRET}{limits}\n")
    assert entry == KeyEntry(DIGEST, "alice", rate, expires, 1)


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        SECRET,
        f":{SECRET}",
        f"al ice:{SECRET}",
        f"{'a' * 65}:{SECRET}",
        f"älice:{SECRET}",
        "alice:",
        "alice:short",
        f"alice:{'k' * 129}",
        f"alice: {SECRET}",
        f"alice:{SECRET}é",
        f"alice:{SECRET}\0",
        f"alice:sha256={'0' * 63}",
        f"alice:sha256={'g' * 64}",
        f"alice:{SECRET}:0",
        f"alice:{SECRET}:-1",
        f"alice:{SECRET}:+5",
        f"alice:{SECRET}:1.5",
        f"alice:{SECRET}:٣",
        f"alice:{SECRET}:{2**32}",
        f"alice:{SECRET}:{'9' * 5000}",
        f"alice:{SECRET}:sixty",
        f"alice:{SECRET}:60:never",
        f"alice:{SECRET}:60:2027-02-30",
        f"alice:{SECRET}:60:2027-01-01T25:00:00",
        f"alice:{SECRET}:60:2027-01-01x00:00",
        f"alice:{SECRET}:60:9999-12-31T23:59:59-12:00",
        f"alice:{SECRET}:60:2027-01-01:extra",
        f"alice:{SECRET}:60:60:2027-01-01",
    ],
)
def test_a_bad_line_is_skipped_and_numbered(line: str) -> None:
    """The lines around a bad one stand."""
    keyfile = parse_keyfile(f"# head\n{line}\nbob:{OTHER}\n")
    assert [problem.line for problem in keyfile.problems] == [2]
    assert [entry.key_id for entry in keyfile.entries] == ["bob"]
    assert SECRET not in keyfile.problems[0].reason


def test_comments_blank_lines_byte_order_mark_and_crlf() -> None:
    """What editors put around the lines means nothing, and lines count as in an editor."""
    text = f"\ufeffalice:{SECRET}\r\n\r\n  # note \u2028 \x0c\r\n\t bob:{OTHER}:5 \r\n"
    entries = list(parse_keyfile(text).entries)
    assert [(entry.key_id, entry.line) for entry in entries] == [("alice", 1), ("bob", 4)]
    assert parse_keyfile(text).problems == ()


def test_a_hashed_key_is_the_same_key() -> None:
    """The file need not hold the secret; its digest may be in either case."""
    for digest in (DIGEST.hex(), DIGEST.hex().upper()):
        assert only_entry(f"alice:sha256={digest}").digest == DIGEST


@pytest.mark.parametrize("again", [SECRET, f"sha256={DIGEST.hex()}"])
def test_a_duplicate_secret_is_a_bad_line(again: str) -> None:
    """Also when one of the two is hashed: whose limit would count?"""
    keyfile = parse_keyfile(f"\nalice:{SECRET}:7\nbob:{again}\n")
    assert [problem.line for problem in keyfile.problems] == [3]
    assert "line 2" in keyfile.problems[0].reason
    found = keyfile.entries.find(DIGEST)
    assert found is not None
    assert found.key_id == "alice"


def test_two_lines_may_share_a_key_id() -> None:
    """That is how a key is rotated with overlap."""
    keyfile = parse_keyfile(f"alice:{SECRET}\nalice:{OTHER}\n")
    assert len(keyfile.entries) == 2
    assert keyfile.problems == ()


def test_only_the_whole_digest_finds_a_key() -> None:
    """Neither half of it is enough, nor what stands for nobody, nor bytes of any length."""
    entries = parse_keyfile(f"alice:{SECRET}").entries
    wrong = [
        DIGEST[:16] + bytes(16),
        bytes(16) + DIGEST[16:],
        bytes(32),
        DIGEST[:16],
        DIGEST + b"x",
        b"",
    ]
    assert [entries.find(digest) for digest in wrong] == [None] * len(wrong)
    assert entries.find(DIGEST) is not None


def test_no_repr_shows_a_digest() -> None:
    """A digest could be written into another gateway's file."""
    entry = only_entry(f"alice:{SECRET}")
    assert repr(DIGEST) not in repr(entry)
    assert DIGEST.hex() not in repr(entry)


@given(st.lists(strategies.entries, max_size=8, unique_by=lambda entry: entry[1]), st.booleans())
def test_what_is_written_is_read(
    rows: list[tuple[str, str, int | None, datetime | None]], crlf: bool
) -> None:
    """C{format_line} and C{parse_keyfile} undo each other."""
    newline = "\r\n" if crlf else "\n"
    text = newline.join(
        format_line(key_id, secret, rate, None if moment is None else moment.isoformat())
        for key_id, secret, rate, moment in rows
    )
    keyfile = parse_keyfile(text)
    assert keyfile.problems == ()
    assert list(keyfile.entries) == [
        KeyEntry(
            sha256(secret.encode()).digest(),
            key_id,
            rate,
            None if moment is None else moment.timestamp(),
            line,
        )
        for line, (key_id, secret, rate, moment) in enumerate(rows, 1)
    ]


@given(strategies.texts)
def test_any_text_is_read(text: str) -> None:
    """Each line that means something becomes an entry or a problem, and nothing raises."""
    keyfile = parse_keyfile(text)
    numbers = [entry.line for entry in keyfile.entries]
    numbers += [problem.line for problem in keyfile.problems]
    lines = text.removeprefix("\ufeff").split("\n")
    meant = [
        number
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    assert sorted(numbers) == meant


@given(strategies.secrets, strategies.near_lines, strategies.near_lines)
def test_problems_are_silent_about_what_the_line_holds(
    secret: str, before: str, after: str
) -> None:
    """Wherever a secret stands in a bad line, the reason is one of a fixed few."""
    marked = f"QQ{secret}QQ"
    keyfile = parse_keyfile(f"{before}:{marked}:{after}\n{marked}\nx:y:{marked}\n")
    assert marked not in repr(keyfile.problems)


@pytest.mark.parametrize("rate", ["", "0", "000", "x", "1 ", "¹"])
def test_rates_that_are_none(rate: str) -> None:
    """Only whole numbers from 1."""
    with pytest.raises(BadField):
        parse_rate(rate)


def test_a_date_is_its_first_moment_in_utc() -> None:
    """As C{datetime.fromisoformat} reads it."""
    assert parse_expires("2027-01-01") == parse_expires("2027-01-01T00:00:00Z") == NEW_YEAR


@pytest.mark.parametrize(
    "fields",
    [("a b", SECRET, None, None), ("a", "short", None, None), ("a", SECRET, None, "soon")],
)
def test_no_bad_line_is_written(fields: tuple[str, str, int | None, str | None]) -> None:
    """C{format_line} checks itself against the parser."""
    with pytest.raises(BadField):
        format_line(*fields)


def test_digest_of_needs_a_key() -> None:
    """In the open or hashed, and nothing else."""
    assert digest_of(SECRET) == digest_of(f"sha256={DIGEST.hex()}") == DIGEST
    with pytest.raises(BadField, match="sha256="):
        digest_of("sha1=00")


def many_lines(count: int) -> str:
    """A file of so many keys."""
    return "".join(f"user-{n}:sk-{n:040}:60:2027-01-01\n" for n in range(count))


def test_memory_per_key_is_small_and_unknown_to_the_garbage_collector() -> None:
    """A million keys are to fit in 250 MB, and not to slow each collection."""
    text = many_lines(20_000)
    tracemalloc.start()
    try:
        keyfile = parse_keyfile(text)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used / len(keyfile.entries) < 250
    assert len(gc.get_referents(keyfile.entries)) < 10


def test_look_up_does_not_scan() -> None:
    """A thousand times the keys do not take even twenty times as long to search."""

    def cost(count: int) -> float:
        look_up = parse_keyfile(many_lines(count)).entries.look_up
        digests = [sha256(bytes([n])).digest() for n in range(200)]
        best = float("inf")
        for _ in range(5):
            started = time.perf_counter()
            for digest in digests:
                look_up(digest)
            best = min(best, time.perf_counter() - started)
        return best

    assert cost(20_000) < 20 * cost(20)
