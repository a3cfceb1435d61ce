"""What means the same gives the same cards: said twice, in other codes, units, zones or keys.

Each vignette is said again in another way, drawn at random, and must give the same words.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cds_service.authoring.vignettes import Vignette
from cds_service.content.compiled import Content
from cds_service.content.schema import OWN_ANSWER, OWN_FACT, VALUE_SET
from cds_service.demo.ehr import EXAMPLE_SERVER, example_request
from cds_service.engine.render import SuggestionContext
from cds_service.fhir.chart import Chart
from cds_service.hooks.protocol import read_request
from tests.support.mothers import answer_of
from tests.support.once import evaluation_of
from tests.support.vignettes import EACH, MOTHERS

Sent = dict[str, Any]
Way = Callable[[Content, Sent, random.Random], None]

YES_NO = {True: ("http://snomed.info/sct", "373066001"), False: ("http://loinc.org", "LA32-8")}
# The same amount in another unit, as factor and offset from the first.
UNITS = {
    "mL": [("L", 0.001, 0.0), ("dL", 0.01, 0.0)],
    "min": [("h", 1 / 60, 0.0), ("s", 60.0, 0.0)],
    "ms": [("s", 0.001, 0.0)],
    "Cel": [("[degF]", 1.8, 32.0)],
    "mg/dL": [("mg/L", 10.0, 0.0)],
}


@pytest.fixture(scope="module")
def said(content: Content) -> Callable[[Vignette, Sent], list[Any]]:
    """What the cards say for a vignette whose records were sent like this."""

    def say(mother: Vignette, sent: Sent) -> list[Any]:
        country = mother.expected.jurisdiction
        # Where she is, is known: then no offset tells when her night is.
        evaluation = evaluation_of(content, country, UTC)
        body = json.dumps(example_request(content, mother)).encode()
        request, context = read_request(body, mother.expected.hook)
        answers = {key: answer_of(value) for key, value in sent.items()}
        chart = Chart(mother.patient_id, answers, EXAMPLE_SERVER)
        setting = SuggestionContext.of(request.hook, context)
        cards = evaluation.cards(chart, setting, mother.now, context.judged_orders)
        return [
            (
                card["source"]["topic"]["code"],
                card["indicator"],
                card["summary"],
                card["detail"],
                [suggestion["label"] for suggestion in card.get("suggestions", ())],
            )
            for card in cards
        ]

    return say


def resources(sent: Sent, kind: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, bundle in sent.items():
        for entry in (bundle or {}).get("entry", ()):
            if kind in (None, entry["resource"]["resourceType"]):
                yield key, entry["resource"]


def fact_of(resource: dict[str, Any]) -> str | None:
    for coding in resource["code"]["coding"]:
        if coding["system"] == OWN_FACT:
            return str(coding["code"])
    return None


# --- ways to say the same -----------------------------------------------------------------------


def say_it_twice(content: Content, sent: Sent, chance: random.Random) -> None:
    """Write a record again, under a new id, a minute before; not amounts, which would add up."""
    for key, resource in list(resources(sent, "Observation")):
        fact = fact_of(resource)
        if fact is None or chance.random() < 0.5 or content.facts[fact].combine == "sum":
            continue
        again = copy.deepcopy(resource) | {"id": f"again-{resource['id']}"}
        moment = datetime.fromisoformat(again["effectiveDateTime"]) - timedelta(minutes=1)
        again["effectiveDateTime"] = moment.isoformat()
        sent[key]["entry"].insert(0, {"resource": again})


def send_it_under_another_key(content: Content, sent: Sent, chance: random.Random) -> None:
    """The same resource comes twice, as where two searches overlap."""
    for key, resource in list(resources(sent)):
        others = [
            other
            for other in content.searches
            if other.id != key and other.resource == resource["resourceType"]
        ]
        if others and chance.random() < 0.5:
            bundle = sent[chance.choice(others).id]
            if bundle is not None:
                bundle["entry"].append({"resource": resource})


def add_what_means_nothing(content: Content, sent: Sent, chance: random.Random) -> None:
    """Other results, and what was entered in error."""
    for key in ("milkExpression", "motherObservations"):
        own = [resource for other, resource in resources(sent, "Observation") if other == key]
        if not own:
            continue
        other = copy.deepcopy(chance.choice(own)) | {"id": f"haemoglobin-{key}"}
        other["code"] = {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}
        wrong = copy.deepcopy(chance.choice(own)) | {"id": f"wrong-{key}", "value": None}
        wrong["status"] = "entered-in-error"
        sent[key]["entry"] += [{"resource": other}, {"resource": wrong}]


def write_it_in_standard_codes(content: Content, sent: Sent, chance: random.Random) -> None:
    """By LOINC, SNOMED CT or ICD-10-CM where there is one, beside a code that nobody knows."""
    for _, resource in resources(sent, "Observation"):
        fact = fact_of(resource)
        if fact is None:
            continue
        standard = [
            (system, code)  # but those of a diagnosis: an Observation of it is not read
            for system, code in content.codes.get(f"{VALUE_SET}{fact}", ())
            if content.facts[fact]
            in content.lookup.of_concept(
                {"coding": [{"system": system, "code": code}]}, "Observation"
            )
        ]
        if standard:
            system, code = chance.choice(standard)
            local = {"system": "urn:local", "code": "1"}
            resource["code"] = {"coding": [local, {"system": system, "code": code}]}
        if "valueBoolean" in resource:
            system, code = YES_NO[resource.pop("valueBoolean")]
            resource["valueCodeableConcept"] = {"coding": [{"system": system, "code": code}]}
        for coding in resource.get("valueCodeableConcept", {}).get("coding", ()):
            if coding["system"] == OWN_ANSWER:
                codes = list(content.codes.get(f"{VALUE_SET}{fact}-{coding['code']}", ()))
                if codes:
                    coding["system"], coding["code"] = chance.choice(codes)


def write_it_in_other_units(content: Content, sent: Sent, chance: random.Random) -> None:
    for _, resource in resources(sent, "Observation"):
        quantity = resource.get("valueQuantity", {})
        others = UNITS.get(quantity.get("code"), [])
        if others:
            unit, factor, offset = chance.choice(others)
            quantity |= {"value": quantity["value"] * factor + offset, "code": unit, "unit": unit}


def write_it_in_another_zone(content: Content, sent: Sent, chance: random.Random) -> None:
    for _, resource in resources(sent):
        for name in ("effectiveDateTime", "valueDateTime", "authoredOn", "onsetDateTime"):
            if name in resource and "T" in resource[name]:
                zone = timezone(timedelta(minutes=chance.choice([-600, -210, 60, 345, 780])))
                moment = datetime.fromisoformat(resource[name]).astimezone(zone)
                resource[name] = moment.isoformat()


def send_it_in_another_order(content: Content, sent: Sent, chance: random.Random) -> None:
    for bundle in sent.values():
        if bundle and "entry" in bundle:
            chance.shuffle(bundle["entry"])


WAYS: list[Way] = [
    say_it_twice,
    send_it_under_another_key,
    add_what_means_nothing,
    write_it_in_standard_codes,
    write_it_in_other_units,
    write_it_in_another_zone,
    send_it_in_another_order,
]


@pytest.mark.slow
@EACH
def test_each_way_of_saying_it_gives_the_same_cards(
    content: Content, said: Callable[[Vignette, Sent], list[Any]], mother: Vignette
) -> None:
    sent = example_request(content, mother)["prefetch"]
    before = said(mother, sent)
    for way in WAYS:
        otherwise = copy.deepcopy(sent)
        way(content, otherwise, random.Random(mother.name))
        assert said(mother, otherwise) == before, way.__name__


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    mother=st.sampled_from(MOTHERS),
    ways=st.lists(st.sampled_from(WAYS), min_size=2, max_size=5),
    seed=st.integers(0, 2**16),
)
def test_all_ways_together_give_the_same_cards(
    content: Content,
    said: Callable[[Vignette, Sent], list[Any]],
    mother: Vignette,
    ways: list[Way],
    seed: int,
) -> None:
    sent = example_request(content, mother)["prefetch"]
    otherwise = copy.deepcopy(sent)
    chance = random.Random(seed)
    # Standard codes last: the other ways look for what was written in the project's own.
    for way in sorted(ways, key=lambda way: way is write_it_in_standard_codes):
        way(content, otherwise, chance)
    assert said(mother, otherwise) == said(mother, sent)


@pytest.mark.slow
def test_the_ways_say_something_else(content: Content) -> None:
    """Each way changes the records of at least a few mothers: none is asleep."""
    for way in WAYS:
        changed = 0
        for mother in MOTHERS:
            sent = example_request(content, mother)["prefetch"]
            otherwise = copy.deepcopy(sent)
            way(content, otherwise, random.Random(mother.name))
            changed += otherwise != sent
        assert changed >= 20, way.__name__
