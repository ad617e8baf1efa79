"""
The grammar of the file of API keys.

One key a line, C{key_id:api_key[:requests_per_minute][:expires]}; blank lines
and lines that begin with C{#} mean nothing.  The parser is pure: text in,
L{Keyfile} out, no clock and no I/O.

Where the grammar leaves a choice:

  - C{expires} is the last field and may contain colons.  A date alone means
    the start of that day, and a time without a zone is UTC.
  - The rate may be left out together with its colon: C{id:key:2027-01-01} has
    an expiry and no rate, because its third field is a date and not a number.
    A third field of digits alone is always a rate.
  - Two lines may share a C{key_id} (rotation with overlap), not a secret.

The keys are kept packed, not as objects: a million attrs instances would cost
twice the memory, and each full run of the garbage collector would walk them
while streams wait.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from math import inf
from struct import Struct

from attrs import field, frozen

MAX_RATE = 2**32 - 1

_PLAIN_LINE = re.compile(
    r"([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]{16,128})(?::(.*))?", re.DOTALL
).fullmatch
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{16,128}").fullmatch
_HASHED_KEY = re.compile(r"sha256=([0-9A-Fa-f]{64})").fullmatch
_RATE = re.compile(r"0*[1-9][0-9]{0,9}").fullmatch
_NUMBER = re.compile(r"[+-]?[0-9]+").fullmatch
# Narrower than datetime.fromisoformat, which takes any character for the "T".
_EXPIRES = re.compile(
    r"[0-9]{4}(?:-[0-9]{2}-[0-9]{2}|[0-9]{4})"
    r"(?:[Tt ][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?"
    r"(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
).fullmatch

# The half of the digest that the dict is not keyed by, the rate (0: none), the
# expiry (inf: none), the line; the key id follows.
_RECORD = Struct("<16sIdI")
_RECORD_SIZE = _RECORD.size
_PACK = _RECORD.pack
_UNPACK = _RECORD.unpack_from
_NOBODY = _PACK(bytes(16), 0, inf, 0)


class BadField(ValueError):
    """
    A field does not follow the grammar; C{str()} says which and what it should
    be, and never repeats what was written: fields in the wrong order would
    put a secret into the message.
    """


@frozen
class KeyEntry:
    """
    One valid line.

    @ivar digest: SHA-256 of the secret, 32 bytes.
    @ivar key_id: the public name of the key.
    @ivar requests_per_minute: the key's own limit, or C{None} for the default.
    @ivar expires: seconds since the epoch from which on the key is refused.
    @ivar line: where it stands, counted from 1.
    """

    digest: bytes = field(repr=False)
    key_id: str
    requests_per_minute: int | None
    expires: float | None
    line: int


@frozen
class KeyfileProblem:
    """
    One line that was skipped.

    @ivar line: where it stands, counted from 1.
    @ivar reason: what is wrong with it, without anything that it holds.
    """

    line: int
    reason: str


class KeyTable:
    """
    Valid keys by the digest of their secret, in the order of their lines.

    A dict finds a key by the first half of its digest, C{compare_digest}
    confirms the second, and both happen for unknown keys too.
    """

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: dict[bytes, bytes] = {}

    def add(
        self,
        digest: bytes,
        key_id: str,
        requests_per_minute: int | None,
        expires: float | None,
        line: int,
    ) -> int | None:
        """
        Add a key unless its secret is there already.  The arguments are the
        fields of a L{KeyEntry}.

        @return: the line of the key that has the same secret, or C{None}.
        """
        until = inf if expires is None else expires
        record = _PACK(digest[16:], requests_per_minute or 0, until, line) + key_id.encode("ascii")
        kept = self._records.setdefault(digest[:16], record)
        return None if kept is record else _unpack(kept)[3]

    def look_up(self, digest: bytes) -> tuple[str, int | None, float | None, int] | None:
        """
        Find the key with this digest, expired or not, in the same time for ten
        keys and a million.

        @return: its C{key_id}, C{requests_per_minute}, C{expires} and C{line}.
        """
        record = self._records.get(digest[:16], _NOBODY)
        half, rate, expires, line = _UNPACK(record)
        if not compare_digest(half, digest[16:]) or record is _NOBODY:
            return None
        return (
            record[_RECORD_SIZE:].decode("ascii"),
            rate or None,
            (None if expires == inf else expires),
            line,
        )

    def find(self, digest: bytes) -> KeyEntry | None:
        """
        L{look_up} as a L{KeyEntry}.
        """
        found = self.look_up(digest)
        return None if found is None else KeyEntry(digest, *found)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[KeyEntry]:
        for head, record in self._records.items():
            yield KeyEntry(head + record[:16], *_unpack(record))


def _unpack(record: bytes) -> tuple[str, int | None, float | None, int]:
    """
    What was packed into C{record}, without the digest.
    """
    _, rate, expires, line = _UNPACK(record)
    return (
        record[_RECORD_SIZE:].decode("ascii"),
        rate or None,
        (None if expires == inf else expires),
        line,
    )


@frozen
class Keyfile:
    """
    What a file of keys says.

    @ivar entries: the valid lines.
    @ivar problems: the skipped ones, in order.
    """

    entries: KeyTable
    problems: tuple[KeyfileProblem, ...]


def parse_keyfile(text: str) -> Keyfile:
    """
    Read the text of a whole file.  Never raises: a bad line becomes a
    L{KeyfileProblem} and the others stand.
    """
    table = KeyTable()
    problems: list[KeyfileProblem] = []
    for number, line in _significant_lines(text):
        try:
            digest, key_id, rate, expires = _parse_line(line)
            first_line = table.add(digest, key_id, rate, expires, number)
        except BadField as problem:
            problems.append(KeyfileProblem(number, str(problem)))
        else:
            if first_line is not None:
                reason = f"it has the same secret as line {first_line}; each key needs its own"
                problems.append(KeyfileProblem(number, reason))
    return Keyfile(table, tuple(problems))


def _significant_lines(text: str) -> Iterator[tuple[int, str]]:
    """
    Lines that should hold a key, stripped, with their numbers from 1.  Walks
    the text, because a list of a million lines would double its memory; ends
    lines at LF only, as editors and C{sed -n Np} count.
    """
    start = 1 if text.startswith("\ufeff") else 0
    number = 0
    while start <= len(text):
        end = text.find("\n", start)
        if end < 0:
            end = len(text)
        number += 1
        line = text[start:end].strip()
        if line and line[0] != "#":
            yield number, line
        start = end + 1


def _parse_line(line: str) -> tuple[bytes, str, int | None, float | None]:
    """
    Read one stripped line.

    @return: the digest of its key, its key id, rate and expiry.
    @raise BadField: when it does not follow the grammar.
    """
    plain = _PLAIN_LINE(line)
    if plain is not None:
        key_id, api_key, limits = plain.groups()
        digest = sha256(api_key.encode("ascii")).digest()
    else:
        key_id, *fields = line.split(":", 2)
        if not fields:
            raise BadField("it is not of the form key_id:api_key[:requests_per_minute][:expires]")
        if not is_key_id(key_id):
            raise BadField("the key id is not 1 to 64 of A-Z a-z 0-9 _ -")
        digest = digest_of(fields[0])
        limits = fields[1] if len(fields) > 1 else ""
    if not limits or limits == ":":
        return digest, key_id, None, None
    rate, expires = _parse_limits(limits)
    return digest, key_id, rate, expires


def is_key_id(name: str) -> bool:
    """
    Whether the first field of a line may be this.
    """
    return _KEY_ID(name) is not None


def digest_of(api_key: str) -> bytes:
    """
    The SHA-256 that stands for the second field of a line.

    @raise BadField: when it is neither a key nor C{sha256=} and 64 hex digits.
    """
    if _PLAIN_KEY(api_key) is not None:
        return sha256(api_key.encode("ascii")).digest()
    hashed = _HASHED_KEY(api_key)
    if hashed is not None:
        return bytes.fromhex(hashed[1])
    raise BadField(
        "the api key is neither 16 to 128 of A-Z a-z 0-9 _ - nor sha256= and 64 hex digits"
    )


# Dates repeat from line to line.  What is cached was a date or a number, so a
# secret is never kept: errors are not cached.
@lru_cache(maxsize=1024)
def _parse_limits(fields: str) -> tuple[int | None, float | None]:
    """
    Read what follows the key: C{rate}, C{rate:expires}, C{:expires} or C{expires}.

    @raise BadField: when it is none of these.
    """
    rate, _, expires = fields.partition(":")
    if not rate:
        return None, parse_expires(expires) if expires else None
    if _NUMBER(rate) is None:
        try:
            return None, parse_expires(fields)
        except BadField:
            pass
    return parse_rate(rate), parse_expires(expires) if expires else None


def parse_rate(rate: str) -> int:
    """
    Read a number of requests per minute.

    @raise BadField: when it is not a whole number of at least 1.
    """
    if _RATE(rate) is None or int(rate) > MAX_RATE:
        raise BadField(f"the requests per minute are not a whole number from 1 to {MAX_RATE}")
    return int(rate)


def parse_expires(expires: str) -> float:
    """
    Read an ISO-8601 date (its first moment) or date and time; UTC if it names
    no zone.

    @return: seconds since the epoch.
    @raise BadField: when it is no such date.
    """
    if _EXPIRES(expires) is not None:
        try:
            moment = datetime.fromisoformat(expires.upper())
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC).timestamp()
        except (ValueError, OverflowError):
            pass
    raise BadField("the expiry is not an ISO-8601 date or time such as 2027-01-31T12:00:00Z")


def format_line(
    key_id: str, api_key: str, requests_per_minute: int | None = None, expires: str | None = None
) -> str:
    """
    Write one line, without its end.

    @param api_key: the secret, or C{sha256=} and its digest.
    @raise BadField: when the parser would not accept the result.
    """
    line = f"{key_id}:{api_key}"
    if requests_per_minute is not None or expires:
        line += f":{'' if requests_per_minute is None else requests_per_minute}"
    if expires:
        line += f":{expires}"
    _parse_line(line)
    return line
