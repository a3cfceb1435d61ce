"""Records as hospitals keep and send them, each the smallest request: from bytes, over HTTP.

The requests stand in ``tests/support/requests``. All are synthetic.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from cds_service.engine.evaluation import Evaluation
from cds_service.fhir.chart import KeyResult, State
from cds_service.fhir.references import Target, normal_base, read_reference
from cds_service.hooks.prefetch import resolve_prefetch
from cds_service.hooks.protocol import HOOKS, read_request
from cds_service.settings import Settings
from tests.support.calls import VIEW, outcome, told
from tests.support.clients import BASE, clients_file, signed
from tests.support.fhir_servers import FhirServer, bundle, fhir
from tests.support.mothers import (
    HER,
    NOW,
    ago,
    average,
    birth,
    hook_request,
    inhibited,
    medicine,
    milk,
    observation,
    plan,
    why,
    with_a_letdown,
)
from tests.support.once import evaluation_of
from tests.support.orders import order_request
from tests.support.processes import running
from tests.support.recorded import recorded

BASE_OF_HERS = "https://ehr.example.org/fhir"
SERVICES = {hook: f"/cds-services/{service}" for service, hook in HOOKS.items()}

# What is sent, when it is judged, and the cards by id, each with a part of its text.
RIGHT: dict[str, tuple[str, dict[str, str]]] = {
    "other-base": (
        "2026-03-10T12:00:00Z",
        {"data-needed": "5 whose subject is on another FHIR server"},
    ),
    "newborn-chart": ("2026-03-10T12:00:00Z", {"supply-risk-factors": "pacifier"}),
    "medication-by-address": ("2026-03-10T12:00:00Z", {"medicines-and-milk": "Pseudoephedrine"}),
    "medication-in-drafts": ("2026-11-26T11:14:59Z", {"order-lowers-supply": "Pseudoephedrine"}),
    "port-443": (
        "2026-11-26T11:44:59Z",
        {"inhibited-letdown": "62 mL recorded in 24 h", "data-needed": "Could not be read"},
    ),
    "warning-in-searchset": ("2026-01-15T12:00:00Z", {}),  # the search was done: nothing there
    "expires-in-text": (
        "2026-11-26T11:44:59Z",
        {"inhibited-letdown": "62 mL recorded in 24 h"},
    ),
    "selections-bare": ("2026-11-26T11:14:59Z", {"order-lowers-supply": "Pseudoephedrine"}),
    "long-id": ("2026-11-26T11:14:59Z", {"order-lowers-supply": "Pseudoephedrine"}),
    "a-man-of-70": ("2026-01-15T12:00:00Z", {}),
    "preterm-formula": ("2026-01-15T12:00:00Z", {}),  # the medical reason is seen
}


def at(content: Content, settings: Settings, moment: str) -> FlaskClient:
    """The service at a time of day."""
    return create_app(settings, content, lambda: datetime.fromisoformat(moment)).test_client()


@pytest.mark.parametrize("case", RIGHT)
def test_records_as_they_are_sent(content: Content, settings: Settings, case: str) -> None:
    moment, right = RIGHT[case]
    body = recorded(case)
    if case == "newborn-chart":
        body = with_a_letdown(body)
    service = SERVICES[json.loads(body)["hook"]]
    client = at(content, settings, moment)
    answer = client.post(service, data=body, content_type="application/json")
    assert answer.status_code == 200
    cards = told(answer.get_json()["cards"])
    assert list(cards) == list(right)
    for card, words in right.items():
        assert words in cards[card]


def test_an_order_with_a_long_id_can_be_taken_back(content: Content, settings: Settings) -> None:
    moment, _ = RIGHT["long-id"]
    body = recorded("long-id")
    (order,) = json.loads(body)["context"]["draftOrders"]["entry"]
    assert len(order["resource"]["id"]) > 64
    client = at(content, settings, moment)
    answer = client.post(SERVICES["order-sign"], data=body, content_type="application/json")
    (card,) = answer.get_json()["cards"]
    taken_back = [
        action["resourceId"]
        for suggestion in card["suggestions"]
        for action in suggestion["actions"]
        if action["type"] == "delete"
    ]
    assert taken_back == [f"MedicationRequest/{order['resource']['id']}"]


# --- references ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("Patient/1", Target("", "Patient", "1")),
        ("Patient/1/_history/2", Target("", "Patient", "1")),
        ("https://a.example/r4/Patient/1", Target("https://a.example/r4", "Patient", "1")),
        ("HTTPS://A.example:443/r4/Patient/1", Target("https://a.example/r4", "Patient", "1")),
        ("http://a.example:80/Patient/1/_history/7", Target("http://a.example", "Patient", "1")),
        (
            "https://a.example:8443/R4/Patient/1",
            Target("https://a.example:8443/R4", "Patient", "1"),
        ),
        ("#1", None),
        ("urn:uuid:2f0b1c5e-0000-4000-8000-000000000001", None),
        ("Patient", None),
        ("Patient/", None),
        ("1", None),
        ("ftp://a.example/Patient/1", None),
        ("../Patient/1", None),
        ("https://" + "x/" * 5000 + "Patient/1", None),
    ],
)
def test_a_reference_is_read_as_it_is_written(written: str, target: Target | None) -> None:
    assert read_reference(written) == target


def test_a_path_keeps_its_case_and_what_is_no_address_stays() -> None:
    assert normal_base("https://A.example/FHIR/") == "https://a.example/FHIR"
    assert normal_base("https://a.example/FHIR") != normal_base("https://a.example/fhir")
    assert normal_base("http://a.example") != normal_base("https://a.example")
    assert normal_base("http://[::1]:99999") == "http://[::1]:99999"


@pytest.mark.parametrize(
    "odd",
    [
        "https://someone@a.example/r4",
        "https://b.example\\@a.example/r4",
        "https://a.example/r5/../r4",
        "https://a.example/r5/%2e%2e/r4",
        "https://a.example/r5/..;/r4",
        "https://a.example/x%2f..%2fr4",
        "https://a.example/r4%00",
        "https://a.\texample/r4",
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_that_of_no_server(odd: str) -> None:
    """A reference to there is not one to her record."""
    target = read_reference(f"{odd}/Medication/1")
    assert target is None or target.base == odd


PROXY = "https://proxy.example.org/api/FHIR/R4"
SESSIONS = [milk(10, hours) for hours in range(1, 26, 3)]


def on(base: str, record: dict[str, Any]) -> dict[str, Any]:
    return record | {"subject": {"reference": f"{base}/Patient/{HER}"}}


def test_another_base_is_hers_where_the_client_lists_it(content: Content, tmp_path: Path) -> None:
    sent = [birth(123), plan("pump"), *(on(PROXY, each) for each in SESSIONS)]
    request = hook_request(content, *sent, fhirServer="https://fhir.example.org/r4")
    for bases, known in (([], False), ([PROXY], True)):
        clients = clients_file(tmp_path / "c.yaml", fhir_bases=bases)
        settings = Settings(auth="required", base_url=BASE, clients=clients)
        client = create_app(settings, content, lambda: NOW).test_client()
        cards = client.post(VIEW, json=request, headers=signed(VIEW)).get_json()["cards"]
        assert ("another FHIR server" in str(cards)) is not known
        assert ("low-milk" in told(cards)) is known


@pytest.mark.parametrize(
    ("records", "told_so"),
    [
        ([birth(123), *SESSIONS], True),
        ([birth(123)], True),
        (SESSIONS, True),
        ([plan("pump")], False),  # neither a birth nor milk
    ],
)
def test_where_each_of_her_records_is_on_another_server_it_is_said(
    client: FlaskClient, content: Content, records: list[dict[str, Any]], told_so: bool
) -> None:
    sent = [on(PROXY, each) for each in records]
    request = hook_request(content, *sent, fhirServer="https://fhir.example.org/r4")
    cards = told(client.post(VIEW, json=request).get_json()["cards"])
    assert ("on another FHIR server" in cards.get("data-needed", "")) is told_so


def test_where_each_record_is_of_another_patient_there_is_silence(
    client: FlaskClient, content: Content
) -> None:
    sent = [birth(123), *SESSIONS]
    others = [each | {"subject": {"reference": "Patient/another"}} for each in sent]
    assert client.post(VIEW, json=hook_request(content, *others)).get_json()["cards"] == []


def test_without_a_server_the_first_base_of_hers_counts_and_no_other(
    client: FlaskClient, content: Content
) -> None:
    """Two servers have two patients of one id."""
    sent = [birth(123), plan("pump"), *SESSIONS]
    one, two = "https://one.example.org/r4", "https://two.example.org/r4"
    alone = hook_request(content, *sent[:2], *(on(one, each) for each in SESSIONS))
    mixed = hook_request(
        content, *sent[:2], *(on((one, two)[n % 2], each) for n, each in enumerate(SESSIONS))
    )
    assert "another FHIR server" not in client.post(VIEW, json=alone).text
    said = client.post(VIEW, json=mixed).text
    assert "milk expression and letdown (4 whose subject is on another FHIR server)" in said
    # A reference to someone else says nothing of her server.
    baby = milk(10, 1, id="0") | {"subject": {"reference": f"{two}/Patient/another"}}
    others_first = hook_request(content, baby, *sent[:2], *(on(one, each) for each in SESSIONS))
    said = client.post(VIEW, json=others_first).text
    assert "milk expression and letdown (1 whose subject is on another FHIR server)" in said


def test_milk_that_was_sent_and_not_used_is_not_no_milk(
    client: FlaskClient, content: Content
) -> None:
    """12 h after birth, and nothing expressed: that would be said."""
    early = "early-expression"
    born = birth(12)
    server = {"fhirServer": BASE_OF_HERS}
    pumps = plan("pump", 2)
    none = client.post(VIEW, json=hook_request(content, born, pumps, **server)).get_json()["cards"]
    assert early in told(none)
    elsewhere = {"subject": {"reference": "Patient/another"}}
    for lost in (on(PROXY, milk(5, 2)), milk(5, 2) | elsewhere, milk(5, 2, subject={})):
        request = hook_request(content, lost, **server)
        request["prefetch"]["infantFeeding"] = bundle(born, pumps)
        cards = told(client.post(VIEW, json=request).get_json()["cards"])
        assert early not in cards
        assert "milk expression and letdown (1 " in cards["data-needed"]


def test_what_nothing_reads_may_be_left_out_unsaid(client: FlaskClient, content: Content) -> None:
    other = milk(5, 2, code={"coding": [{"system": "http://loinc.org", "code": "718-7"}]})
    request = hook_request(content, *average(), on(PROXY, other), fhirServer=BASE_OF_HERS)
    assert client.post(VIEW, json=request).get_json() == {"cards": []}


# --- medicines by reference ---------------------------------------------------------------------

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
PSEUDOEPHEDRINE = {"coding": [{"system": RXNORM, "code": "8896"}]}
UUID = "urn:uuid:6a1c4d1e-5a45-4f5e-9d53-9c0a3b8d8a01"
LOWERS = "Pseudoephedrine may lower her milk supply"


def medication(identifier: str = "m1", **members: Any) -> dict[str, Any]:
    return {"resourceType": "Medication", "id": identifier, **members}


def by_reference(reference: str, **members: Any) -> dict[str, Any]:
    return medicine(medicationReference={"reference": reference}, **members)


NDC = {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.69", "code": "00000-1111"}]}
LOCAL = {"coding": [{"system": "https://x.example/drugs", "code": "M|7"}]}


@pytest.mark.parametrize(
    ("sent", "called"),
    [
        (medicine(medicationCodeableConcept=NDC), "code 00000-1111 (ndc)"),
        (medicine(medicationCodeableConcept=LOCAL), "code M 7 (https: x.example/drugs)"),
        (by_reference("Medication/unsent"), "Medication/unsent"),
        (by_reference("https://x.example/Medication/9"), "https: x.example/Medication/9"),
        (medicine(medicationCodeableConcept={"coding": [3]}), "A medicine without a name"),
    ],
)
def test_a_medicine_without_a_name_is_called_by_what_was_sent(
    client: FlaskClient, content: Content, sent: dict[str, Any], called: str
) -> None:
    """No search for it is offered, and nothing soothing said."""
    request = hook_request(content, *average(), sent, fhirServer=BASE_OF_HERS)
    cards = client.post(VIEW, json=request).get_json()["cards"]
    (card,) = [c for c in cards if c["source"]["topic"]["code"] == "medicines-and-milk"]
    assert card["summary"] == f"{called}: not read for milk, look it up"
    assert f"No name was sent, ask what it is: {called}." in card["detail"]
    assert "term=" not in str(card)
    assert "ompatible" not in str(card)
    request = order_request(content, sent)
    (card,) = client.post(SERVICES["order-sign"], json=request).get_json()["cards"]
    assert card["summary"] == f"Not checked for milk, look up: {called}"


@pytest.mark.parametrize(
    ("beside", "soothing"),
    [
        (None, True),
        ({"text": "Paracetamol 500 mg"}, True),
        ({"text": "Torbangun"}, False),  # known, and its record is not read yet
        ({"text": "Somnolux forte"}, False),
        (NDC, False),
    ],
)
def test_nothing_soothing_stands_beside_a_medicine_that_is_not_read(
    client: FlaskClient, content: Content, beside: Any, soothing: bool
) -> None:
    sent = [medicine(medicationCodeableConcept={"text": "Ibuprofen 400 mg"})]
    sent += [] if beside is None else [medicine(medicationCodeableConcept=beside)]
    request = hook_request(content, *average(), *sent)
    cards = told(client.post(VIEW, json=request).get_json()["cards"])
    assert ("compatible with breastfeeding" in cards["medicines-and-milk"]) is soothing


OF_ANOTHER = "https://x.example/Medication/9"
KNOWN = medication(code=PSEUDOEPHEDRINE)
INGREDIENT, ITEM = {"itemCodeableConcept": PSEUDOEPHEDRINE}, {"reference": "Medication/m2"}
COMBINED = medication(code={"text": "Combination 7"}, ingredient=[{"itemReference": ITEM}])
BOTH = medication(ingredient=[{"itemReference": {"reference": "#m2"}}])


@pytest.mark.parametrize(
    "sent",
    [
        [by_reference("Medication/m1"), KNOWN],
        [by_reference("Medication/m1/_history/3"), KNOWN],
        [by_reference(f"{BASE_OF_HERS}/Medication/m1"), KNOWN],
        [by_reference(UUID), (UUID, KNOWN)],
        [by_reference(UUID.upper()), (UUID, KNOWN)],
        [by_reference(UUID), (UUID.replace("a", "A"), KNOWN)],
        [by_reference(OF_ANOTHER), (OF_ANOTHER, KNOWN)],
        [by_reference("#m1", contained=[KNOWN])],
        [by_reference("Medication/m1"), medication(ingredient=[INGREDIENT])],
        [by_reference("Medication/m1"), COMBINED, medication("m2", code=PSEUDOEPHEDRINE)],
        [by_reference("#m1", contained=[BOTH, medication("m2", code=PSEUDOEPHEDRINE)])],
        [medicine(medicationReference={"display": "Pseudoephedrine 60 mg"})],
    ],
)
def test_a_medicine_is_found_wherever_it_was_sent(
    client: FlaskClient, content: Content, sent: list[Any]
) -> None:
    request = hook_request(content, *average(), fhirServer=BASE_OF_HERS)
    entries = [each if isinstance(each, tuple) else (None, each) for each in sent]
    request["prefetch"]["medicationRequests"] = {
        "resourceType": "Bundle",
        "entry": [{"fullUrl": url, "resource": resource} for url, resource in entries],
    }
    cards = told(client.post(VIEW, json=request).get_json()["cards"])
    assert LOWERS in cards["medicines-and-milk"]


def test_a_medication_that_was_not_sent_is_read_by_its_id(
    client: FlaskClient, content: Content
) -> None:
    server = FhirServer({"Medication": bundle(medication(code=PSEUDOEPHEDRINE))})
    with running(server) as address:
        taken = by_reference("Medication/m1")
        request = hook_request(content, *average(), taken, fhirServer=f"{address}/fhir")
        cards = told(client.post(VIEW, json=request).get_json()["cards"])
    assert [path for path, _ in server.seen] == ["/fhir/Medication?_id=m1"]
    assert LOWERS in cards["medicines-and-milk"]


def test_a_medication_that_cannot_be_read_is_said(client: FlaskClient, content: Content) -> None:
    server = FhirServer({"Medication": lambda _: fhir({}, 500)})
    with running(server) as address:
        taken = by_reference("Medication/m1")
        request = hook_request(content, *average(), taken, fhirServer=f"{address}/fhir")
        cards = told(client.post(VIEW, json=request).get_json()["cards"])
    assert "Could not be read: what her medicines are" in cards["medicines-and-milk"]


def test_a_medicine_order_that_cannot_be_identified_is_said_to_be_so(
    client: FlaskClient, content: Content
) -> None:
    unknown = medicine(medicationCodeableConcept={"text": "Xyzzymab"}, status="draft")
    nameless = by_reference("Medication/nowhere", status="draft")
    scan = {"resourceType": "ServiceRequest", "id": "x", "subject": {"reference": f"Patient/{HER}"}}
    for order, words in ((unknown, "look up: Xyzzymab"), (nameless, "Not checked for milk")):
        request = order_request(content, order, scan)
        cards = client.post(SERVICES["order-sign"], json=request).get_json()["cards"]
        assert list(told(cards)) == ["order-unidentified"]
        assert words in cards[0]["summary"]
    request = order_request(content, scan)
    assert client.post(SERVICES["order-sign"], json=request).get_json() == {"cards": []}


# --- the newborn --------------------------------------------------------------------------------

BABY = "baby-1"
MRN = [{"system": "urn:mrn", "value": "M-1"}]
ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
SHE = {"resourceType": "Patient", "id": HER, "identifier": MRN}
PACIFIER = observation("pacifier-use", True, subject={"reference": f"Patient/{BABY}"})


def related(code: str = "MTH", **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "RelatedPerson",
        "id": "rp",
        "patient": {"reference": f"Patient/{BABY}"},
        "relationship": [{"coding": [{"system": ROLE, "code": code}]}],
        **members,
    }


def stay(whole: str) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": "baby-stay",
        "status": "in-progress",
        "subject": {"reference": f"Patient/{BABY}"},
        "partOf": {"reference": whole},
    }


OLDER = {"resourceType": "Patient", "id": BABY, "birthDate": "2022-01-10"}
LINK = {"other": {"reference": "RelatedPerson/rp"}, "type": "seealso"}
SAME = {"other": {"reference": f"Patient/{BABY}"}, "type": "seealso"}


@pytest.mark.parametrize(
    ("sent", "linked"),
    [
        ([SHE, related(identifier=MRN)], True),
        ([SHE, related("GESTM", identifier=MRN)], True),
        ([SHE | {"link": [LINK]}, related("NMTH")], True),
        ([stay("Encounter/encounter-1")], True),  # hers, by the context of the hook
        ([SHE, related("FTH", identifier=MRN)], False),
        ([SHE, related(identifier=MRN, active=False)], False),
        ([SHE, related(identifier=MRN), OLDER], False),
        ([SHE, related(identifier=[{"value": "M-1"}])], False),  # a number without a system
        ([SHE, related()], False),
        ([SHE | {"link": [SAME]}], False),  # that says that both are one person
        ([stay("Encounter/of-another")], False),
        ([], False),
    ],
)
def test_records_of_a_newborn_count_when_something_links_it_to_her(
    client: FlaskClient, content: Content, sent: list[dict[str, Any]], linked: bool
) -> None:
    request = hook_request(content, *average())
    request["prefetch"]["infantFeeding"] = bundle(PACIFIER)
    request["prefetch"]["patient"] = SHE if SHE in sent else None
    request["prefetch"]["conditions"] = bundle(*sent)
    cards = told(client.post(VIEW, json=request).get_json()["cards"])
    assert ("pacifier" in cards.get("supply-risk-factors", "")) is linked


@pytest.mark.parametrize(("born", "lost"), [("2022-01-10", False), ("2026-01-10", True)])
def test_only_the_death_of_an_infant_of_this_birth_is_a_loss(
    client: FlaskClient, content: Content, born: str, lost: bool
) -> None:
    """An older child may have died yesterday, and the newborn needs her milk."""
    request = hook_request(content, *inhibited())
    child = {"resourceType": "Patient", "id": BABY, "birthDate": born}
    child["deceasedDateTime"] = "2026-01-14"
    request["prefetch"]["patient"] = SHE
    request["prefetch"]["conditions"] = bundle(related(identifier=MRN), child)
    cards = told(client.post(VIEW, json=request).get_json()["cards"])
    assert ("inhibited-letdown" in cards) is not lost
    assert ("after-loss" in cards) is lost


def test_a_birth_is_known_by_the_newborns_own_record(content: Content) -> None:
    extension = {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime"}
    newborn = {
        "resourceType": "Patient",
        "id": BABY,
        "birthDate": "2026-01-13",
        "_birthDate": {"extension": [extension | {"valueDateTime": "2026-01-13T06:00:00Z"}]},
    }
    for linked, hours in (([stay("Encounter/encounter-1")], 54.0), ([], None)):
        request = hook_request(content, milk(20, 1))
        request["prefetch"]["conditions"] = bundle(*linked, newborn)
        hook, context = read_request(json.dumps(request).encode(), "patient-view")
        chart = resolve_prefetch(content, hook, context, None, 0)
        facts = evaluation_of(content).case(chart, NOW).facts
        assert facts["delivery-time"].measure("hours") == hours


def test_a_total_of_two_days_is_no_day(content: Content) -> None:
    start = (NOW - timedelta(hours=49)).isoformat()
    period = {"start": start, "end": (NOW - timedelta(hours=1)).isoformat()}
    total = milk(900, 1, effectivePeriod=period)
    del total["effectiveDateTime"]
    request = hook_request(content, birth(240), total)
    hook, context = read_request(json.dumps(request).encode(), "patient-view")
    fact = (
        Evaluation(content)
        .case(resolve_prefetch(content, hook, context, None, 0), NOW)
        .facts["expressed-milk-volume"]
    )
    assert (fact.status, fact.measure("sum")) == ("unusable", None)
    assert "more than the time" in fact.problems[0].reason


def test_a_hospital_can_ask_for_the_newborns_records(tmp_path: Path) -> None:
    shipped = load_content()
    assert "newbornConditions" not in shipped.prefetch_templates
    own = {"prefetch": [{"id": "newbornConditions", "asked": True}]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    asked = load_content(tmp_path).prefetch_templates["newbornConditions"]
    assert asked == "Condition?encounter.part-of.patient={{context.patientId}}"


# --- whose chart it is --------------------------------------------------------------------------


def years_ago(years: float) -> str:
    return (NOW - timedelta(days=365.25 * years)).date().isoformat()


FAILED = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "timeout"}]}


@pytest.mark.parametrize(
    ("patient", "status"),
    [
        ({"gender": "female", "birthDate": years_ago(30)}, 412),
        ({"gender": "female"}, 412),
        ({"gender": "other", "birthDate": years_ago(30)}, 412),
        (None, 412),
        ({"gender": "male", "birthDate": years_ago(30)}, 200),
        ({"gender": "female", "birthDate": years_ago(70)}, 200),
        ({"gender": "female", "birthDate": years_ago(8)}, 200),
        ({"gender": "female", "deceasedBoolean": True}, 200),
    ],
)
def test_a_chart_that_could_not_be_read_is_refused_where_it_could_be_a_mothers(
    client: FlaskClient, content: Content, patient: dict[str, Any] | None, status: int
) -> None:
    request = hook_request(content)
    request["prefetch"]["milkExpression"] = FAILED
    if patient is not None:
        request["prefetch"]["patient"] = patient | {"resourceType": "Patient", "id": HER}
    answer = client.post(VIEW, json=request)
    if status == 412:
        outcome(answer, 412)
    else:
        assert (answer.status_code, answer.get_json()) == (200, {"cards": []})


@pytest.mark.parametrize(
    ("patient", "silent"),
    [
        ({"birthDate": years_ago(8)}, True),
        ({"deceasedDateTime": years_ago(0.01)}, True),
        ({"birthDate": years_ago(66)}, False),  # where a birth is recorded, it is believed
        ({"gender": "male", "birthDate": years_ago(30)}, False),
    ],
)
def test_there_is_never_a_card_on_a_child_or_on_the_dead(
    client: FlaskClient, content: Content, patient: dict[str, Any], silent: bool
) -> None:
    request = hook_request(content, *average(), observation("smoking-status", "smoker"))
    request["prefetch"]["patient"] = patient | {"resourceType": "Patient", "id": HER}
    cards = client.post(VIEW, json=request).get_json()["cards"]
    assert (cards == []) is silent


# --- what is counted ----------------------------------------------------------------------------


def test_what_was_left_out_is_counted_by_reason(content: Content) -> None:
    sent = [
        milk(5, 1),
        on(PROXY, milk(5, 2)),
        on(PROXY, milk(5, 3)),
        milk(5, 4, subject={"reference": "Patient/another"}),
        milk(5, 5, subject={"identifier": {"value": "M-1"}}),
    ]
    request = hook_request(content, *sent, fhirServer=BASE_OF_HERS)
    hook, context = read_request(json.dumps(request).encode(), "patient-view")
    chart = resolve_prefetch(content, hook, context, None, 0)
    assert chart.left_out == {
        "another-server": 2,
        "another-patient": 1,
        "unreadable-reference": 1,
    }
    assert chart.partial == {"milkExpression"}
    facts = evaluation_of(content).case(chart, NOW).facts
    assert facts["expressed-milk-volume"].measure("sum-so-far") == 5


def test_a_record_that_was_sent_for_a_key_twice_counts_once(content: Content) -> None:
    one = milk(5, 1)
    request = hook_request(content, one)
    request["prefetch"]["motherObservations"] = bundle(one)
    hook, context = read_request(json.dumps(request).encode(), "patient-view")
    chart = resolve_prefetch(content, hook, context, None, 0)
    assert len(chart.of_patient("Observation")) == 1
    assert chart.is_whole
    assert chart.results["deliveries"] == KeyResult(State.NULL)


DISPOSITION = "http://terminology.hl7.org/CodeSystem/discharge-disposition"


def of_the_infant(kind: str, whose: str = BABY, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": kind,
        "id": f"of-{whose}",
        "subject": {"reference": f"Patient/{whose}"},
        **members,
    }


def cause_of_death(code: str, whose: str = BABY) -> dict[str, Any]:
    coding = {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}
    return of_the_infant("Condition", whose, code={"coding": [coding]}, recordedDate=ago(5))


def left(code: str, whose: str = BABY, system: str = DISPOSITION) -> dict[str, Any]:
    coding = {"system": system, "code": code}
    return of_the_infant(
        "Encounter",
        whose,
        status="finished",
        period={"start": ago(40), "end": ago(3)},
        hospitalization={"dischargeDisposition": {"coding": [coding]}},
    )


@pytest.mark.parametrize(
    ("record", "lost"),
    [
        (cause_of_death("R99"), True),
        (cause_of_death("R99", HER), False),
        (cause_of_death("R98"), False),
        (left("exp"), True),
        (left("exp", system="http://hl7.org/fhir/discharge-disposition"), True),
        (left("home"), False),
        (left("exp") | {"status": "entered-in-error"}, False),
        (left("exp", HER), False),
        (left("exp", "another-infant"), False),
    ],
)
def test_what_tells_a_death_of_its_own_record_is_read_of_the_infant_alone(
    client: FlaskClient, content: Content, record: dict[str, Any], lost: bool
) -> None:
    request = hook_request(content, *inhibited())
    request["prefetch"]["patient"] = SHE
    request["prefetch"]["conditions"] = bundle(related(identifier=MRN), record)
    cards = told(client.post(VIEW, json=request).get_json()["cards"])
    assert ("after-loss" in cards) is lost
    assert bool(cards.keys() - {"after-loss"}) is not lost


def test_one_of_two_infants_who_died_is_told_by_its_own_stay(
    client: FlaskClient, content: Content
) -> None:
    other = observation("infant-outcome", "alive", 20, focus=[{"reference": "Patient/other"}])
    request = hook_request(content, *inhibited(), other)
    request["prefetch"]["patient"] = SHE
    request["prefetch"]["conditions"] = bundle(related(identifier=MRN), left("exp"))
    cards = told(client.post(VIEW, json=request).get_json()["cards"])
    assert "after-loss" not in cards
    assert next(iter(cards)) == "one-of-several-lost"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        *((text, True) for text in (
            "Stillbirth", "IUFD", "Intrauterine fetal death at 36 weeks", "neonatal death",
            "Totgeburt", "Totgeburt, keine Ursache gefunden", "Stillbirth, no cause found",
            "V.a. intrauterinen Fruchttod (IUFT)", "Fetal demise of twin B", "STILLBORN MALE",
            "Previous cesarean; stillbirth", "History of anxiety, stillbirth yesterday",
            "Infant expired in NICU", "Newborn deceased", "Deceased infant", "Baby passed away",
            "Baby passed", "Dead baby", "Loss of infant", "Lost baby", "Born sleeping",
            "FDIU 28/40", "NND day 2", "SIDS", "Cot death", "Perinatal loss", "Bereavement",
            "Intrapartum death", "Pregnancy loss 19 weeks", "Late miscarriage",
            "Spontaneous abortion 18 weeks", "TOPFA", "MTOP 20 weeks", "Mort-né",
            "Termination for fetal anomaly", "Muerte fetal", "Death of child",
            "Bereavement counselling of mother", "Infant on comfort care",
            "Withdrawal of life support of infant planned today", "Neonatal palliative care",
            "Disappearance of family member; infant died",
        )),
        *((text, False) for text in (
            "No stillbirth", "History of stillbirth", "Hx of IUFD", "h/o IUFD",
            "Previous stillbirth", "history of one previous stillbirth", "Risk of stillbirth",
            "Rule out IUFD", "r/o fetal death", "Stillbirth ruled out", "St. n. Totgeburt",
            "Z.n. Totgeburt 2019", "Zustand nach IUFT", "Ausschluss Totgeburt",
            "keine Totgeburt", "Stillbirth in previous pregnancy", "Stillbirth (earlier pregnancy)",
            "Family history of neonatal death", "Fear of stillbirth",
            "Sudden infant death prevention", "SIDS prevention education", "Family history of SIDS",
            "FHx SIDS", "Risk of SIDS", "SIDS education", "No bereavement", "Previous MTOP",
            "Fear of cot death", "Lost baby weight", "Baby passed meconium", "Baby passed hearing",
            "Recurrent pregnancy loss", "Early pregnancy loss", "Spontaneous abortion",
            "Spontaneous abortion 9 weeks", "Antécédent de mort-né", "Sin muerte fetal",
            "Live birth", "Mastitis", "distillbirthing", "",
            "Bereavement due to death of her mother",
            "Bereavement: husband died", "Bereavement screening", "Education about SIDS",
            "Comfort care measures for sore nipples", "Her grandmother's death",
        )),
    ],
)  # fmt: skip
def test_a_diagnosis_in_words_alone_silences_milk_and_asks(
    client: FlaskClient, content: Content, text: str, asked: bool
) -> None:
    words = of_the_infant("Condition", HER, code={"text": text}, recordedDate=ago(9))
    cards = told(
        client.post(VIEW, json=hook_request(content, *inhibited(), words)).get_json()["cards"]
    )
    assert (list(cards) == ["outcome-to-check"]) is asked
    assert ("inhibited-letdown" in cards) is not asked
    assert "after-loss" not in cards


@pytest.mark.parametrize(
    ("coding", "asked"),
    [
        ({"system": "urn:oid:1.2.3.4.5", "code": "77"}, True),  # of a system that nobody knows
        ({"code": "77"}, True),
        (
            {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "O80"},
            False,
        ),  # the code says what is meant
        (
            {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "Z63.4"},
            True,
        ),  # the code says that a family member died, and the words say who
        (
            {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "Z71.89"},
            True,
        ),  # the code is known, and says nothing of this
    ],
)
def test_words_beside_a_code_count_where_it_means_nothing_here(
    client: FlaskClient, content: Content, coding: dict[str, str], asked: bool
) -> None:
    code = {"coding": [coding], "text": "Stillbirth"}
    words = of_the_infant("Condition", HER, code=code, recordedDate=ago(9))
    cards = told(
        client.post(VIEW, json=hook_request(content, *inhibited(), words)).get_json()["cards"]
    )
    assert ("outcome-to-check" in cards) is asked


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ({"display": "Disappearance and death of family member"}, True),  # nobody says whose
        ({}, True),
        ({"code": "Z634"}, True),
        ({"display": "Death of husband"}, False),
        ({"display": "Death of family member (grandmother)"}, False),
    ],
)
def test_the_death_of_a_family_member_counts_unless_another_is_named(
    client: FlaskClient, content: Content, code: dict[str, str], asked: bool
) -> None:
    coding = {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "Z63.4", **code}
    record = of_the_infant("Condition", HER, code={"coding": [coding]}, recordedDate=ago(9))
    cards = told(
        client.post(VIEW, json=hook_request(content, *inhibited(), record)).get_json()["cards"]
    )
    assert (list(cards) == ["outcome-to-check"]) is asked


OURS = {"system": "urn:lactation-cds:activity", "code": "support-after-loss"}


@pytest.mark.parametrize(
    ("kind", "members", "asked"),
    [
        ("Procedure", {"status": "completed", "performedDateTime": ago(9)}, True),
        ("Procedure", {"status": "in-progress", "performedDateTime": ago(9)}, True),
        ("Procedure", {"status": "not-done", "performedDateTime": ago(9)}, False),
        ("Procedure", {"status": "completed", "performedDateTime": ago(24 * 500)}, False),
        ("Encounter", {"status": "finished", "period": {"start": ago(9)}}, True),
        ("ServiceRequest", {"status": "active", "authoredOn": ago(9)}, True),
        ("ServiceRequest", {"status": "completed", "authoredOn": ago(9)}, True),
        ("ServiceRequest", {"status": "revoked", "authoredOn": ago(9)}, False),
        (
            "ServiceRequest",
            {"status": "active", "authoredOn": ago(9), "doNotPerform": True},
            False,
        ),
    ],
)
@pytest.mark.parametrize("said", [{"text": "Bereavement support"}, {"coding": [OURS]}])
def test_words_of_a_loss_are_read_of_what_was_done_and_ordered(
    client: FlaskClient,
    content: Content,
    kind: str,
    members: dict[str, Any],
    asked: bool,
    said: dict[str, Any],
) -> None:
    where = {"type": [said]} if kind == "Encounter" else {"code": said}
    record = of_the_infant(kind, HER, **where, **members)
    cards = told(
        client.post(VIEW, json=hook_request(content, *inhibited(), record)).get_json()["cards"]
    )
    assert (list(cards) == ["outcome-to-check"]) is asked
    assert ("inhibited-letdown" in cards) is not asked


@pytest.mark.parametrize(
    ("status", "reason"),
    [("active", "the record forbids what it names"), ("revoked", "the record is revoked")],
)
def test_of_an_order_that_forbids_it_is_said_so(
    client: FlaskClient, content: Content, status: str, reason: str
) -> None:
    done = {"status": "completed", "performedDateTime": ago(9)}
    asked = of_the_infant("Procedure", HER, code={"coding": [OURS]}, **done)
    members = {"status": status, "authoredOn": ago(5), "doNotPerform": True}
    forbidden = of_the_infant("ServiceRequest", HER, code={"coding": [OURS]}, **members)
    request = hook_request(content, *inhibited(), asked, forbidden)
    (card,) = client.post(VIEW, json=request).get_json()["cards"]
    because = why(card)["because"]
    assert [each["problem"] for each in because if "problem" in each] == [reason]


@pytest.mark.parametrize(
    ("text", "fact", "meant"),
    [
        *((text, "infant-adopted", True) for text in (
            "Infant placed for adoption", "Baby up for adoption",
            "Adoption: baby with adoptive family",
            "Discharged to adoptive parents", "Child given up for adoption",
        )),
        *((text, "infant-adopted", False) for text in (
            "She was adopted", "Adoption of a healthy lifestyle", "Considering adoption plan",
            "Patient was given up for adoption", "Raised by adoptive family",
            "Adoption plan cancelled", "No adoption plan", "Previous child given up for adoption",
        )),
        *((text, "herpes-of-breast", True) for text in (
            "Herpes simplex of left breast", "HSV lesion on the areola",
            "Herpetic vesicles, nipple",
        )),
        *((text, "herpes-of-breast", False) for text in (
            "Herpes zoster, left breast", "Genital herpes simplex, breast feeding",
            "HSV, breast not involved", "Left breast abscess", "Herpes simplex",
        )),
    ],
)  # fmt: skip
def test_words_mean_what_no_code_says(content: Content, text: str, fact: str, meant: bool) -> None:
    record = of_the_infant("Condition", HER, code={"text": text}, recordedDate=ago(9))
    read = content.lookup.of_concept(record["code"], "Condition")
    assert (fact in [spec.id for spec in read]) is meant


@pytest.mark.parametrize(
    ("members", "asked"),
    [
        ({"clinicalStatus": {"coding": [{"code": "resolved"}]}}, True),
        ({"recordedDate": ago(24 * 500)}, False),  # of an earlier birth
        ({"verificationStatus": {"coding": [{"code": "refuted"}]}}, False),
        ({"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}, False),
        ({"recordedDate": None}, True),  # nobody knows when
        ({"subject": {"reference": "Patient/another"}}, False),
    ],
)
def test_words_count_for_this_birth_alone(
    client: FlaskClient, content: Content, members: dict[str, Any], asked: bool
) -> None:
    active = {"clinicalStatus": {"coding": [{"code": "active"}]}, "recordedDate": ago(9)}
    words = of_the_infant("Condition", HER, code={"text": "IUFD"}, **{**active, **members})
    cards = told(
        client.post(VIEW, json=hook_request(content, *inhibited(), words)).get_json()["cards"]
    )
    assert ("outcome-to-check" in cards) is asked


@pytest.mark.parametrize(
    "code",
    [
        {"text": 7},
        {"text": "IUFD", "coding": [{"system": ["x"], "code": "y"}]},
        {"text": "IUFD", "coding": [None, 3]},
        {"text": "IUFD", "coding": {"system": {}}},
        "IUFD",
    ],
)
def test_a_diagnosis_that_is_none_breaks_nothing(
    client: FlaskClient, content: Content, code: Any
) -> None:
    odd = of_the_infant("Condition", HER, code=code, recordedDate=ago(9))
    stay = of_the_infant("Encounter", HER, status="finished", reasonCode=[code, 3, None])
    stay |= {"hospitalization": {"dischargeDisposition": code}, "period": {"start": ago(9)}}
    for record in (odd, stay, stay | {"hospitalization": [3], "reasonCode": "x"}):
        answered = client.post(VIEW, json=hook_request(content, *inhibited(), record))
        assert answered.status_code == 200
