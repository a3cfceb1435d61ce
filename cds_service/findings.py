"""Findings: the named judgements on one mother's facts, and the case that holds them.

A ``MotherCase`` answers what conditions ask (``conditions.Case``). Each finding is judged at most
once. If a rule cannot be evaluated, that is kept as a fault and the finding is unknown: the others
still come, and a card says which one could not be judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from .conditions import Condition, Support, Truth
from .content import OWN_ACTIVITY, VALUE_SET
from .facts import FactValue
from .times import parse_moment

if TYPE_CHECKING:
    from .chart import Chart, Resource
    from .content import Content
    from .medicines import TakenMedicine

# Requests that were withdrawn were not done; every other status means asked for, or done.
WITHDRAWN = {"revoked", "entered-in-error", "cancelled", "rejected", "failed", "not-done"}
ORDER_TYPES = ("ServiceRequest", "DeviceRequest", "CommunicationRequest", "Task", "Procedure")


class MotherCase:
    """One mother: her facts, what was judged of them, and what went wrong on the way."""

    def __init__(
        self,
        content: Content,
        chart: Chart,
        facts: dict[str, FactValue],
        medicines: list[TakenMedicine],
        now: datetime,
    ) -> None:
        self.content = content
        self.chart = chart
        self.facts = facts
        self.medicines = medicines
        self.now = now
        self.faults: dict[str, str] = {}
        self._findings: dict[str, Truth] = {}
        self._orders: dict[str, list[Resource]] | None = None

    def fact(self, fact_id: str) -> FactValue:
        """A fact by its id."""
        return self.facts[fact_id]

    def finding(self, finding_id: str) -> Truth:
        """Whether a finding holds; ``None`` if that is not known or could not be evaluated."""
        if finding_id not in self._findings:
            finding = self.content.findings[finding_id]
            self._findings[finding_id] = self.holds(
                f"finding {finding.label}", finding.when, finding.unless
            )
        return self._findings[finding_id]

    def holds(self, name: str, when: Condition, unless: Condition | None) -> Truth:
        """``when``, and not ``unless`` where that is known to hold. Never raises."""
        try:
            if unless is not None and unless.test(self) is True:
                return False
            return when.test(self)
        except Exception as error:
            self.faults[name] = type(error).__name__
            return None

    def support(self, finding_id: str) -> Iterable[Support]:
        """What makes a finding true."""
        return self.content.findings[finding_id].when.support(self)

    def missing(self, finding_id: str) -> Iterable[str]:
        """The facts for want of which a finding is unknown."""
        return self.content.findings[finding_id].when.missing(self)

    def curve(self, curve_id: str, line: str) -> float | None:
        """A line of a curve on her day after birth; ``None`` before it can be judged."""
        curve = self.content.curves[curve_id]
        hours = self.facts["delivery-time"].measure("hours")
        if hours is None or hours * 3600 < curve.judged_from:
            return None
        return curve.at(line, hours)

    def taking(self) -> Truth:
        """Whether she takes any medicine."""
        if self.medicines:
            return True
        keys = [
            key.id
            for key in self.content.prefetch.values()
            if key.resource in ("MedicationRequest", "MedicationStatement")
        ]
        return None if any(self.chart.is_unavailable(key) for key in keys) else False

    def ordered(self, activity: str) -> Truth:
        """Whether an activity was asked for or done since this birth."""
        if self._orders is None:
            self._orders = self._sort_orders()
        if self._orders.get(activity):
            return True
        intervention = self.content.interventions.get(activity)
        resource = intervention.resource if intervention is not None else None
        if resource is None:
            return False
        keys = [k for k in self.content.prefetch.values() if k.resource == resource["resourceType"]]
        return None if any(self.chart.is_unavailable(key.id) for key in keys) else False

    def order_references(self, activity: str) -> list[str]:
        """The requests that made ``ordered`` true."""
        orders = (self._orders or {}).get(activity, [])
        return [f"{order['resourceType']}/{order.get('id', '?')}" for order in orders]

    def _sort_orders(self) -> dict[str, list[Resource]]:
        born = self.facts["delivery-time"].moment
        zone = self.now.tzinfo
        assert zone is not None
        sorted_in: dict[str, list[Resource]] = {}
        for kind in ORDER_TYPES:
            for order in self.chart.listed(kind):
                if order.get("status") in WITHDRAWN or order.get("doNotPerform") is True:
                    continue
                written = order.get("authoredOn") or order.get("performedDateTime")
                moment = parse_moment(written, zone)
                if born is not None and moment is not None and moment.latest < born.earliest:
                    continue  # for another birth, or before this one
                for activity in self._activities_of(order):
                    sorted_in.setdefault(activity, []).append(order)
        return sorted_in

    def _activities_of(self, order: Resource) -> set[str]:
        concepts = [order.get("code"), order.get("codeCodeableConcept")]
        for name in ("category", "reasonCode"):
            if isinstance(order.get(name), list):
                concepts += order[name]
        activities: set[str] = set()
        for concept in concepts:
            codings = concept.get("coding") if isinstance(concept, dict) else None
            for coding in codings if isinstance(codings, list) else ():
                if not isinstance(coding, dict):
                    continue
                pair = (coding.get("system"), coding.get("code"))
                if pair[0] == OWN_ACTIVITY and isinstance(pair[1], str):
                    activities.add(pair[1])
                for intervention in self.content.interventions:
                    if pair in self.content.codes.get(f"{VALUE_SET}activity-{intervention}", ()):
                        activities.add(intervention)
        return activities
