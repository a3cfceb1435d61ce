"""The case: what was read of one patient when her chart is judged. Nothing writes into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ..fhir.chart import Chart
from .facts import Facts
from .feeds import OrderedFeed
from .medicines import Allergies, TakenMedicine


@dataclass(frozen=True, slots=True)
class PatientCase:
    """One patient as of ``now``, in one jurisdiction: the chart, and what was read of it.

    The ``ordered`` ones are those that the hook is about, if it is one of orders;
    ``ordered_beside`` are these and the draft orders that stand beside them. Without a list of
    allergies, nothing is known of them.
    """

    chart: Chart
    facts: Facts
    medicines: Sequence[TakenMedicine]
    now: datetime
    jurisdiction: str = "US"
    allergies: Allergies | None = None
    ordered_medicines: Sequence[TakenMedicine] = ()
    ordered_beside: Sequence[TakenMedicine] = ()
    ordered_feeds: Sequence[OrderedFeed] = ()

    @property
    def day_of_birth(self) -> str:
        """The day of this birth as it is written; empty if it is not known."""
        return (self.facts["delivery-time"].time or "")[:10]
