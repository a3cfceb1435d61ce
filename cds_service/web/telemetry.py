"""Telemetry for operators: a log line for each call, metrics, and health checks.

It contains no data of patients and no tokens. The log line of a call has the service, the issuer,
the status, the duration and the ids of the cards that were shown; only ``FIELDS`` are written.
A library may log an address or a header of a call, so its texts are redacted: the log says only
that the library logged something. The request id is the caller's ``X-Request-ID`` if that looks
machine-made, otherwise a new one; it is sent back with the answer.
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
from ..storage.files import temporary_folder

REQUEST_ID = "X-Request-ID"
NOT_LOADED = "CDS_NOT_LOADED"  # in ``app.config``: the last reload failed
AT_WORKER_START = "cds_at_worker_start"  # an extension: called in each worker before its first call
BODY_SECONDS = "CDS_BODY_SECONDS"  # in ``app.config``: the time limit of a request body
# Hexadecimal digits, as in a UUID or a trace id: no name, no date of birth and no token.
_MACHINE_MADE_ID = re.compile(r"(?=.{16,64}$)[0-9A-Fa-f]{8,}(-?[0-9A-Fa-f]+)*")

OWN = "cds_service"  # the prefix of our loggers; without a suffix, it is the logger of Flask
CALLS = "cds_service.calls"


class About(KeyCounts, total=False):
    """The details of one call in its log line, in metrics and on its span."""

    service: str  # its id, or the path as Flask writes it
    client: str | None  # the issuer
    cards: list[str]  # ids
    faults: int
    left_out: dict[str, int]  # records, by reason
    feedback: int  # items
    refused: str  # the code of the OperationOutcome
    member: str  # the member of the request that is not valid


Way = Literal["sent", "fetched", "missing", "unknown"]  # how the data of a prefetch key came
WAYS: tuple[Way, ...] = get_args(Way)
# All fields that a log line may have.
FIELDS = frozenset(
    {
        *("timestamp", "level", "logger", "event", "request_id", "method", "status", "ms"),
        *About.__annotations__,
    }
)
# The beginnings of gunicorn's log lines that are only about its own processes and addresses.
GUNICORN_LINES = (
    *("Starting gunicorn ", "Listening at: ", "Using worker: ", "Booting worker with pid: "),
    *("Worker exiting (pid: ", "Worker (pid:", "WORKER TIMEOUT (pid:", "Handling signal: "),
    *("Shutting down: ", "Hang up: ", "Exception in worker process", "Connection in use: "),
    *("Invalid address: ", "Unhandled exception in main loop", "graceful stop of workers"),
    *("connection to (", "Can't connect to ", "Quick shutdown requested"),
)
# The libraries that handle requests and answers, by the prefix of their loggers.
LIBRARIES = (
    *("urllib3", "requests", "charset_normalizer", "sqlalchemy", "alembic", "psycopg", "joserfc"),
    *("opentelemetry", "werkzeug", "flask", "pydantic", "asyncio", "concurrent", "py"),
)

log = structlog.get_logger(CALLS)
library_log = logging.getLogger("cds_service.library")


def write_logs_as_json() -> None:
    """Write all logs of this process as JSON lines with time, level and request id."""
    common: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # The line of a call is written directly to the stream; all others go through ``logging``.
    structlog.configure(
        processors=[
            *common,
            _add_logger_name,
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
    handler.addFilter(_RedactingFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    threading.excepthook = lambda args: _log_failure(args.exc_type, args.exc_value)
    sys.unraisablehook = lambda args: _log_failure(args.exc_type, args.exc_value)


def redact_library_logs() -> None:
    """Redact the log texts of libraries, whichever server and log handlers are used."""
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _RedactingHandler) for handler in logger.handlers):
            logger.handlers[:] = [_RedactingHandler()]
            logger.propagate = False
    for name in (OWN, "gunicorn.error"):
        logger = logging.getLogger(name)
        if not any(isinstance(known, _RedactingFilter) for known in logger.filters):
            logger.addFilter(_RedactingFilter())


class _RedactingFilter(logging.Filter):
    """Removes the text of each log record that may contain parts of a request.

    Of an exception only the type stays: its message and traceback may contain data of a patient.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        known = record.name.startswith(f"{OWN}.") or (
            record.name == "gunicorn.error" and str(record.msg).startswith(GUNICORN_LINES)
        )
        if not known and record.levelno < logging.WARNING:
            return False
        text = record.getMessage() if known else _redacted(record)
        kind = record.exc_info[0] if record.exc_info else None
        record.msg, record.args = f"{text}: {kind.__name__}" if kind else text, ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


class _RedactingHandler(logging.Handler):
    """Writes to our own log that a library logged something, without the text."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        library_log.log(record.levelno, _redacted(record))


def _redacted(record: logging.LogRecord) -> str:
    library = record.name.partition(".")[0]
    return f"{library} logged a line; its text is left out, for it may name a patient"


def _log_failure(kind: type[BaseException], error: BaseException | None) -> None:
    """Log an exception that nothing caught, by its type and place."""
    frames = traceback.extract_tb(error.__traceback__ if error is not None else None)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
    logging.getLogger("cds_service.failures").error("%s at %s", kind.__name__, where)


def _keep_known_fields(_: Any, __: str, event: Any) -> Any:
    return {name: value for name, value in event.items() if name in FIELDS}


def _add_logger_name(_: Any, __: str, event: Any) -> Any:
    event["logger"] = CALLS
    return event


def _dump(event: Any, **_: Any) -> bytes:
    return orjson.dumps(event, default=str)


def _dump_text(event: Any, **_: Any) -> str:
    return _dump(event).decode()


@dataclass(slots=True)
class Call:
    """Telemetry of one call (``g.call``). Times are by ``time.perf_counter``."""

    request_id: str
    started: float
    marked: float  # the end of the last stage
    stages: dict[str, float] = field(default_factory=dict)  # seconds
    about: About = field(default_factory=About)


def watch(app: Flask, with_metrics: bool) -> None:
    """Log each call of ``app``; with ``with_metrics``, count it too and serve ``/metrics``."""
    metrics = _Metrics() if with_metrics else None
    if metrics is not None:
        app.add_url_rule("/metrics", view_func=metrics.show)

    @app.before_request
    def begin() -> None:
        sent = request.headers.get(REQUEST_ID, "")
        request_id = sent if _MACHINE_MADE_ID.fullmatch(sent) else _new_id()
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
    """A new random id. It can be guessed: it is no secret."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def mark(stage: str) -> None:
    """Note that a stage of processing the request ends here, and the next one begins."""
    call: Call = g.call
    now = time.perf_counter()
    call.stages[stage], call.marked = now - call.marked, now


def note(**about: Unpack[About]) -> None:
    """Add details to the log line of this call. They must not be data of a patient, or a token."""
    g.call.about.update(about)


class _Metrics:
    """Prometheus metrics, of all workers together."""

    def __init__(self) -> None:
        # Must be set before the library is imported: workers write their counts to this folder.
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = temporary_folder("cds-metrics-")
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
    """Add ``/health/live`` (this process answers) and ``/health/ready`` (it can do its work).

    ``is_ready`` gives the state of each part of the service. If a part in ``needed`` is not ready,
    the status is 503; the state of other parts is only reported. ``version`` is the content's.
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
