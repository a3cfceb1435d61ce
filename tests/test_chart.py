"""The chart: six ways for a prefetch key to come back, and whose records count."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.chart import (
    AS_WRITTEN,
    IN_PART,
    READ,
    Answer,
    Chart,
    Resource,
    State,
    category_of,
    decode,
    member_of,
    read_answer,
)

from .mothers import HER, milk


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


def test_a_resource_under_several_keys_counts_once() -> None:
    one = milk(1, 1)
    sent = {"a": one, "b": one, "c": dict(one)}
    answers = {key: Answer(State.COMPLETE, [each]) for key, each in sent.items()}
    assert Chart(HER, answers).hers("Observation") == [one]


# --- what is decoded ----------------------------------------------------------------------------


ATOMS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
SOME_READ = [*READ[:12], "valueQuantity", "value", "unit"]
NAMES = st.sampled_from([*SOME_READ, "meta", "entry", "link", "issue"]) | st.text()
VALUES = st.recursive(
    ATOMS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=10,
)
TYPED = st.dictionaries(NAMES, VALUES).map(lambda members: {**members, "resourceType": "Task"})
ENTRIES = st.lists(VALUES | st.fixed_dictionaries({"resource": VALUES | TYPED}), max_size=4)
BUNDLES = st.builds(lambda entry: {"resourceType": "Bundle", "entry": entry}, VALUES | ENTRIES)


def lean(resources: list[Resource]) -> list[Resource]:
    """What is read of them: of a category, what it says; of a subject, one member; and so on."""
    found = []
    for resource in resources:
        read = {name: resource[name] for name in READ if name in resource}
        read |= {name: member_of(resource, name) for name in AS_WRITTEN if name in resource}
        for name, kind in IN_PART.items():
            if isinstance(read.get(name), dict):
                read[name] = msgspec.convert(read[name], kind)
        found.append(read)
    return found


@given(VALUES | TYPED | BUNDLES)
def test_what_is_decoded_is_the_same_but_for_what_nothing_reads(value: Any) -> None:
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    decoded, whole = read_answer(decode(body)), read_answer(orjson.loads(body))
    assert lean(decoded.resources) == lean(whole.resources)
    assert (decoded.state, decoded.reason, decoded.next_url) == (
        *(whole.state, whole.reason),
        whole.next_url,
    )


def test_what_nothing_reads_is_not_decoded() -> None:
    sent = bundle({**milk(1, 1), "meta": {"versionId": "1"}, "note": [{"text": "x"}]})
    (resource,) = read_answer(decode(orjson.dumps(sent))).resources
    whole = milk(1, 1) | {"id": resource["id"]}
    assert lean([resource]) == lean([whole])
    assert resource.keys() == whole.keys()


def test_a_category_that_is_no_list_says_nothing() -> None:
    for category in (b"3", b'"medication"', b"null"):
        body = b'{"resourceType": "AllergyIntolerance", "category": ' + category + b"}"
        (allergy,) = read_answer(decode(body)).resources
        assert category_of(allergy) == []


LATIN_1 = [
    b'{"resourceType": "Task", "%s": ["\xe9"]}' % name for name in (b"category", b"meta", b"id")
]


@pytest.mark.parametrize("body", LATIN_1)
def test_what_is_not_utf_8_is_not_decoded_though_nothing_reads_it(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        decode(body)
    assert read_answer(decode(body.decode("latin-1").encode())).state is State.COMPLETE


@pytest.mark.parametrize("body", [b"", b"{", b'{"resourceType": "Bundle"', b"[" * 5000, b"\xff"])
def test_what_is_no_json_is_not_decoded(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        decode(body)


def test_what_is_deep_is_decoded_as_far_as_it_is_json() -> None:
    deep = b'{"resourceType":"Task","x":' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert read_answer(decode(deep)).state is State.COMPLETE
    with pytest.raises(orjson.JSONDecodeError):
        decode(b'{"resourceType":"Task","id":' + b"[" * 2000 + b"]" * 2000 + b"}")
