"""Interventions: which of those of a card would help the patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from ..content.conditions import Because, Not, Truth

if TYPE_CHECKING:
    from ..content.schema import Card, Finding, Intervention
    from .findings import Contraindications, Findings

RecommendationStatus = Literal[
    "open",  # it would help, and nobody has asked for it yet
    "asked-for",  # it was asked for or done already
    "held-back",  # a finding forbids it now
    "contraindicated",  # a contraindication is present, or not known to be absent
    "ask",  # whether it would help is not known
    "not-needed",
]


class Recommendation(msgspec.Struct):
    """Where one intervention stands for one patient.

    ``missing`` are the ids of the facts that are needed to know whether it would help,
    ``contraindications`` the judged ones, if the intervention has some and would help.
    """

    intervention: Intervention
    status: RecommendationStatus
    held_back_by: Finding | None = None
    missing: list[str] = []
    contraindications: Contraindications | None = None
    unrecorded: bool = False  # no record says whether it is in use already

    def do(self, findings: Findings) -> str:
        """The instruction for the clinician, in the words that are meant for this patient."""
        label = self.intervention.label
        for words in self.intervention.worded:
            if findings.holds("words of", label, words.when, None) is True:
                return words.do.say(findings)
        return self.intervention.do.say(findings)

    def support(self, findings: Findings, because: Because) -> None:
        """Add to ``because`` why it is offered, with any record that it is not in use yet."""
        self.intervention.when.support(findings, because)
        in_use = self.intervention.unless_in_use
        if in_use is not None and not self.unrecorded:
            (in_use.part if isinstance(in_use, Not) else in_use).support(findings, because)


def recommend(card: Card, findings: Findings) -> list[Recommendation]:
    """A recommendation for each intervention of a card, in the card's order. Never raises."""
    return [
        _recommend(findings.content.interventions[name], findings) for name in card.interventions
    ]


def _recommend(intervention: Intervention, findings: Findings) -> Recommendation:
    label = intervention.label
    needed = findings.holds("intervention", label, intervention.when, intervention.unless)
    if needed is False or (needed is None and not intervention.ask_if_unknown):
        return Recommendation(intervention, "not-needed")
    in_use: Truth = False
    if intervention.unless_in_use is not None:
        in_use = findings.holds("intervention", label, intervention.unless_in_use, None)
    if in_use or (findings.faults and f"intervention {label}" in findings.faults):
        return Recommendation(intervention, "not-needed")
    if findings.asked_for(intervention.id) is True:
        return Recommendation(intervention, "asked-for")
    for finding in intervention.held_back_by:
        if findings.finding(finding) is True:
            return Recommendation(intervention, "held-back", findings.content.findings[finding])
    if needed is None:
        missing = list(dict.fromkeys(intervention.when.missing(findings)))
        return Recommendation(intervention, "ask", missing=missing)
    if not intervention.contraindications:
        return Recommendation(intervention, "open", unrecorded=in_use is None)
    checked = findings.contraindications(intervention)
    status: RecommendationStatus = "open"
    if checked.present or checked.unknown:
        status = "contraindicated"
    return Recommendation(intervention, status, contraindications=checked)
