"""
A real disk that fills up: a small tmpfs under the logs.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from hostile_clients import CHAT
from ledger import Ledger
from product import Product
from questions import chat, request
from tally import Tally
from terms import mock_product
from wire import Wire

_SIZE = "256k"
_CLIENTS = 8
_LOST = re.compile(rb"^llm_gateway_log_lines_lost_total (\S+)$", re.MULTILINE)


async def lost_lines(product: Product) -> int:
    """
    How many lines are lost, as C{/metrics} says.
    """
    _, page = await product.page("/metrics", "text/plain")
    found = _LOST.search(page)
    return int(float(found[1])) if found else -1


async def ask(product: Product, ledger: Ledger, kind: str, count: int) -> None:
    """
    So many requests, some at a time.
    """
    left = count

    async def one_after_the_other() -> None:
        nonlocal left
        wire = await Wire.open(product.port)
        while left > 0:
            left -= 1
            asked = ledger.ask(kind)
            await wire.send(request(CHAT, product.key, chat(False, 2), request_id=asked.id))
            asked.judge(await wire.answer())
        wire.close()

    await asyncio.gather(*(one_after_the_other() for _ in range(_CLIENTS)))


def fill(directory: Path) -> Path:
    """
    Leave no room in a file system.
    """
    filler = directory / "filler"
    with filler.open("wb", 0) as file, suppress(OSError):
        while file.write(b"x" * 512):
            pass
    return filler


async def full_disk(directory: Path, tally: Tally, count: int) -> None:
    """
    Requests before, while and after there is no room for logs.

    @param count: how many while there is none.
    """
    product = mock_product(directory / "disk")
    logs = product.directory / "logs"
    logs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(logs)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        tally.figures["a full disk"] = "not tried: only root can mount a small file system"
        return
    ledger = Ledger("disk")
    try:
        product.start()
        await product.wait()
        await ask(product, ledger, "before", 100)
        # The lines are written by a thread of their own.
        await asyncio.sleep(1)
        filler = fill(logs)
        await ask(product, ledger, "while it is full", count)
        await asyncio.sleep(1)
        lost = await lost_lines(product)
        filler.unlink()
        await ask(product, ledger, "after", 100)
        end = time.monotonic() + 10
        ids = {ask.id for ask in ledger.asks}
        while True:
            # A line that was cut short when the disk was full may have all its fields but
            # not all of its request's id.
            there = ids & {line[6] for line in product.access_lines() if len(line) == 7}
            if len(there) + lost == len(ledger.asks) or time.monotonic() > end:
                break
            await asyncio.sleep(0.1)
        if len(there) + lost != len(ledger.asks):
            ledger.wrong(f"{len(ledger.asks)} asked, {len(there)} in the log, {lost} lost")
        if not lost:
            ledger.wrong("nothing was lost: the disk was not full")
        if missing := [
            ask.id for ask in ledger.asks if ask.kind == "after" and ask.id not in there
        ]:
            ledger.wrong(f"not in the log when there was room again: {missing}")
        for wrong in await product.end():
            ledger.wrong(wrong)
    finally:
        product.kill()
        subprocess.run(["umount", "--lazy", str(logs)], capture_output=True, check=False)
    tally.add_all("requests around a full disk", len(ledger.asks), ledger.failures)
    tally.figures["a full disk"] = f"{lost} lines lost and counted, {len(there)} in the log"
