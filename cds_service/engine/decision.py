"""What was decided on one card: what it says and what one can do with it, before it is JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

from .suppression import Shown

if TYPE_CHECKING:
    import orjson

    from ..content.conditions import Truth
    from ..content.schema import Card, Guard

Checked = dict["Truth", list["Guard"]]  # guards that are present, absent or not known


class Told(TypedDict, total=False):
    """One of what stands behind a card, as it is told to machines.

    A fact with its value, a medicine or an order, two medicines that interact, or with a
    ``problem`` what could not be used.
    """

    fact: str
    finding: str
    measure: str
    value: str | float | None
    unit: str
    time: str
    interaction: str
    severity: str
    problem: str
    band: str
    matched: str
    references: list[str]


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A suggestion to delete a draft order: what it is called, and its id in the hook's context."""

    uuid: str
    name: str
    reference: str


@dataclass
class CardDecision:
    """A card that is to be shown to whoever looks at one mother's chart.

    ``offered`` are its suggestions by their UUID: the interventions of each, with a plus sign
    between two. ``orders`` are the names of the orders that it is about. ``birth`` is the day of
    the birth for which an override of it counts, if it counts for one.
    """

    card: Card
    uuid: str
    summary: str
    indicator: str
    paragraphs: list[str]
    because: list[Told] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)
    evidence: list[str] = field(default_factory=list)
    interventions: list[str] = field(default_factory=list)
    offered: dict[str, str] = field(default_factory=dict)
    to_take_back: list[TakenBack] = field(default_factory=list)
    guards: dict[str, Checked] = field(default_factory=dict)  # by what they were checked for
    links: dict[str, orjson.Fragment] = field(default_factory=dict)  # by address
    orders: list[str] = field(default_factory=list)
    birth: str | None = None

    @property
    def detail(self) -> str:
        """Its paragraphs, as Markdown."""
        return "\n\n".join(paragraph for paragraph in self.paragraphs if paragraph)

    @cached_property
    def shown(self) -> Shown:
        """What it is and what stands behind it, for overrides and the log of cards.

        Asked for once it is decided; of what changes afterwards, only its paragraphs, it has none.
        """
        because = [told for told in self.because if "problem" not in told]
        orders: list[str] = []
        if self.card.body == "order":
            orders = [str(told["value"]) for told in because if "interaction" not in told]
        asks = self.card.body == "data-needed"
        return Shown(
            self.uuid,
            self.card.id,
            "+".join(orders),
            self.indicator,
            tuple(self.interventions),
            self.offered,
            because,
            self.card.never_quiet or (asks and self.indicator != self.card.indicator),
            self.birth,
        )
