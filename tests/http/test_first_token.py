"""
When a relay sends: the first token of a stream at once, all else at the end of the turn.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.http.test_outlet import Sent
from twisted_llama.http.framing import ChunkedFraming
from twisted_llama.http.outlet import Outlet, SocketOutlet
from twisted_llama.http.relay import Relay
from twisted_llama.http.response_head import ResponseHead
from twisted_llama.http.turn import Turn


class Passing:
    """
    An answer in chunks that passes to a client.

    @ivar sent: what the client's socket was given.
    @ivar paused: how often the engine was told to stop.
    """

    def __init__(self, event_stream: bool, takes: int = 1 << 20) -> None:
        self.clock = Clock()
        self.sent = Sent(takes)
        self.paused = 0
        handle: Any = self.sent
        outlet: Outlet = SocketOutlet(
            StringTransport(), handle, Turn(self.clock), lambda: None, lambda: None
        )
        channel = SimpleNamespace(
            outlet=outlet,
            decide_closing=lambda: False,
            site=SimpleNamespace(date_line=lambda: b"Date: now\r\n"),
        )
        request: Any = SimpleNamespace(
            channel=channel,
            clientproto=b"HTTP/1.1",
            common_lines=b"",
            begin_relay=lambda status, head: outlet.write(head),
        )
        self.framing = ChunkedFraming()
        connection: Any = SimpleNamespace(
            framing=self.framing, pause=self._pause, resume=lambda: None
        )
        self.relay = Relay(request, connection, self.clock.seconds, lambda error: None)
        head = ResponseHead(200, b"OK", (), True, True, event_stream)
        self.relay.begins(head, None, self.framing)

    def _pause(self) -> None:
        self.paused += 1

    def comes(self, chunk: bytes) -> None:
        """
        The engine has sent one chunk.
        """
        self.relay.continues(chunk, self.framing.feed(chunk))


ONE = b"b\r\ndata: one\n\n\r\n"
TWO = b"b\r\ndata: two\n\n\r\n"


def test_the_first_token_of_a_stream_is_sent_at_once() -> None:
    """With the head, in one piece; those after it at the end of the turn."""
    passing = Passing(event_stream=True)
    assert passing.sent.pieces == []
    passing.comes(ONE)
    assert len(passing.sent.pieces) == 1
    assert passing.sent.pieces[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert passing.sent.pieces[0].endswith(b"\r\n\r\n" + ONE)
    passing.comes(TWO)
    assert len(passing.sent.pieces) == 1
    passing.clock.advance(0)
    assert passing.sent.pieces[1:] == [TWO]
    assert passing.paused == 0


def test_what_is_no_stream_is_sent_at_the_end_of_the_turn() -> None:
    passing = Passing(event_stream=False)
    passing.comes(ONE)
    assert passing.sent.pieces == []
    passing.clock.advance(0)
    assert passing.sent.pieces[0].endswith(ONE)


def test_a_client_found_full_by_the_first_token_stops_the_engine() -> None:
    passing = Passing(event_stream=True, takes=0)
    passing.comes(ONE)
    assert passing.paused == 1
