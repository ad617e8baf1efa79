"""
What can go wrong, one class each.

Every class carries the facts of the case as attributes and a stable C{code};
its C{str()} says the cause and, where there is one, the cure.  Nothing here
knows HTTP: L{twisted_llama.api.errors} maps the classes to statuses.
"""

from __future__ import annotations

from math import ceil
from typing import ClassVar, Literal


class GatewayError(Exception):
    """
    Base class of all that the gateway itself reports to a client.

    @cvar code: the stable, machine-readable name of the case, sent to clients
        as C{error.code}.
    """

    code: ClassVar[str]


class StartupError(Exception):
    """
    The gateway cannot start; C{str()} is the one line shown to the operator.
    """


# -- what a client did -------------------------------------------------------


class MalformedRequest(GatewayError):
    """
    The bytes of a request, or its path, allow more than one reading or none.
    """

    code = "bad_request"


class UnsupportedTransferCoding(GatewayError):
    """
    A Transfer-Encoding other than C{chunked}.
    """

    code = "not_implemented"

    def __str__(self) -> str:
        return "The only supported Transfer-Encoding is 'chunked'."


class UnsupportedVersion(GatewayError):
    """
    A major version of HTTP other than 1.
    """

    code = "http_version_not_supported"

    def __str__(self) -> str:
        return "Only HTTP/1.0 and HTTP/1.1 are supported."


class UriTooLong(GatewayError):
    """
    The request line is longer than C{MAX_REQUEST_LINE_SIZE}.

    @ivar limit_bytes: the longest that is accepted.
    """

    code = "uri_too_long"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"The request line is longer than {self.limit_bytes} bytes (MAX_REQUEST_LINE_SIZE)."


class HeaderFieldsTooLarge(GatewayError):
    """
    More header fields than C{MAX_HEADERS} or one longer than
    C{MAX_HEADER_LINE_SIZE}.

    @ivar setting: the setting whose limit was passed.
    @ivar limit: its value (fields, or bytes of one line).
    """

    code = "header_fields_too_large"

    def __init__(self, setting: str, limit: int) -> None:
        super().__init__(setting, limit)
        self.setting = setting
        self.limit = limit

    def __str__(self) -> str:
        return f"The request's header fields exceed {self.setting}={self.limit}."


class PayloadTooLarge(GatewayError):
    """
    The body is larger than C{MAX_REQUEST_BODY_SIZE}.

    @ivar limit_bytes: the largest that is accepted.
    """

    code = "payload_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"The request body is larger than {self.limit_bytes} bytes (MAX_REQUEST_BODY_SIZE)."


class RequestTimeout(GatewayError):
    """
    The client sent its head or body too slowly.

    @ivar part: which part was late.
    @ivar limit_seconds: how long was waited for it.
    """

    code = "request_timeout"

    def __init__(self, part: Literal["headers", "body"], limit_seconds: float) -> None:
        super().__init__(part, limit_seconds)
        self.part = part
        self.limit_seconds = limit_seconds

    def __str__(self) -> str:
        return f"The request's {self.part} did not arrive within {self.limit_seconds:g} s."


class InvalidKey(GatewayError):
    """
    No valid API key came with the request.

    @ivar reason: why, as used for the label of the metric.
    """

    code = "invalid_api_key"
    Reason = Literal["missing", "malformed", "unknown", "expired", "no_keys"]
    _MESSAGES: ClassVar[dict[str, str]] = {
        "missing": (
            "No API key was provided. Send it as 'Authorization: Bearer YOUR_KEY' "
            "or 'X-Api-Key: YOUR_KEY'."
        ),
        "malformed": (
            "The Authorization header is not of the form 'Bearer YOUR_KEY'. "
            "Send 'Authorization: Bearer YOUR_KEY' or 'X-Api-Key: YOUR_KEY'."
        ),
        "unknown": (
            "Incorrect API key provided. Check it, or ask the operator of this gateway for a key."
        ),
        "expired": "The API key has expired. Ask the operator of this gateway for a new one.",
        "no_keys": (
            "Incorrect API key provided: this gateway has no valid API keys. Its operator can "
            "make one with 'llama-gateway keys generate'."
        ),
    }

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self._MESSAGES[self.reason]


