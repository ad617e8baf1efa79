"""
Errors as clients see them: OpenAI's error object, and one table of statuses.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from math import ceil

from twisted_llama import errors
from twisted_llama.errors import GatewayError
from twisted_llama.http.site import ErrorAnswer
from twisted_llama.telemetry.exchange import Exchange

_INVALID_REQUEST = "invalid_request_error"
_SERVER = "server_error"
_TIMEOUT = "timeout_error"

#: Not C{twisted.web.http.RESPONSES}: that knows no 429 and no 431.
_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}

#: Class of the error: status, type, and whether the connection ends with it.
TABLE: dict[type[GatewayError], tuple[int, str, bool]] = {
    errors.MalformedRequest: (400, _INVALID_REQUEST, True),
    errors.InvalidKey: (401, _INVALID_REQUEST, False),
    errors.NotFound: (404, _INVALID_REQUEST, False),
    errors.MethodNotAllowed: (405, _INVALID_REQUEST, False),
    errors.RequestTimeout: (408, _TIMEOUT, True),
    errors.PayloadTooLarge: (413, _INVALID_REQUEST, True),
    errors.UriTooLong: (414, _INVALID_REQUEST, True),
    errors.UnsupportedContentEncoding: (415, _INVALID_REQUEST, False),
    errors.RateLimited: (429, "rate_limit_error", False),
    errors.TooManyConnections: (429, "rate_limit_error", False),
    errors.TooManyInvalidKeys: (429, "rate_limit_error", False),
    errors.HeaderFieldsTooLarge: (431, _INVALID_REQUEST, True),
    errors.InternalError: (500, _SERVER, False),
    errors.ReloadFailed: (500, _SERVER, False),
    errors.UnsupportedTransferCoding: (501, _SERVER, True),
    errors.EngineUnavailable: (502, _SERVER, False),
    errors.QueueFull: (503, _SERVER, False),
    errors.QueueTimeout: (503, _SERVER, False),
    errors.ModelLoading: (503, _SERVER, False),
    errors.Draining: (503, _SERVER, True),
    errors.EngineTimeout: (504, _TIMEOUT, False),
    errors.UnsupportedVersion: (505, _INVALID_REQUEST, True),
}


def row(error: BaseException) -> tuple[GatewayError, int, str, bool]:
    """
    Find an error in the table.

    @return: the error as a L{GatewayError} (what is none is our own fault, and
        an L{errors.InternalError}), its status, its type, and whether the
        connection ends with it.
    """
    for cls in type(error).__mro__:
        found = TABLE.get(cls)
        if found is not None:
            assert isinstance(error, GatewayError)
            return error, *found
    return errors.InternalError(), *TABLE[errors.InternalError]


_PARAMS = {"invalid_api_key": "authorization"}


def render_error(raised: BaseException) -> ErrorAnswer:
    """
    Put an error into OpenAI's shape, with the headers that go with it.
    """
    error, status, kind, close = row(raised)
    body = {
        "error": {
            "message": str(error),
            "type": kind,
            "param": _PARAMS.get(error.code),
            "code": error.code,
        }
    }
    content = json.dumps(body).encode("ascii")
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(content)),
        *_headers_of(error),
    ]
    return ErrorAnswer(status, _REASONS[status], headers, content, close)


def note_error(exchange: Exchange, raised: BaseException) -> None:
    """
    Keep in an exchange that it ended with an error.  An answer that was cut
    off is counted by what broke it, not by the status it began with.
    """
    error, status, _, _ = row(raised)
    exchange.status = status
    exchange.error_code = error.code
    if isinstance(error, (errors.InvalidKey, errors.TooManyInvalidKeys)):
        exchange.error_reason = error.reason


def _headers_of(error: GatewayError) -> list[tuple[bytes, bytes]]:
    if isinstance(error, errors.InvalidKey):
        return [(b"WWW-Authenticate", b"Bearer")]
    if isinstance(error, errors.MethodNotAllowed):
        return [(b"Allow", ", ".join(error.allowed).encode("ascii"))]
    if isinstance(error, errors.UnsupportedContentEncoding):
        return [(b"Accept-Encoding", b"identity")]
    if isinstance(error, errors.TooManyConnections):
        return [(b"Retry-After", b"1")]
    if isinstance(error, (errors.RateLimited, errors.TooManyInvalidKeys, errors.NotAdmitted)):
        return [(b"Retry-After", b"%d" % max(1, ceil(error.retry_after_seconds)))]
    return []
