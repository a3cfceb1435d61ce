"""Concurrency limits, overall and per client.

No call waits: a call above a limit is refused at once, and the client can send it again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class TooBusyError(Exception):
    """A limit is reached; with ``of_one``, the limit of one client."""

    def __init__(self, of_one: bool) -> None:
        super().__init__("the concurrency limit is reached")
        self.of_one = of_one


class ConcurrencyLimit:
    """At most ``most`` calls at once; with ``each``, a client has at most twice what stays free.

    So a client alone gets two thirds, and the last place is left for a client that has none yet.
    """

    def __init__(self, most: int, each: bool = False) -> None:
        self._most, self._each = most, each
        self._taken: Counter[str | None] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def slot_for(self, caller: str | None) -> Iterator[None]:
        """Hold one place while the block runs. Raises ``TooBusyError`` if none is free."""
        with self._lock:
            left = self._most - self._taken.total()
            if left <= 0:
                raise TooBusyError(of_one=False)
            own = self._taken[caller] + 1
            if self._each and own > max(1, 2 * (left - 1)):
                raise TooBusyError(of_one=True)
            self._taken[caller] = own
        try:
            yield
        finally:
            with self._lock:
                self._taken[caller] -= 1
                if not self._taken[caller]:
                    del self._taken[caller]
