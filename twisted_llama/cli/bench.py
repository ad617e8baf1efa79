"""
C{llama-gateway bench}: how fast an OpenAI-compatible server is for its clients.

The same command measures the engine alone and through the gateway, so that what
the gateway adds can be seen.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TextIO
from urllib.parse import urlsplit, urlunsplit

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.web.client import Agent, HTTPConnectionPool

from twisted_llama.cli.bench_report import BenchReport, printable
from twisted_llama.cli.bench_stream import (
    Question,
    RequestFailed,
    StreamTimer,
    Timings,
    api_root,
)
from twisted_llama.errors import StartupError

_KEY_VARIABLES = ("LLAMA_GATEWAY_API_KEY", "OPENAI_API_KEY")
_TIMEOUT_SECONDS = 600.0
_CONNECT_TIMEOUT_SECONDS = 10.0
_BAR_WIDTH = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options of C{bench}.
    """
    add = parser.add_argument
    add(
        "--url",
        default="http://127.0.0.1:8000",
        help="the server, with or without /v1 (%(default)s)",
    )
    add("--api-key", metavar="KEY", help=f"default: {' or '.join(_KEY_VARIABLES)}, if set")
    add("--model", help="default: the first one that the server lists")
    add("--prompt", default="Write a short story about a lighthouse.", help="what is asked")
    add("--max-tokens", default="128", metavar="N", help="of each answer (%(default)s)")
    add("--requests", default="20", metavar="N", help="how many are measured (%(default)s)")
    add("--concurrency", default="1", metavar="N", help="how many at a time (%(default)s)")
    add("--warmup", default="1", metavar="N", help="asked before, not measured (%(default)s)")
    add("--output", choices=("text", "json"), default="text", help="(%(default)s)")


@frozen
class Plan:
    """
    What is to be done, checked.
    """

    root: str
    api_key: str | None
    model: str | None
    prompt: str
    max_tokens: int
    requests: int
    concurrency: int
    warmup: int


def plan(args: argparse.Namespace) -> Plan:
    """
    Check the arguments.

    @raise StartupError: one is of no use; it says which and what to give instead.
    """
    api_key = args.api_key
    if api_key is None:
        api_key = next((os.environ[name] for name in _KEY_VARIABLES if os.environ.get(name)), None)
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise StartupError("--api-key holds characters that no key has. Paste it again.")
    return Plan(
        api_root(args.url),
        api_key,
        args.model,
        args.prompt,
        _count("--max-tokens", args.max_tokens, 1),
        _count("--requests", args.requests, 1),
        _count("--concurrency", args.concurrency, 1),
        _count("--warmup", args.warmup, 0),
    )


def _count(option: str, text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise StartupError(f"{option} must be a whole number of at least {least}.")
    return value


class Progress:
    """
    Shows how far it is: a bar that is drawn over on a terminal, else a line
    after every tenth.
    """

    def __init__(self, out: TextIO, total: int) -> None:
        self._out = out
        self._total = total
        self._bar = out.isatty()
        self._told = 0

    def show(self, done: int, failed: int) -> None:
        """
        @param done: requests that are over, failed ones too.
        """
        suffix = f", {failed} failed" if failed else ""
        if self._bar:
            filled = _BAR_WIDTH * done // self._total
            bar = "#" * filled + "." * (_BAR_WIDTH - filled)
            self._out.write(f"\r[{bar}] {done}/{self._total}{suffix}")
            self._out.write("\n" if done == self._total else "")
        elif done * 10 // self._total > self._told:
            self._told = done * 10 // self._total
            self._out.write(f"{done} of {self._total} requests{suffix}\n")
        self._out.flush()


async def carry_out(
    what: Plan,
    timer: StreamTimer,
    seconds: Callable[[], float],
    show: Callable[[int, int], None],
) -> BenchReport:
    """
    Warm up, then measure all requests, C{concurrency} at a time.

    @raise RequestFailed: the server does not even list its models.
    """
    question = Question(what.model or await timer.first_model(), what.prompt, what.max_tokens)
    timings: list[Timings] = []
    failures: Counter[str] = Counter()

    async def warm_up(_: int) -> None:
        try:
            await timer.time_one(question)
        except RequestFailed:
            # Its like will be counted when it is measured.
            return

    async def measure(_: int) -> None:
        try:
            timings.append(await timer.time_one(question))
        except RequestFailed as failed:
            failures[failed.kind] += 1
        show(len(timings) + failures.total(), failures.total())

    await _each(what.warmup, what.concurrency, warm_up)
    began = seconds()
    await _each(what.requests, what.concurrency, measure)
    return BenchReport(
        url=_without_password(what.root),
        model=question.model,
        max_tokens=what.max_tokens,
        concurrency=what.concurrency,
        warmup=what.warmup,
        timings=tuple(timings),
        failures=dict(failures),
        wall_seconds=seconds() - began,
    )


async def _each(count: int, at_a_time: int, once: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(count))

    async def take_turns(shared: Iterator[int]) -> None:
        for number in shared:
            await once(number)

    await gatherResults(
        [Deferred.fromCoroutine(take_turns(numbers)) for _ in range(min(at_a_time, count))],
        consumeErrors=True,
    )


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def run(args: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    """
    Measure, and print the report.

    @return: 0, or 1 when an argument is of no use or nothing succeeded.
    """
    reports: list[BenchReport] = []
    try:
        what = plan(args)
    except StartupError as problem:
        print(f"llama-gateway: {problem}", file=err)
        return 1

    async def measure(reactor: Any) -> None:
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = what.concurrency
        agent = Agent(reactor, connectTimeout=_CONNECT_TIMEOUT_SECONDS, pool=pool)
        client = HTTPClient(agent)
        timer = StreamTimer(
            client, what.root, what.api_key, reactor, time.perf_counter, _TIMEOUT_SECONDS
        )
        try:
            progress = Progress(err, what.requests)
            reports.append(await carry_out(what, timer, time.perf_counter, progress.show))
        except RequestFailed as failed:
            where = printable(_without_password(what.root))
            print(f"llama-gateway: {where}/models: {failed.kind}. {_cure(failed.kind)}", file=err)
        finally:
            await pool.closeCachedConnections()

    # What react's exit status says is whether the measuring ended; whether the server
    # answered is decided below.
    with suppress(SystemExit):
        react(lambda reactor: Deferred.fromCoroutine(measure(reactor)))
    if not reports:
        return 1
    report = reports[0]
    print(report.to_json() if args.output == "json" else report.to_text(), file=out)
    if report.timings:
        return 0
    kind = max(report.failures, key=lambda name: report.failures[name])
    print(f"llama-gateway: no request succeeded: {kind}. {_cure(kind)}", file=err)
    return 1


def _cure(kind: str) -> str:
    cures = {
        "connection refused": "Is the server running, and --url right?",
        "cannot connect": "Is --url right?",
        "host not found": "Is --url right?",
        "status 401": "Give a valid key with --api-key.",
        "status 403": "Give a key that may use this model.",
        "status 404": "Is --url an OpenAI-compatible server, and --model one of its models?",
        "status 429": "The key has used up its requests of this minute, or is none and was shown "
        "too often: wait, or use another key.",
        "no model in the list of models": "Name one with --model.",
    }
    return cures.get(kind, "See the server's log.")
