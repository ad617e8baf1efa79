"""
Faults of the engine, of clients and of life, injected from a seeded schedule:
whatever happens, clients get what they were promised, no slot is lost, and the
next request is served.

    python bench/chaos.py                 # a minute, as CI does
    python bench/chaos.py --thorough      # 500 faults, 10,000 leavers, 50 SIGTERMs, 100 kill -9
    python bench/chaos.py --only engine,clients --faults 200

Exit status 0: all as promised; 1: something was not.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random

from client_faults import ClientFaults
from deaths import Deaths
from engine_faults import EngineFaults, all_faults, scripted_product
from full_disk import full_disk
from programs import BenchError, raise_file_limit
from scripted_engine import ScriptedEngine
from tally import Tally

_PARTS = ("engine", "clients", "leavers", "sigterm", "engine-kill", "gateway-kill", "storm", "disk")
_THOROUGH = {
    "faults": 500, "client_rounds": 5, "leavers": 10_000, "sigterms": 50, "kills": 100,
    "gateway_kills": 20, "seconds": 60.0, "disk": 5000,
}  # fmt: skip


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    kinds = len(list(all_faults()))
    parser.add_argument("--faults", type=int, default=kinds, help=f"of the engine ({kinds} kinds)")
    parser.add_argument("--client-rounds", type=int, default=1, help="every client fault so often")
    parser.add_argument("--leavers", type=int, default=200, help="clients that leave under load")
    parser.add_argument("--sigterms", type=int, default=2)
    parser.add_argument("--kills", type=int, default=2, help="kill -9 of the engine")
    parser.add_argument("--gateway-kills", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of mixed load and faults")
    parser.add_argument("--disk", type=int, default=300, help="requests while the disk is full")
    parser.add_argument("--thorough", action="store_true", help=f"{_THOROUGH}")
    parser.add_argument("--only", default=",".join(_PARTS), help=f"some of {','.join(_PARTS)}")
    parser.add_argument("--keep", type=Path, help="leave logs in this new directory")
    options = parser.parse_args(argv)
    if options.thorough:
        vars(options).update(_THOROUGH)
    options.only = tuple(options.only.split(","))
    if unknown := set(options.only) - set(_PARTS):
        parser.error(f"--only: no part is called {', '.join(sorted(unknown))}")
    return options


async def scripted(options: argparse.Namespace, directory: Path, tally: Tally) -> None:
    """
    What needs an engine that fails as it is told.
    """
    engine = ScriptedEngine()
    await engine.start()
    product = scripted_product(directory / "scripted", engine)
    try:
        product.start()
        await product.wait()
        faults = EngineFaults(product, engine, tally)
        if "engine" in options.only:
            await faults.run(options.faults, Random(f"{options.seed} engine"))
        clients = ClientFaults(product, engine, tally)
        if "clients" in options.only:
            await clients.run(options.client_rounds, Random(f"{options.seed} clients"), faults)
        tally.add_all("connections that the engine has seen", engine.connections, engine.wrong)
        tally.add("the gateway's own end", "; ".join(await product.end()))
        clients.compare_log()
    finally:
        product.kill()
        await engine.stop()


async def chaos(options: argparse.Namespace, directory: Path) -> Tally:
    """
    @return: what was tried.
    """
    tally = Tally()
    deaths = Deaths(directory, tally, options.seed)
    parts: list[tuple[tuple[str, ...], Callable[[], Awaitable[None]]]] = [
        (("engine", "clients"), lambda: scripted(options, directory, tally)),
        (("leavers",), lambda: deaths.leavers(options.leavers)),
        (("sigterm",), lambda: deaths.sigterms(options.sigterms)),
        (("engine-kill",), lambda: deaths.engine_kills(options.kills)),
        (("gateway-kill",), lambda: deaths.gateway_kills(options.gateway_kills)),
        (("storm",), lambda: deaths.storm(options.seconds)),
        (("disk",), lambda: full_disk(directory, tally, options.disk)),
    ]
    for names, run in parts:
        if set(names) & set(options.only):
            begun = time.monotonic()
            try:
                await run()
            except BenchError as error:
                tally.add(names[0], f"it could not go on: {error}")
            print(f"{', '.join(names)}: {time.monotonic() - begun:.0f} s", flush=True)
    return tally


def main(argv: Sequence[str]) -> int:
    """
    @return: the exit status.
    """
    options = parse(argv)
    raise_file_limit()
    directory = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    most = (
        240
        + 3 * (options.faults + options.client_rounds * 60)
        + options.leavers
        + options.disk / 20
    )
    most += 30 * (options.sigterms + options.kills + options.gateway_kills) + 3 * options.seconds
    try:
        tally = asyncio.run(asyncio.wait_for(chaos(options, directory), most))
    except TimeoutError:
        print(f"chaos: it did not come to an end within {most:.0f} s", file=sys.stderr)
        return 1
    finally:
        if options.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"\nseed {options.seed}\n{tally}")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
