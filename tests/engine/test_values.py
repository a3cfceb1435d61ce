"""Records as hospitals keep them: births in every form, units as text, totals, zones, states."""

from __future__ import annotations

import itertools
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.content.fact_types import FactValue
from cds_service.engine.facts import AsOf, Facts, birth_of_newborn, read_facts
from cds_service.hooks.prefetch import resolve_prefetch
from cds_service.hooks.protocol import read_request
from cds_service.settings import Settings
from tests.support.calls import VIEW
from tests.support.mothers import (
    HER,
    NOW,
    ago,
    chart_of,
    facts_of,
    hook_request,
    milk,
    observation,
    with_a_letdown,
)
from tests.support.recorded import recorded

VOLUME = "expressed-milk-volume"
ZONE = ZoneInfo("America/New_York")


def cards_of_request(
    content: Content,
    settings: Settings,
    name: str,
    now: str = "2026-03-10T12:00:00+00:00",
    letdown: bool = False,
) -> dict[str, str]:
    """The cards that a request from ``requests/`` gets over HTTP: summary and detail by topic.

    With ``letdown`` one is recorded too.
    """
    client = create_app(settings, content, lambda: datetime.fromisoformat(now)).test_client()
    body = recorded(name)
    body = with_a_letdown(body) if letdown else body
    answer = client.post(VIEW, data=body, content_type="application/json")
    assert answer.status_code == 200, answer.text
    return {
        card["source"]["topic"]["code"]: f"{card['summary']}\n{card.get('detail', '')}"
        for card in answer.get_json()["cards"]
    }


# --- requests over HTTP ---------------------------------------------------------------------------


def test_left_and_right_as_components_add(content: Content, settings: Settings) -> None:
    assert cards_of_request(content, settings, "left-and-right") == {}


def test_a_total_of_the_day_does_not_add_to_its_sessions(
    content: Content, settings: Settings
) -> None:
    cards = cards_of_request(content, settings, "day-total")
    assert "240 mL recorded in 24 h" in cards["inhibited-letdown"]


@pytest.mark.parametrize("name", ["smoking-answer-la", "period-without-end", "birth-codes"])
def test_smoking_and_birth_are_read(content: Content, settings: Settings, name: str) -> None:
    cards = cards_of_request(content, settings, name, letdown=True)
    assert "smoking" in cards["supply-risk-factors"]


@pytest.mark.parametrize(
    ("name", "card"), [("fever-as-sent", "fever-source"), ("active-for-weeks", "breast-infection")]
)
def test_an_infection_is_seen(content: Content, settings: Settings, name: str, card: str) -> None:
    assert card in cards_of_request(content, settings, name)


def test_an_active_condition_needs_no_date(content: Content, settings: Settings) -> None:
    cards = cards_of_request(content, settings, "mastitis-undated", "2026-01-15T12:00:00+00:00")
    assert next(iter(cards)) == "breast-infection"


def test_a_birth_within_her_stay_is_no_contradiction(content: Content, settings: Settings) -> None:
    assert "data-needed" not in cards_of_request(content, settings, "admission-and-birth")


def test_units_as_text_are_no_question(content: Content, settings: Settings) -> None:
    assert "data-needed" not in cards_of_request(content, settings, "units-as-text")


def test_times_without_an_offset_are_said_to_be_unread(
    content: Content, settings: Settings
) -> None:
    cards = cards_of_request(content, settings, "no-offset")
    assert "its time has no offset" in cards["data-needed"]


