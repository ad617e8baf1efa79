"""
One streamed chat completion of an OpenAI-compatible server, timed token by token.

The measuring takes an L{HTTPClient} and a clock, so that tests run it in
memory and C{llama-gateway bench} over the network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from itertools import pairwise
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit, urlunsplit

from attrs import frozen
from treq import collect
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from twisted_llama.errors import StartupError

_T = TypeVar("_T")
_LONGEST_LINE = 1 << 20
_LONGEST_LIST = 4 << 20


class RequestFailed(Exception):
    """
    A request did not bring a whole answer.

    @ivar kind: the same for failures of the same sort, to count them by.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@frozen
class Timings:
    """
    What one stream took.

    @ivar first_token_seconds: from asking to the first token.
    @ivar gap_seconds: between one event with a token and the next.
    @ivar total_seconds: from asking to the end of the answer.
    @ivar tokens: as the server counted them, or else events with a token.
    """

    first_token_seconds: float
    gap_seconds: tuple[float, ...]
    total_seconds: float
    tokens: int

    @property
    def tokens_per_second(self) -> float | None:
        """
        Tokens generated after the first one, by the time they took; L{None} when
        there is nothing to divide.
        """
        generating = sum(self.gap_seconds)
        if self.tokens < 2 or generating <= 0:
            return None
        return (self.tokens - 1) / generating


