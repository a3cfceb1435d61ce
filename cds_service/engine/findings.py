"""Findings: the named judgements on one case.

``Findings`` answers what conditions ask (``conditions.Case``). Each finding is judged at most once.
If a rule cannot be evaluated, that is kept as a fault and the finding is unknown: the others still
come, and a card says which one could not be judged.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from ..content.conditions import Because, Condition, Truth
from ..content.fact_types import FactValue
from ..content.schema import BANDS, MEDICINE_TYPES, NOT_READ
from ..fhir.chart import State, category_of, codings_of, member_of
from ..fhir.times import parse_moment
from .facts import facts_told_by
from .together import Pair, pairs_among, pairs_with

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..content.schema import (
        Assessment,
        Band,
        Card,
        Contraindication,
        Finding,
        Intervention,
        Reading,
    )
    from ..fhir.chart import Resource
    from .case import PatientCase
    from .medicines import TakenMedicine

# The members of records that are read here.
READ = frozenset(
    (
        *("status", "doNotPerform", "authoredOn", "performedDateTime"),
        *("code", "codeCodeableConcept", "category", "reasonCode"),
    )
)
# Requests that were withdrawn were not done; every other status means asked for, or done.
WITHDRAWN = {"revoked", "entered-in-error", "cancelled", "rejected", "failed", "not-done"}
ORDER_TYPES = ("ServiceRequest", "DeviceRequest", "CommunicationRequest", "Task", "Procedure")


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A line of an assessment for one patient: whether it holds, and what is missing for it."""

    finding: Finding
    holds: Truth
    words: dict[str, tuple[str, Truth]]  # by column: the word, and whether it is so
    missing: list[str]  # labels of facts


@dataclass(frozen=True, slots=True)
class Contraindications:
    """The contraindications of an intervention, each judged: present, absent, or not known."""

    present: list[Contraindication]
    absent: list[Contraindication]
    unknown: list[Contraindication]

    def where(self, holds: Truth) -> list[Contraindication]:
        """Those of which this is known."""
        return self.present if holds else self.unknown if holds is None else self.absent

    def all(self) -> Iterable[Contraindication]:
        """All of them."""
        return (*self.present, *self.unknown, *self.absent)


def say_conclusions(conclusions: Iterable[Conclusion]) -> str:
    """The result of an assessment in words: which findings hold, or that this is not known."""
    conclusions = list(conclusions)
    holding = [conclusion.finding.label for conclusion in conclusions if conclusion.holds]
    if holding:
        return " and ".join(holding)
    if any(conclusion.holds is None for conclusion in conclusions):
        return "not assessable"
    return "none of these"


