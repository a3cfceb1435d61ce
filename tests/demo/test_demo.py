"""The demo over HTTP: the FHIR endpoint, and the pages of the small EHR."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests
from fhir.resources.R4B import get_fhir_model_class

from cds_service.demo.app import create_demo
from tests.support.mothers import NOW
from tests.support.processes import free_port, running
from tests.support.vignettes import MOTHERS
from tests.support.waiting import soon

pytestmark = pytest.mark.slow

SMOKER = "inhibited-letdown-smoker"
TO_CONSULT = "d-mer-poor-transfer"  # who gets the card on a consultation


NOT_NOW = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes|limited-time"


class Clock:
    """A present that a test moves on."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def demo(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("CDS_ALLOWED_ORIGINS", raising=False)
    port = free_port()
    with running(create_demo(f"http://127.0.0.1:{port}", clock), port) as address:
        yield address


@pytest.fixture(scope="module")
def shared_demo() -> Iterator[str]:
    """One for all the tests that only read. It is patient: the machine may have much to do."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDS_DEADLINE_MS", "4000")
        app = create_demo(f"http://127.0.0.1:{port}", lambda: NOW)
    with running(app, port) as address:
        yield address


def get(url: str, status: int = 200, **options: Any) -> requests.Response:
    answer = requests.get(url, timeout=5, **options)
    assert answer.status_code == status, answer.text
    return answer


def cards_on(page: str) -> list[str]:
    return re.findall(r'<article class="card \w+" id="([a-z-]+)"', page)


# --- the FHIR endpoint --------------------------------------------------------------------------


def test_it_says_what_it_can(demo: str) -> None:
    answer = get(f"{demo}/fhir/metadata")
    assert answer.headers["Content-Type"] == "application/fhir+json"
    get_fhir_model_class("CapabilityStatement").model_validate(answer.json())


def test_read_and_search(demo: str) -> None:
    assert get(f"{demo}/fhir/Patient/mother-{SMOKER}").json()["id"] == f"mother-{SMOKER}"
    get(f"{demo}/fhir/Patient/nobody", 404)
    found = get(f"{demo}/fhir/Observation?patient=mother-{SMOKER}&_count=5&_sort=-date").json()
    get_fhir_model_class("Bundle").model_validate(found)
    assert len(found["entry"]) == 5
    times = [entry["resource"]["effectiveDateTime"] for entry in found["entry"]]
    assert times == sorted(times, reverse=True)
    (following,) = [link["url"] for link in found["link"] if link["relation"] == "next"]
    rest = get(following).json()
    ids = {entry["resource"]["id"] for entry in found["entry"]}
    assert not ids & {entry["resource"]["id"] for entry in rest["entry"]}


def test_search_by_code(demo: str) -> None:
    query = "code=urn:lactation-cds:fact|smoking-status,http://loinc.org|72166-2"
    found = get(f"{demo}/fhir/Observation?patient=mother-{SMOKER}&{query}").json()
    assert found["total"] == 1


@pytest.mark.parametrize(
    "path", ["Spaceship", "Observation?colour=blue", "Observation?_count=many"]
)
def test_what_it_cannot_do_is_an_operation_outcome(demo: str, path: str) -> None:
    answer = requests.get(f"{demo}/fhir/{path}", timeout=5)
    assert answer.status_code in (400, 404)
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_create_keeps_what_is_valid_and_refuses_what_is_not(demo: str) -> None:
    order = {
        "resourceType": "ServiceRequest",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/mother-{SMOKER}"},
    }
    made = requests.post(f"{demo}/fhir/ServiceRequest", json=order, timeout=5)
    assert made.status_code == 201
    assert get(made.headers["Location"]).json()["status"] == "draft"
    bad = requests.post(f"{demo}/fhir/ServiceRequest", json=order | {"status": 3}, timeout=5)
    assert bad.status_code == 422
    other = requests.post(f"{demo}/fhir/DeviceRequest", json=order, timeout=5)
    assert other.status_code == 400


def test_a_search_by_post_finds_the_same(demo: str) -> None:
    query = f"patient=mother-{SMOKER}&_sort=-date&_count=500"
    by_get = get(f"{demo}/fhir/Observation?{query}").json()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"{demo}/fhir/Observation/_search"
    by_post = requests.post(url, data=query, headers=form, timeout=5)
    assert by_post.status_code == 200
    assert by_post.json()["entry"] == by_get["entry"] != []
    assert requests.post(f"{demo}/fhir/Nothing/_search", timeout=5).status_code == 404


def test_the_bundles_are_served_whole(demo: str) -> None:
    for mother in MOTHERS:
        for entry in mother.bundle["entry"]:
            get(f"{demo}/fhir/{entry['request']['url']}")


# --- the pages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mother", MOTHERS, ids=lambda mother: mother.name)
@pytest.mark.parametrize("data", ["prefetch", "server"])
def test_her_encounter_shows_her_cards_however_her_data_come(
    shared_demo: str, mother: Any, data: str
) -> None:
    chart = get(f"{shared_demo}/mothers/{mother.name}").text
    assert mother.patient_id in chart
    page = get(f"{shared_demo}/mothers/{mother.name}/encounter?data={data}").text
    country = mother.expected.jurisdiction
    assert (f"She is written for a service in {country}" in chart) == (country != "US")
    if country != "US":
        return
    assert cards_on(page) == mother.expected.cards
    assert ("No cards." in page) == (mother.expected.cards == [])


def accept(demo: str, page: str, label: str) -> requests.Response:
    """Press a suggestion's button, as a browser would."""
    import html

    form = next(f for f in page.split("<form")[1:] if f">{label}</button>" in f)
    fields = {
        name: html.unescape(v) for name, v in re.findall(r'name="(\w+)" value="([^"]*)"', form)
    }
    action = re.findall(r'action="([^"]+)"', form)[0]
    return requests.post(f"{demo}{action}", data=fields, timeout=5)


