"""What an operator sees: a line of log for each call, metrics, and whether the service is well.

Nothing of a patient and no token is in any of it: a line says which service was called, by which
issuer, with what status, after how long, and which cards were shown, by id. Only the ``FIELDS`` are
written. What a library logs may hold an address or a header of a call: its text is left out, and
that it logged something is told. The request id is that of the caller's ``X-Request-ID`` if it
looks like one that a machine made, or made here, and goes back with the answer.
"""

from __future__ import annotations

import logging
import os
import random
import re
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack, get_args

import orjson
import structlog
from flask import Flask, Response, g, request

from ..access.tracing import known_method
from ..fhir.chart import KeyCounts
from ..storage.files import folder_aside

REQUEST_ID = "X-Request-ID"
NOT_LOADED = "CDS_NOT_LOADED"  # of an application that could not be made anew
AT_WORKER_START = "cds_at_worker_start"  # what each worker does before its first call
BODY_SECONDS = "CDS_BODY_SECONDS"  # of the configuration: for how long a body may come
# Hexadecimal digits, as in a UUID or a trace: no name, no date of birth and no token.
_MADE_BY_A_MACHINE = re.compile(r"(?=.{16,64}$)[0-9A-Fa-f]{8,}(-?[0-9A-Fa-f]+)*")

OWN = "cds_service"  # the first word of our loggers; alone, it is Flask's name for its own
CALLS = "cds_service.calls"


class About(KeyCounts, total=False):
    """What is told of one call, in its line of the log, as metrics and on its span."""

    service: str  # its id, or the path as Flask writes it
    client: str | None  # the issuer
    cards: list[str]  # ids
    faults: int
    left_out: dict[str, int]  # records, by reason
    feedback: int  # items
    refused: str  # the code of the OperationOutcome
    member: str  # of the request, which is not right


Way = Literal["sent", "fetched", "missing", "unknown"]  # in which a prefetch key came
WAYS: tuple[Way, ...] = get_args(Way)
# All that a line of the log may have.
FIELDS = frozenset(
    {
        *("timestamp", "level", "logger", "event", "request_id", "method", "status", "ms"),
        *About.__annotations__,
    }
)
# How the lines of gunicorn begin that are about processes and addresses of its own.
GUNICORN_LINES = (
    *("Starting gunicorn ", "Listening at: ", "Using worker: ", "Booting worker with pid: "),
    *("Worker exiting (pid: ", "Worker (pid:", "WORKER TIMEOUT (pid:", "Handling signal: "),
    *("Shutting down: ", "Hang up: ", "Exception in worker process", "Connection in use: "),
    *("Invalid address: ", "Unhandled exception in main loop", "graceful stop of workers"),
    *("connection to (", "Can't connect to ", "Quick shutdown requested"),
)
# The libraries through which requests and answers go, by the first word of their loggers.
LIBRARIES = (
    *("urllib3", "requests", "charset_normalizer", "sqlalchemy", "alembic", "psycopg", "joserfc"),
    *("opentelemetry", "werkzeug", "flask", "pydantic", "asyncio", "concurrent", "py"),
)

log = structlog.get_logger(CALLS)
library_log = logging.getLogger("cds_service.library")


def write_logs_as_json() -> None:
    """Each line of every log is JSON, with time, level and the request id. For a whole process."""
    common: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # The line of a call is written straight to the stream; all else goes the way of ``logging``.
    structlog.configure(
        processors=[
            *common,
            _name_the_log,
            _keep_known_fields,
            structlog.processors.JSONRenderer(serializer=_dump),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _keep_known_fields,
                structlog.processors.JSONRenderer(serializer=_dump_text),
            ],
        )
    )
    handler.addFilter(_KnownText())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook = lambda args: _log_failure(args.exc_type, args.exc_value)
    sys.unraisablehook = lambda args: _log_failure(args.exc_type, args.exc_value)


def keep_libraries_quiet() -> None:
    """No library writes a text of its own into a log, whatever server and handlers there are."""
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _ToldWithoutText) for handler in logger.handlers):
            logger.handlers[:] = [_ToldWithoutText()]
            logger.propagate = False
    for name in (OWN, "gunicorn.error"):
        logger = logging.getLogger(name)
        if not any(isinstance(known, _KnownText) for known in logger.filters):
            logger.addFilter(_KnownText())


class _KnownText(logging.Filter):
    """Takes the text out of each record that is not known to be without any of a request's.

    Of an exception its type stays: its words, and those of its trace, may be a patient's.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        known = record.name.startswith(f"{OWN}.") or (
            record.name == "gunicorn.error" and str(record.msg).startswith(GUNICORN_LINES)
        )
        if not known and record.levelno < logging.WARNING:
            return False
        text = record.getMessage() if known else _left_out(record)
        kind = record.exc_info[0] if record.exc_info else None
        record.msg, record.args = f"{text}: {kind.__name__}" if kind else text, ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


class _ToldWithoutText(logging.Handler):
    """Tells in our own log that a library logged something."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        library_log.log(record.levelno, _left_out(record))


def _left_out(record: logging.LogRecord) -> str:
    library = record.name.partition(".")[0]
    return f"{library} logged a line; its text is left out, for it may name a patient"


def _log_failure(kind: type[BaseException], error: BaseException | None) -> None:
    """Log an exception that nothing caught, by its type and place."""
    frames = traceback.extract_tb(error.__traceback__ if error is not None else None)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
    logging.getLogger("cds_service.failures").error("%s at %s", kind.__name__, where)


