"""Words planted in every input there is come out nowhere but on the cards. Against real workers.

A name, an id, a token and a date of birth are put into queries, methods, headers, bodies, feedback,
the answers of FHIR servers, content, clients and errors of the database. Then the log, metrics,
traces, database, temporary files, open files and pages are searched for them.
"""

from __future__ import annotations

import gzip
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy

from benchmarks.processes import children
from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.clients import BASE, clients_file, signed
from tests.support.processes import connected, free_port, running, started
from tests.support.traces import PARENT, TRACE, Collector
from tests.support.vignettes import present
from tests.support.waiting import soon

pytestmark = pytest.mark.slow

PLANTED = ["Zuzanna-Quastenfloss", "mrn-840271936", "geheim.tok-77e1c", "1987-02-28"]
ALL = " ".join(PLANTED)
IN_AN_ADDRESS = "/".join(PLANTED)
IN_THE_DATABASE = "Rumpelmuhme"  # in the words of an error of the database alone
FEEDBACK = f"{VIEW}/feedback"

OUTCOME = {
    "resourceType": "OperationOutcome",
    "issue": [{"severity": "error", "code": ALL, "diagnostics": ALL, "details": {"text": ALL}}],
}
SEARCHSET = {
    "resourceType": "Bundle",
    "type": "searchset",
    "entry": [{"resource": OUTCOME}, {"resource": {"resourceType": ALL, "id": ALL}}],
    "link": [{"relation": "next", "url": f"http://{PLANTED[0]}.example/{IN_AN_ADDRESS}"}],
}


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A response as it goes over the wire."""
    head = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


# What a FHIR server sends. The first makes urllib3 log the address and the headers.
ANSWERS = [
    answer(b"{}", f"{ALL} without a colon", "X: y"),
    answer(b"{}", f"X-{PLANTED[0]}: {ALL}", f"Set-Cookie: {ALL}"),
    answer(ALL.encode()),
    answer(json.dumps(OUTCOME).encode(), status="500 " + ALL),
    answer(json.dumps(OUTCOME).encode()),
    answer(json.dumps(SEARCHSET).encode()),
    answer(b"", f"Location: http://127.0.0.1:1/{IN_AN_ADDRESS}", status="302 " + ALL),
    answer(ALL.encode(), "Content-Encoding: gzip"),
    answer(gzip.compress(ALL.encode())[:-9], "Content-Encoding: gzip"),
    answer(ALL.encode(), f"Content-Encoding: {ALL}"),
    answer(ALL.encode(), f"Content-Type: {ALL}"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + ALL.encode() + b"\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + ALL.encode(),
    f"HTTP/9.9 {ALL}\r\n\r\n".encode(),
    f"{ALL}\r\n\r\n".encode(),
    b"",
]


@contextmanager
def fhir_server() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each call with the next of ``ANSWERS``, as bytes; and all it heard."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        turn = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                heard.append(connection.recv(1 << 16))
                connection.sendall(ANSWERS[turn % len(ANSWERS)])
                turn += 1

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/fhir", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@dataclass
class Planted:
    """A service into which the words are put."""

    address: str
    pid: int
    folder: Path
    fhir: str
    collector: Collector
    said: list[str] = field(default_factory=list)  # answers that must not have them either

    @property
    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    def send(self, path: str, body: Any, **headers: str) -> requests.Response:
        token = signed(path.partition("?")[0], tenant="north", sub=ALL, patient=ALL)
        every = {
            "User-Agent": ALL,
            "Cookie": ALL,
            "Origin": f"https://{PLANTED[0]}",
            "baggage": ALL,
        }
        every |= {"X-Request-ID": PLANTED[1], "tracestate": f"ehr={PLANTED[0]}"}
        every |= {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Forwarded-For": ALL, "Referer": ALL}
        return requests.post(
            f"{self.address}{path}", json=body, headers=token | every | headers, timeout=10
        )

    def refused(self, path: str, body: Any, **headers: str) -> None:
        """A call that is refused: nothing of it is repeated to the caller either."""
        told = self.send(path, body, **headers)
        assert told.status_code >= 400
        self.said.append(told.text + str(told.headers))

    def as_bytes(self, sent: str) -> None:
        """What may be no HTTP at all."""
        with connected(self.address) as connection, suppress(ConnectionError):
            connection.sendall(sent.encode("latin-1"))
            self.said.append(connection.recv(1 << 16).decode("latin-1"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    folder = tmp_path_factory.mktemp("planted")
    for name in ("own", "tmp"):
        (folder / name).mkdir()
    collector, collecting = Collector(), free_port()
    with running(collector, collecting) as traces, fhir_server() as (fhir, _):
        servers = {"fhir_servers": [fhir], "tenants": ["north", "south"]}
        own = {
            "CDS_BASE_URL": BASE,
            "CDS_CLIENTS": str(clients_file(folder / "clients.yaml", **servers)),
            "CDS_CONTENT_DIR": str(folder / "own"),
            "CDS_DATABASE_URL": f"sqlite:///{folder}/service.sqlite3",
            "CDS_PATIENT_KEY": "a secret of the tests",
            "CDS_DASHBOARD_PASSWORD": "a password of the tests",
            "CDS_METRICS": "true",
            "CDS_TRACES": "true",
            "CDS_DEADLINE_MS": "1500",
            "OTEL_EXPORTER_OTLP_ENDPOINT": traces,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "TMPDIR": str(folder / "tmp"),
        }
        with started("serve", port=free_port(), log=folder / "service.log", **own) as service:
            yield Planted(*service, folder, fhir, collector)


def chart(content: Content) -> dict[str, Any]:
    """A call with the words in all that a chart has, and no fault."""
    good = present(content, "inhibited-letdown-smoker") | {"extension": {ALL: ALL}}
    her = {"reference": f"Patient/{good['context']['patientId']}"}
    named = {"display": ALL, "reference": f"Patient/{PLANTED[1]}", "identifier": {"value": ALL}}
    for entry in good["prefetch"]["milkExpression"]["entry"]:
        entry["resource"] |= {"note": [{"text": ALL}], "performer": [named], ALL: ALL}
        entry["resource"]["code"]["text"] = ALL
    drug = {"medicationCodeableConcept": {"text": f"Drug {ALL}"}, "status": "active", "id": ALL}
    drug |= {"resourceType": "MedicationRequest", "subject": her}
    good["prefetch"]["medicationRequests"] = {
        "resourceType": "Bundle",
        "entry": [{"resource": drug}, {"fullUrl": ALL, "resource": OUTCOME}],
    }
    good["prefetch"]["conditions"] = OUTCOME
    good["prefetch"][ALL] = {"resourceType": ALL}
    return good


def put_into_calls(planted: Planted, content: Content) -> None:
    good = chart(content)
    token = {
        "access_token": PLANTED[2],
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": ALL,
        "subject": ALL,
    }
    path = f"{VIEW}?name={PLANTED[0]}&birthdate={PLANTED[3]}"
    told = planted.send(path, good)
    assert told.status_code == 200
    assert f"Drug {PLANTED[0]}" in told.text  # it was there to come out
    read = good | {"fhirServer": planted.fhir, "fhirAuthorization": token, "prefetch": {}}
    for _ in ANSWERS:
        planted.send(VIEW, read)
    context = good["context"]
    for broken in (
        good | {"context": context | {"patientId": f"{PLANTED[1]}/x"}},
        good | {"context": context | {"userId": ALL}},
        good | {"hook": ALL},
        good | {"hookInstance": ALL},
        good | {"fhirServer": f"https://{PLANTED[0]}.example.org"},
        good | {"fhirServer": ALL},
        read | {"fhirAuthorization": token | {"token_type": ALL}},
        read | {"fhirAuthorization": token | {"patient": PLANTED[1]}},
        read | {"fhirAuthorization": {"access_token": {PLANTED[2]: PLANTED[2]}}},
        good | {"prefetch": {}},
        good | {"prefetch": ALL},
        {ALL: ALL},
        [ALL],
        ALL,
    ):
        planted.refused(VIEW, broken)
    planted.refused(VIEW, good, Authorization=f"Bearer {PLANTED[2]}")
    planted.refused(VIEW, good, Authorization=ALL)
    planted.refused(VIEW, good, **{"Content-Type": f"text/{PLANTED[0]}"})
    planted.refused(VIEW, good, Accept=f"text/{PLANTED[0]}")
    planted.refused(f"/cds-services/{PLANTED[0]}", good)
    for method in (PLANTED[0].upper(), PLANTED[3], "PUT"):
        url = f"{planted.address}/cds-services/{IN_AN_ADDRESS}?{PLANTED[1]}={PLANTED[2]}"
        told = requests.request(method, url, data=ALL, timeout=5)
        planted.said.append(told.text)
    bearer = f"Authorization: Bearer {PLANTED[2]}"
    for sent in (
        f"GET /{IN_AN_ADDRESS} of {ALL} HTTP/1.1\r\n\r\n",
        f"{ALL}\r\n\r\n",
        f"GET /cds-services HTTP/1.1\r\n{ALL}\r\n\r\n",
        f"GET /cds-services HTTP/1.1\r\n{bearer}\x01\r\n\r\n",
        f"GET /{IN_AN_ADDRESS} HTTP/9.9\r\n\r\n",
        f"POST {VIEW} HTTP/1.1\r\nTransfer-Encoding: {PLANTED[0]}\r\n\r\n",
        f"POST {VIEW} HTTP/1.1\r\nContent-Length: {PLANTED[0]}\r\n\r\n",
        f"POST {VIEW} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{bearer}\r\n\r\n{ALL}\r\n",
    ):
        planted.as_bytes(sent)


def put_into_feedback(planted: Planted, content: Content) -> None:
    shown = planted.send(VIEW, chart(content)).json()["cards"][0]["uuid"]
    for card in (shown, ALL, PLANTED[1]):
        told = {"card": card, "outcomeTimestamp": "2026-01-15T11:59:00Z", "patient": ALL}
        reason = {"reason": {"code": ALL, "system": ALL, "display": ALL}, "userComment": ALL}
        taken = {"outcome": "accepted", "acceptedSuggestions": [{"id": ALL}, {"id": PLANTED[1]}]}
        for item in (told | {"outcome": "overridden", "overrideReason": reason}, told | taken):
            assert planted.send(FEEDBACK, {"feedback": [item]}).status_code == 200
        planted.refused(FEEDBACK, {"feedback": [told | {"outcome": ALL}]})
        planted.refused(FEEDBACK, {"feedback": [told | {"outcomeTimestamp": ALL}]})


def put_into_content(planted: Planted, content: Content) -> None:
    """Content and clients that cannot be loaded, one fault after the other."""
    own, clients = planted.folder / "own" / "own.yaml", planted.folder / "clients.yaml"
    good = clients.read_text()
    card = {"id": "lactation-consult", "when": {"finding": ALL}, ALL: ALL, "summary": f"{{{ALL}}}"}
    bad: list[tuple[Path, str]] = [
        (own, json.dumps({"cards": [card], ALL: [ALL]})),
        (own, f"{ALL}: [\n"),
        (clients, f"clients: [{{issuer: {PLANTED[0]}, keys: {PLANTED[2]}}}]"),
        (clients, f"clients:\n- &{PLANTED[0]} {PLANTED[2]}\n  {ALL}: ["),
        (clients, json.dumps({"clients": [{"issuer": "x", "keys": {"keys": [{"k": ALL}]}}]})),
    ]
    for number, (file, text) in enumerate(bad, 1):
        file.write_text(text)
        os.kill(planted.pid, signal.SIGHUP)
        soon(lambda told=number: planted.log.count("the reload failed") >= told)
        own.unlink(missing_ok=True)
        clients.write_text(good)
    os.kill(planted.pid, signal.SIGHUP)
    soon(lambda: "reloaded: new workers" in planted.log)
    # What comes next is for the new ones: two go each time.
    soon(lambda: planted.log.count("Worker exiting") >= 2 * planted.log.count("Hang up: Master"))


def put_into_errors_of_the_database(planted: Planted, content: Content) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{planted.folder}/service.sqlite3")
    fails = "CREATE TRIGGER {0}_fails BEFORE INSERT ON {0} BEGIN SELECT RAISE(ABORT, '{1}'); END"
    tables = ("feedback", "shown", "seen_tokens")
    for table in tables:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(fails.format(table, IN_THE_DATABASE)))
    planted.refused(VIEW, chart(content))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TRIGGER seen_tokens_fails"))
    told = {"card": ALL, "outcomeTimestamp": "2026-01-15T11:59:00Z", "outcome": "overridden"}
    planted.refused(FEEDBACK, {"feedback": [told]})
    assert planted.send(VIEW, chart(content)).status_code == 200
    soon(lambda: planted.log.count("the database failed with") >= 3)
    with engine.begin() as connection:
        for table in tables[:2]:
            connection.execute(sqlalchemy.text(f"DROP TRIGGER {table}_fails"))
    engine.dispose()


@pytest.mark.rule("authorization-transient", "status-outcome", "feedback-comment")
def test_what_is_planted_in_every_input_comes_out_nowhere(
    planted: Planted, content: Content
) -> None:
    put_into_calls(planted, content)
    put_into_feedback(planted, content)
    put_into_content(planted, content)
    put_into_errors_of_the_database(planted, content)
    planted.send(VIEW, chart(content))
    soon(lambda: len(planted.collector.spans()) > len(ANSWERS))
    get = {"auth": ("anyone", "a password of the tests"), "timeout": 5}
    pages = [
        requests.get(f"{planted.address}{page}", **get).text  # type: ignore[arg-type]
        for page in ("/dashboard", "/dashboard/report.csv", "/dashboard/measure-report.json")
    ]
    assert "supply-risk-factors" in pages[1]
    for page in ("/metrics", "/openapi.json", "/health/live", "/health/ready", "/cds-services"):
        answered = requests.get(
            f"{planted.address}{page}", headers=signed(page, tenant="north"), timeout=5
        )
        assert answered.status_code == 200
        pages.append(answered.text)
    found = {
        "answers": planted.said,
        "log": [planted.log],
        "pages": pages,
        "traces": [repr(planted.collector.bodies)],
        "temporary files": [
            path.read_bytes().decode("latin-1")
            for path in (planted.folder / "tmp").rglob("*")
            if path.is_file()
        ],
        "open files": list(open_files(planted.pid)),
        "database": [
            path.read_bytes().decode("latin-1") for path in planted.folder.glob("service.sqlite3*")
        ],
    }
    assert all(found[place] for place in ("answers", "log", "traces", "database", "open files"))
    for place, texts in found.items():
        for text in texts:
            for word in [*PLANTED, *([IN_THE_DATABASE] if place != "database" else [])]:
                assert word.lower() not in text.lower(), (place, word, around(word, text))
    assert "urllib3 logged a line; its text is left out" in planted.log
    assert all(set(json.loads(line)) <= KNOWN_FIELDS for line in planted.log.splitlines())


KNOWN_FIELDS = {
    *("timestamp", "level", "logger", "event", "request_id", "method", "service", "client"),
    *("status", "ms", "cards", "faults", "sent", "fetched", "missing", "unknown", "feedback"),
    *("refused", "member"),
}


def open_files(pid: int) -> Iterator[str]:
    """What a service and its workers hold open, deleted files too, but for log and database."""
    for process in (pid, *children(pid)):
        for handle in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                name = os.readlink(handle)
                searched = ".log" in name or ".sqlite3" in name
                if name.startswith("/") and not name.startswith("/dev/") and not searched:
                    yield handle.read_bytes().decode("latin-1")


def around(word: str, text: str) -> str:
    start = text.lower().index(word.lower())
    return text[max(0, start - 200) : start + 200]


@pytest.mark.parametrize("server", ["gunicorn", "flask"])
def test_under_another_server_libraries_are_as_quiet(
    server: str, content: Content, tmp_path: Path
) -> None:
    """Without ``serve`` nothing sets up the log: what is not handled goes to the standard error."""
    port, log = free_port(), tmp_path / "service.log"
    command = {
        "gunicorn": f"gunicorn -b 127.0.0.1:{port} cds_service.app:create_app()",
        "flask": f"flask --app cds_service.app:create_app run --port {port} --no-reload",
    }[server]
    own = {"CDS_AUTH": "open", "CDS_DEADLINE_MS": "1500"}
    with log.open("w") as said, fhir_server() as (fhir, heard):
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(command)],
            env={**os.environ, **own},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            soon(lambda: answers(f"{address}/health/live"), within=20)
            request = chart(content) | {"fhirServer": fhir, "prefetch": {}}
            for _ in ANSWERS:
                requests.post(f"{address}{VIEW}", json=request, timeout=5)
            if server == "gunicorn":  # that of Flask logs what it is asked for, and says so
                with connected(address) as connection:
                    connection.sendall(f"GET /{ALL} HTTP/1.1\r\n{ALL}\r\n\r\n".encode())
                    connection.recv(4096)
        finally:
            process.terminate()
            process.wait(10)
    assert heard
    told = log.read_text()
    assert "urllib3 logged a line; its text is left out" in told
    for word in PLANTED:
        assert word not in told, around(word, told)


def answers(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(url, timeout=5).ok
    return False


def test_of_a_thread_that_fails_only_the_kind_and_the_place_are_told() -> None:
    program = (
        "import threading, warnings\n"
        "from cds_service.web.telemetry import write_logs_as_json\n"
        "write_logs_as_json()\n"
        "def fail(): raise ValueError('Jane Doe')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "warnings.warn('Jane Doe')\n"
        "class Bad:\n"
        "    def __del__(self): raise KeyError('Jane Doe')\n"
        "Bad()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["error", "warning", "error"]
    assert "ValueError at <string>:4" in lines[0]["event"]
    assert "KeyError" in lines[2]["event"]
    assert "Jane" not in ended.stderr
