"""
Many clients at once, each choosing what it does from a seed of its own.
"""

from __future__ import annotations

import asyncio
from random import Random

from hostile_clients import Client, Scenario
from ledger import Ledger
from product import Product
from terms import Terms

#: Scenarios of the mixed load, and how often each is chosen.
MIX: tuple[tuple[Scenario, int], ...] = (
    (Client.plain, 20), (Client.streams, 20), (Client.leaver, 20), (Client.polls, 8),
    (Client.chunked, 6), (Client.http_1_0, 6), (Client.pipelined, 6), (Client.bad_bytes, 8),
    (Client.stranger, 5), (Client.off_limits, 3), (Client.over_limit, 4), (Client.expecting, 3),
    (Client.slow_reader, 1), (Client.stuck_reader, 1),
)  # fmt: skip


def over_the_limit(times: list[tuple[float, float]], limit: int) -> bool:
    """
    Whether more than C{limit} were surely accepted within some 60 seconds.

    @param times: when each was sent and answered; it was accepted between.
    """
    times = sorted(times)
    for at in range(len(times) - limit):
        some = times[at : at + limit + 1]
        if max(answered for _, answered in some) - min(sent for sent, _ in some) < 60:
            return True
    return False


class Crowd:
    """
    Many clients at once, for as long as it takes.
    """

    def __init__(
        self, product: Product, ledger: Ledger, terms: Terms, seed: int, size: int
    ) -> None:
        self.accepted: dict[str, list[tuple[float, float]]] = {}
        self._ledger = ledger
        self._terms = terms
        self._clients = [
            Client(product, ledger, terms, Random(f"{seed} {at}"), self.accepted)
            for at in range(size)
        ]
        self._going = asyncio.Event()
        self._ends = False
        self._inside = 0
        self._tasks = [asyncio.create_task(self._live(client)) for client in self._clients]

    async def _live(self, client: Client) -> None:
        scenarios = [scenario for scenario, _ in MIX]
        weights = [weight for _, weight in MIX]
        while not self._ends:
            await self._going.wait()
            if self._ends:
                return
            scenario = client.random.choices(scenarios, weights)[0]
            self._inside += 1
            try:
                await scenario(client)
            except Exception as error:  # one that fails is told of, and ends nothing
                self._ledger.wrong(f"{scenario.__name__}: {error!r}")
                await asyncio.sleep(0.1)
            finally:
                self._inside -= 1
            await asyncio.sleep(client.random.expovariate(50))

    def go(self) -> None:
        """
        Begin, or go on.
        """
        self._going.set()

    async def rest(self) -> None:
        """
        Pause, and wait until all that was begun has ended.
        """
        self._going.clear()
        while self._inside:
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """
        End for good.
        """
        await self.rest()
        self._ends = True
        self._going.set()
        await asyncio.gather(*self._tasks)
        for times in self.accepted.values():
            if over_the_limit(times, self._terms.limit):
                self._ledger.wrong(f"a key was served more than {self._terms.limit} times a minute")
