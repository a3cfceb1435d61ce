"""Medicines together (P22): each interaction in both directions, once, and a hospital's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.content.files import ContentError
from cds_service.content.loader import load_content
from cds_service.content.schema import Interaction, Medicine
from cds_service.engine.together import SAYS, TO_WARN_OF
from cds_service.settings import Settings
from tests.support.calls import fire
from tests.support.mothers import NOW, birth, cards_of, hook_request, medicine, plan, why
from tests.support.once import shipped_content
from tests.support.orders import draft, order_request

SHIPPED = shipped_content()
PAIRS = sorted(SHIPPED.pairs)
INVOLVED = sorted(SHIPPED.paired)
# Effects that no interaction is about: what they do is to milk or to the infant.
OF_NO_INTERACTION = {"lowers-supply", "galactagogue", "sedating", "opioid-treatment"}
OF_NO_INTERACTION |= {"antidepressant"}


def taken(name: str) -> dict[str, Any]:
    return medicine(medicationCodeableConcept={"text": SHIPPED.medicines[name].names[0]})


def mother(*medicines: str) -> list[dict[str, Any]]:
    return [birth(9 * 24), plan("nurse"), *(taken(name) for name in medicines)]


def told_pairs(cards: list[dict[str, Any]]) -> list[str]:
    """Each pair that a card speaks of, with the card's id before it."""
    return [
        entry["value"]
        for card in cards
        for entry in why(card).get("because", ())
        if "interaction" in entry
    ]


def names(*medicines: str) -> list[str]:
    return [SHIPPED.medicines[name].name for name in medicines]


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_each_pair_is_told_in_both_directions(
    client: FlaskClient, content: Content, valid: Any, pair: tuple[str, str]
) -> None:
    said = content.pairs[pair]
    words, line = SAYS[said.severity], said.line
    expected = ["+".join(sorted(pair))]

    request = hook_request(content, *mother(*pair))
    cards = fire(client, request, valid)
    assert told_pairs(cards) == expected
    (card,) = (c for c in cards if c["source"]["topic"]["code"] == "medicines-together")
    assert card["summary"] == f"{' with '.join(names(*pair))}: {words}. Ask pharmacy today."
    assert card["indicator"] == ("warning" if said.severity in TO_WARN_OF else "info")
    assert line in card["detail"]
    sources = [name for name in said.evidence if content.evidence[name].is_cited_in("US")]
    assert why(card)["evidence"] == sources
    assert sources

    for ordered, other in (pair, pair[::-1]):
        draft_of = draft(SHIPPED.medicines[ordered].names[0])
        beside = draft(SHIPPED.medicines[other].names[0], 2)
        for orders, records, hook in (
            ([draft_of], mother(other), "order-sign"),
            ([draft_of, beside], mother(), "order-select"),
        ):
            selections = ["MedicationRequest/draft-1"] if hook == "order-select" else None
            request = order_request(
                content, *orders, hook=hook, selections=selections, records=records
            )
            cards = fire(client, request, valid)
            assert told_pairs(cards) == expected, (hook, ordered)
            (card,) = (c for c in cards if told_pairs([c]))
            assert line in card["detail"]
            for name in names(*pair):
                assert name in card["detail"]
            if card["source"]["topic"]["code"] == "order-interacts":
                assert words in card["summary"]


def test_each_medicine_with_an_effect_that_interacts_is_in_a_pair(content: Content) -> None:
    effects = {effect for each in content.medicines.values() for effect in each.effects}
    interacting = {
        name
        for each in content.interactions.values()
        for name in (*each.one.of, *each.other.of)
        if name not in content.medicines
    }
    assert effects - OF_NO_INTERACTION == interacting
    for each in content.medicines.values():
        if not interacting.isdisjoint(each.effects):
            assert each.id in content.paired, each.id


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(INVOLVED), unique=True, max_size=7),
    st.lists(st.sampled_from(INVOLVED), unique=True, max_size=4),
    st.sampled_from(["US", "GB"]),
)
def test_no_pair_is_told_twice(active: list[str], ordered: list[str], country: str) -> None:
    cards = list(cards_of(SHIPPED, *mother(*active), jurisdiction=country).values())
    told = told_pairs(cards)
    expected = {"+".join(sorted((a, b))) for a in active for b in active if (a, b) in SHIPPED.pairs}
    assert sorted(told) == sorted(expected)
    if ordered:
        app = create_app(Settings(auth="open", jurisdiction=country), SHIPPED, lambda: NOW)
        orders = [
            draft(SHIPPED.medicines[name].names[0], number) for number, name in enumerate(ordered)
        ]
        request = order_request(SHIPPED, *orders, records=mother(*active))
        answer = app.test_client().post("/cds-services/lactation-order-sign", json=request)
        told = told_pairs(answer.get_json()["cards"])
        assert len(told) == len(set(told))


def test_the_most_severe_is_told_first_and_what_is_alike_in_one_line(content: Content) -> None:
    cards = cards_of(
        content, *mother("sertraline", "metoclopramide", "escitalopram", "domperidone", "methadone")
    )
    card = cards["medicines-together"]
    assert card["summary"] == (
        "Domperidone with Escitalopram, Methadone and 2 more: contraindicated together. "
        "Ask pharmacy today."
    )
    first, second = re.findall(r"^- (.*)$", card["detail"], re.MULTILINE)
    assert first.startswith("**Domperidone with Escitalopram, Methadone**: ")
    assert second.startswith("**Metoclopramide with Escitalopram, Sertraline**: ")


