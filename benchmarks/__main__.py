"""``make bench``: the service beside the floor under it, in one run.

Both run under gunicorn with the same workers and threads, in turns, so that noise meets both. Goals
are printed beside what was measured; only a wrong answer is a failure.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson
import requests
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .load import Measured, measure
from .processes import children, resident, serving
from .requests import CARDS, SERVICE, build_request

SIZES = (50, 500, 5000)
GOALS = {"ratio": 0.6, "start": 2.0, "memory": 120.0}


@click.command()
@click.option("--seconds", default=4.0, show_default=True, help="For each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Turns between service and floor.")
@click.option("--workers", default=2, show_default=True)
@click.option("--threads", default=24, show_default=True)
@click.option("--connections", default=8, show_default=True)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here."
)
def main(
    seconds: float,
    rounds: int,
    workers: int,
    threads: int,
    connections: int,
    json_file: Path | None,
) -> None:
    """Measure the service against the floor."""
    body = build_request(SIZES[0], datetime.now(UTC))
    began = time.perf_counter()
    with serving(
        "cds_service.command",
        "serve",
        "--port",
        "8211",
        "--workers",
        str(workers),
        "--threads",
        str(threads),
    ) as service:
        answer = wait_for_answer(8211, body)
        start = time.perf_counter() - began
        check(answer)
        with tempfile.NamedTemporaryFile() as fixed:
            fixed.write(answer)
            fixed.flush()
            with serving("benchmarks.floor", "8212", fixed.name, str(workers), str(threads)):
                wait_for_answer(8212, body)
                pairs, growth = run(seconds, rounds, connections, body)
        memory = max(resident(child) for child in children(service.pid))
    figures = report(pairs, growth, start, memory)
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def run(
    seconds: float, rounds: int, connections: int, body: bytes
) -> tuple[list[tuple[Measured, Measured]], dict[int, float]]:
    """Rounds of (service, floor) under load, and the milliseconds alone by Observations."""
    pairs: list[tuple[Measured, Measured]] = []
    growth: dict[int, float] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Measuring", total=rounds * 2 + len(SIZES))
        for _ in range(rounds):
            service = measure(8211, SERVICE, body, seconds, connections, len(CARDS))
            progress.advance(task)
            floor = measure(8212, SERVICE, body, seconds, connections, len(CARDS))
            progress.advance(task)
            pairs.append((service, floor))
        for size in SIZES:
            grown = build_request(size, datetime.now(UTC))
            growth[size] = measure(8211, SERVICE, grown, seconds, 1, len(CARDS)).percentile(50)
            progress.advance(task)
    return pairs, growth


def report(
    pairs: list[tuple[Measured, Measured]], growth: dict[int, float], start: float, memory: float
) -> dict[str, object]:
    """Print the table, and give the figures."""
    ratios = [service.rate / floor.rate for service, floor in pairs]
    table = Table(
        title="patient-view, all in prefetch, 50 Observations, 4 cards", title_justify="left"
    )
    for column in ("", "service", "floor", "goal"):
        table.add_column(column, justify="left" if not column else "right")
    rates = [statistics.median(m[i].rate for m in pairs) for i in (0, 1)]
    table.add_row("requests a second", f"{rates[0]:.0f}", f"{rates[1]:.0f}", "")
    percentiles: dict[str, list[float]] = {}
    for percent in (50, 99):
        both = [statistics.median(m[i].percentile(percent) for m in pairs) for i in (0, 1)]
        percentiles[f"p{percent}"] = both
        table.add_row(f"p{percent}, ms", f"{both[0]:.2f}", f"{both[1]:.2f}", "")
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    table.add_row("ratio to the floor", f"{ratio:.2f} ({spread})", "1", f"{GOALS['ratio']}")
    for size, milliseconds in growth.items():
        times = milliseconds / growth[SIZES[0]]
        table.add_row(
            f"alone, {size} Observations, ms", f"{milliseconds:.2f} ({times:.1f}x)", "", ""
        )
    table.add_row("start to first answer, s", f"{start:.2f}", "", f"{GOALS['start']}")
    table.add_row("memory of a worker, MB", f"{memory:.0f}", "", f"{GOALS['memory']:.0f}")
    Console().print(table)
    return {
        "rates": rates,
        "ratios": ratios,
        "ratio": ratio,
        **percentiles,
        "growth_ms": {str(size): value for size, value in growth.items()},
        "start_s": start,
        "memory_mb": memory,
        "goals": GOALS,
    }


def wait_for_answer(port: int, body: bytes) -> bytes:
    """The first answer of a server that is starting."""
    for _ in range(2000):
        try:
            return requests.post(
                f"http://127.0.0.1:{port}{SERVICE}",
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=5,
            ).content
        except requests.ConnectionError:
            time.sleep(0.01)
    raise SystemExit(f"nothing answers on port {port}")


def check(answer: bytes) -> None:
    """The answer holds the cards that it must."""
    codes = [card["source"]["topic"]["code"] for card in orjson.loads(answer)["cards"]]
    if codes != CARDS:
        raise SystemExit(f"wrong cards: {codes}")


if __name__ == "__main__":
    main()
