"""The server: gunicorn, as this service runs under it.

What cannot be read as HTTP never reaches the application. It is answered here with an
OperationOutcome, and told in the log by its kind alone: what was sent may name a patient, or hold a
token.
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
from .connections import LOOK_EVERY, ClientSocket, WaitingConnections
from .telemetry import AT_WORKER_START, BODY_SECONDS, NOT_LOADED

IDLE_SECONDS = 75  # longer than a front keeps an idle connection
WAIT, WAITS = 0.001, 50  # seconds, and how often, for a worker with fewer connections to take one
GIVE_BACK_EVERY = 1  # seconds; it takes a tenth of a millisecond where there is little
MOST_PLACES = 5  # of faults in the content that a line of the log names
NO_MORE_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
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
    ready: Callable[[], None] = lambda: None  # called once it listens


def run_under_gunicorn(make: Callable[[], Flask], options: Options) -> None:
    """Serve what ``make`` gives until a signal ends it. Raises what ``make`` raises.

    At a SIGHUP it is made anew, from the content and the clients as they are then. Each worker ends
    what it has begun, and one with the new takes its place. If it cannot be made, all stays as it
    is; the log says why, and ``/health/ready`` that it was so.
    """
    _keep_one_pool_of_memory()
    _allow_open_files()
    app = make()
    _Server(app, make, options).run()


def set_aside() -> None:
    """The content never changes: the collector need not look at it, nor a fork copy its pages.

    What a request leaves behind is freed without it, so that it may come seldom.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _keep_one_pool_of_memory() -> None:
    """All threads take memory from one: glibc gives back what is free at the end of no other.

    For this process and its forks (mallopt of malloc.h). Elsewhere nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-8, 1)  # M_ARENA_MAX


def _allow_open_files() -> None:
    """As many as the system lets this process have: a worker that cannot open one more ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _give_memory_back() -> None:
    """What is free goes back to the system (malloc_trim of malloc.h).

    Left alone, glibc raises the least that it gives back with the largest piece that it ever freed,
    and a small piece that lives on holds all that is below it: a worker would stay as large as its
    largest requests. Elsewhere nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _work_in_longer_turns() -> None:
    """This process gives way to those that wait, and is not put off for each that wakes.

    Its threads take turns among themselves many times a call; Linux then moves them from core to
    core less. SCHED_BATCH of sched(7); elsewhere, or where it is forbidden, nothing is changed.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class _Connections:
    """How many connections each worker has, known to all of them."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("i")  # one more; 0 is nobody

    def note(self, worker: int, connections: int | None) -> None:
        """Those of a worker, by its number; ``None`` if it takes no more."""
        self._counts[worker % len(self._counts)] = 0 if connections is None else connections + 1

    def fewest(self) -> int:
        """Those of the worker that has the fewest."""
        return min(filter(None, self._counts), default=1) - 1


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, given an application that is loaded already: faults show before it forks."""

    def __init__(self, app: Flask, make: Callable[[], Flask], options: Options) -> None:
        self._app, self._make, self._options = app, make, options
        self.connections = _Connections()
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
            "sendfile": False,  # it would wait for the caller
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
            log.error("nothing was loaded anew: %s", _say_for_the_log(error))
            self._app.config[NOT_LOADED] = True
        else:
            log.info("loaded anew: new workers take the place of the old ones")
        set_aside()


def _say_for_the_log(error: Exception) -> str:
    """Why nothing could be loaded. Of content only the place: its words are for a terminal."""
    if isinstance(error, ContentError):
        places = ", ".join(f"{fault.file}:{fault.line}" for fault in error.faults[:MOST_PLACES])
        count = len(error.faults)
        return f"the content has {count} faults ({places}); cds-service content check says which"
    return str(error) if isinstance(error, CannotStart) else type(error).__name__


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
# What is not taken in (``connections``).
_REFUSALS = {408: "timeout", 431: "too-long", 503: "transient"}
_OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)


