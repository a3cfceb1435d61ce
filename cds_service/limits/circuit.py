"""A circuit breaker: after a slow failure, not every thread waits for the next one.

It is closed while calls succeed, or fail fast. A slow failure opens it: then calls fail at once,
but for one every ``AGAIN_AFTER`` seconds that may try; when that one succeeds, the circuit is
closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SLOW = 0.3  # seconds
AGAIN_AFTER = 1.0  # seconds


class CircuitOpenError(Exception):
    """The call was not made: the last ones failed slowly."""


class Circuit:
    """One circuit, for all threads. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._again_at: float | None = None  # ``None`` while it is closed

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Try something in the block; it fails if it raises. Raises ``CircuitOpenError``."""
        started = self._clock()
        if self._again_at is not None:
            with self._lock:
                if self._again_at is not None:
                    if started < self._again_at:
                        raise CircuitOpenError
                    self._again_at = started + AGAIN_AFTER
        try:
            yield
        except Exception:
            now = self._clock()
            if self._again_at is not None or now - started >= SLOW:
                self._again_at = now + AGAIN_AFTER
            raise
        self._again_at = None