def test_times_without_an_offset_are_read_in_the_zone_that_is_set(
    content: Content, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("CDS_TIME_ZONE", "UTC")
    cards = cards_of_request(content, Settings(auth="open"), "no-offset")
    assert "offset" not in json.dumps(cards)


# What is read of a request, by its bytes: a fact, a measure or "value", and what it is.
READ_OF_REQUESTS: dict[str, list[tuple[str, str, float | str]]] = {
    "units-as-text": [(VOLUME, "sum-so-far", 119.147), (VOLUME, "count-so-far", 2)],
    "left-and-right": [(VOLUME, "sum", 480), (VOLUME, "latest", 60), (VOLUME, "count", 8)],
    "day-total": [(VOLUME, "sum", 240), (VOLUME, "count", 8), ("pump-sessions-24h", "value", 8)],
    "admission-and-birth": [
        ("delivery-time", "hours", 122),
        ("delivery-time", "value", "2026-03-05T09:00:00Z"),
        (VOLUME, "sum-so-far", 40),
    ],
    "birth-codes": [("delivery-time", "hours", 122), ("smoking-status", "value", "smoker")],
    "smoking-answer-la": [("smoking-status", "value", "smoker")],
    "period-without-end": [("smoking-status", "value", "smoker")],
    "newborn-chart": [("pacifier-use", "value", "yes"), ("delivery-time", "hours", 122)],
    "fever-as-sent": [("body-temperature", "value", 38.9)],
    "active-for-weeks": [("mastitis", "value", "yes"), ("delivery-time", "hours", 122)],
    "mastitis-family": [("mastitis", "value", "yes")],
    "german-codes": [("mastitis", "value", "yes")],
}


@pytest.mark.parametrize("name", READ_OF_REQUESTS)
def test_the_facts_of_a_request_are_what_it_says(content: Content, name: str) -> None:
    body = recorded(name)
    request, context = read_request(body, "patient-view")
    chart = resolve_prefetch(content, request, context, None, 0)
    facts = read_facts(content, chart, datetime(2026, 3, 10, 12, tzinfo=UTC))
    for fact, measure, expected in READ_OF_REQUESTS[name]:
        read = facts[fact].value if measure == "value" else facts[fact].measure(measure)
        assert read == (
            expected if isinstance(expected, str) else pytest.approx(expected, abs=1e-3)
        )


def test_each_way_of_coding_a_birth_alone_is_the_birth(content: Content) -> None:
    """Of the request with six of them, each without the others."""
    body = json.loads(recorded("birth-codes"))
    kinds = ("Procedure", "Condition", "Encounter")
    births = [
        (key, entry["resource"] | {"code": {"coding": [code]}})
        for key, bundle in body["prefetch"].items()
        for entry in (bundle or {}).get("entry", ())
        for code in entry["resource"].get("code", {}).get("coding", ())
        if entry["resource"]["resourceType"] in kinds or "valueDateTime" in entry["resource"]
    ]
    assert len(births) == 6
    for key, birth in births:
        alone: dict[str, Any] = dict.fromkeys(body["prefetch"])
        alone[key] = birth
        request, context = read_request(
            json.dumps({**body, "prefetch": alone}).encode(), "patient-view"
        )
        chart = resolve_prefetch(content, request, context, None, 0)
        now = datetime(2026, 3, 10, 12, tzinfo=UTC)
        fact = read_facts(content, chart, now)["delivery-time"]
        assert fact.measure("hours") == pytest.approx(122, abs=1), birth["code"]


# --- volumes --------------------------------------------------------------------------------------


@given(text=st.sampled_from(["ml", "mls", "cc", "mL", "ounces", "fl oz", "oz"]), data=st.data())
def test_case_spaces_and_full_stops_of_a_unit_do_not_matter(
    content: Content, text: str, data: st.DataObject
) -> None:
    upper = data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    written = "".join(c.upper() if up else c for c, up in zip(text, upper, strict=True))
    written = (
        data.draw(st.sampled_from(["", " "])) + written + data.draw(st.sampled_from(["", "."]))
    )
    expected = 29.5735295625 if "o" in text else 1.0
    assert content.lookup.convert(VOLUME, 1.0, written) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("fact", "number", "unit", "expected"),
    [
        ("body-temperature", 38.9, "°C", 38.9),
        ("body-temperature", 102, "deg F", 38.889),
        ("qtc-interval", 460, "msec", 460),
        ("potassium", 4.1, "mEq/L", 4.1),
        ("magnesium", 2, "mEq/L", 2.4305),
    ],
)
def test_units_as_they_are_written(
    content: Content, fact: str, number: float, unit: str, expected: float
) -> None:
    assert content.lookup.convert(fact, number, unit) == pytest.approx(expected, abs=1e-3)


def total(volume: float, hours: float = 24, end: float = 0.5) -> dict[str, Any]:
    made = milk(volume, 1, effectivePeriod={"start": ago(end + hours), "end": ago(end)})
    del made["effectiveDateTime"]
    return made


