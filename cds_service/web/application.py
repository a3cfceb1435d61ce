"""The Flask application around the services: logs, metrics, traces, health, errors and pages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import cache

import orjson
from flask import Flask, Response

from ..access.caller import Callers
from ..access.tracing import trace_calls
from ..content.compiled import Content
from ..hooks.openapi import describe
from ..settings import Settings, old_variables
from ..storage.card_log import CardLog
from ..storage.database import Database
from .answers import allow_origins, answer_errors, json_response
from .dashboard import dashboard
from .handouts import handouts
from .pages import must_be_called, own_names
from .telemetry import AT_WORKER_START, BODY_SECONDS, add_health, watch

log = logging.getLogger("cds_service.app")


def make_application(
    settings: Settings,
    content: Content,
    clock: Callable[[], datetime],
    database: Database,
    card_log: CardLog,
    callers: Callers,
) -> Flask:
    """The application without the routes of the services, which ``create_app`` adds."""
    for old_name in (*content.old_names, *old_variables()):
        log.warning("%s", old_name)
    app = Flask("cds_service", static_folder=None)
    body_seconds = settings.body_ms / 1000
    app.extensions[AT_WORKER_START] = card_log.start
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config[BODY_SECONDS] = body_seconds
    watch(app, settings.metrics)
    if settings.traces:
        trace_calls(app)
    add_health(
        app,
        lambda: {
            "database": database.is_ready(),
            "card_log": card_log.is_well,
            "ledger": card_log.is_well,  # the former name, for one more release
        },
        needed=() if settings.auth == "open" else ("database",),
        version=content.version,
    )
    answer_errors(app, body_seconds)
    if settings.auth == "open" and not settings.open_beyond_loopback:  # any web page could call
        names = own_names(settings.base_url)
        app.before_request(lambda: must_be_called(names))
    allow_origins(app, settings.origins | callers.origins)
    app.register_blueprint(handouts(content))
    if passwords := settings.dashboard_passwords:
        app.register_blueprint(dashboard(database, content, passwords, clock))

    @cache
    def description() -> bytes:
        needs_token = settings.auth == "required"
        return orjson.dumps(describe(settings.base_url, content.version, needs_token))

    @app.get("/openapi.json")
    def show_description() -> Response:
        return json_response(description())

    return app
