"""One click for the routine: what a card teaches is asked for at once, and counts for each."""

from __future__ import annotations

from typing import Any

import pytest
from fhir.resources.R4B.communicationrequest import CommunicationRequest
from flask.testing import FlaskClient
from pydantic import SecretStr

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.settings import Settings
from tests.support.calls import VIEW
from tests.support.mothers import (
    HER,
    NOW,
    ago,
    birth,
    cards_of,
    hook_request,
    inhibited,
    milk,
    observation,
    why,
)
from tests.support.waiting import soon

ACTIVITY = "urn:lactation-cds:activity"
PASSWORD = "long and random"
ROUTINE = [
    "raise-frequency",
    "hands-on-pumping",
    "double-pumping",
    "warmth-while-pumping",
    "breast-massage",
    "shield-fit",
    "relaxation",
    "skin-to-skin",
]
NOT_DONE = [
    observation("pump-sessions-24h", 4, 0.5),
    observation("hands-on-pumping", False),
    observation("pump-mode", "single"),
    observation("massage-while-pumping", False),
    observation("warm-compress", "none"),
    observation("breast-shield-fit", "not-checked"),
    observation("relaxation-while-pumping", False),
    observation("skin-to-skin-minutes-24h", (0, "min")),
]


CONSULT = {
    "resourceType": "ServiceRequest",
    "id": "consult",
    "status": "active",
    "intent": "order",
    "code": {"coding": [{"system": ACTIVITY, "code": "lactation-consult"}]},
    "subject": {"reference": f"Patient/{HER}"},
    "authoredOn": ago(10),
}


def view(client: FlaskClient, content: Content, *records: dict[str, Any]) -> dict[str, Any]:
    """Her lead card, over HTTP; a consultant is on the way."""
    known = [*inhibited(), *NOT_DONE, CONSULT]
    answer = client.post(VIEW, json=hook_request(content, *known, *records))
    cards = {c["source"]["topic"]["code"]: c for c in answer.get_json()["cards"]}
    lead: dict[str, Any] = cards.get("inhibited-letdown", {})
    return lead


def resource_of(suggestion: dict[str, Any]) -> dict[str, Any]:
    (action,) = suggestion["actions"]
    resource: dict[str, Any] = action["resource"]
    return resource


def test_the_whole_routine_comes_first_and_is_what_is_recommended(
    client: FlaskClient, content: Content
) -> None:
    card = view(client, content, observation("pump-type", "manual"))
    whole, *single = card["suggestions"]
    assert whole["label"] == "Teach the whole routine (8 techniques)"
    assert [s["label"] for s in card["suggestions"] if s.get("isRecommended")] == [whole["label"]]
    assert card["selectionBehavior"] == "any"
    assert len(single) == len(ROUTINE) + 1  # and the pump, which is no teaching
    request = resource_of(whole)
    CommunicationRequest.model_validate(request)
    codes = [
        coding["code"]
        for category in request["category"]
        for coding in category["coding"]
        if coding["system"] == ACTIVITY
    ]
    assert codes == ROUTINE
    said = [" ".join(content.interventions[name].how.split()) for name in ROUTINE]
    assert [payload["contentString"] for payload in request["payload"]] == said
    assert sum("instruction" in str(category) for category in request["category"]) == 1


def test_all_of_it_is_named_for_machines_also_what_is_not_written_out(
    client: FlaskClient, content: Content
) -> None:
    card = view(client, content)
    assert why(card)["interventions"] == ROUTINE
    assert content.interventions["relaxation"].label not in card["detail"]
    rows = {row for name in ROUTINE for row in content.interventions[name].rows}
    assert rows <= set(why(card)["rows"])


def test_once_it_is_in_the_chart_each_technique_counts_as_asked_for(
    client: FlaskClient, content: Content
) -> None:
    card = view(client, content)
    written = resource_of(card["suggestions"][0]) | {"id": "routine", "status": "active"}
    later = view(client, content, written, observation("pump-type", "manual"))
    assert why(later)["interventions"] == ["breast-pump"]
    told = [line for line in later["detail"].splitlines() if line.startswith("Already asked for: ")]
    shorts = ", ".join(content.interventions[name].short for name in ROUTINE)
    assert told == [f"Already asked for: {shorts}."]
    assert view(client, content, written) == {}


@pytest.mark.parametrize("status", ["revoked", "entered-in-error"])
def test_one_that_was_withdrawn_counts_for_none(
    client: FlaskClient, content: Content, status: str
) -> None:
    card = view(client, content)
    written = resource_of(card["suggestions"][0]) | {"id": "routine", "status": status}
    assert why(view(client, content, written))["interventions"] == ROUTINE


