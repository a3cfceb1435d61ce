"""Odd records: each is told or passed over for what it is, and spoils nothing beside it."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.engine.facts import (
    AsOf,
    all_too_old,
    birth_of_newborn,
    death_of_newborn,
    records_too_old,
)
from cds_service.settings import Settings
from tests.support.calls import fire, topics
from tests.support.mothers import (
    HER,
    NOW,
    Resource,
    ago,
    birth,
    cards_of,
    facts_of,
    hook_request,
    inhibited,
    medicine,
    milk,
    observation,
)
from tests.support.orders import draft, order_request

BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"


def reasons(fact: Any) -> list[str]:
    return [problem.reason for problem in fact.problems]


def of_medicines(content: Content, *taken: Resource) -> str:
    """What the card of her medicines says; nothing if it does not come."""
    card = cards_of(content, birth(100), milk(30, 2), *taken).get("medicines-and-milk")
    return "" if card is None else f"{card['summary']}\n{card['detail']}"


# --- times --------------------------------------------------------------------------------------


def test_where_nothing_counts_any_more_it_is_said_how_much_is_old_and_of_when(
    content: Content,
) -> None:
    old = facts_of(content, milk(20, 100), milk(30, 90), milk(25, 80))
    assert all_too_old(old)
    assert records_too_old(old) == (3, ago(80)[:10])
    new = facts_of(content, milk(20, 100), milk(30, 2))
    assert not all_too_old(new)
    assert records_too_old(facts_of(content)) == (0, "")


def test_a_birth_that_is_a_quantity_or_no_time_is_told(content: Content) -> None:
    number = facts_of(content, observation("delivery-time", 5))["delivery-time"]
    assert (number.status, reasons(number)) == ("unusable", ["a time is due here"])
    no_time = facts_of(content, observation("delivery-time", valueDateTime="soon"))["delivery-time"]
    assert no_time.status == "unusable"


def test_a_birth_whose_period_says_only_when_it_ended_is_told(content: Content) -> None:
    section = {
        "resourceType": "Procedure",
        "id": "section-2",
        "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "11466000"}]},
        "subject": {"reference": f"Patient/{HER}"},
        "performedPeriod": {"end": ago(40)},
    }
    fact = facts_of(content, section)["delivery-time"]
    assert fact.status in ("unusable", "known")
    period = facts_of(content, section | {"performedPeriod": "yesterday"})["delivery-time"]
    assert period.status == "unusable"


def test_a_period_that_is_no_object_is_told(content: Content) -> None:
    sent = observation("breast-fullness", "full")
    del sent["effectiveDateTime"]
    fact = facts_of(content, sent | {"effectivePeriod": [ago(3)]})["breast-fullness"]
    assert fact.status == "unusable"


def test_an_amount_over_a_period_counts_from_its_end(content: Content) -> None:
    sent = observation("pump-session-minutes", (28, "min"))
    del sent["effectiveDateTime"]
    during = sent | {"effectivePeriod": {"start": ago(3), "end": ago(2)}}
    assert facts_of(content, during)["pump-session-minutes"].value == 28


def test_a_limit_of_another_kind_is_no_number(content: Content) -> None:
    above = observation(
        "body-temperature", valueQuantity={"value": 39, "code": "Cel", "comparator": "ad"}
    )
    fact = facts_of(content, above)["body-temperature"]
    assert (fact.status, reasons(fact)) == ("unusable", ["its value is a limit, not a number"])


# --- newborns -----------------------------------------------------------------------------------


AS_OF = AsOf(NOW.timestamp(), UTC)
BORN = {"resourceType": "Patient", "id": "infant-1", "birthDate": "2026-01-13"}


def with_birth_time(*extensions: Any) -> Resource:
    return {**BORN, "_birthDate": {"extension": list(extensions)}}


@pytest.mark.parametrize(
    "extensions",
    [
        [{"url": "urn:other", "valueDateTime": ago(50)}],
        [{"url": BIRTH_TIME, "valueDateTime": "in the morning"}],
        ["no object", {"url": BIRTH_TIME}],
    ],
)
def test_a_birth_time_that_is_none_leaves_the_day_of_birth(extensions: list[Any]) -> None:
    born = birth_of_newborn(with_birth_time(*extensions), AS_OF)
    assert born is not None
    assert born.value == "2026-01-13"
    assert not born.moment.exact


def test_a_newborn_that_has_died_is_known_by_its_own_record() -> None:
    assert death_of_newborn(BORN | {"deceasedBoolean": False}, AS_OF) is None
    at = death_of_newborn(BORN | {"deceasedDateTime": ago(5)}, AS_OF)
    some_time = death_of_newborn(BORN | {"deceasedBoolean": True}, AS_OF)
    assert at is not None
    assert some_time is not None
    assert at.value == some_time.value == "died"
    assert at.moment.exact
    assert some_time.moment.latest == NOW.timestamp()
    assert some_time.moment.earliest < at.moment.earliest
    nowhere = {"resourceType": "Patient", "id": "infant-2", "deceasedBoolean": True}
    assert death_of_newborn(nowhere, AS_OF) is not None


# --- medicines ----------------------------------------------------------------------------------


def test_what_she_is_not_to_take_is_not_listed(content: Content) -> None:
    named = {"text": "Sertraline"}
    assert "Sertraline" in of_medicines(content, medicine(medicationCodeableConcept=named))
    forbidden = medicine(medicationCodeableConcept=named, doNotPerform=True)
    assert of_medicines(content, forbidden) == ""


@pytest.mark.parametrize(
    "ingredients",
    [
        [7, {"itemCodeableConcept": {"text": "Nothing known"}}],
        [{"itemReference": {"reference": "#gone"}}],
        [{}],
    ],
)
def test_a_mixture_of_what_nobody_knows_goes_by_its_own_name(
    content: Content, ingredients: list[Any]
) -> None:
    made = {
        "resourceType": "Medication",
        "id": "m",
        "code": {"text": "Mixture of the house"},
        "ingredient": ingredients,
    }
    taken = medicine(contained=[made], medicationReference={"reference": "#m"})
    assert "look up by name: Mixture of the house." in of_medicines(content, taken)


def test_a_medicine_with_a_code_that_is_none_is_asked_for(
    content: Content,
) -> None:
    coding = [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": 7}]
    taken = medicine(medicationCodeableConcept={"coding": coding})
    assert "No name was sent, ask what it is" in of_medicines(content, taken)


# --- orders -------------------------------------------------------------------------------------


def test_a_coding_of_a_feed_that_is_none_spoils_nothing(
    client: FlaskClient, content: Content
) -> None:
    feed = {
        "resourceType": "NutritionOrder",
        "id": "feed",
        "status": "draft",
        "intent": "order",
        "patient": {"reference": f"Patient/{HER}"},
        "dateTime": ago(0),
        "enteralFormula": {"baseFormulaType": {"coding": [7, None], "text": "Formula"}},
    }
    beside = draft("pseudoephedrine")
    cards = fire(client, order_request(content, feed, beside))
    assert "order-lowers-supply" in topics(cards)


# --- content of a hospital ----------------------------------------------------------------------


def test_without_override_reasons_a_card_offers_none(content: Content, settings: Settings) -> None:
    from dataclasses import replace

    none = replace(content, override_reasons={})
    client = create_app(settings, none, lambda: NOW).test_client()
    (card, *_) = fire(client, hook_request(none, *inhibited()))
    assert "overrideReasons" not in card
    assert "suggestions" in card
