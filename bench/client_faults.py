"""
Faults of the client, each at every stage of an exchange: the engine has to be
free at once, and the log has to say why.
"""

from __future__ import annotations

import asyncio
from random import Random

from engine_faults import EngineFaults
from product import Product
from questions import request
from scripted_engine import SCRIPT, Script, ScriptedEngine, until
from tally import Tally
from wire import Wire

#: How far an exchange has come when the client goes.
STAGES = (
    "connected", "in the request line", "in the headers", "before the body", "in the body",
    "asked", "head came", "in an event", "answered",
)  # fmt: skip
LEAVES = ("closes", "resets", "half-closes")
_BODY = b'{"prompt": "' + b"hello " * 40 + b'"}'


class ClientFaults:
    """
    Tries them, on a gateway in front of the scripted engine.
    """

    def __init__(self, product: Product, engine: ScriptedEngine, tally: Tally) -> None:
        self._product = product
        self._engine = engine
        self._tally = tally
        self._number = 0
        self._logged: dict[str, str] = {}

    async def run(self, rounds: int, random: Random, slots: EngineFaults) -> None:
        """
        @param rounds: how often each of them.
        @param slots: looks whether all slots are free.
        """
        for stage in STAGES:
            for how in LEAVES:
                self._tally.add(f"client {how}, {stage}", count=0)
        for _ in range(rounds):
            kinds = [(stage, how, s) for stage in STAGES for how in LEAVES for s in (True, False)]
            random.shuffle(kinds)
            for at in range(0, len(kinds), 6):
                await asyncio.gather(*(self._leaves(*kind) for kind in kinds[at : at + 6]))
            await slots.probe()
            for stream in (True, False):
                await self._sends_more(stream)
                for stage in ("at once", "asked", "head came"):
                    await self._asks_again(stage, stream)
            await slots.probe()

    def _request(self, script: Script, body: bytes = _BODY) -> tuple[str, bytes]:
        self._number += 1
        request_id = f"client-{self._number}"
        fields = (f"{SCRIPT}: {script}",)
        key = self._product.key
        return request_id, request(
            "/v1/completions", key, body, request_id=request_id, fields=fields
        )

    async def _leaves(self, stage: str, how: str, stream: bool) -> None:
        row = f"client {how}, {stage}"
        try:
            wrong = await self._leave(row, stage, how, stream)
        except Exception as error:  # one that fails is told of, and ends nothing
            wrong = repr(error)
        self._tally.add(row, wrong and f"stream {stream}: {wrong}")

    async def _leave(self, row: str, stage: str, how: str, stream: bool) -> str:
        framing = "chunked" if stream else "length"
        script = {
            "asked": Script(stream, framing, "", "holds"),
            "head came": Script(stream, framing, "after head", "hangs"),
            "in an event": Script(stream, framing, "mid-event", "hangs"),
        }.get(stage, Script(stream, framing))
        if stage == "asked":
            self._engine.release.clear()
        request_id, sent = self._request(script)
        head_bytes = sent.index(b"\r\n\r\n") + 4
        wire = await Wire.open(self._product.port, 10)
        part = {
            "connected": 0,
            "in the request line": 12,
            "in the headers": head_bytes - 20,
            "before the body": head_bytes,
            "in the body": head_bytes + 50,
        }.get(stage, len(sent))
        await wire.send(sent[:part])
        if stage in ("head came", "in an event"):
            most = 1 if stage == "in an event" else 0
            answer = await wire.answer(enough=lambda answer: len(answer.content) >= most)
            if answer.ending != "left":
                return f"it did not come so far: {answer}"
        elif stage == "asked":
            if not await until(lambda: request_id in self._engine.seen, 5):
                return "it did not come so far"
        elif stage == "answered":
            answer = await wire.answer()
            if answer.status != 200 or answer.ending != "whole":
                return f"{answer}"
        else:
            await asyncio.sleep(0.1)
        if stage in ("before the body", "in the body", "asked", "head came", "in an event"):
            self._logged[request_id] = f"{row}, stream {stream}"
        wrong = ""
        if how == "half-closes":
            wire.half_close()
            if stage in ("connected", "asked", "answered") and not await wire.ended(2):
                wrong = f"the connection goes on: {wire.excess[:80]!r}"
            elif not wrong:
                rest = await wire.answer()
                if rest.ending in ("late", "broken") and stage not in ("head came", "in an event"):
                    wrong = f"{rest}"
        wire.close(with_reset=how == "resets")
        seen = self._engine.seen.get(request_id)
        if seen is not None and not await until(seen.gone.is_set, 1.0):
            return wrong or "the engine still works a second later"
        if seen is not None and part < len(sent):
            return wrong or "the engine was asked, although the request was not whole"
        return wrong

    async def _sends_more(self, stream: bool) -> None:
        _, sent = self._request(Script(stream, "chunked"))
        asked = self._engine.asked
        wire = await Wire.open(self._product.port, 10)
        await wire.send(sent + b"and more than it said\r\n\r\n")
        answer, second = await wire.answer(), await wire.answer()
        wrong = ""
        if answer.status != 200 or answer.ending != "whole":
            wrong = f"{answer}"
        elif second.status != 400 or second.code != "bad_request" or not await wire.ended():
            wrong = f"then {second}"
        elif self._engine.asked != asked + 1:
            wrong = f"the engine was asked {self._engine.asked - asked} times"
        wire.close()
        self._tally.add("client sends more than it said", wrong)

    async def _asks_again(self, stage: str, stream: bool) -> None:
        row = f"client asks again early, {stage}"
        fault = {"asked": "holds", "head came": "holds"}.get(stage, "none")
        self._engine.release.clear()
        first_id, first = self._request(Script(stream, "chunked", "", fault))
        second_id, second = self._request(Script(not stream, "chunked"))
        wire = await Wire.open(self._product.port, 10)
        if stage == "at once":
            await wire.send(first + second)
        else:
            await wire.send(first)
            await until(lambda: first_id in self._engine.seen, 5)
            await wire.send(second[:30])
            if stage == "head came":
                await wire.send(second[30:])
            await asyncio.sleep(0.05)
            self._engine.release.set()
            if stage == "asked":
                await wire.send(second[30:])
        answers = [await wire.answer(), await wire.answer()]
        wire.close()
        right = [answer["x-request-id"] for answer in answers] == [first_id, second_id]
        right = right and all(a.status == 200 and a.ending == "whole" for a in answers)
        self._tally.add(row, "" if right else f"{answers[0]}; {answers[1]}")

    def compare_log(self) -> None:
        """
        To be called once the gateway has ended: who left has its one line, and
        that says 499.
        """
        statuses: dict[str, list[str]] = {}
        for line in self._product.access_lines():
            statuses.setdefault(line[6], []).append(line[3])
        for request_id, row in self._logged.items():
            found = statuses.get(request_id, [])
            wrong = "" if found == ["499"] else f"{request_id}, {row}: {found}"
            self._tally.add("client left, in the access log", wrong)
