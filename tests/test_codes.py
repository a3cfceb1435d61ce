"""Codes of records: their systems under all names, families, and what is taken out of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cds_service.codes import CodeIndex, CodeSet, System, normal_forms
from cds_service.content import Content
from cds_service.content_files import ContentError
from cds_service.content_loader import load_content
from cds_service.medicines import MedicineIndex
from cds_service.terminology import value_sets

from .mothers import chart_of

CM = "http://hl7.org/fhir/sid/icd-10-cm"
GM = "http://fhir.de/CodeSystem/bfarm/icd-10-gm"
LOCAL = "urn:hospital:codes"


def coding(system: Any, code: Any) -> dict[str, Any]:
    return {"system": system, "code": code}


def value_set(of: str, *include: dict[str, Any], exclude: tuple[Any, ...] = ()) -> str:
    compose = {"include": list(include), "exclude": list(exclude)}
    return json.dumps(
        {
            "resourceType": "ValueSet",
            "url": f"urn:lactation-cds:value-set:{of}",
            "status": "draft",
            "compose": {part: written for part, written in compose.items() if written},
        }
    )


def family(code: str, system: str = CM) -> dict[str, Any]:
    return {"system": system, "filter": [{"property": "concept", "op": "is-a", "value": code}]}


def concepts(*codes: str, system: str = CM) -> dict[str, Any]:
    return {"system": system, "concept": [{"code": code} for code in codes]}


def facts_of(content: Content, *codings: dict[str, Any]) -> list[str]:
    found = content.facts_of_concept({"coding": list(codings)}, "Condition")
    return [spec.id for spec in found]


# --- how a code is written ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "forms"),
    [
        ("O91.22", ["O9122"]),
        ("o91.22", ["O9122"]),
        ("O9122", ["O9122"]),
        ("O91.-", ["O91"]),
        ("Z37.0!", ["Z370"]),
        ("J21.8+ B95.6*", ["J218", "B956"]),
        ("J21.8†B95.6*", ["J218", "B956"]),
        ("O85-O92", []),
        ("O9", []),
        ("O91.2.2", []),
        ("mastitis", []),
        ("", []),
    ],
)
def test_an_icd_code_is_compared_without_case_dot_and_marks(code: str, forms: list[str]) -> None:
    assert normal_forms(code, "icd") == forms


def test_the_most_specific_entry_decides() -> None:
    systems = {CM: System(CM, "icd", hierarchical=True)}
    index: CodeIndex[str] = CodeIndex(systems)
    families = {(CM, "O91"): True, (CM, "O91.2"): False, (CM, "O91.21"): True}
    index.add(CodeSet({(CM, "O91.219"): False}, families), "infection")
    index.settle()
    meant = {
        "O91": True,
        "O91.1": True,
        "O91.2": False,
        "O91.22": False,
        "O91.21": True,
        "O91.211": True,
        "O91.219": False,
        "O92.1": False,
    }
    assert {code: bool(index.find(coding(CM, code))) for code in meant} == meant


@pytest.mark.parametrize("system", [None, 3, [], {}, CM])
@pytest.mark.parametrize("code", [None, 3, [], {}, "O" * 100_000, "O91 " * 50_000])
def test_what_is_no_code_means_nothing(content: Content, system: Any, code: Any) -> None:
    assert facts_of(content, coding(system, code)) == []


# --- value sets ---------------------------------------------------------------------------------


def test_a_value_set_names_a_family_and_what_does_not_count_of_it(tmp_path: Path) -> None:
    written = value_set("breast-surgery", family("Q77"), exclude=(family("Q77.1"),))
    (tmp_path / "own.json").write_text(written)
    own = load_content(tmp_path)
    for code in ("Q77", "Q77.0", "q77.2", "Q779"):
        assert facts_of(own, coding(CM, code)) == ["breast-surgery"], code
    for code in ("Q77.1", "Q77.11", "Q78", "Q7", "Q76.77"):
        assert facts_of(own, coding(CM, code)) == [], code
    assert facts_of(own, coding(GM, "Q77.0")) == [], "another system has families of its own"


def test_a_family_stands_in_the_exported_value_set_too(tmp_path: Path) -> None:
    written = value_set("breast-surgery", family("Q77"), exclude=(family("Q77.1"),))
    (tmp_path / "own.json").write_text(written)
    exported = value_sets(load_content(tmp_path))["ValueSet-lactation-cds-breast-surgery.json"]
    assert family("Q77") in exported["compose"]["include"]
    assert exported["compose"]["exclude"] == [family("Q77.1")]


def test_a_hospital_takes_a_shipped_code_out(tmp_path: Path, content: Content) -> None:
    assert facts_of(content, coding(CM, "I45.81")) == ["long-qt"]
    ours = concepts("LQT", system=LOCAL)
    (tmp_path / "own.json").write_text(value_set("long-qt", ours, exclude=(concepts("I45.81"),)))
    own = load_content(tmp_path)
    assert facts_of(own, coding(CM, "I45.81")) == []
    assert facts_of(own, coding(LOCAL, "LQT")) == ["long-qt"]


UNUSABLE: list[tuple[dict[str, Any], str]] = [
    (
        {
            "system": CM,
            "filter": [{"property": "concept", "op": "descendent-of", "value": "Q77"}],
        },
        "the filter concept descendent-of cannot be used: only concept is-a",
    ),
    (
        {"system": CM, "filter": [{"property": "chapter", "op": "=", "value": "XV"}]},
        "the filter chapter = cannot be used",
    ),
    (
        family("72892002", "http://snomed.info/sct"),
        "http://snomed.info/sct is not said to be hierarchical: it has no family of 72892002",
    ),
    (family("Q77", LOCAL), f"{LOCAL} is not said to be hierarchical"),
    (family("Q"), f"Q is no code of {CM}"),
    (family("Q77+ Q78*"), f"Q77+ Q78* is no code of {CM}"),
    (concepts("Q"), f"Q is no code of {CM}"),
    ({"system": CM}, f"all of {CM} cannot be meant"),
    ({"valueSet": ["http://hospital/all"]}, "'valueSet' of a value set cannot be used here"),
    ({"concept": [{"code": "1"}]}, "each include and exclude needs a system"),
    (
        {**family("Q77"), "filter": [*family("Q77")["filter"], *family("Q78")["filter"]]},
        "one filter stands alone",
    ),
]


def test_what_a_value_set_says_and_the_service_cannot_use_stops_the_start(tmp_path: Path) -> None:
    for number, (part, _) in enumerate(UNUSABLE):
        included = value_set("breast-surgery", part)
        excluded = value_set("breast-surgery", concepts("Q76"), exclude=(part,))
        (tmp_path / f"in-{number}.json").write_text(included)
        (tmp_path / f"out-{number}.json").write_text(excluded)
    with pytest.raises(ContentError) as caught:
        load_content(tmp_path)
    faults = [str(fault) for fault in caught.value.faults]
    for number, (_, reason) in enumerate(UNUSABLE):
        for kind in ("in", "out"):
            assert any(f"{kind}-{number}.json:1: {reason}" in fault for fault in faults), reason


def test_what_is_included_and_excluded_stops_the_start(tmp_path: Path) -> None:
    out = (family("Q77.1"),)
    (tmp_path / "own.json").write_text(value_set("breast-surgery", concepts("Q77.12"), exclude=out))
    with pytest.raises(ContentError, match=r"Q77\.12 of .* is included, and excluded too"):
        load_content(tmp_path)


# --- systems ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "code"),
    [
        ("http://terminology.hl7.org/CodeSystem/icd10CM", "I45.81"),
        ("urn:oid:2.16.840.1.113883.6.90", "i4581"),
        ("urn:oid:2.16.840.1.113883.6.96", "9651007"),
    ],
)
def test_a_code_counts_under_each_name_of_its_system(
    content: Content, system: str, code: str
) -> None:
    assert facts_of(content, coding(system, code)) == ["long-qt"]


def test_codes_of_snomed_ct_are_compared_as_they_are(content: Content) -> None:
    assert facts_of(content, coding("http://snomed.info/sct", "9651007 ")) == []


def test_a_code_of_loinc_counts_in_any_case(content: Content) -> None:
    (yes,) = content.answers["mastitis"].find(coding("http://loinc.org", "la33-6"))
    assert yes == "yes"


def test_a_medicine_is_known_by_the_german_name_of_atc(content: Content) -> None:
    order = {
        "resourceType": "MedicationRequest",
        "id": "c",
        "status": "active",
        "subject": {"reference": "Patient/mother-1"},
        "medicationCodeableConcept": {
            "coding": [coding("http://fhir.de/CodeSystem/bfarm/atc", "G02CB03")]
        },
    }
    (taken,) = MedicineIndex(content).taken(chart_of(content, order))
    assert (taken.key, taken.matched) == ("cabergoline", "code")


def test_a_hospital_adds_a_name_of_a_system(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        f"systems: [{{id: our-diagnoses, url: '{LOCAL}', same-as: icd-10-cm}}]"
    )
    own = load_content(tmp_path)
    assert facts_of(own, coding(LOCAL, "I45.81")) == ["long-qt"]
    assert facts_of(own, coding(CM, "I45.81")) == ["long-qt"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{id: ours, url: 'urn:x', same-as: icd-11}", "there is no system 'icd-11'"),
        (
            "{id: ours, url: 'urn:x', aliases: ['http://loinc.org']}",
            "http://loinc.org is an address of another system",
        ),
    ],
)
def test_a_system_that_is_wrong_stops_the_start(tmp_path: Path, entry: str, reason: str) -> None:
    (tmp_path / "own.yaml").write_text(f"systems: [{entry}]")
    with pytest.raises(ContentError, match=f"own.yaml:1: .*{reason}"):
        load_content(tmp_path)
