"""
A long run of the product under mixed load: good clients, slow ones, leavers,
bad bytes, wrong keys, key reloads.  Whatever was asked has to be accounted for,
and what the gateway holds at the end has to be what it held at the beginning.

    python bench/soak.py                          # half an hour, the mock engine
    python bench/soak.py --seconds 120            # as CI does
    python bench/soak.py --engine embedded        # a real engine, a model of some hundred KB

Exit status 0: all is explained; 1: something is not.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from crowd import Crowd
from key_turns import KeyTurner
from ledger import Ledger
from product import ROOT, Product, make_secret
from programs import BenchError, raise_file_limit
from terms import Terms, large_question
from vitals import Vitals

#: Less is no growth: after so short a warm-up the limits' windows of a minute
#: are still filling, and later on pages are not exact.
SHORT_SECONDS = 120.0
SHORT_SLACK_KB = 4096
SLACK_KB = 1024
LIMIT_PER_MINUTE = 20
#: So many times the key file has to be replaced, at least: a thousand in half an hour.
#: In a few seconds chance decides.
TURNS_PER_SECOND = 1000 / 1800
_MOST_BODY_BYTES = 2_000_000
_MOST_TOKENS = 200


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """
    Read the command line.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long (default 1800)")
    parser.add_argument("--warm-up", type=float, help="seconds; by default a third, at most 300")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--engine", choices=("mock", "embedded"), default="mock")
    parser.add_argument("--growth", type=float, default=3.0, help="of RSS, per cent (default 3)")
    parser.add_argument("--keep", type=Path, help="leave logs in this new directory")
    return parser.parse_args(argv)


def make_settings(engine: str, directory: Path) -> dict[str, object]:
    """
    Settings with time-outs so short that they come to pass.
    """
    settings: dict[str, object] = {
        "ENGINE": engine,
        "EXTRA_ARGS": f"-np 8 --delay-ms 2 --tokens {_MOST_TOKENS} --load-seconds 2",
        "MAX_QUEUE_SIZE": 12,
        "QUEUE_TIMEOUT": 4,
        "MAX_REQUEST_BODY_SIZE": _MOST_BODY_BYTES,
        "CLIENT_HEADER_TIMEOUT": 5,
        "CLIENT_BODY_TIMEOUT": 5,
        "CLIENT_WRITE_TIMEOUT": 3,
    }
    if engine == "embedded":
        sys.path.insert(0, str(ROOT))
        from tests.tiny_model import write_tiny_model  # type: ignore[import-untyped]  # no marker

        settings["MODEL_PATH"] = write_tiny_model(directory / "tiny.gguf")
        settings["EXTRA_ARGS"] = "-np 4 -lv 1"
        settings["CTX"] = 4096
        settings["THREADS"] = 1
    return settings


def compare_vitals(
    first: Vitals, last: Vitals, growth_percent: float, slack_kb: int = SLACK_KB
) -> list[str]:
    """
    @param slack_kb: how much more memory is no growth.
    @return: what is different at the end, and should not be.
    """
    wrong = [
        f"{name}: {before} at the beginning, {after} at the end"
        for name, before, after in (
            ("descriptors", first.fds, last.fds),
            ("threads", first.threads, last.threads),
            ("children", first.children, last.children),
        )
        if before != after
    ]
    grown = last.rss_kb - first.rss_kb
    if grown > max(slack_kb, first.rss_kb * growth_percent / 100):
        wrong.append(f"memory grew by {grown / first.rss_kb:.1%}, {grown} KiB")
    return wrong


def judge_turns(turns: Mapping[str, int], seconds: float) -> list[str]:
    """
    @param turns: how often the keys were replaced, by the way of reloading.
    @return: what is wrong with that.
    """
    least = int(seconds * TURNS_PER_SECOND) if seconds >= SHORT_SECONDS else 0
    count = sum(turns.values())
    return [] if count >= least else [f"the keys were replaced {count} times, not {least}: {turns}"]


async def quiet(product: Product, wanted_fds: int | None = None) -> Vitals:
    """
    Wait until kept connections are closed and all is still, and take the vitals.

    @param wanted_fds: how many descriptors there should be.
    """
    end = time.monotonic() + 20
    seen, since = Vitals.of(product.pid), time.monotonic()
    while time.monotonic() < end:
        await asyncio.sleep(0.25)
        now = Vitals.of(product.pid)
        if now.fds != seen.fds:
            seen, since = now, time.monotonic()
        if time.monotonic() > since + 5 and now.fds == (wanted_fds or now.fds):
            break
    return Vitals.of(product.pid)


