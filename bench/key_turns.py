"""
Keys that come and go while requests are served: a new one has to hold, and the
one before it to be refused, from the moment the new file is in force.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from random import Random

from hostile_clients import CHAT, KEY_REFUSALS, QUEUE_REFUSALS
from ledger import Ledger
from product import Product, make_secret
from questions import chat, request
from wire import Answer, Wire

_IN_FORCE_SECONDS = {"SIGHUP": 5.0, "file": 15.0}


class KeyTurner:
    """
    Replaces the key file again and again.

    @ivar turns: how often, by the way the gateway learnt of it.
    @ivar verdicts: how often a key was tried after a turn.
    """

    def __init__(self, product: Product, ledger: Ledger, seed: int, stream_tokens: int) -> None:
        self._product = product
        self._ledger = ledger
        self._random = Random(f"{seed} keys")
        self._stream_tokens = stream_tokens
        self._old = ""
        self._number = 0
        self._turning = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.turns = {"reload": 0, "SIGHUP": 0, "file": 0, "bad file": 0}
        self.verdicts = 0

    def start(self) -> None:
        """
        Begin.
        """
        self._task = asyncio.create_task(self._live())

    async def rest(self) -> None:
        """
        Pause after the turn under way; C{go} on later.
        """
        await self._turning.acquire()

    def go(self) -> None:
        """
        Go on.
        """
        self._turning.release()

    async def end(self) -> None:
        """
        End after the turn under way.
        """
        await self.rest()
        if self._task is not None:
            self._task.cancel()

    async def _live(self) -> None:
        while True:
            async with self._turning:
                try:
                    await self._turn()
                except Exception as error:  # one that fails is told of, and ends nothing
                    self._ledger.wrong(f"while turning keys: {error!r}")
            await asyncio.sleep(self._random.expovariate(3))

    async def _turn(self) -> None:
        if self._random.random() < 0.1:
            await self._bad_file()
        way = self._random.choices(("reload", "SIGHUP", "file"), (6, 6, 1))[0]
        stream = None
        if self._old and self._random.random() < 0.2:
            stream = asyncio.create_task(self._doomed_stream(self._old))
            await asyncio.sleep(self._random.uniform(0.05, 0.3))
        new = make_secret()
        self._number += 1
        # Every other file holds one key more, so that it can be seen which is in force.
        lines = [f"turned:{new}"]
        if self._number % 2:
            lines.append(f"beside:{make_secret()}")
        count = self._product.write_keys(*lines)
        if way == "reload":
            await self._reload(count)
        else:
            if way == "SIGHUP":
                self._product.signal(signal.SIGHUP)
            await self._until_in_force(way, count)
        in_force_at = time.monotonic()
        self.turns[way] += 1
        await self._holds(new)
        if self._old:
            await self._is_refused(self._old)
        if stream is not None:
            answer, ended_at = await stream
            if answer.ending not in ("cut", "whole") or ended_at > in_force_at + 2:
                self._ledger.wrong(f"a removed key's stream went on after {way}: {answer}")
        self._old = new

    async def _until_in_force(self, way: str, count: int) -> None:
        end = time.monotonic() + _IN_FORCE_SECONDS[way]
        while (await self._product.health())["authentication"]["keys"] != count:
            if time.monotonic() > end:
                self._ledger.wrong(f"new keys were not in force in time after {way}")
                return
            await asyncio.sleep(0.01)

    async def _ask(self, kind: str, sent: bytes, ask_id: str) -> Answer:
        wire = await Wire.open(self._product.port)
        try:
            await wire.send(sent)
            return await wire.answer()
        finally:
            wire.close()

    async def _reload(self, count: int) -> None:
        ask = self._ledger.ask("reload")
        sent = request("/reload", self._product.key, b"", request_id=ask.id)
        answer = await self._ask("reload", sent, ask.id)
        if ask.judge(answer) and json.loads(answer.body) != {"status": "ok", "keys_loaded": count}:
            self._ledger.wrong(f"{count} keys, but /reload says {answer.body!r}")

    async def _bad_file(self) -> None:
        self._product.write_keys(content=b"turned:\xff\xfe broken\n" * 3)
        ask = self._ledger.ask("reload of a bad file")
        sent = request("/reload", self._product.key, b"", request_id=ask.id)
        ask.judge(await self._ask("reload", sent, ask.id), ((500, "reload_failed"),), ())
        self.turns["bad file"] += 1
        if self._old:
            await self._holds(self._old)

    async def _holds(self, key: str) -> None:
        ask = self._ledger.ask("key that holds")
        self.verdicts += 1
        answer = await self._ask("holds", request("/v1/models", key, request_id=ask.id), ask.id)
        ask.judge(answer, QUEUE_REFUSALS)

    async def _is_refused(self, key: str) -> None:
        ask = self._ledger.ask("removed key")
        self.verdicts += 1
        answer = await self._ask("gone", request("/v1/models", key, request_id=ask.id), ask.id)
        ask.judge(answer, KEY_REFUSALS, ())

    async def _doomed_stream(self, key: str) -> tuple[Answer, float]:
        ask = self._ledger.ask("stream of a removed key")
        body = chat(True, self._stream_tokens)
        answer = await self._ask("doomed", request(CHAT, key, body, request_id=ask.id), ask.id)
        ended_at = time.monotonic()
        if answer.ending == "cut" and answer.status == 200:
            right = answer.last_error == "invalid_api_key" and not answer.is_done
            ask.end("cut" if right else "wrong", f"key removed: {answer.last_error or answer}")
        else:
            ask.judge(answer, (*QUEUE_REFUSALS, *KEY_REFUSALS))
        return answer, ended_at
