"""The server: gunicorn, adapted for this service.

A request that cannot be read as HTTP never reaches the application. It is answered here with an
OperationOutcome. Only the kind of its error is logged, because the request may contain data of a
patient, or a token.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import mmap
import os
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

from ..content.files import ContentError
from ..errors import CannotStart, operation_outcome
from ..settings import BODY_MS, MOST_BODY_BYTES
from .connections import CHECK_EVERY, ClientSocket, WaitingConnections
from .telemetry import AT_WORKER_START, BODY_SECONDS, NOT_LOADED

IDLE_SECONDS = 75  # longer than a reverse proxy keeps an idle connection
WAIT, WAITS = 0.001, 50  # seconds and tries to leave a connection to a worker that has fewer
RETURN_MEMORY_EVERY = 1  # seconds; it takes a tenth of a millisecond if little memory is free
MOST_PLACES = 5  # of faults in the content that a log line names
NO_MORE_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
GRACE_SECONDS = 5  # to finish running calls; no call takes longer than its deadline

log = logging.getLogger("cds_service.server")


@dataclass(frozen=True)
class Options:
    """The address to listen at, the number of processes, and of threads in each process."""

    host: str
    port: int
    workers: int
    threads: int
    json_logs: bool = False
    pid_file: Path | None = None
    ready: Callable[[], None] = lambda: None  # called when the server listens


def run_under_gunicorn(make: Callable[[], Flask], options: Options) -> None:
    """Serve the application that ``make`` returns, until a signal. Raises what ``make`` raises.

    At a SIGHUP, ``make`` is called again and reads content and clients anew. Each old worker
    finishes its calls and is replaced by a worker with the new application. If ``make`` fails, the
    old application stays in use; the log has the reason, and ``/health/ready`` reports the failure.
    """
    _use_one_malloc_arena()
    _raise_open_file_limit()
    app = make()
    _Server(app, make, options).run()


def freeze_objects() -> None:
    """Exclude all present objects, such as the content, from garbage collection.

    They never change. So the collector need not visit them, and a fork need not copy their memory
    pages. Objects of requests are freed by reference counts, so the collector can run rarely.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _use_one_malloc_arena() -> None:
    """Let all threads of this process and its forks use one arena of malloc (M_ARENA_MAX).

    glibc returns the free memory at the end of the main arena to the system, and not that of other
    arenas. With another C library nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-8, 1)  # M_ARENA_MAX


def _raise_open_file_limit() -> None:
    """Raise the limit of open files as far as allowed: a worker at the limit would end."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _return_free_memory() -> None:
    """Return free memory to the system (malloc_trim of malloc.h).

    By itself, glibc returns memory less often the larger the blocks are that were freed before, and
    one small block in use keeps all memory below it. A worker would stay as large as its largest
    requests made it. With another C library nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _use_batch_scheduling() -> None:
    """Schedule this process as SCHED_BATCH (sched(7)): it is interrupted less often.

    Its threads switch many times within a call, and so Linux moves them less often from core to
    core. On other systems, or if it is not permitted, nothing is changed.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class _ConnectionCounts:
    """The number of connections of each worker, in memory that all workers share."""

    def __init__(self) -> None:
        # Each number is stored plus one; 0 stands for no worker.
        self._counts = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("i")

    def note(self, worker: int, connections: int | None) -> None:
        """Note the count of a worker, by its number; ``None`` if it accepts no more."""
        self._counts[worker % len(self._counts)] = 0 if connections is None else connections + 1

    def fewest(self) -> int:
        """The count of the worker with the fewest connections."""
        return min(filter(None, self._counts), default=1) - 1


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with an application that is already loaded: errors appear before it forks."""

    def __init__(self, app: Flask, make: Callable[[], Flask], options: Options) -> None:
        self._app, self._make, self._options = app, make, options
        self.connections = _ConnectionCounts()
        super().__init__()
        freeze_objects()

    def load_config(self) -> None:
        options = self._options
        for name, value in {
            "bind": f"{options.host}:{options.port}",
            "workers": options.workers,
            "threads": options.threads,
            "worker_class": _Worker,
            "logger_class": _JsonLogger if options.json_logs else Logger,
            "keepalive": IDLE_SECONDS,
            "sendfile": False,  # sendfile() would wait for the caller
            "graceful_timeout": GRACE_SECONDS,
            "control_socket_disable": True,
            "when_ready": lambda _: options.ready(),
            "child_exit": lambda _, worker: self.connections.note(worker.age, None),
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
            log.error("the reload failed: %s", _reason_for_log(error))
            self._app.config[NOT_LOADED] = True
        else:
            log.info("reloaded: new workers replace the old ones")
        freeze_objects()


def _reason_for_log(error: Exception) -> str:
    """Why the reload failed. Faults of content are logged by their place, without their text."""
    if isinstance(error, ContentError):
        places = ", ".join(f"{fault.file}:{fault.line}" for fault in error.faults[:MOST_PLACES])
        count = len(error.faults)
        return f"the content has {count} faults ({places}); cds-service content check says which"
    return str(error) if isinstance(error, CannotStart) else type(error).__name__


class _JsonLogger(Logger):  # type: ignore[misc]
    """Writes the lines of gunicorn in the format of all other logs."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


# The answers to requests that cannot be read as HTTP; all other such errors are 400.
_STATUSES = {
    errors.LimitRequestLine: (414, "URI Too Long", "too-long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large", "too-long"),
    errors.ExpectationFailed: (417, "Expectation Failed", "not-supported"),
    errors.UnsupportedTransferCoding: (501, "Not Implemented", "not-supported"),
}
# The codes of requests that ``connections`` refuses.
_REFUSALS = {408: "timeout", 431: "too-long", 503: "transient"}
_RESPONSE_ERRORS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)


