"""The chart: six ways for a prefetch key to come back, and whose records count."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, get_args

import msgspec
import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given
from hypothesis import strategies as st

import cds_service
from cds_service.content.compiled import Content
from cds_service.engine import facts, findings, medicines, patient, unmapped
from cds_service.engine.decoder import AS_WRITTEN, IN_PART, READ, decode
from cds_service.fhir import chart
from cds_service.fhir.chart import (
    SAY_LEFT_OUT,
    Chart,
    KeyResult,
    LeftOut,
    Resource,
    State,
    category_of,
    member_of,
    read_result,
)
from tests.support.mothers import HER, answer_of, milk


def bundle(*entries: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "entry": [{"resource": entry} for entry in entries],
        **members,
    }


def outcome(*severities: Any, code: str = "timeout") -> dict[str, Any]:
    issues = [{"severity": severity, "code": code} for severity in severities]
    return {"resourceType": "OperationOutcome", "issue": issues}


NEXT = {"link": [{"relation": "next", "url": "https://fhir.example.org/r4?page=2"}]}


@pytest.mark.rule("prefetch-empty", "prefetch-failed")
@pytest.mark.parametrize(
    ("value", "state", "held"),
    [
        (None, State.NULL, 0),
        (bundle(), State.EMPTY, 0),
        ({"resourceType": "Bundle"}, State.EMPTY, 0),
        (outcome("error"), State.FAILED, 0),
        (outcome("warning"), State.FAILED, 0),
        (outcome("information"), State.FAILED, 0),
        (bundle(milk(1, 1), **NEXT), State.PARTIAL, 1),
        (bundle(milk(1, 1), milk(2, 2)), State.COMPLETE, 2),
        (milk(1, 1), State.COMPLETE, 1),
        ("a string", State.FAILED, 0),
        ([], State.FAILED, 0),
        ({}, State.FAILED, 0),
        (bundle(milk(1, 1), total=1), State.COMPLETE, 1),
        (bundle(milk(1, 1), total=0), State.COMPLETE, 1),
        (bundle(milk(1, 1), total=2), State.PARTIAL, 1),
        (bundle(milk(1, 1), total="2"), State.COMPLETE, 1),
        (bundle(total=2), State.FAILED, 0),
        (bundle(total=0), State.EMPTY, 0),
        (bundle(bundle(milk(1, 1))), State.FAILED, 0),
        (bundle(bundle(milk(1, 1)), milk(1, 1)), State.PARTIAL, 1),
        ({"resourceType": "Bundle", "entry": None, "link": 3}, State.EMPTY, 0),
        ({"resourceType": "Bundle", "entry": "x"}, State.FAILED, 0),
        ({"resourceType": "Bundle", "entry": {"resource": milk(1, 1)}}, State.FAILED, 0),
        ({"resourceType": "Bundle", "entry": [None, 1, {}, {"resource": {}}]}, State.FAILED, 0),
        ({"resourceType": "Bundle", "entry": [{"resource": milk(1, 1)}, {}]}, State.PARTIAL, 1),
    ],
)
def test_the_states_are_told_apart(value: Any, state: State, held: int) -> None:
    answer = answer_of(value)
    assert answer.state is state
    assert len(answer.resources) == held


@pytest.mark.rule("prefetch-warning")
@pytest.mark.parametrize(
    "mild",
    [
        outcome("warning", code="processing"),
        outcome("information"),
        outcome("success", code="success"),
        outcome("information", "warning", code="suppressed"),
    ],
)
def test_a_warning_among_the_entries_is_no_failure(mild: dict[str, Any]) -> None:
    assert answer_of(bundle(mild)).state is State.EMPTY
    for sent in (
        bundle(milk(1, 1), mild),
        bundle(mild, milk(1, 1)),
        bundle(mild, milk(1, 1), mild),
    ):
        answer = answer_of(sent)
        assert answer.state is State.COMPLETE
        assert [resource["resourceType"] for resource in answer.resources] == ["Observation"]
    page = answer_of(bundle(milk(1, 1), mild, **NEXT))
    assert (page.state, page.next_url) == (State.PARTIAL, NEXT["link"][0]["url"])


@pytest.mark.rule("prefetch-failed")
@pytest.mark.parametrize(
    "failed",
    [
        outcome("error"),
        outcome("fatal"),
        outcome("warning", "error"),
        outcome("warning", code="incomplete"),
        outcome(),
        outcome(None),
        outcome("unheard-of"),
        outcome(["warning"]),
        outcome({"warning": 1}),
        {"resourceType": "OperationOutcome"},
        {"resourceType": "OperationOutcome", "issue": "warning"},
        {"resourceType": "OperationOutcome", "issue": ["warning"]},
        {"resourceType": "OperationOutcome", "issue": {"severity": "warning"}},
    ],
)
def test_an_outcome_among_the_entries_that_is_no_warning_is_a_failure(
    failed: dict[str, Any],
) -> None:
    mild = outcome("warning")
    for sent in (bundle(failed), bundle(mild, failed)):
        assert answer_of(sent).state is State.FAILED
    for sent in (bundle(milk(1, 1), failed), bundle(failed, mild, milk(1, 1))):
        answer = answer_of(sent)
        assert answer.state is State.PARTIAL
        assert len(answer.resources) == 1


def test_a_failure_is_told_by_its_code_and_never_by_its_text() -> None:
    timeout = outcome("error", code="timeout") | {"text": {"div": "Jane Doe"}}
    for sent in (timeout, bundle(timeout), bundle(timeout, milk(1, 1))):
        assert answer_of(sent).reason == "the record system reported 'timeout'"
    odd = outcome("error", code="Jane Doe, MRN 12345")
    for sent in (odd, bundle(odd), bundle(odd, milk(1, 1))):
        assert "Jane" not in answer_of(sent).reason


def test_a_bundle_needs_no_type_and_a_next_link_is_kept() -> None:
    answer = answer_of(bundle(milk(1, 1), **NEXT))
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
    assert answer_of(value).state in State


def test_a_resource_under_several_keys_counts_once() -> None:
    one = milk(1, 1)
    sent = {"a": one, "b": one, "c": dict(one)}
    answers = {key: KeyResult(State.COMPLETE, [each]) for key, each in sent.items()}
    assert Chart(HER, answers).of_patient("Observation") == [one]


def test_each_reason_why_a_record_is_not_used_has_words() -> None:
    assert SAY_LEFT_OUT.keys() == {*get_args(LeftOut)}
    assert all(SAY_LEFT_OUT.values())


# --- what is decoded ----------------------------------------------------------------------------


ATOMS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
SOME_READ = [*sorted(READ)[:12], "valueQuantity", "value", "unit"]
NAMES = st.sampled_from([*SOME_READ, "meta", "entry", "link", "issue"]) | st.text()
VALUES = st.recursive(
    ATOMS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=10,
)
TYPED = st.dictionaries(NAMES, VALUES).map(lambda members: {**members, "resourceType": "Task"})
ISSUES = st.fixed_dictionaries(
    {}, optional={"severity": st.sampled_from(["warning", "error"]) | VALUES, "code": VALUES}
)
OUTCOMES = st.fixed_dictionaries(
    {"resourceType": st.just("OperationOutcome")}, optional={"issue": st.lists(ISSUES) | VALUES}
)
HELD = st.fixed_dictionaries({"resource": VALUES | TYPED})
TOLD = st.fixed_dictionaries({"resource": OUTCOMES})
ENTRIES = st.lists(VALUES | HELD | TOLD, max_size=4)
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


@given(VALUES | TYPED | OUTCOMES | BUNDLES)
def test_what_is_decoded_is_the_same_but_for_what_nothing_reads(value: Any) -> None:
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    decoded, whole = read_result(decode(body)), read_result(orjson.loads(body))
    assert lean(decoded.resources) == lean(whole.resources)
    assert (decoded.state, decoded.reason, decoded.next_url) == (
        *(whole.state, whole.reason),
        whole.next_url,
    )


def test_what_nothing_reads_is_not_decoded() -> None:
    sent = bundle({**milk(1, 1), "meta": {"versionId": "1"}, "note": [{"text": "x"}]})
    (resource,) = read_result(decode(orjson.dumps(sent))).resources
    whole = milk(1, 1) | {"id": resource["id"]}
    assert lean([resource]) == lean([whole])
    assert resource.keys() == whole.keys()


READERS = (chart, facts, findings, medicines, patient, unmapped)

# Members of what stands within a resource, and of what is no resource, that are called as members
# of resources are.
OTHERS = {
    "bulk": {"extension"},
    "chart": {"outcome", "severity"},
    "__main__": {"evidence", "extension"},
    "doses": {"dispenseRequest", "dosageInstruction"},  # of drafts, which are decoded whole
    "evaluation": {"extension"},
    "facts": {"extension", "text"},
    "feeds": {"text"},
    "medicines": {"text"},
    "protocol": {"context", "description", "outcome", "severity", "text"},
    "telemetry": {"method", "stage"},
}


def names_in(module: Path) -> set[str]:
    """Every text in the code of a module that is no documentation, and not in its ``READ``."""
    tree = ast.parse(module.read_text())
    tree.body = [
        statement
        for statement in tree.body
        if not isinstance(statement, ast.Assign) or ast.unparse(statement.targets[0]) != "READ"
    ]
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
    }


def test_each_member_that_the_code_names_is_decoded(content: Content) -> None:
    """In each module that is given decoded resources, of the members that FHIR R4 has.

    A module that has a ``READ`` names all that it reads there.
    """
    readers = {Path(str(each.__file__)): each.READ for each in READERS}
    kinds = {key.resource for key in content.searches} | {"Medication", "OperationOutcome"}
    members = {
        member for kind in kinds for member in get_fhir_model_class(kind).elements_sequence()
    }
    assert len(members) > 100
    package = Path(cds_service.__file__).parent
    for module in package.rglob("*.py"):
        if module.relative_to(package).parts[0] in ("demo", "authoring") or module.stem == "render":
            continue  # they write resources
        if "chart import" in module.read_text() or module.stem == "chart":
            read = names_in(module) & members
            declared = readers.get(module, READ)
            assert read - OTHERS.get(module.stem, set()) <= declared, module.stem


def test_a_category_that_is_no_list_says_nothing() -> None:
    for category in (b"3", b'"medication"', b"null"):
        body = b'{"resourceType": "AllergyIntolerance", "category": ' + category + b"}"
        (allergy,) = read_result(decode(body)).resources
        assert category_of(allergy) == []


LATIN_1 = [
    b'{"resourceType": "Task", "%s": ["\xe9"]}' % name for name in (b"category", b"meta", b"id")
]


@pytest.mark.parametrize("body", LATIN_1)
def test_what_is_not_utf_8_is_not_decoded_though_nothing_reads_it(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        decode(body)
    assert read_result(decode(body.decode("latin-1").encode())).state is State.COMPLETE


@pytest.mark.parametrize("body", [b"", b"{", b'{"resourceType": "Bundle"', b"[" * 5000, b"\xff"])
def test_what_is_no_json_is_not_decoded(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        decode(body)


def test_what_is_deep_is_decoded_as_far_as_it_is_json() -> None:
    deep = b'{"resourceType":"Task","x":' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert read_result(decode(deep)).state is State.COMPLETE
    deeper = b"[" * 100_000 + b"]" * 100_000  # some thousands are read from Python 3.12 on
    with pytest.raises(orjson.JSONDecodeError):
        decode(b'{"resourceType":"Task","id":' + deeper + b"}")