def test_an_accepted_suggestion_is_written_and_its_card_is_gone(demo: str) -> None:
    page = get(f"{demo}/mothers/{TO_CONSULT}/encounter?data=server").text
    assert "lactation-consult" in cards_on(page)
    after = accept(demo, page, "Order a lactation consultation")
    assert after.status_code == 200
    assert "lactation-consult" not in cards_on(after.text)
    (written,) = re.findall(r"ServiceRequest/[0-9a-f-]{36}", after.text.split("Request as JSON")[0])
    resource = get(f"{demo}/fhir/{written}").json()
    get_fhir_model_class("ServiceRequest").model_validate(resource)
    assert resource["encounter"]["reference"] == f"Encounter/encounter-{TO_CONSULT}"


def test_an_order_that_is_taken_back_is_gone_from_the_next_call(demo: str) -> None:
    where = f"{demo}/mothers/order-pseudoephedrine"
    assert "Pseudoephedrine 60 mg tablet, Ibuprofen 400 mg tablet" in get(where).text
    after = accept(demo, get(f"{where}/encounter").text, "Take back Pseudoephedrine")
    assert "Order taken back" in after.text
    assert cards_on(after.text) == []
    assert "<p>Ibuprofen 400 mg tablet</p>" in get(where).text
    requests.post(f"{demo}/demo/reset", timeout=5)
    assert cards_on(get(f"{where}/encounter").text) == ["order-lowers-supply"]


@pytest.mark.parametrize("hook", ["order-sign", "patient-closed"])
def test_a_hook_that_cannot_be_fired_for_her_is_refused(demo: str, hook: str) -> None:
    page = requests.get(f"{demo}/mothers/{SMOKER}/encounter?hook={hook}", timeout=5)
    assert page.status_code == 400


@pytest.mark.parametrize("actions", [None, "not JSON", "[]x", "[3]", '[{"resource": {}}]'])
def test_what_is_no_suggestion_is_not_written(demo: str, actions: str | None) -> None:
    fields = {} if actions is None else {"actions": actions}
    assert (
        requests.post(f"{demo}/mothers/{SMOKER}/accept", data=fields, timeout=5).status_code == 400
    )


def test_start_over_forgets_what_was_written(demo: str) -> None:
    page = get(f"{demo}/mothers/{TO_CONSULT}/encounter").text
    accept(demo, page, "Order a lactation consultation")
    requests.post(f"{demo}/demo/reset", timeout=5)
    assert "lactation-consult" in cards_on(get(f"{demo}/mothers/{TO_CONSULT}/encounter").text)


def test_an_overridden_card_is_put_away_with_its_reason(demo: str) -> None:
    fields = {"card": "medicines-and-milk", "reason": NOT_NOW, "hook": "patient-view"}
    page = requests.post(f"{demo}/mothers/{SMOKER}/override", data=fields, timeout=5).text
    assert "medicines-and-milk" not in cards_on(page)
    assert "Overridden: medicines-and-milk (Not now)." in page


