"""Odd records: each is told or passed over for what it is, and spoils nothing beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from cds_service.content.schema import VALUE_SET
from cds_service.engine.facts import (
    AsOf,
    all_too_old,
    birth_of_newborn,
    collect_readings,
    death_of_newborn,
    records_too_old,
)
from cds_service.engine.medicines import TakenMedicine
from cds_service.fhir.chart import KeyResult, State
from cds_service.settings import Settings
from tests.support.calls import fire, topics
from tests.support.fhir_servers import bundle
from tests.support.mothers import (
    HER,
    INFANT,
    NOW,
    Resource,
    ago,
    answer_of,
    birth,
    caesarean,
    cards_of,
    chart_of,
    facts_of,
    hook_request,
    inhibited,
    medicine,
    milk,
    observation,
)
from tests.support.once import evaluation_of
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
    section = caesarean(performedPeriod={"end": ago(40)})
    fact = facts_of(content, section)["delivery-time"]
    assert (fact.status, reasons(fact)) == ("unusable", ["it has no time that can be read"])
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


def test_two_counts_of_one_time_that_differ_are_no_count(content: Content) -> None:
    counts = [observation("pump-sessions-24h", count, 1) for count in (3, 8)]
    fact = facts_of(content, milk(20, 9), milk(30, 3), *counts)["pump-sessions-24h"]
    assert fact.status == "conflicting"


def test_a_record_that_was_cancelled_leaves_open_what_could_not_be_read(content: Content) -> None:
    cancelled = observation("delivery-time", valueDateTime=ago(50), status="cancelled")
    assert facts_of(content, cancelled)["delivery-time"].status != "not-available"
    failed = KeyResult(State.FAILED, reason="the record system was too slow")
    fact = facts_of(content, cancelled, deliveries=failed)["delivery-time"]
    assert fact.status == "not-available"


# --- diagnoses and what was done ----------------------------------------------------------------


def of_kind(kind: str, **members: Any) -> Resource:
    return {
        "resourceType": kind,
        "id": f"{kind.lower()}-1",
        "subject": {"reference": f"Patient/{HER}"},
        **members,
    }


OWN_MODE = [
    {"system": "urn:lactation-cds:fact", "code": "pump-mode"},
    {"system": "urn:lactation-cds:answer", "code": "double"},
]


def test_what_was_done_has_the_answer_in_its_code(tmp_path: Path) -> None:
    """Where a hospital has a fact with answers looked for among what was done."""
    fact = {"id": "pump-mode", "also-from": [{"resource": "Procedure", "prefetch": "deliveries"}]}
    (tmp_path / "own.yaml").write_text(json.dumps({"facts": [fact]}))
    own = load_content(tmp_path)
    done = of_kind(
        "Procedure", status="completed", code={"coding": OWN_MODE}, performedDateTime=ago(3)
    )
    assert facts_of(own, done)["pump-mode"].value == "double"


@pytest.mark.parametrize(("end", "value"), [({}, "yes"), ({"end": ago(2)}, "no")])
def test_a_stay_says_yes_until_it_has_ended(
    content: Content, end: dict[str, str], value: str
) -> None:
    stay = of_kind(
        "Encounter",
        status="in-progress",
        type=[{"coding": [{"system": "urn:lactation-cds:fact", "code": "separated-from-infant"}]}],
        period={"start": ago(20), **end},
    )
    assert facts_of(content, stay)["separated-from-infant"].value == value


def test_a_stay_whose_period_is_no_object_is_told(content: Content) -> None:
    kind = {"coding": [{"system": "urn:lactation-cds:fact", "code": "separated-from-infant"}]}
    stay = of_kind("Encounter", status="in-progress", type=[kind], period="yesterday")
    fact = facts_of(content, stay)["separated-from-infant"]
    assert (fact.status, reasons(fact)) == ("unusable", ["could not be read"])


def test_a_diagnosis_without_a_code_says_nothing(content: Content) -> None:
    bare = of_kind("Condition", clinicalStatus={"coding": [{"code": "active"}]})
    assert cards_of(content, *inhibited(), bare).keys() == cards_of(content, *inhibited()).keys()


def test_a_diagnosis_whose_code_is_no_concept_is_neither_sure_nor_none(content: Content) -> None:
    odd = of_kind(
        "Condition",
        clinicalStatus={"coding": [7, {"code": 3}, {"code": "active"}]},
        code=["http://hl7.org/fhir/StructureDefinition/condition-assertedByCertainty"],
    )
    cards = cards_of(content, *inhibited(), odd)
    assert "inhibited-letdown" in cards


def test_a_diagnosis_of_the_infant_in_words_asks_nothing_of_her(content: Content) -> None:
    """Mastitis of hers in words alone is told; on the record of her infant it is not hers."""
    names = observation("pacifier-use", False, focus=[{"reference": f"Patient/{INFANT}"}])
    mastitis = of_kind(
        "Condition",
        clinicalStatus={"coding": [{"code": "active"}]},
        code={"coding": [{"display": "Mastitis"}]},
        onsetDateTime=ago(30),
    )
    of_infant = mastitis | {"subject": {"reference": f"Patient/{INFANT}"}}

    def told(record: Resource) -> list[str]:
        facts = facts_of(content, names, record)
        return [name for name, fact in facts.items() if fact.problems]

    assert told(mastitis) != []
    assert told(of_infant) == []


# --- outcomes -----------------------------------------------------------------------------------


def outcome(value: str, hours: float, infant: str | None = None) -> Resource:
    focus = {} if infant is None else {"focus": [{"reference": f"Patient/{infant}"}]}
    return observation("infant-outcome", value, hours, **focus)


def test_a_death_of_which_of_several_nobody_says_is_no_outcome(content: Content) -> None:
    two = outcome("alive", 5, "infant-1"), outcome("alive", 5, "infant-2")
    fact = facts_of(content, *two, outcome("died", 1))["infant-outcome"]
    assert fact.status == "conflicting"


def test_one_who_was_seen_alive_after_its_death_is_no_outcome(content: Content) -> None:
    after = facts_of(content, outcome("died", 9), outcome("alive", 1))["infant-outcome"]
    assert after.status == "conflicting"
    before = facts_of(content, outcome("alive", 9), outcome("died", 1))["infant-outcome"]
    assert before.value == "died"


def test_an_older_childs_record_is_none_of_the_infant(content: Content) -> None:
    focus = [{"reference": "Patient/older"}]
    pacifier = observation("pacifier-use", True, focus=focus)
    older = {"resourceType": "Patient", "id": "older", "birthDate": "2022-01-10"}
    names = observation("bottle-feeding", True, focus=focus)
    records = answer_of(bundle(pacifier, names, older))
    assert facts_of(content, pacifier)["pacifier-use"].value == "yes"
    chart = chart_of(content, infantFeeding=records)
    evaluation = evaluation_of(content)
    for _ in range(2):  # as the demo does, which draws a plot from the chart after the cards
        assert evaluation.case(chart, NOW).facts["pacifier-use"].status == "not-recorded"
    readings, _ = collect_readings(content, chart, NOW)
    assert "pacifier-use" not in readings


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


def test_the_progestogen_of_a_combined_pill_is_not_listed_beside_it(content: Content) -> None:
    system, code = sorted(content.codes[f"{VALUE_SET}medicine-combined-contraceptive"])[0]
    pill = {"coding": [{"system": system, "code": code}], "text": "desogestrel"}
    with_text = of_medicines(content, medicine(medicationCodeableConcept=pill))
    alone = of_medicines(content, medicine(medicationCodeableConcept={"text": "desogestrel"}))
    assert "desogestrel" in alone.lower()
    assert "combined" in with_text.lower()
    assert with_text.count("\n- ") <= 1


def test_a_name_that_was_understood_whole_leaves_nothing_to_tell() -> None:
    assert TakenMedicine("Ibuprofen", None, "name").read_in_part == ""
    left = TakenMedicine("Ibuprofen zorb", None, "name", read=("ibuprofen",), left="zorb")
    assert left.read_in_part == "read in part: ibuprofen; not identified: zorb"


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


def overlaid(folder: Path, *cards: dict[str, Any]) -> Content:
    (folder / "own.yaml").write_text(json.dumps({"cards": list(cards)}))
    return load_content(folder)


def test_medicines_that_interact_are_told_once_on_an_order(
    content: Content, settings: Settings
) -> None:
    """The card of the order tells them; one of all medicines behind it has nothing left to say."""
    name = "medicines-together"
    cards = {key: card for key, card in content.cards.items() if key != name}
    cards[name] = content.cards[name].model_copy(update={"hooks": ["patient-view", "order-sign"]})
    own = replace(content, cards=cards)
    client = create_app(settings, own, lambda: NOW).test_client()
    both = [own.medicines[name].names[0] for name in sorted(sorted(own.pairs)[0])]
    taken = [medicine(medicationCodeableConcept={"text": name}) for name in both]
    records = [birth(100), milk(30, 2), *taken]
    again = topics(fire(client, order_request(own, draft(both[0]), records=records)))
    assert "order-interacts" in again
    assert "medicines-together" not in again
    other = topics(fire(client, order_request(own, draft("pseudoephedrine"), records=records)))
    assert "medicines-together" in other


def test_a_card_of_medicines_is_silent_for_who_takes_none(tmp_path: Path) -> None:
    own = overlaid(tmp_path, {"id": "medicines-and-milk", "when": {"recorded": "delivery-time"}})
    assert "medicines-and-milk" not in cards_of(own, *inhibited())
    taken = medicine(medicationCodeableConcept={"text": "Sertraline"})
    assert "medicines-and-milk" in cards_of(own, *inhibited(), taken)


class Unsayable:
    """A summary that cannot be said."""

    def say(self, findings: Any) -> str:
        raise ZeroDivisionError("Jane Doe")


def test_a_card_that_cannot_be_put_together_is_told_on_another(content: Content) -> None:
    broken = {"summary": Unsayable()}

    def breaking(cards: Any, name: Any) -> Any:
        return {
            key: card.model_copy(update=broken) if name(key) == "inhibited-letdown" else card
            for key, card in cards.items()
        }

    changed = replace(
        content,
        cards=breaking(content.cards, lambda key: key),
        cards_worded=breaking(content.cards_worded, lambda key: key[0]),
        cards_under=breaking(content.cards_under, lambda key: key[0]),
    )
    cards = cards_of(changed, *inhibited())
    assert "inhibited-letdown" not in cards
    told = " ".join(f"{card['summary']} {card['detail']}" for card in cards.values())
    assert content.cards["inhibited-letdown"].title in told
    assert "Jane Doe" not in told


def test_without_override_reasons_a_card_offers_none(content: Content, settings: Settings) -> None:
    none = replace(content, override_reasons={})
    client = create_app(settings, none, lambda: NOW).test_client()
    (card, *_) = fire(client, hook_request(none, *inhibited()))
    assert "overrideReasons" not in card
    assert "suggestions" in card
