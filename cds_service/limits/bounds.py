"""Bounds of one request: what it may hold in memory beside others, and until when it is judged.

How much memory JSON takes once it is read can be told before: by its length, and by the commas,
brackets and braces in it, of which each value has one. What is dense without any chart being so (a
body of empty lists alone takes thirty times its size) is refused before it is read.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .concurrency import TooBusyError

MOST_HELD = 256 * 1024 * 1024  # bytes that the requests of a worker hold, by ``weight_of``
SECONDS = 3.0  # to judge a chart once all of it is there
OF_AN_OBJECT = 240  # bytes: a brace, which may be all that there is of an object within another
OF_A_VALUE = 128  # a comma or a bracket: a list takes less
OF_A_BYTE = 4  # the body, as it came and as a text
OF_A_BYTE_BEYOND_ASCII = 8  # a text in which one letter is beyond takes up to four for each


class TooMuchError(Exception):
    """It holds more than any chart, and would not have room if it were alone."""


class TooLateError(Exception):
    """It is not judged by its deadline."""


def weight_of(document: bytes | bytearray) -> int:
    """How many bytes of memory it takes at most to hold JSON and what is read of it."""
    values = document.count(b",") + document.count(b"[")
    is_ascii = document.isascii() and b"\\u" not in document  # which writes a letter beyond
    each = OF_A_BYTE if is_ascii else OF_A_BYTE_BEYOND_ASCII
    return len(document) * each + document.count(b"{") * OF_AN_OBJECT + values * OF_A_VALUE


class Memory:
    """What the requests of this process hold, ``most`` bytes in all. Nobody waits for room."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self.most = most
        self._held = 0
        self._lock = threading.Lock()

    @contextmanager
    def bounds(self) -> Iterator[Bounds]:
        """The bounds of one request, which is over at their end."""
        bounds = Bounds(self)
        try:
            yield bounds
        finally:
            bounds.close()

    def take(self, more: int, own: int) -> None:
        """Take some more beside what is one's own. Raises as ``Bounds.hold`` does."""
        with self._lock:
            if own + more > self.most:
                raise TooMuchError
            if self._held + more > self.most:
                raise TooBusyError(of_one=False)
            self._held += more

    def give_back(self, held: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._held -= held


class Bounds:
    """Those of one request; without ``memory`` it may hold whatever there is.

    ``deadline`` (``time.monotonic``) is when it must be judged.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory, self.deadline = memory, math.inf
        self._held, self._over = 0, False
        self._lock = threading.Lock()

    def hold(self, weight: int) -> None:
        """Hold so many bytes more, until the request is over.

        Raises ``TooMuchError`` if that were too much for it alone, and ``TooBusyError`` if it is
        with what others hold, or the request is over.
        """
        if self._memory is None:
            return
        with self._lock:
            if self._over:
                raise TooBusyError(of_one=False)
            self._memory.take(weight, self._held)
            self._held += weight

    def must_be_in_time(self) -> None:
        """Raises ``TooLateError`` once its time is over."""
        if time.monotonic() > self.deadline:
            raise TooLateError

    def close(self) -> None:
        """It is over, and holds nothing more."""
        with self._lock:
            self._over = True
            if self._memory is not None:
                self._memory.give_back(self._held)
            self._held = 0


NONE = Bounds()
