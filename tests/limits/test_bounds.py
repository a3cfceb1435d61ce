"""Bounds of a request: the memory of a worker, the time of a decision, and what no chart has."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from benchmarks.processes import children
from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.hooks.prefetch import MOST_BY_WORDS
from cds_service.limits.bounds import (
    EVALUATION_SECONDS,
    MOST_HELD,
    Bounds,
    Memory,
    TooMuchError,
    weight_of,
)
from cds_service.limits.concurrency import TooBusyError
from cds_service.settings import Settings
from tests.support.calls import VIEW
from tests.support.mothers import NOW, hook_request, inhibited
from tests.support.processes import free_port, started
from tests.support.vignettes import present
from tests.support.waiting import soon

JSON = {"Content-Type": "application/json"}
MIB = 1024 * 1024
LARGEST = Settings.model_fields["max_body_bytes"].default


def test_what_one_holds_another_cannot_and_it_is_given_back() -> None:
    memory = Memory(100)
    with memory.bounds() as one, memory.bounds() as other:
        one.hold(60)
        with pytest.raises(TooBusyError):
            other.hold(60)
        other.hold(40)
        with pytest.raises(TooMuchError):
            one.hold(41)
    with memory.bounds() as later:
        later.hold(100)
    with pytest.raises(TooBusyError):  # a thread that comes late holds nothing
        later.hold(1)
    Bounds().hold(10**12)


def peak(process: int) -> float:
    """The most memory that a process had since ``from_now``, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def from_now(process: int) -> float:
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return peak(process)


OBJECTS_DEEP = b'{"a":' * 900 + b"1" + b"}" * 900
SHAPES = {  # what is dense, or grows, and where it is
    "lists of the context": ("context", b"[]", "[%s]"),
    "objects of the context": ("context", b'{"a":1}', "[%s]"),
    "texts of the context": ("context", b'"ab"', "[%s]"),
    "lists for a key": ("prefetch", b"[]", "[%s]"),
    "no entries": ("prefetch", b"{}", '{"resourceType":"Bundle","entry":[%s]}'),
    "lists in a resource": (
        "prefetch",
        b"[]",
        '{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Observation",'
        '"component":[%s]}}]}',
    ),
    "objects within each other": ("context", OBJECTS_DEEP, "[%s]"),
    "objects within each other for a key": ("prefetch", OBJECTS_DEEP, "[%s]"),
    "one long text": ("context", b"a", "long"),
    "one long text with a letter beyond that is escaped": ("context", b"a", "escaped"),
    "one long text with a letter beyond": ("context", "ā".encode(), "long"),
}


