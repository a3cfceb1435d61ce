"""Admission: which calls are answered, how many at once, and how much each may send.

A call that is refused takes no place and uses up no token.
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
    """A call that is answered: who made it, within which bounds, and until when its body comes."""

    caller: Caller
    bounds: Bounds
    most_bytes: int
    body_seconds: float

    def read_body(self) -> bytes:
        """The body, which is held within the bounds. Raises as they do, and as ``read_body``."""
        announced = min(request.content_length or 0, self.most_bytes)
        self.bounds.hold(announced)
        body = read_body(self.body_seconds)
        self.bounds.hold(weight_of(body) - announced)
        return body


class Admission:
    """Lets calls of the services in, those of all workers' threads within the same limits."""

    def __init__(self, settings: Settings, callers: Callers) -> None:
        self._callers = callers
        self._most_bytes, self._body_seconds = settings.max_body_bytes, settings.body_ms / 1000
        self._memory = Memory()
        self._for_all = ConcurrencyLimit(settings.at_once)
        self._for_each = ConcurrencyLimit(settings.at_once, callers.are_several)

    @contextmanager
    def admit(self, service_id: str, *paths: str) -> Iterator[Admitted]:
        """While the block runs, a call that posts JSON to a service is answered.

        Its token must be for one of ``paths``. Raises ``Refusal`` or ``TooBusyError``.
        """
        if service_id not in HOOKS:
            raise Refusal(404, "There is no such service.", "not-found")
        note(service=service_id)
        if came_too_late():  # it takes no place, and its token is not used up
            _must_be_json()
            raise too_slow()
        token = self._callers.read(request.headers.get("Authorization"), *paths)
        with self._for_all.slot_for(None):  # who is no caller was refused before, and takes none
            caller = self._callers.admit(token)
            note(client=caller.issuer)
            must_accept_json()
            _must_be_json()
            _must_not_be_encoded()
            with self._for_each.slot_for(caller.issuer), self._memory.bounds() as bounds:
                yield Admitted(caller, bounds, self._most_bytes, self._body_seconds)


def must_accept_json() -> None:
    """Raises ``Refusal`` (406) if the caller takes no JSON."""
    accepted = request.headers.get("Accept", "").strip()
    if accepted in ("", "*/*", "application/json"):
        return
    qualities: dict[str, float] = {}
    for written, quality in request.accept_mimetypes:
        kind = written.partition(";")[0].strip().lower()  # whatever its charset
        qualities[kind] = max(quality, qualities.get(kind, 0.0))
    for kind in ("application/json", "application/*", "*/*"):  # the closest range decides
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
    """Raises ``Refusal`` (415) if the body is compressed, or coded in another way.

    The answer says what may be sent (RFC 9110, 15.5.16).
    """
    codings = request.headers.get("Content-Encoding", "").lower().split(",")
    if any(coding.strip() not in ("", "identity") for coding in codings):
        reason = "A body with a Content-Encoding is not read: send it uncompressed, without one."
        raise Refusal(415, reason, "not-supported", headers={"Accept-Encoding": "identity"})
