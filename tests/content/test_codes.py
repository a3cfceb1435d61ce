"""Codes of records: their systems under all names, families, and what is taken out of one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cds_service.authoring.code_warnings import code_warnings
from cds_service.authoring.terminology import value_sets
from cds_service.content.codes import CodeIndex, CodeSet, System, normal_forms
from cds_service.content.compiled import Content
from cds_service.content.files import ContentError
from cds_service.content.loader import load_content
from cds_service.engine.medicines import MedicineIndex
from tests.project import code_table
from tests.support.mothers import chart_of, observation
from tests.support.mothers import facts_of as read

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
    found = content.lookup.of_concept({"coding": list(codings)}, "Condition")
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
    ({"system": CM}, f"all codes of {CM} cannot be used"),
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
        ("2.16.840.1.113883.6.96", "9651007"),
        ("https://snomed.info/sct", "9651007"),
        ("http://snomed.info/sct/", "9651007"),
        ("http://snomed.info/sct/32506021000036107", "9651007"),
        ("https://hl7.org/fhir/sid/icd-10-cm", "I45.81"),
        ("http://hl7.org/fhir/sid/icd-10/", "I47.2"),
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


# --- the shipped families, code by code ---------------------------------------------------------

WHO = "http://hl7.org/fhir/sid/icd-10"
SNOMED = "http://snomed.info/sct"

# What each fact reads of a Condition: codes that mean it, and codes beside them that do not.
MEANT: dict[str, dict[str, tuple[str, str]]] = {
    "mastitis": {
        CM: (
            "O91.02 O91.03 O91.22 O91.23 O91.2 N61.0 N61.1 N61.21 o9123",
            "O91.01 O91.011 O91.11 O91.12 O91.13 O91.119 O91.21 O91.213 O92.13 O92.20 N60.01 N62 "
            "N64.4 P39.0",
        ),
        GM: ("O91.0 O91.00 O91.01 O91.2 O91.20 O91.21 N61", "O91.10 O91.11 O92.1 O92.11 N64.4"),
        WHO: ("O91.0 O91.2 N61", "O91.1 O92.2 N64.4 P39.0"),
        SNOMED: (
            "45198002 271372000 700038005 63662002",
            "270502007 200383008 200376001 237443002",
        ),
    },
    "breast-abscess": {
        CM: ("O91.12 O91.13 O91.1", "O91.11 O91.119 O91.02 O91.23 N61.0"),
        GM: ("O91.1 O91.10 O91.11", "O91.0 O91.2"),
        WHO: ("O91.1", "O91.0 O91.2"),
        SNOMED: ("270502007 55704005", "45198002 237443002"),
    },
    "retained-placenta": {
        CM: (
            "O73.0 O73.1 O72.0",
            "O72.1 O72.2 O72.3 O43.213 O44.13 O45.93 O46.93 O67.9 O02.1 O03.4",
        ),
        GM: ("O73.0 O73.1 O72.0", "O72.1 O72.2 O43.20 O44.1 O46.9 O67.9"),
        WHO: ("O73 O73.1 O72.0", "O72.1 O46.9 O67.9"),
        SNOMED: ("109894007 109895008 44216000", "371374003 275425008"),
    },
    "depression-history": {
        CM: ("F32.A F32.0 F32.9 F33.1 F33.42 F53.0", "F53.1 F53 F32.81 F34.1 F31.30 F41.1 O90.6"),
        GM: ("F32.9 F33.1 F53.0", "F53.1 F53.9 F31.3 F34.1 F41.2"),
        WHO: ("F32.2 F33.0 F53.0", "F53.1 F34.1"),
        SNOMED: ("35489007 370143000 58703003 36923009", "439366005"),
    },
    "epilepsy": {
        CM: ("G40.909 G40.A01 G40.B19 G40.301", "G43.909 R56.9 O15.1 P90 F44.5"),
        GM: ("G40.3 G41.0", "R56.8 O15.1 G43.1"),
        WHO: ("G40.9 G41.9", "R56.0 G45.0"),
    },
    "heart-disease": {
        CM: ("I50.9 I50.22 I42.0 O90.3 I25.10 I21.4", "I10 O90.4 I47.10 I34.0 R00.2"),
        GM: ("I50.14 I42.0 O90.3", "I10.00 O90.4"),
        WHO: ("I50.0 O90.3", "I10 O90.4"),
        SNOMED: ("56265001 62377009 16253001", ""),
    },
    "long-qt": {
        CM: ("I45.81 I47.20 I47.21 I49.01", "I45.89 I47.10 I47.9 I49.1 I49.9"),
        GM: ("I47.2 I49.0", "I45.8 I47.1 I49.9"),
        WHO: ("I47.2 I49.0", "I45.8 I47.1"),
        SNOMED: ("9651007 442917000 31722008", "16415081000119104 870252007"),
    },
    "thyroid-disease": {
        CM: ("E03.9 E05.00 E06.3 E89.0 O90.5", "E89.1 E89.2 O90.4 O90.6 E07.9 E10.9"),
        GM: ("E03.9 E05.0 E06.1 E89.0 O90.5", "E89.2 E14.9"),
        WHO: ("E03.9 E06.3 O90.5", "E14.9"),
    },
    "prolactinoma": {
        CM: ("D35.2", "D35.00 D35.3 E22.1 E23.0"),
        GM: ("D35.2", "D35.3 E22.1"),
        SNOMED: ("134209002 253010003", "237662005"),
    },
    "liver-impairment": {
        CM: ("K72.90 K72.00 K74.60 K70.30 K70.41", "K76.0 K70.0 K73.9 O26.613 K74.00"),
        GM: ("K72.0 K72.71 K74.6 K70.3", "K76.0 K70.0"),
    },
    "breast-surgery": {
        CM: ("Z90.11 Z90.13 Z98.82 Z98.86", "Z90.2 Z98.890 Z98.84 Z85.3"),
        GM: ("Z90.1", "Z90.2"),
    },
    "polycystic-ovary-syndrome": {CM: ("E28.2", "E28.1 E28.39"), GM: ("E28.2", "E28.3")},
    "insufficient-glandular-tissue": {CM: ("N64.82", "N64.81 N64.89 N64.4"), GM: ("", "N64.8")},
    "parkinson-disease": {CM: ("G20 G20.A1 G20.C", "G21.11 G25.0"), GM: ("G20.00", "G21.1")},
    "tardive-dyskinesia-or-dystonia": {CM: ("G24.01 G24.02 G24.09", "G24.3 G25.70")},
    "gastrointestinal-bleeding-or-obstruction": {
        CM: ("K92.2 K56.609 K63.1 K25.4 K26.1 K92.1", "K25.3 K25.7 K25.9 K57.30 K59.00"),
        GM: ("K92.2 K56.6 K28.0", "K25.3 K59.0"),
    },
    "formula-medical-reason": {
        CM: ("P70.4 P74.1 P07.32 P59.9 P92.6 P92.3 R63.4", "P70.2 P92.4 P92.09 P92.1 R63.5 P39.0"),
        GM: ("P70.4 P74.1 P07.3 P59.9 P92.5 R63.4", "P92.4 P92.0 R63.5"),
    },
}


@pytest.mark.parametrize(
    ("fact", "system"), [(fact, system) for fact, meant in MEANT.items() for system in meant]
)
def test_a_family_holds_what_is_meant_and_nothing_beside_it(
    content: Content, fact: str, system: str
) -> None:
    meant, beside = (codes.split() for codes in MEANT[fact][system])
    found = {code: fact in facts_of(content, coding(system, code)) for code in (*meant, *beside)}
    assert found == dict.fromkeys(meant, True) | dict.fromkeys(beside, False)


@pytest.mark.parametrize("code", ["O72.0", "O72.1", "O72.2", "O44.13", "O45.93", "O46.93", "O67.9"])
def test_a_code_of_a_haemorrhage_does_not_say_that_it_was_severe(
    content: Content, code: str
) -> None:
    for system in (CM, GM, WHO):
        assert "severe-postpartum-haemorrhage" not in facts_of(content, coding(system, code))


# --- documentation ------------------------------------------------------------------------------


def test_the_table_of_codes_is_of_the_content_of_today(content: Content) -> None:
    page = code_table.PAGE.read_text()
    assert page == code_table.write_page(page, content)


OUR_FILE = re.compile(r"`(our-flow-sheet/[\w.-]+)`[^`]*\n\n```(?:yaml|json)\n(.*?)```", re.S)


def test_the_flow_sheet_of_the_content_page_is_read(tmp_path: Path) -> None:
    page = (code_table.PAGE.parent / "content.md").read_text()
    files = OUR_FILE.findall(page)
    assert len(files) == 4
    for name, text in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    own = load_content(tmp_path / "our-flow-sheet")
    rows = "urn:oid:1.2.3.4.5.6"
    record = observation("x", valueCodeableConcept={"coding": [coding(rows, "304550-2")]})
    record["code"] = {"coding": [coding(rows, "304550")]}
    assert read(own, record)["pump-mode"].value == "double"
    assert facts_of(own, coding("urn:hospital:dx", "I45.81")) == ["long-qt"]
    for code, facts in {"N60.31": ["mastitis"], "N61.21": [], "N61.0": ["mastitis"]}.items():
        assert facts_of(own, coding(CM, code)) == facts, code
    assert not any("urn:oid:1.2.3" in warning.text for warning in code_warnings(own))
