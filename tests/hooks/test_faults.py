"""Whatever the FHIR server does: a truthful card, or 412; in time; and never "nothing found"."""

from __future__ import annotations

import gc
import gzip
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from flask.testing import FlaskClient
from werkzeug.wrappers import Request, Response

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.hooks.prefetch import MOST_RESOURCES
from cds_service.settings import Settings
from tests.support.calls import VIEW
from tests.support.fhir_servers import FhirServer, bundle, fhir
from tests.support.listeners import Listener, drip, listening, silent
from tests.support.mothers import NOW, hook_request, inhibited, observation
from tests.support.processes import free_port, running, started
from tests.support.vignettes import present
from tests.support.waiting import soon

pytestmark = pytest.mark.slow

Fault = Callable[[Request], Response]
BOMB = gzip.compress(b"[" + b"0," * 30_000_000 + b"0]")


def endless(request: Request) -> Response:
    page = int(request.args.get("page", 1))
    return fhir(bundle(observation("unknown"), following=f"{request.base_url}?page={page + 1}"))


def of_another_patient(_: Request) -> Response:
    another = {"subject": {"reference": "Patient/another"}}
    return fhir(bundle(*(record | another for record in inhibited())))


def status(code: int) -> Fault:
    return lambda _: Response("Jane Doe is not for you", code, headers={"Retry-After": "9"})


# What fails, and what the cards say of it: nothing at all where it is another patient's.
FAULTS: dict[str, Fault] = {
    **{str(code): status(code) for code in (400, 401, 403, 404, 410, 429, 500, 502, 503)},
    "redirect": lambda _: Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
    "html": lambda _: Response("<html>Sign in, Jane Doe</html>", mimetype="text/html"),
    "empty": lambda _: Response("", mimetype="application/fhir+json"),
    "truncated": lambda _: Response('{"resourceType": "Bundle", "entry": [{"resource":'),
    "a list": lambda _: Response("[]", mimetype="application/fhir+json"),
    "no resource": lambda _: Response('{"a": 1}', mimetype="application/fhir+json"),
    "nested deeply": lambda _: Response("[" * 100_000, mimetype="application/fhir+json"),
    "an outcome": lambda _: fhir({"resourceType": "OperationOutcome", "issue": []}),
    "a bomb": lambda _: Response(BOMB, headers={"Content-Encoding": "gzip"}),
    "not gzip": lambda _: Response("abc", headers={"Content-Encoding": "gzip"}),
    "slow": lambda _: (time.sleep(3), fhir(bundle()))[1],
}


