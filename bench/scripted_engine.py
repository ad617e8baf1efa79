"""
An engine that fails as it is told: each request says in a header at which stage
of the answer what is to happen.  Every answer names the request that it is for,
so that one that reaches another client is seen.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

#: Where in the answer it happens.
STAGES = (
    "before head",
    "in head",
    "after head",
    "mid-chunk",
    "mid-event",
    "after [DONE]",
    "after end",
)
#: What happens there.
FAULTS = ("closes", "resets", "hangs", "garbage", "for ever")
SCRIPT = "X-Script"
_GARBAGE = b"\x00\xff\xfe garbage \r\n\r\nzz\r\n" * 4
_FLOOD = 256 << 20


@dataclass(frozen=True)
class Script:
    """
    What one answer is like.

    @ivar framing: C{length} or C{chunked}.
    @ivar fault: one of L{FAULTS}, or C{none}, C{holds}, C{early}, C{early reset}.
    """

    stream: bool = False
    framing: str = "chunked"
    stage: str = ""
    fault: str = "none"

    def __str__(self) -> str:
        return f"{self.stream:d}|{self.framing}|{self.stage}|{self.fault}"

    @classmethod
    def read(cls, text: str) -> Script:
        """
        The opposite of C{str()}.
        """
        stream, framing, stage, fault = text.split("|")
        return cls(stream == "1", framing, stage, fault)


def event(said: str, request_id: str) -> bytes:
    """
    One event of a stream.
    """
    choice = {"index": 0, "delta": {"content": said}, "finish_reason": None}
    body = {"id": request_id, "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def pieces(script: Script, request_id: str) -> tuple[bytes, list[bytes], bytes]:
    """
    @return: the head, the body in pieces, and what follows the last of them.
    """
    if script.stream:
        body = [event(f"word{at} ", request_id) for at in range(6)] + [b"data: [DONE]\n\n"]
    else:
        text = json.dumps({"id": request_id, "content": "word " * 60}).encode()
        body = [text[at : at + 80] for at in range(0, len(text), 80)]
    kind = "text/event-stream" if script.stream else "application/json"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n"
    if script.framing == "length":
        head += f"Content-Length: {sum(map(len, body))}\r\n\r\n"
        return head.encode(), body, b""
    return (
        f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(),
        [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in body],
        b"0\r\n\r\n",
    )


def before_fault(script: Script, request_id: str) -> bytes:
    """
    What is sent before the fault happens.
    """
    head, body, end = pieces(script, request_id)
    plain = Script(script.stream, "length")
    match script.stage:
        case "before head":
            return b""
        case "in head":
            return head[: len(head) // 2]
        case "after head":
            return head
        case "mid-chunk":
            return head + body[0] + body[1][: len(body[1]) // 2]
        case "mid-event":
            # A whole piece of the framing with half an event in it.
            half = pieces(plain, request_id)[1][1][:30]
            framed = half if script.framing == "length" else b"%x\r\n%b\r\n" % (len(half), half)
            return head + body[0] + framed
        case "after [DONE]":
            whole = head + b"".join(body)
            return whole if end else whole[:-1]
    return head + b"".join(body) + end


def flood(script: Script) -> bytes:
    """
    What is sent again and again by an engine that never ends.
    """
    match script.stage:
        case "before head":
            return b"HTTP/1.1 100 Continue\r\n\r\n" * 40
        case "in head":
            return b"X-Flood: " + b"a" * 1000 + b"\r\n"
        case "after [DONE]" if script.framing == "chunked":
            return b"0;x=" + b"a" * 4000
    if script.framing == "length" or script.stage == "after end":
        return b"more " * 800
    if script.stage == "mid-chunk":
        return b"a" * 4000
    piece = event("flood " * 100, "flood") if script.stream else b" " * 600
    return b"%x\r\n%b\r\n" % (len(piece), piece)


@dataclass
class Seen:
    """
    What the engine has seen of one request.

    @ivar gone: the connection has ended, or the exchange is over.
    """

    id: str
    script: Script
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class ScriptedEngine:
    """
    Listens on loopback.

    @ivar seen: requests by their id; the last one of each.
    @ivar working: how many are being answered.
    @ivar wrong: what the gateway should not have done.
    """

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.working = 0
        self.most_working = 0
        self.asked = self.connections = 0
        self.wrong: list[str] = []
        self.release = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """
        Listen.
        """
        listening = socket.socket()
        # Small, so that a large request is not sent whole before it is read.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        listening.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._serve, sock=listening, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """
        End, connections and all.
        """
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head[1:-2])
            kept = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head[1:-2]}
            if head[0].startswith("GET /health"):
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}')
                continue
            request_id = kept.get("x-request-id", "")
            script = Script.read(kept.get(SCRIPT.lower(), str(Script())))
            seen = self.seen[request_id] = Seen(request_id, script)
            self.asked += 1
            self.working += 1
            self.most_working = max(self.most_working, self.working)
            try:
                length = int(fields.get("content-length", "0"))
                if script.fault == "early reset":
                    writer.write(b"".join(_flat(pieces(Script(), request_id))))
                    await writer.drain()
                    self._reset(writer)
                    return
                if script.fault == "early":
                    writer.write(b"".join(_flat(pieces(Script(), request_id))))
                    await writer.drain()
                    await asyncio.sleep(0.05)
                    if await self._until_closed(reader) > length:
                        self.wrong.append(f"a connection was used again behind {request_id}")
                    return
                await reader.readexactly(length)
                if script.fault == "none":
                    writer.write(b"".join(_flat(pieces(script, request_id))))
                    await writer.drain()
                    continue
                if script.fault == "holds":
                    ended = asyncio.create_task(self._until_closed(reader))
                    released = asyncio.create_task(self.release.wait())
                    await asyncio.wait((ended, released), return_when=asyncio.FIRST_COMPLETED)
                    gone = ended.done()
                    ended.cancel()
                    released.cancel()
                    await asyncio.gather(ended, released, return_exceptions=True)
                    if gone:
                        return
                    writer.write(b"".join(_flat(pieces(script, request_id))))
                    await writer.drain()
                    continue
                await self._fail(script, request_id, reader, writer)
                return
            finally:
                self.working -= 1
                seen.gone.set()

    async def _fail(
        self,
        script: Script,
        request_id: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """
        Do what the script says; what comes behind it on this connection is wrong.
        """
        writer.write(before_fault(script, request_id))
        await writer.drain()
        if script.stage != "before head" and (
            script.stage != "after end" or script.fault == "resets"
        ):
            # What was sent shall have been read before the fault happens.
            await asyncio.sleep(0.02)
        if script.fault == "closes":
            if script.stage == "after end":
                # As llama-server does it after streams: not quite at once.
                await asyncio.sleep(0.003)
            return
        if script.fault == "resets":
            self._reset(writer)
        elif script.fault == "hangs":
            await self._expect_nothing(script, request_id, reader)
        elif script.fault == "garbage":
            writer.write(_GARBAGE)
            await writer.drain()
            await self._expect_nothing(script, request_id, reader)
        else:
            piece = flood(script)
            for _ in range(_FLOOD // len(piece)):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            self.wrong.append(f"{request_id}: {script}: the gateway has read {_FLOOD} bytes")

    async def _expect_nothing(
        self, script: Script, request_id: str, reader: asyncio.StreamReader
    ) -> None:
        if await self._until_closed(reader):
            self.wrong.append(f"{request_id}: {script}: the connection was used again")

    @staticmethod
    def _reset(writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    @staticmethod
    async def _until_closed(reader: asyncio.StreamReader) -> int:
        count = 0
        with suppress(OSError):
            while data := await reader.read(65536):
                count += len(data)
        return count


def _flat(parts: tuple[bytes, list[bytes], bytes]) -> list[bytes]:
    head, body, end = parts
    return [head, *body, end]


async def until(look: Callable[[], bool], seconds: float) -> bool:
    """
    Look until it is so.

    @return: whether that happened in time.
    """
    end = asyncio.get_running_loop().time() + seconds
    while not look():
        if asyncio.get_running_loop().time() > end:
            return False
        await asyncio.sleep(0.01)
    return True