class _Worker(ThreadWorker):  # type: ignore[misc]
    """A worker that takes its share of connections, and does not wait for slow callers.

    A persistent connection stays with the worker that accepted it. If one worker accepted most of
    them, their calls would wait while other workers are idle. So a worker that has more connections
    than another leaves the next one to the others.

    No thread waits for a caller who sends or reads slowly, and the main loop does not wait for a
    caller who does not close the connection (``connections``). Errors are answered and logged
    without parts of the request.
    """

    _skipped = 0  # how often in a row a connection was left to other workers
    _gave_back = 0.0  # when memory was last returned to the system
    _refused = 0.0  # when a connection was last refused because no file could be opened
    _spare_file = -1  # a file that is closed to accept one more connection

    waiting: WaitingConnections

    def init_process(self) -> None:
        _use_batch_scheduling()
        super().init_process()

    def run(self) -> None:
        if at_start := self.wsgi.extensions.get(AT_WORKER_START):
            at_start()
        self._spare_file = os.open(os.devnull, os.O_RDONLY)
        # Other applications, such as that of a benchmark, may have neither value.
        config = self.wsgi.config
        most = config["MAX_CONTENT_LENGTH"] or MOST_BODY_BYTES
        seconds = config.get(BODY_SECONDS, BODY_MS / 1000)
        self.waiting = WaitingConnections(self.poller, self._end, self._refuse, most, seconds)
        super().run()

    def notify(self) -> None:
        super().notify()
        self.app.connections.note(self.age, self.nr_conns if self.alive else None)
        if time.monotonic() - self._gave_back > RETURN_MEMORY_EVERY:
            self._gave_back = time.monotonic()
            _return_free_memory()
        self.waiting.cut_late()
        if self.nr_conns >= self.worker_connections:
            self.waiting.cut_earliest()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, CHECK_EVERY) if self.waiting else timeout)

    def enqueue_req(self, conn: Any) -> None:
        if not isinstance(conn.sock, ClientSocket):
            conn.sock, conn.data_ready = ClientSocket(conn.sock), True
        elif conn.parser is not None and (read_ahead := conn.parser.unreader.take_buffered()):
            conn.sock.received[:0] = read_ahead
        self.waiting.receive_request(conn, partial(super().enqueue_req, conn))

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        self.waiting.count(conn)
        if conn.sock.unsent:
            self.waiting.send_rest(conn, partial(self.finish_request, conn, fs))
            return
        read_ahead = conn.sock.received or (conn.parser and conn.parser.unreader.buf.getvalue())
        if conn.sock.deadline is not None and not read_ahead and not conn.sock.has_more_to_read():
            conn.sock.deadline = None
        if conn.sock.cut_short or fs.cancelled() or fs.exception() is not None or not fs.result():
            self.waiting.hang_up(conn)
        elif read_ahead:
            self.enqueue_req(conn)
        else:
            super().finish_request(conn, fs)

    def _end(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    def accept(self, listener: Any) -> None:
        if self.nr_conns > self.app.connections.fewest() and self._skipped < WAITS:
            self._skipped += 1
            time.sleep(WAIT)  # the main loop tries again after its other events
            return
        self._skipped = 0
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in NO_MORE_FILES:
                raise
            self._refuse_one(listener)
        self.app.connections.note(self.age, self.nr_conns)

    def _refuse_one(self, listener: Any) -> None:
        """Accept a connection in place of the spare file, and answer that the service is busy.

        The worker goes on: open connections are answered, and each one that is closed frees a file.
        """
        if time.monotonic() - self._refused > 1:
            log.error("no more files can be opened: connections are refused")
        self._refused = time.monotonic()
        spare, self._spare_file = self._spare_file, -1
        with suppress(OSError):
            os.close(spare)
        with suppress(OSError):
            client, _ = listener.accept()
            with client:
                self._answer(client, 503, "Service Unavailable", "transient")
                client.shutdown(socket.SHUT_WR)
        time.sleep(WAIT)
        with suppress(OSError):
            self._spare_file = os.open(os.devnull, os.O_RDONLY)

    def handle_request(self, req: Any, conn: Any) -> Any:
        if not conn.sock.is_whole:
            req.force_close()
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        if isinstance(exc, errors.ParseException) and not isinstance(exc, _RESPONSE_ERRORS):
            found = (known for kind, known in _STATUSES.items() if isinstance(exc, kind))
            log.warning("a request is not valid HTTP: %s", type(exc).__name__)
            self._answer(client, *next(found, (400, "Bad Request", "structure")))
        else:
            log.error("a request failed with %s", type(exc).__name__)
            self._answer(client, 500, "Internal Server Error", "exception")

    def _refuse(self, conn: Any, status: int) -> None:
        reason = HTTPStatus(status).phrase
        log.warning("a request was refused before it was complete: %s", reason)
        self._answer(conn.sock, status, reason, _REFUSALS[status])

    def _answer(self, client: Any, status: int, reason: str, code: str) -> None:
        """Send an OperationOutcome without the application. The connection is closed after it."""
        if status == 500:
            text = "The service failed. This is not an answer of no concern."
            outcome = operation_outcome(text, code, severity="fatal")
        elif status == 503:
            outcome = operation_outcome("Too much is being sent at once. Come again.", code)
            reason += "\r\nRetry-After: 1"
        else:
            text = f"This is not HTTP that is served here: {reason}."
            outcome = operation_outcome(text, code)
        body = orjson.dumps(outcome)
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nCache-Control: no-store\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            write_nonblock(client, head.encode() + body)
        except OSError:
            log.warning("a refusal could not be sent to the caller")
