"""Other callers, who must be answered meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import requests

from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.processes import Started
from tests.support.vignettes import present


def call_of(service: Started, content: Content) -> Callable[[], requests.Response]:
    """A call of another caller, on a connection of its own each time."""
    request = present(content)
    return lambda: requests.post(f"{service.address}{VIEW}", json=request, timeout=30)


def times_of(call: Callable[[], requests.Response], seconds: float) -> list[float]:
    """How long calls of others took, one behind the other, for some seconds."""
    took: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        assert call().status_code == 200
        took.append(time.monotonic() - began)
        time.sleep(0.01)
    return took
