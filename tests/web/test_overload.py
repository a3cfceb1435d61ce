"""What a worker cannot have: a disk, a lock, a file more. It says so, goes on, and comes back."""

from __future__ import annotations

import resource
import socket
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.processes import children
from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.clients import BASE, clients_file, signed
from tests.support.postgresql import locked, new_database, postgresql_server
from tests.support.processes import Started, connected, free_port, started
from tests.support.vignettes import present
from tests.support.waiting import soon

pytestmark = pytest.mark.slow


class Service:
    """One that knows a client, and how it answers it."""

    def __init__(self, there: Started, request: dict[str, Any]) -> None:
        self.there, self.request = there, request

    def call(self) -> int:
        url = f"{self.there.address}{VIEW}"
        return requests.post(url, json=self.request, headers=signed(), timeout=20).status_code

    def ready(self) -> int:
        return requests.get(f"{self.there.address}/health/ready", timeout=20).status_code


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    return {
        "CDS_BASE_URL": BASE,
        "CDS_CLIENTS": str(clients_file(tmp_path / "clients.yaml")),
        "CDS_DATABASE_URL": f"sqlite:///{tmp_path}/service.sqlite3",
    }


def test_on_a_full_disk_it_is_not_ready_and_comes_back(
    content: Content, tmp_path: Path, own: dict[str, str]
) -> None:
    with started("serve", "--workers", "1", port=free_port(), **own) as there:
        service = Service(there, present(content))
        assert (service.call(), service.ready()) == (200, 200)
        [worker] = children(there.pid)
        whole = max(file.stat().st_size for file in tmp_path.glob("service.sqlite3*"))
        before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (whole, before[1]))
        try:
            soon(lambda: service.call() == 503)
            soon(lambda: service.ready() == 503)
        finally:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
        soon(lambda: service.ready() == 200)
        assert service.call() == 200
        assert children(there.pid) == [worker]


def test_a_locked_table_costs_calls_a_second_and_not_the_time_of_the_lock(
    content: Content, own: dict[str, str]
) -> None:
    with postgresql_server() as server:
        own["CDS_DATABASE_URL"] = new_database(server.address)
        with started("serve", "--workers", "1", port=free_port(), **own) as there:
            service = Service(there, present(content))
            assert service.call() == 200
            with locked(own["CDS_DATABASE_URL"], "seen_tokens"):
                took = []
                for _ in range(12):
                    began = time.monotonic()
                    assert service.call() == 503
                    took.append(time.monotonic() - began)
                assert service.ready() == 503
            assert max(took) < 3
            assert sum(took) < 8
            soon(lambda: service.call() == 200)
            soon(lambda: service.ready() == 200)


def told(connection: socket.socket) -> bytes:
    """What was sent to one who has not asked for anything; nothing if it waits for that."""
    connection.setblocking(False)
    with suppress(OSError):
        return connection.recv(1 << 16)
    return b""


def test_a_worker_that_can_open_no_more_files_goes_on_and_comes_back(content: Content) -> None:
    """It is the same worker that answers before, during and after."""
    service = started("serve", "--workers", "1", port=free_port(), CDS_AUTH="open")
    with service as there, requests.Session() as known, ExitStack() as open_now:
        url, request = f"{there.address}{VIEW}", present(content)
        assert known.post(url, json=request, timeout=5).status_code == 200
        [worker] = children(there.pid)
        open_files = len(list(Path(f"/proc/{worker}/fd").iterdir()))
        _, most = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (open_files + 10, most))
        many = [open_now.enter_context(connected(there.address)) for _ in range(40)]
        refused: list[socket.socket] = []

        def are_refused() -> bool:
            refused.extend(each for each in many if told(each).startswith(b"HTTP/1.1 503 "))
            return len(refused) > 20

        soon(are_refused)
        during = Counter(known.post(url, json=request, timeout=5).status_code for _ in range(20))
        assert children(there.pid) == [worker]
        assert during.keys() <= {200, 503}
        open_now.close()
        soon(lambda: requests.post(url, json=request, timeout=5).status_code == 200)
        assert children(there.pid) == [worker]
