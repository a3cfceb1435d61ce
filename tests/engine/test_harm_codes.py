"""What counts for care with her milk, by the codes that hospitals send, and what does not."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from cds_service.content.compiled import Content
from tests.support.mothers import HER, NOW, ago, facts_of, observation

CM, WHO = "http://hl7.org/fhir/sid/icd-10-cm", "http://hl7.org/fhir/sid/icd-10"
GM = "http://fhir.de/CodeSystem/bfarm/icd-10-gm"
SNOMED, LOINC = "http://snomed.info/sct", "http://loinc.org"

# For which her milk, or she herself, may harm the infant.
HARMFUL = {
    "hiv",
    "htlv",
    "ebola-or-marburg",
    "infant-galactosaemia",
    "tuberculosis",
    "varicella",
    "brucellosis",
    "mpox",
    "herpes-of-breast",
    "stimulant-use",
    "pcp-use",
    "radioiodine-treatment",
    "chemotherapy",
}

# What each fact reads of a Condition: codes that mean it, and codes beside them that do not.
MEANT: dict[str, dict[str, tuple[str, str]]] = {
    "hiv": {
        CM: ("B20 Z21 O98.711 O98.72 O98.73 B97.35", "Z20.6 R75 Z11.4 B97.33 O98.511 Z71.7 Z83.0"),
        WHO: ("B20.0 B22.2 B23.0 B24 Z21 O98.7", "Z20.6 R75 B25.9 O98.5"),
        GM: ("B20 B21 B24 Z21 O98.7", "Z20.6 R75"),
        SNOMED: (
            "86406008 62479008 91947003 91948008 40780007 79019005 165816005 721166000 421571007",
            "444356002 713742005 406109008 102920009 276666007 165815009 432218001 703625002",
        ),
    },
    "htlv": {
        CM: ("Z22.6 C91.50 C91.51 B97.33 B97.34", "B33.3 B97.30 Z22.59 C91.00 G04.1"),
        WHO: ("Z22.6 C91.5 G04.1", "B33.3 B97.3 C91.0"),
        GM: ("Z22.6 C91.50", "B33.3 G04.1"),
        SNOMED: ("110007008 188729005", "402879006"),
    },
    "ebola-or-marburg": {
        CM: ("A98.3 A98.4", "A98.0 A98.8 A99 Z20.828"),
        GM: ("A98.4", "A98.5"),
        SNOMED: ("37109004", "766246000"),  # a sclerosis is named Marburg too
    },
    "infant-galactosaemia": {
        CM: ("E74.21", "E74.20 E74.29 E74.2 E74.39 E73.9 E74.10"),
        WHO: ("E74.2", "E73.0 E74.3"),
        GM: ("E74.2", "E74.3"),
        SNOMED: ("190745006 124354006", "190749000 297238008 237963003"),
    },
    "tuberculosis": {
        CM: (
            "A15.0 A15.5 A15.9 A19.9 O98.011 O98.02 O98.03",
            "Z22.7 R76.11 R76.12 Z11.1 Z20.1 B90.9 Z86.11 A17.0 A18.01 A31.0 P37.0",
        ),
        WHO: ("A15.1 A16.2 A16.7 A19.0 O98.0", "Z22.7 R76.1 A17.0 A18.1 B90.9"),
        GM: ("A15.0 A16.9 O98.0", "R76.1 A18.4"),
        SNOMED: (
            "154283005 56717001 47604008 70341005 423092005 199175001",
            "11999007 1431000119101 161414005 187252008 237445009 58437007 277869007 182975000",
        ),
    },
    "varicella": {
        CM: ("B01.9 B01.2 B01.11", "B02.9 B02.30 Z20.820 Z86.19 P35.8 B00.9"),
        GM: ("B01.9", "B02.9"),
        SNOMED: ("38907003 23737006", "4740000 309465005 161423008 371113008"),
    },
    "brucellosis": {
        CM: ("A23.0 A23.9", "A24.9 A22.9"),
        WHO: ("A23.1", "A24.4"),
        SNOMED: ("75702008", "428508008"),
    },
    "mpox": {CM: ("B04", "B08.010 B03"), GM: ("B04", "B05.9"), SNOMED: ("359814004", "67924001")},
    "stimulant-use": {
        CM: (
            "F14.10 F14.20 F14.90 F14.220 F15.10 F15.20 F15.23",
            "F14.11 F14.21 F14.91 F15.11 F15.21 F15.90 F15.920 F15.93 T40.5X1A O99.324 F13.20",
        ),
        WHO: ("F14.1 F14.2 F15.1 F15.2", "F14.7 F15.0 F15.9 F13.2"),
        GM: ("F14.0 F15.2", "F14.7 F17.2"),
        SNOMED: ("78267003 31956009 84758004 699449003", "191833002 191920007 191845006"),
    },
    "stimulant-remission": {
        CM: ("F14.11 F14.21 F14.91 F15.11 F15.21", "F14.20 F15.10 F15.91 F12.21 F11.21"),
        SNOMED: ("191833002 191845006", "31956009 191839003"),
    },
    "pcp-use": {SNOMED: ("7071007 58727001", "74851005 38247002")},
    "cannabis-use": {
        CM: ("F12.10 F12.20 F12.90", "F12.11 F12.21 F12.91 T40.711A F11.20 F17.210"),
        WHO: ("F12.1 F12.2", "F12.7 F10.1"),
        SNOMED: ("37344009 85005007", "191839003 191895007"),
    },
    "chemotherapy": {
        CM: ("Z51.11", "Z51.12 Z51.0 Z92.21 T45.1X5A"),
        WHO: ("Z51.1", "Z51.0"),
        SNOMED: ("367336001", "161653008 182975000 767657005"),
    },
    "pre-eclampsia": {
        CM: ("O14.13 O14.25 O15.2 O11.5", "O13.5 O10.03 O12.14 Z87.59 O16.5"),
        WHO: ("O14.9 O15.0 O11", "O13 O12.1 O16"),
        GM: ("O14.1", "O13"),
        SNOMED: ("398254007 303063000", "161806007 48194001 237279007"),
    },
    "hypertension": {
        CM: ("I10 I11.9 I15.9 I16.0 O10.03 O13.5 O16.5", "O14.13 O12.14 I27.20 R03.0 K76.6"),
        WHO: ("I10 O10.0 O13 O16", "O14.9 I27.0"),
        GM: ("I10.00 O13", "O14.1"),
        SNOMED: ("38341003 48194001", "398254007 70995007 161501007"),
    },
    "cardiac-valve-disease": {
        CM: ("I34.0 I35.0 I05.9 I08.0 Q23.81 Z95.2", "I50.9 I42.0 I10 I25.10 Q21.0 Z95.0"),
        WHO: ("I34.1 I39.0 Q22.5", "I42.0 Q21.1"),
        SNOMED: ("368009 48724000", "56265001"),
    },
    "fibrotic-disease": {
        CM: (
            "J84.10 J84.112 J84.178 K68.2 I31.1",
            "J84.111 J84.114 J84.116 K68.11 E84.9 K74.00 I31.39",
        ),
        WHO: ("J84.1 I31.0", "J84.9 E84.0 K74.0 N13.5"),
        SNOMED: ("49120005 51615001", "190905008 62484002 52967002"),
    },
    "psychosis-or-mania": {
        CM: (
            "F53.1 F23 F29 F20.81 F30.2 F30.13 F31.10 F31.2 F31.5 F31.64 F32.3 F33.3 R44.0 R44.3",
            "F53.0 F20.9 F25.0 F22 F30.3 F30.4 F30.8 F31.0 F31.30 F31.74 F31.81 F32.2 R44.8 F05",
        ),
        WHO: ("F53.1 F23.0 F30.1 F31.2 R44.1", "F53.0 F53.9 F30.0 F31.0 F31.7 F20.0 F32.2"),
        GM: ("F53.1 F23.9 F30.2", "F53.0 F20.5 F31.7"),
        SNOMED: (
            "18260003 237352005 231489001 28663008 268619003 7011001 2073000",
            "60401000119104 58703003 85248005 191625000 191588009 42810003",
        ),
    },
    "bipolar-disorder": {
        CM: ("F31.9 F31.74 F31.2 F31.81", "F30.2 F34.0 F33.1 F25.0"),
        WHO: ("F31.3 F31.7", "F34.0"),
        SNOMED: ("13746004 85248005 83225003", "35489007"),
    },
}


def read_of(content: Content, system: str, code: str, kind: str = "Condition") -> set[str]:
    concept = {"coding": [{"system": system, "code": code}]}
    return {spec.id for spec in content.lookup.of_concept(concept, kind)}


@pytest.mark.parametrize(
    ("fact", "system"), [(fact, system) for fact, meant in MEANT.items() for system in meant]
)
def test_a_diagnosis_counts_as_what_it_says_and_nothing_beside_it_does(
    content: Content, fact: str, system: str
) -> None:
    meant, beside = (codes.split() for codes in MEANT[fact][system])
    found = {code: fact in read_of(content, system, code) for code in (*meant, *beside)}
    assert found == dict.fromkeys(meant, True) | dict.fromkeys(beside, False)


@pytest.mark.parametrize(
    ("system", "codes"),
    [
        (CM, "B16.9 B18.1 Z22.51 O98.42"),  # hepatitis B
        (CM, "B17.10 B18.2 B19.20"),  # hepatitis C
        (WHO, "B16.9 B18.1 B18.2 Z22.5"),
        (SNOMED, "66071002 50711007 128302006"),
        (CM, "U07.1 O98.513 J10.1"),  # COVID, influenza
        (CM, "R50.9 O86.4 O86.12 O85"),  # fever
        (CM, "O91.22 N61.1 O92.13"),  # the breast
        (CM, "B25.9 P35.1"),  # cytomegalovirus
        (CM, "Z22.7 R76.11 Z20.1"),  # latent tuberculosis, contact
        (CM, "B00.1 B00.9 A60.04"),  # herpes elsewhere, or nobody says where
        (CM, "B02.9 A53.9 B50.9"),
        (CM, "F17.210 F10.20 F11.20 F12.20"),  # asked about, and no reason against milk
        (CM, "F16.10 F16.20 F16.90"),  # a hallucinogen, and not which
        (CM, "Z79.891 Z79.899 T50.8X5A"),  # contrast media
    ],
)
def test_what_is_no_reason_against_milk_is_none(content: Content, system: str, codes: str) -> None:
    assert content.facts.keys() >= HARMFUL
    for code in codes.split():
        assert not read_of(content, system, code) & HARMFUL, code


def test_a_psychotic_depression_is_still_a_depression(content: Content) -> None:
    assert read_of(content, CM, "F32.3") == {"psychosis-or-mania", "depression-history"}


# --- as it comes in her record ------------------------------------------------------------------


def condition(system: str, code: str, hours: float = 24, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": "c",
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": f"Patient/{HER}"},
        "onsetDateTime": ago(hours),
        **members,
    }


def result(code: str, hours: float = 2, system: str = LOINC, **value: Any) -> dict[str, Any]:
    made = observation("x", hours=hours, **value)
    made["code"] = {"coding": [{"system": system, "code": code}]}
    return made


def test_tuberculosis_is_cleared_by_a_newer_word_that_it_is_not_infectious(
    content: Content,
) -> None:
    ill = condition(CM, "A15.0", hours=24 * 400)
    assert facts_of(content, ill)["tuberculosis"].value == "yes", "active, however long ago"
    cleared = observation("tuberculosis", False, hours=3)
    assert facts_of(content, ill, cleared)["tuberculosis"].value == "no"
    before = observation("tuberculosis", False, hours=24 * 401)
    assert facts_of(content, ill, before)["tuberculosis"].value == "yes"


def test_what_has_ended_is_no_reason_any_more(content: Content) -> None:
    over = {"clinicalStatus": {"coding": [{"code": "resolved"}]}}
    for code, fact in {"B01.9": "varicella", "A23.9": "brucellosis", "B04": "mpox"}.items():
        assert facts_of(content, condition(CM, code))[fact].value == "yes"
        assert facts_of(content, condition(CM, code, **over))[fact].value == "no"


def test_hiv_of_years_ago_counts(content: Content) -> None:
    told = condition(CM, "B20", hours=24 * 365 * 9)
    del told["clinicalStatus"]
    assert facts_of(content, told)["hiv"].value == "yes"


JUST_BELOW_20 = math.nextafter(20, 0)


@pytest.mark.parametrize(
    ("code", "quantity", "copies"),
    [
        ("20447-9", {"value": 37, "code": "{copies}/mL"}, 37),
        ("20447-9", {"value": 37, "unit": "copies/mL"}, 37),
        ("25836-8", {"value": 1001, "code": "1/mL", "unit": "copies/mL"}, 1001),
        ("48511-0", {"value": 49, "unit": "Copies / mL"}, 49),
        ("70241-5", {"value": 0, "unit": "cp/mL"}, 0),
        ("20447-9", {"value": 4.7, "unit": "log copies/mL"}, None),
        ("20447-9", {"value": 4.7, "code": "[IU]/mL"}, None),
        ("20447-9", {"value": 20, "comparator": "<", "unit": "copies/mL"}, JUST_BELOW_20),
        ("20447-9", {"value": 20, "comparator": "~", "unit": "copies/mL"}, None),
        ("20447-9", {"value": 37}, None),
    ],
)
def test_a_viral_load_is_a_number_of_copies(
    content: Content, code: str, quantity: dict[str, Any], copies: float | None
) -> None:
    fact = facts_of(content, result(code, valueQuantity=quantity))["hiv-viral-load"]
    assert (fact.status, fact.value) == ("known" if copies is not None else "unusable", copies)


@pytest.mark.parametrize("code", ["29541-0", "29539-4", "62469-2", "10351-5", "69354-9", "7917-8"])
def test_a_logarithm_or_an_antibody_is_no_viral_load(content: Content, code: str) -> None:
    low = result(code, valueQuantity={"value": 1.3, "code": "{copies}/mL"})
    assert facts_of(content, low)["hiv-viral-load"].status == "not-recorded"


def test_a_blood_pressure_is_read_of_its_panel_and_asked_for_by_it(content: Content) -> None:
    def part(code: str, value: float, unit: str) -> dict[str, Any]:
        coding = {"system": LOINC, "code": code}
        return {"code": {"coding": [coding]}, "valueQuantity": {"value": value, "unit": unit}}

    panel = result("85354-9", component=[part("8480-6", 84, "mmHg"), part("8462-4", 50, "mmHg")])
    fact = facts_of(content, panel)["systolic-pressure"]
    assert (fact.value, fact.problems) == (84, [])
    in_kilopascal = result("8480-6", valueQuantity={"value": 12, "code": "kPa"})
    assert round(facts_of(content, in_kilopascal)["systolic-pressure"].value) == 90
    asked = ",".join(content.prefetch_templates.values())
    assert "http://loinc.org|85354-9" in asked
    assert facts_of(content, panel)["diastolic-pressure"].value == 50
    assert "http://loinc.org|8462-4" in asked


@pytest.mark.parametrize(
    ("code", "unit", "fact"),
    [
        ("8867-4", {"code": "/min"}, "pulse"),
        ("8867-4", {"code": "{beats}/min", "unit": "beats/minute"}, "pulse"),
        ("8867-4", {"unit": "bpm"}, "pulse"),
        ("9279-1", {"unit": "breaths/min"}, "respiratory-rate"),
        ("9279-1", {"code": "{Breaths}/min"}, "respiratory-rate"),
    ],
)
def test_a_rate_is_read_in_the_units_that_wards_write(
    content: Content, code: str, unit: dict[str, str], fact: str
) -> None:
    signs = facts_of(content, result(code, valueQuantity={"value": 28, **unit}))
    assert signs[fact].value == 28
    old = result(code, hours=25, valueQuantity={"value": 28, **unit})
    assert facts_of(content, old)[fact].status == "stale", "a sign of yesterday is none of today"


def test_the_ninth_item_of_the_phq_is_a_number(content: Content) -> None:
    sent = result("44260-8", valueInteger=2), result("44261-6", valueQuantity={"value": 14})
    facts = facts_of(content, *sent)
    assert (facts["phq-9-item-9"].value, facts["phq-9-score"].value) == (2, 14)


def test_each_answer_of_the_phq_stands_for_its_number(content: Content) -> None:
    index = content.answers["phq-9-item-9"]
    codes = ("LA6568-5", "LA6569-3", "LA6570-1", "LA6571-9", "LA6572-7")
    numbers = [index.find({"system": LOINC, "code": code}) for code in codes]
    assert numbers == [("0",), ("1",), ("2",), ("3",), ()]


def procedure(code: str, status: str = "completed", hours: float = 24) -> dict[str, Any]:
    return {
        "resourceType": "Procedure",
        "id": "p",
        "status": status,
        "code": {"coding": [{"system": SNOMED, "code": code}]},
        "subject": {"reference": f"Patient/{HER}"},
        "performedDateTime": ago(hours),
    }


@pytest.mark.parametrize(
    ("code", "fact"),
    [
        ("225337009", "suicide-risk-assessed"),
        ("443730003", "depression-treated"),
        ("310653000", "opioid-treatment"),
        ("792901003", "opioid-treatment"),
        ("431588009", "radioiodine-treatment"),
        ("367336001", "chemotherapy"),
    ],
)
def test_what_was_done_counts_once_it_was_done(content: Content, code: str, fact: str) -> None:
    assert facts_of(content, procedure(code))[fact].value == "yes"
    for status in ("not-done", "entered-in-error", "preparation"):
        assert facts_of(content, procedure(code, status))[fact].value is None, status


@pytest.mark.parametrize("level", ["LA9194-7", "LA6751-7", "LA9193-9"])
def test_an_assessed_risk_of_suicide_is_assessed_whatever_its_level(
    content: Content, level: str
) -> None:
    answer = {"coding": [{"system": LOINC, "code": level}]}
    facts = facts_of(content, result("93374-7", valueCodeableConcept=answer))
    assert facts["suicide-risk-assessed"].value == "yes"


def test_a_thought_of_suicide_is_no_assessment(content: Content) -> None:
    codes = ("225337009", "6471006", "225444004", "82313006")
    read = [read_of(content, SNOMED, code, "Observation") for code in codes]
    assert read == [{"suicide-risk-assessed"}, {"suicidality"}, set(), {"suicidality"}]


@pytest.mark.parametrize(
    ("code", "so"),
    [
        *((code, True) for code in ("R45.851", "T14.91", "T14.91XA", "T14.91XD")),
        *((code, False) for code in ("T14.91XS", "R45.85", "R45.850", "Z91.51")),
    ],
)
def test_suicidal_thoughts_and_an_attempt_are_read_and_what_is_over_is_not(
    content: Content, code: str, so: bool
) -> None:
    assert ("suicidality" in read_of(content, CM, code, "Condition")) is so


def test_a_treatment_of_months_ago_is_none_of_now(content: Content) -> None:
    months_ago = NOW + timedelta(days=120)
    facts = facts_of(content, procedure("367336001"), now=months_ago)
    assert facts["chemotherapy"].status == "stale"