def of_shape(request: dict[str, Any], shape: str, size: int) -> bytes:
    """A request of about so many bytes that is otherwise right."""
    place, unit, around = SHAPES[shape]
    name = "x" if place == "context" else "milkExpression"
    document = json.loads(json.dumps(request))
    document[place][name] = "@"
    before, _, after = json.dumps(document).encode().partition(b'"@"')
    room = size - len(before) - len(after) - len(around)
    if around in ("long", "escaped"):
        end = "😀".encode() if around == "long" else b"\\ud83d\\ude00"
        filled = b'"' + unit * (room // len(unit) - 16) + end + b'"'
    else:
        head, _, tail = around.partition("%s")
        filled = head.encode() + b",".join([unit] * (room // (len(unit) + 1))) + tail.encode()
    return before + filled + after


def largest_admitted(request: dict[str, Any], shape: str) -> bytes:
    """The largest of a shape that may be held, by halving."""
    low, high = 100_000, LARGEST
    if weight_of(of_shape(request, shape, high)) <= MOST_HELD:
        return of_shape(request, shape, high)
    while high - low > 100_000:
        middle = (low + high) // 2
        if weight_of(of_shape(request, shape, middle)) <= MOST_HELD:
            low = middle
        else:
            high = middle
    return of_shape(request, shape, low)


@contextmanager
def used_worker(request: dict[str, Any], **more: str) -> Iterator[tuple[str, int]]:
    """Where a service is called that has answered some calls, and the id of its worker."""
    service = started("serve", "--workers", "1", port=free_port(), CDS_AUTH="open", **more)
    with service as there:
        url, usual = f"{there.address}{VIEW}", json.dumps(request)
        for _ in range(20):
            assert requests.post(url, usual, headers=JSON, timeout=5).status_code == 200
        [worker] = children(there.pid)
        yield url, worker


@pytest.mark.slow
def test_no_body_costs_a_worker_more_than_its_weight(content: Content) -> None:
    """A dense one of 16 MiB is refused, as no chart, and the largest that is not is bounded."""
    request = present(content)
    with used_worker(request) as (url, worker):
        for shape in SHAPES:
            for body in (of_shape(request, shape, LARGEST), largest_admitted(request, shape)):
                before = from_now(worker)
                status = requests.post(url, body, headers=JSON, timeout=30).status_code
                is_too_much = weight_of(body) > MOST_HELD
                assert (status == 413) == is_too_much, (shape, status)
                most = 100 if is_too_much else weight_of(body) / MIB + 20
                assert peak(worker) - before < most, (shape, peak(worker) - before)


@pytest.mark.slow
def test_nothing_of_an_address_that_is_none_stays_in_a_worker(content: Content) -> None:
    request = present(content)
    with used_worker(request, CDS_PATIENT_KEY="a secret of a hospital") as (url, worker):
        before = from_now(worker)
        for number in range(6):
            server = f"https://{number}.example/{'a' * 8 * MIB}"
            answer = requests.post(url, json={**request, "fhirServer": server}, timeout=30)
            assert answer.status_code == 400
        soon(lambda: from_now(worker) - before < 20)  # once it has given memory back


@pytest.mark.slow
def test_many_at_once_hold_no_more_than_one_may(content: Content) -> None:
    request, statuses = present(content), Counter[int]()
    with used_worker(request) as (url, worker):
        body = of_shape(request, "objects of the context", 4 * MIB)
        assert MOST_HELD / 2 < weight_of(body) < MOST_HELD
        before = from_now(worker)

        def call() -> None:
            for _ in range(3):
                answer = requests.post(url, body, headers=JSON, timeout=60)
                statuses[answer.status_code] += 1

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert peak(worker) - before < MOST_HELD / MIB + 8 * 2 * 4  # and each body as it comes
        assert statuses.keys() <= {200, 503}
        assert statuses[200] > 0
        assert requests.post(url, json.dumps(request), headers=JSON, timeout=5).status_code == 200


def with_many(content: Content, kind: str, count: int, words: str) -> dict[str, Any]:
    """A call with many records of a type that is known by its words, each of other words."""
    key = {"Condition": "conditions", "AllergyIntolerance": "allergies"}.get(kind)
    key = key or ("medicationRequests" if kind == "MedicationRequest" else "medicationStatements")
    entries = [
        {
            "resource": {
                "resourceType": kind,
                "id": f"r{number}",
                "status": "active",
                "subject": {"reference": "Patient/mother-1"},
                "patient": {"reference": "Patient/mother-1"},
                "code": {"text": f"{number} {words}"},
                "medicationCodeableConcept": {"text": f"{number} {words}"},
            }
        }
        for number in range(count)
    ]
    request = hook_request(content, *inhibited())
    request["prefetch"][key] = {"resourceType": "Bundle", "entry": entries}
    return request


KINDS = ["Condition", "AllergyIntolerance", "MedicationRequest", "MedicationStatement"]


@pytest.mark.parametrize("kind", KINDS)
def test_more_records_than_any_chart_has_are_refused(
    client: FlaskClient, content: Content, kind: str
) -> None:
    most = client.post(VIEW, json=with_many(content, kind, 300, "of some name"))
    assert most.status_code == 200
    refused = client.post(VIEW, json=with_many(content, kind, MOST_BY_WORDS + 1, "x"))
    assert refused.status_code == 413
    assert kind in refused.get_json()["issue"][0]["details"]["text"]


def test_more_orders_than_anyone_makes_are_refused(client: FlaskClient, content: Content) -> None:
    request = hook_request(content, *inhibited())
    order = {"resource": {"resourceType": "MedicationRequest"}}
    request["hook"] = "order-sign"
    request["context"]["draftOrders"] = {
        "resourceType": "Bundle",
        "entry": [order] * (MOST_BY_WORDS + 1),
    }
    answer = client.post("/cds-services/lactation-order-sign", json=request)
    assert answer.status_code == 413


@pytest.mark.rule("status-busy")
@pytest.mark.parametrize("kind", ["Condition", "AllergyIntolerance", "MedicationRequest"])
def test_a_decision_past_its_deadline_is_503_and_no_thread(
    content: Content, settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Long words of which none is the same: each is looked up in all that the content knows."""
    monkeypatch.setattr("cds_service.app.EVALUATION_SECONDS", 0.2)
    quick = settings.model_copy(update={"deadline_ms": 100})
    client = create_app(quick, content, lambda: NOW).test_client()
    words = " ".join(f"word{number}" for number in range(120))
    request = with_many(content, kind, MOST_BY_WORDS - 1, words)
    began = time.monotonic()
    answer = client.post(VIEW, json=request)
    assert answer.status_code == 503
    assert time.monotonic() - began < 0.3 + 1.5
    assert answer.get_json()["issue"][0]["code"] == "timeout"
    assert client.post(VIEW, json=hook_request(content, *inhibited())).status_code == 200


def test_a_decision_has_less_time_than_a_worker_has_to_end() -> None:
    from cds_service.web.server import GRACE_SECONDS

    assert EVALUATION_SECONDS + Settings.model_fields["deadline_ms"].default / 1000 < GRACE_SECONDS
