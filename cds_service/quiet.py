"""Being quiet: a card that a clinician has overridden is held back for a while.

For how long, the reason decides (``quiet`` of the override reasons in ``cards/``). It comes back
before, if things have become worse: a finding, an answer or a medicine behind it that was not
there, or a more urgent indicator. A critical card, and one that is ``never-quiet``, is never held
back.

Of patients, and of what stood behind a card, only keyed digests are known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

INDICATORS = ("critical", "warning", "info")  # the most urgent first


class Digests:
    """Digests by a secret: equal for equal words, and nothing can be read from them."""

    def __init__(self, secret: str) -> None:
        # Keyed BLAKE2b (RFC 7693) takes a key of 64 bytes, and a secret may be longer.
        self._keyed = blake2b(key=blake2b(secret.encode()).digest(), digest_size=16)

    def of(self, *words: str) -> str:
        """The digest of some words, 32 characters long."""
        return _digest(self._keyed, "\0".join(words))

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


@dataclass(frozen=True, slots=True)
class Shown:
    """A card as it was shown."""

    uuid: str
    card: str
    about: str  # the order that it is about, if it is about one
    indicator: str
    interventions: tuple[str, ...]
    offered: Mapping[str, str]  # interventions by the uuid of the suggestion
    because: Sequence[Mapping[str, Any]]  # what stood behind it, as it is told on the card
    never_quiet: bool = False

    @property
    def reasons(self) -> set[str]:
        """What stood behind it: facts, with what was found of them or answered.

        Not the numbers: they are others each time. That they are worse, a finding says.
        """
        return {
            f"{entry['fact']} {entry.get('finding', '')} {value if isinstance(value, str) else ''}"
            for entry in self.because
            for value in (entry.get("value"),)
        }


@dataclass(frozen=True, slots=True)
class Overridden:
    """A card that a clinician has overridden, and until when (seconds since 1970) it is quiet."""

    uuid: str
    until: float
    why: str  # the code of the reason, if one was given
    indicator: str
    reasons: frozenset[str]  # digests


class Quiet:
    """What was said of the cards of one patient, by card and digest of what it is about."""

    def __init__(
        self, digests: Digests, said: Mapping[tuple[str, str], Overridden], now: float
    ) -> None:
        self._digests, self._said, self._now = digests, said, now

    def holds_back(self, shown: Shown) -> Overridden | None:
        """Why a card is not shown again yet; ``None`` if it is."""
        if not self._said or shown.never_quiet or shown.indicator == "critical":
            return None
        about = self._digests.of(shown.about) if shown.about else ""
        said = self._said.get((shown.card, about))
        if said is None or self._now >= said.until:
            return None
        if INDICATORS.index(shown.indicator) < INDICATORS.index(said.indicator):
            return None
        if not self._digests.reasons_of(said.uuid, shown.reasons) <= said.reasons:
            return None
        return said


NOTHING_SAID = Quiet(Digests(""), {}, 0.0)
