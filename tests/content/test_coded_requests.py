"""Whole requests with the codes that hospitals send: from their bytes, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.settings import Settings
from tests.support.fhir_servers import bundle
from tests.support.mothers import facts_of, observation
from tests.support.recorded import recorded

MARCH, JANUARY = "2026-03-10T12:00:00+00:00", "2026-01-15T12:00:00+00:00"
SNOMED, LOINC = "http://snomed.info/sct", "http://loinc.org"
HCPCS = b"https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"
CM, GM = "http://hl7.org/fhir/sid/icd-10-cm", "http://fhir.de/CodeSystem/bfarm/icd-10-gm"

Cards = dict[str, dict[str, Any]]  # by topic
Post = Callable[[bytes, str, str], Cards]


@pytest.fixture
def post(content: Content, settings: Settings) -> Post:
    """Post bytes to a service at a time: its cards."""

    def post(body: bytes, service: str, now: str) -> Cards:
        app = create_app(settings, content, lambda: datetime.fromisoformat(now))
        answer = app.test_client().post(
            f"/cds-services/{service}", data=body, content_type="application/json"
        )
        assert answer.status_code == 200, answer.text
        return {card["source"]["topic"]["code"]: card for card in answer.get_json()["cards"]}

    return post


def texts(cards: Cards) -> dict[str, tuple[str, str]]:
    """What a clinician reads; the ids of cards and suggestions are others each time."""
    return {topic: (card["summary"], card["detail"]) for topic, card in cards.items()}


def sent(name: str) -> bytes:
    return recorded(name)


def test_mastitis_counts_by_its_family(post: Post) -> None:
    body = sent("mastitis-family")
    cards = post(body, "lactation-patient-view", MARCH)
    assert "breast-infection" in cards
    # As for the code that is listed in most places, and not for the one of pregnancy.
    listed = post(body.replace(b"O91.23", b"O91.22"), "lactation-patient-view", MARCH)
    assert texts(listed) == texts(cards)
    of_pregnancy = body.replace(b"O91.23", b"O91.213")
    assert "breast-infection" not in post(of_pregnancy, "lactation-patient-view", MARCH)


def test_a_rest_of_the_placenta_is_a_cause_to_refer_for(post: Post) -> None:
    body = sent("placenta-family")
    card = post(body, "lactation-patient-view", JANUARY)["refer-cause"]
    assert "- Retained placenta: yes" in card["detail"]
    before_birth = body.replace(b"O73.1", b"O46.93")
    assert "refer-cause" not in post(before_birth, "lactation-patient-view", JANUARY)


def test_a_recurrent_depression_is_said_where_metoclopramide_is_signed(post: Post) -> None:
    body = sent("depression-family")
    card = post(body, "lactation-order-sign", JANUARY)["order-guarded"]
    assert "Against it: depression." in card["detail"]
    psychosis = post(body.replace(b"F33.1", b"F53.1"), "lactation-order-sign", JANUARY)
    assert "Against it: psychosis." in psychosis["order-guarded"]["detail"]


def test_german_codes_mean_the_same(post: Post) -> None:
    cards = post(sent("german-codes"), "lactation-patient-view", MARCH)
    assert "breast-infection" in cards
    assert "Cabergoline" in cards["medicines-and-milk"]["summary"]


def test_what_was_ordered_by_standard_codes_is_not_asked_for_again(post: Post) -> None:
    request = json.loads(sent("ordered-by-standard-codes"))
    # She goes home without her infant, and so what she pumps is all her milk.
    apart = observation("separated-from-infant", True, effectiveDateTime="2026-03-10T10:00:00Z")
    request["prefetch"]["infantFeeding"] = bundle(apart)
    patient = request["context"]["patientId"]
    apart["subject"] = {"reference": f"Patient/{patient}"}
    body = json.dumps(request).encode()
    asked = post(body, "lactation-encounter-discharge", MARCH)["discharge-plan"]["summary"]
    assert "pump" not in asked
    assert "consultant" not in asked
    electric = body.replace(b"E0604", b"272201008").replace(HCPCS, SNOMED.encode())
    assert electric.count(b"272201008") == 1
    cards = post(electric, "lactation-encounter-discharge", MARCH)
    assert "pump" not in cards["discharge-plan"]["summary"]
    for ordered, other, missing in (
        (b"E0604", b"E0601", "pump"),
        (b"408883002", b"439738000", "outpatient consultant"),  # weaning is the opposite
    ):
        cards = post(body.replace(ordered, other), "lactation-encounter-discharge", MARCH)
        assert missing in cards["discharge-plan"]["summary"]


# --- feeding and lactation ----------------------------------------------------------------------


def coded(code: dict[str, str], value: dict[str, str] | None) -> dict[str, Any]:
    record = observation("x")
    record["code"] = {"coding": [code]}
    if value is not None:
        record["valueCodeableConcept"] = {"coding": [value]}
    return record


QUESTION = {"system": LOINC, "code": "63895-7"}


@pytest.mark.parametrize(
    ("system", "code", "answer"),
    [
        (LOINC, "LA29252-6", "breastfeeding"),
        (LOINC, "LA33-6", "breastfeeding"),
        (LOINC, "LA29253-4", "not-at-the-breast"),
        (SNOMED, "69840006", "breastfeeding"),
        (SNOMED, "1258999009", "exclusive"),
        (SNOMED, "1258998001", "partial"),
        (SNOMED, "289083006", "not-at-the-breast"),
        (SNOMED, "169741004", None),  # of the infant
        (SNOMED, "169643005", None),  # an intention
        (SNOMED, "413712001", None),  # the question
        (LOINC, "LA4489-6", None),  # unknown
    ],
)
def test_breastfeeding_status_is_read(
    content: Content, system: str, code: str, answer: str | None
) -> None:
    fact = facts_of(content, coded(QUESTION, {"system": system, "code": code}))
    assert fact["breastfeeding-status"].value == answer


def test_the_code_of_an_observation_is_never_its_answer(content: Content) -> None:
    question = {"system": SNOMED, "code": "413712001"}
    alone = facts_of(content, coded(question, None))["breastfeeding-status"]
    assert (alone.status, alone.value) == ("unusable", None)
    not_now = coded(question, {"system": LOINC, "code": "LA29253-4"})
    assert facts_of(content, not_now)["breastfeeding-status"].value == "not-at-the-breast"


@pytest.mark.parametrize(
    ("system", "code", "facts"),
    [
        (CM, "O92.3", {"low-lactation-diagnosis"}),
        (CM, "O92.4", {"low-lactation-diagnosis"}),
        (GM, "O92.41", {"low-lactation-diagnosis"}),
        (SNOMED, "199004", {"low-lactation-diagnosis"}),
        (CM, "O92.5", {"suppressed-lactation"}),
        (SNOMED, "237355007", {"breast-engorgement"}),
        (SNOMED, "1287638006", {"mastitis"}),
        (CM, "O92.70", set()),
        (CM, "O92.29", set()),
        (GM, "O92.70", set()),
    ],
)
def test_a_diagnosis_of_lactation_is_read(
    content: Content, system: str, code: str, facts: set[str]
) -> None:
    concept = {"coding": [{"system": system, "code": code}]}
    assert {spec.id for spec in content.lookup.of_concept(concept, "Condition")} == facts


@pytest.mark.parametrize("code", ["819975003", "819973005", "1204299001", "1204305004"])
def test_what_the_infant_took_is_never_what_she_pumped(content: Content, code: str) -> None:
    record = coded({"system": SNOMED, "code": code}, None)
    record["valueQuantity"] = {"value": 40, "unit": "mL", "code": "mL"}
    volume = facts_of(content, record)["expressed-milk-volume"]
    assert (volume.value, volume.measures) == (None, {})


def test_an_allergy_to_formula_is_no_formula_given(post: Post) -> None:
    body = json.loads(sent("ordered-by-standard-codes"))
    before = post(json.dumps(body).encode(), "lactation-encounter-discharge", MARCH)
    allergy = {
        "resourceType": "AllergyIntolerance",
        "id": "a",
        "patient": {"reference": "Patient/mother-1"},
        "code": {"coding": [{"system": SNOMED, "code": "386127005"}]},
    }
    body["prefetch"]["allergies"] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [{"resource": allergy}],
    }
    after = post(json.dumps(body).encode(), "lactation-encounter-discharge", MARCH)
    assert texts(after) == texts(before)
