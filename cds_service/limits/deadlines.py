"""Deadlines: calls that are under way in this process are cut off when their time is over.

The timeout of a socket counts anew for each byte, so that a server which sends single bytes never
exceeds it. Therefore one thread of the process watches all calls with a deadline, and cuts off the
late ones.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LOOK_EVERY = 0.02  # seconds

_under_way: set[UnderWay] = set()
_lock = threading.Lock()
_process = 0  # the process in which the thread runs: a fork does not have it


class UnderWay:
    """A call that must end in time. ``cut`` ends it; it is ``None`` until there is a connection."""

    __slots__ = ("cut", "deadline", "late")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.late = False
        self.cut: Callable[[], None] | None = None


@contextmanager
def until(deadline: float) -> Iterator[UnderWay]:
    """Cut off the call in the block at ``deadline``, a time of ``time.monotonic``."""
    global _process
    each = UnderWay(deadline)
    with _lock:
        _under_way.add(each)
        if _process != os.getpid():
            _process = os.getpid()
            threading.Thread(target=_look_on, daemon=True, name="deadlines").start()
    try:
        yield each
    finally:
        with _lock:
            _under_way.discard(each)


def _look_on() -> None:
    while True:
        time.sleep(LOOK_EVERY)
        now = time.monotonic()
        with _lock:
            for each in _under_way:
                if now > each.deadline:
                    each.late = True
                    if each.cut is not None:
                        with suppress(OSError):  # it ended by itself
                            each.cut()


def _forget() -> None:
    """Forget the calls of the parent process, after a fork."""
    global _lock
    _under_way.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
