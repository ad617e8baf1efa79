"""
What was tried, what came as promised, and what did not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_MOST_TOLD = 40


@dataclass
class Tally:
    """
    Counts by row, and the story of everything wrong.

    @ivar figures: measured besides, with their names.
    """

    rows: dict[str, list[int]] = field(default_factory=dict)
    wrongs: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, wrong: str = "", count: int = 1) -> None:
        """
        @param wrong: what was not as promised; nothing if all was.
        @param count: how many were tried; 0 to name a row before it is.
        """
        cells = self.rows.setdefault(row, [0, 0])
        cells[0] += count
        if wrong:
            cells[1] += 1
            self.wrongs.append(f"{row}: {wrong}")

    def add_all(self, row: str, tried: int, wrongs: list[str]) -> None:
        """
        Many at once.
        """
        self.add(row, count=max(0, tried - len(wrongs)))
        for wrong in wrongs:
            self.add(row, wrong)

    @property
    def wrong(self) -> int:
        """
        How much was wrong.
        """
        return len(self.wrongs)

    def __str__(self) -> str:
        width = max([len(row) for row in self.rows] + [3])
        lines = [f"{'':{width}}  {'tried':>7}  {'as promised':>11}  {'wrong':>5}"]
        for row, (tried, wrong) in self.rows.items():
            lines.append(f"{row:{width}}  {tried:>7}  {tried - wrong:>11}  {wrong:>5}")
        tried = sum(cells[0] for cells in self.rows.values())
        wrong = sum(cells[1] for cells in self.rows.values())
        lines.append(f"{'all':{width}}  {tried:>7}  {tried - wrong:>11}  {wrong:>5}")
        lines += [f"{name}: {figure}" for name, figure in self.figures.items()]
        if self.wrongs:
            lines.append("Wrong:")
            lines += [f"  - {story[:1600]}" for story in self.wrongs[:_MOST_TOLD]]
        if len(self.wrongs) > _MOST_TOLD:
            lines.append(f"  ... and {len(self.wrongs) - _MOST_TOLD} more")
        return "\n".join(lines)
