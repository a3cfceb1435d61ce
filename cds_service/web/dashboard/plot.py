"""The plots of the dashboard. Only geometry here; the template draws it.

A count that is too small to be shown as a number is not drawn as a length either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...storage.report import Line, Report, disclose

WIDTH = 720
LABELS, FIGURES, ROW = 230, 60, 30
HEIGHT, LEFT, BOTTOM, TOP = 220, 44, 28, 12
MOST_WEEKS = 53


@dataclass(frozen=True)
class Part:
    """One part of a bar or column: the outcome that it counts, its position and its length."""

    kind: str
    start: float
    length: float
    title: str


@dataclass(frozen=True)
class Bar:
    """The outcomes of one card."""

    label: str
    y: float
    parts: list[Part]
    figure: str


@dataclass(frozen=True)
class Bars:
    """A bar for each card; its length is how often the card was shown."""

    bars: list[Bar]
    height: float
    width: int = WIDTH
    labels: int = LABELS


@dataclass(frozen=True)
class Columns:
    """A column for each week, and the grid lines behind the columns."""

    parts: list[tuple[float, list[Part]]]  # x, and parts with their distance from the top
    ticks: list[tuple[float, int]]
    names: list[tuple[float, str]]
    column: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    base: int = HEIGHT - BOTTOM


def _split(line: Line) -> list[tuple[str, int]]:
    """The counts of a line that may be shown, in parts that add up to the cards shown."""
    accepted, overridden = disclose(line.accepted) or 0, disclose(line.overridden) or 0
    return [
        ("accepted", accepted),
        ("overridden", overridden),
        ("no word", (disclose(line.shown) or 0) - accepted - overridden),
    ]


def plot_cards(lines: Sequence[Line]) -> Bars:
    """A bar for each card."""
    most = max((line.shown for line in lines), default=0) or 1
    available = WIDTH - LABELS - FIGURES
    bars = []
    for number, line in enumerate(lines):
        start, parts = float(LABELS), []
        for kind, count in _split(line):
            length = round(available * count / most, 1)
            if length > 0:
                parts.append(Part(kind, round(start, 1), length, f"{count:,} {kind}"))
                start += length
        told = disclose(line.shown)
        figure = "<5" if told is None else f"{told:,}"
        bars.append(Bar(line.label, number * ROW + 4, parts, figure))
    return Bars(bars, len(bars) * ROW + 8)


def plot_weeks(report: Report) -> Columns:
    """A column for each week, of all cards."""
    weeks = report.lines["week"][-MOST_WEEKS:]
    most = max((line.shown for line in weeks), default=0) or 1
    step = 10 ** math.floor(math.log10(most)) if most >= 10 else 5
    step = next(s for s in (step / 2, step, step * 2, step * 5) if most / s <= 5)
    step = max(1, int(step))
    top = step * math.ceil(most / step)
    available, wide = HEIGHT - BOTTOM - TOP, (WIDTH - LEFT) / max(1, len(weeks))
    column = min(48.0, round(wide * 0.7, 1))
    parts: list[tuple[float, list[Part]]] = []
    for number, line in enumerate(weeks):
        base, stack = float(HEIGHT - BOTTOM), []
        for kind, count in _split(line):
            length = round(available * count / top, 1)
            if length > 0:
                base = round(base - length, 1)
                stack.append(Part(kind, base, length, f"Week of {line.name}: {count:,} {kind}"))
        parts.append((round(LEFT + number * wide + (wide - column) / 2, 1), stack))
    every = max(1, math.ceil(len(weeks) / 8))
    names = [
        (round(LEFT + number * wide + wide / 2, 1), line.name)
        for number, line in enumerate(weeks)
        if number % every == 0
    ]
    ticks = [
        (round(HEIGHT - BOTTOM - available * count / top, 1), count)
        for count in range(0, top + 1, step)
    ]
    return Columns(parts, ticks, names, column)
