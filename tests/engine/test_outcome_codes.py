"""Codes of the outcome of a birth, of feeding plans, and of whose milk it is: what counts, and what
stands beside it and does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.settings import Settings
from tests.support.mothers import HER, INFANT, ago, facts_of, observation
from tests.support.recorded import recorded

CM, GM = "http://hl7.org/fhir/sid/icd-10-cm", "http://fhir.de/CodeSystem/bfarm/icd-10-gm"
WHO, SNOMED, LOINC = "http://hl7.org/fhir/sid/icd-10", "http://snomed.info/sct", "http://loinc.org"

Resource = dict[str, Any]


def asked(system: str, code: str, **members: Any) -> Resource:
    """An Observation with a standard code as its question."""
    record = observation("asked", None, **members)
    record["code"] = {"coding": [{"system": system, "code": code}]}
    return record


def answer(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def diagnosis(system: str, code: str, subject: str = HER) -> Resource:
    return {
        "resourceType": "Condition",
        "id": "diagnosis",
        "subject": {"reference": f"Patient/{subject}"},
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "code": answer(system, code),
        "recordedDate": ago(2),
    }


# --- what became of the birth ---------------------------------------------------------------------

# Answers to the outcome of a pregnancy (LOINC 63893-2).
OUTCOMES: dict[str, dict[str, str]] = {
    "alive": {
        CM: "Z37.0 Z37.2 Z37.50 Z37.51 Z37.59 z370",
        GM: "Z37.0! Z37.2 Z37.5",
        WHO: "Z37.0 Z37.2 Z37.5",
        SNOMED: "281050002 169826009 169828005 169831006 87662006",
    },
    "stillborn": {
        CM: "Z37.1 Z37.4 Z37.7 O36.4 O36.4XX0 P95",
        GM: "Z37.1! Z37.4 Z37.7 O36.4 P95",
        WHO: "Z37.1 Z37.4 Z37.7 O36.4 P95",
        SNOMED: "237364002 237366000 169827000 169830007 276507005 445548006 921611000000101",
    },
    "died": {GM: "R95 R95.0", WHO: "R95.9", SNOMED: "276506001"},
    # One of several, loss of a pregnancy, a birth of any outcome, and what is of the mother.
    "": {
        CM: "Z37.3 Z37.60 Z37.9 Z38.00 O36.4XX1 O36.4XX9 O36.8120 O31.20X0 O80 R99 P96.89 Z33.2",
        GM: "Z37.3 Z37.6 Z37.9 Z38.0 P96.4 O80 R96.0",
        WHO: "Z37.3 Z37.6 Z37.9 Z38.0 P96.4 R99",
        SNOMED: "169829002 169832004 21243004 17369002 161743003 77386006",
    },
}


@pytest.mark.parametrize(
    ("outcome", "system"), [(name, system) for name, codes in OUTCOMES.items() for system in codes]
)
def test_an_outcome_is_known_by_its_code(content: Content, outcome: str, system: str) -> None:
    for code in OUTCOMES[outcome][system].split():
        record = asked(LOINC, "63893-2", valueCodeableConcept=answer(system, code))
        fact = facts_of(content, record)["infant-outcome"]
        assert (fact.value or "") == outcome, code


# What each fact reads of a Condition: codes that mean it, and codes beside them that do not.
MEANT: dict[str, dict[str, tuple[str, str]]] = {
    "one-infant-lost": {
        CM: (
            "Z37.3 Z37.60 Z37.64 O36.4XX1 O36.4XX9 O31.22X1 O31.20X0 O31.11X2 o364xx2",
            "Z37.0 Z37.4 Z37.7 Z37.50 O36.4XX0 O36.4 O31.01X0 O31.30X1 O31.8X10 O30.003",
        ),
        GM: ("Z37.3! Z37.6 O31.1 O31.2", "Z37.4 Z37.7 O36.4 O31.0 O30.0"),
        WHO: ("Z37.3 Z37.6 O31.1 O31.2", "Z37.4 O36.4 O31.0 O31.8"),
        SNOMED: ("169829002 169833009 199307003 237363008", "169830007 237364002 169828005"),
    },
    "pregnancy-loss": {
        CM: ("O02.1 O03.9 O03.37 O04.6 Z33.2", "O20.0 N96 Z87.59 O07.4 O00.00 O01.9 O02.0 O26.23"),
        GM: ("O02.1 O03.9 O04.9 O05.4 O06.9", "O20.0 N96 O07.9 O00.1 O01.9 O02.0 O36.4"),
        WHO: ("O02.1 O03 O04.4 O05.9 O06.0", "O20.0 N96 O07.4 O08.1"),
        SNOMED: (
            "17369002 85116003 16607004 57797005 6261000119104 53638009 386639001",
            "19169002 6251000119101 54048003 49416000 102878001 34801009 237364002",
        ),
    },
    "surrogacy": {CM: ("Z33.3", "Z33.1 Z33.2 Z31.7"), SNOMED: ("102875003", "77386006")},
    "infant-supplement-indicated": {
        CM: ("P74.1", "P74.0 P70.4 P59.9 P92.3 R63.4 E86.0"),
        GM: ("P74.1", "P74.4 P92.5 E86"),
    },
    "infant-hypoglycaemia": {CM: ("P70.4", "P70.1 P70.2 P70.3 E16.2"), WHO: ("P70.4", "P70.0")},
    "infant-jaundice": {CM: ("P59.0 P59.29 P59.9", "P58.9 P55.0 R17"), GM: ("P59.9", "P57.9")},
    "formula-medical-reason": {CM: ("R63.4 P74.1", "R63.5 P92.4"), WHO: ("R63.4", "R63.3 P92.4")},
}


@pytest.mark.parametrize(
    ("fact", "system"), [(fact, system) for fact, meant in MEANT.items() for system in meant]
)
def test_a_diagnosis_means_what_it_says_and_no_more(
    content: Content, fact: str, system: str
) -> None:
    meant, beside = (codes.split() for codes in MEANT[fact][system])
    read = {
        code: facts_of(content, diagnosis(system, code))[fact].value for code in (*meant, *beside)
    }
    assert read == dict.fromkeys(meant, "yes") | dict.fromkeys(beside, None)


@pytest.mark.parametrize(("code", "value"), [("386639001", "yes"), ("177184002", None)])
def test_a_termination_is_known_by_its_procedure(
    content: Content, code: str, value: str | None
) -> None:
    done = {
        "resourceType": "Procedure",
        "id": "done",
        "status": "completed",
        "subject": {"reference": f"Patient/{HER}"},
        "code": answer(SNOMED, code),
        "performedDateTime": ago(5),
    }
    assert facts_of(content, done)["pregnancy-loss"].value == value


# --- the infant, on the record of the newborn ---------------------------------------------------

OF_THE_NEWBORN = {"subject": {"reference": f"Patient/{INFANT}"}}


def read_of_newborn(content: Content, record: Resource) -> Any:
    """Facts from a record of the newborn, whom a record of hers names."""
    names = observation("pacifier-use", False, focus=[{"reference": f"Patient/{INFANT}"}])
    return facts_of(content, names, {**record, **OF_THE_NEWBORN})


YES_OF_HL7 = answer("http://terminology.hl7.org/CodeSystem/v2-0136", "Y")


@pytest.mark.parametrize(
    ("system", "code", "fact", "value", "means"),
    [
        (LOINC, "73757-7", "infant-living", {"valueBoolean": False}, "no"),
        (LOINC, "73757-7", "infant-living", {"valueBoolean": True}, "yes"),
        (LOINC, "73756-9", "breastfed-at-discharge", {"valueBoolean": True}, "yes"),
        (SNOMED, "288988007", "infant-latch", {"valueBoolean": False}, "no"),
        (SNOMED, "268472006", "bottle-feeding", {"valueCodeableConcept": YES_OF_HL7}, "yes"),
    ],
)
def test_what_is_asked_of_a_newborn_is_read(
    content: Content, system: str, code: str, fact: str, value: Resource, means: str
) -> None:
    assert read_of_newborn(content, asked(system, code, **value))[fact].value == means


def test_the_weight_that_was_lost_is_a_percentage(content: Content) -> None:
    for quantity in ({"value": 8.5, "code": "%"}, {"value": 8.5, "unit": "percent"}):
        record = observation("infant-weight-loss-percent", valueQuantity=quantity)
        assert read_of_newborn(content, record)["infant-weight-loss-percent"].value == 8.5
    grams = observation("infant-weight-loss-percent", (280, "g"))
    assert read_of_newborn(content, grams)["infant-weight-loss-percent"].status == "unusable"


@pytest.mark.parametrize(
    ("code", "quantity", "weeks"),
    [
        ("11884-4", {"value": 236, "unit": "d", "code": "d"}, 33.714),
        ("11884-4", {"value": 36, "unit": "wk", "code": "wk"}, 36),
        ("18185-9", {"value": 39, "unit": "weeks"}, 39),
        ("49051-6", {"value": 28, "code": "wk"}, 28),
        ("57714-8", {"value": 40, "code": "wk"}, 40),
        ("11885-1", {"value": 280, "unit": "days"}, 40),
        ("76516-4", {"value": 41, "code": "wk"}, 41),
        ("18185-9", {"value": 9, "code": "mo"}, None),
        ("49052-4", {"value": 3, "code": "d"}, None),  # it may be the days beyond whole weeks
        ("11778-8", {"value": 40, "code": "wk"}, None),  # the estimated date of delivery
    ],
)
def test_gestational_age_is_in_weeks(
    content: Content, code: str, quantity: Resource, weeks: float | None
) -> None:
    record = asked(LOINC, code, valueQuantity=quantity)
    for facts in (facts_of(content, record), read_of_newborn(content, record)):
        expected = None if weeks is None else pytest.approx(weeks, abs=0.001)
        assert facts["gestational-age-weeks"].value == expected


# --- how the infant is to be fed ----------------------------------------------------------------


@pytest.mark.parametrize("plan", ["nurse", "pump", "both", "none"])
def test_her_plan_is_read(content: Content, plan: str) -> None:
    assert facts_of(content, observation("feeding-plan", plan))["feeding-plan"].value == plan


@pytest.mark.parametrize(
    ("code", "plan"),
    [
        ("169643005", "nurse"),
        ("169644004", None),  # intends to bottle feed: milk, or formula
        ("169642000", None),  # unsure
        ("289083006", None),  # does not perform breast-feeding
        ("169746009", None),  # breastfeeding stopped
    ],
)
def test_not_at_the_breast_is_no_plan_of_none(
    content: Content, code: str, plan: str | None
) -> None:
    record = observation("feeding-plan", valueCodeableConcept=answer(SNOMED, code))
    assert facts_of(content, record)["feeding-plan"].value == plan


@pytest.mark.parametrize("code", ["LA29253-4", "LA29252-6"])
def test_what_she_does_is_no_plan(content: Content, code: str) -> None:
    facts = facts_of(content, asked(LOINC, "63895-7", valueCodeableConcept=answer(LOINC, code)))
    assert facts["breastfeeding-status"].status == "known"
    assert facts["feeding-plan"].status == "not-recorded"


def test_suppressed_lactation_does_not_say_that_it_was_chosen(content: Content) -> None:
    for system, code in ((CM, "O92.5"), (GM, "O92.50"), (GM, "O92.51"), (WHO, "O92.5")):
        facts = facts_of(content, diagnosis(system, code))
        assert facts["suppressed-lactation"].value == "yes"
        assert facts["lactation-suppressed-by-choice"].status == "not-recorded"
        assert facts["feeding-plan"].status == "not-recorded"


# --- over HTTP ----------------------------------------------------------------------------------


@pytest.fixture
def sign(content: Content, settings: Settings) -> Callable[[bytes], str]:
    """Sign an order for formula: the summaries and details of the cards."""
    app = create_app(settings, content, lambda: datetime.fromisoformat("2026-01-15T12:00:00Z"))

    def sign(body: bytes) -> str:
        answered = app.test_client().post(
            "/cds-services/lactation-order-sign", data=body, content_type="application/json"
        )
        assert answered.status_code == 200, answered.text
        return "\n".join(f"{c['summary']} {c['detail']}" for c in answered.get_json()["cards"])

    return sign


def test_weight_lost_by_the_infant_is_a_reason_for_formula(sign: Callable[[bytes], str]) -> None:
    body = recorded("preterm-formula")
    seen = sign(body.replace(b"P07.38", b"R63.4"))
    assert seen == sign(body)
    assert seen != sign(body.replace(b"P07.38", b"P92.4"))


def test_a_template_asks_for_the_outcome_of_the_birth(content: Content) -> None:
    asked_for = json.dumps(content.prefetch_templates)
    for code in ("63893-2", "73757-7", "11884-4", "288988007"):
        assert code in asked_for
