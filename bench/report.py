"""Writes what a benchmark found: a table to the terminal and to bench/results/NAME.md, a bar chart to NAME.svg."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [f"| {' | '.join(cells)} |" for cells in (self.header, ["---"] * len(self.header), *self.rows)]
        return "\n".join([self.title, "", *lines])


def write_report(name: str, table: Table, bars: Sequence[tuple[str, float]], note: str) -> None:
    """Print the table and the note, and keep both with a bar chart of `bars` (label, value)."""
    RESULTS.mkdir(exist_ok=True)
    text = f"{table.markdown()}\n\n{note}\n"
    print(text)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    (RESULTS / f"{name}.svg").write_text(_chart(table.title, bars), encoding="utf-8")


def _chart(title: str, bars: Sequence[tuple[str, float]]) -> str:
    width, left, row = 760, 280, 28
    longest = max((value for _, value in bars), default=1.0) or 1.0
    size = f'width="{width}" height="{row * len(bars) + 48}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f'<text x="10" y="22" font-weight="bold">{html.escape(title)}</text>',
    ]
    for number, (label, value) in enumerate(bars):
        y = 40 + row * number
        length = (width - left - 90) * value / longest
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{html.escape(label)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{row - 8}" fill="#2f6f9f"/>')
        parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 15}">{value:,.3g}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
