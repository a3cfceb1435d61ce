"""Interventions: of all that could help, what would help her."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from ..content.conditions import Because, Case, Condition, Not, Truth

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..content.schema import Card, Finding, Guard, Intervention

RecommendationStatus = Literal[
    "open",  # it would help, and nobody has asked for it yet
    "ordered",  # it was asked for or done already
    "held-back",  # a finding forbids it now
    "guarded",  # a guard is open, or could not be checked
    "ask",  # whether it would help is not known
    "not-needed",
]


class Patient(Case, Protocol):
    """A case that can be judged by any condition of the content (``case.PatientCase``)."""

    content: Content
    faults: dict[str, str]

    def holds(self, kind: str, label: str, when: Condition, unless: Condition | None) -> Truth: ...


class Recommendation(msgspec.Struct):
    """Where one intervention stands for this mother."""

    intervention: Intervention
    status: RecommendationStatus
    held_back_by: Finding | None = None
    missing: list[str] = []
    guards: dict[Truth, list[Guard]] = {}  # open, clear, not known
    unrecorded: bool = False  # whether it is in use already is not known

    def do(self, case: Patient) -> str:
        """What it says to do, for her."""
        label = self.intervention.label
        for words in self.intervention.worded:
            if case.holds("words of", label, words.when, None) is True:
                return words.do.say(case)
        return self.intervention.do.say(case)

    def support(self, case: Patient, because: Because) -> None:
        """Put why it is offered into ``because``: also that it is recorded as not in use."""
        self.intervention.when.support(case, because)
        in_use = self.intervention.unless_in_use
        if in_use is not None and not self.unrecorded:
            (in_use.part if isinstance(in_use, Not) else in_use).support(case, because)


def recommend(card: Card, case: Patient) -> list[Recommendation]:
    """Where each of a card's interventions stands, in the card's order. Never raises."""
    return [_recommend(case.content.interventions[name], case) for name in card.interventions]


def _recommend(intervention: Intervention, case: Patient) -> Recommendation:
    label = intervention.label
    needed = case.holds("intervention", label, intervention.when, intervention.unless)
    if needed is False or (needed is None and not intervention.ask_if_unknown):
        return Recommendation(intervention, "not-needed")
    in_use: Truth = False
    if intervention.unless_in_use is not None:
        in_use = case.holds("intervention", label, intervention.unless_in_use, None)
    if in_use or (case.faults and f"intervention {label}" in case.faults):
        return Recommendation(intervention, "not-needed")
    if case.ordered(intervention.id) is True:
        return Recommendation(intervention, "ordered")
    for finding in intervention.held_back_by:
        if case.finding(finding) is True:
            return Recommendation(intervention, "held-back", case.content.findings[finding])
    if needed is None:
        missing = list(dict.fromkeys(intervention.when.missing(case)))
        return Recommendation(intervention, "ask", missing=missing)
    if not intervention.guards:
        return Recommendation(intervention, "open", unrecorded=in_use is None)
    guards = check_guards(intervention, case)
    status: RecommendationStatus = "guarded" if guards[True] or guards[None] else "open"
    return Recommendation(intervention, status, guards=guards)


def check_guards(intervention: Intervention, case: Patient) -> dict[Truth, list[Guard]]:
    """Its guards: open (true), clear (false), and those that could not be checked (none)."""
    checked: dict[Truth, list[Guard]] = {True: [], False: [], None: []}
    for name in intervention.guards:
        guard = case.content.guards[name]
        checked[case.holds("guard", guard.label, guard.when, None)].append(guard)
    return checked
