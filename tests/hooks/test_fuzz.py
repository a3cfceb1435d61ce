"""Broken requests: what the fuzzer found is kept, and it goes on looking (``make fuzz``)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from cds_service.content.compiled import Content
from tests.hooks.fuzz import fuzz, nested
from tests.support.calls import VIEW, outcome
from tests.support.mothers import HER, ago, cards_of, hook_request, inhibited, medicine, observation

pytestmark = pytest.mark.slow

LONG = "x y " * 500_000


def birth_by(status: Any) -> dict[str, Any]:
    return {
        "resourceType": "Procedure",
        "id": "birth",
        "status": status,
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "11466000"}]},
        "subject": {"reference": f"Patient/{HER}"},
        "performedDateTime": ago(100),
    }


@pytest.mark.parametrize("status", [[], {}, [[["deep"]]], {"resourceType": "Bundle"}, 3, LONG])
def test_a_status_that_is_no_code_does_not_count_and_is_not_repeated(
    client: FlaskClient, content: Content, status: Any
) -> None:
    request = hook_request(content, *inhibited())
    bundle = {"resourceType": "Bundle", "entry": [{"resource": birth_by(status)}]}
    request["prefetch"]["deliveries"] = bundle
    answer = client.post(VIEW, json=request)
    assert answer.status_code == 200
    assert len(answer.get_json()["cards"]) == 1
    assert len(answer.data) < 50_000
    assert "deep" not in answer.text


@pytest.mark.parametrize(
    "record",
    [
        observation("expressed-milk-volume", (5, "mL"), id=LONG),
        observation("expressed-milk-volume", (5, LONG)),
        observation("breast-fullness", LONG),
        observation("letdown-sensation", False, effectiveDateTime=LONG),
        observation("letdown-sensation", False, focus=[{"reference": "Patient/" + LONG}]),
        observation("expressed-milk-volume", valueString=LONG),
        medicine(medicationCodeableConcept={"text": LONG}),
        medicine(medicationCodeableConcept={"text": "ibuprofen " * 200_000}),
        medicine(medicationCodeableConcept={"coding": [{"code": LONG, "display": LONG}]}),
        medicine(medicationReference={"reference": LONG, "display": LONG}),
    ],
    ids=lambda record: "",
)
def test_a_text_of_two_megabytes_costs_little_and_stands_on_no_card(
    client: FlaskClient, content: Content, record: dict[str, Any]
) -> None:
    request = hook_request(content, *inhibited(), record)
    began = time.monotonic()
    answer = client.post(VIEW, json=request)
    assert time.monotonic() - began < 0.5
    assert answer.status_code == 200
    assert answer.get_json()["cards"]
    assert len(answer.data) < 50_000


def test_what_is_nested_more_than_1024_deep_is_no_json(
    client: FlaskClient, content: Content
) -> None:
    request = hook_request(content, *inhibited(), extension={"deep": nested(900)})
    assert client.post(VIEW, json=request).status_code == 200
    text = b'{"hook": "patient-view", "x": ' + b"[" * 1100 + b"]" * 1100 + b"}"
    outcome(client.post(VIEW, data=text, content_type="application/json"), 400)


@pytest.mark.parametrize("depth", [1100, 9000])
@pytest.mark.parametrize("member", ["id", "valueQuantity", "extension", "subject"])
def test_a_record_nested_deeper_is_refused_or_spoils_nothing(
    client: FlaskClient, content: Content, member: str, depth: int
) -> None:
    """Which of the two depends on the version of Python: how deep the decoder can go."""
    odd = inhibited()[-1] | {member: "deep"}
    request = json.dumps(hook_request(content, *inhibited(), odd))
    text = request.replace('"deep"', "[" * depth + "]" * depth)
    answer = client.post(VIEW, data=text, content_type="application/json")
    if answer.status_code == 200:
        assert answer.get_json()["cards"]
    else:
        outcome(answer, 400)


def test_an_odd_record_beside_the_others_spoils_nothing(content: Content) -> None:
    whole = cards_of(content, *inhibited()).keys()
    assert cards_of(content, *inhibited(), birth_by([])).keys() == whole


def test_broken_requests_get_clean_answers() -> None:
    """Another seed each time; it is in the message if this fails."""
    seed = int(time.time())
    found = fuzz(seed, 1500, iter)
    assert found.wrong == [], f"seed {seed}"
    assert found.statuses[200] > 500
    assert found.statuses[400] > 100
