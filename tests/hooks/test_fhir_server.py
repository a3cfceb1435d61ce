"""Reading from a FHIR server: in parallel, within the deadline, and never anywhere else."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

from cds_service.access.outgoing import Outgoing, Reply
from cds_service.fhir.chart import KeyResult, State
from cds_service.hooks.fhir_server import FhirReader
from cds_service.limits.concurrency import TooBusyError
from tests.support.fhir_servers import FhirServer, bundle, fhir
from tests.support.mothers import milk
from tests.support.processes import running
from tests.support.waiting import soon

KEYS = {name: f"{name}?patient=mother-1" for name in ("Observation", "Condition", "Encounter")}


def read(server: FhirServer, seconds: float = 2.0, **wanted: str) -> dict[str, KeyResult]:
    with running(server) as address:
        return FhirReader().read(f"{address}/fhir", "a-token", wanted or KEYS, seconds)


@pytest.mark.rule("authorization-bearer")
def test_each_key_is_read_with_the_token() -> None:
    server = FhirServer({"Observation": bundle(milk(10, 1))})
    answers = read(server)
    assert answers["Observation"].state is State.COMPLETE
    assert answers["Condition"].state is State.EMPTY
    assert {token for _, token in server.seen} == {"Bearer a-token"}
    assert sorted(path for path, _ in server.seen) == sorted(f"/fhir/{s}" for s in KEYS.values())


def test_keys_are_read_at_the_same_time() -> None:
    server = FhirServer(delay=0.3)
    started = time.monotonic()
    read(server)
    assert server.most_at_once == len(KEYS)
    assert time.monotonic() - started < 0.3 * 2.5


@pytest.mark.rule("prefetch-page")
def test_next_links_are_followed() -> None:
    def pages(request: Request) -> Response:
        page = int(request.args.get("page", 1))
        following = f"{request.base_url}?page={page + 1}" if page < 3 else None
        return fhir(bundle(milk(page, page), following=following))

    answer = read(FhirServer({"Observation": pages}))["Observation"]
    assert answer.state is State.COMPLETE
    assert len(answer.resources) == 3


@pytest.mark.rule("prefetch-page", "authorization-bearer")
def test_a_next_link_to_another_origin_is_not_followed() -> None:
    elsewhere = FhirServer()
    with running(elsewhere) as other:
        server = FhirServer(
            {"Observation": bundle(milk(1, 1), following=f"{other}/fhir/Observation")}
        )
        answer = read(server)["Observation"]
    assert elsewhere.seen == []
    assert answer.state is State.PARTIAL
    assert answer.reason == "its next page is on another server"


ELSEWHERE = [
    "{origin}/admin/Observation",
    "{origin}/fhirs/Observation",
    "{origin}/FHIR/Observation",
    "{origin}/",
    "/admin/Observation",
    "../admin/Observation",
    "//localhost:1/fhir/Observation",
    "{origin}/fhir/../admin/Observation",
    "{origin}/fhir/%2e%2E/admin/Observation",
    "{origin}/fhir/.%2e/admin/Observation",
    "{origin}/fhir/..%2fadmin/Observation",
    "{origin}/fhir%2f..%2fadmin/Observation",
    "{origin}/fhir/%252e%252e/admin/Observation",
    "{origin}/fhir/..;x=1/admin/Observation",
    "{origin}/fhir/..\\admin/Observation",
    "{origin}/fhir/%5c../admin/Observation",
    "{origin}/fhir/.\t./admin/Observation",
    "http://x@{host}/fhir/Observation",
    "http://{host}\\@example.org/fhir/Observation",
]


@pytest.mark.rule("prefetch-page", "authorization-bearer")
@pytest.mark.parametrize("link", ELSEWHERE)
def test_a_link_is_followed_below_the_listed_address_only(link: str) -> None:
    """Whether the page before it was prefetched or read: it gets the token."""
    server = FhirServer()
    with running(server) as address:
        sent = link.format(origin=address, host=address.partition("//")[2])
        server.answers["Condition"] = bundle(milk(1, 1), following=sent)
        wanted = {"Observation": sent, "Condition": "Condition"}
        answers = FhirReader().read(f"{address}/fhir", "a-token", wanted, 2.0)
    assert [path for path, _ in server.seen] == ["/fhir/Condition?"]
    assert answers["Observation"].state is State.FAILED
    assert answers["Condition"].state is State.PARTIAL


@pytest.mark.parametrize(
    "link",
    [
        "{origin}/fhir?_getpages=1&_offset=20",
        "{origin}/fhir/?page=2",
        "{origin}/fhir/Observation/page/2?code=http://loinc.org|1,2\\,3&x=a b",
        "HTTP://{host}/fhir/Observation?page=2",
        "Observation?page=2",
        "?page=2",
    ],
)
def test_a_link_below_it_is_followed_as_servers_write_it(link: str) -> None:
    server = FhirServer()
    with running(server) as address:
        sent = link.format(origin=address, host=address.partition("//")[2])
        server.answers["Observation"] = lambda request: fhir(
            bundle(milk(1, 1), following=None if request.args else sent)
        )
        answers = FhirReader().read(f"{address}/fhir", "a-token", {"Observation": "Observation"}, 2)
    assert len(server.seen) == 2
    assert answers["Observation"].state is State.COMPLETE


@pytest.mark.parametrize("server_sent", ["{address}/fhir?x", "{address}/fhir#x", "{address}/fhir/"])
def test_what_stands_behind_the_path_of_a_server_changes_nothing(server_sent: str) -> None:
    server = FhirServer()
    with running(server) as address:
        FhirReader().read(server_sent.format(address=address), None, {"C": "Condition"}, 1.0)
    assert [path for path, _ in server.seen] == ["/fhir/Condition?"]


@pytest.mark.parametrize("link", ["http://[::1/fhir", "//[", "https://x:y/fhir", "", "\0"])
def test_a_next_link_that_is_no_address_leads_nowhere(link: str) -> None:
    answer = read(FhirServer({"Observation": bundle(milk(1, 1), following=link)}))["Observation"]
    assert answer.state is State.PARTIAL
    assert len(answer.resources) == 1
    assert answer.reason


@pytest.mark.rule("authorization-server")
def test_a_redirect_is_not_followed() -> None:
    elsewhere = FhirServer()
    with running(elsewhere) as other:
        moved = Response(status=307, headers={"Location": f"{other}/fhir/Observation"})
        answer = read(FhirServer({"Observation": lambda _: moved}))["Observation"]
    assert elsewhere.seen == []
    assert answer.state is State.FAILED


def test_pages_that_never_end_are_cut() -> None:
    def endless(request: Request) -> Response:
        page = int(request.args.get("page", 1))
        return fhir(bundle(milk(1, page), following=f"{request.base_url}?page={page + 1}"))

    def circle(request: Request) -> Response:
        return fhir(bundle(milk(1, 1), following=request.base_url))

    server = FhirServer({"Observation": endless, "Condition": circle})
    answers = read(server, seconds=5)
    assert answers["Observation"].state is State.PARTIAL
    assert answers["Condition"].state is State.PARTIAL
    assert len(server.seen) < 60


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>Sign in</html>", mimetype="text/html"),
        Response('{"resourceType": "Bundle", "entry": [', mimetype="application/fhir+json"),
        Response("[]", mimetype="application/fhir+json"),
        Response(status=401),
        Response(status=403),
        Response(status=404),
        Response(status=500),
        Response("[" * 100_000, mimetype="application/fhir+json"),
        fhir({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "x"}]}),
    ],
)
def test_an_answer_that_is_none_is_a_failure_of_its_key_alone(answer: Response) -> None:
    answers = read(FhirServer({"Condition": lambda _: answer}))
    assert answers["Condition"].state is State.FAILED
    assert answers["Condition"].reason
    assert answers["Observation"].state is State.EMPTY


def test_nobody_there_is_a_failure() -> None:
    with running(FhirServer()) as address:
        pass
    answers = FhirReader().read(f"{address}/fhir", None, KEYS, 1.0)
    assert {answer.state for answer in answers.values()} == {State.FAILED}


@pytest.mark.rule("call-half-second")
def test_a_slow_server_costs_no_more_than_the_deadline() -> None:
    over = threading.Event()
    slow = FhirServer({"Condition": lambda _: (over.wait(5), fhir(bundle()))[1]})
    with running(slow) as address:
        started = time.monotonic()
        answers = FhirReader().read(f"{address}/fhir", None, KEYS, 0.4)
        took = time.monotonic() - started
        over.set()
    assert took < 0.4 + 0.1
    assert answers["Condition"].reason == "the record system was too slow"
    assert answers["Observation"].state is State.EMPTY


@pytest.mark.rule("call-server")
def test_no_token_is_sent_where_none_was_given() -> None:
    server = FhirServer()
    with running(server) as address:
        FhirReader().read(f"{address}/fhir", None, KEYS, 1.0)
    assert {token for _, token in server.seen} == {None}


def test_a_server_sets_no_cookie_on_the_next_patient() -> None:
    cookies: list[Any] = []

    def setting(request: Request) -> Response:
        cookies.append(request.headers.get("Cookie"))
        response = fhir(bundle())
        response.set_cookie("session", "of-another-patient")
        return response

    with running(FhirServer({"Observation": setting})) as address:
        reader = FhirReader()
        for _ in range(2):
            reader.read(f"{address}/fhir", None, {"Observation": "Observation"}, 1.0)
    assert cookies == [None, None]


def test_what_a_server_remembers_of_an_earlier_search_is_not_asked_for() -> None:
    """What was accepted a minute ago stands in her record now."""
    server = FhirServer()
    with running(server) as address:
        FhirReader().read(f"{address}/fhir", None, KEYS, 1.0)
    assert {headers["cache-control"] for headers in server.headers} == {"no-cache"}


@pytest.mark.slow  # its times need the cores for itself
def test_the_slow_server_of_one_caller_takes_no_thread_from_another() -> None:
    """However many keys its requests have: each thread that waits is one of its own."""
    keys = {f"key-{number}": f"Observation?key={number}" for number in range(16)}
    slow, fast = FhirServer(delay=5), FhirServer(delay=0.01)
    reader, over = FhirReader(most=6, each=True), threading.Event()

    def call_again_and_again() -> None:
        while not over.is_set():
            try:
                reader.read(f"{address}/fhir", None, keys, 0.4, "slow")
            except TooBusyError:
                time.sleep(0.01)

    with running(slow) as address, running(fast) as other:
        threads = [threading.Thread(target=call_again_and_again) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            soon(lambda: slow.most_at_once >= 6)
            for _ in range(20):
                answers = reader.read(f"{other}/fhir", None, keys, 0.4, "fast")
                assert {answer.state for answer in answers.values()} == {State.EMPTY}
        finally:
            over.set()
            for thread in threads:
                thread.join()


def test_a_place_is_kept_until_the_last_thread_has_come_back() -> None:
    """Else the threads of one caller would be more than its share; and then it is free again."""
    blocked = threading.Event()

    class Stuck(Outgoing):
        def call(self, *_: Any) -> Reply:
            blocked.wait(5)
            return Reply(200, b'{"resourceType":"Bundle"}', None)

    reader = FhirReader(Stuck(), most=1)
    late = reader.read("https://fhir.example.org", None, KEYS, 0.1)
    assert {answer.state for answer in late.values()} == {State.FAILED}
    with pytest.raises(TooBusyError):
        reader.read("https://fhir.example.org", None, KEYS, 0.1)
    blocked.set()

    def is_free() -> bool:
        try:
            reader.read("https://fhir.example.org", None, KEYS, 1.0)
        except TooBusyError:
            return False
        return True

    soon(is_free)
    for _ in range(50):  # one after the other, as a request reads twice
        answers = reader.read("https://fhir.example.org", None, KEYS, 1.0)
        assert {answer.state for answer in answers.values()} == {State.EMPTY}
