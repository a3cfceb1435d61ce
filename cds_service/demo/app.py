"""The demo: the service, an embedded FHIR endpoint, and a small EHR that opens charts.

The pages of the small EHR work over HTTP, like a real EHR: they call the hooks of the service in
this process, show its cards, and write accepted suggestions through the FHIR endpoint. There are
only synthetic mothers. Written resources are kept in memory until a reset, or until the process
ends.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any, cast
from urllib.parse import urlencode

import orjson
from flask import Blueprint, Flask, Response, abort, redirect, render_template, request, url_for
from markdown_it import MarkdownIt
from markupsafe import Markup
from pydantic import SecretStr

from ..app import create_app, make_evaluation
from ..authoring.vignettes import Vignette, vignettes
from ..content.compiled import Content
from ..content.loader import load_content
from ..content.wording import say_value
from ..engine.card_json import EXTENSION
from ..engine.evaluation import Evaluation
from ..engine.facts import collect_readings
from ..engine.findings import Findings, say_conclusions
from ..fhir.chart import Chart, read_result
from ..fhir.times import say_time
from ..settings import read_settings
from ..storage.files import temporary_folder
from ..web.pages import must_be_called, must_be_of_this_origin, own_names, protect
from .ehr import (
    SERVICES,
    Answered,
    DataWay,
    call,
    hook_request,
    prefetch_from,
    send_feedback,
    wanted_orders,
    write,
)
from .fhir_endpoint import fhir_endpoint
from .fhir_store import FhirStore
from .plot import Plot, plot_volumes

JUDGED_FIRST = "before-milk"  # the assessment that is shown even if a gate is closed
DASHBOARD_PASSWORD = "synthetic-only"
SANDBOX_ORIGIN = "https://sandbox.cds-hooks.org"


def create_demo(base_url: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Flask:
    """The demo as a WSGI application at the address ``base_url``."""
    content = load_content()
    folder = temporary_folder("lactation-cds-demo-")  # the demo keeps nothing after its end
    database = f"sqlite:///{folder}/demo.sqlite3"
    settings = read_settings(
        base_url=base_url,
        auth="open",
        clients=None,
        database_url=database,
        patient_key=SecretStr(""),  # the small EHR itself hides overridden cards
        dashboard_password=SecretStr(DASHBOARD_PASSWORD),
    )
    if not settings.allowed_origins:
        settings.allowed_origins = SANDBOX_ORIGIN
    app = create_app(settings, content, clock)
    mothers = vignettes()
    store = FhirStore(mothers, clock())
    app.register_blueprint(fhir_endpoint(store, f"{settings.base_url}/fhir"))
    evaluation = make_evaluation(settings, content)
    app.register_blueprint(_pages(mothers, store, settings.base_url, evaluation, clock))

    names = own_names(settings.base_url)

    @app.before_request
    def admit() -> None:
        must_be_called(names)
        must_be_of_this_origin(settings.origins)
        store.keep_fresh(clock())

    return app


def _pages(
    shown: list[Vignette],
    store: FhirStore,
    base_url: str,
    evaluation: Evaluation,
    clock: Callable[[], datetime],
) -> Blueprint:
    pages = Blueprint(
        "demo",
        __name__,
        template_folder="templates",
        static_folder="static",
        static_url_path="/demo/static",
    )
    # Not "no-referrer": with it, browsers send a form without its origin.
    policy = ("style-src 'self'", "img-src 'self' data:", "form-action 'self'")
    protect(pages, *policy, referrer="same-origin")
    mothers = {mother.name: mother for mother in shown}
    content = evaluation.content
    fhir = f"{base_url}/fhir"
    displays = {f"{r.system}|{r.id}": r.display for r in content.override_reasons.values()}
    dismissed: dict[str, dict[str, str]] = {name: {} for name in mothers}
    taken_back: dict[str, set[str]] = {name: set() for name in mothers}
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")

    @pages.app_template_filter("markdown")
    def render_markdown(text: str) -> Markup:
        return Markup(markdown.render(text))

    def mother_named(name: str) -> Vignette:
        mother = mothers.get(name)
        if mother is None:
            abort(404)
        return mother

    def send(card: str | None, suggestion: str | None, reason: str | None) -> None:
        """Send feedback, as an EHR does after a clinician has acted."""
        hook = request.form.get("hook", "patient-view")
        if card and hook in SERVICES:
            send_feedback(f"{base_url}/cds-services/{SERVICES[hook]}", card, suggestion, reason)

    def request_for(mother: Vignette) -> tuple[str, DataWay, dict[str, Any]]:
        hook = request.values.get("hook", mother.expected.hook)
        data = request.values.get("data", "prefetch")
        if hook not in mother.hooks or data not in ("prefetch", "server"):
            abort(400)
        sent = (
            prefetch_from(content, store, fhir, mother.patient_id) if data == "prefetch" else None
        )
        without = taken_back[mother.name]
        hooked = hook_request(mother, hook, fhir, sent, taken_back=without)
        return hook, cast(DataWay, data), hooked

    @pages.get("/")
    def choose() -> str:
        topics: dict[str, list[Vignette]] = {}
        for mother in mothers.values():
            topics.setdefault(mother.expected.topic, []).append(mother)
        return render_template("choose.html", topics=topics, base_url=base_url)

    @pages.get("/mothers/<name>")
    def chart(name: str) -> str:
        mother = mother_named(name)
        findings = _findings(content, evaluation, store, fhir, mother, clock())
        return render_template(
            "chart.html",
            mother=mother,
            jurisdiction=evaluation.jurisdiction,
            patient=store.read("Patient", mother.patient_id),
            facts=_known_facts(findings),
            medicines=findings.case.medicines,
            orders=_written(findings),
            speaks_of_milk=not findings.closed_gates,
            plot=_plot(content, findings, evaluation.time_zone),
            assessments=[
                (assessment, say_conclusions(conclusions), conclusions)
                for assessment in content.assessments.values()
                if assessment.id == JUDGED_FIRST or not findings.closed_gates
                for conclusions in [findings.assess(assessment)]
            ],
            drafts=[_name_of(draft) for draft in wanted_orders(mother, taken_back[name]).values()],
        )

    @pages.get("/mothers/<name>/encounter")
    def encounter(name: str) -> str:
        mother = mother_named(name)
        hook, data, hooked = request_for(mother)
        answered = call(f"{base_url}/cds-services/{SERVICES[hook]}", hooked)
        return render_template(
            "encounter.html",
            mother=mother,
            hook=hook,
            data=data,
            answered=answered,
            cards=_shown(answered, dismissed[name]),
            dismissed=dismissed[name],
            extension=EXTENSION,
            written=request.args.get("written"),
            request_json=_pretty(hooked),
            response_json=_pretty(answered.response),
            request_url=f"{base_url}{url_for('.request_body', name=name, hook=hook, data=data)}",
            service_url=f"{base_url}/cds-services/{SERVICES[hook]}",
        )

    @pages.get("/mothers/<name>/request.json")
    def request_body(name: str) -> Response:
        return Response(
            orjson.dumps(request_for(mother_named(name))[2]), mimetype="application/json"
        )

    @pages.post("/mothers/<name>/accept")
    def accept(name: str) -> Response:
        mother_named(name)
        try:
            written = []
            for action in orjson.loads(request.form["actions"]):
                if action["type"] == "delete":  # a draft order, which is not on the FHIR server
                    taken_back[name].add(action["resourceId"])
                else:
                    written.append(write(fhir, action["resource"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            abort(400)
        send(request.form.get("uuid"), request.form.get("suggestion"), None)
        told = f"Written to her record: {', '.join(written)}" if written else "Order taken back"
        return _back(name, written=told)

    @pages.post("/mothers/<name>/override")
    def override(name: str) -> Response:
        mother_named(name)
        reason = request.form.get("reason", "")
        dismissed[name][request.form["card"]] = displays.get(reason, "")
        send(request.form.get("uuid"), None, reason)
        return _back(name)

    @pages.post("/demo/reset")
    def reset() -> Response:
        store.reset(clock())
        for name in mothers:
            dismissed[name].clear()
            taken_back[name].clear()
        return cast(Response, redirect(url_for(".choose"), 303))

    def _back(name: str, **more: str) -> Response:
        where = {key: request.form[key] for key in ("hook", "data") if key in request.form}
        query = urlencode({**where, **more})
        return cast(Response, redirect(f"{url_for('.encounter', name=name)}?{query}", 303))

    return pages


def _name_of(draft: dict[str, Any]) -> str:
    """The medicine or formula of a draft order, as a text."""
    if draft["resourceType"] == "NutritionOrder":
        return str(draft["enteralFormula"]["baseFormulaType"]["text"])
    return str(draft["medicationCodeableConcept"]["text"])


def _pretty(document: Any) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def _shown(answered: Answered, dismissed: dict[str, str]) -> list[dict[str, Any]]:
    cards: list[dict[str, Any]] = answered.response.get("cards", [])
    return [card for card in cards if card["source"]["topic"]["code"] not in dismissed]


def _findings(
    content: Content,
    evaluation: Evaluation,
    store: FhirStore,
    fhir: str,
    mother: Vignette,
    now: datetime,
) -> Findings:
    sent = prefetch_from(content, store, fhir, mother.patient_id)
    answers = {key: read_result(value) for key, value in sent.items()}
    return evaluation.findings(evaluation.case(Chart(mother.patient_id, answers, fhir), now))


def _known_facts(findings: Findings) -> list[tuple[str, str, str]]:
    return [
        (
            fact.spec.label,
            say_value(fact, findings.content) if fact.value is not None else fact.status,
            say_time(fact.time),
        )
        for fact in (findings.facts[name] for name in findings.content.facts)
        if fact.status != "not-recorded" and fact.spec.type != "time"
    ]


def _written(findings: Findings) -> list[str]:
    """The labels of the interventions that were asked for or done already."""
    return [
        intervention.label
        for intervention in findings.content.interventions.values()
        if findings.asked_for(intervention.id) is True
    ]


def _plot(content: Content, findings: Findings, time_zone: tzinfo | None) -> Plot | None:
    birth = findings.facts["delivery-time"].moment
    if birth is None:
        return None
    readings, _ = collect_readings(content, findings.case.chart, findings.now, time_zone)
    return plot_volumes(
        content, readings.get("expressed-milk-volume", ()), birth.earliest, findings.now
    )
