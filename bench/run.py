"""
C{make bench}: measure the gateway and its peers in turns on this machine.

It builds its own tools, starts everything it measures on free ports of
loopback, stops by itself, and ends only what it started.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from chart import to_svg
from gateway_target import Directly, Gateway
from measure import Bench
from peers import Peer
from programs import HERE, BenchError, build, raise_file_limit
from python_peers import ALL_PEERS
from report import machine, to_document, to_markdown
from works import FAST_PEERS, QUICK, Scale, Work, make_works

QUICK_WORKS = ("idle", "small", "streams", "rush", "hold")


def say(text: str) -> None:
    """
    Tell whoever watches; results alone go to stdout.
    """
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """
    The options; C{--help} lists the works.
    """
    names = [work.name for work in make_works(Scale())]
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, epilog=f"works: {', '.join(names)}"
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a look in a minute and a half, not a measurement")
    add("--only", metavar="WORKS", help="comma list of works")
    add("--peers", default=",".join(FAST_PEERS), help="comma list of: " + ", ".join(ALL_PEERS))
    add("--rounds", type=int, help="rounds of each work (3; quick: 1)")
    add("--limit-minutes", type=float, default=45.0, help="begin nothing after so long (45)")
    add("--pin", action="store_true", help="target on core 0, load on core 1")
    add("--results", type=Path, default=HERE / "results", help="where latest.md and .json go")
    add("--chart", type=Path, help="also write the chart here, e.g. docs/performance.svg")
    add("--gateway-command", nargs="+", default=[], help="what to start instead of the gateway")
    options = parser.parse_args(argv)
    unknown = set(_listed(options.only)) - set(names)
    unknown |= set(_listed(options.peers)) - set(ALL_PEERS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


def _listed(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def choose(options: argparse.Namespace) -> list[Work]:
    """
    The works asked for, at the size asked for.
    """
    wanted = _listed(options.only) or (QUICK_WORKS if options.quick else None)
    works = make_works(QUICK if options.quick else Scale())
    return [work for work in works if wanted is None or work.name in wanted]


def find(options: argparse.Namespace) -> tuple[dict[str, Peer], dict[str, str], dict[str, str]]:
    """
    @return: the targets that can be measured, their versions, and why others
        are left out.
    """
    asked: list[Peer] = [Gateway(tuple(options.gateway_command))]
    asked += [ALL_PEERS[name]() for name in _listed(options.peers)]
    targets, versions, left_out = {}, {}, {}
    for peer in [*asked, Directly()]:
        version = peer.version()
        if version is None:
            left_out[peer.name] = peer.missing()
        else:
            targets[peer.name], versions[peer.name] = peer, version
    for name in ALL_PEERS.keys() - targets.keys() - left_out.keys():
        left_out[name] = "not asked for (--peers)"
    return targets, versions, left_out


def main(argv: Sequence[str]) -> int:
    """
    @return: 0 when something was measured.
    """
    options = parse(argv)
    # Ended politely it stops what it has started, as by Ctrl-C: children of those live on else.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    works, rounds = choose(options), options.rounds or (1 if options.quick else 3)
    began, files = time.monotonic(), raise_file_limit()
    try:
        build("engine"), build("load")
    except BenchError as problem:
        say(str(problem))
        return 1
    facts = {**machine(), "open files": str(files), "date": time.strftime("%Y-%m-%d")}
    facts["pinned to cores"] = "yes" if options.pin else "no"
    targets, versions, left_out = find(options)
    for name, reason in left_out.items():
        say(f"{name} is left out: {reason}")
    results = []
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        bench = Bench(
            targets, Path(folder), began + options.limit_minutes * 60, say, pin=options.pin
        )
        try:
            for work in works:
                results.append(bench.measure(work, rounds))
        except KeyboardInterrupt:
            say("stopped; what has been measured is kept")
        except BenchError as problem:
            say(str(problem))
    told = {name: (versions[name], peer.notes) for name, peer in targets.items()}
    text = to_markdown(results, facts, told, left_out, rounds)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "latest.md").write_text(text)
    document = to_document(results, facts, told, left_out)
    (options.results / "latest.json").write_text(json.dumps(document, indent=1))
    caption = f"{facts['cpu']}, {facts['cores']} cores, kernel {facts['kernel']}, {facts['date']}"
    chart = to_svg(results, caption)
    (options.results / "latest.svg").write_text(chart)
    if options.chart:
        options.chart.write_text(chart)
    sys.stdout.write(text)
    say(f"took {time.monotonic() - began:.0f} s; see {options.results}/latest.md")
    return 0 if any(m.samples for m in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
