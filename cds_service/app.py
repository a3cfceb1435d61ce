"""The application: the way of a request, on one screen.

HTTP -> authenticate -> hook request -> prefetch -> chart -> engine -> HTTP
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache

import orjson
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from .access.caller import Caller, Callers
from .access.outgoing import Outgoing
from .access.tracing import trace_calls
from .content.compiled import Content
from .content.loader import load_content
from .engine.decide import NothingEvaluated
from .engine.evaluation import Evaluation
from .engine.facts import values_left_out
from .engine.render import SuggestionContext
from .errors import Refusal, operation_outcome
from .hooks.feedback import must_be_stored, read_feedback
from .hooks.fhir_server import FhirReader
from .hooks.openapi import describe
from .hooks.prefetch import resolve_prefetch
from .hooks.protocol import HOOKS, discovery, read_request
from .hooks.request_body import came_too_late, discard_body, read_body, too_slow
from .limits.bounds import SECONDS, Bounds, Memory, TooLateError, TooMuchError, weight_of
from .limits.concurrency import ConcurrencyLimit, TooBusyError
from .settings import Settings, read_settings
from .storage.card_log import CardLog
from .storage.database import Database, DatabaseError
from .web.dashboard import dashboard
from .web.handouts import MOST, handout_path, handouts
from .web.pages import must_be_called, own_names
from .web.telemetry import (
    AT_WORKER_START,
    BODY_SECONDS,
    add_health,
    keep_libraries_quiet,
    mark,
    note,
    watch,
)

CORS_HEADERS = "Authorization, Content-Type, Accept, traceparent, tracestate, X-Request-ID"
UNKNOWN_AFTER = 0.01  # seconds, more than it takes to look at a token

log = logging.getLogger("cds_service.app")


def create_app(
    settings: Settings | None = None,
    content: Content | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Flask:
    """The WSGI application.

    Settings come from the environment and the content from ``cards/`` unless they are given.
    Raises ``SettingsError``, ``ContentError``, ``ClientsError`` or ``DatabaseError`` rather than
    start with what cannot be trusted.
    """
    keep_libraries_quiet()
    settings = settings or read_settings()
    content = content or load_content(settings.content_dir)
    outgoing = Outgoing(settings.networks, settings.ca_file)
    database = Database(settings.database_url)
    database.upgrade()
    keys, counts_for = settings.patient_keys, settings.overrides_count_for
    card_log = CardLog(database, content, clock, keys, settings.quiet, counts_for)
    callers = Callers(settings, outgoing, database)
    evaluation = Evaluation(
        content, settings.jurisdiction, settings.time_zone, _handout_of(settings)
    )
    reader = FhirReader(outgoing, settings.reading_at_once, callers.are_several)
    memory = Memory()
    for_all = ConcurrencyLimit(settings.at_once)
    for_each = ConcurrencyLimit(settings.at_once, callers.are_several)
    services = orjson.dumps(discovery(content))

    app = Flask("cds_service", static_folder=None)
    app.extensions[AT_WORKER_START] = card_log.start
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    watch(app, settings.metrics)
    if settings.traces:
        trace_calls(app)
    add_health(
        app,
        lambda: {"database": database.is_ready(), "ledger": card_log.is_well},
        needed=() if settings.auth == "open" else ("database",),
        version=content.version,
    )
    patience = settings.body_ms / 1000
    app.config[BODY_SECONDS] = patience
    _answer_errors_in_fhir(app, patience)
    if settings.auth == "open" and not settings.open_beyond_loopback:  # then any page might call
        names = own_names(settings.base_url)
        app.before_request(lambda: must_be_called(names))
    _allow_origins(app, settings.origins | callers.origins)
    app.register_blueprint(handouts(content))
    if passwords := settings.dashboard_passwords:
        app.register_blueprint(dashboard(database, content, passwords, clock))

    @cache
    def description() -> bytes:
        must_be_known = settings.auth == "required"
        return orjson.dumps(describe(settings.base_url, content.version, must_be_known))

    @app.get("/openapi.json")
    def show_description() -> Response:
        return _json(description())

    @app.get("/cds-services")
    def list_services() -> Response:
        _must_accept_json()
        callers.authenticate(request.headers.get("Authorization"), request.path)
        return _json(services)

    @contextmanager
    def admitted(service_id: str, *paths: str) -> Iterator[Caller]:
        """The caller that posts JSON to a service. Raises ``Refusal`` or ``TooBusyError``."""
        if service_id not in HOOKS:
            raise Refusal(404, "There is no such service.", "not-found")
        note(service=service_id)
        if came_too_late():  # no room is taken for it, and no token used up
            _must_be_json()
            raise too_slow()
        token = callers.read(request.headers.get("Authorization"), *paths)
        with for_all.slot_for(None):  # those who are no callers take no room from them
            caller = callers.admit(token)
            note(client=caller.issuer)
            _must_accept_json()
            _must_be_json()
            _must_be_as_written()
            with for_each.slot_for(caller.issuer):
                yield caller

    def take_in(bounds: Bounds) -> bytes:
        """The body, which is held within bounds. Raises as they do, and as ``read_body``."""
        announced = min(request.content_length or 0, settings.max_body_bytes)
        bounds.hold(announced)
        body = read_body(patience)
        bounds.hold(weight_of(body) - announced)
        return body

    @app.post("/cds-services/<service_id>")
    def call_service(service_id: str) -> Response:
        path = f"/cds-services/{service_id}"
        with admitted(service_id, path) as caller, memory.bounds() as bounds:
            mark("caller")
            hook, context = read_request(take_in(bounds), HOOKS[service_id])
            mark("request")
            if hook.fhir_server is not None:
                callers.authorize_fhir_server(caller.client, hook.fhir_server)
            seconds = settings.deadline_ms / 1000
            now, bases, issuer = clock(), caller.fhir_bases, caller.issuer
            bounds.deadline = time.monotonic() + seconds + SECONDS
            chart = resolve_prefetch(
                content, hook, context, reader, seconds, issuer, bases, now, bounds
            )
            mark("gather")
            suggestion_context = SuggestionContext.of(hook.hook, context)
            audience = card_log.audience(
                issuer,
                caller.tenant,
                hook.fhir_server,
                context.patient_id,
                context.user_id,
            )
            suppression = card_log.suppression(audience, now.timestamp())
            answered = evaluation.answer(
                chart, suggestion_context, now, context.judged_orders, suppression, settings.explain
            )
            mark("evaluate")
            card_log.keep(answered.shown, audience, service_id, content.version, now)
            note(cards=answered.cards, faults=answered.faults, **chart.ways(hook.prefetch.keys()))
            if left_out := chart.left_out + values_left_out(answered.facts):
                note(left_out=dict(left_out))
            return _json(answered.body)

    @app.post("/cds-services/<service_id>/feedback")
    def take_feedback(service_id: str) -> Response:
        service = f"/cds-services/{service_id}"
        with (
            admitted(service_id, f"{service}/feedback", service) as caller,
            memory.bounds() as bounds,
        ):
            note(feedback=0)  # until it is known to be some
            items = read_feedback(take_in(bounds))
            note(feedback=len(items))
            sender = caller.issuer or "", caller.tenant
            rows = [
                item.row(*sender, service_id, content, settings.keep_comments) for item in items
            ]
            must_be_stored(rows)
            database.keep_feedback(rows, clock().timestamp())
            return _json(b"{}")

    return app


def _handout_of(settings: Settings) -> Callable[[Sequence[str]], str] | None:
    """The address of a handout on the service; nothing where nobody said what its address is."""
    if "base_url" not in settings.model_fields_set:
        return None
    return lambda names: f"{settings.base_url}{handout_path(names[:MOST])}"


def _must_accept_json() -> None:
    """Raises ``Refusal`` (406) if the caller takes no JSON."""
    accepted = request.headers.get("Accept", "").strip()
    if accepted in ("", "*/*", "application/json"):
        return
    qualities: dict[str, float] = {}
    for written, quality in request.accept_mimetypes:
        kind = written.partition(";")[0].strip().lower()  # whatever its charset
        qualities[kind] = max(quality, qualities.get(kind, 0.0))
    for kind in ("application/json", "application/*", "*/*"):  # the closest range decides
        if kind in qualities:
            if qualities[kind] > 0:
                return
            break
    raise Refusal(406, "Answers are application/json.", "not-supported")


def _must_be_json() -> None:
    """Raises ``Refusal`` (415) if the body is of another media type."""
    if request.mimetype != "application/json":
        raise Refusal(415, "The body must be application/json.", "not-supported")


def _must_be_as_written() -> None:
    """Raises ``Refusal`` (415) if the body is compressed, or coded in another way.

    As for a body of a media type that is not read, with what may be sent (RFC 9110, 15.5.16).
    """
    codings = request.headers.get("Content-Encoding", "").lower().split(",")
    if any(coding.strip() not in ("", "identity") for coding in codings):
        reason = "A body with a Content-Encoding is not read: send it uncompressed, without one."
        raise Refusal(415, reason, "not-supported", headers={"Accept-Encoding": "identity"})


def _json(body: bytes, status: int = 200) -> Response:
    response = Response(body, status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"  # it may be about a patient
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _answer_errors_in_fhir(app: Flask, patience: float) -> None:
    """Every refusal and fault is an OperationOutcome with the right status; none says too much."""

    @app.after_request
    def finish(response: Response) -> Response:
        if response.status_code >= 400:
            discard_body(patience)
        return response

    @app.errorhandler(Refusal)
    def refused(refusal: Refusal) -> Response:
        if refusal.status == 401:
            note(refused=refusal.code)
            # As long for each reason, so that the time does not tell it either.
            time.sleep(max(0.0, g.call.started + UNKNOWN_AFTER - time.perf_counter()))
            return Response(b"", 401, refusal.headers)
        note(
            refused=refusal.code, **{"member": refusal.expression[0]} if refusal.expression else {}
        )
        outcome = operation_outcome(refusal.reason, refusal.code, refusal.expression)
        response = _json(orjson.dumps(outcome), refusal.status)
        response.headers.update(refusal.headers)
        return response

    @app.errorhandler(HTTPException)
    def refused_by_http(error: HTTPException) -> Response:
        reasons = {404: "not-found", 405: "not-supported", 413: "too-long"}
        status = error.code or 500
        reason = "The body is too large." if status == 413 else f"{error.name}."
        outcome = operation_outcome(reason, reasons.get(status, "processing"))
        response = _json(orjson.dumps(outcome), status)
        if status == 405:
            response.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", [])))
        return response

    @app.errorhandler(DatabaseError)
    def unsure(_: DatabaseError) -> Response:
        reason = "The database cannot be asked now."
        return refused(Refusal(503, reason, "transient", headers={"Retry-After": "1"}))

    @app.errorhandler(TooBusyError)
    def too_busy(busy: TooBusyError) -> Response:
        status, code = (429, "throttled") if busy.of_one else (503, "transient")
        reason = "Too many requests are being answered. Come again."
        return refused(Refusal(status, reason, code, headers={"Retry-After": "1"}))

    @app.errorhandler(TooMuchError)
    def too_much(_: TooMuchError) -> Response:
        return refused(Refusal(413, "There is more in the body than in any chart.", "too-costly"))

    @app.errorhandler(TooLateError)
    def too_late(_: TooLateError) -> Response:
        reason = "The chart could not be judged in time. This is not an answer of no concern."
        return refused(Refusal(503, reason, "timeout", headers={"Retry-After": "1"}))

    @app.errorhandler(NothingEvaluated)
    def nothing_evaluated(error: NothingEvaluated) -> Response:
        log.error("no card could be judged: %s", error)
        reason = "No card could be judged. This is not an answer of no concern."
        return _json(orjson.dumps(operation_outcome(reason, "exception", severity="fatal")), 500)

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        # The type and the place only: a message may carry what was sent.
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
        log.error("a request failed with %s at %s", type(error).__name__, where)
        reason = "The service failed. This is not an answer of no concern."
        return _json(orjson.dumps(operation_outcome(reason, "exception", severity="fatal")), 500)


def _allow_origins(app: Flask, origins: frozenset[str] | set[str]) -> None:
    """CORS for browser clients, on answers and errors alike; preflight passes without a token."""
    if not origins:
        return

    @app.after_request
    def allow(response: Response) -> Response:
        origin = request.headers.get("Origin")
        response.headers.add("Vary", "Origin")
        if origin in origins and origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            response.headers["Access-Control-Allow-Headers"] = CORS_HEADERS
            response.headers["Access-Control-Expose-Headers"] = "X-Request-ID, Retry-After"
            response.headers["Access-Control-Max-Age"] = "600"  # seconds that a preflight holds
        return response
