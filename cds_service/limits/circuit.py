"""A circuit: what has failed a moment ago, after a long wait, need not be waited for by everyone.

It is closed as long as all goes well, or fails at once. What fails slowly opens it: then all are
told so at once, and every ``AGAIN_AFTER`` seconds one may try; as soon as one has done it, all may.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SLOW = 0.3  # seconds
AGAIN_AFTER = 1.0  # seconds


class CircuitOpenError(Exception):
    """It failed a moment ago."""


class Circuit:
    """One circuit, for all threads. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._again_at: float | None = None  # it is closed

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Within it, something is tried, and fails if it raises. Raises ``CircuitOpenError``."""
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