@contextmanager
def heap_set_aside() -> Iterator[None]:
    """As in a worker: the collector passes over what was there before, here that of all tests."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def request_for(content: Content, address: str, *, without: str | None) -> dict[str, Any]:
    """All sent but one key, or nothing sent: what is not there is to be fetched."""
    request = hook_request(content, *inhibited(), fhirServer=f"{address}/fhir")
    if without is None:
        del request["prefetch"]
    else:
        del request["prefetch"][without]
    return request


@pytest.fixture
def hasty(content: Content, settings: Settings) -> FlaskClient:
    quick = settings.model_copy(update={"deadline_ms": 400})
    return create_app(quick, content, lambda: NOW).test_client()


@pytest.mark.rule("prefetch-failed", "prefetch-partial")
@pytest.mark.parametrize("fault", FAULTS)
def test_one_key_that_fails_is_told_on_the_cards(
    hasty: FlaskClient, content: Content, fault: str
) -> None:
    with running(FhirServer({"Condition": FAULTS[fault]})) as address:
        took = 9.0
        for _ in range(3):  # the machine of the tests may have been busy once
            started = time.monotonic()
            answer = hasty.post(VIEW, json=request_for(content, address, without="conditions"))
            took = min(took, time.monotonic() - started)
            if took < 0.4 + 0.15:
                break
    cards = answer.get_json()["cards"]
    assert cards
    assert all("Could not be read: conditions" in card["detail"] for card in cards)
    assert "Jane Doe" not in answer.text
    assert took < 0.4 + 0.15


@pytest.mark.rule("prefetch-needed", "status-412")
@pytest.mark.parametrize("fault", FAULTS)
def test_if_all_fail_it_is_412_and_not_nothing(
    hasty: FlaskClient, content: Content, fault: str
) -> None:
    kinds = {key.resource for key in content.prefetch.values()}
    with running(FhirServer(dict.fromkeys(kinds, FAULTS[fault]))) as address:
        answer = hasty.post(VIEW, json=request_for(content, address, without=None))
    assert answer.status_code == 412
    assert "milk expression" in answer.get_json()["issue"][0]["details"]["text"]
    assert "Jane Doe" not in answer.text


def test_pages_without_end_are_read_in_part_and_told(content: Content, settings: Settings) -> None:
    unhurried = settings.model_copy(update={"deadline_ms": 10_000})  # it is the number that ends it
    client = create_app(unhurried, content, lambda: NOW).test_client()
    with running(FhirServer({"Condition": endless})) as address:
        answer = client.post(VIEW, json=request_for(content, address, without="conditions"))
    assert answer.get_json()["cards"]
    for card in answer.get_json()["cards"]:
        assert "Could not be read: conditions (only in part)" in card["detail"]


def test_another_patients_records_are_never_hers(hasty: FlaskClient, content: Content) -> None:
    with running(FhirServer({"Observation": of_another_patient})) as address:
        answer = hasty.post(VIEW, json=request_for(content, address, without=None))
    assert answer.get_json() == {"cards": []}


@pytest.mark.rule("call-half-second")
@pytest.mark.parametrize(
    "play",
    [silent, drip(b""), drip(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")],
    ids=["silent", "a byte at a time", "a body a byte at a time"],
)
def test_a_server_that_never_ends_costs_the_deadline_and_no_thread(
    content: Content, settings: Settings, play: Callable[[Any], None]
) -> None:
    quick = settings.model_copy(update={"deadline_ms": 300})
    client = create_app(quick, content, lambda: NOW).test_client()
    with listening(Listener(play)) as port:
        request = request_for(content, f"http://127.0.0.1:{port}", without=None)
        with heap_set_aside():
            for _ in range(8):  # 14 keys each: far more than there are threads to read with
                started = time.monotonic()
                assert client.post(VIEW, json=request).status_code == 412
                assert time.monotonic() - started < 0.3 + 0.15
    with running(FhirServer({"Observation": bundle(*inhibited())})) as address:
        good = request_for(content, address, without=None)
        assert client.post(VIEW, json=good).status_code == 200


def test_nobody_there_is_412(hasty: FlaskClient, content: Content) -> None:
    with running(FhirServer()) as address:
        pass
    request = request_for(content, address, without=None)
    assert hasty.post(VIEW, json=request).status_code == 412


def test_too_many_resources_are_413(client: FlaskClient, content: Content) -> None:
    request = hook_request(content)
    one = {"resource": {"resourceType": "Observation"}}
    many = {"resourceType": "Bundle", "entry": [one] * (MOST_RESOURCES + 1)}
    request["prefetch"]["milkExpression"] = many
    answer = client.post(VIEW, json=request)
    assert answer.status_code == 413
    assert answer.get_json()["issue"][0]["code"] == "too-costly"


@pytest.mark.rule("status-busy")
def test_when_too_many_wait_the_next_is_told_to_come_again(
    content: Content, settings: Settings
) -> None:
    few = settings.model_copy(update={"reading_at_once": 2, "deadline_ms": 1500})
    client = create_app(few, content, lambda: NOW)
    statuses: list[int] = []

    def call(request: dict[str, Any]) -> None:
        answer = client.test_client().post(VIEW, json=request)
        statuses.append(answer.status_code)
        if answer.status_code == 503:
            assert answer.headers["Retry-After"] == "1"
            assert answer.get_json()["issue"][0]["code"] == "transient"

    server = FhirServer(delay=0.5)
    with running(server) as address:
        request = request_for(content, address, without="conditions")
        threads = [threading.Thread(target=call, args=(request,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        soon(lambda: server.most_at_once == 2 and len(statuses) == 3)
        # One that needs no reading is answered all the same.
        assert client.test_client().post(VIEW, json=hook_request(content)).status_code == 200
        for thread in threads:
            thread.join()
    assert sorted(statuses) == [200, 200, 503, 503, 503]


@pytest.mark.rule("status-busy")
def test_no_more_are_answered_at_once_than_there_is_room_for(
    content: Content, settings: Settings
) -> None:
    few = settings.model_copy(update={"at_once": 2, "deadline_ms": 1500})
    app = create_app(few, content, lambda: NOW)
    server = FhirServer(delay=0.5)
    with running(server) as address:
        request = request_for(content, address, without="conditions")
        threads = [
            threading.Thread(target=app.test_client().post, args=(VIEW,), kwargs={"json": request})
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        soon(lambda: server.most_at_once == 2)
        refused = app.test_client().post(VIEW, json=hook_request(content))
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert app.test_client().get("/health/live").status_code == 200
        for thread in threads:
            thread.join()
    assert app.test_client().post(VIEW, json=hook_request(content)).status_code == 200


@pytest.mark.rule("status-busy")
def test_one_client_leaves_room_for_the_others(content: Content, tmp_path: Path) -> None:
    from tests.support.clients import BASE, clients_file, signed

    server = FhirServer(delay=0.5)
    with running(server) as address:
        path = clients_file(tmp_path / "clients.yaml", fhir_servers=[f"{address}/fhir"])
        another = path.read_text().replace("https://ehr.example.org", "https://other.example.org")
        path.write_text(path.read_text() + another.removeprefix("clients:\n"))
        settings = Settings(
            auth="required", base_url=BASE, clients=path, reading_at_once=3, deadline_ms=1500
        )
        app = create_app(settings, content, lambda: NOW)
        request = request_for(content, address, without="conditions")
        statuses: list[int] = []

        def call(issuer: str) -> None:
            answer = app.test_client().post(VIEW, json=request, headers=signed(iss=issuer))
            statuses.append(answer.status_code)

        greedy = [
            threading.Thread(target=call, args=("https://ehr.example.org",)) for _ in range(3)
        ]
        for thread in greedy:
            thread.start()
        soon(lambda: server.most_at_once == 2 and statuses == [429])
        call("https://other.example.org")
        for thread in greedy:
            thread.join()
    assert sorted(statuses) == [200, 200, 200, 429]


@pytest.mark.rule("status-busy")
def test_the_slow_servers_of_some_clients_cost_another_nothing(
    content: Content, tmp_path: Path
) -> None:
    """With real workers, 60 calls whose records are all read, while two others ask all they can."""
    from tests.support.clients import BASE, clients_file, signed

    request = present(content)
    prefetched = request.pop("prefetch")
    records = {
        entry["resource"]["id"]: entry["resource"]
        for sent in prefetched.values()
        for entry in (sent or {}).get("entry", ())
    }
    kinds = {record["resourceType"] for record in records.values()}
    answers: dict[str, Any] = {
        kind: bundle(*(each for each in records.values() if each["resourceType"] == kind))
        for kind in kinds
    }
    answers[request["context"]["patientId"]] = prefetched["patient"]
    names = ("slow", "silent", "fast")
    over, statuses = threading.Event(), Counter[int]()

    def call(name: str) -> requests.Response:
        body = request | {"fhirServer": f"{servers[name]}/fhir"}
        headers = signed(iss=f"https://{name}.example.org")
        return requests.post(f"{there.address}{VIEW}", json=body, headers=headers, timeout=9)

    def call_again_and_again(name: str) -> None:
        while not over.is_set():
            statuses[call(name).status_code] += 1
            time.sleep(0.1)

    with (
        running(FhirServer(delay=6)) as slow,
        listening(Listener(silent)) as port,
        running(FhirServer(answers)) as fast,
    ):
        servers = {"slow": slow, "silent": f"http://127.0.0.1:{port}", "fast": fast}
        entries = [
            yaml.safe_load(
                clients_file(
                    tmp_path / name,
                    issuer=f"https://{name}.example.org",
                    fhir_servers=[f"{servers[name]}/fhir"],
                ).read_text()
            )["clients"][0]
            for name in names
        ]
        path = tmp_path / "clients.yaml"
        path.write_text(yaml.safe_dump({"clients": entries}))
        with started(
            "serve",
            *("--workers", "1"),
            port=free_port(),
            CDS_BASE_URL=BASE,
            CDS_CLIENTS=str(path),
            CDS_DEADLINE_MS="2000",
        ) as there:
            threads = [
                threading.Thread(target=call_again_and_again, args=(name,))
                for name in ("slow", "silent") * 4
            ]
            for thread in threads:
                thread.start()
            try:
                soon(lambda: statuses.keys() >= {412, 429})
                told = [call("fast") for _ in range(60)]
            finally:
                over.set()
                for thread in threads:
                    thread.join()
    assert Counter(answer.status_code for answer in told) == {200: 60}, statuses
    assert all(answer.json()["cards"] for answer in told)
    assert not [answer for answer in told if "Could not be read" in answer.text]
    assert statuses.keys() >= {412, 429}
