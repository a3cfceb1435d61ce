"""Names of hosts: a resolver that does not answer holds up nobody but who asks for that name."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from cds_service.access import host_names
from cds_service.access.host_names import MOST, MOST_OF_ONE, addresses_of
from cds_service.access.outgoing import Outgoing, OutgoingError
from tests.support.processes import free_port
from tests.support.waiting import soon

SILENT, FINE = "silent.example.org", "fine.example.org"


class Resolver:
    """Says 127.0.0.1 of ``FINE`` at once, and nothing of any other name until ``ended``."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ended = threading.Event()

    def __call__(self, host: str, port: Any, *_: Any, flags: int = 0, **__: Any) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:
            if host != "127.0.0.1":
                raise socket.gaierror
        else:
            self.asked.append(host)
            if host != FINE:
                self.ended.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.ended.set()
    for thread in threading.enumerate():
        if thread.name == "host names":
            thread.join(5)


def took(host: str, seconds: float) -> tuple[list[str], float]:
    started = time.monotonic()
    return addresses_of(host, started + seconds), time.monotonic() - started


def test_a_call_ends_at_its_deadline_though_the_resolver_says_nothing(resolver: Resolver) -> None:
    started = time.monotonic()
    with pytest.raises(OutgoingError, match="was too slow"):
        Outgoing().get(f"http://{SILENT}/", {}, started + 0.3, 1000)
    assert time.monotonic() - started < 0.6


def test_other_names_are_answered_meanwhile(resolver: Resolver) -> None:
    for _ in range(20):
        assert took(SILENT, 0.01)[0] == []
    found, seconds = took(FINE, 5)
    assert found == ["127.0.0.1"]
    assert seconds < 1


def test_no_more_threads_ask_than_there_may_be(resolver: Resolver) -> None:
    for number in range(3 * MOST):
        assert took(f"{number}.example.org", 0.001)[0] == []
    assert len(resolver.asked) == MOST
    assert took(FINE, 0.001)[0] == []
    resolver.ended.set()
    soon(lambda: took(FINE, 1)[0] == ["127.0.0.1"])
    soon(lambda: host_names._running == {})


def test_what_may_have_been_lost_is_asked_for_once_more(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_names, "SAME", 0.1)
    for _ in range(3):
        assert took(SILENT, 0.01)[0] == []
    assert resolver.asked == [SILENT]
    for _ in range(3):
        time.sleep(host_names.SAME)
        took(SILENT, 0.01)
    assert resolver.asked == [SILENT] * MOST_OF_ONE


def test_no_answer_is_kept(resolver: Resolver) -> None:
    for _ in range(3):
        assert took(FINE, 1)[0] == ["127.0.0.1"]
    assert resolver.asked == [FINE] * 3


def test_a_fork_asks_for_itself(resolver: Resolver) -> None:
    took(SILENT, 0.01)
    child = os.fork()
    if child == 0:
        os._exit(0 if host_names._running == {} and took(FINE, 5)[0] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_addresses_are_tried_within_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each for as long again: nobody takes a connection at either."""
    both = ("127.0.0.2", "127.0.0.3")
    real = socket.getaddrinfo

    def resolve(host: str, *args: Any, **options: Any) -> Any:
        if host != "both.example.org":
            return real(host, *args, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in both]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    outgoing = Outgoing([ipaddress.ip_network("127.0.0.0/8")])
    with ExitStack() as open_now:
        port = free_port()
        for each in both:
            open_now.enter_context(socket.create_server((each, port), backlog=0))
            for _ in range(2):  # as many as may wait there to be taken
                waiting = open_now.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((each, port))
        started = time.monotonic()
        with pytest.raises(OutgoingError, match="was too slow"):
            outgoing.get(f"http://both.example.org:{port}/", {}, started + 0.4, 1000)
        assert time.monotonic() - started < 0.7
