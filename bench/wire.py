"""
One connection of a client, as far outside as can be: it sends any bytes, reads
answers strictly, and says how each of them ended.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

#: How an answer ended.  C{whole}: with its valid end.  C{cut}: begun, and not
#: ended validly.  C{none}: the connection closed without a byte.  C{broken}:
#: what came is no HTTP.  C{late}: it took too long.  C{left}: we had enough.
Ending = Literal["whole", "cut", "none", "broken", "late", "left"]

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [\x20-\x7e]*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(;[^\r\n]*)?")
_MOST_BYTES = 64 << 20


@dataclass
class Answer:
    """
    One answer, or what there is of it.

    @ivar fields: header fields in order, names in lower case.
    @ivar detail: how it was cut or broken.
    """

    ending: Ending = "none"
    status: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    detail: str = ""
    framing: str = ""

    def __getitem__(self, name: str) -> str:
        """
        The first field of a name; empty if there is none.
        """
        return next((value for key, value in self.fields if key == name), "")

    @property
    def body(self) -> bytes:
        """
        What came of the body.
        """
        return bytes(self.content)

    @property
    def code(self) -> str:
        """
        The code of an error in OpenAI's shape, made by the gateway: a word,
        where llama-server's own are numbers.  Empty if it is none.
        """
        if self["content-type"] != "application/json" or not self["x-request-id"]:
            return ""
        try:
            error = json.loads(self.body)["error"]
            right = error.keys() == {"message", "type", "param", "code"}
        except (ValueError, KeyError, TypeError, AttributeError):
            return ""
        return error["code"] if right and isinstance(error["code"], str) else ""

    @property
    def events(self) -> list[str]:
        """
        The C{data} of each whole event.
        """
        whole = self.body.decode("utf-8", "replace").split("\n\n")[:-1]
        return [event.removeprefix("data: ") for event in whole if event.startswith("data: ")]

    @property
    def is_done(self) -> bool:
        """
        Whether the stream says that it is complete.
        """
        return self.events[-1:] == ["[DONE]"]

    @property
    def last_error(self) -> str:
        """
        The code of the error event at the end of a stream; empty if none.
        """
        try:
            found: Any = json.loads(self.events[-1])
            return str(found["error"]["code"])
        except (IndexError, ValueError, KeyError, TypeError):
            return ""

    def __str__(self) -> str:
        said = self.body[:120] if self.status >= 400 else self.body[-60:]
        return f"{self.ending} {self.status} {self.code} {self.detail} {said!r}"


class _Gone(Exception):
    """
    Nothing more will come.
    """


class Wire:
    """
    A connection to a port on loopback.

    @ivar reset: whether the other side has reset it.
    @ivar held_up_seconds: the longest that we did not read when we meant to.
    """

    def __init__(self, sock: socket.socket, patience_seconds: float) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._patience_seconds = patience_seconds
        self.reset = False
        self.closed = False
        self.held_up_seconds = 0.0

    @classmethod
    async def open(
        cls, port: int, patience_seconds: float = 60.0, receive_bytes: int | None = None
    ) -> Wire:
        """
        @param patience_seconds: the longest that one answer may take.
        @param receive_bytes: the kernel's buffer, where it should be small.
        @raise OSError: nobody listens.
        """
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            async with asyncio.timeout(10):
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(sock, patience_seconds)

    async def send(self, data: bytes) -> bool:
        """
        @return: whether the other side was still there.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._loop.sock_sendall(self._socket, data)
        except (OSError, TimeoutError):
            self.reset = True
            return False
        return True

    def half_close(self) -> None:
        """
        Say that nothing follows.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.reset = True

    def close(self, with_reset: bool = False) -> None:
        """
        Leave.
        """
        if self.closed:
            return
        self.closed = True
        if with_reset:
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    async def answer(
        self,
        to_head: bool = False,
        enough: Callable[[Answer], bool] | None = None,
        pause_seconds: float = 0.0,
        read_bytes: int = 65536,
    ) -> Answer:
        """
        Read the next answer; interim ones are passed over.

        @param to_head: the request was HEAD: there is no body.
        @param enough: asked whenever the head or some of the body has come.
        @param pause_seconds: before each read, of so many bytes at most.
        """
        answer = Answer()
        self._pause_seconds, self._read_bytes = pause_seconds, read_bytes
        try:
            async with asyncio.timeout(self._patience_seconds):
                while answer.status < 200:
                    await self._head(answer)
                if enough is not None and enough(answer):
                    answer.ending = "left"
                elif await self._body(answer, to_head, enough):
                    answer.ending = "whole"
                else:
                    answer.ending = "left"
        except _Gone as gone:
            answer.ending = "cut" if answer.status or self._buffer else "none"
            answer.detail = str(gone)
        except ValueError as error:
            answer.ending, answer.detail = "broken", str(error)
        except TimeoutError:
            answer.ending = "late"
        return answer

    async def ended(self, seconds: float = 10.0) -> bool:
        """
        Whether the other side closes the connection, without sending more.
        """
        self._pause_seconds, self._read_bytes = 0.0, 65536
        try:
            async with asyncio.timeout(seconds):
                await self._more()
        except _Gone:
            return not self._buffer
        except TimeoutError:
            return False
        return False

    @property
    def excess(self) -> bytes:
        """
        What came behind the last answer.
        """
        return self._buffer

    async def _more(self) -> None:
        if self._pause_seconds:
            due = self._loop.time() + self._pause_seconds
            await asyncio.sleep(self._pause_seconds)
            self.held_up_seconds = max(self.held_up_seconds, self._loop.time() - due)
        try:
            data = await self._loop.sock_recv(self._socket, self._read_bytes)
        except OSError as error:
            self.reset = True
            raise _Gone("reset") from error
        if not data:
            raise _Gone("closed")
        self._buffer += data

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > 65536:
                raise ValueError(f"an endless line: {self._buffer[:60]!r}")
            await self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    async def _head(self, answer: Answer) -> None:
        line = await self._line()
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"no status line: {line[:60]!r}")
        fields = []
        while line := await self._line():
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise ValueError(f"no header: {line[:60]!r}")
            fields.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
        answer.status, answer.fields = int(match[1]), fields

    async def _body(
        self, answer: Answer, to_head: bool, enough: Callable[[Answer], bool] | None
    ) -> bool:
        lengths = [value for name, value in answer.fields if name == "content-length"]
        codings = [value for name, value in answer.fields if name == "transfer-encoding"]
        if to_head or answer.status in (204, 304):
            return True
        if len(lengths) + len(codings) > 1:
            raise ValueError(f"two framings: {lengths} {codings}")
        if codings:
            answer.framing = "chunked"
            return await self._chunks(answer, enough)
        answer.framing = "length" if lengths else "close"
        wanted = int(lengths[0]) if lengths else _MOST_BYTES
        while wanted:
            if not self._buffer:
                try:
                    await self._more()
                except _Gone as gone:
                    if not lengths and str(gone) == "closed":
                        return True
                    raise
            piece, self._buffer = self._buffer[:wanted], self._buffer[wanted:]
            wanted -= len(piece)
            answer.content += piece
            if wanted and enough is not None and enough(answer):
                return False
        return True

    async def _chunks(self, answer: Answer, enough: Callable[[Answer], bool] | None) -> bool:
        while True:
            match = _CHUNK_SIZE.fullmatch(await self._line())
            if match is None:
                raise ValueError("no size of a chunk")
            wanted = size = int(match[1], 16)
            while wanted:
                if not self._buffer:
                    await self._more()
                piece, self._buffer = self._buffer[:wanted], self._buffer[wanted:]
                wanted -= len(piece)
                answer.content += piece
                if enough is not None and enough(answer):
                    return False
            if size:
                if await self._line():
                    raise ValueError("no end of a chunk")
                continue
            while await self._line():
                pass
            return True
