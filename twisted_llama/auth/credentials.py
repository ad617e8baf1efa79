"""
What a request presents: from two headers to a digest.

The secret itself goes no further than L{read_credentials}; what is passed on
is its SHA-256 digest, so that no later log line or traceback can show it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import final

from twisted.cred.credentials import ICredentials
from zope.interface import Attribute, implementer

from twisted_llama.errors import InvalidKey


class IApiKey(ICredentials):
    """
    An API key as a client presented it, not yet checked.
    """

    digest: bytes = Attribute("SHA-256 of the presented secret, 32 bytes.")


@final
@implementer(IApiKey)
class ApiKey:
    """
    The digest of a presented secret.  Its C{repr} shows nothing of it.
    """

    __slots__ = ("digest",)

    def __init__(self, digest: bytes) -> None:
        self.digest = digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return "<ApiKey>"


def read_credentials(authorization: bytes | None, x_api_key: bytes | None) -> ApiKey:
    """
    Read the key of a request.  C{Authorization} decides whenever it is there,
    even malformed: were the other header tried next, two readers of the same
    request could see two different clients.

    Any bytes are taken for a key; ones that no key could have are simply not
    found, in the same time as a wrong guess.

    @param authorization: the value of C{Authorization}, C{None} if absent.
    @param x_api_key: the value of C{X-Api-Key}, C{None} if absent.
    @raise InvalidKey: C{missing} or C{malformed}.
    """
    if authorization is not None:
        if authorization[:7].lower() != b"bearer ":
            raise InvalidKey("malformed")
        secret = authorization[7:].strip(b" \t")
        if not secret:
            raise InvalidKey("malformed")
    else:
        secret = b"" if x_api_key is None else x_api_key.strip(b" \t")
        if not secret:
            raise InvalidKey("missing")
    return ApiKey(sha256(secret).digest())
