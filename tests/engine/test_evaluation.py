"""The whole way from a chart to cards, with records that nobody would expect."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cds_service.content.compiled import Content
from cds_service.engine.facts import collect_readings
from cds_service.fhir.chart import KeyResult, State
from tests.support.mothers import HER, NOW, cards_of, chart_of, inhibited

KINDS = (
    *("Observation", "Procedure", "Condition", "Encounter", "MedicationRequest"),
    *("MedicationStatement", "ServiceRequest", "DeviceRequest", "CommunicationRequest", "Task"),
    *("AllergyIntolerance", "Medication", "Patient", "Spaceship"),
)
MEMBERS = (
    *("id", "status", "code", "type", "subject", "patient", "for", "focus", "period"),
    *("effectiveDateTime", "performedPeriod", "onsetDateTime", "authoredOn", "performedDateTime"),
    *("valueQuantity", "valueBoolean", "component", "category", "reasonCode", "doNotPerform"),
    *("medicationCodeableConcept", "medicationReference", "contained", "verificationStatus"),
    *("codeCodeableConcept", "clinicalStatus", "bodySite", "abatementDateTime"),
)
CODINGS = st.sampled_from(
    [
        {"coding": [{"system": "urn:lactation-cds:fact", "code": "delivery-time"}]},
        {"coding": [{"system": "urn:lactation-cds:fact", "code": "separated-from-infant"}]},
        {"coding": [{"system": "urn:lactation-cds:activity", "code": "lactation-consult"}]},
        {"coding": [None]},
        {"coding": {"code": "x"}},
        {"reference": f"Patient/{HER}"},
        {"reference": ["Patient"]},
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | CODINGS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["coding", "code", "system", "reference", "start"]), inner
        )
    ),
    max_leaves=6,
)
ODD = st.builds(
    lambda kind, members: {
        "resourceType": kind,
        "subject": {"reference": f"Patient/{HER}"},
        **members,
    },
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=5),
)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ODD, max_size=3))
def test_odd_resources_of_any_kind_break_nothing(
    content: Content, odd: list[dict[str, Any]]
) -> None:
    page = KeyResult(State.COMPLETE, odd)
    cards = cards_of(content, *inhibited(), serviceRequests=page)
    assert "Could not be evaluated" not in str(cards)
    readings, _ = collect_readings(content, chart_of(content, *inhibited()), NOW)
    assert "expressed-milk-volume" in readings


def test_the_same_mother_gets_the_same_cards(content: Content) -> None:
    once, again = cards_of(content, *inhibited()), cards_of(content, *inhibited())
    assert [card["summary"] for card in once.values()] == [c["summary"] for c in again.values()]
    assert once["inhibited-letdown"]["uuid"] != again["inhibited-letdown"]["uuid"]
