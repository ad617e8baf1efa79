"""
One request, its response, and the facts observed on the way.

An L{Exchange} is made when a request's head has been read, filled in by those
who serve it, and handed to the observers once, when it is finished.  It is made
for every request on the hot path; hence a plain class with C{__slots__} and not
an C{attrs} class with converters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from twisted_llama.http.sse import UsageTap

Outcome: TypeAlias = Literal["complete", "refused", "client_gone", "cut"]
"""
How an exchange ended: the answer of the engine or of the gateway reached the client
whole; the gateway answered with an error of its own; the client left; the
answer was cut short by the engine or by the gateway.
"""


class Exchange:
    """
    One request with its response; mutable until it is finished.

    @ivar method: as sent, C{b"POST"}.
    @ivar path: the path that was judged, without its query.
    @ivar endpoint: a label from the fixed list of L{endpoints}.
    @ivar request_id: C{X-Request-Id}, the client's or ours.
    @ivar key_id: who sent it; C{"-"} where no valid key was given.
    @ivar public: the path needs no key, and is not in the access log.
    @ivar authenticated: a valid key was given.
    @ivar named_path: C{False} when the request was too broken to name a path;
        such a one is neither logged nor counted by path.
    @ivar relayed: it was sent to the engine.
    @ivar started: when the request began, monotonic seconds.
    @ivar started_wall: the same moment, seconds since the epoch.
    @ivar finished: when it ended, monotonic seconds.
    @ivar queue_seconds: how long it waited for a slot.
    @ivar first_byte_seconds: from C{started} to the first byte of the answer.
    @ivar first_token_seconds: from C{started} to the first generated token.
    @ivar overhead_seconds: what the gateway itself added.
    @ivar generation_seconds: what the engine says it spent on generating.
    @ivar status: as sent to the client, or 499 when the client left first.
    @ivar bytes_sent: bytes sent to the client.
    @ivar tap: remembers the end of the engine's answer, if there is one.
    @ivar prompt_tokens: from the engine's C{usage} or C{timings}.
    @ivar generated_tokens: from the same.
    @ivar outcome: how it ended.
    @ivar error_code: the code of the gateway's own error, if it made one.
    @ivar error_reason: the finer reason of that error (C{InvalidKey.reason}).
    """

    __slots__ = (
        "authenticated",
        "bytes_sent",
        "endpoint",
        "error_code",
        "error_reason",
        "finished",
        "first_byte_seconds",
        "first_token_seconds",
        "generated_tokens",
        "generation_seconds",
        "key_id",
        "method",
        "named_path",
        "outcome",
        "overhead_seconds",
        "path",
        "prompt_tokens",
        "public",
        "queue_seconds",
        "relayed",
        "request_id",
        "started",
        "started_wall",
        "status",
        "tap",
    )

    def __init__(
        self,
        method: bytes,
        path: bytes,
        endpoint: str,
        request_id: bytes,
        started: float,
        started_wall: float,
        public: bool = False,
        named_path: bool = True,
    ) -> None:
        self.method = method
        self.path = path
        self.endpoint = endpoint
        self.request_id = request_id
        self.started = started
        self.started_wall = started_wall
        self.public = public
        self.named_path = named_path
        self.key_id = "-"
        self.authenticated = False
        self.relayed = False
        self.finished = 0.0
        self.queue_seconds = 0.0
        self.first_byte_seconds: float | None = None
        self.first_token_seconds: float | None = None
        self.overhead_seconds: float | None = None
        self.generation_seconds: float | None = None
        self.status = 0
        self.bytes_sent = 0
        self.tap: UsageTap | None = None
        self.prompt_tokens: int | None = None
        self.generated_tokens: int | None = None
        self.outcome: Outcome = "complete"
        self.error_code: str | None = None
        self.error_reason: str | None = None

    def read_usage(self) -> None:
        """
        Read the figures in the end of the answer.
        """
        if self.tap is not None:
            self.prompt_tokens, self.generated_tokens, self.generation_seconds = self.tap.read()

    def read_model(self) -> str | None:
        """
        Read the name of the model that answered, where the end of the answer has it:
        for those who ask, since few do.
        """
        return None if self.tap is None else self.tap.read_model()

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id!r} {self.method!r} {self.path!r} {self.status}>"


ExchangeObserver: TypeAlias = Callable[[Sequence[Exchange]], None]
"""
Called with the exchanges that finished in one turn of the reactor, each of them once;
must be quick and must not raise.
"""
