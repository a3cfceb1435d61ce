"""Feedback while workers are killed and the database is restarted: what was acknowledged is there.

``python -m tests.storage.nothing_lost`` sends 10,000 items from 8 clients, each again until it is
acknowledged, and prints what was sent, acknowledged and stored. Needs a PostgreSQL.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import click
import requests
import sqlalchemy
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.processes import children
from tests.support.calls import VIEW
from tests.support.postgresql import new_database, postgresql_server
from tests.support.processes import free_port, started

CLIENTS = 8
KILL_EVERY = 0.2  # seconds
RESTARTS = 3


@dataclass
class Told:
    """What the clients have seen."""

    sent: int = 0  # items, each time that they were sent
    failed: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    killed: int = 0
    restarted: int = 0
    stored: Counter[str] = field(default_factory=Counter)


def send(address: str, cards: list[str], told: Told, lock: threading.Lock, seed: int) -> None:
    """One client: its items in batches, each until it is acknowledged."""
    chance = random.Random(seed)
    while cards:
        batch = cards[: chance.randrange(1, 8)]
        items = [
            {"card": card, "outcome": "overridden", "outcomeTimestamp": "2026-01-15T12:00:00Z"}
            for card in batch
        ]
        with lock:
            told.sent += len(batch)
        try:
            answer = requests.post(
                f"{address}{VIEW}/feedback", json={"feedback": items}, timeout=10
            )
            outcome = str(answer.status_code)
        except requests.RequestException as error:
            outcome = type(error).__name__
        if outcome == "200":
            with lock:
                told.acknowledged.update(batch)
            del cards[: len(batch)]
        else:
            with lock:
                told.failed[outcome] += 1
            time.sleep(0.05)


def lose_nothing(count: int, progress: Progress | None = None) -> Told:
    """Send ``count`` items while workers and the database die; what was seen and is stored."""
    told, lock = Told(), threading.Lock()
    with postgresql_server() as database:
        url = new_database(database.address)
        own = {"CDS_AUTH": "open", "CDS_DATABASE_URL": url}
        with started("serve", "--workers", "3", port=free_port(), **own) as service:
            each = [
                [str(uuid.UUID(int=n)) for n in range(k, count, CLIENTS)] for k in range(CLIENTS)
            ]
            clients = [
                threading.Thread(target=send, args=(service.address, cards, told, lock, number))
                for number, cards in enumerate(each)
            ]
            task = progress.add_task("Sending", total=count) if progress else None
            for client in clients:
                client.start()
            while any(client.is_alive() for client in clients):
                time.sleep(KILL_EVERY)
                with suppress(ProcessLookupError, IndexError):
                    os.kill(random.choice(children(service.pid)), signal.SIGKILL)
                    told.killed += 1
                due = (told.restarted + 1) * count / (RESTARTS + 1)
                if len(told.acknowledged) >= due and told.restarted < RESTARTS:
                    database.restart()
                    told.restarted += 1
                if progress is not None and task is not None:
                    progress.update(task, completed=len(told.acknowledged))
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            rows: list[Any] = list(connection.execute(sqlalchemy.text("SELECT card FROM feedback")))
        engine.dispose()
    told.stored = Counter(row.card for row in rows)
    return told


@click.command()
@click.option("--items", default=10_000, show_default=True)
def main(items: int) -> None:
    """Lose nothing."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        told = lose_nothing(items, progress)
    table = Table("", "")
    for what, number in (
        ("sent, with repeats", told.sent),
        ("acknowledged", len(told.acknowledged)),
        ("stored", sum(told.stored.values())),
        ("acknowledged and not stored", len(told.acknowledged - told.stored.keys())),
        ("stored twice", sum(times > 1 for times in told.stored.values())),
        ("workers killed", told.killed),
        ("restarts of PostgreSQL", told.restarted),
        ("calls that failed", dict(told.failed)),
    ):
        table.add_row(what, str(number))
    Console().print(table)
    whole = told.acknowledged == told.stored.keys() and max(told.stored.values()) == 1
    sys.exit(0 if whole and len(told.acknowledged) == items else 1)


if __name__ == "__main__":
    main()
