"""Deadlines: what is under way in this process, and is cut when its time is over.

The timeout of a socket is for each byte, so a peer that sends a byte at a time is never late. So
one thread of the process watches all that has a deadline, and cuts what is late.
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
_process = 0  # in which the thread runs: it does not live on in a fork


class UnderWay:
    """Something that must end in time. ``cut`` ends it, as soon as there is something to cut."""

    __slots__ = ("cut", "deadline", "late")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.late = False
        self.cut: Callable[[], None] | None = None


@contextmanager
def until(deadline: float) -> Iterator[UnderWay]:
    """In the block, what is under way may last until ``deadline`` (``time.monotonic``)."""
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
    """Forget what was under way before a fork."""
    global _lock
    _under_way.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
