"""Servers for the tests: as processes of their own, or in a thread; and what they need."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask
from werkzeug.serving import make_server


class Started(NamedTuple):
    """A service that answers."""

    address: str
    pid: int


@contextmanager
def started(
    *arguments: str,
    port: int,
    log: Path | None = None,
    files: int | None = None,
    **environment: str,
) -> Iterator[Started]:
    """``cds-service`` as a process of its own, once it answers; what it says goes into ``log``.

    ``files`` is the soft limit of its open files; that of the tests themselves stays.
    """
    said = log.open("w") if log is not None else subprocess.DEVNULL
    aside = tempfile.TemporaryDirectory()
    own = {"CDS_DATABASE_URL": f"sqlite:///{aside.name}/service.sqlite3"}
    limited = () if files is None else ("sh", "-c", f'ulimit -Sn {files} && exec "$@"', "sh")
    process = subprocess.Popen(
        [*limited, sys.executable, "-m", "cds_service.cli", *arguments, "--port", str(port)],
        env={**os.environ, **own, **environment},
        stdout=said,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
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


@contextmanager
def loaded(
    url: str, request: Any, callers: int = 4, verify: str | bool = True
) -> Iterator[list[requests.Response]]:
    """Send a call again and again, and gather the answers; that one was lost fails at the end."""
    answers: list[requests.Response] = []
    faults: list[BaseException] = []
    ended = threading.Event()

    def call() -> None:
        with requests.Session() as session:
            while not ended.is_set():
                try:
                    answers.append(session.post(url, json=request, verify=verify, timeout=10))
                except requests.RequestException as error:
                    faults.append(error)
                time.sleep(0.01)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert faults == []


@contextmanager
def running(
    app: Flask | Callable[..., Any], port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serve a WSGI application on this machine, on a free port if none is given."""
    server = make_server("127.0.0.1", port, app, threaded=True, ssl_context=tls)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def connected(address: str, timeout: float = 5) -> socket.socket:
    """A bare connection to a server, for what no client of HTTP would send."""
    url = urlsplit(address)
    return socket.create_connection((url.hostname or "", url.port or 80), timeout)


def needed(program: str, package: str) -> str:
    """Where a program is; without it, a test is skipped on a desk and fails in CI."""
    return shutil.which(program) or lacking(f"{program} is needed (Debian: {package})")


def lacking(what: str) -> NoReturn:
    """Skip a test on a desk for want of something, and fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def sockets_of(process: int) -> int:
    """How many connections and listeners a process has open."""
    found = 0
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            found += os.readlink(entry).startswith("socket:")
        except OSError:
            continue  # it was closed meanwhile
    return found


LISTENER = 1  # the socket that a worker has whom nobody calls
