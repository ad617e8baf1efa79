"""
The engine of the channel's world: it answers, and every answer shows to what.
"""

from __future__ import annotations

import zlib

from fuzz.answers import EngineRequest, read_engine_requests
from fuzz.gateway import ENGINE_KEY, Gateway
from fuzz.wires import Wire
from twisted_llama.admission.gate import EngineState

_STATES: dict[str, EngineState] = {
    "engine loads": "loading",
    "engine is ready": "ready",
    "engine has failed": "failed",
}
ENGINE_HOST = b"127.0.0.1:8080"


class Engine:
    """
    The engine's side of all its connections.  It answers at once, unless it is
    told to hold back; every answer shows which request it is to.

    @ivar requests: what it was sent, as far as it has looked.
    """

    def __init__(self, world: Gateway) -> None:
        self._world = world
        self._held = False
        self._streaming: set[int] = set()
        self._read_bytes: dict[int, int] = {}
        self.requests: list[EngineRequest] = []

    def turn(self) -> None:
        """
        Answer what is there to be answered.
        """
        self._world.settle()
        while not self._held and self._answer_next(False):
            self._world.settle()

    def _answer_next(self, streaming: bool) -> bool:
        for number, wire in enumerate(self._world.engines):
            request = None if number in self._streaming else self._next_request(number, wire)
            if request is None or wire.lost or wire.ended:
                continue
            if streaming and request.method != b"HEAD":
                self._streaming.add(number)
                wire.give(STREAM_HEAD)
            else:
                wire.give(engine_answer(request))
            return True
        return False

    def _next_request(self, number: int, wire: Wire) -> EngineRequest | None:
        """
        The request that was not answered yet on one connection.
        """
        position = self._read_bytes.get(number, 0)
        if len(wire.sent) == position:
            return None
        self._read_bytes[number] = len(wire.sent)
        # One at a time, and each in one go.
        (request,) = read_engine_requests(bytes(wire.sent[position:]), ENGINE_HOST, ENGINE_KEY)
        self.requests.append(request)
        return request

    def look(self) -> None:
        """
        Read what was never answered, too.
        """
        for number, wire in enumerate(self._world.engines):
            self._next_request(number, wire)

    def wake(self) -> None:
        """
        Be there, and hold back no more.
        """
        self._held = False
        self._world.set_engine("ready")
        self.turn()

    def act(self, event: str) -> None:
        """
        Do what the script says.
        """
        if event == "engine holds":
            self._held = not self._held
        elif event == "engine answers":
            self._answer_next(False)
        elif event == "engine streams":
            self._answer_next(True)
        elif event == "engine refuses":
            self._world.reactor.accepts = False
            for attempt in list(self._world.reactor.attempts):
                attempt.refuse()
        elif event == "engine accepts":
            self._world.reactor.accepts = True
            for attempt in list(self._world.reactor.attempts):
                attempt.accept()
        elif event in _STATES:
            self._world.set_engine(_STATES[event])
        elif self._world.engines:
            self._go_on(event)

    def _go_on(self, event: str) -> None:
        engines = self._world.engines
        number = min(self._streaming, default=len(engines) - 1)
        if event == "engine goes on":
            if number in self._streaming:
                engines[number].give(b"9\r\ndata: x\n\n\r\n")
        elif event == "engine closes":
            self._streaming.discard(number)
            engines[number].leave(cleanly=True)
        else:
            self._streaming.discard(number)
            engines[number].give(b"HTTP/1.1 nonsense\r\n\r\n")


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def engine_answer(request: EngineRequest) -> bytes:
    """
    An answer that shows what was asked.
    """
    body = b'{"asked":"%b %b %d"}' % (request.method, request.target, zlib.crc32(request.body))
    if b"stream" in request.target:
        body = b"data: %b\n\n" % body
        if request.method == b"HEAD":
            return STREAM_HEAD
        return STREAM_HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + (b"" if request.method == b"HEAD" else body)
