"""
One long stream, looked at token by token.
"""

from __future__ import annotations

import asyncio
import re
import time
from bisect import bisect_left
from itertools import pairwise

from product import Product
from questions import chat, request

_AT = re.compile(rb'"at":(\d+)')
INTERVAL_US = 20_000
#: A stream without a token for so long stands still.
_LATE_SECONDS = 5.0


def percentile(values: list[float], share: float) -> float:
    """
    @param share: 0.99 for p99.
    """
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class StreamWatch:
    """
    A client that reads one stream of the engine's stand-in, without end.

    @ivar wrong: what it did not like.
    """

    def __init__(self, product: Product) -> None:
        self._product = product
        self._task: asyncio.Task[None] | None = None
        # When a token was read, and how long it was under way, in seconds.
        self._read_at: list[float] = []
        self._delays: list[float] = []
        self.wrong: list[str] = []

    async def start(self) -> None:
        """
        Begin to read.
        """
        self._task = asyncio.create_task(self._live())

    async def stop(self) -> None:
        """
        Leave.
        """
        if self._task is not None:
            if self._task.done():
                self.wrong.append("the stream has ended by itself")
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _live(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._product.port)
        body = {**chat(True, 1_000_000), "interval_us": INTERVAL_US}
        writer.write(request("/v1/chat/completions", self._product.key, body))
        try:
            while data := await reader.read(65536):
                now = time.monotonic()
                for made_at in _AT.findall(data):
                    self._read_at.append(now)
                    self._delays.append(now - int(made_at) / 1e6)
        finally:
            writer.close()

    async def hear(self, tokens: int) -> None:
        """
        Wait until so many more have come, as long as they may be late at most.
        """
        wanted, end = len(self._read_at) + tokens, time.monotonic() + _LATE_SECONDS
        while len(self._read_at) < wanted and time.monotonic() < end:
            await asyncio.sleep(INTERVAL_US / 1e6)

    def row(self, begun: float, end: float) -> str:
        """
        The figures of the tokens that were read between two moments, as cells.
        """
        first, last = bisect_left(self._read_at, begun), bisect_left(self._read_at, end)
        times = self._read_at[first:last]
        gaps = [(after - before) * 1e3 for before, after in pairwise(times)]
        if not gaps:
            self.wrong.append("the stream stood still")
            return "0 | | | |"
        delays = [delay * 1e3 for delay in self._delays[first:last]]
        cells = (percentile(gaps, 0.5), percentile(gaps, 0.99), max(gaps), percentile(delays, 0.99))
        return " | ".join([str(len(gaps)), *(f"{cell:.2f}" for cell in cells)])
