"""The server: gunicorn, as this service runs under it.

What cannot be read as HTTP never reaches the application. It is answered here with an
OperationOutcome, and told in the log by its kind alone: what was sent may name a patient, or hold a
token.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

from .caller import ClientsError
from .content_files import ContentError
from .database import DatabaseError
from .protocol import operation_outcome
from .telemetry import NOT_LOADED

IDLE_SECONDS = 75  # longer than a front keeps an idle connection
WAIT_FOR_EACH, LONGEST_WAIT = 0.0005, 0.005  # seconds, before another connection is taken
GRACE_SECONDS = 5  # to end what is under way; no call takes longer than the deadline

log = logging.getLogger("cds_service.server")


@dataclass(frozen=True)
class Options:
    """Where to listen, with how many processes, and threads in each."""

    host: str
    port: int
    workers: int
    threads: int
    json_logs: bool = False
    pid_file: Path | None = None


def run_under_gunicorn(make: Callable[[], Flask], options: Options) -> None:
    """Serve what ``make`` gives until a signal ends it. Raises what ``make`` raises.

    At a SIGHUP it is made anew, from the content and the clients as they are then. Each worker ends
    what it has begun, and one with the new takes its place. If it cannot be made, all stays as it
    is; the log says why, and ``/health/ready`` that it was so.
    """
    app = make()
    _share_memory_among_threads()
    _Server(app, make, options).run()


def set_aside() -> None:
    """The content never changes: the collector need not look at it, nor a fork copy its pages.

    What a request leaves behind is freed without it, so that it may come seldom.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _share_memory_among_threads() -> None:
    """Two pools of memory for all threads, not one each: a large request leaves less behind.

    For glibc (mallopt with M_ARENA_MAX, malloc.h); elsewhere nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-8, 2)


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, given an application that is loaded already: faults show before it forks."""

    def __init__(self, app: Flask, make: Callable[[], Flask], options: Options) -> None:
        self._app, self._make, self._options = app, make, options
        super().__init__()
        set_aside()

    def load_config(self) -> None:
        options = self._options
        for name, value in {
            "bind": f"{options.host}:{options.port}",
            "workers": options.workers,
            "threads": options.threads,
            "worker_class": _Worker,
            "logger_class": _JsonLogger if options.json_logs else Logger,
            "keepalive": IDLE_SECONDS,
            "graceful_timeout": GRACE_SECONDS,
            "control_socket_disable": True,
            "pidfile": str(options.pid_file) if options.pid_file else None,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._app

    def reload(self) -> None:
        super().reload()
        gc.unfreeze()
        try:
            self.callable = self._app = self._make()
        except Exception as error:
            known = isinstance(error, ContentError | ClientsError | DatabaseError)
            log.error("nothing was loaded anew: %s", error if known else type(error).__name__)
            self._app.config[NOT_LOADED] = True
        else:
            log.info("loaded anew: new workers take the place of the old ones")
        set_aside()


class _JsonLogger(Logger):  # type: ignore[misc]
    """gunicorn's own lines, written as all others are."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


# What cannot be read as HTTP, and how it is answered; anything else of the kind is 400.
_STATUSES = {
    errors.LimitRequestLine: (414, "URI Too Long", "too-long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large", "too-long"),
    errors.ExpectationFailed: (417, "Expectation Failed", "not-supported"),
    errors.UnsupportedTransferCoding: (501, "Not Implemented", "not-supported"),
}
_OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)


class _Worker(ThreadWorker):  # type: ignore[misc]
    """A worker that takes its share of connections, and repeats nothing of what it could not read.

    A connection that is kept stays with the worker that took it. If one took most of them, their
    calls would wait for it while another worker is idle; so who has more waits longer to take one.
    """

    def accept(self, listener: Any) -> None:
        time.sleep(min(self.nr_conns * WAIT_FOR_EACH, LONGEST_WAIT))
        super().accept(listener)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        theirs = isinstance(exc, errors.ParseException) and not isinstance(exc, _OURS)
        if theirs:
            found = (known for kind, known in _STATUSES.items() if isinstance(exc, kind))
            status, reason, code = next(found, (400, "Bad Request", "structure"))
            log.warning("what was sent is no HTTP: %s", type(exc).__name__)
            outcome = operation_outcome(f"This is not HTTP that is served here: {reason}.", code)
        else:
            status, reason = 500, "Internal Server Error"
            log.error("a request failed with %s", type(exc).__name__)
            text = "The service failed. This is not an answer of no concern."
            outcome = operation_outcome(text, "exception", severity="fatal")
        body = orjson.dumps(outcome)
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nCache-Control: no-store\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            write_nonblock(client, head.encode() + body)
        except OSError:
            log.warning("nobody was there for the answer")
