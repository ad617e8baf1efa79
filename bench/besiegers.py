"""
Thousands of connections of others, in a process of its own so that those who
measure are not held up: idle ones, and three kinds of attackers that take their
time.  L{siege} starts it.

    python bench/besiegers.py PORT KIND COUNT < keys-and-commands

The first line of stdin is a key; further ones are commands: C{again} (every idle
one asks again) and C{leave}.  Each line of stdout is a JSON object.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from questions import chat, request

KINDS = ("idle", "head", "body", "read")
#: Connections of one address; MAX_CONNECTIONS_PER_IP is 1,000 by default.
PER_ADDRESS = 1000
_CHAT = "/v1/chat/completions"
_COMING_PER_SECOND = 1000
_LARGE_BYTES = 1 << 20
_SIP_BYTES = 16
_BODY_BYTES = 100_000
#: Of Linux; the socket module of Python 3.11 does not name it.
_IP_BIND_ADDRESS_NO_PORT = 24
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


@dataclass
class Besieger:
    """
    One connection.

    @ivar due: when it does the next thing, one that takes its time.
    """

    number: int
    sock: socket.socket
    due: float
    received: bytearray = field(default_factory=bytearray)
    answers: int = 0
    ended: str = ""


def first_words(kind: str, key: str) -> bytes:
    """
    What is sent at once.
    """
    if kind == "idle":
        return request(_CHAT, key, chat(False, 4))
    if kind == "head":
        return b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\nX-Slow: "
    if kind == "body":
        whole = request(_CHAT, key, b"x" * _BODY_BYTES)
        return whole[: whole.index(b"\r\n\r\n") + 4]
    return request(_CHAT, key, {**chat(False, 4), "bytes": _LARGE_BYTES})


class Besiegers:
    """
    All of one kind.
    """

    def __init__(self, port: int, kind: str, count: int, key: str) -> None:
        self._port = port
        self._kind = kind
        self._count = count
        self._words = first_words(kind, key)
        self._poll = select.epoll()
        self._all: dict[int, Besieger] = {}
        self._begun = time.monotonic()

    def tell(self, event: str, **fields: object) -> None:
        """
        Say something to who has started us.
        """
        print(json.dumps({"event": event, **fields}), flush=True)

    def run(self) -> None:
        """
        Come, stay, and do what is said, until all have been thrown out or are to leave.
        """
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._come()
        told = False
        while True:
            for number, _ in self._poll.poll(0.01):
                if number == sys.stdin.fileno():
                    command = sys.stdin.readline().strip()
                    if command != "again":
                        return
                    self._again()
                elif number in self._all:
                    self._look(self._all[number])
            self._take_time()
            if not told and all(one.ended for one in self._all.values()):
                told = True
                self.tell("ended", seconds=self._seconds(), how=self._endings())

    def _seconds(self) -> float:
        return round(time.monotonic() - self._begun, 1)

    def _endings(self) -> dict[str, int]:
        return dict(Counter(one.ended or "still there" for one in self._all.values()))

    def _come(self) -> None:
        for number in range(self._count):
            wait = self._begun + number / _COMING_PER_SECOND - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            sock = socket.socket()
            if self._kind == "read":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # Otherwise each would take a port of its own, whatever its address.
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.0.{2 + number // PER_ADDRESS}", 0))
            sock.connect(("127.0.0.1", self._port))
            sock.setblocking(False)
            # Spread over a second, so that they do not speak all at once.
            one = Besieger(number, sock, time.monotonic() + 1)
            self._all[sock.fileno()] = one
            self._poll.register(sock.fileno(), 0 if self._kind == "read" else select.EPOLLIN)
            self._send(one, self._words)
            if self._kind == "idle" and number % 50 == 0:
                self._answers_so_far()
        if self._kind == "idle":
            self._until_answered(1)
        self.tell("there", seconds=self._seconds(), answered=self._answered(1))

    def _send(self, one: Besieger, data: bytes) -> None:
        try:
            one.sock.send(data)
        except BlockingIOError:
            pass
        except OSError:
            self._end(one, "reset")

    def _end(self, one: Besieger, how: str) -> None:
        if not one.ended:
            one.ended = how
        with suppress(OSError, ValueError):
            self._poll.unregister(one.sock.fileno())

    def _look(self, one: Besieger) -> None:
        """
        Something has come, or the other side has gone.
        """
        try:
            data = one.sock.recv(_SIP_BYTES if self._kind == "read" else 65536)
        except BlockingIOError:
            return
        except OSError:
            self._end(one, "reset")
            return
        one.received += data
        if not data:
            status = bytes(one.received[9:12]).decode("latin-1")
            self._end(one, status if self._kind != "read" and status else "closed")
        elif self._kind == "idle":
            self._count_answer(one)

    def _count_answer(self, one: Besieger) -> None:
        head, end, body = bytes(one.received).partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if end and length and len(body) >= int(length[1]):
            one.answers += head.startswith(b"HTTP/1.1 200 ")
            one.received.clear()

    def _answers_so_far(self) -> None:
        for number, _ in self._poll.poll(0):
            if number in self._all:
                self._look(self._all[number])

    def _answered(self, times: int) -> int:
        return sum(one.answers >= times for one in self._all.values())

    def _until_answered(self, times: int) -> None:
        end = time.monotonic() + 60
        while self._answered(times) < self._count and time.monotonic() < end:
            self._poll.poll(0.05)
            self._answers_so_far()

    def _again(self) -> None:
        begun = time.monotonic()
        for at, one in enumerate(self._all.values()):
            wait = begun + at / _COMING_PER_SECOND - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            if not one.ended:
                self._send(one, self._words)
            if at % 50 == 0:
                self._answers_so_far()
        self._until_answered(2)
        self.tell("asked again", answered=self._answered(2), how=self._endings())

    def _take_time(self) -> None:
        """
        A byte a second, or a sip.
        """
        if self._kind == "idle":
            return
        now = time.monotonic()
        for one in self._all.values():
            if one.due < now and not one.ended:
                one.due += 1
                if self._kind == "read":
                    self._look(one)
                else:
                    self._send(one, b"x")


def main() -> None:
    """
    Run until told to leave, or until stdin ends.
    """
    port, kind, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    Besiegers(port, kind, count, sys.stdin.readline().strip()).run()


if __name__ == "__main__":
    main()