def test_what_was_accepted_and_overridden_reaches_the_dashboard(demo: str) -> None:
    where = f"{demo}/mothers/{SMOKER}/encounter"
    for _ in range(5):
        page = get(where).text
        (uuid,) = re.findall(
            r'name="card" value="medicines-and-milk"><input[^>]* value="(.*?)"', page
        )
        fields = {"card": "medicines-and-milk", "uuid": uuid, "reason": NOT_NOW}
        requests.post(f"{demo}/mothers/{SMOKER}/override", data=fields, timeout=5)
        accept(demo, page, "Order a lactation consultation")
        requests.post(f"{demo}/demo/reset", timeout=5)
    wanted = [
        "card,medicines-and-milk,overridden,5",
        "card,medicines-and-milk,overridden: Not now,5",
        "card,inhibited-letdown,accepted,5",
    ]

    def told() -> bool:
        report = get(
            f"{demo}/dashboard/report.csv", auth=("any", "synthetic-only")
        ).text.splitlines()
        return set(wanted) <= set(report)

    soon(told)
    assert 'href="/dashboard"' in get(demo).text


def test_the_demo_never_ages_and_keeps_what_was_written(demo: str, clock: Clock) -> None:
    page = get(f"{demo}/mothers/{SMOKER}/encounter").text
    accept(demo, page, "Order a lactation consultation")
    clock.now += timedelta(days=3)
    page = get(f"{demo}/mothers/{SMOKER}/encounter").text
    assert cards_on(page) == ["inhibited-letdown", "supply-risk-factors", "medicines-and-milk"]
    assert "62 mL recorded in 24 h on day 5" in page


def test_the_curl_line_repeats_the_call(demo: str) -> None:
    import html
    import subprocess

    page = get(f"{demo}/mothers/{SMOKER}/encounter?data=prefetch").text
    line = html.unescape(re.findall(r'<pre class="curl"[^>]*><code>(.*?)</code>', page, re.S)[0])
    ran = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=True, timeout=10
    )
    assert '"code":"inhibited-letdown"' in ran.stdout


def test_the_plot_shows_each_day_against_the_expected_range(demo: str) -> None:
    page = get(f"{demo}/mothers/average-letdown").text
    assert page.count('class="bar"') >= 10
    assert 'class="band"' in page
    assert "630 mL in 8 sessions" in page
    assert "no volume is recorded" in get(f"{demo}/mothers/hours-after-birth").text


def test_the_chart_shows_how_letdown_is_assessed_and_what_is_missing(demo: str) -> None:
    page = requests.get(f"{demo}/mothers/data-missing", timeout=10).text
    assert "Not assessable" in page
    assert '<span class="need so">volume little</span>' in page
    assert '<span class="need unknown">pumping long</span>' in page
    assert "length of a pumping session, letdown sensation" in page
    page = requests.get(f"{demo}/mothers/inhibited-letdown", timeout=10).text
    assert '<th scope="row" class="so">inhibited letdown</th>' in page


@pytest.mark.parametrize("name", ["stillbirth", "formula-by-choice", "htlv"])
def test_a_chart_behind_a_closed_gate_shows_no_milk_and_no_letdown(demo: str, name: str) -> None:
    page = get(f"{demo}/mothers/{name}").text
    assert "How speaking of milk is assessed" in page
    assert "Milk in 24 h" not in page
    assert "How letdown is assessed" not in page
    open_gate = get(f"{demo}/mothers/inhibited-letdown").text
    assert "Milk in 24 h" in open_gate
    assert "How letdown is assessed" in open_gate


def test_pages_take_nothing_from_another_host(demo: str) -> None:
    for path in ("/", f"/mothers/{SMOKER}", f"/mothers/{SMOKER}/encounter"):
        answer = get(f"{demo}{path}")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        loaded = re.findall(r'(?:src|<link[^>]* href)="([^"]+)"', answer.text)
        assert all(url.startswith(("/", "data:")) for url in loaded), loaded


@pytest.mark.parametrize(
    "path", ["/mothers/nobody", f"/mothers/{SMOKER}/encounter?hook=order-sign", "/mothers/../x"]
)
def test_what_is_not_there_is_told(demo: str, path: str) -> None:
    assert requests.get(f"{demo}{path}", timeout=5).status_code in (400, 404)


def test_the_sandbox_may_call(demo: str, valid: Callable[[str, Any], None]) -> None:
    headers = {"Origin": "https://sandbox.cds-hooks.org"}
    for path in ("/cds-services", "/fhir/metadata", f"/fhir/Patient/mother-{SMOKER}"):
        answer = get(f"{demo}{path}", headers=headers)
        assert answer.headers["Access-Control-Allow-Origin"] == headers["Origin"]
    valid("discovery", get(f"{demo}/cds-services").json())
