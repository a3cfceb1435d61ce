"""What CDS Hooks asks of every answer, looked for in the answers to all synthetic mothers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from fhir.resources.R4B import get_fhir_model_class
from flask.testing import FlaskClient

from cds_service.access.caller import ALGORITHMS
from cds_service.content.compiled import Content
from cds_service.hooks.protocol import HOOKS
from tests.support.mothers import hook_request
from tests.support.repository import ROOT
from tests.support.vignettes import Answered

LACTMED = "https://www.ncbi.nlm.nih.gov/books/"


Named = tuple[str, dict[str, Any]]  # with the name of the mother who got it


@pytest.fixture
def cards(answers: list[Answered]) -> list[Named]:
    return [(answered.name, card) for answered in answers for card in answered.cards]


@pytest.fixture
def suggestions(cards: list[Named]) -> list[Named]:
    return [
        (name, suggestion) for name, card in cards for suggestion in card.get("suggestions", ())
    ]


def members(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every member of a document, with its path."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield f"{path}.{name}", member
            yield from members(member, f"{path}.{name}")
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield f"{path}[{number}]", member
            yield from members(member, f"{path}[{number}]")


@pytest.mark.slow
@pytest.mark.rule("nothing-empty")
def test_nothing_empty_is_said(answers: list[Answered], client: FlaskClient) -> None:
    documents = {"discovery": client.get("/cds-services").get_json()}
    documents |= {answered.name: answered.body for answered in answers}
    for name, document in documents.items():
        for path, value in members(document):
            # Perhaps no contraindication is present, or none is absent.
            if path != ".cards" and ".contraindications." not in path and ".guards." not in path:
                assert value not in (None, "", [], {}), (name, path)


@pytest.mark.rule("card-top")
def test_an_answer_has_cards_and_nothing_else(answers: list[Answered]) -> None:
    for answered in answers:
        assert set(answered.body) == {"cards"}, answered.name
        assert isinstance(answered.body["cards"], list), answered.name


@pytest.mark.rule("card-summary")
def test_a_summary_is_short_and_one_line(cards: list[Named]) -> None:
    for name, card in cards:
        assert 0 < len(card["summary"]) < 140, name
        assert "\n" not in card["summary"], name


@pytest.mark.rule("card-indicator")
def test_an_indicator_is_one_of_three(cards: list[Named]) -> None:
    assert {card["indicator"] for _, card in cards} == {"info", "warning", "critical"}


@pytest.mark.rule("card-source")
def test_a_source_says_who_and_what(cards: list[Named]) -> None:
    for name, card in cards:
        source = card["source"]
        assert source["label"], name
        assert source["topic"]["system"] == "urn:lactation-cds:card", name
        if "url" in source:
            address = urlsplit(source["url"])
            assert address.scheme == "https", name
            assert not address.query, name  # no drill-down


@pytest.mark.rule("card-selection", "card-recommended")
def test_suggestions_say_how_many_may_be_taken(cards: list[Named]) -> None:
    for name, card in cards:
        assert ("suggestions" in card) == ("selectionBehavior" in card), name
        if "suggestions" in card:
            assert card["selectionBehavior"] in ("at-most-one", "any"), name
            recommended = [each for each in card["suggestions"] if each.get("isRecommended")]
            assert card["selectionBehavior"] == "any" or len(recommended) <= 1, name


@pytest.mark.rule("card-suggestion", "card-action")
def test_suggestions_can_be_applied_as_they_are(suggestions: list[Named]) -> None:
    assert suggestions
    assert len({suggestion["uuid"] for _, suggestion in suggestions}) == len(suggestions)
    for name, suggestion in suggestions:
        assert suggestion["label"], name
        assert "actionSelectionBehavior" not in suggestion, name
        for action in suggestion["actions"]:
            assert action["description"], name
            assert action["type"] in ("create", "delete"), name
            assert ("resource" in action) == (action["type"] == "create"), name
            assert ("resourceId" in action) == (action["type"] == "delete"), name


@pytest.mark.rule("embedded-fhir", "card-draft")
def test_what_is_created_is_a_valid_draft_for_this_call(answers: list[Answered]) -> None:
    made = 0
    for answered in answers:
        context = answered.request["context"]
        for _, action in members(answered.body):
            if not isinstance(action, dict) or action.get("type") != "create":
                continue
            resource = action["resource"]
            get_fhir_model_class(resource["resourceType"]).model_validate(resource)
            assert "id" not in resource, answered.name
            assert resource["status"] == "draft", answered.name
            assert resource["subject"] == {"reference": f"Patient/{context['patientId']}"}, (
                answered.name
            )
            assert resource["encounter"] == {"reference": f"Encounter/{context['encounterId']}"}, (
                answered.name
            )
            made += 1
    assert made > 100


@pytest.mark.rule("card-delete")
def test_what_is_taken_back_is_a_draft_order_of_this_call(answers: list[Answered]) -> None:
    taken_back = 0
    for answered in answers:
        entries = answered.request["context"].get("draftOrders", {}).get("entry", [])
        orders = [
            f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in entries
        ]
        for _, action in members(answered.body):
            if isinstance(action, dict) and action.get("type") == "delete":
                assert action["resourceId"] in orders, answered.name
                taken_back += 1
    assert taken_back > 0


@pytest.mark.rule("card-override")
def test_override_reasons_are_coded_and_displayed(cards: list[Named]) -> None:
    for name, card in cards:
        for reason in card["overrideReasons"]:
            assert set(reason) == {"code", "system", "display"}, name


@pytest.mark.rule("card-links", "link-hosts")
def test_links_are_absolute_and_lead_to_the_sources_of_the_content(
    cards: list[Named], content: Content
) -> None:
    vetted = {evidence.link for evidence in content.evidence.values()}
    for name, card in cards:
        for link in card.get("links", ()):
            assert set(link) == {"label", "url", "type"}, name
            assert link["type"] == "absolute", name
            assert link["url"].startswith("https://"), name
            ours = link["url"].startswith("https://cds.example.org/handouts/")
            known = link["url"] in vetted or link["url"].startswith(LACTMED)
            assert known or (ours and link["label"] == "Handout for her"), (name, link["url"])


@pytest.mark.rule("own-extensions")
def test_extensions_are_objects_under_a_name_of_our_own(cards: list[Named]) -> None:
    for name, card in cards:
        assert list(card["extension"]) == ["org.lactation-cds"], name
        assert isinstance(card["extension"]["org.lactation-cds"], dict), name


@pytest.mark.rule("discovery-id", "discovery-one-id")
def test_each_service_answers_at_its_id(client: FlaskClient, content: Content) -> None:
    services = client.get("/cds-services").get_json()["services"]
    assert len({service["id"] for service in services}) == len(services) == len(HOOKS)
    for service in services:
        request = hook_request(content, hook=service["hook"])
        if service["hook"].startswith("order-"):
            request["context"]["draftOrders"] = {"resourceType": "Bundle"}
            request["context"]["selections"] = ["MedicationRequest/none"]
        answer = client.post(f"/cds-services/{service['id']}", json=request)
        assert answer.status_code == 200, answer.text


@pytest.mark.rule("discovery-version", "call-r4")
def test_the_release_and_the_version_of_fhir_are_stated(client: FlaskClient) -> None:
    for service in client.get("/cds-services").get_json()["services"]:
        assert service["version"] == "2.0.1"
        assert "FHIR R4" in service["usageRequirements"]


@pytest.mark.rule("discovery-page")
def test_what_it_can_do_is_documented() -> None:
    page = (ROOT / "docs" / "connect.md").read_text()
    for word in (*HOOKS, *HOOKS.values(), "/feedback", "prefetch", "systemActions", *ALGORITHMS):
        assert word in page, word
