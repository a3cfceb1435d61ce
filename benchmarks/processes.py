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
def serving(module: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server as a process of its own, with a database of its own; ended by its id."""
    with tempfile.TemporaryDirectory() as aside:
        database = {"CDS_DATABASE_URL": f"sqlite:///{aside}/bench.sqlite3"}
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, "CDS_AUTH": "open", **database, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


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