def _keep_known_fields(_: Any, __: str, event: Any) -> Any:
    return {name: value for name, value in event.items() if name in FIELDS}


def _name_the_log(_: Any, __: str, event: Any) -> Any:
    event["logger"] = CALLS
    return event


def _dump(event: Any, **_: Any) -> bytes:
    return orjson.dumps(event, default=str)


def _dump_text(event: Any, **_: Any) -> str:
    return _dump(event).decode()


@dataclass(slots=True)
class Call:
    """What an operator is told of one call (``g.call``). Times are of ``time.perf_counter``."""

    request_id: str
    started: float
    marked: float  # the end of the last stage
    stages: dict[str, float] = field(default_factory=dict)  # seconds
    about: About = field(default_factory=About)


def watch(app: Flask, with_metrics: bool) -> None:
    """Write a line for each call of ``app`` and, if wanted, count it at ``/metrics``."""
    metrics = _Metrics() if with_metrics else None
    if metrics is not None:
        app.add_url_rule("/metrics", view_func=metrics.show)

    @app.before_request
    def begin() -> None:
        sent = request.headers.get(REQUEST_ID, "")
        request_id = sent if _MADE_BY_A_MACHINE.fullmatch(sent) else _new_id()
        now = time.perf_counter()
        g.call = Call(request_id, now, now)
        structlog.contextvars.bind_contextvars(request_id=request_id)

    @app.after_request
    def end(response: Response) -> Response:
        call: Call = g.call
        took = time.perf_counter() - call.started
        response.headers[REQUEST_ID] = call.request_id
        rule = request.url_rule.rule if request.url_rule is not None else "unknown"
        status = response.status_code
        if rule.startswith("/cds-services") or status >= 400:
            about: About = {"service": rule, **call.about}
            ms, method = round(took * 1000, 1), known_method(request.method)
            log.info("answered", method=method, status=status, ms=ms, **about)
            if metrics is not None:
                metrics.count(status, took, call.stages, about)
        structlog.contextvars.clear_contextvars()
        return response


def _new_id() -> str:
    """An id that nobody has; it may be guessed."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def mark(stage: str) -> None:
    """A stage of the way of a request ends here; the next begins."""
    call: Call = g.call
    now = time.perf_counter()
    call.stages[stage], call.marked = now - call.marked, now


def note(**about: Unpack[About]) -> None:
    """Add to the line of this call. Never anything of a patient, and no token."""
    g.call.about.update(about)


class _Metrics:
    """Prometheus metrics, of all workers together."""

    def __init__(self) -> None:
        # Must be set before the library is imported: workers write their counts there.
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder_aside("cds-metrics-")
        import prometheus_client
        from prometheus_client import multiprocess

        self._client, self._multiprocess = prometheus_client, multiprocess
        own = prometheus_client.CollectorRegistry()
        buckets = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
        self._calls = prometheus_client.Histogram(
            "cds_call_seconds", "Calls", ["service", "status"], registry=own, buckets=buckets
        )
        self._stages = prometheus_client.Histogram(
            "cds_stage_seconds", "Stages", ["service", "stage"], registry=own, buckets=buckets
        )
        self._cards = prometheus_client.Counter("cds_cards", "Cards", ["card"], registry=own)
        self._keys = prometheus_client.Counter(
            "cds_prefetch_keys", "Prefetch keys by how they came", ["way"], registry=own
        )
        self._left_out = prometheus_client.Counter(
            "cds_records_left_out", "Records that were sent and not used", ["reason"], registry=own
        )
        self._refused = prometheus_client.Counter(
            "cds_callers_refused", "Calls without a valid token", registry=own
        )
        self._faults = prometheus_client.Counter(
            "cds_faults", "Rules and cards that could not be evaluated", registry=own
        )

    def count(self, status: int, took: float, stages: dict[str, float], about: About) -> None:
        """Count one call."""
        service = about["service"]
        self._calls.labels(service, str(status)).observe(took)
        for stage, seconds in stages.items():
            self._stages.labels(service, stage).observe(seconds)
        for card in about.get("cards", ()):
            self._cards.labels(card).inc()
        for way in WAYS:
            if keys := about.get(way):
                self._keys.labels(way).inc(keys)
        for reason, records in about.get("left_out", {}).items():
            self._left_out.labels(reason).inc(records)
        if status == 401:
            self._refused.inc()
        if about.get("faults"):
            self._faults.inc(about["faults"])

    def show(self) -> Response:
        """The counts of all workers, as Prometheus reads them."""
        registry = self._client.CollectorRegistry()
        self._multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        text = self._client.generate_latest(registry)
        return Response(text, mimetype="text/plain")


def add_health(
    app: Flask, is_ready: Callable[[], dict[str, bool]], needed: Collection[str], version: str
) -> None:
    """``/health/live``: this process answers. ``/health/ready``: it can do its work.

    ``is_ready`` says it part by part. One of the ``needed`` that is not makes the answer 503; of
    another it is only told.
    """

    @app.get("/health/live")
    def live() -> Response:
        return _health({}, (), version)

    @app.get("/health/ready")
    def ready() -> Response:
        return _health(is_ready() | {"content": NOT_LOADED not in app.config}, needed, version)


def _health(parts: dict[str, bool], needed: Collection[str], version: str) -> Response:
    checks = {name: "pass" if fine else "fail" for name, fine in parts.items()}
    able = all(parts[name] for name in needed)
    status = "fail" if not able else "pass" if all(parts.values()) else "warn"
    body = {"status": status, "content": version, "checks": checks}
    return Response(orjson.dumps(body), 200 if able else 503, mimetype="application/health+json")