@frozen
class Question:
    """
    What is asked again and again.

    @ivar max_tokens: at most so many tokens for one answer.
    """

    model: str
    prompt: str
    max_tokens: int

    def body(self) -> dict[str, object]:
        """
        The JSON body of a chat completion that streams and counts its tokens.
        """
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def api_root(url: str) -> str:
    """
    The address that C{/chat/completions} is appended to, from what was given:
    with or without C{/v1} at its end.

    @raise StartupError: it is not an address of the web.
    """
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = None
    if not usable or parts.query or parts.fragment:
        raise StartupError(
            "--url is not an address like http://127.0.0.1:8000 (with or without /v1 at its end)."
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    if not path.endswith("/v1"):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


class EventTimes(Protocol):
    """
    Reads the body of an event stream and keeps the time of every token.

    @ivar finished: fires when the whole stream is there, with L{RequestFailed} when
        it broke; cancelling it closes the connection.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._rest = b""
        self._done = False
        self._events = 0
        self._counted: int | None = None
        self.times: list[float] = []
        self.finished: Deferred[None] = Deferred(lambda _: self._hang_up())

    @property
    def tokens(self) -> int:
        """
        The server's own count where it sent one.
        """
        return self._events if self._counted is None else self._counted

    def dataReceived(self, data: bytes) -> None:
        """
        Note the time for all events that these bytes complete.
        """
        now = self._seconds()
        *lines, self._rest = (self._rest + data).split(b"\n")
        before = self._events
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())
        if self._events > before:
            # Tokens that came in one read have no gap between them that could be seen.
            self.times += [now] * (self._events - before)
        if len(self._rest) > _LONGEST_LINE:
            self._fail("an event of more than 1 MiB")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The body is over, cleanly or not.
        """
        if self.finished.called:
            return
        # PotentialDataLoss: nothing but the close marks the end, so [DONE] has to.
        if self._done and isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.finished.callback(None)
        else:
            self.finished.errback(RequestFailed("broken stream"))

    def _event(self, content: bytes) -> None:
        if content == b"[DONE]":
            self._done = True
            return
        try:
            event = json.loads(content)
        except ValueError:
            self._fail("an event that is not JSON")
            return
        if not isinstance(event, dict):
            return
        if event.get("error"):
            self._fail("error event in the stream")
        elif _has_token(event):
            self._events += 1
        usage = event.get("usage")
        if isinstance(usage, dict) and isinstance(usage.get("completion_tokens"), int):
            self._counted = usage["completion_tokens"]

    def _fail(self, kind: str) -> None:
        if not self.finished.called:
            self.finished.errback(RequestFailed(kind))
            self._hang_up()

    def _hang_up(self) -> None:
        if self.transport is not None:
            # Of a body's transport this is the public way to close it.
            self.transport.stopProducing()  # type: ignore[attr-defined] # an IPushProducer


def _has_token(event: Mapping[str, Any]) -> bool:
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    delta = choices[0].get("delta")
    if isinstance(delta, dict):
        return any(delta.get(name) for name in ("content", "reasoning_content", "tool_calls"))
    return bool(choices[0].get("text"))


class StreamTimer:
    """
    Asks one server, and times its answers.

    @param root: as L{api_root} gives it.
    @param api_key: sent as a Bearer token, if there is one.
    @param clock: for the time-out of a whole answer.
    @param seconds: a clock fine enough to time a token.
    """

    def __init__(
        self,
        client: HTTPClient,
        root: str,
        api_key: str | None,
        clock: IReactorTime,
        seconds: Callable[[], float],
        timeout_seconds: float,
    ) -> None:
        self._client = client
        self._root = root
        self._clock = clock
        self._seconds = seconds
        self._timeout_seconds = timeout_seconds
        self._headers: dict[bytes | str, bytes | str] = {
            "Accept": "text/event-stream, application/json"
        }
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    async def first_model(self) -> str:
        """
        The name of the first model that the server lists.

        @raise RequestFailed: it lists none.
        """
        listed = await self._within_time(self._listed_models())
        models = listed.get("data") if isinstance(listed, dict) else None
        for model in models if isinstance(models, list) else []:
            if isinstance(model, dict) and isinstance(model.get("id"), str):
                return str(model["id"])
        raise RequestFailed("no model in the list of models")

    async def time_one(self, question: Question) -> Timings:
        """
        Ask once and read the answer to its end.

        @raise RequestFailed: there was no whole answer.
        """
        return await self._within_time(self._timed(question))

    async def _within_time(self, asking: Coroutine[Deferred[Any], Any, _T]) -> _T:
        pending = Deferred.fromCoroutine(asking)
        # Whatever a cancelled request turns into, it is because of the time.
        pending.addTimeout(self._timeout_seconds, self._clock, onTimeoutCancel=_timed_out)
        try:
            return await pending
        except ConnectionRefusedError as error:
            raise RequestFailed("connection refused") from error
        except DNSLookupError as error:
            raise RequestFailed("host not found") from error
        except ConnectError as error:
            raise RequestFailed("cannot connect") from error
        except (
            RequestGenerationFailed,
            RequestTransmissionFailed,
            ResponseNeverReceived,
            ResponseFailed,
        ) as error:
            raise RequestFailed("connection lost") from error

    async def _listed_models(self) -> object:
        response = await self._client.get(
            f"{self._root}/models", headers=self._headers, unbuffered=True
        )
        _check_status(response)
        body: list[bytes] = []

        def keep(part: bytes) -> None:
            if sum(map(len, body)) < _LONGEST_LIST:
                body.append(part)

        await collect(response, keep)
        try:
            return json.loads(b"".join(body))
        except ValueError as error:
            raise RequestFailed("a list of models that is not JSON") from error

    async def _timed(self, question: Question) -> Timings:
        asked = self._seconds()
        response = await self._client.post(
            f"{self._root}/chat/completions",
            headers=self._headers,
            json=question.body(),
            unbuffered=True,
        )
        _check_status(response)
        events = EventTimes(self._seconds)
        response.deliverBody(events)
        await events.finished
        ended = self._seconds()
        times = events.times
        if not times:
            raise RequestFailed("no tokens in the stream")
        gaps = tuple(later - sooner for sooner, later in pairwise(times))
        return Timings(times[0] - asked, gaps, ended - asked, events.tokens)


def _timed_out(result: object, after_seconds: float) -> NoReturn:
    raise RequestFailed("timed out")


def _check_status(response: IResponse) -> None:
    if response.code != 200:
        # Nobody will read this body: without a reader its connection would stay open.
        response.deliverBody(_Unread())
        raise RequestFailed(f"status {response.code}")


class _Unread(Protocol):
    """
    Reads a body to its end, so that the connection can serve the next request.
    """
