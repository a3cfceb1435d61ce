"""Cards that offer interventions: what to do, what is held back, and why for this patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...content.conditions import Because
from ...content.wording import as_sentence
from ...fhir.times import HOUR, MINUTE
from ..card_json import Told
from ..decision import CardDecision
from ..interventions import Recommendation, recommend
from ..render import Prerendered
from .parts import (
    UNCLEAR,
    could_not_be_read,
    evidence_line,
    list_contraindications,
    problems_of,
    start_card,
    table_of,
    with_names,
)

if TYPE_CHECKING:
    from ...content.fact_types import FactValue
    from ...content.schema import Card
    from ..findings import Findings

# How many interventions one card describes in full, less one for each reason why something is held
# back; the others are named in a line. So a card keeps to 120 words.
MOST_WRITTEN_OUT = 3
# The status of facts that the card need not ask about: known, or asked about on another card.
TOLD_ELSEWHERE = ("known", *UNCLEAR)
# The unit in which a measure stands in ``because``, and what to divide it by.
MEASURE_UNITS: dict[str, tuple[str | None, float]] = {
    "longest-gap": ("min", MINUTE),
    "covered": ("h", HOUR),
    "held": ("h", HOUR),
    "hours": ("h", 1.0),
    "days": ("d", 1.0),
    "days-about": ("d", 1.0),
    "count": (None, 1.0),
}


def decide_interventions(
    card: Card, findings: Findings, prerendered: Prerendered
) -> CardDecision | None:
    """A card that offers interventions; ``None`` if none is open and none has contraindications."""
    recommendations = recommend(card, findings)
    todo = [recommendation for recommendation in recommendations if recommendation.status == "open"]
    checked = [each for each in recommendations if each.contraindications is not None]
    if not (todo or checked):
        return None
    because: Because = {}
    card.when.support(findings, because)
    for recommendation in todo:
        recommendation.support(findings, because)
    shown = [
        *todo,
        *(recommendation for recommendation in checked if recommendation.status != "open"),
    ]
    backing = prerendered.backing(
        card, *[recommendation.intervention.id for recommendation in shown]
    )
    plain = [recommendation for recommendation in todo if recommendation.contraindications is None]
    not_now = _not_now(recommendations)
    written_out = max(1, MOST_WRITTEN_OUT - len(not_now))
    graded = [] if checked else plain[:written_out]  # one that was checked tells its own grade
    grades = {recommendation.intervention.grade for recommendation in graded}
    is_told_once = len(grades) == 1 and (bool(backing.cited) or len(graded) > 1)
    paragraphs = [
        table_of(card, findings),
        card.opening.say(findings) if card.opening else "",
        _todo_list(plain, written_out, is_told_once, findings),
        *(_say_checked(each, findings) for each in checked),
        _what_else(card, recommendations, not_now, findings),
        could_not_be_read(findings.unread),
        evidence_line(backing, grades if is_told_once else set(), findings),
    ]
    summary = card.summary.say(findings)
    if card.summary_names:
        summary = with_names(
            summary, [recommendation.intervention.short for recommendation in todo]
        )
    made = start_card(card, findings, summary, paragraphs)
    made.interventions = [recommendation.intervention.id for recommendation in todo]
    offer = prerendered.offer(card, *made.interventions)
    made.links = offer.handout | backing.links
    made.rows.update(backing.rows)
    for finding in because.values():
        if finding is not None:
            made.rows.update(findings.content.findings[finding].rows)
    for recommendation in recommendations:
        if recommendation.held_back_by is not None:
            made.rows.update(recommendation.held_back_by.rows)
    made.because = _because(because, findings)
    made.evidence = backing.evidence
    made.contraindications = {
        each.intervention.id: each.contraindications for each in checked if each.contraindications
    }
    if card.critical_when is not None and card.critical_when.test(findings) is True:
        made.indicator = "critical"
    return made


def _todo_list(
    todo: list[Recommendation], written_out: int, grade_is_told: bool, findings: Findings
) -> str:
    """What to do: the first ``written_out`` interventions in full, the others by name.

    Where no record says whether the patient does it already, the card says to check that.
    """
    lines = [
        _todo(recommendation, grade_is_told, findings) for recommendation in todo[:written_out]
    ]
    if any(recommendation.unrecorded for recommendation in todo):
        lines.insert(0, "Check, and start what is missing:\n")
    others = [recommendation.intervention.short for recommendation in todo[written_out:]]
    then = as_sentence(f"\nThen: {', '.join(others)}") if others else ""
    return "\n".join([*lines, then]).rstrip()


def _todo(recommendation: Recommendation, grade_is_told: bool, findings: Findings) -> str:
    intervention = recommendation.intervention
    grade = "" if grade_is_told else f" ({findings.content.grades[intervention.grade].word})"
    head = as_sentence(f"**{intervention.label}**{grade}")
    return f"* {head} {recommendation.do(findings)}"


def _say_checked(recommendation: Recommendation, findings: Findings) -> str:
    """An intervention that has contraindications, with the result of the check for each."""
    intervention = recommendation.intervention
    verdict = "" if recommendation.status == "open" else " Not recommended."
    grade = findings.content.grades[intervention.grade].word
    medicine = findings.content.medicines.get(intervention.medicine or "")
    limits = medicine.say_limits(findings.jurisdiction) if medicine is not None else ""
    head = f"**{intervention.label}** ({grade}).{verdict} {recommendation.do(findings)}"
    checked = recommendation.contraindications
    lines = list_contraindications(checked, findings) if checked is not None else ""
    return f"{head}{limits and f' {limits}'}\n{lines}"


def _not_now(recommendations: list[Recommendation]) -> dict[str, list[str]]:
    """The interventions that are held back, by the finding that does it."""
    held: dict[str, list[str]] = {}
    for recommendation in recommendations:
        if recommendation.held_back_by is not None:
            held.setdefault(recommendation.held_back_by.label, []).append(
                recommendation.intervention.short
            )
    return held


def _what_else(
    card: Card,
    recommendations: list[Recommendation],
    not_now: dict[str, list[str]],
    findings: Findings,
) -> str:
    """What is held back and why, what was asked for already, and one question to the patient."""
    lines = [
        as_sentence(f"Not now, for {reason}: {', '.join(names)}")
        for reason, names in not_now.items()
    ]
    asked_for = [c.intervention.short for c in recommendations if c.status == "asked-for"]
    if asked_for:
        lines.append(as_sentence(f"Already asked for: {', '.join(asked_for)}"))
    wanted = [fact for fact in card.asks_first if findings.facts[fact].status not in TOLD_ELSEWHERE]
    wanted += [fact for recommendation in recommendations for fact in recommendation.missing]
    if wanted:
        lines.append(as_sentence(f"Ask about: {findings.content.facts[wanted[0]].label}"))
    return "\n\n".join(lines)


def _because(because: Because, findings: Findings) -> list[Told]:
    """The facts behind a card, and the records of them that were not used."""
    entries: list[Told] = []
    with_problems: dict[str, FactValue] = {}
    for (fact_id, measure), finding in because.items():
        fact = findings.facts[fact_id]
        entry: Told = {"fact": fact_id}
        if finding is not None:
            entry["finding"] = finding
        if measure == "value":
            value, unit, scale = fact.value, fact.spec.unit, 1.0
        else:
            entry["measure"] = measure
            value = fact.measures.get(measure)
            unit, scale = MEASURE_UNITS.get(measure, (fact.spec.unit, 1.0))
        if value is not None:
            entry["value"] = value if isinstance(value, str) else round(value / scale, 1)
            if unit:
                entry["unit"] = unit
        if fact.time:
            entry["time"] = fact.time
        if fact.references:
            entry["references"] = fact.references
        entries.append(entry)
        if fact.problems:
            with_problems[fact_id] = fact
    return entries + problems_of(with_problems.values())
