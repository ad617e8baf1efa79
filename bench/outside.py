"""
Clients that live in processes of their own: good ones, by the load generator,
and thousands of others.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import flatten
from product import Product
from programs import HERE, BenchError, build

Sample = dict[str, float]


class Outside:
    """
    The process with all those connections.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def come(cls, product: Product, kind: str, count: int) -> Outside:
        """
        Have them come.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "besiegers.py"), str(product.port), kind, str(count),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        outside = cls(process)
        await outside.say(product.key)
        return outside

    async def say(self, line: str) -> None:
        """
        A key or a command.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def hears(self, event: str, seconds: float = 120.0) -> dict[str, Any]:
        """
        Wait for the next event.

        @raise BenchError: it is another one, or none.
        """
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), seconds)
        except TimeoutError:
            raise BenchError(f"not {event!r} within {seconds:g} s") from None
        found = json.loads(line or b"{}")
        if found.get("event") != event:
            raise BenchError(f"expected {event!r}, not {line!r}")
        return dict(found)

    async def leave(self) -> None:
        """
        All go.
        """
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def load(product: Product, seconds: float, options: Sequence[str], key_file: Path) -> Sample:
    """
    Good clients for a while.
    """
    process = await asyncio.create_subprocess_exec(
        str(build("load")), "--port", str(product.port), "--keys-file", str(key_file),
        "--seconds", str(seconds), "--warmup", "0.5", *options,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    if process.returncode:
        raise BenchError(f"the load generator failed: {process.returncode}")
    return dict(flatten(json.loads(out)))
