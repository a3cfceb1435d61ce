"""From the chart to the cards: the five stages, in order.

    chart -> facts -> findings -> interventions -> cards

Each is one call with typed data on both sides. None of them knows Flask, the network or the clock:
the time of evaluation is an argument, so that a vignette is a plain function test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from .cards import Printed, Setting, compose
from .chart import Chart, Resource
from .content import Content
from .facts import read_facts
from .feeds import FeedIndex
from .findings import MotherCase, say_conclusions
from .medicines import MedicineIndex


@dataclass(frozen=True, slots=True)
class Answered:
    """A response as JSON, the ids of its cards, and how many rules could not be evaluated."""

    body: bytes
    cards: list[str]
    faults: int


class Evaluation:
    """The content, made ready to evaluate one mother after another, in one jurisdiction."""

    def __init__(self, content: Content, jurisdiction: str = "US") -> None:
        self.content = content
        self.jurisdiction = jurisdiction
        self._medicines = MedicineIndex(content)
        self._feeds = FeedIndex(content)
        self._printed = Printed(content)

    def case(self, chart: Chart, now: datetime, orders: Sequence[Resource] = ()) -> MotherCase:
        """The facts of a chart, and the orders that are being made, ready to be judged."""
        facts = read_facts(self.content, chart, now)
        taken = self._medicines.taken(chart)
        return MotherCase(
            self.content,
            chart,
            facts,
            taken,
            now,
            self._medicines.ordered(chart, orders),
            self._feeds.ordered(chart, orders),
            self._medicines.allergies(chart),
            self.jurisdiction,
        )

    def assessed(self, chart: Chart, now: datetime) -> dict[str, str]:
        """What each assessment comes to, in words, by its id."""
        case = self.case(chart, now)
        return {
            name: say_conclusions(case.assess(assessment))
            for name, assessment in self.content.assessments.items()
        }

    def answer(
        self, chart: Chart, setting: Setting, now: datetime, orders: Sequence[Resource] = ()
    ) -> Answered:
        """The response for a chart as of ``now``, which must carry an offset.

        ``orders`` are those that the hook is about, if it is one of orders.

        Raises ``NothingEvaluated`` if no card could be judged.
        """
        case = self.case(chart, now, orders)
        cards = compose(case, setting, self._printed)
        return Answered(orjson.dumps({"cards": cards}), case.shown, len(case.faults))

    def cards(
        self, chart: Chart, setting: Setting, now: datetime, orders: Sequence[Resource] = ()
    ) -> list[dict[str, Any]]:
        """The cards of the same response, to look at."""
        answer = orjson.loads(self.answer(chart, setting, now, orders).body)
        cards: list[dict[str, Any]] = answer["cards"]
        return cards
