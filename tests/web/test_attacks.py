"""Attacks on availability: with each of them going on, others are answered. Against real workers.

The short form of what ``make soak`` does, and what a request costs until it is here.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from benchmarks.attacks import Attack, attacks, probed, under
from benchmarks.processes import children, resident
from cds_service.content.compiled import Content
from cds_service.web.connections import (
    HEAD_SECONDS,
    MOST_RECEIVED,
    ClientSocket,
    WaitingConnections,
)
from tests.support.callers import call_of, times_of
from tests.support.calls import VIEW
from tests.support.clients import BASE, clients_file, signed
from tests.support.processes import LISTENER, Started, connected, free_port, sockets_of, started
from tests.support.vignettes import present
from tests.support.waiting import at_once, soon

pytestmark = pytest.mark.slow

ATTACKERS = 60
MOST = 2.0  # seconds until others are answered; some milliseconds if nobody else uses the machine
CONTINUE = b"HTTP/1.1 100 Continue\r\n"
MIB = 1024 * 1024
HEAD = f"POST {VIEW} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A service with one worker and few threads, whose callers are known."""
    clients = clients_file(tmp_path_factory.mktemp("guarded") / "clients.yaml")
    own = {"CDS_AUTH": "required", "CDS_BASE_URL": BASE, "CDS_CLIENTS": str(clients)}
    arguments = ("serve", "--workers", "1", "--threads", "2")
    with started(*arguments, port=free_port(), **own) as service:
        yield service


@pytest.fixture(scope="module")
def served() -> Iterator[Started]:
    arguments = ("serve", "--workers", "1", "--threads", "4")
    with started(*arguments, port=free_port(), CDS_AUTH="open") as service:
        yield service


def port_of(service: Started) -> int:
    port = urlsplit(service.address).port
    assert port is not None
    return port


def test_those_who_are_refused_take_no_room_from_callers(content: Content, tmp_path: Path) -> None:
    """However many call without a token, who has one is not told to come again."""
    request, clients = present(content), str(clients_file(tmp_path / "clients.yaml"))
    own = {"CDS_AUTH": "required", "CDS_BASE_URL": BASE, "CDS_CLIENTS": clients, "CDS_AT_ONCE": "1"}
    flood = Attack("no token", (HEAD + b"Content-Length: 2\r\n\r\n{}") * 20)
    with started("serve", "--workers", "1", port=free_port(), **own) as service:
        url, statuses = f"{service.address}{VIEW}", set()
        with under(flood, port_of(service), ATTACKERS):
            for _ in range(40):
                answer = requests.post(url, json=request, headers=signed(), timeout=30)
                statuses.add(answer.status_code)
    assert statuses == {200}


@pytest.mark.parametrize("attack", attacks(VIEW), ids=lambda attack: attack.name)
def test_others_are_answered_while_callers_are_slow(
    guarded: Started, content: Content, attack: Attack
) -> None:
    request, port = present(content), port_of(guarded)
    token = lambda: signed()["Authorization"].removeprefix("Bearer ")  # noqa: E731
    with under(attack, port, ATTACKERS, token):
        time.sleep(1)
        with probed(port) as probes:
            for _ in range(10):
                answer = requests.post(
                    f"{guarded.address}{VIEW}", json=request, headers=signed(), timeout=30
                )
                assert answer.status_code == 200
                assert answer.elapsed.total_seconds() < MOST
                time.sleep(0.2)
    assert probes.lost == []
    assert max(probes.took) < MOST * 1000


def answer_to(connection: socket.socket) -> tuple[bytes, dict[str, str], bytes]:
    """The status line, fields and body of an answer, up to the end of the connection."""
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields = dict(line.decode().lower().split(": ", 1) for line in lines)
    return first, fields, body


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;a=b\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n"


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("way", ["length", "chunks", "trailers"])
def test_a_request_may_come_in_any_pieces(
    served: Started, content: Content, size: int, way: str
) -> None:
    """Two of them, one behind the other, are answered as if each had come at once."""
    body = json.dumps(present(content) if size > 7 else {"hook": "patient-view"}).encode()
    framed = {
        "length": b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
        "chunks": b"transfer-encoding: Chunked\r\n\r\n" + in_chunks(body, 1000) + b"\r\n",
        "trailers": b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(body, 50) + b"X: y\r\n\r\n",
    }[way]
    sent = b"\r\n" + HEAD + framed + HEAD + b"Connection: close\r\n" + framed
    status = 200 if size > 7 else 400
    with connected(served.address, 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(sent), size):
            connection.sendall(sent[at : at + size])
            if size < 100:
                time.sleep(0.002)
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
    answers = received.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [str(status).encode()] * 2
    assert b"close" not in answers[0].lower().partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("expects", [b"Expect: 100-continue\r\n", b"EXPECT: 100-Continue\r\n"])
def test_who_waits_to_be_told_to_continue_is_told_so_once(
    served: Started, content: Content, expects: bytes
) -> None:
    body = json.dumps(present(content)).encode()
    with connected(served.address, 5) as connection, connection.makefile("rb") as received:
        for _ in range(2):
            connection.sendall(HEAD + expects + b"Content-Length: %d\r\n\r\n" % len(body))
            assert [received.readline(), received.readline()] == [CONTINUE, b"\r\n"]
            connection.sendall(body)
            assert received.readline().startswith(b"HTTP/1.1 200 ")
            fields = dict(line.lower().split(b": ", 1) for line in iter(received.readline, b"\r\n"))
            assert b"cards" in received.read(int(fields[b"content-length"]))


