"""
The file of keys, and changes to it: any text.

Promises: nothing is raised; every line that should hold a key is a key or a
problem; a problem says nothing of what the line holds; a key that is taken is
found by its secret's digest, and by no other; reading again, or reading what was
written from it, gives the same keys.  A change either refuses in words or does
what it is for and leaves all other keys as they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

from fuzz.script import read_script
from twisted_llama.auth.keyfile import KeyEntry, Keyfile, format_line, parse_keyfile
from twisted_llama.auth.keyfile_edit import (
    EditRefused,
    read_keyfile,
    with_key,
    with_new_secret,
    without_key,
)

PIECES = [
    b"user:sk-0123456789abcdef\n",
    b"user:sk-another-one-of-it\n",
    b"other:sk-0123456789abcdef:5\n",
    b"user",
    b"other",
    b":",
    b"sk-0123456789abcdef",
    b"sha256=",
    b"0123456789abcdef" * 4,
    sha256(b"sk-0123456789abcdef").hexdigest().encode("ascii"),
    b":10",
    b":0",
    b":4294967295",
    b":4294967296",
    b":2027-01-31",
    b":2027-01-31T12:00:00Z",
    b":20270131T120000+0200",
    b":0001-01-01T00:00:00+14:00",
    b":9999-12-31T23:59:59-14:00",
    b"::2027-01-31",
    b":5:2027-01-31 12:00",
    b"\n",
    b"\r\n",
    b"\r",
    b"# a comment\n",
    b" ",
    b"\t",
    b"\xef\xbb\xbf",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xd9\xa1",
    b"\xff",
    b"\x1c",
    b"x" * 64,
    b"y" * 65,
    b"z" * 128,
]
EVENTS = ["cut"]
_REASONS = re.compile(
    r"it is not of the form key_id:api_key\[:requests_per_minute\]\[:expires\]"
    r"|the key id is not 1 to 64 of A-Z a-z 0-9 _ -"
    r"|the api key is neither 16 to 128 of A-Z a-z 0-9 _ - nor sha256= and 64 hex digits"
    r"|the requests per minute are not a whole number from 1 to 4294967295"
    r"|the expiry is not an ISO-8601 date or time such as 2027-01-31T12:00:00Z"
    r"|it has the same secret as line [0-9]+; each key needs its own"
)
#: Long enough for every limit.
MAX_FILE_BYTES = 2000
_FRESH = "sk-a-fresh-secret-key"


def check(octets: bytes) -> None:
    """
    See the module.  The last piece, if it is cut off, is an expiry for changes.
    """
    *texts, last = [s for s in read_script(octets, PIECES, EVENTS) if isinstance(s, bytes)] or [b""]
    content = (b"".join(texts) or last)[:MAX_FILE_BYTES]
    expires = last.decode("utf-8", "replace").strip(":\r\n") if texts else "2027-06-01"
    check_parsing(content.decode("utf-8", "replace"))
    try:
        before = read_keyfile(content)
    except EditRefused:
        return
    check_edits(content, before, expires)


def check_parsing(text: str) -> None:
    """
    The grammar.
    """
    keyfile = parse_keyfile(text)
    entries = list(keyfile.entries)
    lines = text.removeprefix("\ufeff").split("\n")
    significant = {
        number
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#")
    }
    told = [entry.line for entry in entries] + [problem.line for problem in keyfile.problems]
    assert sorted(told) == sorted(significant), (told, significant)
    for problem in keyfile.problems:
        assert _REASONS.fullmatch(problem.reason), problem
    for entry in entries:
        check_entry(keyfile, entry, lines[entry.line - 1].strip())
    assert len(keyfile.entries) == len(entries)
    assert list(parse_keyfile(text).entries) == entries
    written = "\n".join(
        format_line(
            entry.key_id,
            f"sha256={entry.digest.hex()}",
            entry.requests_per_minute,
            iso(entry.expires),
        )
        for entry in entries
    )
    again = parse_keyfile(written)
    assert not again.problems, again.problems
    assert [facts(entry) for entry in again.entries] == [facts(entry) for entry in entries]


def check_entry(keyfile: Keyfile, entry: KeyEntry, line: str) -> None:
    """
    One key against its line.
    """
    key_id, secret, *_ = line.split(":")
    assert entry.key_id == key_id
    digest = sha256(secret.encode()).digest()
    if secret.startswith("sha256="):
        digest = bytes.fromhex(secret[7:])
    assert entry.digest == digest
    assert keyfile.entries.find(digest) == entry
    for wrong in (digest[:31] + bytes((digest[31] ^ 1,)), bytes(16) + digest[16:]):
        found = keyfile.entries.find(wrong)
        assert found is None or found.digest == wrong
    assert digest.hex() not in repr(entry) or digest.hex() == key_id
    assert secret not in repr(entry) or secret in key_id
    assert entry.requests_per_minute is None or 1 <= entry.requests_per_minute < 2**32


def iso(expires: float | None) -> str | None:
    """
    An expiry as it is written.
    """
    return None if expires is None else datetime.fromtimestamp(expires, UTC).isoformat()


def facts(entry: KeyEntry) -> tuple[object, ...]:
    """
    An entry without its line.
    """
    return entry.digest, entry.key_id, entry.requests_per_minute, entry.expires


def check_edits(content: bytes, before: Keyfile, expires: str) -> None:
    """
    Every change, for a key that is there and for one that is not.
    """
    ids = list(dict.fromkeys(entry.key_id for entry in before.entries))[:2]
    for key_id in (*ids, "newcomer"):
        mine = [entry for entry in before.entries if entry.key_id == key_id]
        others = [facts(entry) for entry in before.entries if entry.key_id != key_id]

        def rest(changed: bytes, key_id: str = key_id) -> list[tuple[object, ...]]:
            return [facts(each) for each in read_keyfile(changed).entries if each.key_id != key_id]

        added = edited(lambda: with_key(content, key_id, _FRESH, 7, expires))  # noqa: B023  # now
        if added is not None:
            assert not mine
            assert added.startswith(content)
            assert rest(added) == others
        removed = edited(lambda: without_key(content, key_id))  # noqa: B023  # called at once
        if removed is not None:
            assert mine
            assert rest(removed) == others, (content, removed)
            table = read_keyfile(removed).entries
            assert not [entry for entry in table if entry.key_id == key_id]
            assert not [entry for entry in mine if table.find(entry.digest)]
        check_rotation(content, key_id, mine, others, rest, None)
        check_rotation(content, key_id, mine, others, rest, expires)


def check_rotation(
    content: bytes,
    key_id: str,
    mine: list[KeyEntry],
    others: list[tuple[object, ...]],
    rest: Callable[[bytes], list[tuple[object, ...]]],
    old_expires: str | None,
) -> None:
    """
    A new secret in place of the old one.
    """
    changed = edited(lambda: with_new_secret(content, key_id, _FRESH, old_expires=old_expires))
    if changed is None:
        return
    assert mine
    assert rest(changed) == others, (content, changed)
    table = read_keyfile(changed).entries
    fresh = table.find(sha256(_FRESH.encode()).digest())
    assert fresh is not None
    current = mine[-1]
    assert fresh.key_id == key_id
    assert fresh.requests_per_minute == current.requests_per_minute
    assert fresh.expires == current.expires, (content, changed)
    for entry in mine:
        kept = table.find(entry.digest)
        if old_expires is None:
            assert kept is None, "the old secret is still in force"
        else:
            assert kept is not None
            assert entry is not current or kept.expires is not None


def edited(edit: Callable[[], bytes]) -> bytes | None:
    """
    Make a change; C{None} if it is refused in words.
    """
    try:
        return edit()
    except EditRefused as refusal:
        assert str(refusal)
        assert "\n" not in str(refusal)
        return None
