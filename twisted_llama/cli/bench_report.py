"""
What C{llama-gateway bench} says at the end: statistics as a table or as JSON.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from attrs import frozen

from twisted_llama.cli.bench_stream import Timings

_COLUMNS = ("min", "mean", "p50", "p95", "p99")


@frozen
class Spread:
    """
    How a quantity is distributed.
    """

    min: float
    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """
        L{None} when there are no values.
        """
        if not values:
            return None
        ordered = sorted(values)
        mean = math.fsum(ordered) / len(ordered)
        return cls(ordered[0], mean, *(percentile(ordered, share) for share in (50, 95, 99)))

    def as_dict(self) -> dict[str, float]:
        """
        By the names of its columns.
        """
        return {name: getattr(self, name) for name in _COLUMNS}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """
    The value below which C{percent} of the sorted values lie, interpolated
    between its two neighbours.
    """
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    part = position - below
    return ordered[below] + (ordered[above] - ordered[below]) * part


@frozen
class BenchReport:
    """
    All that was measured.

    @ivar failures: how many requests failed, by kind.
    @ivar wall_seconds: from the first measured request to the end of the last.
    """

    url: str
    model: str
    max_tokens: int
    concurrency: int
    warmup: int
    timings: tuple[Timings, ...]
    failures: Mapping[str, int]
    wall_seconds: float

    @property
    def tokens(self) -> int:
        """
        Of all answers that came whole.
        """
        return sum(timing.tokens for timing in self.timings)

    def spreads(self) -> dict[str, Spread | None]:
        """
        The four quantities: three in seconds, one in tokens per second.
        """
        rates = [timing.tokens_per_second for timing in self.timings]
        return {
            "time_to_first_token_seconds": Spread.of(
                [timing.first_token_seconds for timing in self.timings]
            ),
            "tokens_per_second": Spread.of([rate for rate in rates if rate is not None]),
            "gap_between_tokens_seconds": Spread.of(
                [gap for timing in self.timings for gap in timing.gap_seconds]
            ),
            "total_time_seconds": Spread.of([timing.total_seconds for timing in self.timings]),
        }

    def to_json(self) -> str:
        """
        For programs; times in seconds.
        """
        spreads = self.spreads().items()
        return json.dumps(
            {
                "url": self.url,
                "model": self.model,
                "max_tokens": self.max_tokens,
                "concurrency": self.concurrency,
                "warmup": self.warmup,
                "requests": len(self.timings) + sum(self.failures.values()),
                "succeeded": len(self.timings),
                "failed": sum(self.failures.values()),
                "failures": dict(self.failures),
                "wall_seconds": self.wall_seconds,
                "tokens": self.tokens,
                "overall_tokens_per_second": self._overall(),
                **{name: spread.as_dict() if spread else None for name, spread in spreads},
            },
            indent=2,
        )

    def to_text(self) -> str:
        """
        For people; times in milliseconds.
        """
        lines = [
            f"{printable(self.url)}, model {printable(self.model)}",
            f"up to {self.max_tokens} tokens each, {self.concurrency} at a time, "
            f"{self.warmup} before that to warm up",
            "",
            " " * 26 + "".join(f"{column:>11}" for column in _COLUMNS),
        ]
        for name, spread in self.spreads().items():
            label = name.removesuffix("_seconds").replace("_", " ")
            in_ms = name.endswith("_seconds")
            if in_ms:
                label += " (ms)"
            if spread is None:
                lines.append(f"{label:<26}{'not measured':>16}")
                continue
            factor = 1000 if in_ms else 1
            values = (value * factor for value in spread.as_dict().values())
            lines.append(f"{label:<26}" + "".join(f"{value:>11,.2f}" for value in values))
        failed = sum(self.failures.values())
        lines += [
            "",
            f"{len(self.timings)} succeeded, {failed} failed; {self.tokens:,} tokens in "
            f"{self.wall_seconds:.2f} s, {self._overall():,.1f} tokens per second in all",
        ]
        lines += [
            f"  failed: {count} x {kind}" for kind, count in Counter(self.failures).most_common()
        ]
        return "\n".join(lines)

    def _overall(self) -> float:
        return self.tokens / self.wall_seconds if self.wall_seconds > 0 else 0.0


def printable(text: str) -> str:
    """
    Text from elsewhere, without what a terminal would obey.
    """
    return "".join(character if character.isprintable() else "?" for character in text)
