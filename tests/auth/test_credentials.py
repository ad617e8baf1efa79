"""
Reading a key from two headers.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from twisted_llama.auth.credentials import ApiKey, IApiKey, read_credentials
from twisted_llama.errors import InvalidKey

SECRET = b"sk-0123456789abcdef"
KEY = ApiKey(sha256(SECRET).digest())


@pytest.mark.parametrize(
    ("authorization", "x_api_key"),
    [
        (b"Bearer " + SECRET, None),
        (b"bearer " + SECRET, None),
        (b"BEARER   " + SECRET + b" \t", None),
        (None, SECRET),
        (None, b" " + SECRET + b"\t"),
        (b"Bearer " + SECRET, b"another"),
    ],
)
def test_ways_to_send_a_key(authorization: bytes | None, x_api_key: bytes | None) -> None:
    """The scheme's case does not matter, and Authorization goes before X-Api-Key."""
    assert read_credentials(authorization, x_api_key) == KEY


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "reason"),
    [
        (None, None, "missing"),
        (None, b"", "missing"),
        (None, b"  ", "missing"),
        (b"", None, "malformed"),
        (SECRET, None, "malformed"),
        (b"Bearer", None, "malformed"),
        (b"Bearer ", None, "malformed"),
        (b"Bearer \t ", None, "malformed"),
        (b"Bearer" + SECRET, None, "malformed"),
        (b"Basic " + SECRET, None, "malformed"),
        (b"Token " + SECRET, SECRET, "malformed"),
        (b"", SECRET, "malformed"),
    ],
)
def test_what_is_no_key(authorization: bytes | None, x_api_key: bytes | None, reason: str) -> None:
    """A malformed Authorization is not made good by the other header."""
    with pytest.raises(InvalidKey) as caught:
        read_credentials(authorization, x_api_key)
    assert caught.value.reason == reason
    assert SECRET.decode() not in str(caught.value)


@given(st.none() | st.binary(), st.none() | st.binary())
def test_any_bytes(authorization: bytes | None, x_api_key: bytes | None) -> None:
    """There is a key or an InvalidKey, whatever comes."""
    with suppress(InvalidKey):
        assert len(read_credentials(authorization, x_api_key).digest) == 32


@given(st.binary(min_size=1).filter(lambda secret: secret.strip(b" \t") == secret))
def test_every_byte_of_the_secret_counts(secret: bytes) -> None:
    """No NUL, line end or other byte shortens or changes what is looked up."""
    assert read_credentials(b"Bearer " + secret, None).digest == sha256(secret).digest()


def test_api_key_provides_its_interface_and_shows_nothing() -> None:
    """Its repr goes into tracebacks."""
    verifyObject(IApiKey, KEY)
    assert repr(KEY) == "<ApiKey>"
    assert hash(KEY) == hash(ApiKey(KEY.digest))
    assert ApiKey(bytes(32)) != KEY
    assert KEY.digest != KEY
