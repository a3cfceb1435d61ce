"""Medicines together: which of them are not given beside one another, or only with care (P22)."""

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
    """Two medicines, and what is said of them together."""

    one: TakenMedicine
    other: TakenMedicine
    interaction: Interaction

    @property
    def key(self) -> frozenset[str]:
        """What makes it the same pair, whichever comes first."""
        return frozenset((self.one.key, self.other.key))

    @property
    def severity(self) -> Severity:
        """How much is said against it."""
        return self.interaction.severity

    def across_from(self, medicine: TakenMedicine) -> TakenMedicine:
        """The one of the two that is not this one."""
        return self.other if medicine.key == self.one.key else self.one


def pairs_among(medicines: Iterable[TakenMedicine], content: Content) -> list[Pair]:
    """Each two of some medicines of which something is said, the most severe first."""
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
    """Each of some medicines of which something is said beside this one, the most severe first."""
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
