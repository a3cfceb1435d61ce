"""``make profile``: where the time of one request goes, stage by stage, as a picture.

The application is called in this process, without a network, as often as it takes; the time of a
stage is its median. What is left of the whole is Flask, the log and the card log.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import redirect_stderr
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import click
from flask import Response, g
from rich.console import Console
from rich.table import Table
from werkzeug.test import EnvironBuilder, run_wsgi_app

from cds_service.app import create_app
from cds_service.content.loader import load_content
from cds_service.engine.evaluation import Evaluation
from cds_service.engine.render import SuggestionContext
from cds_service.hooks.prefetch import resolve_prefetch
from cds_service.hooks.protocol import read_request
from cds_service.settings import Settings
from cds_service.web.server import freeze_objects
from cds_service.web.telemetry import write_logs_as_json

from . import leave
from .requests import SERVICE, build_request

KEPT = Path(__file__).parent.parent / "docs" / "profile.svg"
COLOURS = ("#2a7f62", "#3f9f83", "#7cc0a5", "#c2703d", "#dd9b6f", "#6b6f8f", "#9da0bb")
WIDTH, LEFT, BAR = 860, 20, 46


@click.command()
@click.option("--times", default=1500, show_default=True)
@click.option("--keep", is_flag=True, help="Keep the picture.")
def main(times: int, keep: bool) -> None:
    """Measure it, print it, and draw it to ``benchmarks/last``."""
    stages = measure_stages(times)
    whole = sum(stages.values())
    table = Table(title=f"one request: {whole:.0f} us", title_justify="left")
    for column in ("", "us", "%"):
        table.add_column(column, justify="left" if not column else "right")
    for name, took in stages.items():
        table.add_row(name, f"{took:.0f}", f"{took / whole:.0%}")
    Console().print(table)
    leave("profile.svg", draw(stages), KEPT if keep else None)


def measure_stages(times: int) -> dict[str, float]:
    """Microseconds by stage."""
    now = datetime.now(UTC)
    body, content = build_request(50, now), load_content()
    with (
        tempfile.TemporaryDirectory() as aside,
        open(os.devnull, "w") as nowhere,
        redirect_stderr(nowhere),
    ):
        write_logs_as_json()
        settings = Settings(auth="open", database_url=f"sqlite:///{aside}/profile.sqlite3")
        app = create_app(settings, content)
        freeze_objects()
        seen: list[dict[str, float]] = []

        @app.after_request
        def look(response: Response) -> Response:
            seen.append(dict(g.call.stages))
            return response

        wholes = []
        for _ in range(times):
            request = EnvironBuilder(
                SERVICE, method="POST", data=body, content_type="application/json"
            )
            environ = request.get_environ()
            began = time.perf_counter()
            run_wsgi_app(app.wsgi_app, environ, buffered=True)
            wholes.append(time.perf_counter() - began)
        evaluation = Evaluation(content)
        cases: list[float] = []
        answers: list[float] = []
        for number in range(times):  # in turns: what comes second finds all of it at hand
            hook, context = read_request(body, "patient-view")
            chart = resolve_prefetch(content, hook, context, None, 1.0)
            began = time.perf_counter()
            if number % 2:
                evaluation.case(chart, now)
            else:
                evaluation.answer(chart, SuggestionContext.of(hook.hook, context), now)
            (cases if number % 2 else answers).append(time.perf_counter() - began)
    late = seen[times // 5 :]
    stage = {name: statistics.median(each[name] for each in late) * 1e6 for name in late[0]}
    facts = statistics.median(cases) / statistics.median(answers) * stage["evaluate"]
    rest = statistics.median(wholes[times // 5 :]) * 1e6 - sum(stage.values())
    return {
        "caller": stage["caller"],
        "body, JSON, request": stage["request"],
        "chart": stage["prefetch"],
        "facts": facts,
        "findings to cards, JSON": stage["evaluate"] - facts,
        "Flask, logs, card log": rest,
    }


def draw(stages: dict[str, float]) -> str:
    """An SVG: one bar, as long as the request, and its stages below it."""
    whole, x = sum(stages.values()), float(LEFT)
    height = 60 + BAR + 24 * len(stages)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="14" fill="#222">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24">One request, 50 Observations, 4 cards: {whole:.0f} us</text>',
    ]
    for number, (name, took) in enumerate(stages.items()):
        words = f"{escape(name)}: {took:.0f} us ({took / whole:.0%})"
        length, colour = (WIDTH - 2 * LEFT) * took / whole, COLOURS[number % len(COLOURS)]
        y = 62 + BAR + 24 * number
        parts += [
            f'<rect x="{x:.1f}" y="38" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<rect x="{LEFT}" y="{y - 12}" width="14" height="14" fill="{colour}"/>',
            f'<text x="{LEFT + 22}" y="{y}">{words}</text>',
        ]
        x += length
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
