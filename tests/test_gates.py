"""After a loss, and where no milk is wanted, each card is silent or has its own words, everywhere.

The tests go through all cards of the content, those of a later version too: each shipped mother
gets a loss, or a plan of no milk, on top of what she has.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.content import Content
from cds_service.content_loader import load_content
from cds_service.demo.ehr import example_request
from cds_service.protocol import HOOKS
from cds_service.settings import Settings
from cds_service.vignettes import vignettes

from .mothers import NOW, birth, hook_request, observation

MOTHERS = vignettes()
SERVICES = {hook: service for service, hook in HOOKS.items()}
# What nobody says to a mother after a loss, wherever it stands in a word.
UNSPOKEN = re.compile(r"nurs|feed|pump|infant|baby|supply|start|lactation", re.IGNORECASE)
NO_PERSUASION = re.compile(r"supply|pump|start express|formula|latch", re.IGNORECASE)


CLIENTS: dict[Any, FlaskClient] = {}


def plus(content: Content, mother: Any, *records: dict[str, Any]) -> dict[str, Any]:
    """A shipped mother's request, with records of hers behind all others."""
    request = example_request(content, mother)
    patient = request["context"]["patientId"]
    at = (mother.now - timedelta(minutes=5)).isoformat()
    added = [
        {
            "resource": {
                **record,
                "id": f"added-{number}",
                "status": "final",
                "subject": {"reference": f"Patient/{patient}"},
                "effectiveDateTime": at,
            }
        }
        for number, record in enumerate(records)
    ]
    sent = request["prefetch"].get("motherObservations") or {"entry": []}
    request["prefetch"]["motherObservations"] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [*sent.get("entry", []), *added],
    }
    return request


def fact(name: str, answer: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "urn:lactation-cds:fact", "code": name}]},
        "valueCodeableConcept": {
            "coding": [{"system": "urn:lactation-cds:answer", "code": answer}]
        },
    }


def fired(
    content: Content, settings: Settings, request: dict[str, Any], now: datetime
) -> list[Any]:
    """The cards of a request on its hook, over HTTP."""
    key = (content.version, now)
    if key not in CLIENTS:
        CLIENTS[key] = create_app(settings, content, lambda: now).test_client()
    answer = CLIENTS[key].post(f"/cds-services/{SERVICES[request['hook']]}", json=request)
    assert answer.status_code == 200, answer.text
    return list(answer.get_json()["cards"])


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


def on_every_hook(request: dict[str, Any], mother: Any) -> list[dict[str, Any]]:
    """The same chart on the hooks that look at a chart; those of orders as she has them."""
    chart = [hook for hook in SERVICES if not hook.startswith("order")]
    hooks = [mother.expected.hook] if mother.expected.hook.startswith("order") else chart
    if mother.expected.hook.startswith("order"):
        hooks = ["order-sign", "order-select"]
    requests = []
    for hook in hooks:
        context = {**request["context"]}
        if hook == "order-select":
            drafts = [e["resource"] for e in context["draftOrders"]["entry"]]
            context["selections"] = [f"{d['resourceType']}/{d['id']}" for d in drafts]
        elif hook == "order-sign":
            context.pop("selections", None)
        requests.append({**request, "hook": hook, "context": context})
    return requests


@pytest.mark.parametrize("mother", MOTHERS, ids=lambda mother: mother.name)
def test_after_a_loss_every_card_is_silent_or_has_its_own_words(
    content: Content, settings: Settings, mother: Any
) -> None:
    request = plus(content, mother, fact("infant-outcome", "died"))
    for each in on_every_hook(request, mother):
        for card in fired(content, settings, each, mother.now):
            name = card["source"]["topic"]["code"]
            assert "loss" in content.cards[name].under, name
            assert UNSPOKEN.findall(face_of(card).replace("lactation-cds", "")) == [], name
            if name == "after-loss":
                assert card["indicator"] == "info"
                assert not each["hook"].startswith("order")


@pytest.mark.parametrize("mother", MOTHERS, ids=lambda mother: mother.name)
def test_with_a_plan_of_no_milk_nobody_persuades(
    content: Content, settings: Settings, mother: Any
) -> None:
    request = plus(content, mother, fact("feeding-plan", "none"))
    for each in on_every_hook(request, mother):
        for card in fired(content, settings, each, mother.now):
            name = card["source"]["topic"]["code"]
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
    living = fired(content, settings, hook_request(content, born), NOW)
    assert "brand-new" in [card["source"]["topic"]["code"] for card in living]
    lost = observation("infant-outcome", "stillborn", 9)
    bereaved = fired(content, settings, hook_request(content, born, lost), NOW)
    assert [card["source"]["topic"]["code"] for card in bereaved] == ["after-loss"]
