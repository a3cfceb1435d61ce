"""The card log: which cards were shown, and which of them are suppressed.

No answer waits for the card log. Shown cards are kept in memory, and a thread of each worker writes
them to the database in batches; the same thread reads new feedback. While the database is not
available, the cards wait in memory, up to a limit, and are written when it is back.
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
from ..engine.decision import ShownCard
from ..engine.suppression import (
    NOTHING_SUPPRESSED,
    Audience,
    Digests,
    Overridden,
    Suppression,
    audience_of,
)
from .database import Database, DatabaseError, ShownRow

EVERY = 1.0  # seconds between two times that the thread writes and reads
AGAIN_AFTER = 2.0  # seconds to the next time after a failure
LATEST = 120.0  # seconds of feedback to read again: a card may be written after its feedback
BATCH = 250  # cards
MOST_WAITING = 40  # batches
PAUSE = 0.03  # seconds between two batches: meanwhile, requests are answered

log = logging.getLogger("cds_service.card_log")

OfCard = tuple[str, str, str]  # a card, the order that it is about, and for whom an override counts


class _Batch:
    """Rows as one piece of JSON, which takes less memory than rows."""

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
    """The cards shown and overridden, by all workers that use one database.

    Digests of patients are made with the first of ``secrets``. Overrides that were stored with
    another of the secrets count too. Without a secret, cards are counted but never suppressed.
    ``suppress`` switches suppression on or off, and ``overrides_count_for`` says for which users
    an override counts (``Settings``).
    """

    def __init__(
        self,
        database: Database,
        content: Content,
        clock: Callable[[], datetime],
        secrets: Sequence[str] = (),
        suppress: bool = True,
        overrides_count_for: Literal["user", "clinicians", "everyone"] = "clinicians",
    ) -> None:
        self._database, self._clock = database, clock
        self._all_digests = [Digests(secret) for secret in secrets]
        self._digests = self._all_digests[0] if self._all_digests else None
        self._suppress = suppress and bool(secrets)
        self._overrides_count_for = overrides_count_for
        # For how many seconds a card is suppressed: by override reason, or by card.
        reasons = content.override_reasons.values()
        self._by_reason = {(r.system, r.id): r.suppressed_for for r in reasons}
        self._otherwise = next((r.suppressed_for for r in reasons if r.otherwise), 0.0)
        self._by_card = {c.id: c.overridden_for for c in content.cards.values() if c.overridden_for}
        self._longest = max([*self._by_reason.values(), *self._by_card.values(), 0.0])
        self._waiting: deque[_Batch] = deque()
        self._adding = threading.Lock()
        self._lock = threading.Lock()
        self._lost = 0
        self._well = True
        self._process = 0
        self._overridden: dict[str, dict[OfCard, Overridden]] = {}  # by the patient's digest
        self._latest: dict[tuple[str, OfCard], float] = {}  # when feedback was last given
        self._read_until = 0.0
        if self._suppress:
            self._well = self._read()

    @property
    def is_well(self) -> bool:
        """Whether the last try to write and read succeeded."""
        return self._well

    def audience(
        self, client: str | None, tenant: str, server: str | None, patient_id: str, user_id: str
    ) -> Audience:
        """The audience of a call: client, tenant, and digests of patient and user.

        Without a secret there are no digests. ``server`` is the address of the FHIR server.
        """
        ids = (client or "", tenant, server or "", patient_id, user_id)
        now, *before = [
            audience_of(digests, self._overrides_count_for, *ids) for digests in self._all_digests
        ] or [Audience(client or "", tenant)]
        return replace(now, before=tuple(before)) if before else now

    def suppression(self, audience: Audience, now: float) -> Suppression:
        """The overrides that count for an audience, at ``now`` in seconds since 1970."""
        self.start()
        found = NOTHING_SUPPRESSED
        if not self._overridden:  # without a secret, it is always empty
            return found
        by_secret = (audience, *audience.before)
        for digests, each in zip(reversed(self._all_digests), reversed(by_secret), strict=True):
            if overridden := self._overridden.get(each.patient):
                found = Suppression(digests, overridden, now, each.scopes, found)
        return found

    def keep(
        self,
        shown: Iterable[ShownCard],
        audience: Audience,
        service: str,
        content: str,
        now: datetime,
    ) -> None:
        """Keep shown cards, to be written soon. If too many wait already, they are lost.

        The number of lost cards is logged. ``content`` is the version of the content.
        """
        self.start()
        moment = int(now.timestamp() * 1000)
        rows = [
            orjson.dumps(self._row_of(card, audience, service, content, moment)) for card in shown
        ]
        if not rows:
            return
        with self._adding:
            if not self._waiting or self._waiting[-1].cards >= BATCH:
                if len(self._waiting) >= MOST_WAITING:
                    self._lost += len(rows)
                    return
                self._waiting.append(_Batch())
            self._waiting[-1].add(rows)

    def start(self) -> None:
        """Read the feedback until now, and start the thread that writes and reads later.

        To be called in each worker before its first call; otherwise that call does it.
        """
        if self._process == os.getpid():
            return
        with self._lock:
            if self._process != os.getpid():  # a fork has no threads of its parent
                self._well = not self._suppress or self._read()
                self._process = os.getpid()
                itself = weakref.ref(self)
                threading.Thread(
                    target=_write_and_read_on, args=(itself,), daemon=True, name="card-log"
                ).start()
                atexit.register(_write_rest, itself)

    def write_and_read(self) -> float:
        """Write and read once. Returns the seconds until the next time."""
        written = self.write()  # if writing fails, feedback is still read
        self._well = (not self._suppress or self._read()) and written
        return EVERY if self._well else AGAIN_AFTER

    def write(self) -> bool:
        """Write the waiting cards; whether all were written. The others stay in the queue."""
        with self._lock:
            while self._waiting:
                with self._adding:
                    batch = self._waiting.popleft()
                try:
                    self._database.keep_shown(batch.document)
                except DatabaseError:
                    with self._adding:
                        self._waiting.appendleft(batch)
                    return False
                if self._waiting:
                    time.sleep(PAUSE)
            if self._lost:
                log.error("%s cards that were shown could not be written, and are lost", self._lost)
                self._lost = 0
        return True

    def _row_of(
        self, shown: ShownCard, audience: Audience, service: str, content: str, moment: int
    ) -> ShownRow:
        digests, decision = self._digests, shown.decision
        about = decision.about
        reasons = digests.reasons_of(shown.uuid, decision.reasons) if digests else ()
        return {
            "uuid": shown.uuid,
            "client": audience.client,
            "tenant": audience.tenant,
            "service": service,
            "card": decision.card.id,
            "about": digests.of(about) if digests and about else "",
            "patient": audience.patient,
            "counts_for": audience.counts_for,
            "indicator": decision.indicator,
            "interventions": " ".join(decision.interventions),
            "offered": " ".join([f"{uuid}={name}" for uuid, name in shown.suggestions.items()]),
            "reasons": " ".join(sorted(reasons)),
            "content": content,
            "shown": moment,
        }

    def _known_reason(self, system: str | None, code: str | None) -> str:
        """The code of a reason that is in the content, else ``OTHER_REASON``; empty without one.

        Stored reasons may be free text.
        """
        if code is None:
            return ""
        return code if (system, code) in self._by_reason else OTHER_REASON

    def _read(self) -> bool:
        """Read new feedback, and drop suppressions that have ended; whether reading succeeded."""
        now = self._clock().timestamp()
        since = max(self._read_until - LATEST, now - self._longest)
        try:
            rows = self._database.feedback_since(since)
        except DatabaseError:
            return False
        overridden = {
            patient_digest: {key: each for key, each in cards.items() if each.until > now}
            for patient_digest, cards in self._overridden.items()
        }
        for row in rows:
            key, patient_digest = (row.card, row.about, row.counts_for), row.patient
            occurred = min(row.occurred, row.received) / 1000
            if occurred < self._latest.get((patient_digest, key), 0.0):
                continue  # there is later feedback on this card
            self._latest[patient_digest, key] = occurred
            cards = overridden.setdefault(patient_digest, {})
            cards.pop(key, None)
            by_reason = self._by_reason.get((row.reason_system, row.reason_code), self._otherwise)
            until = occurred + self._by_card.get(row.card, by_reason)
            if row.outcome == "overridden" and until > now:
                reasons = frozenset(row.reasons.split())
                why = self._known_reason(row.reason_system, row.reason_code)
                cards[key] = Overridden(row.uuid, until, why, row.indicator, reasons)
        self._latest = {
            key: moment for key, moment in self._latest.items() if moment > now - self._longest
        }
        self._overridden = {digest: cards for digest, cards in overridden.items() if cards}
        self._read_until = now
        return True


def _write_and_read_on(card_log: weakref.ref[CardLog]) -> None:
    """Write and read repeatedly, until the card log is garbage-collected."""
    wait = EVERY
    while True:
        time.sleep(wait)
        there = card_log()
        if there is None:
            return
        wait = there.write_and_read()
        del there


def _write_rest(card_log: weakref.ref[CardLog]) -> None:
    there = card_log()
    if there is not None:
        there.write()
