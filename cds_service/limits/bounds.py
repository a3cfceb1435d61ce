"""Bounds of one request: how much memory it may hold beside others, and its deadline.

The memory that JSON takes once it is parsed can be estimated beforehand: from its length, and from
the number of its commas, brackets and braces, as each value has one. A body that would take too
much is refused and not parsed: a body of nothing but empty lists takes thirty times its length, and
no chart looks like that.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .concurrency import TooBusyError

MOST_HELD = 256 * 1024 * 1024  # bytes that the requests of a worker hold, by ``weight_of``
EVALUATION_SECONDS = 3.0  # for the evaluation of a chart once all of it is read
# Bytes of memory: for a brace, for a comma or a bracket, and for each byte of a body. Python keeps
# a text with letters beyond ASCII in wider characters.
OF_AN_OBJECT = 240
OF_A_VALUE = 128
OF_A_BYTE = 4
OF_A_BYTE_BEYOND_ASCII = 8


class TooMuchError(Exception):
    """The request needs more memory than there is, even without other requests."""


class TooLateError(Exception):
    """The request was not evaluated by its deadline."""


def weight_of(document: bytes | bytearray) -> int:
    """The most bytes of memory that a JSON document and the objects parsed from it take."""
    values = document.count(b",") + document.count(b"[")
    is_ascii = document.isascii() and b"\\u" not in document  # an escape may be such a letter
    each = OF_A_BYTE if is_ascii else OF_A_BYTE_BEYOND_ASCII
    return len(document) * each + document.count(b"{") * OF_AN_OBJECT + values * OF_A_VALUE


class Memory:
    """The memory for the requests of this process: ``most`` bytes. No request waits for memory."""

    def __init__(self, most: int = MOST_HELD) -> None:
        self.most = most
        self._held = 0
        self._lock = threading.Lock()

    @contextmanager
    def bounds(self) -> Iterator[Bounds]:
        """The bounds of one request; the memory it holds is released at the end of the block."""
        bounds = Bounds(self)
        try:
            yield bounds
        finally:
            bounds.close()

    def take(self, more: int, own: int) -> None:
        """Take ``more`` bytes for a request that holds ``own``. Raises as ``Bounds.hold`` does."""
        with self._lock:
            if own + more > self.most:
                raise TooMuchError
            if self._held + more > self.most:
                raise TooBusyError(of_one=False)
            self._held += more

    def give_back(self, held: int) -> None:
        """Release bytes that were taken."""
        with self._lock:
            self._held -= held


class Bounds:
    """The bounds of one request; without ``memory`` there is no limit.

    It must be evaluated before ``deadline``, a time of ``time.monotonic``.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory, self.deadline = memory, math.inf
        self._held, self._over = 0, False
        self._lock = threading.Lock()

    def hold(self, weight: int) -> None:
        """Hold ``weight`` bytes until the end of the request.

        Raises ``TooMuchError`` if the process never has that much memory, and ``TooBusyError`` if
        other requests hold too much now, or if the request has ended.
        """
        if self._memory is None:
            return
        with self._lock:
            if self._over:
                raise TooBusyError(of_one=False)
            self._memory.take(weight, self._held)
            self._held += weight

    def must_be_in_time(self) -> None:
        """Raises ``TooLateError`` after the deadline."""
        if time.monotonic() > self.deadline:
            raise TooLateError

    def close(self) -> None:
        """End the request: it holds nothing more."""
        with self._lock:
            self._over = True
            if self._memory is not None:
                self._memory.give_back(self._held)
            self._held = 0


UNBOUNDED = Bounds()
