"""What CDS Hooks asks of every answer, looked for in the answers to all synthetic mothers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from fhir.resources.R4B import get_fhir_model_class
from flask.testing import FlaskClient

from cds_service.access.caller import ALGORITHMS
from cds_service.content.compiled import Content
from cds_service.demo.ehr import example_request
from cds_service.hooks.protocol import HOOKS
from cds_service.settings import Settings
from tests.support.mothers import hook_request
from tests.support.repository import ROOT
from tests.support.vignettes import MOTHERS, client_of

LACTMED = "https://www.ncbi.nlm.nih.gov/books/"


class Answered(NamedTuple):
    name: str
    request: dict[str, Any]
    body: dict[str, Any]


@pytest.fixture(scope="module")
def answers(content: Content, tmp_path_factory: pytest.TempPathFactory) -> list[Answered]:
    """Every synthetic mother's request, answered over HTTP."""
    database = f"sqlite:///{tmp_path_factory.mktemp('service')}/service.sqlite3"
    settings = Settings(auth="open", base_url="https://cds.example.org", database_url=database)
    answered = []
    for mother in MOTHERS:
        request = example_request(content, mother)
        client = client_of(content, settings, mother)
        answer = client.post(f"/cds-services/lactation-{request['hook']}", json=request)
        assert answer.status_code == 200
        assert answer.mimetype == "application/json"
        answered.append(Answered(mother.name, request, answer.get_json()))
    return answered


@pytest.fixture
def cards(answers: list[Answered]) -> list[dict[str, Any]]:
    return [card for answered in answers for card in answered.body["cards"]]


@pytest.fixture
def suggestions(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [suggestion for card in cards for suggestion in card.get("suggestions", ())]


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
    for document in (
        client.get("/cds-services").get_json(),
        *(answered.body for answered in answers),
    ):
        for path, value in members(document):
            # Perhaps no contraindication is present, or none is absent.
            if path != ".cards" and ".contraindications." not in path and ".guards." not in path:
                assert value not in (None, "", [], {}), path


@pytest.mark.rule("card-top")
def test_an_answer_has_cards_and_nothing_else(answers: list[Answered]) -> None:
    for answered in answers:
        assert set(answered.body) == {"cards"}
        assert isinstance(answered.body["cards"], list)


@pytest.mark.rule("card-summary")
def test_a_summary_is_short_and_one_line(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        assert 0 < len(card["summary"]) < 140
        assert "\n" not in card["summary"]


@pytest.mark.rule("card-indicator")
def test_an_indicator_is_one_of_three(cards: list[dict[str, Any]]) -> None:
    assert {card["indicator"] for card in cards} == {"info", "warning", "critical"}


@pytest.mark.rule("card-source")
def test_a_source_says_who_and_what(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        source = card["source"]
        assert source["label"]
        assert source["topic"]["system"] == "urn:lactation-cds:card"
        if "url" in source:
            address = urlsplit(source["url"])
            assert address.scheme == "https"
            assert not address.query  # no drill-down


@pytest.mark.rule("card-selection", "card-recommended")
def test_suggestions_say_how_many_may_be_taken(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        assert ("suggestions" in card) == ("selectionBehavior" in card)
        if "suggestions" in card:
            assert card["selectionBehavior"] in ("at-most-one", "any")
            recommended = [each for each in card["suggestions"] if each.get("isRecommended")]
            assert card["selectionBehavior"] == "any" or len(recommended) <= 1


@pytest.mark.rule("card-suggestion", "card-action")
def test_suggestions_can_be_applied_as_they_are(suggestions: list[dict[str, Any]]) -> None:
    assert suggestions
    assert len({suggestion["uuid"] for suggestion in suggestions}) == len(suggestions)
    for suggestion in suggestions:
        assert suggestion["label"]
        assert "actionSelectionBehavior" not in suggestion
        for action in suggestion["actions"]:
            assert action["description"]
            assert action["type"] in ("create", "delete")
            assert ("resource" in action) == (action["type"] == "create")
            assert ("resourceId" in action) == (action["type"] == "delete")


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
            assert "id" not in resource
            assert resource["status"] == "draft"
            assert resource["subject"] == {"reference": f"Patient/{context['patientId']}"}
            assert resource["encounter"] == {"reference": f"Encounter/{context['encounterId']}"}
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
                assert action["resourceId"] in orders
                taken_back += 1
    assert taken_back > 0


@pytest.mark.rule("card-override")
def test_override_reasons_are_coded_and_displayed(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        for reason in card["overrideReasons"]:
            assert set(reason) == {"code", "system", "display"}


@pytest.mark.rule("card-links", "link-hosts")
def test_links_are_absolute_and_lead_to_the_sources_of_the_content(
    cards: list[dict[str, Any]], content: Content
) -> None:
    vetted = {evidence.link for evidence in content.evidence.values()}
    for card in cards:
        for link in card.get("links", ()):
            assert set(link) == {"label", "url", "type"}
            assert link["type"] == "absolute"
            assert link["url"].startswith("https://")
            ours = link["url"].startswith("https://cds.example.org/handouts/")
            known = link["url"] in vetted or link["url"].startswith(LACTMED)
            assert known or (ours and link["label"] == "Handout for her"), link["url"]


@pytest.mark.rule("own-extensions")
def test_extensions_are_objects_under_a_name_of_our_own(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        assert list(card["extension"]) == ["org.lactation-cds"]
        assert isinstance(card["extension"]["org.lactation-cds"], dict)


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
