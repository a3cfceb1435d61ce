"""Suppression: what was overridden is held back for a while, unless things become worse."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest
import sqlalchemy
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from cds_service.engine.decision import CardDecision, ShownCard
from cds_service.engine.suppression import (
    ALL_CLINICIANS,
    Audience,
    Digests,
    Overridden,
    Suppression,
    audience_of,
)
from cds_service.settings import Settings
from cds_service.storage.card_log import BATCH, MOST_WAITING, CardLog
from cds_service.storage.database import Database
from tests.support.calls import VIEW
from tests.support.commands import run
from tests.support.mothers import (
    HER,
    NOW,
    ago,
    average,
    birth,
    chart_of,
    hook_request,
    inhibited,
    medicine,
    milk,
    observation,
    plan,
)
from tests.support.once import evaluation_of
from tests.support.orders import draft, order_request
from tests.support.waiting import soon, stays
from tests.support.ward import LONG_ENOUGH, REASONS, SMOKER, Ward

assert main
SIGN = "/cds-services/lactation-order-sign"
PACIFIER = observation("pacifier-use", True)
MASTITIS = [
    observation("breast-redness", True),
    observation("breast-pain", 6),
    observation("body-temperature", (39.0, "Cel")),
]


RISK = "supply-risk-factors"


def test_a_card_that_was_overridden_is_held_back_and_comes_again(ward: Ward) -> None:
    ward.override(ward.cards(SMOKER)[RISK])
    soon(lambda: RISK not in ward.cards(SMOKER))
    ward.now = NOW + timedelta(hours=7.9)
    assert RISK not in ward.cards(SMOKER)
    ward.now = NOW + timedelta(hours=8.1)
    assert RISK in ward.cards(SMOKER)


@pytest.mark.parametrize(
    ("code", "hours"),
    [("patient-refuses", 7 * 24), ("action-completed", 3 * 24), ("unheard-of", 8), (None, 8)],
)
def test_the_reason_decides_for_how_long(ward: Ward, code: str | None, hours: float) -> None:
    ward.override(ward.cards(SMOKER)[RISK], code)
    soon(lambda: RISK not in ward.cards(SMOKER))
    ward.now = NOW + timedelta(hours=hours - 0.1)
    assert RISK not in ward.cards(SMOKER)
    ward.now = NOW + timedelta(hours=hours + 0.1)
    assert RISK in ward.cards(SMOKER)


def test_it_comes_again_if_there_is_a_new_reason_for_it(ward: Ward) -> None:
    ward.override(ward.cards(SMOKER)[RISK], "patient-refuses")
    soon(lambda: RISK not in ward.cards(SMOKER))
    assert RISK in ward.cards(SMOKER, PACIFIER)
    assert RISK not in ward.cards(SMOKER)


def test_it_stays_away_if_a_reason_for_it_is_gone(ward: Ward) -> None:
    ward.override(ward.cards(SMOKER, PACIFIER)[RISK], "patient-refuses")
    soon(lambda: RISK not in ward.cards(SMOKER, PACIFIER))
    assert RISK not in ward.cards(SMOKER)


def test_a_new_medicine_brings_the_card_of_medicines_again(ward: Ward) -> None:
    one = medicine(medicationCodeableConcept={"text": "Ibuprofen"})
    two = medicine(medicationCodeableConcept={"text": "Sertraline"})
    ward.override(ward.cards(one)["medicines-and-milk"])
    soon(lambda: "medicines-and-milk" not in ward.cards(one))
    assert "medicines-and-milk" in ward.cards(one, two)


def test_what_must_not_wait_is_never_suppressed(ward: Ward) -> None:
    card = ward.cards(*MASTITIS)["breast-infection"]
    ward.override(card, "patient-ineligible")
    stays(lambda: "breast-infection" in ward.cards(*MASTITIS), LONG_ENOUGH)


def test_only_this_card_of_this_patient_is_suppressed(ward: Ward) -> None:
    ibuprofen = medicine(medicationCodeableConcept={"text": "Ibuprofen"})
    ward.override(ward.cards(SMOKER, ibuprofen)[RISK])
    soon(lambda: RISK not in ward.cards(SMOKER, ibuprofen))
    assert "medicines-and-milk" in ward.cards(SMOKER, ibuprofen)
    text = SMOKER | {"subject": {"reference": "Patient/another"}}
    request = hook_request(ward.content, text)
    request["context"]["patientId"] = "another"
    request["prefetch"]["deliveries"] = None
    born = observation("delivery-time", None, 0.5, valueDateTime=NOW.isoformat())
    nurses = plan("nurse")
    born["subject"] = nurses["subject"] = {"reference": "Patient/another"}
    request["prefetch"]["milkExpression"] = {
        "resourceType": "Bundle",
        "entry": [{"resource": record} for record in (text, born, nurses)],
    }
    cards = ward.client.post(VIEW, json=request).get_json()["cards"]
    assert RISK in [card["source"]["topic"]["code"] for card in cards]


def test_an_accepted_card_is_not_suppressed_for_that(ward: Ward) -> None:
    card = ward.cards(SMOKER)[RISK]
    soon(lambda: any(row.uuid == card["uuid"] for row in ward.rows("shown")))
    taken = [{"id": card["suggestions"][0]["uuid"]}] if "suggestions" in card else [{"id": "x"}]
    ward.tell({"card": card["uuid"], "outcome": "accepted", "acceptedSuggestions": taken})
    stays(lambda: RISK in ward.cards(SMOKER), LONG_ENOUGH)


def test_the_last_word_counts(ward: Ward) -> None:
    card = ward.cards(SMOKER)[RISK]
    ward.override(card, "patient-refuses")
    soon(lambda: RISK not in ward.cards(SMOKER))
    ward.now = NOW + timedelta(minutes=1)
    taken = [{"id": "x"}]
    ward.tell({"card": card["uuid"], "outcome": "accepted", "acceptedSuggestions": taken})
    soon(lambda: RISK in ward.cards(SMOKER))


def test_an_order_that_was_confirmed_is_suppressed_and_another_is_not(ward: Ward) -> None:
    def fire(name: str) -> list[dict[str, Any]]:
        request = order_request(ward.content, draft(name))
        cards: list[dict[str, Any]] = ward.client.post(SIGN, json=request).get_json()["cards"]
        return cards

    (card,) = fire("pseudoephedrine")
    ward.override(card)
    soon(lambda: fire("pseudoephedrine") == [])
    assert len(fire("cabergoline")) == 1


def test_the_answer_says_for_which_orders_a_card_is_held_back(ward: Ward) -> None:
    """The same card is about each of two orders, and one or both were confirmed before."""
    amiodarone, methotrexate = draft("amiodarone", 1), draft("methotrexate", 2)

    def sign(*orders: Any) -> dict[str, Any]:
        request = order_request(ward.content, *orders)
        answer: dict[str, Any] = ward.client.post(SIGN, json=request).get_json()
        return answer

    def held_back(answer: dict[str, Any]) -> list[tuple[str, list[str]]]:
        told = answer.get("extension", {}).get("org.lactation-cds", {}).get("suppressed", [])
        return [(each["card"], each["orders"]) for each in told]

    (card,) = sign(amiodarone)["cards"]
    ward.override(card)
    soon(lambda: sign(amiodarone)["cards"] == [])
    answer = sign(amiodarone, methotrexate)
    (card,) = answer["cards"]
    assert card["summary"].startswith("Methotrexate")
    assert held_back(answer) == [("order-avoid", ["Amiodarone"])]
    described = ward.client.get("/openapi.json").get_json()
    cards = {**described, "$ref": "#/components/schemas/Cards"}
    Draft202012Validator(cards).validate(answer)
    ward.override(card)
    soon(lambda: sign(amiodarone, methotrexate)["cards"] == [])
    assert held_back(sign(amiodarone, methotrexate)) == [
        ("order-avoid", ["Amiodarone"]),
        ("order-avoid", ["Methotrexate"]),
    ]


def test_all_workers_hear_of_it_and_one_that_starts_later_too(ward: Ward) -> None:
    second = ward.another_worker()
    assert RISK in ward.cards(SMOKER, client=second)
    ward.override(ward.cards(SMOKER)[RISK])
    soon(lambda: RISK not in ward.cards(SMOKER, client=second))
    assert RISK not in ward.cards(SMOKER, client=ward.another_worker())


def test_the_answer_can_say_what_is_held_back(ward: Ward) -> None:
    ward.override(ward.cards(SMOKER)[RISK], "patient-refuses")
    soon(lambda: RISK not in ward.cards(SMOKER))
    request = hook_request(ward.content, *average(), SMOKER)
    answer = ward.client.post(VIEW, json=request).get_json()
    assert answer["extension"]["org.lactation-cds"]["suppressed"] == [
        {
            "card": RISK,
            "until": (NOW + timedelta(days=7)).isoformat(),
            "reason": "patient-refuses",
        }
    ]
    described = ward.client.get("/openapi.json").get_json()
    cards = {**described, "$ref": "#/components/schemas/Cards"}
    Draft202012Validator(cards).validate(answer)
    silent = Ward(ward.content, ward.settings.model_copy(update={"explain": False}), ward.database)
    assert silent.client.post(VIEW, json=request).get_json() == {"cards": []}


@pytest.mark.parametrize("system", ["Jane Doe", REASONS, None])
def test_free_text_that_is_stored_as_a_reason_is_not_told(ward: Ward, system: str | None) -> None:
    """Earlier versions stored what came; and a reason may have left the content since."""
    ward.override(ward.cards(SMOKER)[RISK])
    wrote = sqlalchemy.text("UPDATE feedback SET reason_code = 'Jane Doe', reason_system = :system")
    with Database(ward.database).engine.begin() as connection:
        connection.execute(wrote, {"system": system})
    soon(lambda: RISK not in ward.cards(SMOKER))
    later = ward.another_worker()
    answer = later.post(VIEW, json=hook_request(ward.content, *average(), plan("nurse"), SMOKER))
    (told,) = answer.get_json()["extension"]["org.lactation-cds"]["suppressed"]
    assert told["reason"] == "other"
    assert "Jane" not in answer.text


@pytest.mark.parametrize("off", [{"suppression": False}, {"patient_key": SecretStr("")}])
def test_it_can_be_switched_off(ward: Ward, off: dict[str, Any]) -> None:
    loud = Ward(ward.content, ward.settings.model_copy(update=off), ward.database)
    loud.override(loud.cards(SMOKER)[RISK])
    stays(lambda: RISK in loud.cards(SMOKER), LONG_ENOUGH)


# --- what is stored -----------------------------------------------------------------------------


def test_of_the_patient_there_is_a_keyed_digest_and_no_more(ward: Ward) -> None:
    card = ward.cards(SMOKER)[RISK]
    soon(lambda: len(ward.rows("shown")) >= 1)
    row = next(row for row in ward.rows("shown") if row.uuid == card["uuid"])
    assert (row.card, row.service, row.indicator) == (RISK, "lactation-patient-view", "info")
    assert row.content == ward.content.version
    assert row.interventions == " ".join(card["extension"]["org.lactation-cds"]["interventions"])
    assert row.shown == NOW.timestamp() * 1000
    assert len(row.patient) == 32
    assert HER not in str(ward.rows("shown"))
    assert "smok" not in row.reasons
    other = ward.settings.model_copy(update={"patient_key": SecretStr("another secret")})
    elsewhere = Ward(ward.content, other, ward.database)
    card = elsewhere.cards(SMOKER)[RISK]
    soon(lambda: any(row.uuid == card["uuid"] for row in ward.rows("shown")))
    (there,) = [row for row in ward.rows("shown") if row.uuid == card["uuid"]]
    assert there.patient != row.patient


def test_without_a_secret_there_is_nothing_of_a_patient(
    content: Content, settings: Settings, database: str, hears_at_once: None
) -> None:
    ward = Ward(content, settings, database)
    ward.cards(SMOKER)
    soon(lambda: len(ward.rows("shown")) >= 1)
    assert {(row.patient, row.reasons) for row in ward.rows("shown")} == {("", "")}


def test_a_database_that_is_lost_slows_no_card_and_what_was_shown_is_written_later(
    ward: Ward,
) -> None:
    first = ward.cards(SMOKER)[RISK]["uuid"]
    soon(lambda: any(row.uuid == first for row in ward.rows("shown")))
    engine = sqlalchemy.create_engine(ward.database)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("ALTER TABLE shown RENAME TO gone"))
    began = time.monotonic()
    meanwhile = [ward.cards(SMOKER)[RISK]["uuid"] for _ in range(20)]
    assert time.monotonic() - began < 2
    soon(lambda: ward.client.get("/health/ready").get_json()["checks"]["card_log"] == "fail")
    ready = ward.client.get("/health/ready")
    assert (ready.status_code, ready.get_json()["status"]) == (200, "warn")  # cards still come
    assert ready.get_json()["checks"]["ledger"] == "fail"  # the older name, for one release
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("ALTER TABLE gone RENAME TO shown"))
    engine.dispose()
    soon(lambda: {first, *meanwhile} <= {row.uuid for row in ward.rows("shown")})
    soon(lambda: ward.client.get("/health/ready").get_json()["checks"]["card_log"] == "pass")


def test_overrides_are_heard_while_what_was_shown_cannot_be_written(ward: Ward) -> None:
    later = ward.another_worker()
    card = ward.cards(SMOKER)[RISK]
    soon(lambda: any(row.uuid == card["uuid"] for row in ward.rows("shown")))
    engine = sqlalchemy.create_engine(ward.database)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON shown BEGIN SELECT RAISE(FAIL, 'full'); END"
        )
    engine.dispose()
    assert RISK in ward.cards(SMOKER, client=later)  # waits to be written
    ward.tell({"card": card["uuid"], "outcome": "overridden"}, "limited-time")
    soon(lambda: RISK not in ward.cards(SMOKER, client=later))


def test_while_a_key_is_changed_the_one_before_it_counts_too(ward: Ward) -> None:
    """What was overridden under it stays suppressed; without it, nobody knows her again."""
    ward.override(ward.cards(SMOKER)[RISK])
    soon(lambda: RISK not in ward.cards(SMOKER))
    old = ward.settings
    new = old.model_copy(
        update={
            "patient_key": SecretStr("another secret of them"),
            "patient_key_before": old.patient_key,
        }
    )
    ward.settings = new
    changed = ward.another_worker()
    assert RISK not in ward.cards(SMOKER, client=changed)
    ward.settings = new.model_copy(update={"patient_key_before": SecretStr("")})
    forgetful = ward.another_worker()
    card = ward.cards(SMOKER, client=forgetful)[RISK]
    ward.override(card)  # under the new one, which all others come to know
    soon(lambda: RISK not in ward.cards(SMOKER, client=forgetful))
    soon(lambda: RISK not in ward.cards(SMOKER, client=changed))


def test_what_waits_for_a_lost_database_has_a_bound_and_more_is_counted(
    content: Content, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = Database(database)
    there.upgrade()
    card_log = CardLog(there, content, lambda: NOW)
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("ALTER TABLE shown RENAME TO gone"))
    most = BATCH * MOST_WAITING
    asked = CardDecision(content.cards["data-needed"], "", "info", [])
    for number in range(most + 7):
        card = ShownCard(asked, f"{number}", {})
        card_log.keep([card], Audience(), VIEW, "1", NOW)
    assert not card_log.write()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("ALTER TABLE gone RENAME TO shown"))
    assert card_log.write()
    with engine.connect() as connection:
        kept = connection.execute(sqlalchemy.text("SELECT uuid FROM shown ORDER BY rowid"))
        assert [int(uuid) for (uuid,) in kept] == list(range(most))
    engine.dispose()
    assert "7 cards that were shown could not be written, and are lost" in caplog.text


def test_what_is_old_can_be_forgotten(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.override(ward.cards(SMOKER)[RISK])
    days = (datetime.now(NOW.tzinfo) - NOW).days
    assert "0 of shown, 0 of feedback" in run("forget", "--older-than", str(days + 1))
    assert len(ward.rows("shown")) >= 1
    assert "1 of feedback" in run("forget", "--older-than", str(days - 1))
    assert ward.rows("shown") == ward.rows("feedback") == []


def test_an_override_after_a_loss_lasts_until_the_next_birth(ward: Ward) -> None:
    """Nobody is asked twice, whatever is recorded since; another loss is another one."""

    def told(*records: Any) -> dict[str, dict[str, Any]]:
        request = hook_request(ward.content, *records)
        answer = ward.client.post(VIEW, json=request).get_json()
        return {card["source"]["topic"]["code"]: card for card in answer["cards"]}

    loss = [birth(20), observation("infant-outcome", "stillborn", 20)]
    ward.override(told(*loss)["after-loss"], None)
    soon(lambda: told(*loss) == {})
    ward.now = NOW + timedelta(days=9)
    eased = milk(20, -9 * 24 + 2)
    pressure = observation("systolic-pressure", (170, "mm[Hg]"), -9 * 24 + 1)
    assert told(*loss, eased, pressure) == {}
    ward.now = NOW + timedelta(days=300)
    later = -300 * 24 + 20
    born_again = observation("delivery-time", None, later, valueDateTime=ago(later))
    lost_again = observation("infant-outcome", "stillborn", later)
    assert list(told(*loss, born_again, lost_again)) == ["after-loss"]
    alive = observation("infant-outcome", "alive", later)
    assert "after-loss" not in told(*loss, born_again, alive)


# --- for whom it counts -------------------------------------------------------------------------

DIGESTS = Digests("a secret of the tests")


def audience(counts_for: Literal["user", "clinicians", "everyone"], user: str) -> Audience:
    return audience_of(DIGESTS, counts_for, "ehr", "", "https://fhir.example.org", HER, user)


def test_the_override_of_a_patient_counts_for_no_clinician() -> None:
    patient, nurse = f"Patient/{HER}", "Practitioner/nurse"
    hers = audience("clinicians", patient)
    assert hers.counts_for not in audience("clinicians", nurse).scopes
    assert hers.scopes == (hers.counts_for,)  # and she hears of her own alone
    assert audience("everyone", nurse).counts_for in audience("everyone", patient).scopes


def test_where_each_user_decides_an_override_counts_for_that_user() -> None:
    nurse, physician = audience("user", "Practitioner/nurse"), audience("user", "Practitioner/md")
    assert nurse.counts_for in nurse.scopes
    assert nurse.counts_for not in physician.scopes
    assert nurse.patient == physician.patient


def test_an_override_that_is_over_holds_nothing_back(content: Content) -> None:
    """Also before the log of cards has been read again."""
    evaluation = evaluation_of(content)
    chart = chart_of(content, *average(), plan("nurse"), SMOKER)
    (card,) = (c for c in evaluation.judge(chart, "patient-view", NOW).cards if c.card.id == RISK)
    reasons = frozenset(DIGESTS.reasons_of("card-1", card.reasons))
    now = NOW.timestamp()
    said = {(RISK, "", ALL_CLINICIANS): Overridden("card-1", now, "other", "info", reasons)}
    for moment, held_back in ((now - 60, {RISK}), (now, set())):
        suppression = Suppression(DIGESTS, said, moment)
        judged = evaluation.judge(chart, "patient-view", NOW, suppression=suppression)
        assert {card.card.id for card, _ in judged.suppressed} == held_back


def test_what_has_become_more_urgent_is_not_held_back(content: Content) -> None:
    evaluation, letdown = evaluation_of(content), "inhibited-letdown"
    chart, now = chart_of(content, *inhibited()), NOW.timestamp()
    (card,) = (
        c for c in evaluation.judge(chart, "patient-view", NOW).cards if c.card.id == letdown
    )
    assert card.indicator == "warning"
    reasons = frozenset(DIGESTS.reasons_of("card-1", card.reasons))
    about = DIGESTS.of(card.about) if card.about else ""
    for indicator, held_back in (("warning", {letdown}), ("info", set())):
        overridden = Overridden("card-1", now + 60, "other", indicator, reasons)
        suppression = Suppression(DIGESTS, {(letdown, about, ALL_CLINICIANS): overridden}, now)
        judged = evaluation.judge(chart, "patient-view", NOW, suppression=suppression)
        assert {card.card.id for card, _ in judged.suppressed} == held_back
