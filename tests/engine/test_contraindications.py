"""Galactagogues (R13 to R15, S1 to S3): last, and only if no contraindication is present."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from tests.support.mothers import (
    CLEAR,
    NONE_KNOWN,
    allergy,
    answer_of,
    average,
    cards_of,
    medicine,
    observation,
    why,
    without_response,
)

OPEN: dict[str, Any] = {
    "qtc-interval": (460, "ms"),
    "potassium": (3.4, "mmol/L"),
    "magnesium": (1.6, "mg/dL"),
} | {fact: True for fact, value in CLEAR.items() if value is False}
OF_DOMPERIDONE = list(CLEAR)[:8]
OF_METOCLOPRAMIDE = [
    "gastrointestinal-bleeding-or-obstruction",
    "tardive-dyskinesia-or-dystonia",
    "phaeochromocytoma",
    "epilepsy",
    "depression-history",
    "parkinson-disease",
    "psychosis-or-mania",
]


def offered(
    content: Content,
    *records: dict[str, Any],
    allergies: tuple[dict[str, Any], ...] = (NONE_KNOWN,),
    jurisdiction: str = "GB",
) -> set[str]:
    cards = cards_of(content, *records, *allergies, jurisdiction=jurisdiction)
    card = cards.get("galactagogue-options")
    return set(why(card).get("interventions", ())) if card else set()


def test_with_every_contraindication_absent_both_may_be_talked_about(content: Content) -> None:
    records = without_response(**CLEAR)
    assert offered(content, *records) == {"domperidone", "metoclopramide"}


@pytest.mark.parametrize("fact", OF_DOMPERIDONE)
def test_each_contraindication_of_domperidone(content: Content, fact: str) -> None:
    _assert_not_offered(content, "domperidone", fact)


@pytest.mark.parametrize("fact", OF_METOCLOPRAMIDE)
def test_each_contraindication_of_metoclopramide(content: Content, fact: str) -> None:
    _assert_not_offered(content, "metoclopramide", fact)


def _assert_not_offered(content: Content, option: str, fact: str) -> None:
    unrecorded = {name: value for name, value in CLEAR.items() if name != fact}
    for recorded, said in ((unrecorded, "unknown"), (CLEAR | {fact: OPEN[fact]}, "present")):
        records = [*without_response(**recorded), NONE_KNOWN]
        card = cards_of(content, *records, jurisdiction="GB")["galactagogue-options"]
        assert option not in why(card).get("interventions", ())
        checked = why(card)["contraindications"][option]
        assert len(checked[said]) == 1
        by_old_names = why(card)["guards"][option]
        for word, older in (("present", "open"), ("unknown", "unchecked"), ("absent", "clear")):
            assert checked[word] == by_old_names[older]
        told = {"unknown": "Not known", "present": "Against it"}[said]
        assert f"- {told}: " in card["detail"]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("escitalopram", "domperidone"),
        ("methadone", "domperidone"),
        ("clarithromycin", "domperidone"),
        ("fluconazole", "domperidone"),
        ("quetiapine", "metoclopramide"),
        ("paroxetine", "metoclopramide"),
        ("a medicine that nobody knows", "domperidone"),
        ("a medicine that nobody knows", "metoclopramide"),
    ],
)
def test_a_medicine_can_close_the_way(content: Content, name: str, option: str) -> None:
    taken = medicine(medicationCodeableConcept={"text": name})
    assert option not in offered(content, *without_response(**CLEAR), taken)


def test_a_medicine_is_harmless_only_once_its_effects_were_looked_through(
    content: Content, tmp_path: Path
) -> None:
    taken = medicine(medicationCodeableConcept={"text": "ibuprofen"})
    records = without_response(**CLEAR)
    assert offered(content, *records, taken) == set()
    (tmp_path / "own.yaml").write_text("medicines: [{id: ibuprofen, effects-known: true}]")
    reviewed = load_content(tmp_path)
    assert offered(reviewed, *records, taken) == {"domperidone", "metoclopramide"}


def test_not_before_a_day_of_the_measures_and_not_with_usual_milk(content: Content) -> None:
    assert "galactagogue-options" in cards_of(content, *without_response(24))
    assert "galactagogue-options" not in cards_of(content, *without_response(23.9))
    plenty = [*average(), *without_response(25)[10:]]
    assert "galactagogue-options" not in cards_of(content, *plenty)


def test_no_medicine_is_ever_offered_as_an_order(content: Content) -> None:
    kinds = {resource["resourceType"] for resource in content.suggested.values()}
    assert "MedicationRequest" not in kinds
    card = cards_of(content, *without_response(**CLEAR))["galactagogue-options"]
    assert "suggestions" not in card


@pytest.mark.parametrize(
    "red_flag",
    [
        observation("breast-redness", True),
        observation("depression-score", 14),
        observation("depression-item-10", 1),
        observation("thyroid-disease", True),
        medicine(medicationCodeableConcept={"text": "pseudoephedrine"}),
    ],
)
def test_a_red_flag_withholds_the_card(content: Content, red_flag: dict[str, Any]) -> None:
    values = {name: value for name, value in CLEAR.items() if name != "depression-score"}
    assert "galactagogue-options" not in cards_of(content, *without_response(**values), red_flag)


@pytest.mark.slow
@given(
    recorded=st.sets(st.sampled_from(sorted(CLEAR))), opened=st.sets(st.sampled_from(sorted(OPEN)))
)
def test_less_known_or_more_against_it_never_adds_an_offer(
    content: Content, recorded: set[str], opened: set[str]
) -> None:
    values = {fact: CLEAR[fact] for fact in recorded}
    before = offered(content, *without_response(**values))
    worse = values | {fact: OPEN[fact] for fact in opened}
    assert offered(content, *without_response(**worse)) <= before
    full = offered(content, *without_response(**CLEAR))
    assert before <= full


def test_her_medicine_for_milk_is_not_offered_again(content: Content) -> None:
    taken = medicine(medicationCodeableConcept={"text": "domperidone"})
    card = cards_of(content, *without_response(**CLEAR), taken)["galactagogue-options"]
    assert "Domperidone" not in card["detail"]


@pytest.mark.parametrize(
    ("allergies", "left"),
    [
        ((), set()),  # nobody asked
        ((allergy("716186003"),), {"domperidone", "metoclopramide"}),
        ((allergy(text="Amoxicillin"),), {"domperidone", "metoclopramide"}),
        ((allergy(text="Peanut", category=["food"]),), set()),  # says nothing of medicines
        (
            (allergy(text="Some new drug", category=["medication"]),),
            {"domperidone", "metoclopramide"},
        ),
        ((NONE_KNOWN, allergy("000")), set()),  # one that cannot be read
        ((allergy(text="Metoclopramide (dystonia)"),), {"domperidone"}),
        ((NONE_KNOWN, allergy(text="Motilium")), {"metoclopramide"}),
    ],
)
def test_a_list_of_allergies_counts_once_medicines_were_asked_about(
    content: Content, allergies: tuple[dict[str, Any], ...], left: set[str]
) -> None:
    assert offered(content, *without_response(**CLEAR), allergies=allergies) == left


def test_the_category_of_an_allergy_counts_as_it_is_sent(content: Content) -> None:
    for category, asked in (["food"], False), (["food", "medication"], True):
        hers = allergy(text="Some new drug", category=category)
        cards = cards_of(content, *without_response(**CLEAR), hers, jurisdiction="GB")
        assert ("interventions" in why(cards["galactagogue-options"])) is asked


@pytest.mark.parametrize(
    "status",
    [
        {"verificationStatus": {"coding": [{"code": "refuted"}]}},
        {"verificationStatus": {"coding": [{"code": "entered-in-error"}]}},
        {"clinicalStatus": {"coding": [{"code": "resolved"}]}},
    ],
)
def test_an_allergy_that_is_none_does_not_count(content: Content, status: dict[str, Any]) -> None:
    allergies = (NONE_KNOWN, allergy(text="Domperidone", **status))
    left = offered(content, *without_response(**CLEAR), allergies=allergies)
    assert left == {"domperidone", "metoclopramide"}


def test_allergies_that_could_not_be_read_are_not_clear(content: Content) -> None:
    failed = answer_of({"resourceType": "OperationOutcome", "issue": []})
    cards = cards_of(content, *without_response(**CLEAR), jurisdiction="GB", allergies=failed)
    card = cards["galactagogue-options"]
    assert "interventions" not in why(card)
    assert "- Not known: allergy." in card["detail"]


@pytest.mark.parametrize(("country", "left"), [("GB", 2), ("US", 1), ("NZ", 1)])
def test_domperidone_is_offered_only_where_it_is_known_to_be_licensed(
    content: Content, country: str, left: int
) -> None:
    assert len(offered(content, *without_response(**CLEAR), jurisdiction=country)) == left
