"""
Changing the key file without disturbing what else is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.auth import strategies
from twisted_llama.auth.keyfile import parse_keyfile
from twisted_llama.auth.keyfile_edit import (
    EditRefused,
    entries_of,
    read_keyfile,
    with_key,
    with_new_secret,
    without_key,
)

OLD = "sk-0123456789abcdef"
NEW = "sk-fedcba9876543210"
FILE = (
    b"\xef\xbb\xbf# caf\xc3\xa9 keys\r\n\r\n"
    b"bad line\r\n  bob:sk-bobsecret0123456:5:2027-01-01T00:00:00+02:00  \r\n# end"
)


def test_a_key_is_added_at_the_end_in_the_style_of_the_file() -> None:
    """After a line end if that was missing, and nothing else changes."""
    assert with_key(FILE, "alice", OLD) == FILE + b"\r\nalice:" + OLD.encode() + b"\r\n"
    assert with_key(b"", "alice", OLD, 60) == b"alice:%s:60\n" % OLD.encode()
    assert with_key(b"# x\n", "alice", OLD, None, "2027-01-01") == (
        b"# x\nalice:%s::2027-01-01\n" % OLD.encode()
    )


def test_an_id_that_is_taken_is_refused() -> None:
    """With the name of the command that replaces it."""
    with pytest.raises(EditRefused, match="keys rotate bob"):
        with_key(FILE, "bob", NEW)


def test_a_bad_field_is_not_written() -> None:
    """Whatever the caller let through."""
    with pytest.raises(EditRefused, match="key id"):
        with_key(b"", "al ice", NEW)


def test_a_secret_that_is_there_is_not_written_again() -> None:
    """It would be a bad line."""
    with pytest.raises(EditRefused, match="in the file already"):
        with_key(b"bob:%s\n" % NEW.encode(), "alice", NEW)


def test_removing_keeps_every_other_byte() -> None:
    """Comments, bad lines and the missing line end at the end."""
    changed = without_key(with_key(FILE + b"\r\n", "alice", OLD), "alice")
    assert changed == FILE + b"\r\n"
    assert without_key(FILE, "bob") == FILE.replace(FILE.split(b"\n")[3] + b"\n", b"")
    assert without_key(b"\xef\xbb\xbfbob:%s" % OLD.encode(), "bob") == b"\xef\xbb\xbf"


def test_removing_takes_every_line_of_the_key() -> None:
    """A skipped duplicate would come into force once the first line is gone."""
    line = f"alice:{OLD}\n"
    content = f"{line}{line}\u00a0alice:{NEW}\nalice2:sk-another012345678\n".encode()
    assert without_key(content, "alice") == b"alice2:sk-another012345678\n"


@pytest.mark.parametrize("change", [without_key, lambda c, n: with_new_secret(c, n, NEW)])
def test_a_secret_that_stands_under_another_id_is_told(
    change: Callable[[bytes, str], bytes],
) -> None:
    """The operator believes it gone, so it must not come into force elsewhere."""
    content = f"alice:{OLD}\nbob:sha256={sha256(OLD.encode()).hexdigest()}\n".encode()
    with pytest.raises(EditRefused, match="'bob'"):
        change(content, "alice")


@pytest.mark.parametrize("change", [without_key, lambda c, n: with_new_secret(c, n, NEW)])
def test_a_key_that_is_not_there(change: Callable[[bytes, str], bytes]) -> None:
    """The error says how to see those that are."""
    with pytest.raises(EditRefused, match="keys list"):
        change(FILE, "nobody")


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ("", ""),
        (":", ""),
        (":60", ":60"),
        (":60:", ":60"),
        ("::2027-01-01T00:00:00+02:00", "::2027-01-01T00:00:00+02:00"),
        (":2027-01-01T00:00:00+02:00", "::2027-01-01T00:00:00+02:00"),
        (":60:2027-01-01", ":60:2027-01-01"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n# more\r\n"])
def test_rotating_keeps_rate_expiry_and_place(limits: str, kept: str, end: str) -> None:
    """The expiry in the operator's own words."""
    content = f"# head\nalice:{OLD}{limits}{end}".encode()
    assert with_new_secret(content, "alice", NEW) == f"# head\nalice:{NEW}{kept}{end}".encode()


