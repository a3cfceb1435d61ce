"""The plot of expressed milk: 24-hour totals by day after birth, with the expected range.

The last bar is the total of the 24 hours before the present time, which the cards judge. The other
bars are the totals of the 24-hour periods before it. Only geometry here; the template draws it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ..content.compiled import Content
from ..content.fact_types import Reading
from ..fhir.times import DAY

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 34
FEWEST_DAYS = 7
STEPS = (10, 20, 50, 100, 200, 250, 500, 1000)


@dataclass(frozen=True)
class Bar:
    """One 24-hour total, in the coordinates of the picture."""

    x: float
    y: float
    width: float
    height: float
    day: float
    volume: float
    sessions: int


@dataclass(frozen=True)
class Plot:
    """What the template draws: bars, the band of expected volumes, and the axes."""

    bars: list[Bar]
    band: str
    day_ticks: list[tuple[float, int]]
    volume_ticks: list[tuple[float, int]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    base: int = HEIGHT - BOTTOM


def plot_volumes(
    content: Content, readings: Iterable[Reading], birth: float, now: datetime
) -> Plot:
    """Lay out the plot of expressed milk (readings in mL) after a ``birth`` (epoch seconds)."""
    sessions = {
        (reading.moment.earliest, reading.site, reading.value)
        for reading in readings
        if isinstance(reading.value, float)
    }
    curve = content.curves["expected-volume"]
    present = (now.timestamp() - birth) / DAY
    last_day = max(FEWEST_DAYS, math.ceil(present) + 1)
    totals: list[tuple[float, float, int]] = []
    end = present
    while end > 0:
        inside = [(t, v) for t, _, v in sessions if end - 1 < (t - birth) / DAY <= end]
        if inside:
            totals.append((end, sum(v for _, v in inside), len({t for t, _ in inside})))
        end -= 1
    highest = max(curve.at("high", day * 24) for day in range(1, last_day + 1))
    highest = max([highest, *(total for _, total, _ in totals)])
    step = next((s for s in STEPS if highest / s <= 5), STEPS[-1])
    top = step * math.ceil(highest / step)

    def x(day: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * day / last_day, 1)

    def y(volume: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * volume / top, 1)

    half = 0.32
    bars = [
        Bar(
            x=x(max(0.0, day - half)),
            y=y(total),
            width=round(x(day + half) - x(max(0.0, day - half)), 1),
            height=round(HEIGHT - BOTTOM - y(total), 1),
            day=day,
            volume=total,
            sessions=count,
        )
        for day, total, count in reversed(totals)
    ]
    days = [curve.points[0].day + 0.25 * n for n in range(int((last_day - 1) / 0.25) + 1)]
    upper = [f"{x(day)},{y(curve.at('high', day * 24))}" for day in days]
    lower = [f"{x(day)},{y(curve.at('low', day * 24))}" for day in reversed(days)]
    every = max(1, math.ceil(last_day / 14))
    return Plot(
        bars=bars,
        band=" ".join(upper + lower),
        day_ticks=[(x(day), day) for day in range(0, last_day + 1, every)],
        volume_ticks=[(y(volume), volume) for volume in range(0, top + 1, step)],
    )
