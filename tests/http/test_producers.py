"""
Ordinary resources of C{twisted.web} that produce their answers little by little.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.static import Data, File

from tests.http.bench import Bench, Wire, get, logged, statuses
from twisted_llama.http.request import GatewayRequest

CONTENT = bytes(range(256)) * 2048


class Stream(Resource):
    """
    Answers with what the test pushes.
    """

    isLeaf = True

    def __init__(self, streaming: bool = True) -> None:
        super().__init__()
        self._streaming = streaming
        self.told: list[str] = []
        self.request: Any = None

    def render_GET(self, request: GatewayRequest) -> int:
        self.request = request
        request.write(b"begin ")
        request.registerProducer(self, self._streaming)
        return NOT_DONE_YET

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


def run(bench: Bench, wire: Wire) -> None:
    """
    Let pull producers be pulled, as long as they go on.
    """
    for _ in range(1000):
        bench.clock.advance(0.001)


def test_data() -> None:
    root = Resource()
    root.putChild(b"data", Data(b"plain", "text/x-plain"))
    wire = Bench(root).connect(get(b"/data"), get(b"/data", method=b"HEAD"))
    assert statuses(wire.sent) == [200, 200]
    assert wire.sent.count(b"Content-Type: text/x-plain") == 2
    assert wire.sent.count(b"\r\n\r\nplain") == 1


def test_file(tmp_path: Path) -> None:
    """
    A pull producer gets going by itself, stops with a client that does not read, and goes on.
    """
    (tmp_path / "file").write_bytes(CONTENT)
    bench = Bench(File(str(tmp_path)))
    wire = bench.connect(get(b"/file"))
    run(bench, wire)
    head, _, body = wire.sent.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(CONTENT) in head
    assert body == CONTENT
    assert bench.watcher.over == [(b"GET", b"/file", True)]
    wire.sent = b""
    wire.fill()
    bench.send(wire, get(b"/file"))
    assert wire.sent == b""
    wire.drain()
    wire.fill()
    run(bench, wire)
    part = len(wire.sent)
    assert part < len(CONTENT)
    for _ in range(3):
        wire.drain()
        wire.fill()
        assert len(bench.clock.getDelayedCalls()) <= 2
    wire.drain()
    run(bench, wire)
    assert wire.sent.endswith(CONTENT)
    assert statuses(wire.sent.partition(b"\r\n\r\n")[0]) == [200]


def test_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    bench = Bench(File(str(tmp_path)))
    wire = bench.connect(get(b"/file", b"Range: bytes=10-19"))
    run(bench, wire)
    assert statuses(wire.sent) == [206]
    assert wire.sent.endswith(b"\r\n\r\n" + CONTENT[10:20])


def test_file_whose_client_leaves(tmp_path: Path) -> None:
    """
    The file is closed, and nothing is left waiting.
    """
    (tmp_path / "file").write_bytes(CONTENT)
    bench = Bench(File(str(tmp_path)))
    wire = bench.connect(get(b"/file"))
    wire.fill()
    producer = bench.watcher.begun_requests[0].producer
    file = producer.fileObject
    wire.lose()
    assert file.closed
    bench.clock.advance(1)
    assert bench.clock.getDelayedCalls() == []


def test_push_producer() -> None:
    stream = Stream()
    bench = Bench(stream)
    wire = bench.connect(get(b"/"))
    stream.request.write(b"more ")
    wire.fill()
    stream.request.write(b"too much ")
    assert stream.told == ["pause"]
    wire.drain()
    assert stream.told == ["pause", "resume"]
    stream.request.unregisterProducer()
    stream.request.finish()
    assert b"begin " in wire.sent
    assert b"too much " in wire.sent
    assert wire.sent.endswith(b"0\r\n\r\n")
    wire.lose()
    assert stream.told == ["pause", "resume"]


def test_push_producer_that_comes_when_the_client_does_not_read() -> None:
    stream = Stream()
    bench = Bench(stream)
    wire = bench.connect()
    bench.send(wire, get(b"/")[:-2])
    producer = wire.producer
    write = wire.write

    def write_and_fill(data: bytes) -> None:
        write(data)
        producer.pauseProducing()

    wire.write = write_and_fill  # type: ignore[method-assign]
    bench.send(wire, b"\r\n")
    assert stream.told == ["pause"]


def test_push_producer_whose_client_leaves() -> None:
    stream = Stream()
    wire = Bench(stream).connect(get(b"/"))
    ended: list[object] = []
    stream.request.notifyFinish().addErrback(ended.append)
    wire.lose()
    assert stream.told == ["stop"]
    assert len(ended) == 1


def test_pull_producer_that_fails() -> None:
    """
    The answer has begun and cannot be made whole.
    """
    stream = Stream(streaming=False)
    stream.resumeProducing = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with logged() as events:
        wire = Bench(stream).connect(get(b"/"))
    assert len(events) == 1
    assert wire.ended == "abort"
