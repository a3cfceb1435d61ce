"""The server as processes: how its workers share what comes."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import pytest
import requests

from benchmarks.processes import children, resident
from cds_service.content.compiled import Content
from cds_service.web.connections import HEAD_SECONDS
from cds_service.web.server import RETURN_MEMORY_EVERY
from tests.support.calls import VIEW
from tests.support.processes import connected, free_port, sockets_of, started
from tests.support.vignettes import present
from tests.support.waiting import at_once, soon

pytestmark = pytest.mark.slow

CONNECTIONS, ROUNDS = 24, 20


def test_connections_that_are_kept_are_shared_among_the_workers(content: Content) -> None:
    """Else many calls wait for one worker while another is idle.

    Chance alone would give one of them three or four more of the 24.
    """
    apart: list[int] = []
    service = started("serve", "--workers", "2", port=free_port(), CDS_AUTH="open")
    with service as there:
        soon(lambda: len(children(there.pid)) == 2)
        for _ in range(20):  # until both are up
            requests.get(f"{there.address}/cds-services", timeout=5)
        workers, request = children(there.pid), present(content)
        for _ in range(ROUNDS):
            with ExitStack() as all_of_them:
                before = [sockets_of(worker) for worker in workers]
                sessions = [
                    all_of_them.enter_context(requests.Session()) for _ in range(CONNECTIONS)
                ]

                def call(number: int, sessions: list[requests.Session] = sessions) -> int:
                    url = f"{there.address}{VIEW}"
                    for _ in range(5):
                        answer = sessions[number].post(url, json=request, timeout=5)
                    return answer.status_code

                assert set(at_once(CONNECTIONS, call)) == {200}
                more = [sockets_of(w) - count for w, count in zip(workers, before, strict=True)]
                apart.append(abs(more[0] - more[1]))
            soon(lambda before=before: [sockets_of(w) for w in workers] <= before)
    assert sum(apart) / ROUNDS < 1, apart


def test_workers_work_in_longer_turns() -> None:
    """Else the threads of a worker are moved from core to core, and each call takes longer."""
    with started("serve", "--workers", "2", port=free_port(), CDS_AUTH="open") as there:
        soon(lambda: len(children(there.pid)) == 2)
        requests.get(f"{there.address}/cds-services", timeout=5)
        workers = children(there.pid)
        soon(lambda: {os.sched_getscheduler(worker) for worker in workers} == {os.SCHED_BATCH})


def test_what_a_large_request_took_is_given_back(content: Content) -> None:
    """Else each pool of memory stays as large as the most that it ever held: 100 MB more here."""
    request = present(content)
    item = {"card": "c", "outcome": "accepted", "outcomeTimestamp": "x" * 100_000}
    with (
        started("serve", "--workers", "1", port=free_port(), CDS_AUTH="open") as there,
        ExitStack() as all_of_them,
    ):
        sessions = [all_of_them.enter_context(requests.Session()) for _ in range(4)]

        def call(number: int, body: dict[str, Any], path: str, times: int) -> set[int]:
            url = f"{there.address}{VIEW}{path}"
            return {
                sessions[number].post(url, json=body, timeout=10).status_code for _ in range(times)
            }

        usual = partial(call, body=request, path="", times=100)
        large = partial(call, body={"feedback": [item] * 150}, path="/feedback", times=4)
        assert at_once(4, usual) == [{200}] * 4
        [worker] = children(there.pid)
        before = resident(worker)
        assert at_once(4, large) == [{400}] * 4
        assert at_once(4, usual) == [{200}] * 4
        soon(lambda: resident(worker) - before < 8, within=RETURN_MEMORY_EVERY + 3)


def test_a_head_a_byte_at_a_time_holds_no_thread_and_is_answered_in_the_end(
    content: Content,
) -> None:
    request = present(content)
    service = started(
        "serve", "--workers", "1", "--threads", "2", port=free_port(), CDS_AUTH="open"
    )
    with service as there, ExitStack() as later:
        slow = [later.enter_context(connected(there.address)) for _ in range(4)]
        over, begun = threading.Event(), []

        def drip(connection: socket.socket) -> None:
            with suppress(OSError):
                connection.sendall(b"GET /cds-services HTTP/1.1\r\nX-Slow: ")
                begun.append(connection)
                while not over.wait(0.1):
                    connection.sendall(b"x")

        threads = [threading.Thread(target=drip, args=(each,)) for each in slow]
        for thread in threads:
            thread.start()
        soon(lambda: len(begun) == len(slow))
        try:
            answer = requests.post(f"{there.address}{VIEW}", json=request, timeout=60)
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() < HEAD_SECONDS / 2
            for each in slow:
                each.settimeout(HEAD_SECONDS + 5)
                head, _, body = each.recv(1 << 16).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 408 ")
                assert json.loads(body)["issue"][0]["code"] == "timeout"
        finally:
            over.set()
            for thread in threads:
                thread.join()


def test_a_connection_that_is_kept_is_not_cut() -> None:
    port = free_port()
    with (
        started("serve", "--workers", "1", port=port, CDS_AUTH="open") as there,
        requests.Session() as session,
    ):
        assert session.get(f"{there.address}/cds-services", timeout=5).status_code == 200
        time.sleep(HEAD_SECONDS + 1)
        assert session.get(f"{there.address}/cds-services", timeout=5).status_code == 200
