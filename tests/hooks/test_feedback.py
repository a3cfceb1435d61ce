"""Feedback (CDS Hooks 2.0.1, "Feedback"): what became of cards is committed, and kept once."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.hooks.protocol import MEMBERS
from cds_service.settings import Settings
from tests.support.calls import VIEW, outcome
from tests.support.clients import BASE, clients_file, signed
from tests.support.mothers import NOW, hook_request, inhibited, observation
from tests.support.waiting import soon, stays
from tests.support.ward import LONG_ENOUGH, SMOKER, Ward

FEEDBACK = f"{VIEW}/feedback"
REASONS = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"
CARD = "4f0a7f6e-34a1-4ef8-9d3c-0f0a3a1f9f11"
TAKEN = "0e8f2b9a-54bb-4a0e-8c0f-6d2f4f0f7a10"


def accepted(**members: Any) -> dict[str, Any]:
    return {
        "card": CARD,
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": TAKEN}],
        "outcomeTimestamp": "2026-01-15T11:59:00Z",
    } | members


def overridden(**members: Any) -> dict[str, Any]:
    return {
        "card": CARD,
        "outcome": "overridden",
        "outcomeTimestamp": "2026-01-15T11:59:00Z",
    } | members


def send(client: FlaskClient, *items: Any) -> Any:
    return client.post(FEEDBACK, json={"feedback": list(items)})


def kept(database: str) -> list[Any]:
    with sqlalchemy.create_engine(database).connect() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT * FROM feedback ORDER BY card, occurred"))
        return list(rows)


@pytest.mark.rule("feedback-path", "feedback-item")
def test_what_became_of_a_card_that_was_shown_is_kept(
    client: FlaskClient, content: Content, database: str
) -> None:
    smokes = observation("smoking-status", "smoker")
    request = hook_request(content, *inhibited(), smokes)
    cards = client.post(VIEW, json=request).get_json()["cards"]
    taken = cards[0]["suggestions"][0]["uuid"]
    reason = {name: cards[1]["overrideReasons"][0][name] for name in ("code", "system")}
    answer = send(
        client,
        accepted(card=cards[0]["uuid"], acceptedSuggestions=[{"id": taken}]),
        overridden(card=cards[1]["uuid"], overrideReason={"reason": reason}),
    )
    assert (answer.status_code, answer.get_json()) == (200, {})
    rows = {row.card: row for row in kept(database)}
    assert rows[cards[0]["uuid"]].suggestions == taken
    assert rows[cards[0]["uuid"]].outcome == "accepted"
    assert rows[cards[1]["uuid"]].reason_code == reason["code"]
    assert rows[cards[1]["uuid"]].reason_system == reason["system"]
    assert rows[cards[1]["uuid"]].received == NOW.timestamp() * 1000


@pytest.mark.rule("feedback-batch")
def test_a_repeat_is_taken_and_counts_once(client: FlaskClient, database: str) -> None:
    for _ in range(3):
        assert send(client, accepted(), accepted()).status_code == 200
    assert len(kept(database)) == 1


@pytest.mark.rule("feedback-batch", "feedback-override")
def test_the_last_word_on_a_card_at_a_time_counts(client: FlaskClient, database: str) -> None:
    why = {"reason": {"code": "patient-refuses", "system": REASONS}}
    assert send(client, overridden(), overridden(overrideReason=why)).status_code == 200
    (row,) = kept(database)
    assert row.reason_code == "patient-refuses"
    send(client, accepted(outcomeTimestamp="2026-01-15T12:30:00Z"))
    assert [row.outcome for row in kept(database)] == ["overridden", "accepted"]


@pytest.mark.rule("feedback-unknown")
@pytest.mark.parametrize(
    ("reason", "code", "system"),
    [
        ({"code": "patient-refuses", "system": REASONS}, "patient-refuses", REASONS),
        ({"code": "patient-refuses", "display": "No"}, "patient-refuses", REASONS),
        ({"code": "patient-refuses", "system": "urn:another"}, "other", None),
        ({"code": "Jane Doe says no", "display": "Ward round", "extension": {}}, "other", None),
        ({"code": "local-7", "system": "Jane Doe"}, "other", None),
    ],
)
def test_an_unknown_card_and_a_reason_of_the_clients_own_are_taken_and_not_repeated(
    client: FlaskClient, database: str, reason: dict[str, Any], code: str, system: str | None
) -> None:
    """Both are free text, and may name a patient."""
    told = overridden(card="Jane Doe", overrideReason={"reason": reason})
    assert send(client, told).status_code == 200
    (row,) = kept(database)
    assert (row.card, row.reason_code, row.reason_system) == ("unknown", code, system)
    assert "Jane" not in str(row)


@pytest.mark.rule("feedback-item")
@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2026-01-15T11:59:00Z", 0),
        ("2026-01-15t11:59:00z", 0),
        ("2026-01-15T11:59:00.250Z", 0.25),
        ("2026-01-15T13:59:00+02:00", 0),
        ("2026-01-15T06:29:00.123456789-05:30", 0.123),
    ],
)
def test_a_time_can_be_written_in_many_ways(
    client: FlaskClient, database: str, written: str, seconds: float
) -> None:
    assert send(client, overridden(outcomeTimestamp=written)).status_code == 200
    (row,) = kept(database)
    assert row.occurred / 1000 - (NOW.timestamp() - 60) == pytest.approx(seconds)


WRONG: dict[str, tuple[Any, str]] = {
    "no list": ({"feedback": {"card": CARD}}, "feedback"),
    "an empty list": ({"feedback": []}, "feedback"),
    "an item alone": (overridden(), "feedback"),
    "an item that is text": ({"feedback": ["x"]}, "feedback[0]"),
    "no card": ({"feedback": [overridden(), accepted(card=None)]}, "feedback[1].card"),
    "a card without a name": ({"feedback": [overridden(card="")]}, "feedback[0].card"),
    "another outcome": ({"feedback": [overridden(outcome="ignored")]}, "feedback[0].outcome"),
    "no time": ({"feedback": [overridden(outcomeTimestamp=None)]}, "outcomeTimestamp"),
    "a day": ({"feedback": [overridden(outcomeTimestamp="2026-01-15")]}, "outcomeTimestamp"),
    "no offset": (
        {"feedback": [overridden(outcomeTimestamp="2026-01-15T11:59:00")]},
        "outcomeTimestamp",
    ),
    "no such time": (
        {"feedback": [overridden(outcomeTimestamp="2026-02-31T11:59:00Z")]},
        "outcomeTimestamp",
    ),
    "before all time": (
        {"feedback": [overridden(outcomeTimestamp="0001-01-01T00:00:00+14:00")]},
        "outcomeTimestamp",
    ),
    "accepted nothing": (
        {"feedback": [accepted(acceptedSuggestions=[])]},
        "feedback[0].acceptedSuggestions",
    ),
    "accepted, and not what": (
        {"feedback": [accepted(acceptedSuggestions=None)]},
        "feedback[0].acceptedSuggestions",
    ),
    "accepted a text": (
        {"feedback": [accepted(acceptedSuggestions=["x"])]},
        "feedback[0].acceptedSuggestions[0]",
    ),
    "accepted something without an id": (
        {"feedback": [accepted(acceptedSuggestions=[{"uuid": TAKEN}])]},
        "feedback[0].acceptedSuggestions[0].id",
    ),
    "accepted too much": (
        {"feedback": [accepted(acceptedSuggestions=[{"id": TAKEN}] * 101)]},
        "feedback[0].acceptedSuggestions",
    ),
    "a reason that is text": (
        {"feedback": [overridden(overrideReason="no")]},
        "feedback[0].overrideReason",
    ),
    "a comment that is a number": (
        {"feedback": [overridden(overrideReason={"userComment": 7})]},
        "feedback[0].overrideReason.userComment",
    ),
    "an empty override": ({"feedback": [overridden(overrideReason={})]}, "overrideReason"),
    "a reason without a code": (
        {"feedback": [overridden(overrideReason={"reason": {"system": "urn:x"}})]},
        "code",
    ),
    "a NUL": ({"feedback": [overridden(card="a\0b")]}, "feedback[0].card"),
}


@pytest.mark.rule("feedback-committed", "feedback-item", "feedback-override")
@pytest.mark.parametrize("kind", WRONG)
def test_a_call_with_anything_wrong_keeps_nothing(
    client: FlaskClient, database: str, kind: str
) -> None:
    body, named = WRONG[kind]
    if isinstance(body.get("feedback"), list):
        body = {"feedback": [without_null(item) for item in body["feedback"]]}
    issue = outcome(client.post(FEEDBACK, json=body), 400)
    (where,) = issue["expression"]
    assert named in where
    said = issue["details"]["text"]
    name = re.split(r"[.\[]", re.sub(r"(\[\d+\])+$", "", where))[-1]
    assert said.startswith(where)
    assert said.endswith(f"ust be {MEMBERS[name]}.")
    assert kept(database) == []


def test_accepted_without_suggestions_is_told_what_is_wanted(client: FlaskClient) -> None:
    told = accepted()
    del told["acceptedSuggestions"]
    issue = outcome(send(client, told), 400)
    assert issue["details"]["text"] == (
        "feedback[0].acceptedSuggestions must be a list of objects with an id, at most 100, and "
        "of at least one if the outcome is accepted."
    )


@pytest.mark.parametrize(("year", "held_back"), [("2025", False), ("2126", True)])
def test_a_time_that_is_odd_is_taken_and_counts_from_when_it_came_at_the_latest(
    ward: Ward, year: str, held_back: bool
) -> None:
    card = ward.cards(SMOKER)["supply-risk-factors"]
    soon(lambda: any(row.uuid == card["uuid"] for row in ward.rows("shown")))
    told = overridden(card=card["uuid"], outcomeTimestamp=f"{year}-01-15T12:00:00Z")
    # Of another service than that which showed it.
    answer = ward.client.post(
        "/cds-services/lactation-order-sign/feedback", json={"feedback": [told]}
    )
    assert answer.status_code == 200
    (row,) = ward.rows("feedback")
    assert row.service == "lactation-order-sign"
    if held_back:
        soon(lambda: "supply-risk-factors" not in ward.cards(SMOKER))
        ward.now = NOW + timedelta(hours=8.1)  # as for one of now
    stays(lambda: "supply-risk-factors" in ward.cards(SMOKER), for_=LONG_ENOUGH)


def without_null(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    return {name: value for name, value in item.items() if value is not None}


def test_more_than_a_thousand_items_are_413(client: FlaskClient, database: str) -> None:
    items = [overridden(card=f"card-{number}") for number in range(1001)]
    outcome(send(client, *items), 413)
    assert send(client, *items[:1000]).status_code == 200
    assert len(kept(database)) == 1000


def test_it_is_refused_like_any_call(client: FlaskClient) -> None:
    body = {"feedback": [overridden()]}
    outcome(client.post("/cds-services/none/feedback", json=body), 404)
    outcome(client.post(FEEDBACK, data="{}", content_type="text/plain"), 415)
    outcome(client.post(FEEDBACK, json=body, headers={"Accept": "text/html"}), 406)
    answer = client.get(FEEDBACK)
    outcome(answer, 405)
    assert "POST" in answer.headers["Allow"]


# --- the clinician's own words ------------------------------------------------------------------

WORDS = "Jane Doe says no"


@pytest.mark.rule("feedback-comment")
def test_a_comment_is_not_kept_unless_it_is_wanted(
    client: FlaskClient, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = send(client, overridden(overrideReason={"userComment": WORDS}))
    assert answer.status_code == 200
    (row,) = kept(database)
    assert (row.commented, row.comment) == (True, None)
    assert "Jane" not in caplog.text + answer.text


@pytest.mark.rule("feedback-comment")
def test_a_comment_that_is_wanted_is_kept_up_to_a_thousand_characters(
    content: Content, settings: Settings, database: str
) -> None:
    own = settings.model_copy(update={"keep_comments": True})
    client = create_app(own, content, lambda: NOW).test_client()
    send(client, overridden(overrideReason={"userComment": WORDS + "\0" + "x" * 5000}))
    (row,) = kept(database)
    assert row.comment.startswith(WORDS + "x")
    assert len(row.comment) == 1000


# --- who may send it ----------------------------------------------------------------------------


@pytest.mark.rule("feedback-auth")
def test_a_token_is_for_the_address_of_feedback_or_of_its_service(guarded: FlaskClient) -> None:
    body = {"feedback": [overridden()]}
    for path in (FEEDBACK, VIEW):
        assert guarded.post(FEEDBACK, json=body, headers=signed(path)).status_code == 200
    once = signed(FEEDBACK)
    statuses = [guarded.post(FEEDBACK, json=body, headers=once).status_code for _ in range(2)]
    assert statuses == [200, 401]
    for path in ("/cds-services", f"{FEEDBACK}/", "/cds-services/lactation-order-sign/feedback"):
        answer = guarded.post(FEEDBACK, json=body, headers=signed(path))
        assert (answer.status_code, answer.data) == (401, b"")
    assert guarded.post(FEEDBACK, json=body).status_code == 401


def test_two_clients_do_not_overwrite_each_other(
    content: Content, tmp_path: Path, database: str
) -> None:
    clients = clients_file(tmp_path / "c.yaml")
    other = clients.read_text().replace("https://ehr.example.org", "https://other.example.org")
    clients.write_text(clients.read_text() + other.removeprefix("clients:\n"))
    settings = Settings(auth="required", base_url=BASE, clients=clients)
    client = create_app(settings, content, lambda: NOW).test_client()
    for issuer in ("https://ehr.example.org", "https://other.example.org"):
        headers = signed(FEEDBACK, iss=issuer)
        body = {"feedback": [overridden()]}
        assert client.post(FEEDBACK, json=body, headers=headers).status_code == 200
    assert sorted(row.client for row in kept(database)) == [
        "https://ehr.example.org",
        "https://other.example.org",
    ]


@pytest.mark.rule("feedback-committed")
def test_without_its_database_nothing_is_acknowledged(
    client: FlaskClient, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlalchemy.create_engine(database).begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE feedback"))
    answer = send(client, overridden(overrideReason={"userComment": WORDS}))
    assert outcome(answer, 503)["code"] == "transient"
    assert answer.headers["Retry-After"] == "1"
    assert "Jane" not in caplog.text


def test_what_one_call_may_store_has_a_bound(
    client: FlaskClient, content: Content, settings: Settings, database: str
) -> None:
    """A thousand cards, each with a suggestion, are taken; a hundred for each are not."""
    several = [accepted(card=f"{CARD[:-4]}{number:04}") for number in range(1000)]
    assert send(client, *several).status_code == 200
    ids = [{"id": f"{TAKEN[:-4]}{number:04}"} for number in range(100)]
    for each in several:
        each["acceptedSuggestions"] = ids
    assert outcome(send(client, *several), 413)["code"] == "too-costly"
    assert len(kept(database)) == 1000
    assert all(row.suggestions == TAKEN for row in kept(database))
    again = [{"id": TAKEN}] * 100
    for each in several:
        each["acceptedSuggestions"] = again
    assert send(client, *several).status_code == 200
    assert all(row.suggestions == TAKEN for row in kept(database))
