"""
What fuzzing has found, by name.
"""

from __future__ import annotations

import pytest

from fuzz.corpus import check_of
from tests.http.bench import Bench

FOUND = {
    # Rotation with an end for the old secret that is no date raised what the command line does
    # not expect, where the old key had an end already.
    "keyfile: the end of the old secret is no date": (
        "keyfile",
        b"user:sk-0123456789abcdef:5:2027-01-01\n\xc02026-00-01",
    ),
    # An empty one left the old secret in force for ever.
    "keyfile: the end of the old secret is empty": ("keyfile", b"\x82\xc0:"),
    # A key id may be any word, the digest of the key too.
    "keyfile: a key id like a digest": ("keyfile", b"\x89:\x86\n"),
    # A line that was skipped for its byte order mark came into force when the one above it went.
    "keyfile: a byte order mark that comes to the top": (
        "keyfile",
        b"user:sk-0123456789abcdef\n\x9bother:sk-another-key-of-it",
    ),
    # A warning held bytes that cannot be printed.
    "settings: a misspelt name that is no text": ("settings", b"EXTRA_AR\xf0\xffGS=x"),
    "settings: a misspelt name with an escape sequence": ("settings", b"EXTRA_AR\x1bGS=x"),
}


@pytest.mark.parametrize("name", FOUND)
def test_finding(name: str) -> None:
    target, octets = FOUND[name]
    check_of(target)(octets)


def test_empty_line_in_two_reads() -> None:
    """
    It is no request that has begun, in whatever pieces: nobody is told that the rest is late.
    """
    bench = Bench()
    wires = [bench.connect(b"\r\n"), bench.connect(b"\r", b"\n")]
    bench.pass_time(100)
    assert [wire.sent for wire in wires] == [b"", b""]
