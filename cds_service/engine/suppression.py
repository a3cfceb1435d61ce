"""Suppression: a card that a clinician has overridden is not shown for a while.

The reason of the override decides for how long (``suppressed-for`` in ``cards/``). The card comes
back earlier if things have become worse: if a finding, an answer or a medicine stands behind it
that was not there before, or if its indicator is more urgent. A critical card, and one that is
``never-suppressed``, is never held back.

It is held back for those for whom the override counts (``Audience``): those of one hospital never
count in another, and one by a patient, or by a person related to her, counts for that user alone.

Of patients, of users, and of what stood behind a card, only keyed digests are known here.
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
    """Digests by a secret: equal for equal words, and nothing can be read from them."""

    def __init__(self, secret: str) -> None:
        # Keyed BLAKE2b (RFC 7693) takes a key of 64 bytes, and a secret may be longer.
        self._keyed = blake2b(key=blake2b(secret.encode()).digest(), digest_size=16)

    def of(self, *words: str) -> str:
        """The digest of some words, 32 characters long; words that are split otherwise differ."""
        return _digest(self._keyed, "".join([f"{len(word)}:{word}" for word in words]))

    def reasons_of(self, uuid: str, reasons: Iterable[str]) -> set[str]:
        """Those of what stands behind a card; those of another card are others."""
        of_the_card = self._keyed.copy()
        of_the_card.update(f"{uuid}\0".encode())
        return {_digest(of_the_card, reason) for reason in reasons}


def _digest(keyed: blake2b, text: str) -> str:
    """The digest of what ``keyed`` has seen already, and a text."""
    own = keyed.copy()
    own.update(text.encode("utf-8", "replace"))
    return own.hexdigest()


CLINICIANS = ("Practitioner", "PractitionerRole")
ALL_CLINICIANS = ""  # for whom an override counts, where it is not one user


@dataclass(frozen=True, slots=True)
class Audience:
    """Who looks at whose chart: the caller, and digests of the patient and of the user.

    ``counts_for`` is for whom an override of a card shown here counts: ``ALL_CLINICIANS``, or the
    digest of one user. ``heard`` are those whose overrides count for this user.
    """

    client: str = ""
    tenant: str = ""
    patient: str = ""  # nothing without a secret
    counts_for: str = ALL_CLINICIANS
    heard: tuple[str, ...] = (ALL_CLINICIANS,)
    before: tuple[Audience, ...] = ()  # the same, by secrets that were used before


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
    several tenants: so caller, tenant and server are part of each digest. ``user_id`` is a
    reference, such as ``Practitioner/1``.
    """
    where = (client, tenant, normal_base(server))
    patient = digests.of("patient", *where, patient_id)
    user = digests.of("user", *where, user_id)
    if user_id.partition("/")[0] not in CLINICIANS:
        heard = (user, ALL_CLINICIANS) if overrides_count_for == "everyone" else (user,)
        return Audience(client, tenant, patient, user, heard)
    if overrides_count_for == "user":
        return Audience(client, tenant, patient, user, (user,))
    return Audience(client, tenant, patient)


@dataclass(frozen=True, slots=True)
class Overridden:
    """A card that a clinician has overridden, and until when (seconds since 1970)."""

    uuid: str
    until: float
    why: str  # the code of the reason, if one was given
    indicator: str
    reasons: frozenset[str]  # digests


class Suppression:
    """What was said of the cards of one patient, for those whose overrides are ``heard``.

    ``said`` is by card, digest of what it is about, and for whom it counts. What was said under
    another secret is asked ``otherwise``.
    """

    def __init__(
        self,
        digests: Digests,
        said: Mapping[tuple[str, str, str], Overridden],
        now: float,
        heard: Sequence[str] = (ALL_CLINICIANS,),
        otherwise: Suppression | None = None,
    ) -> None:
        self._digests, self._said, self._now, self._heard = digests, said, now, heard
        self._otherwise = otherwise

    def override_of(self, decision: CardDecision) -> Overridden | None:
        """Why a card is not shown again yet; ``None`` if it is."""
        if not self._said or decision.is_never_suppressed or decision.indicator == "critical":
            return None
        about = self._digests.of(decision.about) if decision.about else ""
        for counts_for in self._heard:
            said = self._said.get((decision.card.id, about, counts_for))
            if said is not None and self._still_holds(said, decision):
                return said
        return self._otherwise.override_of(decision) if self._otherwise is not None else None

    def _still_holds(self, said: Overridden, decision: CardDecision) -> bool:
        """Whether an override is not over, and nothing has become worse since."""
        if self._now >= said.until:
            return False
        if INDICATORS.index(decision.indicator) < INDICATORS.index(said.indicator):
            return False
        return self._digests.reasons_of(said.uuid, decision.reasons) <= said.reasons


NOTHING_SUPPRESSED = Suppression(Digests(""), {}, 0.0)
