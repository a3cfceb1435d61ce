"""The patient case: what was read of one patient at one moment. Nothing changes it."""

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
    """One patient as of ``now``, in one jurisdiction: the chart, and what was read from it.

    The children who are too old to be infants are dropped from the chart already.
    ``ordered_medicines`` and ``ordered_feeds`` are what the orders of the hook are about; both are
    empty if the hook is not about orders. ``ordered_beside`` are the medicines of all draft orders
    in the call, with those of the hook among them. If ``allergies`` is ``None``, nothing is known
    of the patient's allergies.
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
        """The date of this birth as it was recorded, without the time; empty if there is none."""
        return (self.facts["delivery-time"].time or "")[:10]
