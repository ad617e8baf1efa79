"""
A chart of the results as SVG, written by hand: a panel for each question, a bar
for each target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from measure import Measured
from report import median, number

PANELS = (
    ("small", "cpu_us_per_request", "CPU per request, µs"),
    ("streams", "cpu_us_per_token", "CPU per token, µs (200 streams)"),
    ("streams", "first_ms.p99", "Time to first token, p99, ms"),
    ("rush", "tokens_per_s", "Tokens per second, 16 streams"),
    ("hold", "kb_per_stream", "Memory per open stream, KB"),
    ("idle", "rss_kb", "Memory when idle, KB"),
)
_OURS, _OTHERS, _FLOOR = "#2f6f4f", "#8fa3b5", "#d4d4cc"
_WIDTH, _PANEL_WIDTH, _GAP, _BAR, _STEP, _LABELS = 920, 430, 20, 18, 26, 78


@dataclass(frozen=True)
class Panel:
    """
    One question and each target's answer to it.
    """

    title: str
    bars: tuple[tuple[str, float], ...]

    @property
    def height(self) -> int:
        """
        In pixels, its title included.
        """
        return 40 + _STEP * len(self.bars)


def make_panels(results: Sequence[Measured]) -> list[Panel]:
    """
    Those panels for which something was measured.
    """
    by_name = {measured.work.name: measured for measured in results}
    panels = []
    for work, metric, title in PANELS:
        if work not in by_name:
            continue
        values = (
            (label, median(samples, metric))
            for label, samples in by_name[work].samples.items()
            # Without a gateway the CPU time is the engine's, which is no gateway's price.
            if not (label == "direct" and metric.startswith("cpu_"))
        )
        bars = tuple((label, value) for label, value in values if value is not None)
        if bars:
            panels.append(Panel(title, bars))
    return panels


def _length(value: float, largest: float, smallest: float, room: float) -> tuple[float, bool]:
    """
    A bar's length; logarithmic where a linear bar would be too short to see.
    """
    if value <= 0:
        return 0.0, False
    if smallest > 0 and largest / smallest > 40:
        lowest = smallest / 2
        return room * math.log(value / lowest) / math.log(largest / lowest), True
    return room * value / largest, False


def _draw(panel: Panel, left: int, top: int) -> list[str]:
    values = [value for _, value in panel.bars]
    largest, smallest = max(values) or 1.0, min(value for value in [*values, *values])
    room = _PANEL_WIDTH - _LABELS - 70
    logarithmic = any(_length(v, largest, smallest, room)[1] for v in values)
    title = panel.title + (" (log scale)" if logarithmic else "")
    out = [f'<text x="{left}" y="{top + 18}" class="t">{escape(title)}</text>']
    for index, (label, value) in enumerate(panel.bars):
        y = top + 30 + index * _STEP
        length, _ = _length(value, largest, smallest, room)
        colour = {"gateway": _OURS, "direct": _FLOOR}.get(label, _OTHERS)
        x = left + _LABELS
        out.append(f'<text x="{x - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>')
        out.append(f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>')
        out.append(f'<text x="{x + length + 6:.1f}" y="{y + 13}">{number(value)}</text>')
    return out


def to_svg(results: Sequence[Measured], caption: str) -> str:
    """
    Two columns of panels on white, so that it reads on dark pages too.
    """
    panels, top, body = make_panels(results), 50, list[str]()
    for index in range(0, len(panels), 2):
        row = panels[index : index + 2]
        for column, panel in enumerate(row):
            body += _draw(panel, 20 + column * (_PANEL_WIDTH + _GAP), top)
        top += max(panel.height for panel in row) + 14
    style = "text{font:12px system-ui,sans-serif;fill:#222}.t{font-weight:600}.h{font-size:15px}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top + 20}" '
            f'viewBox="0 0 {_WIDTH} {top + 20}" role="img">',
            f"<title>What the gateway costs</title><style>{style}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            '<text x="20" y="28" class="t h">What a gateway costs in front of llama-server</text>',
            *body,
            f'<text x="20" y="{top + 8}" style="fill:#666;font-size:11px">{escape(caption)}</text>',
            "</svg>",
            "",
        ]
    )
