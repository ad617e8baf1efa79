"""
Which pages of other origins a browser lets use the gateway (the Fetch standard).
"""

from __future__ import annotations

_FIXED = (
    b"Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: Authorization, Content-Type, X-Api-Key, X-Request-Id\r\n"
    b"Access-Control-Expose-Headers: X-Request-Id, Retry-After, x-ratelimit-limit-requests, "
    b"x-ratelimit-remaining-requests, x-ratelimit-reset-requests\r\n"
    b"Access-Control-Max-Age: 86400\r\n"
)


class Cors:
    """
    The answer to C{Origin} headers.

    @ivar enabled: whether any origin is allowed.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        """
        @param origins: such as C{https://chat.example.org}; C{*} allows all,
            and none turns this off.
        """
        self.enabled = bool(origins)
        self._any = "*" in origins
        self._lines = {
            origin.encode("ascii", "replace").lower(): b"Access-Control-Allow-Origin: %b\r\n"
            % origin.encode("ascii", "replace")
            + _FIXED
            + b"Vary: Origin\r\n"
            for origin in origins
        }

    def lines(self, origin: bytes) -> bytes:
        """
        The header lines that an answer to a request from C{origin} carries.
        """
        if self._any:
            return b"Access-Control-Allow-Origin: *\r\n" + _FIXED
        return self._lines.get(origin.lower(), b"")
