"""Codes that nothing here knows: what was sent with them is counted, and never taken for "none"."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from cds_service.content.compiled import Content
from tests.support.calls import VIEW, told
from tests.support.exports import cards_in, evaluate, write_export
from tests.support.fhir_servers import bundle
from tests.support.mothers import HER, ago, average, birth, hook_request, milk, observation, plan
from tests.support.processes import free_port, started

ICD_10_CM = "http://hl7.org/fhir/sid/icd-10-cm"
HOSPITAL = "https://hospital.example.org/codes"
EARLY = "early-expression"
NEW = [birth(12), plan("pump", 2)]


def coded(code: str | None = "FS-4711", system: str | None = HOSPITAL, **more: str) -> Any:
    coding = {"system": system, "code": code, "display": more.get("display")}
    concept = {"coding": [{name: value for name, value in coding.items() if value}]}
    return concept | ({"text": more["text"]} if "text" in more else {})


def local(hours: float = 2, **members: Any) -> dict[str, Any]:
    """Milk under a code of the hospital's own."""
    return milk(20, hours, code=coded(), **members)


def asked(content: Content, *milk_records: Any, others: Any = NEW) -> dict[str, Any]:
    """A request with these records under the key of milk, and others under another."""
    request = hook_request(content)
    request["prefetch"]["milkExpression"] = bundle(*milk_records) if milk_records else None
    request["prefetch"]["motherObservations"] = bundle(*others)
    return request


def cards_of(client: FlaskClient, request: dict[str, Any]) -> dict[str, str]:
    answer = client.post(VIEW, json=request)
    assert answer.status_code == 200
    return told(answer.get_json()["cards"])


# --- milk under codes of the hospital's own -----------------------------------------------------

UNKNOWN: dict[str, Any] = {
    "the hospital's own system": coded(),
    "no system": coded(system=None),
    "our system, and no code of it": coded(system="urn:lactation-cds:fact"),
    "words alone": {"text": "Muttermilch abgepumpt"},
    "a standard code that nothing reads": coded("226789007", "http://snomed.info/sct"),
}


@pytest.mark.parametrize("code", UNKNOWN.values(), ids=UNKNOWN)
def test_milk_under_a_code_that_is_not_mapped_is_not_no_milk(
    client: FlaskClient, content: Content, code: Any
) -> None:
    """12 h after birth, and nothing expressed: that would be said."""
    assert EARLY in cards_of(client, asked(content))
    sent = [milk(20, hours, code=code) for hours in (2, 5, 8)]
    cards = cards_of(client, asked(content, *sent))
    assert EARLY not in cards
    said = cards["data-needed"]
    assert "milk expression and letdown (3 whose code is not mapped)" in said
    assert "start" not in said.lower()


def test_of_milk_that_is_mapped_in_part_no_day_is_closed(
    client: FlaskClient, content: Content
) -> None:
    """Little milk by what is mapped; the rest is under another code."""
    little = [milk(15, hours) for hours in (26, 20, 14, 8, 2)]
    hers = [birth(24 * 6), plan("pump", 2)]
    alone = cards_of(client, asked(content, *little, others=hers))
    assert "low-milk" in alone
    mixed = cards_of(client, asked(content, *little, local(4), local(6), others=hers))
    assert "lactation-consult" not in mixed
    assert "milk expression and letdown (2 whose code is not mapped)" in mixed["data-needed"]


def test_a_letdown_that_is_mapped_does_not_say_that_nothing_is_expressed(
    client: FlaskClient, content: Content
) -> None:
    felt = observation("letdown-sensation", True)
    assert EARLY in cards_of(client, asked(content, felt))
    cards = cards_of(client, asked(content, felt, local()))
    assert EARLY not in cards
    assert "milk expression and letdown (1 whose code is not mapped)" in cards["data-needed"]


HAEMOGLOBIN = coded("718-7", "http://loinc.org")
NO_MATTER: dict[str, dict[str, Any]] = {
    "haemoglobin": milk(5, 2, code=HAEMOGLOBIN),
    "withdrawn": local(status="entered-in-error"),
    "without a value": {name: value for name, value in local().items() if name != "valueQuantity"},
    "without a code": milk(5, 2, code={}),
}


@pytest.mark.parametrize("other", NO_MATTER.values(), ids=NO_MATTER)
def test_what_is_surely_no_milk_beside_milk_is_no_matter(
    client: FlaskClient, content: Content, other: dict[str, Any]
) -> None:
    """Of a record system that sends more than it is asked for."""
    request = hook_request(content, *average(), other)
    assert client.post(VIEW, json=request).get_json() == {"cards": []}


def test_a_standard_code_whose_words_speak_of_milk_matters(
    client: FlaskClient, content: Content
) -> None:
    code = coded("99999-0", "http://loinc.org", display="Breast milk volume expressed")
    request = hook_request(content, *average(), milk(5, 2, code=code))
    assert "1 whose code is not mapped" in client.post(VIEW, json=request).text


def test_under_other_keys_own_codes_are_no_matter(client: FlaskClient, content: Content) -> None:
    request = hook_request(content, *average())
    request["prefetch"]["motherObservations"] = bundle(local())
    assert client.post(VIEW, json=request).get_json() == {"cards": []}