def test_rotating_sets_what_is_given() -> None:
    """A new rate, a new expiry."""
    content = f"alice:{OLD}:60:2027-01-01\n".encode()
    changed = with_new_secret(content, "alice", NEW, requests_per_minute=7, expires="2028-01-01")
    assert changed == f"alice:{NEW}:7:2028-01-01\n".encode()


def test_rotating_ends_all_older_secrets() -> None:
    """The last line is the current one."""
    content = f"alice:sk-older0123456789::2030-01-01\n# note\nalice:{OLD}:5\nalice:bad\n".encode()
    assert with_new_secret(content, "alice", NEW) == f"# note\nalice:{NEW}:5\n".encode()


@pytest.mark.parametrize(
    ("old_limits", "old_line"),
    [
        ("", f"alice:{OLD}::2027-01-02T00:00:00Z"),
        (":5", f"alice:{OLD}:5:2027-01-02T00:00:00Z"),
        (":5:2029-01-01", f"alice:{OLD}:5:2027-01-02T00:00:00Z"),
        (":5:2027-01-01", f"alice:{OLD}:5:2027-01-01"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_rotating_with_overlap(old_limits: str, old_line: str, newline: str) -> None:
    """The old line stays before the new one, until then or until its own expiry."""
    content = f"\ufeffalice:{OLD}{old_limits}{newline}bob:x{newline}".encode()
    changed = with_new_secret(content, "alice", NEW, old_expires="2027-01-02T00:00:00Z")
    lines = changed.decode().split(newline)
    assert lines == [f"\ufeff{old_line}", f"alice:{NEW}{old_limits}", "bob:x", ""]
    assert with_new_secret(changed, "alice", "sk-third0123456789").decode().split(newline) == [
        f"\ufeffalice:sk-third0123456789{old_limits}",
        "bob:x",
        "",
    ]


@pytest.mark.parametrize(
    "change",
    [
        read_keyfile,
        lambda content: with_key(content, "alice", NEW),
        lambda content: without_key(content, "alice"),
    ],
)
def test_a_file_that_is_not_utf8_is_refused(change: Callable[[bytes], object]) -> None:
    """As the gateway refuses it; the error names the line."""
    with pytest.raises(EditRefused, match="line 2"):
        change(b"# x\n\xff\n")


@given(strategies.texts, strategies.secrets, st.booleans())
def test_adding_and_removing_leave_any_file_as_it_was(text: str, secret: str, crlf: bool) -> None:
    """But for a line end that was missing."""
    content = (text.replace("\n", "\r\n") if crlf else text).encode()
    with suppress(EditRefused):
        changed = with_key(content, "added-key", secret, 5, "2027-01-01T00:00:00Z")
        assert changed.startswith(content)
        (entry,) = entries_of(changed, "added-key")
        assert entry.requests_per_minute == 5
        again = without_key(changed, "added-key")
        assert again.startswith(content)
        assert again[len(content) :] in (b"", b"\n", b"\r\n")


@given(
    strategies.texts,
    st.lists(strategies.entries, min_size=1, max_size=4, unique_by=lambda entry: entry[1]),
    st.booleans(),
)
def test_rotating_changes_one_key_alone(
    text: str, rows: list[tuple[str, str, int | None, object]], overlap: bool
) -> None:
    """All other keys stay, the rotated one keeps its limits, and old secrets end."""
    ids = [f"{key_id[:60]}{number}" for number, (key_id, *_) in enumerate(rows)]
    lines = [
        f"{key_id}:{secret}:{rate or ''}"
        for key_id, (_, secret, rate, _) in zip(ids, rows, strict=True)
    ]
    content = (text + "\n" + "\n".join(lines)).encode()
    before = {entry.digest: entry for entry in parse_keyfile(content.decode()).entries}
    digest = sha256(rows[0][1].encode()).digest()
    new_secret = "sk-made-for-this-test"
    with suppress(EditRefused):
        old_expires = "2027-01-01" if overlap else None
        changed = with_new_secret(content, ids[0], new_secret, old_expires=old_expires)
        after = {entry.digest: entry for entry in parse_keyfile(changed.decode()).entries}
        fresh = after.pop(sha256(new_secret.encode()).digest())
        old = before.pop(digest)
        assert (fresh.key_id, fresh.requests_per_minute) == (ids[0], old.requests_per_minute)
        assert (after.pop(digest, None) is not None) == overlap
        assert {d: (e.key_id, e.expires) for d, e in after.items()} == {
            d: (e.key_id, e.expires) for d, e in before.items() if e.key_id != ids[0]
        }
