"""
What the rounds come to: medians, ratios within a round, figures held against
their ceilings; as Markdown and as a document that JSON can hold.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Measured, Sample
from works import Figure

_UNITS = {
    "cpu_us_per_request": "CPU µs per request",
    "cpu_us_per_token": "CPU µs per token",
    "requests_per_s": "requests/s",
    "tokens_per_s": "tokens/s",
    "total_ms.p50": "total p50, ms",
    "total_ms.p99": "total p99, ms",
    "first_ms.p50": "first p50, ms",
    "first_ms.p99": "first p99, ms",
    "gap_ms.p50": "gap p50, ms",
    "delay_ms.p99": "a token under way p99, ms",
    "all_bad": "not ok",
    "all_ok": "ok",
    "bad": "not ok in the window",
    "kb_per_stream": "KB per stream",
    "lost": "lost",
    "opened": "opened",
    "longest_silence_ms": "longest silence, ms",
    "rss_start_kb": "resident before, KB",
    "rss_end_kb": "resident after, KB",
    "rss_kb": "resident, KB",
    "grown_kb_per_client": "grown per client, KB",
    "unfinished": "unfinished",
    "bytes": "bytes read",
    "read_seconds": "reading, s",
    "refused_connects": "refused connections",
    "beside.total_ms.p50": "status pages p50, ms",
    "beside.total_ms.p99": "status pages p99, ms",
    "beside.all_bad": "status pages not ok",
}


def machine() -> dict[str, str]:
    """
    What the measuring was done on.
    """
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{pages / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def median(samples: Sequence[Sample], metric: str) -> float | None:
    """
    The median over those samples that have the metric.
    """
    values = [sample[metric] for sample in samples if metric in sample]
    return statistics.median(values) if values else None


@dataclass(frozen=True)
class Outcome:
    """
    A figure with what came out.

    @ivar value: L{None} when it could not be measured.
    """

    figure: Figure
    value: float | None

    @property
    def met(self) -> bool | None:
        """
        Whether it stays within its bound; L{None} when not measured.
        """
        if self.value is None:
            return None
        if self.figure.at_least:
            return self.value >= self.figure.bound
        return self.value <= self.figure.bound

    def shown(self) -> str:
        """
        The value with its unit, a ratio with a multiplication sign.
        """
        if self.value is None:
            return "not measured"
        if self.figure.per:
            return f"{self.value:.2f} ×"
        return f"{number(self.value)}{self.figure.unit}"

    def bound_shown(self) -> str:
        """
        The bound in words.
        """
        word = "at least" if self.figure.at_least else "at most"
        unit = " ×" if self.figure.per else self.figure.unit
        return f"{word} {number(self.figure.bound)}{unit}"


def judge(figure: Figure, measured: Measured) -> Outcome:
    """
    Take a figure from the rounds. A ratio is taken within each round, where
    both sides met the same machine, and the median of those ratios counts.
    """
    of = measured.samples.get(figure.of, [])
    if figure.per is None:
        return Outcome(figure, median(of, figure.metric))
    per = measured.samples.get(figure.per, [])
    ratios = [
        above[figure.metric] / below[figure.metric]
        for above, below in zip(of, per, strict=False)
        if figure.metric in above and below.get(figure.metric, 0) > 0
    ]
    return Outcome(figure, statistics.median(ratios) if ratios else None)


def number(value: float | None) -> str:
    """
    Three significant digits, thousands parted.
    """
    if value is None:
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def to_markdown(
    results: Sequence[Measured],
    facts: dict[str, str],
    targets: dict[str, tuple[str, str]],
    left_out: dict[str, str],
    rounds: int,
) -> str:
    """
    @param targets: name to version and notes.
    @param left_out: name to the reason.
    """
    lines = ["# What the gateway costs", "", "Measured by `make bench`: "]
    lines[-1] += "; ".join(f"{name} {value}" for name, value in facts.items())
    lines[-1] += f". Medians of {rounds} round(s), all targets in turns in each; "
    lines[-1] += "a ratio is the median of the ratios within the rounds."
    lines += ["", "| target | version | what was on |", "| --- | --- | --- |"]
    lines += [f"| {name} | {version} | {notes} |" for name, (version, notes) in targets.items()]
    lines += [f"| {name} | left out | {reason} |" for name, reason in left_out.items()]
    lines += ["", "## Figures", "", "| work | figure | bound | measured | |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for measured in results:
        for figure in measured.work.figures:
            outcome = judge(figure, measured)
            verdict = {True: "met", False: "**missed**", None: ""}[outcome.met]
            row = (
                measured.work.title,
                figure.text,
                outcome.bound_shown(),
                outcome.shown(),
                verdict,
            )
            lines.append(f"| {' | '.join(row)} |")
    for measured in results:
        lines += ["", f"## {measured.work.title}", ""]
        columns = measured.work.columns
        lines.append("| | " + " | ".join(_UNITS.get(name, name) for name in columns) + " |")
        lines.append("| --- |" + " ---: |" * len(columns))
        for label, samples in measured.samples.items():
            cells = [number(median(samples, name)) for name in columns]
            lines.append(f"| {label} | {' | '.join(cells)} |")
        for label, reason in measured.failures.items():
            lines += ["", f"{label}: {' '.join(reason.split())}"]
    return "\n".join(lines) + "\n"


def to_document(
    results: Sequence[Measured],
    facts: dict[str, str],
    targets: dict[str, tuple[str, str]],
    left_out: dict[str, str],
) -> dict[str, object]:
    """
    Everything, every round too, as JSON can hold it.
    """
    return {
        "machine": facts,
        "targets": {name: {"version": v, "notes": n} for name, (v, n) in targets.items()},
        "left_out": left_out,
        "works": {
            measured.work.name: {
                "title": measured.work.title,
                "rounds": measured.samples,
                "failures": measured.failures,
                "figures": [
                    {
                        "figure": outcome.figure.text,
                        "value": outcome.value,
                        "bound": outcome.figure.bound,
                        "met": outcome.met,
                    }
                    for outcome in (judge(f, measured) for f in measured.work.figures)
                ],
            }
            for measured in results
        },
    }
