"""The card log: which cards were shown, and which of them are suppressed.

It is kept off the way of an answer. What was shown waits in memory, and a thread of each worker
writes it, in batches; the same thread reads what was overridden since. A database that is lost
slows no card: what was shown waits, as long as there is room, and is written when it is back.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

import orjson

from ..content.compiled import Content
from ..content.schema import OTHER_REASON
from ..engine.suppression import (
    NOTHING_SUPPRESSED,
    Audience,
    Digests,
    Overridden,
    Shown,
    Suppression,
    audience_of,
)
from .database import Database, DatabaseError, ShownRow

EVERY = 1.0  # seconds: it writes and reads
AGAIN_AFTER = 2.0  # once it has failed
LATEST = 120.0  # seconds back that are read again: a card may be written after its feedback
BATCH = 250  # cards
MOST_WAITING = 40  # batches
PAUSE = 0.03  # seconds between two batches, in which requests are answered

log = logging.getLogger("cds_service.ledger")


class _Batch:
    """Rows as JSON, one behind the other: so they take little room, and in one place."""

    def __init__(self) -> None:
        self._rows = bytearray()
        self.cards = 0

    def add(self, rows: Sequence[bytes]) -> None:
        self._rows += b"," if self._rows else b"["
        self._rows += b",".join(rows)
        self.cards += len(rows)

    @property
    def document(self) -> bytes:
        """A JSON array of the rows."""
        return bytes(self._rows + b"]")


class CardLog:
    """What was shown and overridden, of all workers on one database.

    Digests of patients are made with the first of ``secrets``; what was said of those that were
    made with another counts too. Without any there are none: what was shown is counted, and no card
    is quiet. ``be_quiet`` is whether any is, and ``overrides_count_for`` for whom (``Settings``).
    """

    def __init__(
        self,
        database: Database,
        content: Content,
        clock: Callable[[], datetime],
        secrets: Sequence[str] = (),
        be_quiet: bool = True,
        overrides_count_for: Literal["user", "clinicians", "everyone"] = "clinicians",
    ) -> None:
        self._database, self._clock = database, clock
        self._all_digests = [Digests(secret) for secret in secrets]
        self._digests = self._all_digests[0] if self._all_digests else None
        self._be_quiet = be_quiet and bool(secrets)
        self._overrides_count_for = overrides_count_for
        reasons = content.override_reasons.values()
        self._times = {(r.system, r.id): r.quiet for r in reasons}
        self._otherwise = next((r.quiet for r in reasons if r.otherwise), 0.0)
        self._by_card = {c.id: c.overridden_for for c in content.cards.values() if c.overridden_for}
        self._longest = max([*self._times.values(), *self._by_card.values(), 0.0])
        self._waiting: deque[_Batch] = deque()
        self._noting = threading.Lock()
        self._lock = threading.Lock()
        self._lost = 0
        self._well = True
        self._process = 0
        self._said: dict[str, dict[tuple[str, str, str], Overridden]] = {}
        self._heard: dict[tuple[str, str, str, str], float] = {}
        self._read_until = 0.0
        if self._be_quiet:
            self._well = self._read()

    @property
    def is_well(self) -> bool:
        """Whether all that was to be written and read could be, when it was last tried."""
        return self._well

    def audience(
        self, client: str | None, tenant: str, server: str | None, patient_id: str, user_id: str
    ) -> Audience:
        """Who looks at whose chart, as it is known here; no digests without a secret."""
        who = (client or "", tenant, server or "", patient_id, user_id)
        known_as = [
            audience_of(digests, self._overrides_count_for, *who) for digests in self._all_digests
        ]
        if not known_as:
            return Audience(client or "", tenant)
        return replace(known_as[0], before=tuple(known_as[1:])) if known_as[1:] else known_as[0]

    def suppression(self, audience: Audience, now: float) -> Suppression:
        """The overrides that count for an audience, at ``now`` in seconds since 1970."""
        self.start()
        found = NOTHING_SUPPRESSED
        if not self._said:  # as always without a secret
            return found
        known_as = (audience, *audience.before)
        for digests, known in zip(reversed(self._all_digests), reversed(known_as), strict=True):
            if said := self._said.get(known.patient):
                found = Suppression(digests, said, now, known.heard, found)
        return found

    def keep(
        self,
        shown: Iterable[Shown],
        audience: Audience,
        service: str,
        content: str,
        now: datetime,
    ) -> None:
        """Note cards that were shown. They are written soon; too many to wait are only counted."""
        self.start()
        moment = int(now.timestamp() * 1000)
        rows = [
            orjson.dumps(self._row_of(card, audience, service, content, moment)) for card in shown
        ]
        if not rows:
            return
        with self._noting:
            if not self._waiting or self._waiting[-1].cards >= BATCH:
                if len(self._waiting) >= MOST_WAITING:
                    self._lost += len(rows)
                    return
                self._waiting.append(_Batch())
            self._waiting[-1].add(rows)

    def start(self) -> None:
        """Hear what was said until now, and go on to write and read, in this process.

        To be called in each worker before its first call; at the latest, that call does it.
        """
        if self._process == os.getpid():
            return
        with self._lock:
            if self._process != os.getpid():  # a thread does not live on in a fork
                self._well = not self._be_quiet or self._read()
                self._process = os.getpid()
                itself = weakref.ref(self)
                going_on = threading.Thread(
                    target=_go_on, args=(itself,), daemon=True, name="ledger"
                )
                going_on.start()
                atexit.register(_write_rest, itself)

    def go_on(self) -> float:
        """Write and read once; in how many seconds it is to be done again."""
        written = self.write()  # what cannot be written keeps nobody from hearing
        self._well = (not self._be_quiet or self._read()) and written
        return EVERY if self._well else AGAIN_AFTER

    def write(self) -> bool:
        """Write what waits. What cannot be written waits on; whether all was."""
        with self._lock:
            while self._waiting:
                with self._noting:
                    batch = self._waiting.popleft()
                try:
                    self._database.keep_shown(batch.document)
                except DatabaseError:
                    with self._noting:
                        self._waiting.appendleft(batch)
                    return False
                if self._waiting:
                    time.sleep(PAUSE)
            if self._lost:
                log.error("%s cards that were shown could not be noted", self._lost)
                self._lost = 0
        return True

    def _row_of(
        self, shown: Shown, audience: Audience, service: str, content: str, moment: int
    ) -> ShownRow:
        digests = self._digests
        reasons = digests.reasons_of(shown.uuid, shown.reasons) if digests else ()
        return {
            "uuid": shown.uuid,
            "client": audience.client,
            "tenant": audience.tenant,
            "service": service,
            "card": shown.card,
            "about": digests.of(shown.about) if digests and shown.about else "",
            "patient": audience.patient,
            "counts_for": audience.counts_for,
            "indicator": shown.indicator,
            "interventions": " ".join(shown.interventions),
            "offered": " ".join([f"{uuid}={name}" for uuid, name in shown.offered.items()]),
            "reasons": " ".join(sorted(reasons)),
            "content": content,
            "shown": moment,
        }

    def _known_reason(self, system: str | None, code: str | None) -> str:
        """The code of a reason, if the content has it: what is stored may be free text."""
        if code is None:
            return ""
        return code if (system, code) in self._times else OTHER_REASON

    def _read(self) -> bool:
        """Hear what was said since, and forget what is over; whether it could be heard."""
        now = self._clock().timestamp()
        since = max(self._read_until - LATEST, now - self._longest)
        try:
            rows = self._database.said_since(since)
        except DatabaseError:
            return False
        said = {
            patient: {key: each for key, each in cards.items() if each.until > now}
            for patient, cards in self._said.items()
        }
        for row in rows:
            key = (row.card, row.about, row.counts_for)
            occurred = min(row.occurred, row.received) / 1000
            if occurred < self._heard.get((row.patient, *key), 0.0):
                continue  # something was said of it later
            self._heard[row.patient, *key] = occurred
            cards = said.setdefault(row.patient, {})
            cards.pop(key, None)
            by_reason = self._times.get((row.reason_system, row.reason_code), self._otherwise)
            known = self._by_card.get(row.card, by_reason)
            if row.outcome == "overridden" and occurred + known > now:
                reasons = frozenset(row.reasons.split())
                why = self._known_reason(row.reason_system, row.reason_code)
                cards[key] = Overridden(row.uuid, occurred + known, why, row.indicator, reasons)
        self._heard = {
            key: moment for key, moment in self._heard.items() if moment > now - self._longest
        }
        self._said = {patient: cards for patient, cards in said.items() if cards}
        self._read_until = now
        return True


def _go_on(card_log: weakref.ref[CardLog]) -> None:
    """Write and read again and again, as long as anything has the card log."""
    wait = EVERY
    while True:
        time.sleep(wait)
        there = card_log()
        if there is None:
            return
        wait = there.go_on()
        del there


def _write_rest(card_log: weakref.ref[CardLog]) -> None:
    there = card_log()
    if there is not None:
        there.write()