def test_an_export_was_asked_for_nothing_so_words_alone_tell(
    content: Content, tmp_path: Path
) -> None:
    """In it are all Observations of a hospital, most of them under codes of its own."""
    words = coded(text="Expressed breast milk")
    for name, record, early in (("own", local(), True), ("words", milk(20, 2, code=words), False)):
        write_export(tmp_path / name, [*NEW, record], content)
        evaluate(tmp_path / name, tmp_path / f"{name}.ndjson")
        assert (EARLY in cards_in(tmp_path / f"{name}.ndjson").get(HER, [])) is early


# --- diagnoses ----------------------------------------------------------------------------------


def diagnosis(code: Any, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": "diagnosis",
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "code": code,
        "subject": {"reference": f"Patient/{HER}"},
        "onsetDateTime": ago(30),
        **members,
    }


REFUTED = {"verificationStatus": {"coding": [{"code": "refuted"}]}}
OF_NO_SYSTEM = "its-code-is-of-no-system-that-is-known"
DIAGNOSES: dict[str, tuple[dict[str, Any], bool]] = {
    "its code, in an unknown system": (diagnosis(coded("O91.22", "urn:oid:1.2.3.4")), True),
    "its code, in no system": (diagnosis(coded("O9122", None)), True),
    "its words, in the hospital's system": (diagnosis(coded(text="Mastitis, left")), True),
    "its display": (diagnosis(coded(display="Severe hypertension")), True),
    "words alone": (diagnosis({"text": "Breast abscess"}), True),
    "another disease": (diagnosis(coded(display="Fracture of the wrist")), False),
    "another code of no system": (diagnosis(coded("S62.1", None)), False),
    "a code of a known system": (diagnosis(coded("S62.1", ICD_10_CM, text="Mastitis")), False),
    "refuted": (diagnosis(coded(text="Mastitis"), **REFUTED), False),
    "no code": (diagnosis(None), False),
    "junk": (diagnosis({"coding": [7, {"system": [1], "code": {}}], "text": 3}), False),
}


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the log line of a call counts as left out; and the metrics at the end."""
    log = tmp_path_factory.mktemp("left-out") / "service.log"
    more = {"CDS_AUTH": "open", "CDS_METRICS": "true"}
    with started("serve", port=free_port(), log=log, **more) as service:

        def count(request: dict[str, Any], number: list[int] = [0]) -> dict[str, int]:  # noqa: B006
            number[0] += 1
            name = f"00000000-0000-4000-8000-{number[0]:012}"
            headers = {"X-Request-ID": name}
            answer = requests.post(service.address + VIEW, json=request, headers=headers, timeout=9)
            assert answer.status_code == 200
            lines = [json.loads(line) for line in log.read_text().splitlines() if name in line]
            left_out: dict[str, int] = lines[0].get("left_out", {})
            metrics = requests.get(f"{service.address}/metrics", timeout=9).text
            assert all(f'left_out_total{{reason="{each}"}}' in metrics for each in left_out)
            return left_out

        yield count


def of_now(content: Content, *records: dict[str, Any], **keys: Any) -> dict[str, Any]:
    request = hook_request(content, *records)
    request["prefetch"].update(keys)
    return request


@pytest.mark.slow
@pytest.mark.parametrize(("record", "counts"), DIAGNOSES.values(), ids=DIAGNOSES)
def test_a_diagnosis_of_no_known_system_is_counted_if_it_may_matter(
    counted: Any, client: FlaskClient, content: Content, record: dict[str, Any], counts: bool
) -> None:
    """And it changes nothing: nobody knows what such a code means."""
    request = of_now(content, record)
    assert counted(request) == ({OF_NO_SYSTEM: 1} if counts else {})
    assert client.post(VIEW, json=request).get_json() == {"cards": []}
    known = hook_request(content, *average(), record)
    assert client.post(VIEW, json=known).get_json() == {"cards": []}


@pytest.mark.slow
def test_codes_that_are_not_mapped_are_counted(counted: Any, content: Content) -> None:
    assert counted(of_now(content, local(), local(4))) == {"code-not-mapped": 2}


# --- a birth of which only the recording is dated -----------------------------------------------

SAID = "it says only when it was recorded, which is not when the birth was"
BORN = diagnosis(coded("Z37.0", ICD_10_CM), recordedDate=ago(20))
del BORN["onsetDateTime"]
PUMPED = [milk(15, hours) for hours in (26, 20, 14, 8, 2)]


@pytest.mark.slow
def test_a_birth_that_was_only_recorded_is_counted(counted: Any, content: Content) -> None:
    """By a service that looks at the clock: how long ago it was decides whether its day matters."""
    today = datetime.now(UTC).isoformat()
    recorded = BORN | {"recordedDate": today}
    reason = SAID.replace(" ", "-").replace(",", "")
    assert counted(of_now(content, recorded)) == {reason: 1}
    assert counted(of_now(content, recorded | {"onsetDateTime": today})) == {}
    exact = observation("delivery-time", effectiveDateTime=today, valueDateTime=today)
    assert counted(of_now(content, recorded, exact)) == {}


def test_a_birth_that_was_only_recorded_is_asked_for_where_it_matters(
    client: FlaskClient, content: Content
) -> None:
    cards = cards_of(client, hook_request(content, *PUMPED, BORN))
    said = cards["data-needed"]
    assert f"ask for the date and time of birth (recorded, but {SAID})." in said
    assert EARLY not in cards
    assert SAID not in str(cards_of(client, hook_request(content, *PUMPED, BORN, birth(24 * 6))))
    assert "data-needed" not in cards_of(client, hook_request(content, plan("pump"), BORN))
