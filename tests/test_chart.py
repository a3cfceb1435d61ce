"""The chart: six ways for a prefetch key to come back, and whose records count."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.chart import State, read_answer

from .mothers import milk


def bundle(*entries: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "entry": [{"resource": entry} for entry in entries],
        **members,
    }


def outcome(severity: str, code: str = "timeout") -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": code}]}


NEXT = {"link": [{"relation": "next", "url": "https://fhir.example.org/r4?page=2"}]}


@pytest.mark.rule("prefetch-empty", "prefetch-failed")
@pytest.mark.parametrize(
    ("value", "state", "held"),
    [
        (None, State.NULL, 0),
        (bundle(), State.EMPTY, 0),
        ({"resourceType": "Bundle"}, State.EMPTY, 0),
        (outcome("error"), State.FAILED, 0),
        (bundle(outcome("error")), State.FAILED, 0),
        (bundle(milk(1, 1), outcome("error")), State.PARTIAL, 1),
        (bundle(milk(1, 1), outcome("information")), State.COMPLETE, 1),
        (bundle(outcome("warning")), State.EMPTY, 0),
        (bundle(milk(1, 1), **NEXT), State.PARTIAL, 1),
        (bundle(milk(1, 1), milk(2, 2)), State.COMPLETE, 2),
        (milk(1, 1), State.COMPLETE, 1),
        ("a string", State.FAILED, 0),
        ([], State.FAILED, 0),
        ({}, State.FAILED, 0),
        ({"resourceType": "Bundle", "entry": "x", "link": 3}, State.EMPTY, 0),
        ({"resourceType": "Bundle", "entry": [None, 1, {}, {"resource": {}}]}, State.EMPTY, 0),
    ],
)
def test_the_states_are_told_apart(value: Any, state: State, held: int) -> None:
    answer = read_answer(value)
    assert answer.state is state
    assert len(answer.resources) == held


def test_a_failure_is_told_by_its_code_and_never_by_its_text() -> None:
    told = read_answer(outcome("error", "timeout") | {"text": {"div": "Jane Doe"}})
    assert told.reason == "the record system reported 'timeout'"
    odd = read_answer(outcome("error", "Jane Doe, MRN 12345"))
    assert "Jane" not in odd.reason


def test_a_bundle_needs_no_type_and_a_next_link_is_kept() -> None:
    answer = read_answer(bundle(milk(1, 1), **NEXT))
    assert answer.next_url == "https://fhir.example.org/r4?page=2"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceType", "entry", "resource", "link", "issue", "x"]), inner
        )
    ),
    max_leaves=10,
)


@given(json_values)
def test_anything_at_all_has_a_state(value: Any) -> None:
    assert read_answer(value).state in State
