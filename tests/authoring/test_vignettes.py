"""The synthetic mothers: each gets the cards that ``expected.yaml`` was written to demand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from cds_service.authoring.vignettes import Vignette, differences
from cds_service.content.compiled import Content
from cds_service.demo.ehr import (
    EXAMPLE_SERVER,
    example_files,
    example_request,
    hook_request,
    prefetch_from,
)
from cds_service.demo.fhir_store import FhirStore
from cds_service.engine.decoder import READ
from cds_service.engine.render import SuggestionContext
from cds_service.fhir.chart import Chart, read_result
from cds_service.settings import Settings
from tests.support.calls import fire, topics
from tests.support.mothers import answer_of
from tests.support.once import evaluation_of
from tests.support.vignettes import EACH, MOTHERS, answered, client_of


def assessed(content: Content, mother: Vignette, request: dict[str, Any]) -> dict[str, str]:
    """What her assessments come to; nothing to do with HTTP."""
    answers = {key: answer_of(value) for key, value in request["prefetch"].items()}
    chart = Chart(mother.patient_id, answers, EXAMPLE_SERVER)
    return evaluation_of(content).assessed(chart, mother.now)


def test_there_are_enough_mothers() -> None:
    assert len(MOTHERS) >= 40


def test_each_row_has_a_mother_who_shows_it_and_one_who_just_misses_it(content: Content) -> None:
    shown = {row for mother in MOTHERS for row in mother.expected.rows}
    missed = {row for mother in MOTHERS for row in mother.expected.near_misses}
    at_work = {row.id for row in content.rows.values() if row.not_yet is None}
    assert sorted(at_work - shown) == []
    assert sorted(at_work - missed) == []


@EACH
def test_she_gets_her_cards(
    content: Content, settings: Settings, valid: Callable[[str, Any], None], mother: Vignette
) -> None:
    answer = answered(content, settings, mother)
    valid("response", answer.body)
    found = assessed(content, mother, answer.request)
    assert differences(mother.expected, answer.cards, found) == []


@pytest.mark.parametrize(
    "mother",
    [mother for mother in MOTHERS if mother.expected.sample],
    ids=lambda mother: mother.name,
)
def test_what_is_kept_of_a_sample_is_what_the_command_writes(
    content: Content, mother: Vignette
) -> None:
    """If this fails after a change of content or of ``mother.yaml``, run ``make fixtures``."""
    kept = {path.name: path.read_bytes() for path in mother.path.glob("*.json")}
    assert kept == example_files(content, mother)


def test_each_topic_of_the_demo_has_a_sample_and_of_no_other_mother_is_kept_what_can_be_made() -> (
    None
):
    samples = {mother.name for mother in MOTHERS if mother.expected.sample}
    assert {mother.path.name for mother in MOTHERS if any(mother.path.glob("*.json"))} == samples
    topics_shown = {mother.expected.topic for mother in MOTHERS}
    assert {m.expected.topic for m in MOTHERS if m.expected.sample} == topics_shown
    assert len(samples) <= 20


@pytest.mark.slow
@EACH
def test_her_bundle_is_a_valid_transaction_and_says_that_it_is_synthetic(mother: Vignette) -> None:
    bundle = mother.bundle
    Bundle.model_validate(bundle)
    assert bundle["type"] == "transaction"
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert entry["request"] == {
            "method": "PUT",
            "url": f"{resource['resourceType']}/{resource['id']}",
        }
        security = [tag["code"] for tag in resource["meta"]["security"]]
        assert "HTEST" in security, resource["id"]


# What the absence of a record may bring, by what the rows say: R02 speaks of no session recorded,
# R10 of no skin-to-skin recorded; a drink without a recorded wait is told of the wait (R20).
SILENCING = {
    "feeding-plan",
    "infant-outcome",
    "suppressed-lactation",
    "tuberculosis",
    "suicide-risk-assessed",
    "bottle-feeding",
    "infant-weight-loss-percent",
    "alcohol-drinks-per-day",  # that she drinks nothing ends the question of a diagnosis
    "depression-score",  # a newer low one ends an older high one
    "milk-transfer-adequate",  # what is seen at the breast ends what else speaks for little milk
}
OF_ABSENCE = {"start-expressing", "skin-to-skin", "wait-after-alcohol"}


@pytest.mark.slow
@pytest.mark.rule("prefetch-absence")
@pytest.mark.parametrize(
    "mother",
    [mother for mother in MOTHERS if not mother.expected.cards and not mother.expected.orders],
    ids=lambda mother: mother.name,
)
def test_a_fact_that_is_missing_never_turns_silence_into_a_recommendation(
    content: Content, settings: Settings, mother: Vignette
) -> None:
    """Row S10. What is missing may be asked for; of milk itself, a missing session is one less.

    What silences is no such fact: without her plan, or what clears a danger, she is another mother.
    """
    client = client_of(content, settings, mother)
    request = example_request(content, mother)
    tried = 0
    for key in ("milkExpression", "motherObservations", "infantFeeding"):
        for entry in (request["prefetch"][key] or {}).get("entry", ()):
            coding = entry["resource"]["code"]["coding"][0]
            if coding["code"] in ("expressed-milk-volume", *SILENCING):
                continue
            rest = [other for other in request["prefetch"][key]["entry"] if other is not entry]
            sent = request["prefetch"] | {key: {"resourceType": "Bundle", "entry": rest}}
            cards = fire(client, request | {"prefetch": sent})
            offered = {
                intervention
                for card in cards
                for intervention in card["extension"]["org.lactation-cds"].get("interventions", ())
            }
            assert offered <= OF_ABSENCE, coding
            tried += 1
    assert tried


@pytest.mark.slow
@EACH
def test_the_order_of_her_records_does_not_matter(
    content: Content, settings: Settings, mother: Vignette
) -> None:
    client = client_of(content, settings, mother)
    request = example_request(content, mother)
    for sent in request["prefetch"].values():
        if sent and "entry" in sent:
            sent["entry"].reverse()
    found = assessed(content, mother, example_request(content, mother))
    assert differences(mother.expected, fire(client, request), found) == []


@pytest.mark.slow
@EACH
def test_she_never_ages(content: Content, settings: Settings, mother: Vignette) -> None:
    later = datetime(2031, 7, 1, 3, 30, tzinfo=UTC)
    store = FhirStore([mother], later)
    sent = prefetch_from(content, store, EXAMPLE_SERVER, mother.patient_id)
    hook = mother.expected.hook if mother.expected.hook != "patient-view" else "encounter-start"
    cards = fire(
        client_of(content, settings, mother, later),
        hook_request(mother, hook, EXAMPLE_SERVER, sent),
    )
    assert topics(cards) == mother.expected.cards


@pytest.mark.slow
@EACH
def test_her_example_request_is_valid(
    content: Content, valid: Callable[[str, Any], None], mother: Vignette
) -> None:
    valid("request", example_request(content, mother))


@pytest.mark.slow
@EACH
def test_a_day_is_long_enough_for_another_zone(
    content: Content, settings: Settings, mother: Vignette
) -> None:
    from datetime import timezone

    there = mother.now.astimezone(timezone(timedelta(hours=-8)))
    cards = fire(client_of(content, settings, mother, there), example_request(content, mother))
    assert topics(cards) == mother.expected.cards


@pytest.mark.slow
def test_nothing_is_read_of_a_resource_that_is_not_decoded(content: Content) -> None:
    read: set[str] = set()

    class Watched(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            read.add(name)
            return super().get(name, default)

        def __getitem__(self, name: str) -> Any:
            read.add(name)
            return super().__getitem__(name)

        def __contains__(self, name: object) -> bool:
            read.add(str(name))
            return super().__contains__(name)

    for mother in MOTHERS:
        sent = example_request(content, mother)["prefetch"]
        answers = {key: read_result(value) for key, value in sent.items()}
        for answer in answers.values():
            answer.resources = [Watched(resource) for resource in answer.resources]
        chart = Chart(mother.patient_id, answers, EXAMPLE_SERVER)
        evaluation_of(content).cards(
            chart, SuggestionContext(mother.patient_id, "Practitioner/x"), mother.now
        )
    assert len(read) >= 25
    assert read <= READ
