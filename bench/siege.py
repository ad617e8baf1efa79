"""
What good clients notice of thousands of others: 10,000 idle connections while
one stream goes on, and 1,000 attackers of each slow kind.

    python bench/siege.py                        # all, some four minutes
    python bench/siege.py --only idle            # the idle ones
    python bench/siege.py --only head,body,read --attackers 200 --seconds 3

Good clients send small requests at a steady pace and open streams; the same
before, during and after.  Exit status 0: what is promised was kept; 1: it was not.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from besiegers import KINDS, PER_ADDRESS
from outside import Outside, Sample, load
from product import Product, make_secret
from programs import BenchError, raise_file_limit, start_engine
from stream_watch import StreamWatch
from vitals import Vitals, cpu_seconds

#: How much later than the end of a measurement attackers are thrown out.
_MARGIN_SECONDS = 6
_SMALL = ("--clients", "4", "--pause-us", "8000")
_STREAMS = ("--clients", "4", "--stream", "--tokens", "20", "--interval-us", "5000",
            "--pause-us", "8000")  # fmt: skip
#: What is compared: its name, the load it is taken from, the figure there.
FIGURES = (
    ("small request, p50 ms", "small", "total_ms.p50"),
    ("small request, p99 ms", "small", "total_ms.p99"),
    ("first token, p50 ms", "streams", "first_ms.p50"),
    ("first token, p99 ms", "streams", "first_ms.p99"),
    ("delay of a token, p99 ms", "streams", "delay_ms.p99"),
)
_NAMES = {"head": "slow heads", "body": "slow bodies", "read": "slow readers"}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections")
    parser.add_argument("--attackers", type=int, default=1000, help="of each kind")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="of each kind of attack")
    parser.add_argument("--most", type=float, default=2.0, help="p99, times that of quiet")
    parser.add_argument("--only", default=",".join(KINDS), help=f"some of {','.join(KINDS)}")
    options = parser.parse_args(argv)
    options.only = tuple(options.only.split(","))
    if unknown := set(options.only) - set(KINDS):
        parser.error(f"--only: nothing is called {', '.join(sorted(unknown))}")
    return options


def make_settings(options: argparse.Namespace, engine_port: int) -> dict[str, object]:
    """
    The defaults, but for time-outs that attackers run into soon.
    """
    timeout = options.seconds + _MARGIN_SECONDS
    return {
        "ENGINE": "external",
        "BACKEND_HOST": "127.0.0.1",
        "PORT_BACKEND": engine_port,
        # Slow readers have slots of the engine; more than it has would be a queue.
        "MAX_CONCURRENT_REQUESTS": 4 * options.attackers,
        "CLIENT_HEADER_TIMEOUT": timeout,
        "CLIENT_BODY_TIMEOUT": timeout,
        "CLIENT_WRITE_TIMEOUT": timeout,
        "KEEPALIVE_TIMEOUT": 900,
        # The stream and the status pages come beside the idle ones.
        "MAX_CONNECTIONS": max(options.idle, options.attackers) + 50,
    }


class Siege:
    """
    One gateway before the engine's stand-in, and what is found out about it.

    @ivar wrong: what was not as promised.
    @ivar lines: the report.
    """

    def __init__(self, options: argparse.Namespace, product: Product, key_file: Path) -> None:
        self._options = options
        self._product = product
        self._key_file = key_file
        self.wrong: list[str] = []
        self.lines: list[str] = []

    async def good_clients(self) -> dict[str, Sample]:
        """
        Measure for a while what they get.
        """
        seconds = self._options.seconds
        small, streams = await asyncio.gather(
            load(self._product, seconds, _SMALL, self._key_file),
            load(self._product, seconds, _STREAMS, self._key_file),
        )
        for name, sample in (("small requests", small), ("streams", streams)):
            if sample["all_bad"] or sample["unfinished"]:
                self.wrong.append(f"{name} of good clients: {sample['all_bad']:g} failed, "
                                  f"{sample['unfinished']:g} never ended")  # fmt: skip
        return {"small": small, "streams": streams}

    async def attack(self, kind: str) -> None:
        """
        Slow ones of one kind, against good clients before and after.
        """
        count = self._options.attackers
        quiet, besieged = [await self.good_clients()], []
        for _ in range(self._options.rounds):
            before = await self._still()
            outside = await Outside.come(self._product, kind, count)
            try:
                await outside.hears("there")
                besieged.append(await self.good_clients())
                ended = await outside.hears("ended")
                left = await self._still(before.fds)
            finally:
                await outside.leave()
            self.lines.append(
                f"{count} {_NAMES[kind]}: all ended within {ended['seconds']:.0f} s of the first "
                f"one's coming: {ended['how']}; then {left}"
            )
            allowed = {"head": "408", "body": "408", "read": "reset"}[kind]
            if ended["how"] != {allowed: count}:
                self.wrong.append(f"{_NAMES[kind]}: {ended['how']}, not {count} times {allowed}")
            # Fewer is right too: connections to the engine are kept for a while.
            if left.fds > before.fds:
                self.wrong.append(
                    f"{_NAMES[kind]}: {before.fds} descriptors before, {left.fds} after"
                )
            quiet.append(await self.good_clients())
        self._compare(f"{count} {_NAMES[kind]}", quiet, besieged)

    def _compare(self, name: str, quiet: list[dict[str, Sample]], during: list[Any]) -> None:
        self.lines += ["", f"| {name} | quiet | during | ratio |", "| --- | ---: | ---: | ---: |"]
        for title, of, figure in FIGURES:
            still = mean(sample[of][figure] for sample in quiet)
            then = mean(sample[of][figure] for sample in during)
            self.lines.append(f"| {title} | {still:.2f} | {then:.2f} | {then / still:.2f} |")
            if "p99" in title and "delay" not in title and then > self._options.most * still:
                self.wrong.append(f"{name}: {title} is {then / still:.2f} times that of quiet")
        self.lines.append("")

    async def _still(self, wanted_fds: int | None = None) -> Vitals:
        """
        Wait until the descriptors are what they should be, or stay the same.
        """
        end = time.monotonic() + 30
        seen, since = Vitals.of(self._product.pid), time.monotonic()
        while time.monotonic() < end:
            now = Vitals.of(self._product.pid)
            if wanted_fds is not None and now.fds <= wanted_fds:
                break
            if now.fds != seen.fds:
                seen, since = now, time.monotonic()
            if wanted_fds is None and time.monotonic() > since + 1:
                break
            await asyncio.sleep(0.1)
        return Vitals.of(self._product.pid)

    async def idle(self) -> None:
        """
        Very many idle ones while one stream goes on.
        """
        count, seconds, pid = self._options.idle, self._options.seconds, self._product.pid
        watch = StreamWatch(self._product)
        await watch.start()
        rows: list[str] = []

        @asynccontextmanager
        async def row(name: str) -> AsyncIterator[None]:
            begun, cpu = time.monotonic(), cpu_seconds(pid)
            yield
            # What takes less time than a token shows no gap between two.
            await watch.hear(2)
            end = time.monotonic()
            share = (cpu_seconds(pid) - cpu) / (end - begun)
            rows.append(f"| {name} | {watch.row(begun, end)} | {share:.1%} |")

        await asyncio.sleep(1)
        async with row("alone"):
            await asyncio.sleep(seconds)
        before = Vitals.of(pid)
        outside = await Outside.come(self._product, "idle", count)
        try:
            async with row("while they come"):
                there = await outside.hears("there")
            await asyncio.sleep(1)
            among = Vitals.of(pid)
            async with row("while they are there"):
                await asyncio.sleep(seconds)
            async with row("while all ask again"):
                await outside.say("again")
                again = await outside.hears("asked again")
        finally:
            await outside.leave()
        left = await self._still(before.fds)
        await watch.stop()
        self.wrong += watch.wrong
        for name, answered in (("at first", there["answered"]), ("at the end", again["answered"])):
            if answered != count:
                self.wrong.append(f"idle ones: {answered} of {count} were answered {name}")
        if left.fds > before.fds:
            self.wrong.append(f"idle ones: {before.fds} descriptors before, {left.fds} after")
        self.lines += ["", f"| one stream, a token every 20 ms, and {count} idle connections | "
                       "gaps | p50 ms | p99 ms | max ms | delay p99 ms | gateway's CPU |",
                       "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
        self.lines += rows
        per_connection = (among.rss_kb - before.rss_kb) / count
        self.lines += [
            "",
            f"{there['answered']} answered at first, {again['answered']} at the end, "
            f"{again['how']}; {per_connection:.1f} KiB of memory for each; "
            f"before: {before}; among them: {among}; after: {left}",
            "",
        ]


async def siege(options: argparse.Namespace, directory: Path) -> Siege:
    """
    @return: what was found.
    """
    kinds = [kind for kind in KINDS if kind in options.only]
    engine = start_engine(directory / "engine", 3600)
    product = Product(
        directory / "gateway",
        make_settings(options, engine.port),
        {"good": make_secret(), "other": make_secret()},
    )
    key_file = directory / "good-keys"
    key_file.write_text(product.keys["other"] + "\n")
    found = Siege(options, product, key_file)
    try:
        product.start()
        await product.wait()
        # What is loaded at the first request shall not be measured.
        await load(product, 1, _STREAMS, key_file)
        for kind in kinds:
            print(f"{kind} ...", flush=True)
            await (found.idle() if kind == "idle" else found.attack(kind))
        found.wrong += await product.end()
    finally:
        product.kill()
        engine.stop()
    return found


def main(argv: Sequence[str]) -> int:
    """
    @return: the exit status.
    """
    options = parse(argv)
    if raise_file_limit() < options.idle + 500:
        print(
            f"siege: {options.idle} connections need more open files: ulimit -Hn", file=sys.stderr
        )
        return 1
    if options.idle > 250 * PER_ADDRESS:
        print("siege: too many idle connections for 127.0.0.x", file=sys.stderr)
        return 1
    directory = Path(tempfile.mkdtemp(prefix="siege-"))
    try:
        found = asyncio.run(siege(options, directory))
    except BenchError as error:
        print(f"siege: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("\n".join(found.lines))
    for wrong in found.wrong:
        print(f"WRONG: {wrong}")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
