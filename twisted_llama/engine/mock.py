"""
The mock engine: canned completions and streams in llama-server's shapes, to try
a client without a model.

Run as C{python -m twisted_llama.engine.mock --port PORT ...}.  It takes
llama-server's command line, ignores what it has no use for, and adds
C{--delay-ms}, C{--tokens} and C{--load-seconds}.
"""

from __future__ import annotations

import argparse
import hmac
import json
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import IO, Any, Protocol

from attrs import define, frozen
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from twisted_llama.engine import mock_answers as answers
from twisted_llama.engine.embedded import read_keys

_PUBLIC = frozenset({b"/health", b"/v1/health", b"/models", b"/v1/models"})
_COMPLETIONS: dict[bytes, answers.CompletionKind] = {
    b"/v1/chat/completions": "chat",
    b"/chat/completions": "chat",
    b"/v1/completions": "text",
    b"/completion": "native",
    b"/completions": "native",
}
_JSON_TYPE = b"application/json; charset=utf-8"


class WebRequest(Protocol):
    """
    What is used of L{twisted.web.server.Request}, with its types.
    """

    path: bytes
    method: bytes
    content: IO[bytes]

    def getHeader(self, key: bytes) -> bytes | None: ...
    def setHeader(self, name: bytes, value: bytes) -> None: ...
    def setResponseCode(self, code: int) -> None: ...
    def write(self, data: bytes) -> object: ...
    def finish(self) -> None: ...
    def notifyFinish(self) -> Deferred[None]: ...


