"""The service as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import requests


class Started(NamedTuple):
    """A service that answers."""

    address: str
    pid: int


@contextmanager
def started(
    *arguments: str, port: int, log: Path | None = None, **environment: str
) -> Iterator[Started]:
    """``cds-service`` as a process of its own, once it answers; what it says goes into ``log``."""
    said = log.open("w") if log is not None else subprocess.DEVNULL
    aside = tempfile.TemporaryDirectory()
    own = {"CDS_DATABASE_URL": f"sqlite:///{aside.name}/service.sqlite3"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cds_service.command", *arguments, "--port", str(port)],
        env={**os.environ, **own, **environment},
        stdout=said,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                requests.get(f"{address}/cds-services", timeout=1)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield Started(address, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        aside.cleanup()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
