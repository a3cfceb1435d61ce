"""How certain a diagnosis is: refuted, ruled out, suspected or over. From bytes, and over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from cds_service.content.compiled import Content
from cds_service.content.fact_types import FactValue
from cds_service.engine.facts import _certainty_of, read_facts
from tests.support.calls import VIEW
from tests.support.mothers import HER, NOW, ago, average, chart_of, hook_request

GM = "http://fhir.de/CodeSystem/bfarm/icd-10-gm"
SCT = "http://snomed.info/sct"
URL = "http://fhir.de/StructureDefinition/icd-10-gm-diagnosesicherheit"
OF_KBV = "https://fhir.kbv.de/CodeSystem/KBV_CS_SFHIR_ICD_DIAGNOSESICHERHEIT"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"


def certain(letter: str) -> dict[str, Any]:
    return {"extension": [{"url": URL, "valueCoding": {"system": OF_KBV, "code": letter}}]}


def diagnosis(*codings: dict[str, Any], **members: Any) -> dict[str, Any]:
    """An active Condition with these codings, since two days."""
    return {
        "resourceType": "Condition",
        "id": "diagnosis",
        "clinicalStatus": {"coding": [{"system": CLINICAL, "code": "active"}]},
        "subject": {"reference": f"Patient/{HER}"},
        "code": {"coding": list(codings)},
        "onsetDateTime": ago(48),
        **members,
    }


def coding(code: str, letter: str | None = None, system: str = GM) -> dict[str, Any]:
    return {"system": system, "code": code} | (certain(letter) if letter else {})


def status(code: str) -> dict[str, Any]:
    return {"verificationStatus": {"coding": [{"system": VERIFIED, "code": code}]}}


MASTITIS = coding("O91.20")
IN_SNOMED = {
    "coding": [{"system": SCT, "code": "410516002"}, *status("refuted").popitem()[1]["coding"]]
}
# What is sent, and whether she has mastitis: `None` if the record says nothing.
SENT: dict[str, tuple[dict[str, Any], str | None]] = {
    "unsaid": (diagnosis(MASTITIS), "yes"),
    "confirmed": (diagnosis(coding("O91.20", "G")), "yes"),
    "suspected": (diagnosis(coding("O91.20", "V")), "yes"),
    "state after": (diagnosis(coding("O91.20", "Z")), "no"),
    "ruled out": (diagnosis(coding("O91.20", "A")), None),
    "ruled out, by the concept": (
        diagnosis(code={"coding": [MASTITIS], **certain("A")}),
        None,
    ),
    "ruled out, as a code": (
        diagnosis({**MASTITIS, "extension": [{"url": URL, "valueCode": "A"}]}),
        None,
    ),
    "ruled out, and in SNOMED CT": (
        diagnosis(coding("O91.20", "A"), coding("45198002", system=SCT)),
        None,
    ),
    "another code is ruled out": (diagnosis(MASTITIS, coding("N63", "A")), "yes"),
    "one of two is confirmed": (diagnosis(coding("O91.20", "A"), coding("O91.00", "G")), "yes"),
    "another extension": (
        diagnosis({**MASTITIS, "extension": [{"url": "urn:side", "valueCode": "A"}]}),
        "yes",
    ),
    "refuted": (diagnosis(MASTITIS, **status("refuted")), None),
    "refuted, in two systems": (diagnosis(MASTITIS, verificationStatus=IN_SNOMED), None),
    "entered in error": (diagnosis(MASTITIS, **status("entered-in-error")), None),
    "unconfirmed": (diagnosis(MASTITIS, **status("unconfirmed")), "yes"),
}


def read(content: Content, fact: str, record: dict[str, Any]) -> FactValue:
    return read_facts(content, chart_of(content, json.loads(json.dumps(record))), NOW)[fact]


@pytest.mark.parametrize(("record", "value"), SENT.values(), ids=SENT)
def test_a_diagnosis_counts_as_it_is_certain(
    content: Content, record: dict[str, Any], value: str | None
) -> None:
    fact = read(content, "mastitis", record)
    assert fact.value == value
    assert fact.status == ("known" if value else "not-recorded")


@pytest.mark.parametrize(("record", "value"), SENT.values(), ids=SENT)
@pytest.mark.parametrize("escaped", [False, True])
def test_a_card_comes_for_what_she_has_and_nothing_is_asked_of_what_she_has_not(
    client: FlaskClient, content: Content, record: dict[str, Any], value: str | None, escaped: bool
) -> None:
    body = json.dumps(hook_request(content, *average(), record))
    if escaped:
        body = body.replace("/", "\\/")
    answer = client.post(VIEW, data=body, content_type="application/json")
    cards = [card["source"]["topic"]["code"] for card in answer.get_json()["cards"]]
    assert cards == (["breast-infection"] if value == "yes" else [])


@pytest.mark.parametrize(
    ("record", "known"),
    [
        (diagnosis(coding("O80", "G")), True),
        (diagnosis(coding("O80", "Z")), True),  # with its date
        (diagnosis(coding("O80", "V")), False),
        (diagnosis(coding("O80", "A")), False),
        (diagnosis(coding("O80"), **status("provisional")), False),
        (diagnosis(coding("O80"), **status("refuted")), False),
        (diagnosis(coding("O80", "Z"), onsetDateTime=None, recordedDate=ago(48)), False),
        (diagnosis(coding("O80"), onsetDateTime=None, recordedDate=ago(48)), True),
    ],
)
def test_a_birth_is_none_on_suspicion(
    content: Content, record: dict[str, Any], known: bool
) -> None:
    sent = {name: value for name, value in record.items() if value is not None}
    assert (read(content, "delivery-time", sent).value is not None) is known


@pytest.mark.parametrize(
    ("fact", "code", "value"),
    [
        ("depression-history", "F33.4", "yes"),
        ("mastitis", "O91.20", "no"),
        ("epilepsy", "G40.9", "no"),
    ],
)
@pytest.mark.parametrize(
    "over",
    [
        {"clinicalStatus": {"coding": [{"system": CLINICAL, "code": "resolved"}]}},
        {"abatementDateTime": ago(24)},
        {"code": "Z"},
    ],
)
def test_what_she_ever_had_she_had_also_when_it_is_over(
    content: Content, fact: str, code: str, value: str, over: dict[str, Any]
) -> None:
    letter = over.get("code")
    members = {} if letter else over
    assert read(content, fact, diagnosis(coding(code, letter), **members)).value == value


def test_a_code_that_is_no_concept_says_nothing_of_certainty(content: Content) -> None:
    """Whoever calls it: the facts that a code means are looked for before."""
    odd = diagnosis() | {"code": [URL]}
    assert _certainty_of(content, content.facts["mastitis"], odd) is None