async def soak(options: argparse.Namespace, directory: Path) -> list[str]:
    """
    @return: what is wrong.
    """
    ledger = Ledger("soak")
    limited = tuple(make_secret() for _ in range(4))
    product = Product(
        directory / "gateway",
        make_settings(options.engine, directory),
        {f"user-{at}": make_secret() for at in range(6)},
        tuple(f"few-{at}:{key}:{LIMIT_PER_MINUTE}" for at, key in enumerate(limited)),
    )
    path, body = large_question(options.engine == "mock")
    terms = Terms(
        tuple(product.keys.values()),
        limited,
        LIMIT_PER_MINUTE,
        most_body_bytes=_MOST_BODY_BYTES,
        long_path=path,
        long_body=body,
        most_tokens=_MOST_TOKENS,
    )
    try:
        product.start()
        await product.wait("/health")
        crowd = Crowd(product, ledger, terms, options.seed, options.clients)
        turner = KeyTurner(product, ledger, options.seed, 20 * _MOST_TOKENS)
        # From the first moment on: the engine is loading.
        crowd.go()
        await product.wait()
        turner.start()
        begun = time.monotonic()
        warm_up = min(300.0, options.seconds / 3) if options.warm_up is None else options.warm_up
        await asyncio.sleep(warm_up)
        await asyncio.gather(crowd.rest(), turner.rest())
        first = await quiet(product)
        print(f"after {warm_up:.0f} s of warm-up: {first}", flush=True)
        crowd.go()
        turner.go()
        loaded: list[int] = []
        told = 0
        next_word = time.monotonic() + 60
        while (now := time.monotonic()) < begun + options.seconds:
            await asyncio.sleep(min(5.0, max(0.1, begun + options.seconds - now)))
            loaded.append(Vitals.of(product.pid).rss_kb)
            if now > next_word:
                next_word = now + 60
                wrongs = ledger.wrong_so_far
                print(
                    f"{now - begun:6.0f} s: {len(ledger.asks)} asked, "
                    f"{len(wrongs)} wrong, {Vitals.of(product.pid)}",
                    flush=True,
                )
                if len(wrongs) > told:
                    told = len(wrongs)
                    print(ledger.report(wrongs), flush=True)
        await asyncio.gather(crowd.end(), turner.end())
        slack_kb = SHORT_SLACK_KB if warm_up < SHORT_SECONDS else SLACK_KB
        await judge_end(product, ledger, first, options.growth, slack_kb)
        if loaded:
            print(f"memory under load: {median(loaded) / 1024:.1f} MiB, at most "
                  f"{max(loaded) / 1024:.1f} MiB")  # fmt: skip
        for wrong in await product.end():
            ledger.wrong(wrong)
        left = ledger.compare_log(product.access_lines())
        for wrong in judge_turns(turner.turns, options.seconds):
            ledger.wrong(wrong)
        print(f"\n{ledger.table()}\n")
        print(f"those that left, in the access log: {dict(left)}")
        print(f"key files: {turner.turns}; keys tried after them: {turner.verdicts}")
    finally:
        product.kill()
    return ledger.failures


async def judge_end(
    product: Product, ledger: Ledger, first: Vitals, growth: float, slack_kb: int
) -> None:
    """
    Look at a gateway that nobody asks anything any more.
    """
    queue = await product.settles()
    if queue != (0, 0):
        ledger.wrong(f"(active, waiting) stays at {queue}")
    if busy := await product.engine_busy():
        ledger.wrong(f"the engine works at {busy} requests of nobody")
    last = await quiet(product, first.fds)
    print(f"at the end: {last}")
    for wrong in compare_vitals(first, last, growth, slack_kb):
        ledger.wrong(wrong)
    pages, good_pages = product.pages, product.good_pages
    figures = await product.figures()
    # The lines of the log are written by a thread of their own.
    await asyncio.sleep(1)
    lines = product.access_lines()
    public = [ask for ask in ledger.asks if ask.public and ask.kind != "health port"]
    asked = figures["total_requests"] - pages
    if asked != len(lines) + len(public):
        ledger.wrong(
            f"metrics count {asked} requests; the access log has {len(lines)}, and "
            f"{len(public)} were for public paths"
        )
    good = sum(int(line[3]) < 400 for line in lines) + sum(ask.status < 400 for ask in public)
    counted = figures["requests_success"] - good_pages
    if counted != good:
        ledger.wrong(f"metrics count {counted} good answers, the log and we {good}")


def main(argv: Sequence[str]) -> int:
    """
    @return: the exit status.
    """
    options = parse(argv)
    raise_file_limit()
    directory = options.keep or Path(tempfile.mkdtemp(prefix="soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        limit = options.seconds + 300
        failures = asyncio.run(asyncio.wait_for(soak(options, directory), limit))
    except (BenchError, TimeoutError) as error:
        print(f"soak: {error or 'it did not come to an end'}", file=sys.stderr)
        return 1
    finally:
        if options.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    if not failures:
        print("Everything is accounted for.")
        return 0
    print(f"{len(failures)} things are not explained:")
    print(Ledger("").report(failures))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
