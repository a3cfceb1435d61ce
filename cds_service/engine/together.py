"""Interactions: which medicines must not be taken together, or only with care (row P22)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..content.schema import SEVERITIES

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..content.schema import Interaction, Severity
    from .medicines import TakenMedicine

SAYS: dict[Severity, str] = {
    "contraindicated": "contraindicated together",
    "avoid": "not advised together",
    "caution": "together with care only",
}
TO_WARN_OF: tuple[Severity, ...] = ("contraindicated", "avoid")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two medicines, and the interaction between them."""

    one: TakenMedicine
    other: TakenMedicine
    interaction: Interaction

    @property
    def key(self) -> frozenset[str]:
        """The keys of the two medicines, in no order: the same for the same pair."""
        return frozenset((self.one.key, self.other.key))

    @property
    def severity(self) -> Severity:
        """The severity of the interaction."""
        return self.interaction.severity

    def across_from(self, medicine: TakenMedicine) -> TakenMedicine:
        """The medicine of the pair that is not the given one."""
        return self.other if medicine.key == self.one.key else self.one


def pairs_among(medicines: Iterable[TakenMedicine], content: Content) -> list[Pair]:
    """The pairs of interacting medicines among those given, the most severe first."""
    known = [each for each in medicines if each.key in content.paired]
    return _in_order(
        pair
        for place, medicine in enumerate(known)
        for other in known[place + 1 :]
        for pair in _pair(medicine, other, content)
    )


def pairs_with(
    medicine: TakenMedicine, others: Iterable[TakenMedicine], content: Content
) -> list[Pair]:
    """The pairs of ``medicine`` with each of ``others`` that interacts, the most severe first."""
    if medicine.key not in content.paired:
        return []
    return _in_order(pair for other in others for pair in _pair(medicine, other, content))


def _pair(medicine: TakenMedicine, other: TakenMedicine, content: Content) -> Iterator[Pair]:
    for one, two in ((medicine, other), (other, medicine)):
        interaction = content.pairs.get((one.key, two.key))
        if interaction is not None:
            yield Pair(one, two, interaction)


def _in_order(pairs: Iterable[Pair]) -> list[Pair]:
    each_once = {pair.key: pair for pair in pairs}
    return sorted(
        each_once.values(),
        key=lambda pair: (SEVERITIES.index(pair.severity), pair.one.key, pair.other.key),
    )
