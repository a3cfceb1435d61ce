"""The figures as a picture: how near each comes to its goal, and the run before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

LABELS, BAR, ROW, TOP = 380, 380, 26, 40
MOST = 8.0  # times the goal, either way


def draw(
    rows: Sequence[tuple[str, float | None, float | None, bool, dict[str, Any] | None]],
) -> str:
    """An SVG: a bar for each figure that has a goal, which stands at the line.

    A bar that passes the line has reached it, whichever way the goal lies. The dot is the run that
    was kept before.
    """
    shown = [row for row in rows if row[1] is not None and row[2] is not None]
    height = TOP + ROW * len(shown) + 34
    middle = LABELS + BAR / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABELS + BAR + 110} {height}" '
        'font-family="sans-serif" font-size="13" fill="#222">',
        f'<rect width="{LABELS + BAR + 110}" height="{height}" fill="#fff"/>',
        f'<text x="{middle}" y="20" text-anchor="middle">the goal</text>',
    ]
    for number, (name, measured, goal, at_least, before) in enumerate(shown):
        assert measured is not None
        assert goal is not None
        y = TOP + ROW * number
        length = _length(measured, goal, at_least)
        colour = "#2a7f62" if length >= BAR / 2 else "#c2703d"
        parts.append(
            f'<text x="{LABELS - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
        )
        parts.append(
            f'<rect x="{LABELS}" y="{y + 3}" width="{length:.1f}" height="16" fill="{colour}"/>'
        )
        parts.append(f'<text x="{LABELS + BAR + 8}" y="{y + 15}">{measured:.3g} / {goal:g}</text>')
        old = (before or {}).get("measured")
        if isinstance(old, float):
            x = LABELS + _length(old, goal, at_least)
            parts.append(f'<circle cx="{x:.1f}" cy="{y + 11}" r="4" fill="#222"/>')
    bottom = TOP + ROW * len(shown)
    parts.append(
        f'<line x1="{middle}" x2="{middle}" y1="26" y2="{bottom}" stroke="#222" '
        'stroke-dasharray="4 3"/>'
    )
    parts.append(
        f'<text x="{LABELS}" y="{bottom + 22}">right of the line: reached. '
        "Dot: the run before. Logarithmic.</text></svg>"
    )
    return "\n".join(parts) + "\n"


def _length(measured: float, goal: float, at_least: bool) -> float:
    times = measured / goal if at_least else goal / measured
    bounded = min(MOST, max(1 / MOST, times))
    return BAR / 2 * (1 + math.log(bounded) / math.log(MOST))
