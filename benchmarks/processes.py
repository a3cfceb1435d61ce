"""Servers as processes of their own, and what a process is and holds, from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def process(*command: str | Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program as a process of its own, which says nothing; ended by its id."""
    started = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        started.terminate()
        started.wait(20)


@contextmanager
def serving(module: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of this project, open, with a database of its own unless others are named."""
    with tempfile.TemporaryDirectory() as aside:
        own = {"CDS_AUTH": "open", "CDS_DATABASE_URL": f"sqlite:///{aside}/bench.sqlite3"}
        with process(sys.executable, "-m", module, *arguments, **own | environment) as started:
            yield started


def children(process: int) -> list[int]:
    """The processes that one has started: the workers of a gunicorn."""
    return [
        int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


def resident(process: int) -> float:
    """Resident memory in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
