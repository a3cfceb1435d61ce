"""What protects her comes on every chart hook, by whichever door she is met."""

from __future__ import annotations

import re

import pytest

from cds_service.app import create_app
from cds_service.authoring.vignettes import Vignette
from cds_service.content.compiled import Content
from cds_service.demo.ehr import example_request
from cds_service.settings import Settings
from tests.support.calls import fire
from tests.support.mothers import NOW, birth, hook_request, observation
from tests.support.vignettes import MOTHERS, client_of

CHART_HOOKS = ("patient-view", "encounter-start", "encounter-discharge")


@pytest.mark.slow
@pytest.mark.parametrize(
    "mother",
    [mother for mother in MOTHERS if mother.expected.hook in CHART_HOOKS],
    ids=lambda mother: mother.name,
)
def test_what_is_critical_or_protects_her_comes_on_all_three_chart_hooks(
    content: Content, settings: Settings, mother: Vignette
) -> None:
    request = example_request(content, mother)
    client = client_of(content, settings, mother)
    seen: dict[str, set[str]] = {}
    for hook in CHART_HOOKS:
        cards = fire(client, {**request, "hook": hook})
        seen[hook] = {
            card["source"]["topic"]["code"]
            for card in cards
            if card["indicator"] == "critical"
            or content.cards[card["source"]["topic"]["code"]].never_suppressed
        }
    assert seen["encounter-start"] == seen["patient-view"]
    assert seen["encounter-discharge"] == seen["patient-view"]


@pytest.mark.parametrize(
    ("outcomes", "told"), [(("died", "alive"), True), (("alive", "alive"), False)]
)
def test_who_lost_one_of_several_is_met_with_that_first(
    content: Content, settings: Settings, outcomes: tuple[str, str], told: bool
) -> None:
    infants = [
        observation(
            "infant-outcome", outcome, 20, focus=[{"reference": f"Patient/infant-{number}"}]
        )
        for number, outcome in enumerate(outcomes)
    ]
    apart = observation("separated-from-infant", "yes", 3)
    client = create_app(settings, content, lambda: NOW).test_client()
    cards = fire(client, hook_request(content, birth(hours=30), apart, *infants))
    assert (cards[0]["summary"] == "One of her infants died. Speak of it first.") is told
    assert cards


@pytest.mark.parametrize(
    "mother",
    [
        mother
        for mother in MOTHERS
        if {"P17"} & {*mother.expected.rows, *mother.expected.near_misses}
    ],
    ids=lambda mother: mother.name,
)
def test_who_lactates_for_another_child_or_bore_one_for_others_is_not_called_mother(
    content: Content, settings: Settings, mother: Vignette
) -> None:
    request = example_request(content, mother)
    client = client_of(content, settings, mother)
    for hook in CHART_HOOKS:
        for card in fire(client, {**request, "hook": hook}):
            written = [
                f"{action['description']} {action.get('resource')}"
                for suggestion in card.get("suggestions", ())
                for action in suggestion["actions"]
            ]
            text = " ".join([card["summary"], card["detail"], *written])
            assert "mother" not in re.sub(r"\w*/mother-[\w-]+|mother-[\w-]+", "", text).lower()