def volume_of(content: Content, *resources: dict[str, Any]) -> FactValue:
    fact: FactValue = facts_of(content, *resources)[VOLUME]
    return fact


def test_a_total_alone_gives_the_sum_and_no_sessions(content: Content) -> None:
    fact = volume_of(content, total(300))
    assert fact.measure("sum") == 300
    assert fact.measure("count") is fact.measure("latest") is None


def test_of_a_total_and_fewer_sessions_the_total_is_more_complete(content: Content) -> None:
    fact = volume_of(content, total(300), *(milk(20, hours) for hours in (26, 20, 14, 8, 2)))
    assert fact.measure("sum") == 300
    assert fact.measure("count") is None


def test_a_period_under_12_h_is_a_session(content: Content) -> None:
    fact = volume_of(content, total(30, hours=0.5), milk(20, 3))
    assert fact.measure("sum-so-far") == 50


def test_two_alike_in_one_record_add_and_a_copy_of_it_does_not(content: Content) -> None:
    code = {"coding": [{"system": "urn:lactation-cds:fact", "code": VOLUME}]}
    part = {"code": code, "valueQuantity": {"value": 30, "unit": "mL"}}
    pair = observation("pump-type", None, 1, component=[part, part])
    fact = volume_of(content, pair, {**pair, "id": "copy"})
    assert fact.measure("sum-so-far") == 60
    assert fact.measure("count-so-far") == 1


# --- births ---------------------------------------------------------------------------------------

BORN = NOW - timedelta(hours=61, minutes=20)


def coded(kind: str, system: str, code: str, **members: Any) -> dict[str, Any]:
    concept: Any = {"coding": [{"system": system, "code": code}]}
    name, value = ("type", [concept]) if kind == "Encounter" else ("code", concept)
    her = {"reference": f"Patient/{HER}"}
    return {"resourceType": kind, "id": code.lower(), "subject": her, name: value, **members}


SCT, CM = "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10-cm"
LOINC, WHO = "http://loinc.org", "http://hl7.org/fhir/sid/icd-10"
GM, OPS = "http://fhir.de/CodeSystem/bfarm/icd-10-gm", "http://fhir.de/CodeSystem/bfarm/ops"
AT = BORN.isoformat()
AROUND = {
    "start": (BORN - timedelta(minutes=40)).isoformat(),
    "end": (BORN + timedelta(minutes=20)).isoformat(),
}
STAY = {
    "start": (BORN - timedelta(hours=13)).isoformat(),
    "end": (BORN + timedelta(hours=40)).isoformat(),
}
LATER = (BORN + timedelta(hours=9)).isoformat()
DAY_OF_BIRTH = BORN.date().isoformat()
PCS = ("http://www.cms.gov/Medicare/Coding/ICD10", "http://www.icd10data.com/icd10pcs")
# Whether the hour is stated, and the record.
WAYS: dict[str, tuple[bool, dict[str, Any]]] = {
    "delivery time": (
        True,
        coded(
            "Observation",
            "http://loinc.org",
            "93857-1",
            status="final",
            effectiveDateTime=LATER,
            valueDateTime=AT,
        ),
    ),
    "delivery time, effective": (
        True,
        coded("Observation", "http://loinc.org", "93857-1", status="final", effectiveDateTime=AT),
    ),
    "procedure": (
        True,
        coded("Procedure", SCT, "236973005", status="completed", performedDateTime=AT),
    ),
    "procedure, period": (
        True,
        coded("Procedure", SCT, "700000006", status="completed", performedPeriod=AROUND),
    ),
    "synthea": (
        True,
        coded("Procedure", SCT, "386216000", status="completed", performedPeriod=AROUND),
    ),
    "pcs": (True, coded("Procedure", PCS[0], "10E0XZZ", status="completed", performedDateTime=AT)),
    "pcs, other name": (
        True,
        coded("Procedure", PCS[1], "10D00Z1", status="completed", performedDateTime=AT),
    ),
    "procedure, day": (
        False,
        coded("Procedure", SCT, "11466000", status="completed", performedDateTime=DAY_OF_BIRTH),
    ),
    "outcome": (True, coded("Condition", CM, "Z37.0", onsetDateTime=AT)),
    "stillbirth": (False, coded("Condition", CM, "Z37.1", onsetDateTime=DAY_OF_BIRTH)),
    "condition, recorded": (False, coded("Condition", SCT, "169826009", recordedDate=LATER)),
    "ops": (True, coded("Procedure", OPS, "5-749.10", status="completed", performedDateTime=AT)),
    "icd-10-gm": (True, coded("Condition", GM, "Z37.0!", onsetDateTime=AT)),
    "icd-10 of who": (True, coded("Condition", WHO, "O83.1", onsetPeriod={"start": AT})),
    "encounter": (False, coded("Encounter", SCT, "177184002", status="finished", period=STAY)),
}


