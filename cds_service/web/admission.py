"""Admission: which calls are answered, how many at once, and how much each may send.

A refused call does not count for the concurrency limits, and its token stays unused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from flask import request

from ..access.caller import Caller, Callers
from ..errors import Refusal
from ..hooks.protocol import HOOKS
from ..hooks.request_body import came_too_late, read_body, too_slow
from ..limits.bounds import Bounds, Memory, weight_of
from ..limits.concurrency import ConcurrencyLimit
from ..settings import Settings
from .telemetry import note


class Admitted(NamedTuple):
    """A call that is answered: its caller, its bounds, and the size and time of its body.

    The body may have ``most_bytes``, and must come within ``body_seconds``.
    """

    caller: Caller
    bounds: Bounds
    most_bytes: int
    body_seconds: float

    def read_body(self) -> bytes:
        """The body, which counts for the bounds. Raises as ``Bounds.hold`` and ``read_body`` do."""
        announced = min(request.content_length or 0, self.most_bytes)
        self.bounds.hold(announced)
        body = read_body(self.body_seconds)
        self.bounds.hold(weight_of(body) - announced)
        return body


class Admission:
    """Admits calls of the services. All threads of a worker share its limits."""

    def __init__(self, settings: Settings, callers: Callers) -> None:
        self._callers = callers
        self._most_bytes, self._body_seconds = settings.max_body_bytes, settings.body_ms / 1000
        self._memory = Memory()
        self._for_all = ConcurrencyLimit(settings.at_once)
        self._for_each = ConcurrencyLimit(settings.at_once, callers.are_several)

    @contextmanager
    def admit(self, service_id: str, *paths: str) -> Iterator[Admitted]:
        """Admit a call that posts JSON to a service; its place is taken while the block runs.

        The token of the call must be for one of ``paths``. Raises ``Refusal`` or ``TooBusyError``.
        """
        if service_id not in HOOKS:
            raise Refusal(404, "There is no such service.", "not-found")
        note(service=service_id)
        if came_too_late():  # such a call takes no place, and its token stays unused
            _must_be_json()
            raise too_slow()
        token = self._callers.read(request.headers.get("Authorization"), *paths)
        with self._for_all.slot_for(None):  # calls without a valid token were refused before
            caller = self._callers.admit(token)
            note(client=caller.issuer)
            must_accept_json()
            _must_be_json()
            _must_not_be_encoded()
            with self._for_each.slot_for(caller.issuer), self._memory.bounds() as bounds:
                yield Admitted(caller, bounds, self._most_bytes, self._body_seconds)


def must_accept_json() -> None:
    """Raises ``Refusal`` (406) if the caller does not accept JSON."""
    accepted = request.headers.get("Accept", "").strip()
    if accepted in ("", "*/*", "application/json"):
        return
    qualities: dict[str, float] = {}
    for written, quality in request.accept_mimetypes:
        kind = written.partition(";")[0].strip().lower()  # the charset does not matter
        qualities[kind] = max(quality, qualities.get(kind, 0.0))
    for kind in ("application/json", "application/*", "*/*"):  # the most specific range decides
        if kind in qualities:
            if qualities[kind] > 0:
                return
            break
    raise Refusal(406, "Answers are application/json.", "not-supported")


def _must_be_json() -> None:
    """Raises ``Refusal`` (415) if the body is of another media type."""
    if request.mimetype != "application/json":
        raise Refusal(415, "The body must be application/json.", "not-supported")


def _must_not_be_encoded() -> None:
    """Raises ``Refusal`` (415) if the body is compressed or has another Content-Encoding.

    The answer names the encoding that is accepted (RFC 9110, 15.5.16).
    """
    codings = request.headers.get("Content-Encoding", "").lower().split(",")
    if any(coding.strip() not in ("", "identity") for coding in codings):
        reason = "A body with a Content-Encoding is not read: send it uncompressed, without one."
        raise Refusal(415, reason, "not-supported", headers={"Accept-Encoding": "identity"})