class _Worker(ThreadWorker):  # type: ignore[misc]
    """A worker that takes its share of connections, and repeats nothing of what it could not read.

    A connection that is kept stays with the worker that took it. If one took most of them, their
    calls would wait for it while another worker is idle; so who has more leaves the next to others.

    No thread waits for a caller who is slow, to send or to read, nor the main loop for one who does
    not hang up (``connections``).
    """

    _left = 0  # times in a row that a connection was left to others
    _gave_back = 0.0  # when it last gave memory back
    _refused = 0.0  # when it last refused a connection for want of a file
    _spare = -1  # a file that can be given up for one connection more

    waiting: WaitingConnections

    def init_process(self) -> None:
        _work_in_longer_turns()
        super().init_process()

    def run(self) -> None:
        if at_start := self.wsgi.extensions.get(AT_WORKER_START):
            at_start()
        self._spare = os.open(os.devnull, os.O_RDONLY)
        config = self.wsgi.config  # of an application that says neither, such as a benchmark's
        most = config["MAX_CONTENT_LENGTH"] or MOST_BODY_BYTES
        seconds = config.get(BODY_SECONDS, BODY_MS / 1000)
        self.waiting = WaitingConnections(self.poller, self._end, self._refuse, most, seconds)
        super().run()

    def notify(self) -> None:
        super().notify()
        self.app.connections.note(self.age, self.nr_conns if self.alive else None)
        if time.monotonic() - self._gave_back > GIVE_BACK_EVERY:
            self._gave_back = time.monotonic()
            _give_memory_back()
        self.waiting.cut_late()
        if self.nr_conns >= self.worker_connections:
            self.waiting.cut_the_first()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, LOOK_EVERY) if self.waiting else timeout)

    def enqueue_req(self, conn: Any) -> None:
        if not isinstance(conn.sock, ClientSocket):
            conn.sock, conn.data_ready = ClientSocket(conn.sock), True
        elif conn.parser is not None and (read_ahead := conn.parser.unreader.take_buffered()):
            conn.sock.taken_in[:0] = read_ahead
        self.waiting.take_in(conn, partial(super().enqueue_req, conn))

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        self.waiting.count(conn)
        if conn.sock.unsent:
            self.waiting.send_rest(conn, partial(self.finish_request, conn, fs))
            return
        read_ahead = conn.sock.taken_in or (conn.parser and conn.parser.unreader.buf.getvalue())
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
        if self.nr_conns > self.app.connections.fewest() and self._left < WAITS:
            self._left += 1
            time.sleep(WAIT)  # and look again, after what else there is to do
            return
        self._left = 0
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in NO_MORE_FILES:
                raise
            self._refuse_one(listener)
        self.app.connections.note(self.age, self.nr_conns)

    def _refuse_one(self, listener: Any) -> None:
        """Take a connection in place of the file that was kept for this, and say that it is busy.

        It goes on without waiting for an end: what is open is answered, and what ends makes room.
        """
        if time.monotonic() - self._refused > 1:
            log.error("no more files can be opened: connections are refused")
        self._refused = time.monotonic()
        spare, self._spare = self._spare, -1
        with suppress(OSError):
            os.close(spare)
        with suppress(OSError):
            client, _ = listener.accept()
            with client:
                self._answer(client, 503, "Service Unavailable", "transient")
                client.shutdown(socket.SHUT_WR)
        time.sleep(WAIT)
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def handle_request(self, req: Any, conn: Any) -> Any:
        if not conn.sock.is_whole:
            req.force_close()
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        theirs = isinstance(exc, errors.ParseException) and not isinstance(exc, _OURS)
        if theirs:
            found = (known for kind, known in _STATUSES.items() if isinstance(exc, kind))
            log.warning("what was sent is no HTTP: %s", type(exc).__name__)
            self._answer(client, *next(found, (400, "Bad Request", "structure")))
        else:
            log.error("a request failed with %s", type(exc).__name__)
            self._answer(client, 500, "Internal Server Error", "exception")

    def _refuse(self, conn: Any, status: int) -> None:
        reason = HTTPStatus(status).phrase
        log.warning("what was sent is not taken in: %s", reason)
        self._answer(conn.sock, status, reason, _REFUSALS[status])

    def _answer(self, client: Any, status: int, reason: str, code: str) -> None:
        """An OperationOutcome, past the application, and the end of the connection."""
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
            log.warning("nobody was there for the answer")