def read_as_sent(content: Content, *records: dict[str, Any]) -> Facts:
    """Through the decoder, from bytes."""
    return read_facts(content, chart_of(content, *json.loads(json.dumps(records))), NOW)


def test_births_in_every_two_ways(content: Content) -> None:
    pairs = list(itertools.product(WAYS, repeat=2))
    chosen = random.Random(20)
    deck = pairs + chosen.choices(pairs, k=max(0, 300 - len(pairs)))
    assert len(deck) >= 300
    for ways in deck:
        records = [{**WAYS[way][1], "id": f"record-{n}"} for n, way in enumerate(ways)]
        chosen.shuffle(records)
        body = json.dumps(hook_request(content, *records)).encode()
        request, context = read_request(body, "patient-view")
        chart = resolve_prefetch(content, request, context, None, 0)
        fact = read_facts(content, chart, NOW)["delivery-time"]
        assert fact.status == "known", ways
        hours = fact.measure("hours")
        if any(WAYS[way][0] for way in ways):
            assert hours is not None, ways
            assert abs(hours - 61.33) < 1, ways
        elif hours is not None:  # never more exact than what was said
            assert 40 <= hours <= 75, ways


@pytest.mark.parametrize(
    "record",
    [
        coded("Observation", "http://loinc.org", "11778-8", status="final", valueDateTime=AT),
        coded("Observation", "http://loinc.org", "103975-9", status="final", valueDateTime=AT),
        coded("Procedure", SCT, "237001001", status="completed", performedDateTime=AT),
        coded("Procedure", SCT, "177176001", status="completed", performedDateTime=AT),
        coded("Condition", SCT, "72892002", onsetDateTime=AT, abatementDateTime=AT),
        coded("Condition", CM, "O36.4XX0", onsetDateTime=AT),
        coded("Condition", CM, "Z38.00", onsetDateTime=AT),  # of the newborn
        coded("Condition", CM, "Z39.2", onsetDateTime=AT),  # a visit after it
        coded("Condition", CM, "Z3A.39", onsetDateTime=AT),
        coded("Condition", CM, "O86.0", onsetDateTime=AT),
        coded("Condition", GM, "O03.9", onsetDateTime=AT),
        coded("Condition", GM, "O60.0", onsetDateTime=AT),
        coded("Observation", "http://loinc.org", "63893-2", status="final", valueDateTime=AT),
        *(
            coded("Procedure", OPS, code, status="completed", performedDateTime=AT)
            for code in ("5-730", "5-733.0", "5-738.0", "5-743", "5-744.0", "5-756.0", "9-262.0")
        ),
    ],
)
def test_what_is_no_birth_is_not_read_as_one(content: Content, record: dict[str, Any]) -> None:
    assert read_as_sent(content, record)["delivery-time"].status == "not-recorded"


