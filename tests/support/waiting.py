"""Wait until something holds, see that it goes on to, and do things at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


def soon(holds: Callable[[], bool], within: float = 6) -> None:
    """Wait until something holds; the card log writes and reads once a second."""
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until, "it did not come to hold"
        time.sleep(0.01)


def stays(holds: Callable[[], bool], for_: float = 1.6) -> None:
    """See that something holds, and goes on to, for longer than the card log needs to read."""
    until = time.monotonic() + for_
    while time.monotonic() < until:
        assert holds()
        time.sleep(0.2)


def at_once(count: int, do: Any) -> list[Any]:
    """What ``do`` gives, called so many times at the same moment."""
    gate, given = threading.Barrier(count), []

    def call(number: int) -> None:
        gate.wait()
        given.append(do(number))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given
