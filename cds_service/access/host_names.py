"""Names of hosts: to which addresses they lead, by a deadline.

The resolver of the system cannot be interrupted. So a thread of its own asks it, and a call whose
deadline comes first goes on without an answer. Calls for a name that was asked for a moment ago
share its answer; it is not kept after that. Few threads ask for one name, so that a slow name does
not take all of them.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress

MOST_OF_ONE, MOST = 2, 32  # threads that ask at once: for one name, in all
SAME = 0.5  # seconds; after that an answer may have been lost, and the name is asked for again

_asked: dict[str, list[tuple[float, Future[list[str]]]]] = {}
_lock = threading.Lock()


def addresses_of(host: str, deadline: float) -> list[str]:
    """The addresses of a host, each once; none if there are none, or not by ``deadline``.

    ``deadline`` is on the clock of ``time.monotonic``. While ``MOST`` names are asked for, others
    have no addresses.
    """
    with suppress(OSError, UnicodeError):  # an address needs no resolver
        return _read(host, socket.AI_NUMERICHOST)
    answer = _ask(host)
    if answer is None:
        return []
    with suppress(TimeoutError):
        return answer.result(max(0.0, deadline - time.monotonic()))
    return []


def _ask(host: str) -> Future[list[str]] | None:
    now = time.monotonic()
    with _lock:
        under_way = _asked.get(host, [])
        if under_way and (now - under_way[-1][0] < SAME or len(under_way) >= MOST_OF_ONE):
            return under_way[-1][1]
        if sum(map(len, _asked.values())) >= MOST:
            return under_way[-1][1] if under_way else None
        asked = now, Future[list[str]]()
        _asked[host] = [*under_way, asked]
    try:
        threading.Thread(target=_answer, args=(host, asked), daemon=True, name="host names").start()
    except RuntimeError:  # the system gives no more threads
        _forget(host, asked)
        return None
    return asked[1]


def _answer(host: str, asked: tuple[float, Future[list[str]]]) -> None:
    try:
        found = _read(host)
    except Exception:  # whatever the resolver did: there is no address
        found = []
    _forget(host, asked)
    asked[1].set_result(found)


def _forget(host: str, asked: tuple[float, Future[list[str]]]) -> None:
    with _lock:
        if left := [each for each in _asked.get(host, []) if each is not asked]:
            _asked[host] = left
        else:
            _asked.pop(host, None)


def _read(host: str, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _begin_anew() -> None:
    """Forget what is being asked: threads do not live on in a fork."""
    global _lock
    _asked.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)