@frozen
class MockShape:
    """
    How the mock engine behaves.

    @ivar delay_seconds: before each token.
    @ivar tokens: how long each answer is; L{None} for one sentence.
    @ivar load_seconds: for how long it says that it is loading.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    model: str = "mock"
    keys: tuple[str, ...] = ()
    slots: int = 4
    context_tokens: int = 4096
    delay_seconds: float = 0.0
    tokens: int | None = None
    load_seconds: float = 0.0


def parse_shape(argv: Sequence[str]) -> MockShape:
    """
    @raise SystemExit: a bad value.
    @raise OSError: the key file cannot be read.
    """
    parser = argparse.ArgumentParser(prog="mock", allow_abbrev=False)
    parser.add_argument("-m", "--model", default="mock")
    parser.add_argument("-a", "--alias")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-c", "--ctx-size", type=int, default=4096)
    parser.add_argument("-np", "--parallel", type=int, default=4)
    parser.add_argument("--api-key-file", type=Path)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--load-seconds", type=float, default=0.0)
    given, _ignored = parser.parse_known_args(argv)
    keys = read_keys(given.api_key_file.read_text("utf-8")) if given.api_key_file else []
    return MockShape(
        host=given.host,
        port=given.port,
        model=given.alias or PurePath(given.model).name,
        keys=tuple(keys),
        slots=max(1, given.parallel),
        context_tokens=given.ctx_size,
        delay_seconds=given.delay_ms / 1000.0,
        tokens=given.tokens,
        load_seconds=given.load_seconds,
    )


@define
class _Work:
    """
    What the mock engine is doing.
    """

    semaphore: DeferredSemaphore
    busy: int = 0


class MockResource(Resource):
    """
    All of the mock engine's paths.
    """

    isLeaf = True

    def __init__(
        self, shape: MockShape, clock: IReactorTime, wall_clock: Callable[[], float]
    ) -> None:
        super().__init__()
        self._shape = shape
        self._clock = clock
        self._wall_clock = wall_clock
        self._loaded_at = clock.seconds() + shape.load_seconds
        self._work = _Work(DeferredSemaphore(shape.slots))

    def render(self, request: WebRequest) -> int | bytes:
        """
        Answer one request.
        """
        path = request.path
        if path not in _PUBLIC and not self._has_key(request):
            return self._refuse(request, 401, "Invalid API Key", "authentication_error")
        if self._clock.seconds() < self._loaded_at:
            return self._refuse(request, 503, "Loading model", "unavailable_error")
        try:
            if request.method == b"POST":
                return self._post(request, path)
            return self._get(request, path)
        except answers.BadRequest as problem:
            return self._refuse(request, 400, str(problem), "invalid_request_error")

    def _has_key(self, request: WebRequest) -> bool:
        if not self._shape.keys:
            return True
        given = request.getHeader(b"x-api-key") or request.getHeader(b"authorization") or b""
        given = given.removeprefix(b"Bearer ")
        return any(hmac.compare_digest(given, key.encode()) for key in self._shape.keys)

    def _refuse(self, request: WebRequest, status: int, message: str, kind: str) -> bytes:
        request.setResponseCode(status)
        return self._json(request, answers.error(status, message, kind))

    def _json(self, request: WebRequest, value: object) -> bytes:
        request.setHeader(b"Server", b"llama.cpp")
        request.setHeader(b"Content-Type", _JSON_TYPE)
        return json.dumps(value, separators=(",", ":")).encode()

    def _get(self, request: WebRequest, path: bytes) -> bytes:
        shape = self._shape
        if path in (b"/health", b"/v1/health"):
            return self._json(request, {"status": "ok"})
        if path in (b"/models", b"/v1/models"):
            created = int(self._wall_clock())
            return self._json(request, answers.models(shape.model, created, shape.context_tokens))
        if path == b"/props":
            return self._json(
                request, answers.props(shape.model, shape.slots, shape.context_tokens)
            )
        if path == b"/slots":
            return self._json(
                request, answers.slots(shape.slots, self._work.busy, shape.context_tokens)
            )
        return self._refuse(request, 404, "File Not Found", "not_found_error")

    def _post(self, request: WebRequest, path: bytes) -> int | bytes:
        if path in _COMPLETIONS:
            return self._complete(request, _COMPLETIONS[path])
        if path in (b"/embedding", b"/embeddings", b"/v1/embeddings"):
            return self._json(request, answers.embeddings(_body(request), self._shape.model))
        if path == b"/tokenize":
            return self._json(request, answers.token_numbers(_body(request)))
        return self._refuse(request, 404, "File Not Found", "not_found_error")

    def _complete(self, request: WebRequest, kind: answers.CompletionKind) -> int:
        asked = _body(request)
        prompt = answers.prompt_of(asked, kind)
        limit = answers.token_limit(asked)
        tokens = answers.answer_tokens(prompt, self._shape.tokens, limit)
        options = asked.get("stream_options")
        completion = answers.Completion(
            kind=kind,
            id=f"chatcmpl-{uuid.uuid4().hex}",
            model=self._shape.model,
            created=int(self._wall_clock()),
            prompt_tokens=max(1, len(answers.split_tokens(prompt))),
            tokens=tokens,
            finish_reason="length" if limit is not None and len(tokens) == limit else "stop",
            include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        )
        speak = self._stream if asked.get("stream") else self._whole
        working: Deferred[None] = self._work.semaphore.run(
            lambda: Deferred.fromCoroutine(self._occupy(speak, request, completion))
        )
        # A client that leaves ends the work, as llama-server does it.
        request.notifyFinish().addErrback(lambda _gone: working.cancel())
        working.addErrback(_ignore_cancelled)
        return NOT_DONE_YET

    async def _occupy(
        self, speak: Callable[..., Any], request: WebRequest, completion: answers.Completion
    ) -> None:
        self._work.busy += 1
        try:
            await speak(request, completion)
        finally:
            self._work.busy -= 1

    async def _whole(self, request: WebRequest, completion: answers.Completion) -> None:
        delay_seconds = self._shape.delay_seconds * len(completion.tokens)
        await deferLater(self._clock, delay_seconds)
        request.write(self._json(request, answers.whole_answer(completion, delay_seconds * 1000)))
        request.finish()

    async def _stream(self, request: WebRequest, completion: answers.Completion) -> None:
        request.setHeader(b"Server", b"llama.cpp")
        request.setHeader(b"Content-Type", b"text/event-stream")
        started = self._clock.seconds()
        for chunk in answers.first_chunks(completion):
            request.write(answers.sse(chunk))
        for at, token in enumerate(completion.tokens):
            await deferLater(self._clock, self._shape.delay_seconds)
            request.write(answers.sse(answers.token_chunk(completion, token, at + 1)))
        elapsed_ms = (self._clock.seconds() - started) * 1000
        for chunk in answers.last_chunks(completion, elapsed_ms):
            request.write(answers.sse(chunk))
        if completion.kind != "native":
            request.write(b"data: [DONE]\n\n")
        request.finish()


def _body(request: WebRequest) -> dict[str, Any]:
    try:
        asked = json.loads(request.content.read())
    except (ValueError, RecursionError):
        raise answers.BadRequest("the request's body is not valid JSON") from None
    if not isinstance(asked, dict):
        raise answers.BadRequest("the request's body must be a JSON object")
    return asked


def _ignore_cancelled(failure: Failure) -> None:
    if not isinstance(failure.value, CancelledError):
        failure.raiseException()


def main(argv: Sequence[str]) -> int:
    """
    Serve until SIGTERM or SIGINT.

    @param argv: the arguments, without the program's name.
    @return: the exit status.
    """
    import time

    from twisted.internet import reactor as found  # noqa: TID251  # a program of its own
    from twisted.internet.error import CannotListenError

    reactor: Any = found
    try:
        shape = parse_shape(argv)
        site = Site(MockResource(shape, reactor, time.time))
        reactor.listenTCP(shape.port, site, interface=shape.host)
    except (OSError, CannotListenError) as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    sys.stdout.write(f"mock engine: listening on {shape.host} port {shape.port}\n")
    sys.stdout.flush()
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
