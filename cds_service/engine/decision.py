"""Card decisions: what a card says and offers for one patient, before it is rendered as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .card_json import Indicator, Link, Told

if TYPE_CHECKING:
    from ..content.schema import Card
    from .findings import Contraindications


def reason_of(told: Told) -> str:
    """A reason of a card as text, for its digest: the fact, the finding and the answer."""
    value = told.get("value")
    answer = value if isinstance(value, str) else ""
    return f"{told['fact']} {told.get('finding', '')} {answer}"


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A draft order that a suggestion deletes: its name, and the relative reference to it."""

    name: str
    reference: str


@dataclass
class CardDecision:
    """What was decided on one card for one patient.

    ``orders`` are the names of the orders that the card is about.
    ``contraindications`` are those that were checked, by the id of the intervention or medicine.
    ``birth`` is the date of the birth if an override of the card counts for that birth only; else
    ``None``.
    """

    card: Card
    summary: str
    indicator: Indicator
    paragraphs: list[str]
    because: list[Told] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)
    evidence: list[str] = field(default_factory=list)
    interventions: list[str] = field(default_factory=list)
    to_take_back: list[TakenBack] = field(default_factory=list)
    contraindications: dict[str, Contraindications] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)  # by address
    orders: list[str] = field(default_factory=list)
    birth: str | None = None

    @property
    def detail(self) -> str:
        """The text of the card, as Markdown."""
        return "\n\n".join(paragraph for paragraph in self.paragraphs if paragraph)

    @property
    def about(self) -> str:
        """The keys of the orders that the card is about, joined by ``+``; empty without orders."""
        if self.card.body != "order":
            return ""
        keys = (told["value"] for told in self._behind if "interaction" not in told)
        return "+".join(map(str, keys))

    @property
    def reasons(self) -> set[str]:
        """The reasons of the card as text: if one of them is new, an override no longer holds.

        Numbers are left out because they change each time; if one gets worse, a finding says so.
        For a card that is overridden for one birth, the only reason is that birth.
        """
        if self.birth is not None:
            return {f"birth  {self.birth}"}
        return {reason_of(told) for told in self._behind}

    @property
    def is_never_suppressed(self) -> bool:
        """Whether no override holds the card back: the content says so, or a rule failed."""
        asks = self.card.body == "data-needed"
        return self.card.never_suppressed or (asks and self.indicator != self.card.indicator)

    @property
    def _behind(self) -> list[Told]:
        return [told for told in self.because if "problem" not in told]


@dataclass(frozen=True, slots=True)
class ShownCard:
    """A card as it was shown: its decision, and its UUID and those of its suggestions."""

    decision: CardDecision
    uuid: str
    suggestions: Mapping[str, str]  # by UUID: ids of interventions, joined by ``+``
