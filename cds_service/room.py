"""Room: how many may do something at once, and how many of one caller, so that others can too.

Nobody waits. Who finds no room is told so at once, and can come again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class TooBusyError(Exception):
    """There is no room now; ``of_one`` if it is one caller who takes too much."""

    def __init__(self, of_one: bool) -> None:
        super().__init__("there is no room")
        self.of_one = of_one


class Room:
    """Room for ``most``, and for ``most_of_one`` of one caller (for as many if not given)."""

    def __init__(self, most: int, most_of_one: int | None = None) -> None:
        self._most, self._most_of_one = most, most_of_one or most
        self._taken: Counter[str | None] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def taken_by(self, caller: str | None) -> Iterator[None]:
        """Within it, the room is taken. Raises ``TooBusyError`` if there is none."""
        with self._lock:
            if self._taken.total() >= self._most:
                raise TooBusyError(of_one=False)
            if self._taken[caller] >= self._most_of_one:
                raise TooBusyError(of_one=True)
            self._taken[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[caller] -= 1