def test_what_was_understood_in_part_counts_too(content: Content) -> None:
    odd = medicine(medicationCodeableConcept={"text": "Domperidone Xyzzy 10 mg"})
    assert "medicines-together" in cards_of(content, *mother("escitalopram"), odd)


def test_a_hospital_lays_its_own_over_the_interactions(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        """
interactions:
  - {id: metoclopramide-and-serotonin, off: true}
  - {id: metoclopramide-and-cyp2d6, severity: avoid}
  - id: our-ondansetron
    rows: [P22]
    refines: domperidone-and-qt
    one: {of: [domperidone], short: domperidone}
    other: {of: [ondansetron], short: ondansetron}
    severity: caution
    line: Our ward looks at the ECG first.
    evidence: [ours]
    review: draft
  - id: our-own
    rows: [P22]
    one: {of: [domperidone], short: domperidone}
    other: {of: [cetirizine], short: cetirizine}
    severity: avoid
    line: Our pharmacy asks for another.
    evidence: [ours]
    review: draft
evidence:
  - id: ours
    authors: Pharmacy
    title: List 7
    source: our hospital
    year: 2026
    url: https://example.org/7
    says: these
    verified: ours
"""
    )
    own = load_content(tmp_path)

    def severity(*medicines: str) -> str | None:
        card = cards_of(own, *mother(*medicines)).get("medicines-together")
        return why(card)["because"][0]["severity"] if card else None

    assert severity("metoclopramide", "sertraline") is None
    assert severity("metoclopramide", "paroxetine") == "avoid"
    assert severity("domperidone", "ondansetron") == "caution"
    assert severity("domperidone", "escitalopram") == "contraindicated"
    assert severity("cetirizine", "domperidone") == "avoid"
    # What it adds holds back what would be recommended, too.
    contraindications = own.interventions["domperidone"].contraindications
    assert "our-own-with-domperidone" in contraindications
    assert "our-ondansetron-with-domperidone" not in contraindications


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("other: {of: [nobody-knows], short: x}", "'nobody-knows' is no medicine, and no effect"),
        ("other: {of: [avoid], short: x}", "'avoid' is no medicine, and no effect"),
        ("evidence: [nowhere]", "there is no 'nowhere' in evidence"),
        ("refines: nothing", "there is no 'nothing' in interactions"),
        (
            "refines: ergot-and-cyp3a4",
            "domperidone with citalopram is no pair of ergot-and-cyp3a4, which it refines",
        ),
        ("severity: bad", "severity"),
    ],
)
def test_an_interaction_that_cannot_be_meant_is_a_fault(
    tmp_path: Path, field: str, reason: str
) -> None:
    (tmp_path / "own.yaml").write_text(f"interactions: [{{id: domperidone-and-qt, {field}}}]")
    with pytest.raises(ContentError, match=re.escape(reason)):
        load_content(tmp_path)


def test_a_condition_on_an_unknown_interaction_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "cards: [{id: medicines-together, when: {together: nothing}}]"
    )
    with pytest.raises(ContentError, match="there is no 'nothing' in interactions"):
        load_content(tmp_path)


def test_a_medicine_does_not_interact_with_itself(content: Content) -> None:
    assert all(one != other for one, other in content.pairs)
    both = [each for each in content.pairs if each[::-1] in content.pairs]
    assert both == []
    metoclopramide: Medicine = content.medicines["metoclopramide"]
    interaction: Interaction = content.interactions["metoclopramide-and-dopamine"]
    assert interaction.opposite(metoclopramide) is interaction.other


WORD = re.compile(r"[^\W_]+")
EVERY = sorted(SHIPPED.medicines)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([*INVOLVED, *INVOLVED, *EVERY]), max_size=60, unique=True),
    st.lists(st.sampled_from(INVOLVED), max_size=6, unique=True),
    st.integers(0, 6),
    st.sampled_from(["US", "GB", "NZ"]),
)
@example([], ["domperidone", "erythromycin", "bromocriptine"], 0, "US")  # 121 words once
@example(["amiodarone", "fluconazole"], ["domperidone", "sotalol", "haloperidol"], 0, "GB")  # too
def test_a_card_about_many_medicines_reads_in_thirty_seconds(
    active: list[str], ordered: list[str], strange: int, country: str
) -> None:
    unknown = [
        medicine(medicationCodeableConcept={"text": f"Zorbalimab Forte {number}"})
        for number in range(strange)
    ]
    records = [*mother(*active), *unknown]
    cards = list(cards_of(SHIPPED, *records, jurisdiction=country).values())
    if ordered:
        app = create_app(Settings(auth="open", jurisdiction=country), SHIPPED, lambda: NOW)
        drafts = [
            draft(SHIPPED.medicines[name].names[0], number) for number, name in enumerate(ordered)
        ]
        request = order_request(SHIPPED, *drafts, records=records)
        answer = app.test_client().post("/cds-services/lactation-order-sign", json=request)
        cards += answer.get_json()["cards"]
    for card in cards:
        assert len(card["summary"]) <= 139
        own = card["detail"].partition("\n\nNot shown, as less urgent")[0]
        assert len(WORD.findall(f"{card['summary']} {own}")) <= 120, card