class Findings:
    """What is judged of one patient: each judgement is made when it is first asked for, and kept.

    ``faults`` names each judgement that could not be evaluated, with the type of the error.
    """

    def __init__(self, content: Content, case: PatientCase, faults: dict[str, str]) -> None:
        self.content = content
        self.case = case
        self.facts = case.facts
        self.jurisdiction = case.jurisdiction
        self.now = case.now
        self.faults = faults
        self._pairs_with: dict[str, list[Pair]] = {}  # by what is ordered
        self._findings: dict[str, Truth] = {}
        self._curves: dict[tuple[str, str], float | None] = {}

    def finding(self, finding_id: str) -> Truth:
        """Whether a finding holds; ``None`` if that is not known or could not be evaluated."""
        judged = self._findings
        if finding_id in judged:
            return judged[finding_id]
        finding = self.content.findings[finding_id]
        holds = self.holds("finding", finding.label, finding.when, finding.unless)
        judged[finding_id] = holds
        return holds

    @cached_property
    def closed_gates(self) -> list[str]:
        """The ids of the gates that are closed for the patient, in the order of the content."""
        gates = self.content.gates.values()
        return [gate.id for gate in gates if self.finding(gate.finding) is True]

    def gates_let_through(self, under: Container[str]) -> bool:
        """Whether every gate that is closed for the patient is named in ``under``."""
        closed = self.closed_gates
        return not closed or all(self._named_in(under, gate) is not None for gate in closed)

    def _named_in(self, under: Container[str], gate: str) -> str | None:
        """The gate, or the one whose words it shares, if ``under`` names it; else ``None``."""
        if gate in under:
            return gate
        other = self.content.gates[gate].words_of
        return other if other is not None and other in under else None

    def worded(self, card: Card) -> Card:
        """A card that the gates let through, in the words that are meant for this patient.

        These are its own words, or those for the first gate that is closed.
        """
        gate = ""
        if self.closed_gates:
            gate = self._named_in(card.under, self.closed_gates[0]) or ""
            card = self.content.cards_under[card.id, gate]
        for place, words in enumerate(card.worded):
            if self.holds("words of", card.title, words.when, None) is True:
                return self.content.cards_worded[card.id, gate, place]
        return card

    def assess(self, assessment: Assessment) -> list[Conclusion]:
        """Each line of an assessment, judged."""
        return [self._conclude(assessment, name) for name in assessment.table]

    def _conclude(self, assessment: Assessment, finding_id: str) -> Conclusion:
        holds = self.finding(finding_id)
        missing = dict.fromkeys(self.missing(finding_id)) if holds is None else {}
        labels = [self.content.facts[name].label for name in missing]
        words = {
            column: (word, condition.test(self))
            for column, word, condition in assessment.line(finding_id)
        }
        return Conclusion(self.content.findings[finding_id], holds, words, labels)

    def holds(self, kind: str, label: str, when: Condition, unless: Condition | None) -> Truth:
        """Whether ``when`` holds, and ``unless`` is not known to hold.

        Never raises: if it cannot be evaluated, a fault is noted under ``kind`` and ``label``, and
        the result is not known.
        """
        try:
            truth = when.test(self)
            if unless is None or truth is False or unless.test(self) is not True:
                return truth
            return False
        except Exception as error:
            self.note_fault(f"{kind} {label}", error)
            return None

    def note_fault(self, what: str, error: Exception) -> None:
        """Note that ``what`` could not be evaluated. Of the error only its type is kept."""
        self.faults[what] = type(error).__name__

    def support(self, finding_id: str, because: Because) -> None:
        """Put what makes a finding true into ``because``."""
        self.content.findings[finding_id].when.support(self, because, finding_id)

    def missing(self, finding_id: str) -> Iterable[str]:
        """The facts for want of which a finding is unknown."""
        return self.content.findings[finding_id].when.missing(self)

    @cached_property
    def unread(self) -> list[str]:
        """Of all data that can change a card, what the record system did not give, in words."""
        names = [_say_unread(fact) for fact in self.facts.values() if fact.unread]
        chart = self.case.chart
        if chart.is_whole:
            return names
        for key in self.content.prefetch.values():
            if key.id not in self.content.keys_in_use:
                continue
            if key.new and chart.state(key.id) is State.ABSENT:
                continue
            left_out = chart.say_left_out(key.id)
            if key.id in chart.unavailable:
                names.append(f"{key.label} ({left_out})" if left_out else key.label)
            elif key.id in chart.partial:
                names.append(f"{key.label} ({left_out or 'only in part'})")
        return names

    @cached_property
    def unread_for_orders(self) -> list[str]:
        """``unread``, and each time without an offset: cards about orders do not ask for one."""
        about = [fact.spec.label for fact in self.facts.values() if "days-about" in fact.measures]
        return [*self.unread, *(f"{label} (its time has no offset)" for label in about)]

    def curve(self, curve_id: str, line: str) -> float | None:
        """A line of a curve on the present day after birth; ``None`` before it can be judged."""
        key = (curve_id, line)
        if key not in self._curves:
            self._curves[key] = self._read_curve(curve_id, line)
        return self._curves[key]

    def _read_curve(self, curve_id: str, line: str) -> float | None:
        curve = self.content.curves[curve_id]
        hours = self.facts["delivery-time"].measure("hours")
        if hours is None or hours * 3600 < curve.judged_from:
            return None
        return curve.at(line, hours)

    def taking(self, what: str, beside: str = "") -> Truth:
        """Whether the patient takes a medicine: any, one of a band, with an effect, or by its id.

        Not known as long as a medicine on the list is not in the content; for a band, also if a
        medicine was not read for milk; for an effect, if its effects were not looked through. With
        ``beside``, the id of a medicine, only other medicines count.
        """
        unread = any(self._is_unread(kind) for kind in MEDICINE_TYPES)
        if what == "any":
            return True if self.case.medicines else None if unread else False
        if what in BANDS:
            bands = {self.read(taken)[0] for taken in self.case.medicines}
            return True if what in bands else None if unread or "not-read" in bands else False
        known = [taken.medicine for taken in self.case.medicines if taken.medicine is not None]
        unknown = len(known) < len(self.case.medicines)
        known = [medicine for medicine in known if medicine.id != beside]
        if any(medicine.id == what or what in medicine.effects for medicine in known):
            return True
        if unread or unknown:
            return None
        by_id = what in self.content.medicines
        return False if by_id or all(medicine.effects_known for medicine in known) else None

    def with_orders_beside(self, order: TakenMedicine) -> Findings:
        """These findings for a patient who also takes what is being ordered beside ``order``."""
        others = [each for each in self.case.ordered_beside if each.key != order.key]
        if not others:
            return self
        medicines = [*self.case.medicines, *others]
        return Findings(self.content, replace(self.case, medicines=medicines), self.faults)

    def read(self, taken: TakenMedicine) -> tuple[Band, Reading]:
        """The band of a medicine for this infant, and its reading in the service's jurisdiction.

        The worse band of a reading counts only where its condition is known to hold; the line of
        the reading says for whom it is worse. A medicine that is part of a product which is not
        known in whole is never called compatible.
        """
        reading = taken.read_in(self.jurisdiction)
        worse = reading.worse
        if worse is not None and self.holds("medicine", taken.name, worse.when, None):
            return worse.band, reading
        if taken.part_of and reading.band == "compatible":
            return "not-read", NOT_READ
        return reading.band, reading

    def allergic(self, what: str) -> Truth:
        """Whether the patient is allergic to a medicine by its id, or to any medicine of an effect.

        Not known if the list of allergies says nothing of medicines.
        """
        known = None
        if self.case.allergies is not None:
            medicines = self.content.medicines
            of_effect = (each.id for each in medicines.values() if what in each.effects)
            known = self.case.allergies.include_any([what] if what in medicines else of_effect)
        return None if known is False and self._is_unread("AllergyIntolerance") else known

    def contraindicated(self, medicine_id: str) -> Truth:
        """Whether any contraindication of a medicine is present."""
        checked = self.contraindications(self.content.with_contraindications[medicine_id])
        return True if checked.present else None if checked.unknown else False

    def contraindications(self, intervention: Intervention) -> Contraindications:
        """The contraindications of an intervention, each judged."""
        checked = Contraindications([], [], [])
        for name in intervention.contraindications:
            each = self.content.contraindications[name]
            holds = self.holds("contraindication", each.label, each.when, None)
            checked.where(holds).append(each)
        return checked

    @cached_property
    def pairs(self) -> list[Pair]:
        """The pairs of interacting medicines that the patient takes, the most severe first."""
        return pairs_among(self.case.medicines, self.content)

    def pairs_with(self, order: TakenMedicine) -> list[Pair]:
        """The order, paired with each medicine that is taken or ordered beside it and interacts."""
        if order.key not in self._pairs_with:  # several cards may be about one order
            others = {each.key: each for each in (*self.case.ordered_beside, *self.case.medicines)}
            self._pairs_with[order.key] = pairs_with(order, others.values(), self.content)
        return self._pairs_with[order.key]

    def together(self, what: str) -> Truth:
        """Whether two of the patient's medicines interact: in any way, or by one interaction's id.

        Not known as long as a medicine on the list is not in the content.
        """
        if any(what in ("any", pair.interaction.id) for pair in self.pairs):
            return True
        unknown = any(taken.medicine is None for taken in self.case.medicines)
        unread = any(self._is_unread(kind) for kind in MEDICINE_TYPES)
        return None if unknown or unread else False

    def interacting(self, interaction_id: str, medicine_id: str) -> Truth:
        """Whether the patient takes the other side of an interaction, seen from one medicine."""
        interaction = self.content.interactions[interaction_id]
        across = interaction.opposite(self.content.medicines[medicine_id])
        taken = [self.taking(what, medicine_id) for what in across.of] if across else [False]
        return True if True in taken else None if None in taken else False

    def licensed(self, medicine_id: str) -> Truth:
        """Whether a medicine is licensed in the service's jurisdiction, for any use."""
        medicine = self.content.medicines[medicine_id]
        if self.jurisdiction in medicine.not_licensed_in:
            return False
        return True if self.jurisdiction in medicine.licensed_in else None

    def search_failed(self, fact_id: str) -> bool:
        """Whether a search for records of a fact was made and failed, or gave only a part."""
        return not self.case.chart.failed.isdisjoint(self.content.facts[fact_id].keys)

    def left_out(self, fact_id: str) -> bool:
        """Whether a record of a fact was sent that may be the patient's, and was not used.

        It names no subject, or the patient's id on another FHIR server.
        """
        return fact_id in self._left_out

    @cached_property
    def _left_out(self) -> set[str]:
        records = self.case.chart.perhaps_of_patient
        return set().union(*(facts_told_by(self.content, record) for record in records))

    def asked_for(self, activity: str) -> Truth:
        """Whether an activity was asked for or done since this birth."""
        if activity in self._activities_since_birth:
            return True
        resource = self.content.suggested.get(activity)
        if resource is None:
            return False
        return None if self._is_unread(str(resource["resourceType"])) else False

    def _is_unread(self, resource_type: str) -> bool:
        if not self.case.chart.unavailable:
            return False
        keys = self.content.keys_by_resource.get(resource_type, ())
        return not self.case.chart.unavailable.isdisjoint(keys)

    @cached_property
    def _activities_since_birth(self) -> set[str]:
        """The activities that were asked for or done since this birth."""
        born = self.facts["delivery-time"].moment
        zone = self.now.tzinfo
        assert zone is not None
        activities: set[str] = set()
        for kind in ORDER_TYPES:
            for order in self.case.chart.of_patient(kind):
                if str(order.get("status")) in WITHDRAWN or order.get("doNotPerform") is True:
                    continue
                written = order.get("authoredOn") or order.get("performedDateTime")
                moment = parse_moment(written, zone)
                if born is not None and moment is not None and moment.latest < born.earliest:
                    continue  # for another birth, or before this one
                activities |= self._activities_of(order)
        return activities

    def _activities_of(self, order: Resource) -> set[str]:
        concepts = [member_of(order, "code"), order.get("codeCodeableConcept"), *category_of(order)]
        reasons = order.get("reasonCode")
        activities: set[str] = set()
        for concept in (*concepts, *(reasons if isinstance(reasons, list) else ())):
            for coding in codings_of(concept):
                activities.update(self.content.activities.find(coding))
        return activities


def _say_unread(fact: FactValue) -> str:
    """How many of the records that a sum is made of could not be read, and why."""
    reasons = dict.fromkeys(problem.reason for problem in fact.unread)
    many = "records" if len(fact.unread) > 1 else "record"
    return f"{len(fact.unread)} {many} of {fact.spec.label} ({' and '.join(reasons)})"
