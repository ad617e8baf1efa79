"""
Faults of the engine, each at every stage of an answer, and what a client has to
get then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from product import Product, make_secret
from questions import request
from scripted_engine import FAULTS, SCRIPT, STAGES, Script, ScriptedEngine, until
from tally import Tally
from wire import Answer, Wire

SLOTS = 8
SILENCE_SECONDS = 1.5
_LANES = 6
_BATCH = 30
_FLOOD_BYTES = 400_000
_EARLY_BYTES = 9_000_000


def scripted_product(directory: Path, engine: ScriptedEngine) -> Product:
    """
    A gateway in front of the scripted engine.
    """
    settings = {
        "ENGINE": "external",
        "BACKEND_HOST": "127.0.0.1",
        "PORT_BACKEND": engine.port,
        "MAX_CONCURRENT_REQUESTS": SLOTS,
        "REQUEST_TIMEOUT": SILENCE_SECONDS,
    }
    return Product(directory, settings, {"user": make_secret()})


def all_faults() -> Iterator[Script]:
    """
    Every fault at every stage in every form of an answer that can have it.
    """
    forms = ((True, "chunked"), (False, "length"), (False, "chunked"))
    for stage in STAGES:
        for fault in FAULTS:
            if (stage, fault) == ("after end", "hangs"):
                # That is what a good engine does.
                continue
            for stream, framing in forms:
                yield Script(stream, framing, stage, fault)
    for fault in ("early", "early reset"):
        yield Script(False, "length", "before body", fault)


def has_enough(script: Script, answer: Answer) -> bool:
    """
    Whether the client has got so much from an engine that never ends that it
    need not see more.
    """
    return script.fault == "for ever" and len(answer.content) > _FLOOD_BYTES


def broken_promise(script: Script, answer: Answer, request_id: str) -> str:
    """
    Compare an answer with what was promised.

    @return: how it differs; empty if it does not.
    """
    whole = answer.ending == "whole"
    ours = whole and bool(answer.code)
    if answer.ending in ("none", "broken", "late"):
        return f"{answer}"
    if answer.status and answer["x-request-id"] != request_id:
        return f"another one's answer: {answer}"
    if script.fault.startswith("early"):
        fine = (whole and answer.status == 200) or (
            script.fault == "early reset" and (answer.ending == "cut" or answer.status == 502)
        )
        return "" if fine else f"{answer}"
    if script.stage in ("before head", "in head"):
        late = script.fault == "hangs" or (script.fault == "for ever" and answer.status == 504)
        wanted = (504, "engine_timeout") if late else (502, "engine_unavailable")
        return "" if ours and (answer.status, answer.code) == wanted else f"{answer}"
    if answer.status != 200:
        return f"{answer}"
    if script.stage == "after end":
        if not whole:
            return f"{answer}"
        return "" if _is_right(script, answer, request_id) else f"it was changed: {answer}"
    if script.fault in ("garbage", "for ever") and script.framing == "length":
        # Bytes of the body cannot be told from others.
        return "" if answer.ending in ("whole", "cut") else f"{answer}"
    if script.fault == "for ever" and script.stage in ("after head", "mid-event"):
        return "" if answer.ending == "left" else f"not passed on: {answer}"
    if answer.ending != "cut":
        return f"it looks whole: {answer}"
    if not script.stream:
        return ""
    wanted_code = "engine_timeout" if script.fault == "hangs" else "engine_unavailable"
    return "" if answer.last_error == wanted_code else f"no such event at its end: {answer}"


def _is_right(script: Script, answer: Answer, request_id: str) -> bool:
    if script.stream:
        return answer.is_done and all(request_id in event for event in answer.events[:-1])
    try:
        return bool(json.loads(answer.body)["id"] == request_id)
    except (ValueError, KeyError):
        return False


class EngineFaults:
    """
    Tries them.
    """

    def __init__(self, product: Product, engine: ScriptedEngine, tally: Tally) -> None:
        self._product = product
        self._engine = engine
        self._tally = tally
        self._number = 0

    async def run(self, number: int, random: Random) -> None:
        """
        @param number: how many faults; all kinds in turn, in random order.
        """
        kinds = list(all_faults())
        for kind in kinds:
            self._tally.add(f"{kind.fault}, {kind.stage}", count=0)
        random.shuffle(kinds)
        plan = [kinds[at % len(kinds)] for at in range(number)]
        await self.queue_behind_streams()
        for at in range(0, number, _BATCH):
            batch = plan[at : at + _BATCH]
            lanes = iter([script for script in batch if script.stage != "after end"])
            await asyncio.gather(*(self._lane(lanes) for _ in range(_LANES)))
            # What befalls a kept connection at the very moment of the next request
            # nobody can know; so these have the gateway for themselves.
            await self._lane(iter([script for script in batch if script.stage == "after end"]))
            await self.probe()

    async def queue_behind_streams(self) -> None:
        """
        llama-server closes the connection after every stream, without having
        said so: who waited for its slot must not be sent there.
        """
        script = Script(True, "chunked", "after end", "closes")

        async def one() -> None:
            request_id = self._next_id()
            wire = await Wire.open(self._product.port, 10)
            await wire.send(self._request(request_id, script, b"{}"))
            answer = await wire.answer()
            wire.close()
            wrong = broken_promise(script, answer, request_id)
            self._tally.add("queue behind streams that end with the connection", wrong)

        await asyncio.gather(*(one() for _ in range(4 * SLOTS)))

    def _next_id(self) -> str:
        self._number += 1
        return f"fault-{self._number}"

    async def _lane(self, scripts: Iterator[Script]) -> None:
        for script in scripts:
            row = f"{script.fault}, {script.stage}"
            try:
                await self._fault(row, script)
                if script.stage == "after end":
                    await asyncio.sleep(0.05)
                await self._next(row)
            except Exception as error:  # one that fails is told of, and ends nothing
                self._tally.add(row, f"{script}: {error!r}")

    async def _fault(self, row: str, script: Script) -> None:
        request_id = self._next_id()
        early = script.fault.startswith("early")
        body = b" " * _EARLY_BYTES if early else b'{"prompt": "hello"}'
        wire = await Wire.open(self._product.port, 10 + 2 * SILENCE_SECONDS)
        await wire.send(self._request(request_id, script, body))
        answer = await wire.answer(enough=lambda answer: has_enough(script, answer))
        wrong = broken_promise(script, answer, request_id)
        if not wrong and answer.ending in ("left", "cut") and not await self._closes(wire, answer):
            wrong = "the connection stays open"
        wire.close()
        seen = self._engine.seen.get(request_id)
        if seen is None:
            wrong = wrong or "it never came to the engine"
        elif not await until(seen.gone.is_set, 2 * SILENCE_SECONDS + 5):
            wrong = wrong or "the engine's connection stays open"
        self._tally.add(row, wrong and f"{script}: {wrong}")

    @staticmethod
    async def _closes(wire: Wire, answer: Answer) -> bool:
        return answer.ending == "left" or await wire.ended(5)

    async def _next(self, row: str) -> None:
        request_id = self._next_id()
        wire = await Wire.open(self._product.port, 10)
        await wire.send(self._request(request_id, Script(False, "length"), b"{}"))
        answer = await wire.answer()
        wire.close()
        right = answer.status == 200 and answer.ending == "whole"
        right = right and _is_right(Script(False), answer, request_id)
        self._tally.add("the next request", "" if right else f"after {row}: {answer}")

    def _request(self, request_id: str, script: Script, body: bytes) -> bytes:
        fields = (f"{SCRIPT}: {script}",)
        key = self._product.key
        return request("/v1/completions", key, body, request_id=request_id, fields=fields)

    async def probe(self) -> None:
        """
        See whether every slot is free, and none is there twice: of more
        requests than slots, just as many as slots come to the engine.
        """
        engine, row = self._engine, "all slots free, once"
        queue = await self._product.settles()
        if queue != (0, 0):
            self._tally.add(row, f"(active, waiting) stays at {queue}")
            return
        engine.release.clear()
        engine.most_working = engine.working
        wires = [await Wire.open(self._product.port, 10) for _ in range(SLOTS + 2)]
        for wire in wires:
            await wire.send(
                self._request(self._next_id(), Script(False, "length", "", "holds"), b"{}")
            )
        await until(lambda: engine.working >= SLOTS, 1.0)
        await asyncio.sleep(0.05)
        working, queue = engine.working, await self._product.queue()
        engine.release.set()
        answers = [await wire.answer() for wire in wires]
        for wire in wires:
            wire.close()
        wrong = ""
        if working != SLOTS or queue != (SLOTS, 2):
            wrong = f"{working} at the engine, (active, waiting) {queue}"
        elif any(answer.status != 200 or answer.ending != "whole" for answer in answers):
            wrong = "; ".join(map(str, answers))
        self._tally.add(row, wrong)
