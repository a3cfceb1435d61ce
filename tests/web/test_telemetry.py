"""What an operator sees of real workers: logs, metrics, health; and no patient in any of it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
import sqlalchemy
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.settings import Settings
from tests.support.calls import VIEW
from tests.support.clients import BASE, clients_file
from tests.support.mothers import NOW, hook_request
from tests.support.orders import draft, order_request
from tests.support.processes import connected, free_port, started
from tests.support.vignettes import present
from tests.support.waiting import soon

pytestmark = pytest.mark.slow

# Planted in requests; none of it may come out anywhere but in the cards.
CANARY = "canary-7f3a"
EHR_ID = "5f1c9c0e-7a53-4a43-9a53-0d6f6b6d2a11"


class Running(NamedTuple):
    address: str
    log: Path
    database: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    aside = tmp_path_factory.mktemp("service")
    log, database = aside / "service.log", aside / "service.sqlite3"
    own = {"CDS_AUTH": "open", "CDS_METRICS": "true", "CDS_MAX_BODY_BYTES": "2000000"}
    own["CDS_DATABASE_URL"] = f"sqlite:///{database}"
    with started("serve", port=free_port(), log=log, **own) as service:
        yield Running(service.address, log, database)


def post(service: Running, request: Any, **headers: str) -> requests.Response:
    return requests.post(f"{service.address}{VIEW}", json=request, headers=headers, timeout=5)


def test_each_call_is_a_line_of_json_with_its_request_id(
    service: Running, content: Content
) -> None:
    answer = post(service, present(content), **{"X-Request-ID": EHR_ID})
    assert answer.headers["X-Request-ID"] == EHR_ID
    (line,) = [line for line in service.lines() if line.get("request_id") == EHR_ID]
    assert line["event"] == "answered"
    assert line["service"] == "lactation-patient-view"
    assert line["status"] == 200
    assert 0 < line["ms"] < 5000
    shown = [card["source"]["topic"]["code"] for card in answer.json()["cards"]]
    assert line["cards"] == shown == ["inhibited-letdown"]
    assert (line["sent"], line["fetched"]) == (len(content.prefetch_templates), 0)


def test_values_that_could_not_be_read_are_counted_by_reason(
    service: Running, content: Content
) -> None:
    """In the line and as a metric: an operator sees that a whole feed lacks offsets."""
    request = present(content)
    milk = [
        entry["resource"]
        for entry in request["prefetch"]["milkExpression"]["entry"]
        if entry["resource"]["code"]["coding"][0]["code"] == "expressed-milk-volume"
    ]
    for record in milk[:3]:
        record["effectiveDateTime"] = record["effectiveDateTime"][:19]
    milk[3]["valueQuantity"] = {"value": 40, "unit": CANARY}
    milk[4]["valueString"] = f"{CANARY} mL"
    del milk[4]["valueQuantity"]
    request_id = str(uuid.uuid4())
    post(service, request, **{"X-Request-ID": request_id})
    (line,) = [line for line in service.lines() if line.get("request_id") == request_id]
    assert line["left_out"] == {
        "its-time-has-no-offset": 3,
        "its-unit-is-of-another-kind": 1,
        "its-value-is-plain-text-which-is-not-read": 1,
    }
    text = requests.get(f"{service.address}/metrics", timeout=5).text
    assert 'cds_records_left_out_total{reason="its-time-has-no-offset"} 3.0' in text
    assert CANARY not in text + service.log.read_text()


def test_keys_that_are_not_listed_and_orders_of_others_are_counted(
    service: Running, content: Content
) -> None:
    """By number: a name of a key is whatever was sent."""
    request = order_request(content, draft("ibuprofen", subject={"reference": f"Patient/{CANARY}"}))
    request["prefetch"] |= {CANARY: None, "pumping": {"resourceType": "Bundle"}}
    request_id = str(uuid.uuid4())
    answer = requests.post(
        f"{service.address}/cds-services/lactation-order-sign",
        json=request,
        headers={"X-Request-ID": request_id},
        timeout=5,
    )
    assert answer.status_code == 200
    (line,) = [line for line in service.lines() if line.get("request_id") == request_id]
    assert line["unknown"] == 2
    assert line["left_out"] == {"another-patient": 1}
    metrics = requests.get(f"{service.address}/metrics", timeout=5).text
    assert 'cds_prefetch_keys_total{way="unknown"} 2.0' in metrics
    assert 'cds_records_left_out_total{reason="another-patient"} 1.0' in metrics
    assert CANARY not in service.log.read_text() + metrics


def test_a_line_tells_feedback_that_was_refused_and_why(service: Running) -> None:
    """And nothing of what was sent."""
    told = {"card": str(uuid.uuid4()), "outcome": CANARY}
    told["outcomeTimestamp"] = datetime.now(UTC).isoformat()
    lines = []
    for outcome in (CANARY, "overridden"):
        body, request_id = {"feedback": [told | {"outcome": outcome}]}, str(uuid.uuid4())
        requests.post(
            f"{service.address}{VIEW}/feedback",
            json=body,
            headers={"X-Request-ID": request_id},
            timeout=5,
        )
        lines += [line for line in service.lines() if line.get("request_id") == request_id]
    refused, taken = lines
    assert (refused["status"], refused["feedback"]) == (400, 0)
    assert (refused["refused"], refused["member"]) == ("value", "feedback[0].outcome")
    assert (taken["status"], taken["feedback"]) == (200, 1)
    assert "refused" not in taken
    assert CANARY not in service.log.read_text()


def test_that_no_override_can_count_is_said_at_the_start(service: Running, tmp_path: Path) -> None:
    def said(log: Path) -> list[str]:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [line["event"] for line in lines if "CDS_PATIENT_KEY" in line["event"]]

    (line,) = said(service.log)
    assert "overridden is shown again" in line
    for number, own in enumerate(
        ({"CDS_PATIENT_KEY": "a secret of the tests"}, {"CDS_SUPPRESSION": "false"})
    ):
        log = tmp_path / f"{number}.log"
        with started("serve", port=free_port(), log=log, CDS_AUTH="open", **own):
            pass
        assert log.read_text()
        assert said(log) == []


@pytest.mark.parametrize(
    "sent",
    ["", "a b", "b" * 65, "{evil}", "\xe4", "Jane-Doe", "1990-01-31", "e3b0c44298fc1c14.eyJh"],
)
def test_a_request_id_that_is_odd_is_made_anew(
    service: Running, content: Content, sent: str
) -> None:
    answer = post(
        service, hook_request(content), **{"X-Request-ID": sent.encode("utf-8").decode("latin-1")}
    )
    made = answer.headers["X-Request-ID"]
    assert made != sent
    assert str(uuid.UUID(made)) == made


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (f"GET /cds-services?name={CANARY} of Jane HTTP/1.1\r\n\r\n", 400),
        (f"{CANARY}\r\n\r\n", 400),
        (f"GET /cds-services HTTP/1.1\r\nAuthorization : Bearer {CANARY}\r\n\r\n", 400),
        (f"GET /cds-services HTTP/1.1\r\nX: {CANARY}\x01\r\n\r\n", 400),
        (f"GET /{CANARY} HTTP/9.9\r\n\r\n", 400),
        (f"GET /{CANARY * 1000} HTTP/1.1\r\n\r\n", 414),
        (f"GET / HTTP/1.1\r\nAuthorization: Bearer {CANARY * 100_000}\r\n\r\n", 431),
        (f"POST / HTTP/1.1\r\nTransfer-Encoding: {CANARY}\r\n\r\n", 501),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_what_is_no_http_is_refused_and_not_repeated(
    service: Running, sent: str, status: int
) -> None:
    with connected(service.address) as connection:
        with suppress(ConnectionError):  # it has heard enough
            connection.sendall(sent.encode())
        answer = connection.recv(4096).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert '"resourceType":"OperationOutcome"' in answer
    assert CANARY not in answer
    assert CANARY not in service.log.read_text()


LINES = [
    *(b"GET /cds-services HTTP/1.1", b"GET /cds-services HTTP/1.0", b"GET /cds-services HTTP/2.0"),
    *(b"POST /cds-services/lactation-patient-view HTTP/1.1", b"post / HTTP/1.1", b"GET * HTTP/1.1"),
    *(b"CONNECT x:1 HTTP/1.1", b"GET /%zz HTTP/1.1", b"", b"\xff\0", CANARY.encode()),
]
FIELDS = [
    *(b"Host: a", b"Content-Length: 5", b"Content-Length: 05, 6", b"Content-Length: -1"),
    *(b"Content-Length: 99999999999999999999", b"Content-Length: 3000000", b"Connection: close"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, gzip", b"Expect: 100-continue"),
    *(b"Content-Type: application/json", b"no colon", b" folded", b"X\0: y", b"X: " + b"y" * 9000),
    f"Authorization: Bearer {CANARY}".encode(),
]
BODIES = [
    *(b"", b"{}", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", b"zz\r\n", b"-1\r\n"),
    *(b"ffffffffffffffff\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nX\r\n\r\n", CANARY.encode()),
]
CALLS = st.builds(
    lambda line, fields, end, body: end.join([line, *fields]) + end + end + body,
    st.sampled_from(LINES),
    st.lists(st.sampled_from(FIELDS), max_size=5),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]),
    st.sampled_from(BODIES),
)


def test_whatever_is_sent_one_behind_the_other_is_answered_cleanly_or_not_at_all(
    service: Running,
) -> None:
    before = len(service.lines())
    statuses: set[bytes] = set()

    @settings(max_examples=1000)
    @given(st.lists(CALLS, min_size=1, max_size=3))
    def send(calls: list[bytes]) -> None:
        answer = b""
        with connected(service.address) as connection, suppress(ConnectionError):
            connection.sendall(b"".join(calls))
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                answer += piece
        assert CANARY.encode() not in answer
        statuses.update(re.findall(rb"^HTTP/1\.[01] (\d{3}) ", answer, re.MULTILINE))

    send()
    assert {b"200", b"400"} <= statuses
    assert {status for status in statuses if status >= b"500"} <= {b"501"}
    assert CANARY not in service.log.read_text()
    assert {line["level"] for line in service.lines()[before:]} <= {"info", "warning"}


def test_of_an_exception_in_the_log_only_the_kind_is_told() -> None:
    program = (
        "import logging; from cds_service.web.telemetry import write_logs_as_json as w; w()\n"
        "try: raise ValueError('Jane Doe')\n"
        "except ValueError:\n"
        "    logging.getLogger('gunicorn.error').exception('Exception in worker process')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    (line,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (line["event"], line["level"]) == ("Exception in worker process: ValueError", "error")
    assert "Jane" not in ended.stderr


def test_metrics_are_of_all_workers(service: Running, content: Content) -> None:
    def count(name: str) -> float:
        text = requests.get(f"{service.address}/metrics", timeout=5).text
        return sum(float(value) for value in re.findall(rf"^{re.escape(name)} (\S+)$", text, re.M))

    shown = 'cds_cards_total{card="inhibited-letdown"}'
    calls = 'cds_call_seconds_count{service="lactation-patient-view",status="200"}'
    before = count(shown), count(calls)
    for _ in range(20):
        post(service, present(content))
    assert (count(shown), count(calls)) == (before[0] + 20, before[1] + 20)
    for stage in ("caller", "request", "prefetch", "evaluate"):
        name = f'cds_stage_seconds_count{{service="lactation-patient-view",stage="{stage}"}}'
        assert count(name) >= 20


def test_metrics_are_only_there_if_they_are_wanted(client: FlaskClient) -> None:
    assert client.get("/metrics").status_code == 404


def test_it_is_live_and_ready(service: Running, content: Content) -> None:
    for kind in ("live", "ready"):
        answer = requests.get(f"{service.address}/health/{kind}", timeout=5)
        assert (answer.status_code, answer.json()["status"]) == (200, "pass")
        assert answer.json()["content"] == content.version


def test_it_is_not_ready_without_its_database(
    content: Content, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_service.storage.database.READY_FOR", 0.1)
    settings = Settings(auth="required", base_url=BASE, clients=clients_file(tmp_path / "c.yaml"))
    client = create_app(settings, content, lambda: NOW).test_client()
    assert client.get("/health/ready").get_json()["checks"]["database"] == "pass"
    with sqlalchemy.create_engine(database).begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'older'"))
    soon(lambda: client.get("/health/ready").status_code == 503)  # it is asked again
    assert client.get("/health/ready").get_json()["checks"]["database"] == "fail"
    assert client.get("/health/live").status_code == 200
