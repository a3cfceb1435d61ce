"""The application: how a request is processed, step by step (``call_service``).

HTTP -> admission -> hook request -> prefetch -> chart -> engine -> card log -> HTTP
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import orjson
from flask import Flask, Response, request

from .access.caller import Callers
from .access.outgoing import Outgoing
from .content.compiled import Content
from .content.loader import load_content
from .engine.evaluation import Evaluation
from .engine.facts import values_left_out
from .engine.render import SuggestionContext
from .hooks.feedback import must_be_stored, read_feedback
from .hooks.fhir_server import FhirReader
from .hooks.prefetch import resolve_prefetch
from .hooks.protocol import HOOKS, discovery, read_request
from .limits.bounds import EVALUATION_SECONDS
from .settings import Settings, read_settings
from .storage.card_log import CardLog
from .storage.database import Database
from .web.admission import Admission, must_accept_json
from .web.answers import json_response
from .web.application import make_application
from .web.handouts import MOST_ON_ONE_PAGE, handout_path
from .web.telemetry import mark, note, redact_library_logs


def create_app(
    settings: Settings | None = None,
    content: Content | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Flask:
    """The WSGI application.

    Settings come from the environment and the content from ``cards/`` unless they are given.
    Raises ``SettingsError``, ``ContentError``, ``ClientsError`` or ``NoDatabaseError`` if one of
    these cannot be used: the service does not start with a part that is not valid.
    """
    redact_library_logs()
    settings = settings or read_settings()
    content = content or load_content(settings.content_dir)
    outgoing = Outgoing.of(settings)
    database = Database(settings.database_url)
    database.upgrade()
    keys, counts_for = settings.patient_keys, settings.overrides_count_for
    card_log = CardLog(database, content, clock, keys, settings.suppression, counts_for)
    callers = Callers(settings, outgoing, database)
    admission = Admission(settings, callers)
    reader = FhirReader.of(settings, outgoing, callers.are_several)
    evaluation = make_evaluation(settings, content)
    services = orjson.dumps(discovery(content))
    app = make_application(settings, content, clock, database, card_log, callers)

    @app.post("/cds-services/<service_id>")
    def call_service(service_id: str) -> Response:
        with admission.admit(service_id, f"/cds-services/{service_id}") as admitted:
            caller, bounds = admitted.caller, admitted.bounds
            mark("caller")
            hook, context = read_request(admitted.read_body(), HOOKS[service_id])
            mark("request")
            if hook.fhir_server is not None:
                callers.authorize_fhir_server(caller.client, hook.fhir_server)
            seconds, now = settings.deadline_ms / 1000, clock()
            bounds.deadline = time.monotonic() + seconds + EVALUATION_SECONDS
            issuer, bases = caller.issuer, caller.fhir_bases
            chart = resolve_prefetch(
                content, hook, context, reader, seconds, issuer, bases, now, bounds
            )
            mark("prefetch")
            audience = card_log.audience(
                issuer, caller.tenant, hook.fhir_server, context.patient_id, context.user_id
            )
            suppression = card_log.suppression(audience, now.timestamp())
            suggestion_context = SuggestionContext.of(hook.hook, context)
            orders = context.judged_orders
            answered = evaluation.answer(
                chart, suggestion_context, now, orders, suppression, settings.explain
            )
            mark("evaluate")
            card_log.keep(answered.shown, audience, service_id, content.version, now)
            note(
                cards=answered.cards,
                faults=answered.faults,
                **chart.count_keys(hook.prefetch.keys()),
            )
            if left_out := chart.left_out + values_left_out(answered.facts):
                note(left_out=dict(left_out))
            return json_response(answered.body)

    @app.post("/cds-services/<service_id>/feedback")
    def take_feedback(service_id: str) -> Response:
        service = f"/cds-services/{service_id}"
        with admission.admit(service_id, f"{service}/feedback", service) as admitted:
            note(feedback=0)  # until the body was read
            items = read_feedback(admitted.read_body())
            note(feedback=len(items))
            sender = admitted.caller.issuer or "", admitted.caller.tenant
            keep_comments = settings.keep_comments
            rows = [item.row(*sender, service_id, content, keep_comments) for item in items]
            must_be_stored(rows)
            database.keep_feedback(rows, clock().timestamp())
            return json_response(b"{}")

    @app.get("/cds-services")
    def list_services() -> Response:
        must_accept_json()
        callers.authenticate(request.headers.get("Authorization"), request.path)
        return json_response(services)

    return app


def make_evaluation(settings: Settings, content: Content) -> Evaluation:
    """The evaluation of charts by the settings, as the service answers with it."""
    handout_of = _handout_addresses(settings)
    return Evaluation(content, settings.jurisdiction, settings.time_zone, handout_of)


def _handout_addresses(settings: Settings) -> Callable[[Sequence[str]], str] | None:
    """Makes the URL of a handout; ``None`` if ``CDS_BASE_URL`` is not set."""
    if "base_url" not in settings.model_fields_set:
        return None
    return lambda names: f"{settings.base_url}{handout_path(names[:MOST_ON_ONE_PAGE])}"
