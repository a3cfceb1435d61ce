"""A circuit breaker: after a slow failure, threads do not all wait for the next slow failure.

The circuit is closed while calls succeed or fail fast. A slow failure opens it: from then on calls
fail at once, except for one every ``AGAIN_AFTER`` seconds, which tries. If that call succeeds, the
circuit closes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SLOW = 0.3  # seconds
AGAIN_AFTER = 1.0  # seconds


class CircuitOpenError(Exception):
    """The call was not made, because an earlier one failed slowly."""


class Circuit:
    """One circuit, shared by all threads. ``clock`` gives seconds, and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._again_at: float | None = None  # ``None`` while it is closed

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Make a call in the block; an exception is a failure. Raises ``CircuitOpenError``."""
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
