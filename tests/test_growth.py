"""Work grows with what is sent, and no faster: each list of a request is made four times as long.

What is compared is the processor time of one evaluation, from bytes to bytes, the least of several:
lists are long enough for a list that is searched linearly to take sixteen times as long.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from cds_service.cards import Setting
from cds_service.content import Content
from cds_service.evaluation import Evaluation
from cds_service.prefetch import gather
from cds_service.protocol import read_request

from .fhir_servers import bundle
from .mothers import HER, NOW, allergy, birth, hook_request, medicine, milk, observation
from .test_orders import draft, order_request

FEW, TIMES = 2000, 4
AT_MOST = 8.0  # times as long; linear work takes four times, quadratic sixteen
OWN = "urn:lactation-cds:fact"


def codings(count: int) -> list[dict[str, str]]:
    return [{"system": "urn:x", "code": str(number), "display": "x"} for number in range(count)]


def drug(number: int) -> dict[str, Any]:
    return medicine(medicationCodeableConcept={"text": f"Remedy {number}"})


def with_ingredients(count: int) -> dict[str, Any]:
    items = [{"resourceType": "Substance", "id": f"s{n}"} for n in range(count)]
    parts = [{"itemReference": {"reference": f"#s{n}"}} for n in range(count)]
    whole = {"resourceType": "Medication", "id": "m", "ingredient": parts}
    return medicine(medicationReference={"reference": "#m"}, contained=[whole, *items])


def viewed(*records: dict[str, Any]) -> Callable[[Content], Any]:
    return lambda content: hook_request(content, birth(123), milk(5, 1), *records)


def ordered(count: int, **more: Any) -> Callable[[Content], Any]:
    drafts = [draft("pseudoephedrine", number) for number in range(count)]
    return lambda content: order_request(content, *drafts, **more)


def selected(count: int) -> Callable[[Content], Any]:
    chosen = [f"MedicationRequest/{number}" for number in range(count)]
    return ordered(count, hook="order-select", selections=chosen)


MILK = {"coding": [{"system": OWN, "code": "expressed-milk-volume"}]}
PART = {"code": MILK, "valueQuantity": {"value": 1, "code": "mL"}}
IBUPROFEN = medicine(medicationCodeableConcept={"text": "Ibuprofen"})


def request_for(number: int) -> dict[str, Any]:
    hers = {"subject": {"reference": f"Patient/{HER}"}, "status": "active"}
    kind = {"resourceType": "ServiceRequest", "id": f"s{number}"}
    return kind | hers | {"code": {"coding": codings(3)}}


def of_another(number: int) -> dict[str, Any]:
    whose = {"subject": {"reference": f"Patient/b{number}"}}
    return {"resourceType": "Observation", "id": f"o{number}"} | whose


def said(number: int, count: int) -> dict[str, Any]:
    return observation("letdown-sensation", number % 2 == 0, 1 + number / count)


def names(count: int) -> dict[str, Any]:
    infants = [{"reference": f"Patient/b{number}"} for number in range(count)]
    return observation("pacifier-use", True, focus=infants)


LISTS: dict[str, Callable[[int], Callable[[Content], Any]]] = {
    "selections": selected,
    "drafts": ordered,
    "medicines": lambda n: viewed(*map(drug, range(n))),
    "one medicine": lambda n: viewed(*[IBUPROFEN] * n),
    "codings": lambda n: viewed(medicine(medicationCodeableConcept={"coding": codings(n)})),
    "ingredients": lambda n: viewed(with_ingredients(n)),
    "allergies": lambda n: viewed(*(allergy(text=f"Pollen {k}") for k in range(n))),
    "sessions": lambda n: viewed(*(milk(5, 1 + k / n) for k in range(n))),
    "answers": lambda n: viewed(*(said(k, n) for k in range(n))),
    "components": lambda n: viewed(observation("panel", component=[PART] * n)),
    "focus": lambda n: viewed(names(n)),
    "orders": lambda n: viewed(*map(request_for, range(n))),
    "records of others": lambda n: viewed(*map(of_another, range(n))),
    "a text": lambda n: viewed(medicine(medicationCodeableConcept={"text": "a b " * n * 10})),
    "an id": lambda n: viewed(milk(5, 2, id="x" * n * 10)),
    "a reference": lambda n: viewed(milk(5, 2, subject={"reference": "a/" * n * 10})),
    "a time": lambda n: viewed(milk(5, 2, effectiveDateTime="2026-01-15T10:00:00." + "1" * n)),
}


def seconds_of(content: Content, evaluation: Evaluation, request: dict[str, Any]) -> float:
    """The least processor time of three evaluations."""
    body, took = json.dumps(request).encode(), []
    for _ in range(3):
        began = time.thread_time()
        hook, context = read_request(body, request["hook"])
        chart = gather(content, hook, context, None, 0, now=NOW)
        setting = Setting.of(hook.hook, context)
        evaluation.answer(chart, setting, NOW, context.judged_orders)
        took.append(time.thread_time() - began)
    return min(took)


@pytest.mark.parametrize("name", LISTS)
def test_work_is_linear_in_what_is_sent(content: Content, name: str) -> None:
    evaluation = Evaluation(content)
    little, much = (
        seconds_of(content, evaluation, LISTS[name](count)(content)) for count in (FEW, FEW * TIMES)
    )
    assert much < AT_MOST * max(little, 0.004)


def test_a_bundle_of_everything_that_means_nothing_is_no_longer(content: Content) -> None:
    junk = [{"resourceType": "Observation", "id": str(n)} for n in range(FEW * TIMES)]
    request = hook_request(content, birth(123))
    request["prefetch"]["conditions"] = bundle(*junk)
    assert seconds_of(content, Evaluation(content), request) < 2
