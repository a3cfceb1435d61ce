"""What was decided on one card: what it says and what one can do with it, before it is JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .card_json import Indicator, Link, Told

if TYPE_CHECKING:
    from ..content.schema import Card
    from .findings import Contraindications


def reason_of(told: Told) -> str:
    """One of what stands behind a card, in the words of which a digest is made."""
    value = told.get("value")
    answer = value if isinstance(value, str) else ""
    return f"{told['fact']} {told.get('finding', '')} {answer}"


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A suggestion to delete a draft order: what it is called, and its id in the hook's context."""

    name: str
    reference: str


@dataclass
class CardDecision:
    """A card that is to be shown to whoever looks at one patient's chart.

    ``orders`` are the names of the orders that it is about. ``birth`` is the day of the birth for
    which an override of it counts, if it counts for one.
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
    # What was checked of each intervention, or of each order by its key.
    contraindications: dict[str, Contraindications] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)  # by address
    orders: list[str] = field(default_factory=list)
    birth: str | None = None

    @property
    def detail(self) -> str:
        """Its paragraphs, as Markdown."""
        return "\n\n".join(paragraph for paragraph in self.paragraphs if paragraph)

    @property
    def about(self) -> str:
        """The orders that it is about, by their keys; empty if it is about none."""
        if self.card.body != "order":
            return ""
        keys = (told["value"] for told in self._behind if "interaction" not in told)
        return "+".join(map(str, keys))

    @property
    def reasons(self) -> set[str]:
        """What stands behind it: facts, with what was found of them or answered.

        Not the numbers: they are others each time. That they are worse, a finding says. Of one that
        is overridden for a birth, that birth alone.
        """
        if self.birth is not None:
            return {f"birth  {self.birth}"}
        return {reason_of(told) for told in self._behind}

    @property
    def is_never_suppressed(self) -> bool:
        """Whether no override holds it back: as its content says, or because something failed."""
        asks = self.card.body == "data-needed"
        return self.card.never_suppressed or (asks and self.indicator != self.card.indicator)

    @property
    def _behind(self) -> list[Told]:
        return [told for told in self.because if "problem" not in told]


@dataclass(frozen=True, slots=True)
class ShownCard:
    """A card as it was shown: what was decided, and the identifiers that the answer has for it."""

    decision: CardDecision
    uuid: str
    suggestions: Mapping[str, str]  # by their uuid: interventions, with a plus sign between two