def test_who_sends_all_at_once_is_not_told_to_continue(served: Started) -> None:
    with connected(served.address, 5) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


def test_a_connection_on_which_nothing_is_sent_is_closed(served: Started) -> None:
    with connected(served.address, HEAD_SECONDS + 5) as connection:
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - began > HEAD_SECONDS - 1


def test_a_head_that_does_not_end_is_refused(served: Started) -> None:
    with connected(served.address, 5) as connection, suppress(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000)
    with connected(served.address, 5) as connection:
        with suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 12_000)
        first, _, body = answer_to(connection)
    assert first.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["issue"][0]["code"] == "too-long"


def test_what_is_sent_after_a_body_that_is_too_long_is_no_request(served: Started) -> None:
    hidden = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(served.address, 5) as connection:
        connection.sendall(HEAD + b"Content-Length: 99999999\r\n\r\n" + hidden * 3)
        first, fields, body = answer_to(connection)
    assert first.startswith(b"HTTP/1.1 413 ")
    assert fields["connection"] == "close"
    assert b"HTTP/1.1" not in body


def test_bodies_of_all_connections_have_a_bound(content: Content) -> None:
    """The largest is refused then, and told to come again; a usual one is answered."""
    many, large = 3 * MOST_RECEIVED // (15 * MIB), 15 * MIB
    arguments = ("serve", "--workers", "1", "--threads", "4")
    own = {"CDS_AUTH": "open", "CDS_BODY_MS": "60000"}
    with started(*arguments, port=free_port(), **own) as service, ExitStack() as held:
        workers = children(service.pid)
        connections = [held.enter_context(connected(service.address, 10)) for _ in range(many)]

        def send(number: int) -> None:
            with suppress(ConnectionError):  # it is refused meanwhile
                connections[number].sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (16 * MIB))
                connections[number].sendall(b" " * large)

        at_once(many, send)
        answer = call_of(service, content)()
        assert answer.status_code == 200
        assert resident(workers[0]) < 100 + 2 * MOST_RECEIVED / MIB
        refused, answers = 0, []
        for connection in connections:
            connection.settimeout(0.2)
            try:
                answers.append(connection.recv(1 << 16))
            except TimeoutError:
                continue  # it is waited for
            except ConnectionError:
                pass  # it went on to send, and lost the answer
            refused += 1
        assert many - MOST_RECEIVED // large <= refused < many
        for received in answers:
            assert received.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in received
            assert json.loads(received.partition(b"\r\n\r\n")[2])["issue"][0]["code"] == "transient"
        assert children(service.pid) == workers


def test_bodies_that_come_too_late_take_no_room() -> None:
    """Many of them are late at one time; there is room for one call only."""
    own = {"CDS_AUTH": "open", "CDS_BODY_MS": "700", "CDS_AT_ONCE": "1"}
    arguments = ("serve", "--workers", "1", "--threads", "24")
    with started(*arguments, port=free_port(), **own) as service, ExitStack() as held:
        late = [held.enter_context(connected(service.address, 10)) for _ in range(60)]
        for connection in late:
            connection.sendall(HEAD + b"Content-Length: 99\r\n\r\n{")
        assert {connection.recv(1 << 16)[:13] for connection in late} == {b"HTTP/1.1 408 "}


@dataclass(eq=False)
class Connection:
    """As gunicorn has it."""

    sock: ClientSocket


def test_one_that_hangs_up_as_it_is_refused_is_closed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end and what makes it too much may be heard in one turn: else the worker would end."""
    monkeypatch.setattr("cds_service.web.connections.MOST_RECEIVED", 2000)
    poller, closed, refused = selectors.DefaultSelector(), [], []

    def close(connection: Connection) -> None:
        closed.append(connection)
        connection.sock.close()

    def refuse(connection: Connection, status: int) -> None:
        refused.append((connection, status))

    waiting = WaitingConnections(poller, close, refuse, most=1000, seconds=5)
    with ExitStack() as held:
        callers, connections = [], []
        for sent in (300, 900, 300):
            caller, accepted = socket.socketpair()
            callers.append(held.enter_context(caller))
            connections.append(Connection(held.enter_context(ClientSocket(accepted))))
            caller.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + b" " * sent)
            waiting.receive_request(connections[-1], pytest.fail)
        callers[2].sendall(b" " * 500)
        callers[1].close()
        for key, _ in poller.select(1):
            key.data(key.fileobj)
        assert refused == [(connections[1], 503)]
        assert closed == [connections[1]]


def test_more_connections_than_a_worker_has_keep_nobody_out(content: Content) -> None:
    """One that has sent no request makes room: the one that has had the most time to."""
    many = 1300
    arguments = ("serve", "--workers", "1", "--threads", "2")
    with (
        started(*arguments, port=free_port(), CDS_AUTH="open") as service,
        ExitStack() as held,
    ):
        for number in range(many):
            connection = held.enter_context(connected(service.address))
            connection.sendall(HEAD if number % 2 else b"")
        assert max(times_of(call_of(service, content), 1)) < MOST
        [worker] = children(service.pid)
        soon(lambda: sockets_of(worker) <= LISTENER, within=HEAD_SECONDS + 8)