@pytest.mark.parametrize("separated", [True, False])
def test_low_milk_has_its_routine_too(content: Content, separated: bool) -> None:
    how_she_pumps = observation("exclusively-expressing", True)
    sessions = [milk(10, hours) for hours in (25, 19, 13, 7, 1)]
    apart = observation("separated-from-infant", separated)
    card = cards_of(content, birth(110), *sessions, how_she_pumps, apart, *NOT_DONE)["low-milk"]
    routine = [name for name in ROUTINE if name != "skin-to-skin"]
    routine += ["pump-beside-infant", "skin-to-skin"] if separated else ["skin-to-skin"]
    whole = card["suggestions"][0]
    assert whole["label"] == f"Teach the whole routine ({len(routine)} techniques)"
    assert whole["isRecommended"] is True
    categories = resource_of(whole)["category"]
    codes = [c["code"] for each in categories for c in each["coding"] if c["system"] == ACTIVITY]
    assert codes == routine
    assert {*routine, "look-for-causes", "lactation-consult"} == set(why(card)["interventions"])


def test_one_technique_alone_has_no_routine(content: Content) -> None:
    does = [
        observation("pump-sessions-24h", 10, 0.5),
        observation("hands-on-pumping", True),
        observation("pump-mode", "double"),
        observation("massage-while-pumping", True),
        observation("warm-compress", "before-and-during"),
        observation("breast-shield-fit", "good"),
        observation("skin-to-skin-minutes-24h", (90, "min")),
    ]
    card = cards_of(content, *inhibited(), *does)
    labels = [suggestion["label"] for suggestion in card["inhibited-letdown"]["suggestions"]]
    assert labels == ["Teach: relaxation while pumping", "Order a lactation consultation"]


def test_a_loss_is_not_spoken_of_as_a_routine(content: Content) -> None:
    lost = observation("infant-outcome", "stillborn", 10)
    card = cards_of(content, birth(10), lost)["after-loss"]
    labels = [suggestion["label"] for suggestion in card["suggestions"]]
    assert labels[0] == "Hand over both"
    assert not any(suggestion.get("isRecommended") for suggestion in card["suggestions"])


def test_accepting_the_whole_counts_for_each_technique_on_the_dashboard(
    content: Content, settings: Settings, hears_at_once: None
) -> None:
    own = settings.model_copy(update={"dashboard_password": SecretStr(PASSWORD)})
    client = create_app(own, content, lambda: NOW).test_client()
    for _ in range(6):
        card = view(client, content)
        taken = {
            "card": card["uuid"],
            "outcome": "accepted",
            "acceptedSuggestions": [{"id": card["suggestions"][0]["uuid"]}],
            "outcomeTimestamp": NOW.isoformat(),
        }
        assert client.post(f"{VIEW}/feedback", json={"feedback": [taken]}).status_code == 200

    def told() -> bool:
        text = client.get("/dashboard/report.csv", auth=("any", PASSWORD)).text
        return all(f"intervention,{name},accepted,6\n" in text for name in ROUTINE)

    soon(told)


# --- the handout --------------------------------------------------------------------------------


def test_a_card_that_teaches_links_to_the_handout_of_it(
    content: Content, settings: Settings
) -> None:
    there = settings.model_copy(update={"base_url": "https://cds.example.org"})
    client = create_app(there, content, lambda: NOW).test_client()
    card = view(client, content, observation("pump-type", "manual"))
    (link,) = [link for link in card["links"] if link["label"] == "Handout for her"]
    assert link["type"] == "absolute"
    assert link["url"] == f"https://cds.example.org/handouts/{'+'.join(ROUTINE)}"
    page = client.get(link["url"].removeprefix("https://cds.example.org"))
    assert page.status_code == 200
    assert "Massage both breasts" in page.text


def test_where_nobody_said_the_address_of_the_service_no_card_links_to_it(
    content: Content, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CDS_BASE_URL", raising=False)
    nowhere = Settings(**settings.model_dump(exclude={"base_url"}))
    card = view(create_app(nowhere, content, lambda: NOW).test_client(), content)
    assert "Handout for her" not in str(card)
    assert "127.0.0.1" not in str(card)


def test_a_card_that_teaches_nothing_has_no_handout(client: FlaskClient, content: Content) -> None:
    poor = observation("milk-transfer-adequate", False)
    answer = client.post(VIEW, json=hook_request(content, birth(100), poor))
    (consult,) = answer.get_json()["cards"]
    assert consult["source"]["topic"]["code"] == "lactation-consult"
    assert "Handout for her" not in str(consult)
