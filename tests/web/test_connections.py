"""Callers who do not hang up or do not read: the others are answered. Against real workers."""

from __future__ import annotations

import itertools
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import pytest
import requests

from benchmarks.processes import children
from cds_service.content.compiled import Content
from cds_service.web.connections import HANG_UP_SECONDS, MOST_HANGING_UP, SEND_SECONDS
from tests.support.callers import call_of, times_of
from tests.support.processes import LISTENER, Started, connected, free_port, sockets_of, started
from tests.support.waiting import soon

pytestmark = pytest.mark.slow

LIST = b"GET /cds-services HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /cds-services HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
EXPECTANT = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n"
MOST = 0.5  # seconds, for a call of others; alone it takes some milliseconds


@contextmanager
def serving(workers: int = 2, threads: int = 24, files: int | None = None) -> Iterator[Started]:
    arguments = ("serve", "--workers", str(workers), "--threads", str(threads))
    with started(*arguments, port=free_port(), files=files, CDS_AUTH="open") as service:
        soon(lambda: len(children(service.pid)) == workers)
        yield service


@contextmanager
def meanwhile(do: Callable[[threading.Event], None], times: int = 1) -> Iterator[None]:
    """Do something in threads of its own until the end."""
    over = threading.Event()
    threads = [threading.Thread(target=do, args=(over,)) for _ in range(times)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def live_of(service: Started) -> Callable[[], requests.Response]:
    return lambda: requests.get(f"{service.address}/health/live", timeout=30)


def whole_answers(received: bytes) -> int:
    """How many whole answers there are in what was received."""
    count = 0
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        assert len(rest) >= length
        count, received = count + 1, rest[length:]
    return count


def test_one_who_does_not_hang_up_keeps_nobody_waiting(content: Content) -> None:
    with serving() as service, ExitStack() as held:

        def stay(over: threading.Event) -> None:
            while not over.wait(0.5):
                connection = held.enter_context(connected(service.address))
                connection.sendall(LAST)

        with meanwhile(stay):
            took = times_of(call_of(service, content), 6)
        assert statistics.median(took) < MOST / 5
        assert max(took) < MOST


def test_one_who_does_not_hang_up_is_closed_after_all_of_the_answer() -> None:
    with serving(workers=1) as service, connected(service.address, 10) as connection:
        connection.sendall(LAST + b"x" * 1000)  # what is unread must not cost the answer
        time.sleep(0.5)
        received, began = b"", time.monotonic()
        while piece := connection.recv(1 << 16):
            received += piece
        assert whole_answers(received) == 1
        soon(lambda: sockets_of(children(service.pid)[0]) <= LISTENER, HANG_UP_SECONDS + 2)
        assert time.monotonic() - began < HANG_UP_SECONDS + 2


def test_many_who_do_not_hang_up_leave_room_for_others(content: Content) -> None:
    many = MOST_HANGING_UP + 60
    with serving(workers=1) as service, ExitStack() as held:
        for _ in range(many):
            held.enter_context(connected(service.address)).sendall(LAST)
        took = times_of(call_of(service, content), 1)
        assert max(took) < 2 * MOST
        (worker,) = children(service.pid)
        assert sockets_of(worker) <= MOST_HANGING_UP + 4
        soon(lambda: sockets_of(worker) <= LISTENER, HANG_UP_SECONDS + 3)


@pytest.mark.parametrize(("workers", "threads"), [(2, 24), (1, 2)])
def test_those_who_never_read_hold_no_thread(content: Content, workers: int, threads: int) -> None:
    """60 connections send calls one behind the other, and never read an answer."""
    with serving(workers, threads) as service, ExitStack() as held:
        connections = [held.enter_context(connected(service.address)) for _ in range(60)]
        turns = itertools.cycle(connections)

        def pour(over: threading.Event) -> None:
            while not over.is_set():
                connection = next(turns)
                connection.settimeout(0.01)
                with suppress(OSError):  # it is full, or was cut
                    connection.sendall(LIST * 500)

        with meanwhile(pour):
            took = times_of(live_of(service), SEND_SECONDS + 3)
        assert statistics.median(took) < MOST
        assert max(took) < 3 * MOST + 1  # the machine is busy with what was sent
        answered = call_of(service, content)()
        assert answered.status_code == 200
        soon(lambda: sum(map(sockets_of, children(service.pid))) <= 2 * workers, SEND_SECONDS + 4)


def test_one_who_reads_slowly_gets_all_answers_in_their_order() -> None:
    with serving(workers=1, threads=2) as service, connected(service.address, 10) as connection:
        many = 40
        threading.Thread(target=connection.sendall, args=(LIST * (many - 1) + LAST,)).start()
        received = b""
        while piece := connection.recv(1 << 15):
            received += piece
            time.sleep(0.01)
        assert whole_answers(received) == many


def test_one_who_reads_too_slowly_is_cut(content: Content) -> None:
    with serving(workers=1, threads=2) as service, connected(service.address, 10) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        began = time.monotonic()
        with suppress(OSError):
            connection.settimeout(1)
            connection.sendall(LIST * 5000)
        assert connection.recv(1)  # else the worker might not have taken the connection yet
        (worker,) = children(service.pid)
        soon(lambda: sockets_of(worker) <= LISTENER, SEND_SECONDS + 4)
        assert time.monotonic() - began > SEND_SECONDS - 1


def narrow(service: Started) -> socket.socket:
    """A connection of which the systems on both sides keep little that is not read: some 50 KB."""
    url = urlsplit(service.address)
    made = socket.socket()
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(10)
    made.connect((url.hostname or "", url.port or 80))
    return made


def test_those_who_never_read_that_they_may_continue_hold_no_thread() -> None:
    with serving(workers=1, threads=1) as service, ExitStack() as held:
        for number in range(40):
            connection = held.enter_context(narrow(service))
            # Each stops at another byte, and so some of them in ``100 Continue``.
            connection.sendall(LIST * 2 + LIVE * number + EXPECTANT * 1000)
        assert max(times_of(live_of(service), SEND_SECONDS + 3)) < 3 * MOST + 1


def test_the_last_answer_is_whole_for_one_who_reads_it_slowly() -> None:
    """It is the system that still sends it after the connection was closed."""
    with serving(workers=1) as service, narrow(service) as connection:
        connection.sendall(LAST)
        received, began = b"", time.monotonic()
        while piece := connection.recv(1000):
            received += piece
            time.sleep(0.25)
        assert whole_answers(received) == 1
        assert time.monotonic() - began > HANG_UP_SECONDS + 1


def test_connections_that_are_kept_do_not_use_up_the_files() -> None:
    """Else a worker that cannot open one more ends, and all its connections with it."""
    with ExitStack() as held:
        service = held.enter_context(serving(workers=1, files=200))
        workers = children(service.pid)
        for _ in range(250):
            connection = held.enter_context(connected(service.address, 10))
            connection.sendall(LIVE)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert live_of(service)().status_code == 200
        assert children(service.pid) == workers
