"""
Signals to the gateway and to its engine, at random moments under load.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from statistics import median

from crowd import Crowd
from hostile_clients import CHAT, Client
from ledger import Ledger
from product import Product
from questions import chat, request
from tally import Tally
from terms import TOKENS, Terms, large_question, mock_product
from vitals import is_alive, orphans, started_at
from wire import Wire

_KILLS_PER_LIFE = 3
_DRAINING = (503, "draining")


class Deaths:
    """
    Tries them, each on a gateway of its own.
    """

    def __init__(self, directory: Path, tally: Tally, seed: int) -> None:
        self._directory = directory
        self._tally = tally
        self._seed = seed
        self._random = Random(f"{seed} deaths")

    # -- clients that leave ------------------------------------------------------

    async def leavers(self, number: int) -> None:
        """
        So many clients leave at random moments, twelve of them at a time.
        """
        if not number:
            return
        product = mock_product(self._directory / "leavers")
        ledger = Ledger("leaver")
        terms = Terms(tuple(product.keys.values()), most_tokens=TOKENS)
        left = number

        async def one_after_the_other(at: int) -> None:
            nonlocal left
            client = Client(product, ledger, terms, Random(f"{self._seed} leaver {at}"), {})
            while left > 0:
                left -= 1
                await client.leaver()

        try:
            product.start()
            await product.wait()
            await asyncio.gather(*(one_after_the_other(at) for at in range(12)))
            queue = await product.settles()
            if queue != (0, 0):
                ledger.wrong(f"(active, waiting) stays at {queue}")
            if busy := await product.engine_busy():
                ledger.wrong(f"the engine works at {busy} requests of nobody")
            # Every slot is there, and none twice.
            queue = await self._fill(product, 8 + 3)
            if queue != (8, 3):
                ledger.wrong(f"11 requests for 8 slots: (active, waiting) is {queue}")
            for wrong in await product.end():
                ledger.wrong(wrong)
            ledger.compare_log(product.access_lines())
        finally:
            product.kill()
        self._tally.add_all("clients that leave under load", number, ledger.failures)

    async def _fill(self, product: Product, number: int) -> tuple[int, int]:
        wires = [await Wire.open(product.port) for _ in range(number)]
        for wire in wires:
            await wire.send(request(CHAT, product.key, chat(True, TOKENS)))
        most = (0, 0)
        end = time.monotonic() + 1
        while time.monotonic() < end and most[0] + most[1] < number:
            most = max(most, await product.queue())
        for wire in wires:
            wire.close()
        await product.settles()
        return most

    # -- SIGTERM -------------------------------------------------------------------

    async def sigterms(self, number: int) -> None:
        """
        End a gateway under load, again and again on the same ports.
        """
        if not number:
            return
        product = mock_product(self._directory / "sigterm")
        raced: Counter[str] = Counter()
        try:
            for at in range(number):
                product.start()
                await product.wait()
                raced += await self._sigterm(product, at)
        finally:
            product.kill()
        self._tally.figures["SIGTERM: raced with the closing of the connection, never read"] = (
            ", ".join(f"{number} on {why}" for why, number in sorted(raced.items())) or "none"
        )

    async def _sigterm(self, product: Product, at: int) -> Counter[str]:
        ledger = Ledger(f"term-{at}")
        children = product.running.pids()[1:]
        ending = asyncio.Event()
        load = [
            asyncio.create_task(
                self._ask_until(product, ledger, ending, Random(f"{self._seed} {at} {n}"))
            )
            for n in range(12)
        ]
        await asyncio.sleep(self._random.uniform(0.1, 0.6))
        signal_at = time.monotonic()
        product.signal(signal.SIGTERM)
        status = await product.wait_ended(40)
        took = time.monotonic() - signal_at
        ending.set()
        await asyncio.gather(*load)
        row = "SIGTERM under load"
        left = await orphans(children)
        wrong = f"exit status {status} after {took:.1f} s" if status != 0 else ""
        complaints = product.complaints()
        self._tally.add(row, wrong or "; ".join(left + complaints))
        lines = product.access_lines()
        logged = {line[6]: line[3] for line in lines}
        raced: Counter[str] = Counter()
        for ask in ledger.asks:
            if ask.verdict == "unread" and ask.id in logged:
                ask.verdict, ask.why = (
                    "wrong",
                    f"accepted, logged {logged[ask.id]}, and not answered",
                )
            raced[ask.why] += ask.verdict == "unread"
        # What was never read is no accepted request.
        for ask in ledger.asks:
            if ask.verdict != "unread":
                failed = ask.verdict == "wrong" or not ask.verdict
                self._tally.add("requests accepted before or during it", (failed and ask.why) or "")
        return +raced

    async def _ask_until(
        self, product: Product, ledger: Ledger, ending: asyncio.Event, random: Random
    ) -> None:
        """
        Ask until nobody listens, on connections that are used again and again.
        """
        wire: Wire | None = None
        fresh = True
        while not ending.is_set():
            if wire is None:
                try:
                    wire = await Wire.open(product.port)
                except (OSError, TimeoutError):
                    await asyncio.sleep(0.01)
                    continue
                fresh = True
            stream = random.random() < 0.5
            ask = ledger.ask("stream" if stream else "plain")
            body = chat(stream, random.randint(1, TOKENS))
            await wire.send(request(CHAT, product.key, body, request_id=ask.id))
            answer = await wire.answer()
            if answer.ending == "none":
                ask.end("unread", f"{'new' if fresh else 'kept'} connections ({answer.detail})")
            elif ask.judge(answer, (_DRAINING,)) and stream and not answer.is_done:
                ask.verdict, ask.why = "wrong", f"a stream without its end: {answer}"
            if ask.verdict != "whole" or answer["connection"] == "close":
                wire.close()
                wire = None
            fresh = False
        if wire is not None:
            wire.close()

    # -- kill -9 -------------------------------------------------------------------

    async def engine_kills(self, number: int) -> None:
        """
        Kill the engine under load.  A gateway sees a few of them in a row,
        since the pause before a restart doubles with each.
        """
        beyond: list[float] = []
        done = 0
        while done < number:
            product = mock_product(self._directory / f"killed-{done}")
            try:
                product.start()
                await product.wait()
                for at in range(min(_KILLS_PER_LIFE, number - done)):
                    beyond.append(await self._engine_kill(product, at, done))
                    done += 1
                self._tally.add("the gateway's own end", "; ".join(await product.end()))
            finally:
                product.kill()
        if beyond:
            self._tally.figures[
                "kill -9 of the engine: to the next answer, beyond backoff and load"
            ] = f"median {median(beyond):.2f} s, at most {max(beyond):.2f} s"

    async def _engine_kill(self, product: Product, in_row: int, number: int) -> float:
        row = "kill -9 of the engine"
        ledger = Ledger(f"kill-{number}")
        terms = Terms(tuple(product.keys.values()), faults=True, most_tokens=TOKENS)
        clients = [
            Client(product, ledger, terms, Random(f"{self._seed} {number} {n}"), {})
            for n in range(8)
        ]
        load = [asyncio.create_task(client.plain(n % 2 == 0)) for n, client in enumerate(clients)]
        await asyncio.sleep(self._random.uniform(0.02, 0.25))
        pid = await product.engine_pid()
        os.kill(pid, signal.SIGKILL)
        killed_at = time.time()
        next_at = 0.0
        while not next_at and time.time() < killed_at + 60:
            wire = await Wire.open(product.port, 30)
            await wire.send(request(CHAT, product.key, chat(False, 1)))
            answer = await wire.answer()
            wire.close()
            if answer.status == 200 and answer.ending == "whole":
                next_at = time.time()
        await asyncio.gather(*load)
        self._tally.add_all("requests around it", len(ledger.asks), ledger.failures)
        engine = (await product.health())["engine"]
        if not next_at or engine["pid"] in (None, pid):
            self._tally.add(row, f"not served again within a minute: {engine}")
            return 0.0
        load_seconds = engine["ready_since"] - started_at(engine["pid"])
        beyond = next_at - killed_at - 2.0**in_row - load_seconds
        queue = await product.settles()
        wrong = f"(active, waiting) stays at {queue}" if queue != (0, 0) else ""
        if is_alive(pid):
            wrong = "the engine killed is still there"
        if beyond >= 1.0:
            wrong = f"the next answer came {beyond:.2f} s later than it could have"
        self._tally.add(row, wrong)
        return max(0.0, beyond)

    async def gateway_kills(self, number: int) -> None:
        """
        Kill the gateway under load; its engine dies with it, and it starts again at once.
        """
        if not number:
            return
        product = mock_product(self._directory / "gateway-killed")
        row = "kill -9 of the gateway"
        try:
            for _ in range(number):
                product.start()
                await product.wait()
                children = product.running.pids()[1:]
                wires = [await Wire.open(product.port) for _ in range(4)]
                for wire in wires:
                    await wire.send(request(CHAT, product.key, chat(True, TOKENS)))
                await asyncio.sleep(self._random.uniform(0, 0.2))
                product.signal(signal.SIGKILL)
                await product.wait_ended()
                for wire in wires:
                    wire.close()
                left = await orphans(children, 2.0)
                self._tally.add(row, "; ".join(left) if children else "it had no engine")
            product.start()
            await product.wait()
            self._tally.add("the gateway's own end", "; ".join(await product.end()))
            files = list(Path("/dev/shm").glob(f"twisted-llama-{product.pid}-*"))
            self._tally.add("key files left after the last good end", f"{files}" if files else "")
        finally:
            product.kill()

    # -- all at once -----------------------------------------------------------------

    async def storm(self, seconds: float) -> None:
        """
        The mixed load, while the engine is killed and stopped and the gateway
        reloads, at moments that the seed decides.
        """
        if seconds <= 0:
            return
        product = mock_product(self._directory / "storm", {"MAX_QUEUE_SIZE": 12})
        ledger = Ledger("storm")
        path, body = large_question(mock=True)
        terms = Terms(
            tuple(product.keys.values()), faults=True, long_path=path, long_body=body,
            most_tokens=TOKENS, most_body_bytes=10485760,
        )  # fmt: skip
        faults = {"engine killed": 0, "engine stopped": 0, "SIGHUP": 0}
        try:
            product.start()
            crowd = await self._begin(product, ledger, terms)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await asyncio.sleep(min(self._random.expovariate(1), 4))
                await self._strike(product, faults)
            await crowd.end()
            await product.wait()
            queue = await product.settles()
            if queue != (0, 0):
                ledger.wrong(f"(active, waiting) stays at {queue}")
            if busy := await product.engine_busy():
                ledger.wrong(f"the engine works at {busy} requests of nobody")
            for wrong in await product.end():
                ledger.wrong(wrong)
            ledger.compare_log(product.access_lines())
        finally:
            product.kill()
        print(f"\nThe storm: {faults}\n{ledger.table()}\n", flush=True)
        self._tally.add_all("requests in the storm", len(ledger.asks), ledger.failures)

    async def _begin(self, product: Product, ledger: Ledger, terms: Terms) -> Crowd:
        await product.wait("/health")
        crowd = Crowd(product, ledger, terms, self._seed, 16)
        crowd.go()
        return crowd

    async def _strike(self, product: Product, faults: dict[str, int]) -> None:
        fault = self._random.choices(list(faults), (2, 3, 3))[0]
        pid = await product.engine_pid()
        if fault == "SIGHUP":
            product.signal(signal.SIGHUP)
        elif not pid:
            return
        else:
            # It may be gone by now; then there is nothing to do.
            with suppress(ProcessLookupError):
                if fault == "engine killed":
                    os.kill(pid, signal.SIGKILL)
                else:
                    os.kill(pid, signal.SIGSTOP)
                    await asyncio.sleep(self._random.choice((0.2, 1.0, 3.0)))
                    os.kill(pid, signal.SIGCONT)
        faults[fault] += 1
