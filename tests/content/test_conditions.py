"""Conditions in three values: what is not known is never a "no" (row S10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.content.compiled import Content
from cds_service.content.conditions import All, AnyOf, Condition, Not, Truth, compile_condition
from tests.support.mothers import birth, findings_of, medicine, milk, observation

TRUTHS = st.sampled_from([True, False, None])


class WrittenConcept(Condition):
    """A condition that says what it is told."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    def test(self, case: Any) -> Truth:
        return self.truth

    def missing(self, case: Any) -> Iterator[str]:
        yield "something"


@given(st.lists(TRUTHS, min_size=1, max_size=5))
def test_filling_in_what_is_unknown_never_turns_an_answer_around(truths: list[Truth]) -> None:
    for combine in (All, AnyOf):
        answer = combine([WrittenConcept(truth) for truth in truths]).test(None)  # type: ignore[arg-type]
        for filled in (True, False):
            known = [filled if truth is None else truth for truth in truths]
            later = combine([WrittenConcept(truth) for truth in known]).test(None)  # type: ignore[arg-type]
            assert answer is None or answer == later


@given(st.lists(TRUTHS, min_size=1, max_size=5))
def test_not_all_is_any_not(truths: list[Truth]) -> None:
    parts: list[Condition] = [WrittenConcept(truth) for truth in truths]
    inverted: list[Condition] = [Not(part) for part in parts]
    assert Not(All(parts)).test(None) == AnyOf(inverted).test(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "written",
    [
        None,
        {},
        [],
        "letdown-sensation",
        {"fact": "letdown-sensation"},
        {"fact": "letdown-sensation", "is": True},
        {"jurisdiction": "us"},
        {"newest": "stimulant-use", "within": 14},
        {"began": "varicella", "around": "delivery-time", "before": "5 d", "after": "two"},
        {"jurisdiction": ["GB", "Ireland"]},
        {"fact": "pump-sessions-24h", "below": True},
        {"fact": "pump-sessions-24h", "under": 8},
        {"fact": "pump-sessions-24h", "below": 8, "above": 2},
        {"all": []},
        {"any": {"fact": "x", "is": "y"}},
        {"all": [{"fact": "x", "is": "y"}], "any": [{"fact": "x", "is": "y"}]},
        {"finding": ""},
        {"taking": ""},
    ],
)
def test_what_cannot_be_asked_is_refused_when_it_is_read(written: Any) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        compile_condition(written)


def taken(name: str) -> dict[str, Any]:
    return medicine(medicationCodeableConcept={"text": name})


@pytest.mark.parametrize(
    ("written", "resources", "truth"),
    [
        (
            {"fact": "letdown-sensation", "is": "no"},
            [observation("letdown-sensation", False)],
            True,
        ),
        (
            {"fact": "letdown-sensation", "is": "no"},
            [observation("letdown-sensation", True)],
            False,
        ),
        ({"fact": "letdown-sensation", "is": "no"}, [], None),
        ({"fact": "pump-sessions-24h", "below": 8}, [observation("pump-sessions-24h", 7)], True),
        ({"fact": "pump-sessions-24h", "below": 8}, [observation("pump-sessions-24h", 8)], False),
        ({"fact": "pump-sessions-24h", "at-most": 8}, [observation("pump-sessions-24h", 8)], True),
        ({"fact": "pump-sessions-24h", "below": 8}, [], None),
        ({"recorded": "delivery-time"}, [birth(20)], True),
        ({"recorded": "delivery-time"}, [], False),
        ({"recorded": "delivery-time"}, [birth(24 * 400)], False),
        (
            {"fact": "expressed-milk-volume.longest-gap", "above": "6 h"},
            [milk(20, hours) for hours in (27, 20, 12, 9, 5, 1)],
            True,
        ),
        (
            {
                "fact": "expressed-milk-volume.sum",
                "below": {"curve": "expected-volume", "line": "low"},
            },
            [birth(5 * 24), *(milk(20, hours) for hours in (25, 20, 15, 10, 5, 1))],
            True,
        ),
        (
            {
                "fact": "expressed-milk-volume.sum",
                "below": {"curve": "expected-volume", "line": "low"},
            },
            [milk(20, hours) for hours in (25, 20, 15, 10, 5, 1)],
            None,
        ),
        ({"ordered": "lactation-consult"}, [], False),
        ({"taking": "any"}, [], False),
        ({"taking": "lowers-supply"}, [], False),
        ({"taking": "lowers-supply"}, [taken("pseudoephedrine")], True),
        ({"taking": "lowers-supply"}, [taken("ibuprofen")], None),
        ({"taking": "ibuprofen"}, [taken("ibuprofen")], True),
        ({"taking": "ibuprofen"}, [taken("sertraline")], False),
        ({"taking": "ibuprofen"}, [taken("sertraline"), taken("Xylomed")], None),
        (
            {"fact": "massage-while-pumping.held", "at-least": "24 h"},
            [observation("massage-while-pumping", True, hours) for hours in (24, 3)],
            True,
        ),
        (
            {"fact": "massage-while-pumping.held", "at-least": "24 h"},
            [observation("massage-while-pumping", True, hours) for hours in (23.9, 3)],
            False,
        ),
        (
            {"fact": "massage-while-pumping.held", "at-least": "24 h"},
            [
                observation("massage-while-pumping", True, 40),
                observation("massage-while-pumping", False, 20),
                observation("massage-while-pumping", True, 2),
            ],
            False,
        ),
        ({"fact": "massage-while-pumping.held", "at-least": "24 h"}, [], None),
    ],
)
def test_each_form(
    content: Content, written: Any, resources: list[dict[str, Any]], truth: Truth
) -> None:
    assert compile_condition(written).test(findings_of(content, *resources)) is truth


def test_what_is_missing_is_named(content: Content) -> None:
    condition = compile_condition(
        {
            "all": [
                {"fact": "letdown-sensation", "is": "no"},
                {"fact": "breast-fullness", "is": "full"},
            ]
        }
    )
    case = findings_of(content, observation("breast-fullness", "full"))
    assert list(condition.missing(case)) == ["letdown-sensation"]
