"""From the chart to the cards: the five stages, in order.

    chart -> facts -> findings -> interventions -> cards

Each is one call with typed data on both sides. None of them knows Flask, the network or the clock:
the time of evaluation is an argument, so that a vignette is a plain function test.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from .cards import Printed, Setting, compose
from .chart import Chart
from .content import Content
from .facts import read_facts
from .findings import MotherCase
from .medicines import MedicineIndex


class Evaluation:
    """The content, made ready to evaluate one mother after another."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self._medicines = MedicineIndex(content)
        self._printed = Printed(content)

    def case(self, chart: Chart, now: datetime) -> MotherCase:
        """The facts of a chart, ready to be judged."""
        facts = read_facts(self.content, chart, now)
        return MotherCase(self.content, chart, facts, self._medicines.taken(chart), now)

    def answer(self, chart: Chart, setting: Setting, now: datetime) -> bytes:
        """The response for a chart as of ``now``, which must carry an offset, as JSON.

        Raises ``NothingEvaluated`` if no card could be judged.
        """
        return orjson.dumps({"cards": compose(self.case(chart, now), setting, self._printed)})

    def cards(self, chart: Chart, setting: Setting, now: datetime) -> list[dict[str, Any]]:
        """The cards of the same response, to look at."""
        cards: list[dict[str, Any]] = orjson.loads(self.answer(chart, setting, now))["cards"]
        return cards
