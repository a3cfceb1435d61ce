"""Work grows with what is sent, and no faster: each list of a request is doubled.

The lists are found, not named: every list of every example request, in each hook, is made longer
alone. What is compared is instructions (``growth.count``), of elements that are alike and of such
as differ in all that tells them apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cds_service.content.compiled import Content
from cds_service.demo.ehr import example_request
from tests.benchmarks.growth import Place, count, grown, lists_in
from tests.support.mothers import HER, allergy, birth, hook_request, medicine, milk, observation
from tests.support.orders import draft, order_request
from tests.support.processes import needed
from tests.support.recorded import REQUESTS
from tests.support.vignettes import MOTHERS

pytestmark = pytest.mark.slow

FEW, TIMES = 500, 2
SHORT = 4  # from which growth is counted: what the list means may be another than as it was
AT_MOST = 2.3  # times as much; linear work takes twice, quadratic four times
LEAST = 200_000  # instructions, below which doubling shows nothing
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


def example_requests(content: Content) -> dict[str, dict[str, Any]]:
    """The requests of the shipped mothers, those of the tests, and one of each kind above."""
    requests = {mother.name: example_request(content, mother) for mother in MOTHERS}
    requests |= {
        path.name: json.loads(path.read_bytes()) for path in sorted(REQUESTS.glob("*.json"))
    }
    return requests | {name: make(2)(content) for name, make in LISTS.items()}


@dataclass(frozen=True)
class Case:
    """A list of a request that can be made longer, and the request as it is."""

    request: str  # its name
    make: Callable[[int], dict[str, Any]]


def cases_of(content: Content, requests: dict[str, dict[str, Any]]) -> dict[str, Case]:
    """Every list that a request has, by its name."""
    cases: dict[str, Case] = {}
    for sender, request in requests.items():
        for name, place in lists_in(request):
            for kind, alike in (("alike", True), ("differing", False)):
                make = partial(longer, request, place, alike)
                cases.setdefault(f"{name}, {kind}", Case(sender, make))
    return cases | {name: Case(name, lambda n, m=m: m(n)(content)) for name, m in LISTS.items()}


def longer(request: dict[str, Any], place: Place, alike: bool, length: int) -> dict[str, Any]:
    return grown(request, place, length, alike=alike)


def test_work_is_linear_in_what_is_sent(content: Content, tmp_path: Path) -> None:
    needed("valgrind", "valgrind")
    requests = example_requests(content)
    cases = cases_of(content, requests)
    assert {".context.selections, alike", "Observation.component, differing"} <= cases.keys()
    bodies = {
        f"{name}: {length}": case.make(length)
        for name, case in cases.items()
        for length in (SHORT, FEW, FEW * TIMES)
    }
    counted = count({name: json.dumps(body).encode() for name, body in bodies.items()}, tmp_path)
    growth = {}
    for name in cases:
        short = counted[f"{name}: {SHORT}"]
        few, many = (counted[f"{name}: {length}"] - short for length in (FEW, FEW * TIMES))
        growth[name] = many / max(few, LEAST)
    print(json.dumps(dict(sorted(growth.items(), key=lambda each: -each[1])), indent=1))
    assert {name: times for name, times in growth.items() if times > AT_MOST} == {}
