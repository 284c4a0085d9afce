"""Comparisons as bars in SVG files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from benchmarks.contest import Comparison
from benchmarks.measurement import Measurement
from benchmarks.ratios import Spread, spread

WIDTH, LEFT, RIGHT, ROW, TOP = 760, 250, 90, 22, 40
OURS, THEIRS = "#06c", "#999"
FONT = 'font-family="sans-serif" font-size="12"'


class Bar(NamedTuple):
    """One row: how long, and the line from the least to the most of the rounds."""

    label: str
    figures: Spread
    ours: bool


def bars(title: str, rows: Sequence[Bar]) -> str:
    """A plot of at least one row, the longest one as wide as there is room."""
    longest = max(row.figures.most for row in rows)
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = TOP + ROW * len(rows) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-size="14">{escape(title)}</text>',
    ]
    for number, row in enumerate(rows):
        y, found = TOP + number * ROW, row.figures
        width, least, most = (round(figure * scale, 1) for figure in (found.median, found.least, found.most))
        colour, middle = OURS if row.ours else THEIRS, y + 7
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(row.label)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{width}" height="14" fill="{colour}"/>',
            f'<path d="M{LEFT + least} {middle}H{LEFT + most}" stroke="black"/>',
            f'<text x="{LEFT + most + 6}" y="{y + 11}">{_short(found.median)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def write(comparisons: Sequence[Comparison], folder: Path) -> list[Path]:
    """Two files in that folder: events a second, and processor time of an event. Nothing where nothing was measured."""
    measured = [one for one in comparisons if one.rounds]
    plots: dict[str, tuple[str, Callable[[Measurement], float]]] = {
        "benchmark-rate.svg": ("Events a second (more is better)", lambda one: one.steady_rate),
        "benchmark-cpu.svg": ("CPU µs an event (less is better)", lambda one: one.steady_cpu_us),
    }
    written = []
    for name, (title, figure) in plots.items() if measured else ():
        rows = [row for one in measured for row in _rows(one, figure)]
        (folder / name).write_text(bars(title, rows), "utf-8")
        written.append(folder / name)
    return written


def _rows(one: Comparison, figure: Callable[[Measurement], float]) -> list[Bar]:
    ours, theirs = one.sides(figure)
    return [Bar(one.what, spread(ours), ours=True), Bar(one.rival, spread(theirs), ours=False)]


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"
