"""The assessment of letdown: which facts are enough for which conclusion, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cds_service.content.compiled import Content
from cds_service.content.files import ContentError
from cds_service.content.loader import load_content
from cds_service.engine.findings import Conclusion, say_conclusions
from tests.support.mothers import average, birth, findings_of, inhibited, observation


def assess(content: Content, *records: dict[str, Any]) -> dict[str, Conclusion]:
    findings = findings_of(content, *records)
    return {c.finding.id: c for c in findings.assess(content.assessments["letdown"])}


def said(content: Content, *records: dict[str, Any]) -> str:
    return say_conclusions(assess(content, *records).values())


FUSSY = observation("infant-fussy-at-breast", True)
ADEQUATE = observation("milk-transfer-adequate", True)
MOOD = observation("letdown-dysphoria", True)
BELIEF = observation("perceived-low-supply", True)
NONE_OF_THE_REST = [
    observation("infant-fussy-at-breast", False),
    observation("letdown-dysphoria", False),
    observation("perceived-low-supply", False),
]


@pytest.mark.parametrize(
    ("records", "conclusion"),
    [
        (inhibited(), "inhibited letdown"),
        ([birth(100), FUSSY, ADEQUATE], "forceful letdown"),
        ([*inhibited(), FUSSY, ADEQUATE], "forceful letdown"),
        (average(), "average letdown"),
        ([birth(100), MOOD, ADEQUATE], "dysphoric milk ejection reflex (D-MER)"),
        (
            [*average(), BELIEF],
            "average letdown and supply believed to be low, with usual volumes",
        ),
        ([birth(100)], "not assessable"),
        (
            [*average()[:-1], observation("letdown-sensation", False), *NONE_OF_THE_REST],
            "none of these",
        ),
    ],
)
def test_which_facts_are_enough_for_which_conclusion(
    content: Content, records: list[dict[str, Any]], conclusion: str
) -> None:
    assert said(content, *records) == conclusion


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        ("breast-fullness", ["breast fullness"]),
        ("pump-session-minutes", ["length of a pumping session"]),
        ("letdown-sensation", ["letdown sensation"]),
        ("delivery-time", ["time of birth"]),
    ],
)
def test_each_conclusion_names_what_is_missing_for_it(
    content: Content, left_out: str, missing: list[str]
) -> None:
    records = [r for r in inhibited() if r["code"]["coding"][0]["code"] != left_out]
    concluded = assess(content, *records)["inhibited-letdown"]
    assert concluded.holds is None
    assert concluded.missing == missing


def test_a_part_of_a_day_is_neither_little_nor_usual(content: Content) -> None:
    """Four hours of records do not tell the volume of a day."""
    hours = [observation("expressed-milk-volume", (60, "mL"), h) for h in (1, 4)]
    felt = observation("letdown-sensation", True)
    concluded = assess(content, birth(24 * 10), *hours, felt)["average-letdown"]
    assert concluded.words["volume"] == ("usual", None)
    assert concluded.missing == ["expressed milk"]


def test_what_is_known_to_be_otherwise_is_not_missing(content: Content) -> None:
    soft = observation("breast-fullness", "soft")
    concluded = assess(content, birth(100), soft)["inhibited-letdown"]
    assert concluded.holds is False
    assert concluded.missing == []
    assert concluded.words["breasts"] == ("full", False)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("{no-such-finding: [full]}", "no-such-finding: there is no such finding"),
        ("{average-letdown: [full, full]}", "average-letdown: it needs a word, or a dot, for each"),
        ("{average-letdown: [empty]}", "average-letdown: 'empty' is no word of breasts"),
        ("{average-letdown: [.]}", "no line says 'full' of breasts"),
        (
            "{breast-infection-signs: [full]}",
            "breast-infection-signs: its 'when' is made from this line",
        ),
    ],
)
def test_a_wrong_table_stops_the_start_with_the_reason(
    tmp_path: Path, table: str, reason: str
) -> None:
    columns = "{breasts: {full: {fact: breast-fullness, is: full}}}"
    own = f"assessments: [{{id: letdown, columns: {columns}, table: {table}}}]"
    (tmp_path / "own.yaml").write_text(own)
    with pytest.raises(ContentError) as wrong:
        load_content(tmp_path)
    assert reason in str(wrong.value)


def test_a_hospital_can_change_the_table(tmp_path: Path, content: Content) -> None:
    shipped = content.assessments["letdown"]
    lines = {name: list(words) for name, words in shipped.table.items()}
    lines["inhibited-letdown"][0] = "."  # without the fullness
    lines["average-letdown"][0] = "full"
    table = ", ".join(f"{name}: [{', '.join(words)}]" for name, words in lines.items())
    (tmp_path / "own.yaml").write_text(f"assessments: [{{id: letdown, table: {{{table}}}}}]")
    records = [r for r in inhibited() if r["code"]["coding"][0]["code"] != "breast-fullness"]
    assert said(content, *records) == "not assessable"
    assert said(load_content(tmp_path), *records) == "inhibited letdown"
