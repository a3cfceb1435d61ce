"""What the cards achieve: the figures, those that are not told, and who may see them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy
from fhir.resources.R4B.measurereport import MeasureReport
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.settings import Settings
from cds_service.storage.database import Database
from cds_service.storage.report import (
    Line,
    Report,
    as_csv,
    as_measure_report,
    disclose,
    disclose_all,
    report_on,
)
from cds_service.web.dashboard.plot import plot_cards, plot_weeks
from tests.support.calls import VIEW
from tests.support.card_logs import fill
from tests.support.commands import run
from tests.support.mothers import NOW, average, hook_request
from tests.support.postgresql import new_database, postgresql_server
from tests.support.waiting import soon
from tests.support.ward import SMOKER

PASSWORD = "a password of the tests"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as running:
        yield running.address


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def filled(request: pytest.FixtureRequest, content: Content, database: str) -> Database:
    """The card log of some synthetic months, on each kind of database."""
    url = database
    if request.param == "postgresql":
        url = new_database(request.getfixturevalue("server"))
    made = Database(url)
    made.upgrade()
    fill(made, content, NOW, 85, 600)
    return made


def lines(report: Report, kind: str) -> dict[str, Line]:
    return {line.name: line for line in report.lines[kind]}


def test_the_figures_add_up(filled: Database, content: Content) -> None:
    report = report_on(filled, content, NOW, 90)
    assert report.total.shown == 600
    for kind in ("card", "week", "content", "client"):
        for what in ("shown", "accepted", "overridden"):
            whole = sum(getattr(line, what) for line in report.lines[kind])
            assert whole == getattr(report.total, what), (kind, what)
    for line in report.lines["card"]:
        assert sum(line.reasons.values()) == line.overridden
        assert line.accepted + line.overridden <= line.shown
    assert lines(report, "card")["inhibited-letdown"].label == "Inhibited letdown"
    assert set(lines(report, "content")) == {"older", "newer"}
    weeks = [line.name for line in report.lines["week"]]
    assert weeks == sorted(weeks)
    assert len(weeks) >= 12


def test_only_the_span_is_looked_at(filled: Database, content: Content) -> None:
    recent = report_on(filled, content, NOW, 30)
    assert 0 < recent.total.shown < 600
    assert report_on(filled, content, NOW + timedelta(days=200), 30).lines["card"] == []


def test_interventions_are_counted_by_the_suggestions_that_were_taken(
    filled: Database, content: Content
) -> None:
    report = report_on(filled, content, NOW, 90)
    cards, interventions = lines(report, "card"), lines(report, "intervention")
    first, second, third = content.cards["inhibited-letdown"].interventions[:3]
    assert interventions[first].shown == cards["inhibited-letdown"].shown
    assert interventions[first].accepted == cards["inhibited-letdown"].accepted
    assert 0 < interventions[second].accepted < interventions[first].accepted
    assert interventions[third].accepted == 0


def test_the_last_word_counts(filled: Database, content: Content) -> None:
    before = lines(report_on(filled, content, NOW, 90), "card")["lactation-consult"]
    with filled.engine.connect() as connection:
        card, client = connection.execute(
            sqlalchemy.text(
                "SELECT s.uuid, s.client FROM shown s JOIN feedback f ON f.card = s.uuid "
                "WHERE f.outcome = 'accepted' AND s.card = 'lactation-consult' LIMIT 1"
            )
        ).one()
    later: dict[str, Any] = {
        "key": "later",
        "client": client,
        "service": "lactation-patient-view",
        "card": card,
        "outcome": "overridden",
        "occurred": int((NOW + timedelta(days=1)).timestamp() * 1000),
        "suggestions": "",
        "reason_system": None,
        "reason_code": None,
        "commented": False,
        "comment": None,
    }
    filled.keep_feedback([later], NOW.timestamp())
    after = lines(report_on(filled, content, NOW, 90), "card")["lactation-consult"]
    assert (after.accepted, after.overridden) == (before.accepted - 1, before.overridden + 1)
    filled.keep_feedback([later | {"key": "forged", "client": "another"}], NOW.timestamp())
    assert lines(report_on(filled, content, NOW, 90), "card")["lactation-consult"] == after


# --- what is not told ---------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "told"), [(0, 0), (1, None), (4, None), (5, 5), (1000, 1000)])
def test_a_small_count_is_not_told(count: int, told: int | None) -> None:
    assert disclose(count) == told


@given(st.dictionaries(st.text("abcdef", min_size=1), st.integers(0, 30), max_size=8))
def test_no_small_count_can_be_reckoned_from_the_others(counts: dict[str, int]) -> None:
    told = disclose_all(counts)
    untold = [name for name, count in told.items() if count is None]
    assert all(told[name] == counts[name] for name in counts.keys() - set(untold))
    if any(0 < count < 5 for count in counts.values()):
        others = sum(1 for count in counts.values() if count)
        assert len(untold) >= min(2, others)


def test_no_small_count_is_in_any_form_of_the_report(filled: Database, content: Content) -> None:
    report = report_on(filled, content, NOW, 90)
    small = Counter(
        count
        for kind in report.lines
        for line in report.lines[kind]
        for count in (line.shown, line.accepted, line.overridden, *line.reasons.values())
        if 0 < count < 5
    )
    assert small, "the synthetic months have small counts"
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert {row["count"] for row in rows} & {"1", "2", "3", "4"} == set()
    assert "not told" in {row["count"] for row in rows}
    for group in as_measure_report(report)["group"]:
        assert all(member.get("count", 0) not in (1, 2, 3, 4) for member in group["population"])
    for bar in plot_cards(report.lines["card"]).bars:
        for part in bar.parts:
            count = int(part.title.split()[0].replace(",", ""))
            assert count >= 5 or part.kind == "no word"


def test_a_name_is_no_formula_to_a_spreadsheet() -> None:
    line = Line("=cmd()", "x", shown=10)
    assert "card,'=cmd(),shown,10" in as_csv(Report(NOW, NOW, {"card": [line]}))


# --- its forms ----------------------------------------------------------------------------------


def test_the_measure_report_is_valid_fhir(filled: Database, content: Content) -> None:
    report = report_on(filled, content, NOW, 90)
    made = as_measure_report(report)
    MeasureReport.model_validate(made)
    MeasureReport.model_validate(as_measure_report(Report(NOW, NOW, {"card": []})))
    letdown = next(
        group
        for group in made["group"]
        if group["code"]["coding"][0]["code"] == "inhibited-letdown"
    )
    counts = {m["code"]["coding"][0]["code"]: m["count"] for m in letdown["population"]}
    line = lines(report, "card")["inhibited-letdown"]
    assert counts == {
        "shown": line.shown,
        "accepted": line.accepted,
        "overridden": line.overridden,
    }


@given(st.lists(st.integers(0, 100_000), max_size=60))
def test_a_plot_stays_within_its_frame(shown: list[int]) -> None:
    weeks = [
        Line(f"2026-01-{n:02}", "", count, count // 3, count // 4) for n, count in enumerate(shown)
    ]
    columns = plot_weeks(Report(NOW, NOW, {"week": weeks, "card": []}))
    for x, parts in columns.parts:
        assert columns.left <= x <= columns.width - columns.column + 1
        assert all(
            0 <= part.start <= part.start + part.length <= columns.base + 1 for part in parts
        )
    for bar in plot_cards(weeks).bars:
        assert all(part.start + part.length <= columns.width for part in bar.parts)


def test_the_command_prints_the_same(content: Content, database: str) -> None:
    filled = Database(database)
    filled.upgrade()
    fill(filled, content, NOW, 85, 600)
    days = str((NOW.now(NOW.tzinfo) - NOW).days + 90)
    output = run("report", "--days", days)
    line = lines(report_on(filled, content, NOW, 90), "card")["inhibited-letdown"]
    assert re.search(rf"Inhibited letdown\s+│\s+{line.shown} │ {line.accepted} ", output)
    text = run("report", "--days", days, "--csv")
    assert f"card,inhibited-letdown,shown,{line.shown}\n" in text
    made = json.loads(run("report", "--days", days, "--fhir"))
    assert made["resourceType"] == "MeasureReport"


# --- the page -----------------------------------------------------------------------------------


@pytest.fixture
def opened(content: Content, settings: Settings, database: str) -> FlaskClient:
    made = Database(database)
    made.upgrade()
    fill(made, content, NOW, 85, 600)
    own = settings.model_copy(update={"dashboard_password": SecretStr(PASSWORD)})
    return create_app(own, content, lambda: NOW).test_client()


def test_without_a_password_there_is_no_dashboard(client: FlaskClient) -> None:
    assert client.get("/dashboard").status_code == 404


@pytest.mark.parametrize(
    "path", ["", "/report.csv", "/measure-report.json", "/static/dashboard.css"]
)
def test_only_who_knows_the_password_sees_it(opened: FlaskClient, path: str) -> None:
    for auth in (None, ("any", "wrong"), ("any", ""), ("any", PASSWORD + "x")):
        answer = opened.get(f"/dashboard{path}", auth=auth)
        assert answer.status_code == 401
        assert "Basic" in answer.headers["WWW-Authenticate"]
    answer = opened.get(f"/dashboard{path}", auth=("any", PASSWORD))
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_while_the_password_is_changed_both_open_it(content: Content, settings: Settings) -> None:
    old = "the one before it"
    known = {
        "dashboard_password": SecretStr(PASSWORD),
        "dashboard_password_before": SecretStr(old),
    }
    app = create_app(settings.model_copy(update=known), content, lambda: NOW).test_client()
    statuses = [
        app.get("/dashboard", auth=("any", each)).status_code for each in (PASSWORD, old, "x" * 12)
    ]
    assert statuses == [200, 200, 401]
    del known["dashboard_password"]
    app = create_app(settings.model_copy(update=known), content, lambda: NOW).test_client()
    assert app.get("/dashboard", auth=("any", old)).status_code == 404


def test_the_page_has_the_figures_and_no_script(opened: FlaskClient, content: Content) -> None:
    page = opened.get("/dashboard?days=90", auth=("any", PASSWORD)).text
    assert "600" in page
    assert page.count("<svg") == 2
    assert "Ask for a lactation consultant" in page
    assert "<script" not in page
    assert 'style="' not in page
    shorter = opened.get("/dashboard?days=30", auth=("any", PASSWORD)).text
    assert "<strong>30 days</strong>" in shorter
    assert opened.get("/dashboard?days=x", auth=("any", PASSWORD)).status_code == 200


def test_free_text_that_is_stored_as_a_reason_is_told_nowhere(
    opened: FlaskClient, database: str
) -> None:
    """Earlier versions stored what came; and a reason may have left the content since."""
    wrote = sqlalchemy.text(
        "UPDATE feedback SET reason_code = 'Jane Doe', reason_system = 'MRN 7' "
        "WHERE outcome = 'overridden'"
    )
    with Database(database).engine.begin() as connection:
        connection.execute(wrote)
    sign_in = ("any", PASSWORD)
    pages = [
        opened.get(f"/dashboard{path}?days=90", auth=sign_in).text
        for path in ("", "/report.csv", "/measure-report.json")
    ]
    pages.append(run("report", "--days", "36500", "--csv"))
    assert all("Jane" not in page and "MRN" not in page for page in pages)
    assert all("another reason" in page for page in (pages[0], pages[1], pages[3]))


def test_what_is_shown_and_told_over_http_is_in_the_report(
    content: Content, settings: Settings, hears_at_once: None
) -> None:
    own = settings.model_copy(update={"dashboard_password": SecretStr(PASSWORD)})
    client = create_app(own, content, lambda: NOW).test_client()
    for _ in range(6):
        request = hook_request(content, *average(), SMOKER)
        (card,) = client.post(VIEW, json=request).get_json()["cards"]
        taken = {
            "card": card["uuid"],
            "outcome": "accepted",
            "acceptedSuggestions": [{"id": card["suggestions"][0]["uuid"]}],
            "outcomeTimestamp": NOW.isoformat(),
        }
        assert client.post(f"{VIEW}/feedback", json={"feedback": [taken]}).status_code == 200
    name = card["extension"]["org.lactation-cds"]["interventions"][0]

    def told() -> bool:
        text = client.get("/dashboard/report.csv", auth=("any", PASSWORD)).text
        return (
            "card,supply-risk-factors,accepted,6\n" in text
            and f"intervention,{name},accepted,6\n" in text
        )

    soon(told)