@pytest.mark.parametrize(
    ("kind", "system", "codes"),
    [
        ("Condition", CM, ["O80", "O82", "Z37.0", "Z37.59", "Z37.69", "Z37.9", "Z37.1", "z37.0"]),
        ("Condition", WHO, ["O80.9", "O81.4", "O82.1", "O83.0", "O84.2", "Z37.3", "Z37"]),
        ("Condition", GM, ["O80", "O81", "O82", "O82.-", "Z37.0!", "Z37.6"]),
        ("Condition", GM.replace("bfarm", "dimdi"), ["O80", "Z37.0"]),
        ("Procedure", OPS, ["5-720.0", "5-724", "5-725.2", "5-727.0", "5-728.1", "5-728.X"]),
        ("Procedure", OPS, ["5-729", "5-732.2", "5-740.0", "5-740.1", "5-741.0", "5-742.1"]),
        ("Procedure", OPS, ["5-749.0", "5-749.10", "5-749.11", "8-515", "9-260", "9-261"]),
        ("Procedure", OPS.replace("bfarm", "dimdi"), ["5-740.1", "9-268"]),
        ("Procedure", PCS[0], ["10D00Z0", "10D00Z2", "10D07Z3", "10D07Z8", "10e0xzz"]),
        ("Procedure", "urn:oid:2.16.840.1.113883.6.4", ["10E0XZZ"]),
        ("Procedure", PCS[1], ["10e0xzz"]),
    ],
)
def test_a_birth_counts_by_the_family_of_its_code(
    content: Content, kind: str, system: str, codes: list[str]
) -> None:
    when = {"onsetDateTime": AT} if kind == "Condition" else {"performedDateTime": AT}
    for code in codes:
        record = coded(kind, system, code, status="completed", **when)
        fact = read_as_sent(content, record)["delivery-time"]
        assert fact.measure("hours") == pytest.approx(61.33, abs=0.01), code


@pytest.mark.parametrize(
    ("fact", "code", "value", "expected"),
    [
        ("potassium", "6298-4", (3.1, "mmol/L"), 3.1),
        ("magnesium", "2601-3", (0.8, "mmol/L"), 1.9444),
        ("body-temperature", "8328-7", (38.4, "Cel"), 38.4),
        ("body-temperature", "8332-9", (38.4, "Cel"), 38.4),
        ("body-temperature", "8329-5", (38.4, "Cel"), 38.4),
    ],
)
def test_what_a_laboratory_or_a_ward_measured_is_read(
    content: Content, fact: str, code: str, value: tuple[float, str], expected: float
) -> None:
    record = observation("x", value, 1, code={"coding": [{"system": LOINC, "code": code}]})
    assert read_as_sent(content, record)[fact].value == pytest.approx(expected)


@pytest.mark.parametrize("code", ["386725007", "276885007"])
def test_a_temperature_is_read_by_its_code_of_snomed_ct_alone(content: Content, code: str) -> None:
    record = observation("x", (39.1, "Cel"), 1, code={"coding": [{"system": SCT, "code": code}]})
    assert read_as_sent(content, record)["body-temperature"].value == pytest.approx(39.1)


def test_a_stay_alone_gives_no_hours(content: Content) -> None:
    record = coded("Encounter", SCT, "177184002", status="in-progress", period={"start": ago(20)})
    fact = read_as_sent(content, record)["delivery-time"]
    assert fact.status == "known"
    assert fact.measure("hours") is None


def test_a_birth_written_down_weeks_later_is_the_same(content: Content) -> None:
    late = coded("Condition", CM, "Z37.0", recordedDate=ago(2))
    birth = coded("Procedure", SCT, "236973005", status="completed", performedDateTime=ago(960))
    assert read_as_sent(content, late, birth)["delivery-time"].measure("days") == 40


def test_an_older_child_is_another_birth(content: Content) -> None:
    older = {**WAYS["procedure"][1], "id": "older", "performedDateTime": ago(24 * 330)}
    fact = read_as_sent(content, older, WAYS["outcome"][1])["delivery-time"]
    assert fact.measure("days") == 2


AS_OF = AsOf(NOW.timestamp(), UTC)


