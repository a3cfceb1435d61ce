"""What protects her comes on every chart hook, by whichever door she is met."""

from __future__ import annotations

import pytest

from cds_service.content import Content
from cds_service.demo.ehr import example_request
from cds_service.settings import Settings
from cds_service.vignettes import Vignette

from .test_vignettes import MOTHERS, client_of, fire

CHART_HOOKS = ("patient-view", "encounter-start", "encounter-discharge")


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
            or content.cards[card["source"]["topic"]["code"]].never_quiet
        }
    assert seen["encounter-start"] == seen["patient-view"]
    assert seen["encounter-discharge"] == seen["patient-view"]
