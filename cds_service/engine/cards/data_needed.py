"""The card that asks for data: what is missing, contradictory, not readable, or not judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...content.wording import ALSO_MISSING, as_sentence
from ..decision import CardDecision
from ..facts import RECORDED_WHEN
from .parts import UNCLEAR, could_not_be_read, problems_of, start_card, why_unused, with_names

if TYPE_CHECKING:
    from ...content.fact_types import FactValue
    from ...content.schema import Ask, Card
    from ..findings import Findings


def ask_for_data(card: Card, findings: Findings, told: bool) -> CardDecision | None:
    """The card that tells what is missing, contradictory, not readable, or could not be judged.

    ``told`` says that other cards tell already what could not be read: while a gate is closed, it
    then needs no card of its own. ``None`` if there is nothing to ask or tell.
    """
    concerns = findings.holds("card", card.title, card.when, card.unless)
    missing: dict[str, list[str]] = {}
    headline: tuple[str, list[str]] | None = None  # the first question that has one, and its facts
    rows: list[str] = []
    unclear: list[FactValue] = []
    unread: list[str] = []
    if concerns is True:
        for ask in findings.content.asks.values():
            wanted = _wanted_by(ask, findings)
            if wanted:
                rows += ask.rows
            # A fact that another line of the card asks for is not asked for twice.
            asked = {name for names in missing.values() for name in names}
            if new := [name for name in wanted if name not in asked]:
                missing[ask.why] = new
                if headline is None and ask.summary is not None:
                    headline = ask.summary.say(findings), new
        if not findings.closed_gates:
            asked_facts = (findings.facts[name] for name in findings.content.asked_facts)
            unclear = [fact for fact in asked_facts if fact.status in UNCLEAR and _is_unclear(fact)]
        unread = [] if told and findings.closed_gates else findings.unread
    if not (missing or unclear or unread or findings.faults):
        return None
    names = [
        *(findings.content.facts[name].label for wanted in missing.values() for name in wanted),
        *(fact.spec.label for fact in unclear),
    ]
    questions = [
        (findings.facts[name], f"{why}: {_ask_for(findings.content.facts[name].ask)}")
        for why, wanted in missing.items()
        for name in wanted
    ]
    questions += [
        (fact, f"{fact.spec.label[:1].upper()}{fact.spec.label[1:]}: {_ask_for(fact.spec.ask)}")
        for fact in unclear
    ]
    lines = _one_question(questions)
    faults = [f"{name} ({kind})" for name, kind in findings.faults.items()]
    if faults:
        lines.append(f"- Could not be evaluated: {', '.join(faults)}. Judge these yourself.")
    summary = card.summary.say(findings)
    unique = list(dict.fromkeys(names))
    if headline is not None:
        summary, asked_in_it = headline
        told_in_it = {findings.content.facts[name].label for name in asked_in_it}
        unique = [name for name in unique if name not in told_in_it]
        summary += ALSO_MISSING if unique else ""
    if faults:
        summary = "Part of the lactation check could not be evaluated"
    elif not names:
        check = "Check" if findings.closed_gates else "Lactation check"
        summary, unique = f"{check} incomplete, could not be read", unread
    if unique:
        summary = with_names(summary, unique)
    opening = card.opening.say(findings) if card.opening else ""
    paragraphs = [opening, "\n".join(lines), could_not_be_read(findings.unread)]
    made = start_card(card, findings, summary, paragraphs)
    if faults:
        made.indicator = "warning"
    made.because = [
        {"fact": name, "problem": findings.facts[name].status}
        for wanted in missing.values()
        for name in wanted
    ]
    made.because += problems_of(
        [*unclear, *(findings.facts[name] for wanted in missing.values() for name in wanted)]
    )
    made.because += [
        {
            "fact": fact.spec.id,
            "problem": "conflicting",
            "references": fact.references,
        }
        for fact in unclear
        if fact.status == "conflicting"
    ]
    made.because += [{"finding": name, "problem": kind} for name, kind in findings.faults.items()]
    made.rows.update(rows)
    return made


def _one_question(questions: list[tuple[FactValue, str]]) -> list[str]:
    """The first question, with why its records were not used; the others only by their fact.

    Clinicians do not answer more than one question on a card: the others belong on the form (S10).
    """
    if not questions:
        return []
    (first, asked), *others = questions
    lines = [f"- {asked}{_in_brackets(why_unused(first))}."]
    rest = [f"{fact.spec.label}{_in_brackets(why_unused(fact))}" for fact, _ in others]
    return [*lines, as_sentence(f"- Also for the form: {', '.join(rest)}")] if rest else lines


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _wanted_by(ask: Ask, findings: Findings) -> list[str]:
    """The facts that an ask of the content wants and that are not known."""
    if not findings.gates_let_through(ask.under):
        return []
    if findings.holds("ask", ask.why, ask.when, ask.unless) is not True:
        return []
    if ask.finding is not None and findings.finding(ask.finding) is not None:
        return []
    wanted = [name for name in ask.facts if _is_wanting(findings.facts[name])]
    if ask.finding is not None:  # its facts are missing, such as a birth
        missing = ((name, findings.facts[name]) for name in findings.missing(ask.finding))
        wanted += [
            name
            for name, fact in missing
            if _is_wanting(fact) or (fact.spec.type == "time" and fact.measure("days") is None)
        ]
    return list(dict.fromkeys(wanted))


def _is_wanting(fact: FactValue) -> bool:
    """Whether a fact has no value, or is a birth of which only the time of recording is known."""
    return fact.value is None or any(each.reason == RECORDED_WHEN for each in fact.problems)


def _ask_for(asked: str) -> str:
    return f"ask {asked}" if asked.startswith(("whether", "how")) else f"ask for {asked}"


def _is_unclear(fact: FactValue) -> bool:
    """Whether to ask again for an unclear fact; not if all it has is a birth without a date."""
    return fact.status == "conflicting" or not fact.spec.before_birth