def test_a_newborn_says_when_it_was_born() -> None:
    time = {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": AT}
    patient = {"resourceType": "Patient", "birthDate": DAY_OF_BIRTH}
    reading = birth_of_newborn({**patient, "_birthDate": {"extension": [time]}}, AS_OF)
    assert reading is not None
    assert reading.moment.earliest == BORN.timestamp()
    by_day = birth_of_newborn(patient, AS_OF)
    assert by_day is not None
    assert not by_day.moment.exact
    assert birth_of_newborn({"resourceType": "Patient"}, AS_OF) is None
    assert birth_of_newborn({**patient, "_birthDate": 5, "birthDate": []}, AS_OF) is None


# --- times and states -----------------------------------------------------------------------------


@given(moment=st.datetimes(datetime(2025, 6, 1), datetime(2026, 1, 14)))
def test_a_time_without_an_offset_is_one_in_the_zone(moment: datetime) -> None:
    read = AsOf(NOW.timestamp(), ZONE, ZONE).moment(moment.isoformat())
    assert read is not None
    assert read.earliest == moment.replace(tzinfo=ZONE).timestamp()
    assert AS_OF.moment(moment.isoformat()) is None


@pytest.mark.parametrize(
    ("status", "value"), [("active", "yes"), ("relapse", "yes"), ("resolved", "no")]
)
def test_a_condition_counts_by_its_status(content: Content, status: str, value: str) -> None:
    clinical = {"coding": [{"code": status}]}
    record = coded(
        "Condition",
        SCT,
        "45198002",
        clinicalStatus=clinical,
        onsetPeriod={"start": ago(24 * (40 if value == "yes" else 3))},
    )
    assert facts_of(content, record)["mastitis"].value == value


# --- the kind of a value --------------------------------------------------------------------------

STATUS = {"coding": [{"system": LOINC, "code": "63895-7"}]}
SMOKES = {"coding": [{"system": LOINC, "code": "72166-2"}]}
SAID_NO = {"coding": [{"system": LOINC, "code": "LA29253-4"}]}


@pytest.mark.parametrize(
    ("fact", "code", "value", "answer"),
    [
        ("breastfeeding-status", STATUS, {"valueBoolean": True}, "breastfeeding"),
        ("breastfeeding-status", STATUS, {"valueBoolean": False}, "not-at-the-breast"),
        ("breastfeeding-status", STATUS, {"valueCodeableConcept": SAID_NO}, "not-at-the-breast"),
        ("breastfeeding-status", STATUS, {"valueString": "yes"}, "plain text"),
        ("breastfeeding-status", STATUS, {"valueInteger": 1}, "of another kind"),
        ("smoking-status", SMOKES, {"valueBoolean": True}, "smoker"),
        ("smoking-status", SMOKES, {"valueBoolean": False}, "only no"),
        ("breast-fullness", None, {"valueBoolean": True}, "full"),
        ("breast-fullness", None, {"valueBoolean": False}, "only no"),
        ("warm-compress", None, {"valueBoolean": False}, "none"),
        ("warm-compress", None, {"valueBoolean": True}, "only yes"),
        ("pump-mode", None, {"valueBoolean": True}, "only yes"),
        ("letdown-sensation", None, {"valueBoolean": False}, "no"),
        ("letdown-sensation", None, {"valueString": "felt"}, "plain text"),
        ("pump-sessions-24h", None, {"valueInteger": 7}, 7.0),
        ("depression-score", None, {"valueInteger": 12}, 12.0),
        ("pump-session-minutes", None, {"valueInteger": 28}, "no unit"),
        ("expressed-milk-volume", None, {"valueInteger": 60}, "no unit"),
        ("body-temperature", None, {"valueInteger": 39}, "no unit"),
        ("qtc-interval", None, {"valueQuantity": {"value": 460}}, "no unit"),
        ("body-temperature", None, {"valueString": "39 C"}, "plain text"),
    ],
)
def test_a_value_of_each_kind_is_read_or_said_not_to_be(
    content: Content,
    fact: str,
    code: dict[str, Any] | None,
    value: dict[str, Any],
    answer: float | str,
) -> None:
    record = observation(fact, None, 1, **({"code": code} if code else {}), **value)
    read = read_as_sent(content, record)[fact]
    if read.value is None:
        assert str(answer) in read.problems[0].reason
    else:
        assert read.value == answer


def test_a_number_without_a_unit_is_asked_about_in_plain_words(
    content: Content, settings: Settings
) -> None:
    record = observation(VOLUME, None, 1, valueInteger=60)
    client = create_app(settings, content, lambda: NOW).test_client()
    (card,) = client.post(VIEW, json=hook_request(content, record)).get_json()["cards"]
    assert "(recorded, but its number has no unit, and none is guessed)" in card["detail"]
