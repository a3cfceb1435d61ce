"""The server as processes: how its workers share what comes."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import requests

from benchmarks.processes import children
from cds_service.content import Content

from .processes import free_port, started
from .test_app import VIEW
from .test_database import at_once
from .test_quiet import soon
from .test_telemetry import present

CONNECTIONS, ROUNDS = 24, 20


def sockets_of(process: int) -> int:
    """How many connections and listeners a process has open."""
    found = 0
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            found += os.readlink(entry).startswith("socket:")
        except OSError:
            continue  # it was closed meanwhile
    return found


def test_connections_that_are_kept_are_shared_among_the_workers(content: Content) -> None:
    """Else many calls wait for one worker while another is idle.

    Chance alone would give one of them three or four more of the 24; here it is one or two.
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
    assert sum(apart) / ROUNDS < 2.5, apart
