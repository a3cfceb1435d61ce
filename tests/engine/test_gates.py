"""After a loss, and where no milk is wanted, each card is silent or has its own words, everywhere.

The tests go through all cards of the content, those of a later version too: each shipped mother
gets a loss, or a plan of no milk, on top of what she has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cds_service.app import create_app
from cds_service.authoring.vignettes import Vignette
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from cds_service.demo.ehr import example_request
from cds_service.hooks.protocol import HOOKS
from cds_service.settings import Settings
from tests.support.calls import fire, topics
from tests.support.fhir_servers import bundle
from tests.support.mothers import NOW, Resource, birth, hook_request, observation, plan
from tests.support.vignettes import EACH, client_of

# What nobody says to a mother after a loss, wherever it stands in a word.
UNSPOKEN = re.compile(r"nurs|feed|pump|infant|baby|supply|start|lactation", re.IGNORECASE)
NO_PERSUASION = re.compile(r"supply|pump|start express|formula|latch", re.IGNORECASE)


def plus(content: Content, mother: Vignette, record: Resource) -> dict[str, Any]:
    """A shipped mother's request, with a newest record behind all others."""
    request = example_request(content, mother)
    added = {
        **record,
        "subject": {"reference": f"Patient/{mother.patient_id}"},
        "effectiveDateTime": (mother.now - timedelta(minutes=5)).isoformat(),
    }
    sent = (request["prefetch"]["motherObservations"] or {}).get("entry", [])
    request["prefetch"]["motherObservations"] = bundle(*(e["resource"] for e in sent), added)
    return request


def face_of(card: dict[str, Any]) -> str:
    """All that a clinician, or a mother to whom it is handed over, can read of a card."""
    read = [card["summary"], card["detail"], card["source"]["label"]]
    read += [link["label"] for link in card.get("links", [])]
    for suggestion in card.get("suggestions", []):
        read.append(suggestion["label"])
        for action in suggestion["actions"]:
            resource = action.get("resource", {})
            read += [payload["contentString"] for payload in resource.get("payload", [])]
            read += [note["text"] for note in resource.get("note", [])]
    return "\n".join(read)


def cards_on_every_hook(
    content: Content, settings: Settings, mother: Vignette, record: Resource
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Her cards with one record more, each with its hook and id: of orders, if she has some."""
    request = plus(content, mother, record)
    client = client_of(content, settings, mother)
    for hook in HOOKS.values():
        if hook.startswith("order") != mother.expected.hook.startswith("order"):
            continue
        context = {k: v for k, v in request["context"].items() if k != "selections"}
        if hook == "order-select":
            drafts = [e["resource"] for e in context["draftOrders"]["entry"]]
            context["selections"] = [f"{d['resourceType']}/{d['id']}" for d in drafts]
        for card in fire(client, {**request, "hook": hook, "context": context}):
            yield hook, card["source"]["topic"]["code"], card


@pytest.mark.slow
@EACH
def test_after_a_loss_every_card_is_silent_or_has_its_own_words(
    content: Content, settings: Settings, mother: Vignette
) -> None:
    died = observation("infant-outcome", "died")
    told = list(cards_on_every_hook(content, settings, mother, died))
    if any(name == "one-of-several-lost" for _, name, _ in told):
        assert "several-infants" in str(mother.bundle), "another lives, who needs the milk"
        return
    for hook, name, card in told:
        assert "loss" in content.cards[name].under, name
        assert UNSPOKEN.findall(face_of(card).replace("lactation-cds", "")) == [], name
        if name == "after-loss":
            assert card["indicator"] == "info"
            assert not hook.startswith("order")


@pytest.mark.slow
@EACH
def test_with_a_plan_of_no_milk_nobody_persuades(
    content: Content, settings: Settings, mother: Vignette
) -> None:
    for _, name, card in cards_on_every_hook(content, settings, mother, plan("none")):
        assert "no-milk-wanted" in content.cards[name].under, name
        assert NO_PERSUASION.findall(face_of(card)) == [], name


def test_a_card_that_is_added_later_is_silent_after_a_loss(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "new.yaml").write_text(
        """
cards:
  - id: brand-new
    title: Brand new
    rows: [R29]
    indicator: info
    urgency: 1
    when: {recorded: delivery-time}
    summary: "Start expressing"
    interventions: [lactation-consult]
    review: draft
"""
    )
    content = load_content(tmp_path)
    born = birth(hours=9)
    client = create_app(settings, content, lambda: NOW).test_client()
    assert "brand-new" in topics(fire(client, hook_request(content, born)))
    lost = observation("infant-outcome", "stillborn", 9)
    assert topics(fire(client, hook_request(content, born, lost))) == ["after-loss"]


FAILED = {
    "resourceType": "OperationOutcome",
    "issue": [{"severity": "error", "code": "timeout"}],
}


def with_failed_diagnoses(content: Content, *records: Resource, key: str = "conditions") -> Any:
    """A request in which the EHR says that it could not search for diagnoses."""
    request = hook_request(content, *records)
    request["prefetch"][key] = FAILED
    return request


def test_where_a_loss_could_not_be_looked_for_nobody_is_told_to_start(
    content: Content, settings: Settings
) -> None:
    client = create_app(settings, content, lambda: NOW).test_client()
    records = birth(hours=10), observation("separated-from-infant", "yes", 9)
    assert "early-expression" in topics(fire(client, hook_request(content, *records)))
    for key in ("conditions", "infantFeeding"):
        (card,) = fire(client, with_failed_diagnoses(content, *records, key=key))
        assert card["source"]["topic"]["code"] == "data-needed"
        label = content.prefetch[key].label
        assert card["summary"] == f"Check incomplete, could not be read: {label}"


def test_who_lives_and_feeds_is_not_kept_waiting_for_a_failed_search(
    content: Content, settings: Settings
) -> None:
    client = create_app(settings, content, lambda: NOW).test_client()
    born = birth(hours=10), observation("separated-from-infant", "yes", 9)
    for sign in (
        observation("infant-outcome", "alive", 9),
        observation("milk-transfer-adequate", True, 1),
        observation("pump-sessions-24h", 3, 1),
    ):
        cards = fire(client, with_failed_diagnoses(content, *born, sign))
        assert topics(cards) != ["data-needed"], sign
        assert all("Could not be read: conditions" in card["detail"] for card in cards)
    once = observation("pump-sessions-24h", 2, 1)  # to ease her, perhaps
    cards = fire(client, with_failed_diagnoses(content, *born, once))
    assert topics(cards) == ["data-needed"]
