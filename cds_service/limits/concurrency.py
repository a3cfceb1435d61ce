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
    """Room for ``most``; for ``each`` caller, if given, for no more than twice what that leaves.

    So one alone has two thirds of it, and none takes the last but one who has nothing yet.
    """

    def __init__(self, most: int, each: bool = False) -> None:
        self._most, self._each = most, each
        self._taken: Counter[str | None] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def taken_by(self, caller: str | None) -> Iterator[None]:
        """Within it, the room is taken. Raises ``TooBusyError`` if there is none."""
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
