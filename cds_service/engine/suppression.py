"""Suppression: a card that a clinician has overridden is held back for a while.

The override reason decides for how long (its ``suppressed-for`` in ``cards/``). The card comes back
earlier if things have become worse: it has a new reason (a finding, an answer or a medicine), or a
more urgent indicator. A critical card, or one that is ``never-suppressed``, is never held back.

The card is held back for the users for whom the override counts (``Audience``). An override in one
hospital never counts in another. An override by a patient, or by a person related to the patient,
counts for that user alone.

Patients, users and the reasons of cards are known here only by keyed digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

from ..fhir.references import normal_base

if TYPE_CHECKING:
    from .decision import CardDecision

INDICATORS = ("critical", "warning", "info")  # the most urgent first


class Digests:
    """Digests that are keyed by a secret: equal for equal words, and not to be read back."""

    def __init__(self, secret: str) -> None:
        # Keyed BLAKE2b (RFC 7693) takes a key of 64 bytes, and a secret may be longer.
        self._keyed = blake2b(key=blake2b(secret.encode()).digest(), digest_size=16)

    def of(self, *words: str) -> str:
        """The digest of some words, 32 characters long; split differently, they have another."""
        return _digest(self._keyed, "".join([f"{len(word)}:{word}" for word in words]))

    def reasons_of(self, uuid: str, reasons: Iterable[str]) -> set[str]:
        """The digests of a card's reasons; the same reasons of another card have other digests."""
        of_the_card = self._keyed.copy()
        of_the_card.update(f"{uuid}\0".encode())
        return {_digest(of_the_card, reason) for reason in reasons}


def _digest(keyed: blake2b, text: str) -> str:
    """The digest of a text behind what was put into ``keyed`` before; ``keyed`` is not changed."""
    own = keyed.copy()
    own.update(text.encode("utf-8", "replace"))
    return own.hexdigest()


CLINICIANS = ("Practitioner", "PractitionerRole")
ALL_CLINICIANS = ""  # ``counts_for`` of an override that counts for all of them


@dataclass(frozen=True, slots=True)
class Audience:
    """Who looks at whose chart: the client and its tenant, and digests of patient and user.

    ``counts_for`` says for whom this user's override of a card counts: ``ALL_CLINICIANS``, or the
    digest of this user. ``scopes`` are the values of ``counts_for`` that an override must have to
    hold back a card for this user.
    """

    client: str = ""
    tenant: str = ""
    patient: str = ""  # a digest; empty without a secret
    counts_for: str = ALL_CLINICIANS
    scopes: tuple[str, ...] = (ALL_CLINICIANS,)
    before: tuple[Audience, ...] = ()  # the same audience, by former secrets


def audience_of(
    digests: Digests,
    overrides_count_for: Literal["user", "clinicians", "everyone"],
    client: str,
    tenant: str,
    server: str,
    patient_id: str,
    user_id: str,
) -> Audience:
    """The audience of a call. ``server`` is the base address of the FHIR server, if one is named.

    FHIR ids are unique on one server only (FHIR R4, "Resource Id"), and a client may speak for
    several tenants: so client, tenant and server are part of each digest. ``user_id`` is a
    reference, such as ``Practitioner/1``.
    """
    where = (client, tenant, normal_base(server))
    patient = digests.of("patient", *where, patient_id)
    user = digests.of("user", *where, user_id)
    if user_id.partition("/")[0] not in CLINICIANS:
        scopes = (user, ALL_CLINICIANS) if overrides_count_for == "everyone" else (user,)
        return Audience(client, tenant, patient, user, scopes)
    if overrides_count_for == "user":
        return Audience(client, tenant, patient, user, (user,))
    return Audience(client, tenant, patient)


@dataclass(frozen=True, slots=True)
class Overridden:
    """An override of a card, and until when it holds the card back (seconds since 1970)."""

    uuid: str
    until: float
    why: str  # the code of the reason, if one was given
    indicator: str
    reasons: frozenset[str]  # digests


class Suppression:
    """Decides whether an override holds back a card of one patient for one user.

    ``overrides`` are those of the patient by the id of the card, the digest of the orders that the
    card is about (empty without orders), and ``counts_for``. ``scopes`` is as in ``Audience``,
    ``now`` is in seconds since 1970. ``otherwise`` is asked next: it has overrides that were kept
    under another secret.
    """

    def __init__(
        self,
        digests: Digests,
        overrides: Mapping[tuple[str, str, str], Overridden],
        now: float,
        scopes: Sequence[str] = (ALL_CLINICIANS,),
        otherwise: Suppression | None = None,
    ) -> None:
        self._digests, self._overrides, self._now, self._scopes = digests, overrides, now, scopes
        self._otherwise = otherwise

    def override_of(self, decision: CardDecision) -> Overridden | None:
        """The override that holds a card back; ``None`` if the card is shown."""
        if not self._overrides or decision.is_never_suppressed or decision.indicator == "critical":
            return None
        about = self._digests.of(decision.about) if decision.about else ""
        for counts_for in self._scopes:
            override = self._overrides.get((decision.card.id, about, counts_for))
            if override is not None and self._still_holds(override, decision):
                return override
        return self._otherwise.override_of(decision) if self._otherwise is not None else None

    def _still_holds(self, override: Overridden, decision: CardDecision) -> bool:
        """Whether an override has not ended, and nothing has become worse since it was made."""
        if self._now >= override.until:
            return False
        if INDICATORS.index(decision.indicator) < INDICATORS.index(override.indicator):
            return False
        return self._digests.reasons_of(override.uuid, decision.reasons) <= override.reasons


NOTHING_SUPPRESSED = Suppression(Digests(""), {}, 0.0)
