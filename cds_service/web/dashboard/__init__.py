"""The dashboard: outcomes of the cards, as a page for those responsible for quality.

Off unless ``CDS_DASHBOARD_PASSWORD`` is set, which opens it. After too many wrong passwords, a
caller must wait. No script runs on the page, and its figures are also available as CSV and as a
FHIR MeasureReport.
"""

from __future__ import annotations

import hmac
import logging
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import orjson
from flask import Blueprint, Response, render_template, request

from ...content.compiled import Content
from ...storage.database import Database
from ...storage.report import (
    Line,
    Report,
    as_csv,
    as_measure_report,
    disclosed_text,
    report_on,
    say_reasons,
)
from ..pages import WrongPasswords, protect
from .plot import plot_cards, plot_weeks

SPANS = (30, 90, 365)

log = logging.getLogger("cds_service.dashboard")


def dashboard(
    database: Database,
    content: Content,
    passwords: Sequence[str],
    clock: Callable[[], datetime],
) -> Blueprint:
    """The pages under ``/dashboard``, for whoever knows a password (HTTP Basic)."""
    pages = Blueprint(
        "dashboard",
        __name__,
        url_prefix="/dashboard",
        template_folder="templates",
        static_folder="static",
        static_url_path="/static",
    )

    protect(pages, "style-src 'self'", "img-src 'self'", "form-action 'self'")
    wrong = WrongPasswords()

    @pages.before_request
    def must_know_the_password() -> Response | None:
        given = request.authorization.password if request.authorization else None
        if given is not None:
            written = given.encode("utf-8", "replace")
            fits = [hmac.compare_digest(written, each.encode()) for each in passwords]
            is_right = any(fits)  # all are compared, so that the time reveals nothing
            if wait := math.ceil(wrong.wait(request.remote_addr or "", is_right)):
                log.warning("a password was refused: there were too many wrong ones before")
                text = "Too many wrong passwords. Come again later."
                return Response(text, 429, {"Retry-After": str(wait)}, mimetype="text/plain")
            if is_right:
                return None
        challenge = {"WWW-Authenticate": 'Basic realm="lactation-cds", charset="UTF-8"'}
        return Response("Sign in to see the dashboard.", 401, challenge, mimetype="text/plain")

    @pages.after_request
    def forbid_caching(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    def report() -> tuple[Report, int]:
        days = request.args.get("days", type=int)
        span = days if days in SPANS else SPANS[1]
        return report_on(database, content, clock(), span), span

    @pages.get("")
    def show() -> str:
        made, days = report()
        return render_template(
            "dashboard.html",
            report=made,
            days=days,
            spans=SPANS,
            cards=plot_cards(made.lines["card"]),
            weeks=plot_weeks(made),
            tell=disclosed_text,
            percent=_percent,
            reasons=say_reasons,
        )

    @pages.get("/report.csv")
    def csv() -> Response:
        made, days = report()
        name = f"lactation-cds-{made.until.astimezone(UTC):%Y-%m-%d}-{days}-days.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(as_csv(made), 200, headers, mimetype="text/csv")

    @pages.get("/measure-report.json")
    def measure_report() -> Response:
        made, _ = report()
        body = orjson.dumps(as_measure_report(made), option=orjson.OPT_INDENT_2)
        return Response(body, mimetype="application/fhir+json")

    return pages


def _percent(line: Line, count: int) -> str:
    share = line.share(count)
    return "" if share is None else f"{share:.0%}"