class TooManyInvalidKeys(GatewayError):
    """
    No valid API key came with the request, nor with many before it from the
    same address.

    @ivar retry_after_seconds: until a wrong key is called wrong again; a
        valid one is served at any time.
    """

    code = "too_many_invalid_keys"
    #: As L{InvalidKey.reason}.
    reason: ClassVar[str] = "held_off"

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__(retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return (
            "Incorrect API key provided, and too many before it from this address. Check it, "
            f"and try again in {max(1, ceil(self.retry_after_seconds))} s."
        )


class UnsupportedContentEncoding(GatewayError):
    """
    A body that is compressed, for an engine that would unpack it whole.
    """

    code = "unsupported_content_encoding"

    def __str__(self) -> str:
        return (
            "The request has a Content-Encoding, and compressed bodies are not accepted. "
            "Send the body as it is, without Content-Encoding."
        )


class NotFound(GatewayError):
    """
    The gateway neither serves nor relays this path.
    """

    code = "not_found"

    def __str__(self) -> str:
        return "There is nothing at this path. See /v1/models, /v1/chat/completions."


class MethodNotAllowed(GatewayError):
    """
    The path exists, but not for this method.

    @ivar allowed: the methods that it has.
    """

    code = "method_not_allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(allowed)
        self.allowed = allowed

    def __str__(self) -> str:
        return f"This method is not allowed here. Allowed: {', '.join(self.allowed)}."


class RateLimited(GatewayError):
    """
    The key has used up its requests of the current minute.

    @ivar limit: accepted requests per minute.
    @ivar retry_after_seconds: until the next request would be accepted.
    @ivar reset_seconds: until the whole limit is free again.
    """

    code = "rate_limit_exceeded"

    def __init__(self, limit: int, retry_after_seconds: float, reset_seconds: float) -> None:
        super().__init__(limit, retry_after_seconds, reset_seconds)
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        self.reset_seconds = reset_seconds

    def __str__(self) -> str:
        return (
            f"Rate limit reached: {self.limit} requests per minute for this key. "
            f"Try again in {max(1, ceil(self.retry_after_seconds))} s."
        )


class TooManyConnections(GatewayError):
    """
    One address asks for too much at once through a proxy.

    @ivar limit: C{MAX_CONNECTIONS_PER_IP}.
    """

    code = "too_many_connections"

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"More than {self.limit} requests from one address at once "
            "(MAX_CONNECTIONS_PER_IP). Wait for some of them to be answered."
        )


# -- what the gateway cannot do now ------------------------------------------


class NotAdmitted(GatewayError):
    """
    The request was not given a slot of the engine; later it may be.

    @ivar retry_after_seconds: a computed guess of when to ask again, at least 1.
    """

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__(retry_after_seconds)
        self.retry_after_seconds = max(1.0, retry_after_seconds)


class QueueFull(NotAdmitted):
    """
    C{MAX_QUEUE_SIZE} requests are waiting already.
    """

    code = "queue_full"

    def __str__(self) -> str:
        return "All slots are busy and the queue is full. Try again later."


class QueueTimeout(NotAdmitted):
    """
    The request waited C{QUEUE_TIMEOUT} without getting a slot.
    """

    code = "queue_timeout"

    def __str__(self) -> str:
        return "The request waited too long for a free slot. Try again later."


class ModelLoading(NotAdmitted):
    """
    The engine is not ready yet, and waiting for it was refused or ended.
    """

    code = "model_loading"

    def __str__(self) -> str:
        return "The model is still loading. Try again later."


class Draining(NotAdmitted):
    """
    The gateway is shutting down and takes no new work.
    """

    code = "draining"

    def __str__(self) -> str:
        return "The gateway is shutting down. Try again later."


class EngineUnavailable(GatewayError):
    """
    The engine refused the connection, died, or did not answer in valid HTTP.
    """

    code = "engine_unavailable"


class EngineTimeout(GatewayError):
    """
    The engine was silent for C{REQUEST_TIMEOUT}.

    @ivar limit_seconds: how long was waited.
    """

    code = "engine_timeout"

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(limit_seconds)
        self.limit_seconds = limit_seconds

    def __str__(self) -> str:
        return f"The engine sent nothing for {self.limit_seconds:g} s (REQUEST_TIMEOUT)."


# -- our own fault -----------------------------------------------------------


class ReloadFailed(GatewayError):
    """
    The keys could not be read again; the old ones stay in force.
    """

    code = "reload_failed"


class InternalError(GatewayError):
    """
    A defect of the gateway; the log has the traceback under the request id.
    """

    code = "internal_error"

    def __str__(self) -> str:
        return (
            "The gateway failed to answer this request. Its log has the reason, for the operator."
        )
