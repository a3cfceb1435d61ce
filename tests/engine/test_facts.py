"""Facts: what counts as a value, what does not, and why. One bad resource never spoils the rest."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.content.compiled import Content
from cds_service.content.fact_types import FactValue
from cds_service.fhir.chart import KeyResult, State
from tests.support.mothers import (
    HER,
    INFANT,
    NOW,
    ago,
    birth,
    caesarean,
    cards_of,
    chart_of,
    facts_of,
    milk,
    observation,
)
from tests.support.once import evaluation_of

VOLUME = "expressed-milk-volume"
A_DAY = [milk(20, hours) for hours in (26, 20, 14, 8, 2)]  # 80 mL in the last 24 h


def volume_of(content: Content, *resources: dict[str, Any]) -> FactValue:
    fact: FactValue = facts_of(content, *resources)[VOLUME]
    return fact


def reasons(fact: FactValue) -> list[str]:
    return [problem.reason for problem in fact.problems]


# --- volumes ------------------------------------------------------------------------------------


def test_sessions_of_a_day_are_added_and_counted(content: Content) -> None:
    fact = volume_of(content, *A_DAY)
    assert fact.measure("sum") == 80
    assert fact.measure("count") == 4
    assert fact.measure("latest") == 20
    assert fact.measure("longest-gap") == 6 * 3600
    assert facts_of(content, *A_DAY)["pump-sessions-24h"].value == 4


def test_no_milk_at_all_is_a_value(content: Content) -> None:
    fact = volume_of(content, *(milk(0, hours) for hours in (26, 20, 14, 8, 2)))
    assert fact.status == "known"
    assert fact.measure("sum") == 0


def test_ten_thousand_observations_are_read(content: Content) -> None:
    many = [milk(1, 24 * 30 * n / 10_000) for n in range(10_000)]
    assert volume_of(content, *many).measure("count") == pytest.approx(10_000 / 30, abs=1)


def test_left_and_right_at_one_time_are_one_session(content: Content) -> None:
    left = {"bodySite": {"coding": [{"code": "left"}]}}
    right = {"bodySite": {"coding": [{"code": "right"}]}}
    fact = volume_of(content, *A_DAY, milk(9, 1, **left), milk(9, 1, **right))
    assert fact.measure("sum") == 98
    assert fact.measure("count") == 5
    assert fact.measure("latest") == 18


def test_the_same_record_sent_twice_counts_once(content: Content) -> None:
    twice = {key: value for key, value in milk(9, 1).items() if key != "id"}
    fact = volume_of(content, *A_DAY, twice, dict(twice))
    assert fact.measure("sum") == 89
    assert "it repeats another record" in reasons(fact)


def test_left_and_right_may_be_alike_and_name_no_side(content: Content) -> None:
    fact = volume_of(content, *A_DAY, milk(9, 1), milk(9, 1))
    assert fact.measure("sum") == 98
    assert fact.measure("count") == 5


@pytest.mark.parametrize("system", ["http://snomed.info/sct", "urn:oid:2.16.840.1.113883.6.96"])
@pytest.mark.parametrize("site", ["80248007", "73056007"])
def test_components_named_by_the_side_are_parts_of_one_session(
    content: Content, site: str, system: str
) -> None:
    def side(code: str, **value: object) -> dict[str, object]:
        return {"code": {"coding": [{"system": system, "code": code}]}, **value}

    amount = {"value": 9, "code": "mL", "system": "http://unitsofmeasure.org"}
    both = observation(VOLUME, None, 1)
    other = {"80248007": "73056007", "73056007": "80248007"}[site]
    both["component"] = [side(site, valueQuantity=amount), side(other, valueQuantity=amount)]
    fact = volume_of(content, *A_DAY, both)
    assert (fact.measure("sum"), fact.measure("count")) == (98, 5)
    both["component"][1] = side(other, dataAbsentReason={"text": "not measured"})
    half = volume_of(content, *A_DAY, both)
    assert (half.measure("sum"), half.measure("sum-so-far")) == (None, 89)
    assert half.measure("latest") is None  # the other side of it is not known


@pytest.mark.parametrize(
    ("first", "second", "adds"),
    [
        ("Left breast", "Right breast", True),
        ("links", "rechts", True),
        ("Goal volume", "Volume fed", False),
        ("Upright", "Leftover", False),
    ],
)
def test_a_component_of_another_kind_is_never_her_milk(
    content: Content, first: str, second: str, adds: bool
) -> None:
    amount = {"value": 9, "code": "mL", "system": "http://unitsofmeasure.org"}
    both = observation(VOLUME, None, 1)
    both["component"] = [
        {
            "code": {"coding": [{"system": "urn:x", "code": "A"}], "text": text},
            "valueQuantity": amount,
        }
        for text in (first, second)
    ]
    fact = volume_of(content, *A_DAY, both)
    assert fact.measure("sum-so-far") == (98 if adds else 80)
    assert ("it has no value" in reasons(fact)) is not adds


NEWER_AND_UNREADABLE: dict[str, dict[str, Any]] = {
    "a unit that is none": {"valueQuantity": {"value": 39.4, "unit": "celcius"}},
    "text": {"valueString": "39.4"},
    "a limit": {"valueQuantity": {"value": 39, "code": "Cel", "comparator": ">"}},
    "no offset": {
        "effectiveDateTime": ago(1)[:19],
        "valueQuantity": {"value": 39.4, "code": "Cel"},
    },
}


@pytest.mark.parametrize("kind", NEWER_AND_UNREADABLE)
def test_an_older_value_never_stands_in_for_a_newer_one_that_cannot_be_read(
    content: Content, kind: str
) -> None:
    old = observation("body-temperature", (36.8, "Cel"), 6)
    newer = observation("body-temperature", None, 1) | NEWER_AND_UNREADABLE[kind]
    fact = facts_of(content, old, newer)["body-temperature"]
    assert (fact.status, fact.value) == ("unusable", None)
    empty = {key: value for key, value in newer.items() if not key.startswith("value")}
    assert facts_of(content, old, empty)["body-temperature"].value == 36.8
    older = observation("body-temperature", None, 30) | NEWER_AND_UNREADABLE["text"]
    assert facts_of(content, old, older)["body-temperature"].value == 36.8


def test_an_offset_and_a_z_are_the_same_time(content: Content) -> None:
    fact = volume_of(
        content,
        *A_DAY,
        milk(7, 1, effectiveDateTime="2026-01-15T11:00:00Z"),
        milk(8, 1, effectiveDateTime="2026-01-15T13:00:00+02:00"),
    )
    assert fact.measure("count") == 5


def test_a_partial_day_is_not_a_low_day(content: Content) -> None:
    fact = volume_of(content, milk(20, 3), milk(20, 1))
    assert fact.measure("sum") is None
    assert fact.measure("count") is None
    assert fact.measure("sum-so-far") == 40


def test_a_break_in_the_records_is_not_a_pause(content: Content) -> None:
    fact = volume_of(content, milk(20, 30), milk(20, 8), milk(20, 2))
    assert fact.measure("sum") is None


def test_a_reported_count_that_agrees_closes_the_day(content: Content) -> None:
    sessions = [milk(20, 13), milk(20, 7), milk(20, 1)]
    assert volume_of(content, *sessions).measure("sum") is None
    closed = volume_of(content, *sessions, observation("pump-sessions-24h", 3, 0.5))
    assert closed.measure("sum") == 60
    other = volume_of(content, *sessions, observation("pump-sessions-24h", 5, 0.5))
    assert other.measure("sum") is None


def test_the_reported_count_wins_only_if_it_is_newer(content: Content) -> None:
    newer = facts_of(content, *A_DAY, observation("pump-sessions-24h", 6, 1))
    older = facts_of(content, *A_DAY, observation("pump-sessions-24h", 6, 3))
    assert newer["pump-sessions-24h"].value == 6
    assert older["pump-sessions-24h"].value == 4


def test_only_the_first_page_gives_no_total(content: Content) -> None:
    page = KeyResult(State.PARTIAL, list(A_DAY), "only its first page was sent")
    fact = facts_of(content, milkExpression=page)[VOLUME]
    assert fact.measure("sum") is None
    assert fact.measure("latest") == 20


# --- what does not count ------------------------------------------------------------------------

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a comparator": ({"valueQuantity": {"value": 5, "code": "mL", "comparator": "<"}}, "a limit"),
    "text": ({"valueString": "a few drops", "valueQuantity": None}, "plain text"),
    "only text": ({"valueString": "60 mL"}, "plain text"),
    "no value": ({}, "it has no value"),
    "an absent value": (
        {"dataAbsentReason": {"coding": [{"code": "unknown"}]}},
        "said to be absent",
    ),
    "a unit of another kind": ({"valueQuantity": {"value": 5, "code": "h"}}, "of another kind"),
    "no unit": ({"valueQuantity": {"value": 5}}, "has no unit"),
    "an integer": ({"valueInteger": 5}, "has no unit"),
    "an empty unit": ({"valueQuantity": {"value": 5, "unit": ""}}, "has no unit"),
    "yes": ({"valueBoolean": True}, "of another kind"),
    "too large": ({"valueQuantity": {"value": 1e6, "code": "mL"}}, "too large"),
    "a number of 400 digits": (
        {"valueQuantity": {"value": 10**400, "code": "mL"}},
        "could not be read",
    ),
    "too large for any number": ({"valueQuantity": {"value": 1e308, "code": "L"}}, "too large"),
    "below zero": ({"valueQuantity": {"value": -5, "code": "mL"}}, "below zero"),
    "a number as text": ({"valueQuantity": {"value": "5", "code": "mL"}}, "not a number"),
    "entered in error": (
        {"status": "entered-in-error", "valueQuantity": {"value": 5, "code": "mL"}},
        "entered-in-error",
    ),
    "cancelled": (
        {"status": "cancelled", "valueQuantity": {"value": 5, "code": "mL"}},
        "cancelled",
    ),
    "registered": (
        {"status": "registered", "valueQuantity": {"value": 5, "code": "mL"}},
        "registered",
    ),
    "without a status": (
        {"status": None, "valueQuantity": {"value": 5, "code": "mL"}},
        "without a status",
    ),
    "in the future": (
        {"effectiveDateTime": ago(-3), "valueQuantity": {"value": 5, "code": "mL"}},
        "in the future",
    ),
    "without a time": (
        {"effectiveDateTime": None, "valueQuantity": {"value": 5, "code": "mL"}},
        "no time",
    ),
    "a time without offset": (
        {"effectiveDateTime": "2026-01-15T11:00:00", "valueQuantity": {"value": 5, "code": "mL"}},
        "no offset",
    ),
    "only a month": (
        {"effectiveDateTime": "2026-01", "valueQuantity": {"value": 5, "code": "mL"}},
        "too vague",
    ),
    "a primitive extension": (
        {
            "_effectiveDateTime": {"extension": [{"url": "urn:x", "valueCode": "unknown"}]},
            "effectiveDateTime": None,
            "valueQuantity": {"value": 5, "code": "mL"},
        },
        "no time",
    ),
    "a quantity that is a list": ({"valueQuantity": [5]}, "could not be read"),
}


@pytest.mark.parametrize(
    ("fact", "most", "more"),
    [
        ("depression-score", 30, 31),
        ("depression-item-10", 3, 4),
        ("phq-9-score", 27, 28),
        ("body-temperature", (42.0, "Cel"), (102.0, "Cel")),
        (VOLUME, (900, "mL"), (5000, "mL")),
    ],
)
def test_a_value_that_nobody_can_have_is_not_believed(
    content: Content, fact: str, most: Any, more: Any
) -> None:
    assert facts_of(content, observation(fact, most, 1))[fact].status == "known"
    found = facts_of(content, observation(fact, more, 1))[fact]
    assert (found.status, found.value) == ("unusable", None)
    assert found.problems[0].reason == "its value is too large to be one"


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_not_a_value_is_told_and_spoils_nothing(content: Content, kind: str) -> None:
    members, reason = BROKEN[kind]
    broken = observation(VOLUME, None, 1) | members
    fact = volume_of(content, *A_DAY, {k: v for k, v in broken.items() if v is not None})
    assert fact.measure("sum-so-far") == 80
    not_of_the_day = {"entered in error", "cancelled", "in the future"} | {
        name for name, (_, why) in BROKEN.items() if why == "no time"
    }
    # A session that could not be read is of the day: what was read is no whole day.
    assert fact.measure("sum") == (80 if kind in not_of_the_day else None)
    assert any(reason in said for said in reasons(fact)), reasons(fact)


@pytest.mark.parametrize("kind", BROKEN)
def test_alone_it_is_never_taken_for_nothing_recorded_or_for_a_value(
    content: Content, kind: str
) -> None:
    members, _ = BROKEN[kind]
    broken = observation(VOLUME, None, 1) | members
    fact = volume_of(content, {k: v for k, v in broken.items() if v is not None})
    withdrawn = kind in ("entered in error", "cancelled")
    assert fact.status == ("not-recorded" if withdrawn else "unusable")
    assert fact.value is None


@pytest.mark.parametrize(
    "junk",
    [
        {"resourceType": "Observation"},
        {"resourceType": "Observation", "subject": {"reference": f"Patient/{HER}"}, "code": "x"},
        {
            "resourceType": "Observation",
            "subject": {"reference": f"Patient/{HER}"},
            "code": {"coding": "x"},
        },
        {
            "resourceType": "Observation",
            "subject": {"reference": f"Patient/{HER}"},
            "code": {"coding": [None, 3]},
        },
        {
            "resourceType": "Observation",
            "subject": {"reference": f"Patient/{HER}"},
            "code": {"coding": [{"system": ["x"], "code": {"a": 1}}]},
        },
        {"resourceType": "Observation", "subject": [f"Patient/{HER}"]},
        {
            "resourceType": "Observation",
            "subject": {"reference": f"Patient/{HER}"},
            "component": {"a": 1},
        },
        {"resourceType": "Spaceship", "subject": {"reference": f"Patient/{HER}"}},
        {"resourceType": "Observation", "id": 7, "subject": {"reference": 7}},
    ],
)
def test_junk_in_the_bundle_changes_nothing(content: Content, junk: dict[str, Any]) -> None:
    page = KeyResult(State.COMPLETE, [junk, *A_DAY])
    assert facts_of(content, milkExpression=page)[VOLUME].measure("sum") == 80


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
MEMBERS = (
    "status",
    "code",
    "effectiveDateTime",
    "effectivePeriod",
    "issued",
    "valueQuantity",
    "valueCodeableConcept",
    "component",
    "focus",
    "bodySite",
    "dataAbsentReason",
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=3))
def test_no_member_of_a_resource_can_break_the_others(
    content: Content, members: dict[str, Any]
) -> None:
    odd = observation(VOLUME, (5.0, "mL"), 1) | members
    records = [*A_DAY, odd, observation("letdown-sensation", False)]
    ways = [facts_of(content, milkExpression=KeyResult(State.COMPLETE, records))]
    if "Infinity" not in json.dumps(members):  # JSON has no such number
        ways.append(facts_of(content, *records))
    for facts in ways:
        assert facts["letdown-sensation"].value == "no"
        assert facts[VOLUME].measure("sum-so-far") in (80, 85)


# --- units --------------------------------------------------------------------------------------


@given(st.floats(0, 2000, allow_nan=False))
def test_units_of_one_amount_agree(content: Content, amount: float) -> None:
    """UCUM: 1 L is 1000 mL, [foz_us] 29.5735295625 mL; milk weighs 1.03 g/mL."""
    for factor, unit in ((1, "mL"), (0.001, "L"), (1 / 29.5735295625, "[foz_us]"), (1.03, "g")):
        assert content.lookup.convert(VOLUME, amount * factor, unit) == pytest.approx(
            amount, rel=1e-9
        )


@pytest.mark.parametrize("unit", ["gill", "cup", "mg", "", None, 3, "{drops}"])
def test_an_unknown_unit_of_volume_is_refused(content: Content, unit: object) -> None:
    assert content.lookup.convert(VOLUME, 1.0, unit) is None


@pytest.mark.parametrize("unit", [None, "", "1", "{sessions}", "{sessions}/d", "/d"])
def test_an_annotation_is_no_unit(content: Content, unit: object) -> None:
    assert content.lookup.convert("pump-sessions-24h", 4.0, unit) == 4


@pytest.mark.parametrize(
    ("fact", "value", "unit", "expected"),
    [
        ("body-temperature", 100.4, "[degF]", 38.0),
        ("body-temperature", 38.0, "Cel", 38.0),
        ("pump-session-minutes", 0.5, "h", 30.0),
        ("qtc-interval", 0.45, "s", 450.0),
        ("potassium", 3.4, "meq/L", 3.4),
        ("magnesium", 1.0, "mmol/L", 2.4305),
        ("alcohol-wait-hours", 120, "min", 2.0),
        ("alcohol-drinks-per-day", 2, "{drinks}/d", 2.0),
    ],
)
def test_quantities_convert(
    content: Content, fact: str, value: float, unit: str, expected: float
) -> None:
    found = facts_of(content, observation(fact, (value, unit)))[fact]
    assert found.value == pytest.approx(expected, abs=1e-6)


# --- which facts, from which resources ----------------------------------------------------------


def test_every_fact_of_the_content_is_read_by_its_own_code(content: Content) -> None:
    for spec in content.facts.values():
        if spec.type == "time":
            record = birth(30)
        elif spec.answers:
            record = observation(spec.id, next(iter(spec.answers)))
        else:
            record = observation(spec.id, (3.0, spec.unit) if spec.unit else 3.0)
        fact = facts_of(content, record)[spec.tells or spec.id]
        assert fact.status == "known", spec.id
        assert fact.value is not None, spec.id


@pytest.mark.parametrize(
    ("fact", "system", "code", "answer"),
    [
        ("smoking-status", "http://snomed.info/sct", "449868002", "smoker"),
        ("smoking-status", "http://snomed.info/sct", "230059006", "smoker"),
        ("smoking-status", "http://snomed.info/sct", "8517006", "former"),
        ("smoking-status", "http://snomed.info/sct", "266924008", "former"),
        ("smoking-status", "http://snomed.info/sct", "266919005", "never"),
        ("letdown-sensation", "http://snomed.info/sct", "373067005", "no"),
        ("letdown-sensation", "http://loinc.org", "LA33-6", "yes"),
        ("pacifier-use", "http://terminology.hl7.org/CodeSystem/v2-0136", "N", "no"),
    ],
)
def test_standard_answers(content: Content, fact: str, system: str, code: str, answer: str) -> None:
    concept = {"coding": [{"system": system, "code": code}]}
    record = observation(fact, valueCodeableConcept=concept)
    assert facts_of(content, record)[fact].value == answer


@pytest.mark.parametrize(
    ("system", "code"),
    [
        ("http://loinc.org", "72166-2"),
        ("http://snomed.info/sct", "1747861000168109"),
        ("http://snomed.info/sct", "365980008"),
    ],
)
def test_smoking_status_by_its_standard_codes(content: Content, system: str, code: str) -> None:
    record = observation(
        "x",
        valueCodeableConcept={
            "coding": [{"system": "http://snomed.info/sct", "code": "449868002"}]
        },
    )
    record["code"] = {"coding": [{"system": system, "code": code}]}
    assert facts_of(content, record)["smoking-status"].value == "smoker"


def test_an_unknown_answer_is_not_a_no(content: Content) -> None:
    record = observation("letdown-sensation", "perhaps")
    fact = facts_of(content, record)["letdown-sensation"]
    assert fact.status == "unusable"


def test_components_carry_facts_of_their_own(content: Content) -> None:
    def part(fact: str, **value: Any) -> dict[str, Any]:
        return {"code": {"coding": [{"system": "urn:lactation-cds:fact", "code": fact}]}, **value}

    record = observation(
        "pump-session",
        component=[
            part(VOLUME, valueQuantity={"value": 30, "code": "mL"}),
            part("pump-session-minutes", valueQuantity={"value": 25, "code": "min"}),
            part("letdown-sensation", dataAbsentReason={"coding": [{"code": "unknown"}]}),
        ],
    )
    facts = facts_of(content, record)
    assert facts[VOLUME].measure("latest") == 30
    assert facts["pump-session-minutes"].value == 25
    assert facts["letdown-sensation"].status == "unusable"


def test_one_code_written_alike_is_told_apart_by_the_type_of_the_record(content: Content) -> None:
    felt = observation("letdown-sensation", True)
    condition = {
        "resourceType": "Condition",
        "id": "condition-1",
        "code": felt["code"],
        "subject": felt["subject"],
        "onsetDateTime": ago(0.5),
    }
    fact = facts_of(content, felt, condition)["letdown-sensation"]
    assert fact.references == [f"Observation/{felt['id']}"]


def test_a_window_ends(content: Content) -> None:
    inside = facts_of(content, observation("letdown-sensation", False, 47))
    outside = facts_of(content, observation("letdown-sensation", False, 49))
    assert inside["letdown-sensation"].value == "no"
    assert outside["letdown-sensation"].status == "stale"


def test_the_newest_value_wins(content: Content) -> None:
    records = [
        observation("breast-fullness", "full", 20),
        observation("breast-fullness", "soft", 2),
    ]
    assert facts_of(content, *records)["breast-fullness"].value == "soft"
    assert facts_of(content, *reversed(records))["breast-fullness"].value == "soft"


def test_two_values_that_contradict_are_no_value(content: Content) -> None:
    facts = facts_of(
        content,
        observation("letdown-sensation", True, 1),
        observation("letdown-sensation", False, 0.75),
    )
    assert facts["letdown-sensation"].status == "conflicting"
    assert facts["letdown-sensation"].value is None


def test_records_of_another_patient_are_never_used(content: Content) -> None:
    other = {"subject": {"reference": "Patient/someone-else"}}
    foreign = {"subject": {"reference": f"https://other.example.org/Patient/{HER}"}}
    assert volume_of(content, *A_DAY, milk(500, 1, **other)).measure("sum") == 80
    # One of another server may be hers: what was read is told, and not as all of it.
    fact = volume_of(content, *A_DAY, milk(500, 1.5, **foreign))
    assert (fact.measure("sum"), fact.measure("sum-so-far")) == (None, 80)


def test_an_absolute_reference_to_her_on_her_server_is_hers(content: Content) -> None:
    hers = {"subject": {"reference": f"https://fhir.example.org/r4/Patient/{HER}"}}
    assert volume_of(content, *A_DAY, milk(10, 1, **hers)).measure("sum") == 90


def test_an_infant_is_known_by_a_record_of_hers_that_names_it(content: Content) -> None:
    infants = observation("pacifier-use", True, 2, subject={"reference": f"Patient/{INFANT}"})
    named = observation("formula-given", False, focus=[{"reference": f"Patient/{INFANT}"}])
    assert facts_of(content, infants)["pacifier-use"].status == "not-recorded"
    assert facts_of(content, infants, named)["pacifier-use"].value == "yes"


def test_an_infants_own_signs_are_not_the_mothers(content: Content) -> None:
    fever = observation(
        "body-temperature", (39.0, "Cel"), subject={"reference": f"Patient/{INFANT}"}
    )
    named = observation("formula-given", False, focus=[{"reference": f"Patient/{INFANT}"}])
    assert facts_of(content, fever, named)["body-temperature"].status == "not-recorded"


# --- the birth ----------------------------------------------------------------------------------


def test_the_birth_gives_hours_and_days(content: Content) -> None:
    fact = facts_of(content, birth(5 * 24 + 3))["delivery-time"]
    assert fact.measure("hours") == pytest.approx(123)
    assert fact.measure("days") == 5


def test_a_birth_can_be_a_procedure(content: Content) -> None:
    section = caesarean(performedPeriod={"start": ago(40)})
    assert facts_of(content, section)["delivery-time"].measure("hours") == pytest.approx(40)
    planned = section | {"status": "preparation"}
    assert facts_of(content, planned)["delivery-time"].status == "unusable"


def test_a_day_without_a_time_counts_its_least_hours(content: Content) -> None:
    fact = facts_of(content, observation("delivery-time", valueDateTime="2026-01-10"))[
        "delivery-time"
    ]
    assert fact.measure("days") == 5
    hours = fact.measure("hours")
    assert hours is not None
    assert hours == pytest.approx(4.5 * 24, abs=0.01)


def test_a_birth_today_without_a_time_gives_no_hours(content: Content) -> None:
    fact = facts_of(content, observation("delivery-time", valueDateTime="2026-01-15"))[
        "delivery-time"
    ]
    assert fact.value == "2026-01-15"
    assert fact.measure("hours") is None


def test_two_births_that_disagree_are_no_birth(content: Content) -> None:
    assert facts_of(content, birth(100), birth(300))["delivery-time"].status == "conflicting"
    assert facts_of(content, birth(100), birth(101))["delivery-time"].status == "known"


def test_what_could_not_be_read_is_not_taken_for_absent(content: Content) -> None:
    failed = KeyResult(State.FAILED, reason="the record system was too slow")
    assert facts_of(content, deliveries=failed)["delivery-time"].status == "not-available"
    assert facts_of(content)["delivery-time"].status == "not-recorded"


def test_a_month_is_too_vague_for_a_day(content: Content) -> None:
    cards = cards_of(
        content, *A_DAY, observation("delivery-time", valueDateTime="2026-01"), now=NOW
    )
    assert "inhibited-letdown" not in cards


# --- sessions at night (P06) --------------------------------------------------------------------

A_NIGHT = ["14T08:00", "14T12:00", "14T16:00", "14T20:00", "15T03:30", "15T06:30"]


def nights(
    content: Content, offset: str, zone: str | None = None, times: list[str] = A_NIGHT
) -> float | None:
    """Her sessions at night, with times in one offset, where the service may know a zone."""
    sessions = [
        milk(20, 1, effectiveDateTime=f"2026-01-{time}:00{offset}") for time in ("13T23:30", *times)
    ]
    known = None if zone is None else ZoneInfo(zone)
    evaluation = evaluation_of(content, time_zone=known)
    facts = evaluation.case(chart_of(content, *sessions), NOW).facts
    return facts["expressed-milk-volume"].measure("night-sessions")


def test_a_session_at_night_is_told_by_the_offset_of_its_record(content: Content) -> None:
    assert nights(content, "-05:00") == 1


def test_the_zone_that_is_set_tells_when_her_night_is(content: Content) -> None:
    utc = ["14T13:00", "14T17:00", "14T21:00", "15T01:00", "15T08:30", "15T11:30"]
    assert nights(content, "Z", times=utc) is None, "many systems write every time so"
    assert nights(content, "Z", "America/New_York", utc) == 1


@pytest.mark.parametrize(
    ("time", "is_night"), [("00:59", 0), ("01:00", 1), ("04:59", 1), ("05:00", 0)]
)
def test_the_night_is_from_one_to_five(content: Content, time: str, is_night: int) -> None:
    assert nights(content, "-05:00", times=[*A_NIGHT[:4], f"15T{time}"]) == is_night


def test_where_the_time_of_one_session_is_not_known_nothing_is_told_of_the_night(
    content: Content,
) -> None:
    sessions = [
        milk(20, 1, effectiveDateTime=f"2026-01-{time}:00-05:00") for time in ("13T23:30", *A_NIGHT)
    ]
    day = milk(20, 1, effectiveDateTime="2026-01-15")
    for more, told in ([], 1), ([day], None):
        fact = facts_of(content, *sessions, *more)["expressed-milk-volume"]
        assert fact.measure("night-sessions") == told


def test_no_session_at_night_is_not_told_of_half_a_day(content: Content) -> None:
    half = facts_of(
        content,
        *(
            milk(20, 1, effectiveDateTime=f"2026-01-15T{hour}:00-05:00")
            for hour in ("05:30", "06:30")
        ),
    )
    assert half["expressed-milk-volume"].measure("night-sessions") is None


def test_a_gap_of_fourteen_hours_is_a_gap_and_one_of_seventeen_a_want_of_records(
    content: Content,
) -> None:
    def gap(hours: float) -> float | None:
        times = [26 + hours - 14, 20 + hours - 14, 6, 1]
        fact = facts_of(content, *(milk(40, at) for at in times))["expressed-milk-volume"]
        measured: float | None = fact.measure("longest-gap")
        return measured

    assert gap(14) == 14 * 3600
    assert gap(17) == 5 * 3600
