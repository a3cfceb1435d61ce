"""From the chart to the cards: the stages, in order.

    chart -> facts -> case -> decide -> suppress -> rank -> render

Each stage is one call that takes and returns typed data; only the last one makes JSON. The chart is
changed once, before facts are read of it: ``leave_out_older_children``. No stage knows Flask, the
network or the clock: the time of evaluation is an argument, so that a vignette is tested by a plain
function call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

import orjson

from ..content.compiled import Content
from ..fhir.chart import Chart, Resource
from .card_json import EXTENSION, Card, Cards, Suppressed
from .cards.data_needed import ask_for_data
from .case import PatientCase
from .decide import decide, rank, suppress
from .decision import CardDecision, ShownCard
from .facts import Facts, leave_out_older_children, read_facts
from .feeds import FeedIndex
from .findings import Findings, say_conclusions
from .medicines import MedicineIndex
from .patient import gets_no_card
from .render import Prerendered, Rendering, SuggestionContext
from .suppression import NOTHING_SUPPRESSED, Overridden, Suppression


@dataclass(frozen=True, slots=True)
class Judged:
    """What was decided for one patient: the cards to show, the most urgent first.

    ``suppressed`` has the cards that are held back, each with the override that does it; ``faults``
    is how many rules could not be evaluated.
    """

    cards: list[CardDecision]
    suppressed: list[tuple[CardDecision, Overridden]]
    faults: int
    facts: Facts


@dataclass(frozen=True, slots=True)
class Answered:
    """A response as JSON, its cards, and how many rules could not be evaluated."""

    body: bytes
    shown: list[ShownCard]
    faults: int
    facts: Facts

    @property
    def cards(self) -> list[str]:
        """The ids of the cards of the response."""
        return [shown.decision.card.id for shown in self.shown]


class Evaluation:
    """The content, made ready to evaluate one patient after another, in one jurisdiction.

    ``handout_of`` gives the address of a handout: see ``render.Prerendered``.
    """

    def __init__(
        self,
        content: Content,
        jurisdiction: str = "US",
        time_zone: tzinfo | None = None,
        handout_of: Callable[[Sequence[str]], str] | None = None,
    ) -> None:
        self.content = content
        self.jurisdiction = jurisdiction
        self.time_zone = time_zone  # of dates, and of times without an offset
        self._medicines = MedicineIndex(content)
        self._feeds = FeedIndex(content)
        self._prerendered = Prerendered(content, handout_of, jurisdiction)

    def case(self, chart: Chart, now: datetime, orders: Sequence[Resource] = ()) -> PatientCase:
        """The patient case of a chart and of the orders that are being made, as of ``now``.

        Children of the patient who are no infants any more are dropped from the chart first: facts
        are not read from their records, and a feed that is ordered for them is not judged.
        """
        leave_out_older_children(chart, now, self.time_zone)
        medicines = self._medicines
        return PatientCase(
            chart=chart,
            facts=read_facts(self.content, chart, now, self.time_zone),
            medicines=medicines.taken(chart),
            now=now,
            jurisdiction=self.jurisdiction,
            allergies=medicines.allergies(chart),
            ordered_medicines=medicines.ordered(chart, orders),
            ordered_beside=medicines.ordered(chart, chart.drafts or orders) if orders else (),
            ordered_feeds=self._feeds.ordered(chart, orders),
        )

    def findings(self, case: PatientCase) -> Findings:
        """The findings of a case, each judged when it is first asked for."""
        return Findings(self.content, case, {})

    def assessed(self, chart: Chart, now: datetime) -> dict[str, str]:
        """The result of each assessment in words, by the id of the assessment."""
        findings = self.findings(self.case(chart, now))
        return {
            name: say_conclusions(findings.assess(assessment))
            for name, assessment in self.content.assessments.items()
        }

    def judge(
        self,
        chart: Chart,
        hook: str,
        now: datetime,
        orders: Sequence[Resource] = (),
        suppression: Suppression = NOTHING_SUPPRESSED,
    ) -> Judged:
        """The cards for a chart as of ``now``, which must carry an offset.

        ``orders`` are the orders that the hook is about; empty if it is not about orders. Cards
        that ``suppression`` holds back are not shown. Raises ``NothingEvaluated`` if no card could
        be judged.
        """
        if gets_no_card(chart.patient, self.content, now):
            return Judged([], [], 0, {})
        case = self.case(chart, now, orders)
        findings = self.findings(case)
        decided = decide(findings, hook, self._prerendered)
        kept, suppressed = suppress(decided.cards, suppression)
        if decided.asks is not None:
            asked = ask_for_data(decided.asks, findings, told=bool(kept))
            more, held_too = suppress([asked] if asked is not None else [], suppression)
            kept, suppressed = [*kept, *more], [*suppressed, *held_too]
        cards = rank(kept, decided.withheld)
        return Judged(cards, suppressed, len(findings.faults), case.facts)

    def answer(
        self,
        chart: Chart,
        suggestion_context: SuggestionContext,
        now: datetime,
        orders: Sequence[Resource] = (),
        suppression: Suppression = NOTHING_SUPPRESSED,
        explain: bool = False,
    ) -> Answered:
        """The response for a chart as JSON, with the cards that ``judge`` decides on.

        With ``explain``, the response also says which cards are held back, until when and why.
        Raises ``NothingEvaluated`` if no card could be judged.
        """
        judged = self.judge(chart, suggestion_context.hook, now, orders, suppression)
        rendering = Rendering(self.content, self._prerendered, suggestion_context, now)
        rendered = [rendering.card(each) for each in judged.cards]
        response: Cards = {"cards": [card for card, _ in rendered]}
        if explain and judged.suppressed:
            told = _explain(judged.suppressed)
            response["extension"] = {EXTENSION: {"suppressed": told, "quiet": told}}
        shown = [each for _, each in rendered]
        return Answered(orjson.dumps(response), shown, judged.faults, judged.facts)

    def cards(
        self,
        chart: Chart,
        suggestion_context: SuggestionContext,
        now: datetime,
        orders: Sequence[Resource] = (),
    ) -> list[Card]:
        """The cards of the response that ``answer`` makes, decoded."""
        answer: Cards = orjson.loads(self.answer(chart, suggestion_context, now, orders).body)
        return answer["cards"]


def _explain(suppressed: list[tuple[CardDecision, Overridden]]) -> list[Suppressed]:
    """The cards that are held back, until when, why if that was told, and for which orders."""
    told: list[Suppressed] = []
    for decision, override in suppressed:
        until = datetime.fromtimestamp(override.until, UTC).isoformat()
        told.append({"card": decision.card.id, "until": until})
        if override.why:
            told[-1]["reason"] = override.why
        if decision.orders:
            told[-1]["orders"] = decision.orders
    return told
