"""Resolution of host names to addresses, with a deadline.

The resolver of the system cannot be interrupted. So it runs in a separate thread, and a call goes
on without a result at its deadline. Calls for a name that is being resolved share one result, which
is not cached. Only a few threads resolve the same name, so that one slow name cannot take all
threads.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress

MOST_OF_ONE, MOST = 2, 32  # threads that resolve at the same time: the same name, all names
SAME = 0.5  # seconds; a later call starts a second resolution, as the first one may hang

_running: dict[str, list[tuple[float, Future[list[str]]]]] = {}
_lock = threading.Lock()


def addresses_of(host: str, deadline: float) -> list[str]:
    """The addresses of a host, each once; empty if there are none, or none by ``deadline``.

    ``deadline`` is on the clock of ``time.monotonic``. While ``MOST`` resolutions are running, the
    result for another name is empty.
    """
    with suppress(OSError, UnicodeError):  # an IP address needs no resolver
        return _addresses(host, socket.AI_NUMERICHOST)
    answer = _resolve(host)
    if answer is None:
        return []
    with suppress(TimeoutError):
        return answer.result(max(0.0, deadline - time.monotonic()))
    return []


def _resolve(host: str) -> Future[list[str]] | None:
    now = time.monotonic()
    with _lock:
        earlier = _running.get(host, [])
        if earlier and (now - earlier[-1][0] < SAME or len(earlier) >= MOST_OF_ONE):
            return earlier[-1][1]
        if sum(map(len, _running.values())) >= MOST:
            return earlier[-1][1] if earlier else None
        started = now, Future[list[str]]()
        _running[host] = [*earlier, started]
    try:
        threading.Thread(
            target=_resolve_now, args=(host, started), daemon=True, name="host names"
        ).start()
    except RuntimeError:  # the system cannot start more threads
        _forget(host, started)
        return None
    return started[1]


def _resolve_now(host: str, started: tuple[float, Future[list[str]]]) -> None:
    try:
        found = _addresses(host)
    except Exception:  # whatever the resolver raises, there is no address
        found = []
    _forget(host, started)
    started[1].set_result(found)


def _forget(host: str, started: tuple[float, Future[list[str]]]) -> None:
    with _lock:
        if left := [each for each in _running.get(host, []) if each is not started]:
            _running[host] = left
        else:
            _running.pop(host, None)


def _addresses(host: str, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _reset() -> None:
    """Forget all running resolutions: a fork has no threads of its parent."""
    global _lock
    _running.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_reset)
