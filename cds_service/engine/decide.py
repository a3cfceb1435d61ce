"""Cards: which ones come, and what the clinician reads (CDS Hooks 2.0.1, "Card Attributes").

A card has one bottom line, the patient's own numbers, what to do, why, and the evidence, in lines
that read well also where Markdown is not rendered. The words are data of the content; here they are
put together. At most four cards are shown, the most urgent first; a card with nothing new to do is
not shown. Suggestions are built beforehand: only the patient, the encounter, the time and the
author are filled in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..content.conditions import Because, Truth
from ..content.schema import BANDS, INTERACTING, NOT_READ
from ..content.wording import ALSO_MISSING, LONGEST_SUMMARY, NOT_RECORDED, as_sentence
from ..fhir.times import HOUR, MINUTE, say_ago
from .card_json import MOST_CARDS, Told
from .decision import CardDecision, TakenBack
from .facts import MOST_REFERENCES, RECORDED_WHEN
from .interventions import Recommendation, recommend
from .medicines import TakenMedicine
from .render import MOST_CITED, Prerendered, links_of
from .suppression import INDICATORS
from .together import SAYS, TO_WARN_OF, Pair

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..content.fact_types import FactValue
    from ..content.schema import Ask, Band, Card, Evidence, Reading
    from .feeds import OrderedFeed
    from .findings import Contraindications, Findings
    from .render import Backing
    from .suppression import Overridden, Suppression

# How many interventions one card describes in full, less one for each reason why something is held
# back; the others are named in a line. So a card keeps to 120 words.
MOST_WRITTEN_OUT = 3
# The status of a fact about which the card that asks for data asks again, and the status of those
# that other cards need not ask about: known, or asked about there.
UNCLEAR = ("conflicting", "unusable")
TOLD_ELSEWHERE = ("known", *UNCLEAR)
MOST_UNKNOWN = 3  # guards that are named as not known, on a card that also tells of interactions
MOST_WORDS = 120  # on one card
MOST_MEDICINES = 5  # that are named, the first with their lines
MOST_PAIRS = 3  # interactions that are described in full
MOST_IN_A_SUMMARY = 2  # medicines that a summary names as interacting with one
_WORD = re.compile(r"[^\W_]+")
_OF_AN_ORDER = re.compile(r"\*\*[^*\n]+\*\*: ")  # a paragraph with what was read of an order
# How medicines that are named without a line are introduced, by band; and how others are counted.
REST_IS: dict[Band, str] = {
    "avoid": "To avoid",
    "ask-first": "Ask first about",
    "not-read": "Not read",
    "watch": "Watch the infant with",
    "compatible": "Compatible",
}
COUNTED_AS: dict[Band, str] = {
    "avoid": "to avoid",
    "ask-first": "to ask about",
    "not-read": "not read",
    "watch": "to watch the infant with",
    "compatible": "compatible",
}

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


PairKeys = set[frozenset[str]]  # of the interacting pairs that a card of this answer tells already


class NothingEvaluated(Exception):
    """No card could be judged. An empty answer would be read as "no concern"."""


@dataclass(slots=True)
class Decided:
    """The cards of one patient before they are ranked, and those that a finding withholds.

    ``asks`` is the card that asks for data: ``None`` if the hook has none and there was no fault.
    """

    cards: list[CardDecision]
    withheld: list[str]  # the title of each, and the finding that withholds it
    asks: Card | None = None


def decide(findings: Findings, hook: str, prerendered: Prerendered) -> Decided:
    """Judge every card of a hook, but for the one that asks for data.

    A card that cannot be judged or put together is noted in ``findings.faults``, and the card that
    asks for data tells of it. Raises ``NothingEvaluated`` if no card could be judged.
    """
    judged = False
    told_pairs: PairKeys = set()
    decided = Decided([], [])
    asks: Card | None = None
    for card in findings.content.cards.values():
        findings.case.chart.go_on()
        if not findings.gates_let_through(card.under):
            judged = True
            continue
        if card.body == "data-needed":  # last: it tells what went wrong with the others
            if asks is None or hook in card.hooks:
                asks = card
            continue
        if hook not in card.hooks:
            continue
        holds = findings.holds("card", card.title, card.when, card.unless)
        judged = judged or holds is False
        if holds is not True:
            continue
        stronger = next((name for name in card.withheld_by if findings.finding(name) is True), None)
        if stronger is not None:
            judged = True
            decided.withheld.append(f"{card.title} ({findings.content.findings[stronger].label})")
            continue
        try:
            decided.cards += _decide(findings.worded(card), findings, prerendered, told_pairs)
        except Exception as error:
            findings.note_fault(f"card {card.title}", error)
            continue
        judged = True
    if findings.faults and not judged:
        raise NothingEvaluated(", ".join(sorted(findings.faults)))
    if asks is not None and (hook in asks.hooks or findings.faults):
        decided.asks = findings.worded(asks)
    return decided


def suppress(
    cards: Iterable[CardDecision], suppression: Suppression
) -> tuple[list[CardDecision], dict[str, Overridden]]:
    """The cards that are shown, and by id those that a clinician's override holds back."""
    kept: list[CardDecision] = []
    suppressed: dict[str, Overridden] = {}
    for decision in cards:
        said = suppression.override_of(decision)
        if said is None:
            kept.append(decision)
        else:
            suppressed[decision.card.id] = said
    return kept, suppressed


def rank(cards: list[CardDecision], withheld: list[str]) -> list[CardDecision]:
    """At most ``MOST_CARDS``, the most urgent first; the last of them names those left out."""
    ranked = sorted(cards, key=lambda made: (INDICATORS.index(made.indicator), made.card.urgency))
    first = ranked[:MOST_CARDS]
    _say_once(first)
    if first and withheld:
        first[0].paragraphs.append(as_sentence(f"Withheld: {', '.join(withheld)}"))
    if len(ranked) > MOST_CARDS:
        left_out = ", ".join(_title_of(made) for made in ranked[MOST_CARDS:])
        first[-1].paragraphs.append(as_sentence(f"Not shown, as less urgent: {left_out}"))
    return first


def _say_once(cards: list[CardDecision]) -> None:
    """Drop from a less urgent card what a more urgent one says already of the same order."""
    said: set[str] = set()
    for made in cards:
        if made.card.body != "order":
            continue
        made.paragraphs = [paragraph for paragraph in made.paragraphs if paragraph not in said]
        said.update(paragraph for paragraph in made.paragraphs if _OF_AN_ORDER.match(paragraph))


def _title_of(made: CardDecision) -> str:
    """The title of a card that is not shown; of one about orders, with the names of the orders."""
    title = made.card.title
    return f"{title} ({_name_some(made.orders)})" if made.card.body == "order" else title


def _decide(
    card: Card, findings: Findings, prerendered: Prerendered, told_pairs: PairKeys
) -> list[CardDecision]:
    """What is decided on one card: none, one, or one for each order that the card is about."""
    made: list[CardDecision | None]
    if card.body == "order":
        orders: list[TakenMedicine | OrderedFeed]
        orders = [*findings.case.ordered_medicines, *findings.case.ordered_feeds]
        if card.as_one:
            made = [_decide_unchecked(card, findings, prerendered, told_pairs)]
        else:
            made = [
                _decide_order(card, order, findings, prerendered, told_pairs) for order in orders
            ]
    elif card.body == "medicines":
        made = [_decide_medicines(card, findings, prerendered)]
    elif card.body == "against":
        made = [_decide_against(card, findings, prerendered)]
    elif card.body == "together":
        made = [_decide_together(card, findings, prerendered, told_pairs)]
    else:
        made = [_decide_interventions(card, findings, prerendered)]
    return [each for each in made if each is not None]


def _decide_interventions(
    card: Card, findings: Findings, prerendered: Prerendered
) -> CardDecision | None:
    recommendations = recommend(card, findings)
    todo = [recommendation for recommendation in recommendations if recommendation.status == "open"]
    guarded = [each for each in recommendations if each.guards is not None]
    if not (todo or guarded):
        return None
    because: Because = {}
    card.when.support(findings, because)
    for recommendation in todo:
        recommendation.support(findings, because)
    shown = [
        *todo,
        *(recommendation for recommendation in guarded if recommendation.status != "open"),
    ]
    backing = prerendered.backing(
        card, *[recommendation.intervention.id for recommendation in shown]
    )
    plain = [recommendation for recommendation in todo if recommendation.guards is None]
    not_now = _not_now(recommendations)
    written_out = max(1, MOST_WRITTEN_OUT - len(not_now))
    graded = [] if guarded else plain[:written_out]  # a guarded one tells its own grade
    grades = {recommendation.intervention.grade for recommendation in graded}
    is_told_once = len(grades) == 1 and (bool(backing.cited) or len(graded) > 1)
    paragraphs = [
        _numbers(card, findings),
        card.opening.say(findings) if card.opening else "",
        _todo_list(plain, written_out, is_told_once, findings),
        *(_guards_of(each, each.guards, findings) for each in guarded if each.guards),
        _what_else(card, recommendations, not_now, findings),
        _could_not_be_read(findings.unread),
        _evidence(backing, grades if is_told_once else set(), findings),
    ]
    summary = card.summary.say(findings)
    if card.summary_names:
        summary = _with_names(
            summary, [recommendation.intervention.short for recommendation in todo]
        )
    made = _start(card, findings, summary, paragraphs)
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
    made.guards = {each.intervention.id: each.guards for each in guarded if each.guards}
    if card.critical_when is not None and card.critical_when.test(findings) is True:
        made.indicator = "critical"
    return made


def _start(card: Card, findings: Findings, summary: str, paragraphs: Iterable[str]) -> CardDecision:
    """A card with its words, and the rows that it always has."""
    texts = [text for text in paragraphs if text]
    return CardDecision(
        card,
        summary[:LONGEST_SUMMARY],
        card.indicator,
        texts,
        rows=set(card.rows),
        birth=findings.case.day_of_birth if card.overridden_for else None,
    )


def _with_names(
    summary: str, names: list[str], most: int = LONGEST_SUMMARY // len(", "), end: str = ""
) -> str:
    """A summary, followed by as many names as fit, ``most`` at the most, and by ``end``.

    The names that do not fit are counted.
    """
    for shown in range(min(len(names), most), 0, -1):
        rest = len(names) - shown
        text = f"{summary}: {', '.join(names[:shown])}{f' and {rest} more' if rest else ''}{end}"
        if len(text) <= LONGEST_SUMMARY:
            return text
    return f"{summary}{end}"


# --- the detail ---------------------------------------------------------------------------------


def _numbers(card: Card, findings: Findings) -> str:
    """The patient's numbers, a line each, with what is usual and how long ago it was recorded.

    An age that is the same for all of them is said once. A number that is itself a time has none.
    """
    lines: list[str] = []
    ages: list[str] = []
    now = findings.now.timestamp()
    for line in card.table:
        if line.when is not None and line.when.test(findings) is not True:
            continue
        value = line.value.say(findings)
        fact = findings.facts[line.value.fact]
        if value == NOT_RECORDED:
            if findings.closed_gates and fact.status == "unusable":  # else another card asks for it
                lines.append(f"- {line.label}: {_why_unused(fact)}")
                ages.append("")
            continue
        usual = line.usual.say(findings) if line.usual else ""
        is_time = fact.spec.type == "time" or ".held}" in line.value.text
        ages.append(say_ago(fact.moment, now) if fact.moment and not is_time else "")
        lines.append(f"- {line.label}: {value}{_beside(usual, value)}")
    if len(ages) > 1 and len(set(ages)) == 1 and ages[0]:
        ages = [*[""] * (len(ages) - 1), f"all {ages[0]}"]
    return "\n".join(f"{line}{age and ', '}{age}" for line, age in zip(lines, ages, strict=True))


def _beside(usual: str, value: str) -> str:
    """What is usual, in brackets; nothing if the patient's value says the same."""
    if usual in ("", NOT_RECORDED, value):
        return ""
    usual = usual.replace(" (", ", ").replace(")", "")
    return f" ({usual})" if usual.endswith("?") else f" (usual {usual})"


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


def _evidence(backing: Backing, grades: set[str], findings: Findings) -> str:
    """A line with the sources, and with the grade if all that is to be done has the same one."""
    told = [findings.content.grades[grade].word.removesuffix(" evidence") for grade in grades]
    if len(told) != 1:
        return f"Evidence: {backing.cited}." if backing.cited else ""
    return f"Evidence: {told[0]}{backing.cited and f' ({backing.cited})'}."


def _guards_of(
    recommendation: Recommendation, guards: Contraindications, findings: Findings
) -> str:
    """An intervention that has contraindications, with the result of the check for each."""
    intervention = recommendation.intervention
    verdict = "" if recommendation.status == "open" else " Not recommended."
    grade = findings.content.grades[intervention.grade].word
    medicine = findings.content.medicines.get(intervention.medicine or "")
    limits = medicine.say_limits(findings.jurisdiction) if medicine is not None else ""
    head = f"**{intervention.label}** ({grade}).{verdict} {recommendation.do(findings)}"
    return f"{head}{limits and f' {limits}'}\n{_list_guards(guards, findings)}"


GUARD_TITLES: dict[Truth, str] = {True: "Against it", None: "Not known", False: "Clear"}


def _list_guards(
    guards: Contraindications, findings: Findings, most_unknown: int = LONGEST_SUMMARY
) -> str:
    """The guards by result, a line each: present, not known, absent.

    Absent ones are only counted where there are others. At most ``most_unknown`` are named as not
    known.
    """
    lines: list[str] = []
    for truth, title in GUARD_TITLES.items():
        found = guards.where(truth)
        most = most_unknown if truth is None else len(found)
        names = _name_some([guard.short.say(findings) for guard in found], most)
        if truth is False and lines:
            names = f"{len(found)} other{'s' if len(found) > 1 else ''}"
        if found:
            lines.append(as_sentence(f"- {title}: {names}"))
    return "\n".join(lines)


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


def _could_not_be_read(unread: list[str]) -> str:
    return f"Could not be read: {', '.join(unread)}." if unread else ""


# --- why ----------------------------------------------------------------------------------------


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
    return entries + _problems_of(with_problems.values())


def _problems_of(facts: Iterable[FactValue]) -> list[Told]:
    """The records of some facts that were not used, and why."""
    return [
        {
            "fact": fact.spec.id,
            "problem": problem.reason,
            "references": [problem.reference],
        }
        for fact in facts
        for problem in fact.problems[:MOST_REFERENCES]
    ]


# --- a card about an order ----------------------------------------------------------------------


def _decide_order(
    card: Card,
    order: TakenMedicine | OrderedFeed,
    findings: Findings,
    prerendered: Prerendered,
    told_pairs: PairKeys,
) -> CardDecision | None:
    """A card about a medicine or feed that is being ordered; its suggestion takes it back."""
    if not _is_about(card, order, findings, told_pairs):
        return None
    reading = findings.read(order)[1] if isinstance(order, TakenMedicine) else NOT_READ
    medicine = order if isinstance(order, TakenMedicine) and card.cites else None
    guards: Contraindications | None = None
    beyond: list[str] = []  # of its dose, what is more than is allowed
    if medicine is not None and medicine.medicine is not None:
        beyond = medicine.medicine.beyond_limits(findings.jurisdiction, medicine.dose)
    guarded = findings.content.guarded.get(order.key)
    if card.if_guarded and guarded is not None and isinstance(order, TakenMedicine):
        guards = findings.with_orders_beside(order).contraindications(guarded)
        against = guards.present or beyond
        if not against and (card.if_guarded == "open" or not guards.unknown):
            return None
    backing = prerendered.backing(card)
    line = reading.ordered or reading.line
    limits = ""
    if isinstance(order, TakenMedicine) and order.medicine is not None:
        limits = order.medicine.say_limits(findings.jurisdiction)
        limits += f" This order is for more: {', '.join(beyond)}." if beyond else ""
    pairs: list[Pair] = []
    if isinstance(order, TakenMedicine) and (guards or INTERACTING in card.about):
        pairs = _untold(findings.pairs_with(order), told_pairs)
        told_pairs.update(pair.key for pair in pairs)
    before = [
        _numbers(card, findings),
        card.opening.say(findings) if card.opening else "",
        f"**{order.name}**: {' '.join(filter(None, (line, limits)))}"
        if medicine is not None and line
        else "",
        as_sentence(f"{_who_says(reading, findings.content)} names in its place: {reading.instead}")
        if medicine is not None and reading.instead
        else "",
    ]
    checked = ""
    if guards:
        checked = _list_guards(guards, findings, MOST_UNKNOWN if pairs else LONGEST_SUMMARY)
    after = [
        "The order was matched by its name." if order.matched == "name" else "",
        _could_not_be_read(findings.unread_for_orders),
        _evidence(backing, set(), findings),
    ]
    said = card.summary.say(findings)
    name = order.name
    if INTERACTING in card.about:
        name = _names_of(pairs, order)
    summary = f"{name}{'' if said.startswith((':', '.')) else ' '}{said}"
    if card.summary_names and guards:
        # What could not be checked is on the card, and not in its headline: it is no finding.
        found = [*beyond, *(guard.short.say(findings) for guard in guards.present)]
        summary = _with_names(summary, found)
    words_left = MOST_WORDS - sum(map(_words, (summary, *before, checked, *after)))
    sources = prerendered.cited(_evidence_of(pairs))
    named_sources = sources if card.cites else []
    together = _say_together(pairs, words_left, named_sources, order)
    if guards and sum(map(_words, together)) > words_left:
        checked = _list_guards(guards, findings, 1)
    made = _start(card, findings, summary, [*before, checked, *together, *after])
    if INTERACTING in card.about and all(pair.severity not in TO_WARN_OF for pair in pairs):
        made.indicator = "info"
    _offer_to_take_back(made, [order], findings)
    if medicine is not None and medicine.medicine is not None:
        made.links |= prerendered.sources_of(medicine, reading)
    made.links |= backing.links | links_of(named_sources)
    if guards:
        made.guards[order.key] = guards
    made.evidence = list(dict.fromkeys([*backing.evidence, *(source.id for source in sources)]))
    made.because = [_told_of(order), *(_told_together(pair, "orders") for pair in pairs)]
    made.rows.update(row for pair in pairs for row in pair.interaction.rows)
    return made


# --- medicines that are taken in spite of a contraindication ------------------------------------


def _decide_against(
    card: Card, findings: Findings, prerendered: Prerendered
) -> CardDecision | None:
    """A card about medicines that the patient takes in spite of a contraindication in the record.

    Interactions between medicines that are taken have a card of their own (``_decide_together``).
    """
    against = [
        (taken, guards)
        for taken in findings.case.medicines
        if (guarded := findings.content.guarded.get(taken.key)) is not None
        and (guards := [g for g in findings.contraindications(guarded).present if g.of_her_record])
    ]
    if not against:
        return None
    (first, its_guards), *others = against
    shorts = [guard.short.say(findings) for guard in its_guards]
    names = [*shorts, *(taken.name for taken, _ in others)]
    said = f"{first.name}, which she takes"
    summary = _with_names(said, names, len(shorts), card.summary.say(findings))
    lines = [
        as_sentence(f"- {taken.name}: her record has {', '.join(guard.label for guard in guards)}")
        for taken, guards in against
    ]
    paragraphs = [
        "\n".join(lines),
        card.opening.say(findings) if card.opening else "",
        _could_not_be_read(findings.unread),
    ]
    sources = list(dict.fromkeys(e for _, guards in against for g in guards for e in g.evidence))
    cited = prerendered.cited(sources)
    if card.cites and cited:
        paragraphs.append(f"Evidence: {', '.join(source.shortest for source in cited)}.")
    made = _start(card, findings, summary, paragraphs)
    made.links = links_of(cited) if card.cites else {}
    made.because = [
        {
            "fact": "active-medicines",
            "value": taken.key,
            "finding": guard.id,
            "matched": taken.matched,
            "references": taken.references[:MOST_REFERENCES],
        }
        for taken, guards in against
        for guard in guards
    ]
    made.rows.update(row for _, guards in against for guard in guards for row in guard.rows)
    made.evidence = sources
    return made


# --- medicines together -------------------------------------------------------------------------


def _decide_together(
    card: Card, findings: Findings, prerendered: Prerendered, told_pairs: PairKeys
) -> CardDecision | None:
    """A card about medicines that are taken together and interact; a warning if one is severe."""
    pairs = _untold(findings.pairs, told_pairs)
    if not pairs:
        return None
    told_pairs.update(pair.key for pair in pairs)
    summary = f"{_names_of(pairs)}{card.summary.say(findings)}"
    paragraphs = [
        card.opening.say(findings) if card.opening else "",
        _could_not_be_read(findings.unread),
    ]
    words_left = MOST_WORDS - sum(_words(text) for text in (summary, *paragraphs))
    sources = prerendered.cited(_evidence_of(pairs))
    lines = _say_together(pairs, words_left, sources if card.cites else [])
    made = _start(card, findings, summary, [*lines, *paragraphs])
    if any(pair.severity in TO_WARN_OF for pair in pairs):
        made.indicator = "warning"
    made.links = links_of(sources) if card.cites else {}
    made.because = [_told_together(pair, "active-medicines") for pair in pairs]
    made.rows.update(row for pair in pairs for row in pair.interaction.rows)
    made.evidence = [source.id for source in sources]
    return made


def _untold(pairs: list[Pair], told_pairs: PairKeys) -> list[Pair]:
    """The pairs that no card of this answer tells yet: none is told twice."""
    return [pair for pair in pairs if pair.key not in told_pairs]


def _names_of(pairs: list[Pair], first: TakenMedicine | OrderedFeed | None = None) -> str:
    """The names in the most severe pairs, how many more there are, and how severe the first is.

    ``first`` is an order, which is named before the medicine that it interacts with.
    """
    alike = _alike(pairs, first)
    name, others = alike[0][0], alike[0][1][:MOST_IN_A_SUMMARY]
    rest = len(pairs) - len(others)
    more = f" and {rest} more" if rest else ""
    return f"{name} with {', '.join(others)}{more}: {SAYS[pairs[0].severity]}"


def _alike(
    pairs: list[Pair], first: TakenMedicine | OrderedFeed | None = None
) -> list[tuple[str, list[str], str]]:
    """Pairs with one medicine in common and the same line: its name, the others, the line."""
    alike: dict[tuple[str, str], tuple[str, list[str], str]] = {}
    for pair in pairs:
        one = first if isinstance(first, TakenMedicine) else pair.one
        key = one.key, pair.interaction.id
        said = alike.setdefault(key, (one.name, [], pair.interaction.line))
        said[1].append(pair.across_from(one).name)
    return list(alike.values())


def _say_together(
    pairs: list[Pair],
    words_left: int,
    sources: list[Evidence],
    first: TakenMedicine | OrderedFeed | None = None,
) -> list[str]:
    """As many pairs as fit with their lines, one at least; the others by name; then the sources.

    Sources that do not fit are left out: the card links to them.
    """
    alike = _alike(pairs, first)
    for count in range(min(len(alike), MOST_PAIRS), 0, -1):
        lines = [
            f"- **{name} with {_name_some(others)}**: {line}"
            for name, others, line in alike[:count]
        ]
        rest = [f"{name} with {_name_some(others)}" for name, others, _ in alike[count:]]
        more = len(rest) - MOST_PAIRS
        also = "; ".join([*rest[:MOST_PAIRS], *([f"{more} more"] if more > 0 else [])])
        said = ["\n".join(lines), f"Also: {also}." if also else ""]
        cited = list(dict.fromkeys(source.shortest for source in sources))
        said.append(f"Of these together: {_name_some(cited, MOST_CITED)}." if cited else "")
        if _words(" ".join(said)) <= words_left:
            return said
        if count == 1:
            shorter = said[:2] if sources else said
            if rest and _words(" ".join(shorter)) > words_left:
                shorter = [said[0], f"Also {len(rest)} more."]
            return shorter
    return []


def _evidence_of(pairs: list[Pair]) -> list[str]:
    """The ids of the sources of some pairs."""
    return [name for pair in pairs for name in pair.interaction.evidence]


def _told_together(pair: Pair, fact: str) -> Told:
    """A pair, as the extension tells it."""
    references = [*pair.one.references, *pair.other.references]
    return {
        "fact": fact,
        "value": "+".join(sorted(pair.key)),
        "interaction": pair.interaction.id,
        "severity": pair.severity,
        "references": list(dict.fromkeys(references))[:MOST_REFERENCES],
    }


def _decide_unchecked(
    card: Card, findings: Findings, prerendered: Prerendered, told_pairs: PairKeys
) -> CardDecision | None:
    """One card about all orders that were not read for milk or not recognised, each by name."""
    orders = [
        order
        for order in findings.case.ordered_medicines
        if _is_about(card, order, findings, told_pairs)
        and not order.part_of  # the product that it is a part of is listed itself
    ]
    if not orders:
        return None
    in_part = [f"{order.name} ({order.read_in_part})" for order in orders if order.left]
    unknown = [order.name for order in orders if order.medicine is None and not order.left]
    unread = [f"{order.name}{_how_matched(order)}" for order in orders if order.medicine]
    summary = _with_names(card.summary.say(findings), [order.name for order in orders])

    def say(most: int) -> list[str]:
        return [
            f"Look up by name: {_name_some(in_part, most)}." if in_part else "",
            f"Neither a code nor a name in our list: {_name_some(unknown, most)}."
            if unknown
            else "",
            f"In our list, but not read for milk: {_name_some(unread, most)}." if unread else "",
            card.opening.say(findings) if card.opening else "",
            _could_not_be_read(findings.unread_for_orders),
        ]

    made = _start(card, findings, summary, _as_fits(say, MOST_WORDS - _words(summary)))
    _offer_to_take_back(made, orders, findings)
    for order in orders:
        made.links |= prerendered.sources_of(order)
    made.because = [_told_of(order) for order in orders]
    return made


def _is_about(
    card: Card, order: TakenMedicine | OrderedFeed, findings: Findings, told_pairs: PairKeys
) -> bool:
    """Whether a card is about an order: by its id, its effects, its band or an interaction."""
    kinds = order.kinds
    if isinstance(order, TakenMedicine) and order.medicine is not None:
        kinds = kinds | {findings.read(order)[0]}
        if INTERACTING in card.about and _untold(findings.pairs_with(order), told_pairs):
            kinds.add(INTERACTING)
    return not kinds.isdisjoint(card.about) and kinds.isdisjoint(card.not_about)


def _told_of(order: TakenMedicine | OrderedFeed) -> Told:
    """An order, as the extension tells it."""
    return {
        "fact": "orders",
        "value": order.key,
        "matched": order.matched,
        "references": order.references,
    }


def _offer_to_take_back(
    made: CardDecision, orders: Sequence[TakenMedicine | OrderedFeed], findings: Findings
) -> None:
    made.orders = [order.name for order in orders]
    made.to_take_back = [
        TakenBack(order.name, draft)
        for order in orders
        for draft in dict.fromkeys(order.references)
        if not draft.endswith("/?")  # a draft without an id cannot be referred to
    ]


# --- the card that lists medicines, and the one that asks for data ------------------------------


def _decide_medicines(
    card: Card, findings: Findings, prerendered: Prerendered
) -> CardDecision | None:
    """A card that lists the medicines that the patient takes, the worst first.

    At most ``MOST_MEDICINES`` are named with their band, the first of them with their lines; the
    others are counted by band. Medicines that were not read for milk are listed apart, and said to
    be so.
    """
    medicines = [(taken, *findings.read(taken)) for taken in findings.case.medicines]
    if not medicines:
        return None
    medicines.sort(key=lambda read: _rank_of_warning(card, read[0], read[1]))
    said: list[tuple[str, str, Band]] = []
    unread: list[str] = []
    for taken, band, reading in medicines:
        line = _say_of(taken, reading, findings)
        if line is not None:
            said.append((f"{taken.name}{_how_matched(taken)}", line, band))
        elif taken.medicine is not None and not taken.part_of:
            unread.append(f"{taken.name}{_how_matched(taken)}")
    unknown = [taken for taken, *_ in medicines if taken.medicine is None]
    in_part = [f"{taken.name} ({taken.read_in_part})" for taken in unknown if taken.left]
    searched = [taken.name for taken in unknown if taken.named and not taken.left]
    nameless = [taken.name for taken in unknown if not taken.named]
    named = [each for each in medicines if not each[0].part_of or each[1] != "not-read"]
    names = [taken.name for taken, *_ in named]
    summary = _warn(card, named) or _with_names(card.summary.say(findings), names)
    opening = card.opening.say(findings) if card.opening else ""

    def also(most: int) -> list[str]:
        """What was not read or not identified, at most ``most`` of each kind by name."""
        lists = {
            "Not read, look up": unread,
            "Look up by name": in_part,
            "Not in our list, look up by name": searched,
            "No name was sent, ask what it is": nameless,
        }
        named = [
            f"{what}: {_name_some(found, most)}." if found else "" for what, found in lists.items()
        ]
        return [*named, opening, _could_not_be_read(findings.unread)]

    least = _words(" ".join((summary, *_lines_of(said, 1))))
    paragraphs = _as_fits(also, MOST_WORDS - least)
    words_left = MOST_WORDS - sum(_words(text) for text in (summary, *paragraphs))
    made = _start(card, findings, summary, [*_say_read(said, words_left), *paragraphs])
    if any(band == "avoid" or taken.has("lowers-supply") for taken, band, _ in medicines):
        made.indicator = "warning"
    for taken, _, reading in medicines:
        made.links |= prerendered.sources_of(taken, reading)
    made.because = [
        {
            "fact": "active-medicines",
            "value": taken.medicine.id if taken.medicine else taken.name,
            "band": band,
            "matched": taken.matched,
            "references": taken.references[:MOST_REFERENCES],
        }
        for taken, band, _ in medicines
    ]
    made.rows.update(row for m, *_ in medicines if m.medicine for row in m.medicine.rows)
    made.evidence = prerendered.backing(card).evidence
    return made


def _rank_of_warning(card: Card, taken: TakenMedicine, band: Band) -> tuple[int, int, bool, str]:
    """The key to sort medicines on the card by: the first warning that applies, then the band."""
    own = (n for n, kind in enumerate(card.warnings) if kind == band or taken.has(kind))
    rank = next(own, len(card.warnings))
    return rank, BANDS.index(band), taken.medicine is None, taken.key


def _how_matched(taken: TakenMedicine) -> str:
    """How a medicine was recognised, in brackets, if it was not by one code."""
    how = ["by name"] if taken.matched == "name" else []
    if taken.among > 1:
        how.append(f"one of {taken.among} records that match")
    return f" ({', '.join(how)})" if how else ""


def _as_fits(say: Callable[[int], list[str]], words_left: int) -> list[str]:
    """What ``say`` gives with the most names whose text keeps to ``words_left``; one at least."""
    for most in range(MOST_MEDICINES, 1, -1):
        said = say(most)
        if _words(" ".join(said)) <= words_left:
            return said
    return say(1)


def _words(text: str) -> int:
    return len(_WORD.findall(text))


def _say_of(taken: TakenMedicine, reading: Reading, findings: Findings) -> str | None:
    """The line of a medicine, with its source; if it was not read, the start of its LactMed record.

    ``None`` if there is neither.
    """
    medicine, content = taken.medicine, findings.content
    if medicine is None:
        return None
    record = medicine.lactmed.id if medicine.lactmed is not None else ""
    if reading.line is None:
        summary = medicine.summary
        return f"not read by us. LactMed: {summary} {record}" if summary else None
    instead = f" {_who_says(reading, content)} names {reading.instead} instead."
    where = record
    if reading.source in content.evidence:
        where = content.evidence[reading.source].shortest
    limits = medicine.say_limits(findings.jurisdiction)
    return f"{reading.line}{instead if reading.instead else ''} {where}{limits and f'. {limits}'}"


def _who_says(reading: Reading, content: Content) -> str:
    source = content.evidence.get(reading.source or "")
    return (source.known_as or source.shortest) if source is not None else "LactMed"


def _say_read(said: list[tuple[str, str, Band]], words_left: int) -> list[str]:
    """The lines of as many medicines as fit, one at least; then what is said of the others."""
    for count in range(min(len(said), MOST_MEDICINES), 1, -1):
        lines, rest = _lines_of(said, count)
        if _words(f"{lines} {rest}") <= words_left:
            return [lines, rest]
    lines, rest = _lines_of(said, 1)
    if _words(f"{lines} {rest}") > words_left:
        lines, rest = _lines_of(said, 1, named=1)
    return [lines, rest]


def _lines_of(
    said: list[tuple[str, str, Band]], count: int, named: int = MOST_MEDICINES
) -> tuple[str, str]:
    """The lines of the first ``count`` medicines, and a text about the others, by band.

    Medicines up to the place ``named`` are named there; those behind it are counted.
    """
    lines = "\n".join(f"- {name}: {line}" for name, line, _ in said[:count])
    rest: list[str] = []
    for band in BANDS:
        names = [name for name, _, of in said[count:named] if of == band]
        if names:
            rest.append(f"{REST_IS[band]}: {', '.join(names)}.")
    others = [band for *_, band in said[named:]]
    counts = [f"{others.count(band)} {COUNTED_AS[band]}" for band in BANDS if band in others]
    if counts:
        rest.append(f"Others: {', '.join(counts)}.")
    return lines, " ".join(rest)


def _name_some(names: list[str], most: int = MOST_MEDICINES) -> str:
    """The first ``most`` names, and how many more there are."""
    more = len(names) - most
    return f"{', '.join(names[:most])}{f' and {more} more' if more > 0 else ''}"


def _warn(card: Card, medicines: list[tuple[TakenMedicine, Band, Reading]]) -> str:
    """The summary of the card about medicines: the first medicine of each warning, as far as fits.

    Each medicine is named once. "Compatible" is said only if all medicines are.
    """
    warning = ""
    left = [(taken, band) for taken, band, _ in medicines]
    for kind, says in card.warnings.items():
        own = [(taken, band) for taken, band in left if kind == band or taken.has(kind)]
        if not own or (kind == "compatible" and len(own) < len(medicines)):
            continue
        left = [(taken, band) for taken, band in left if kind != band and not taken.has(kind)]
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        joined = "" if says.startswith(":") else " "
        longer = f"{warning}{'; ' if warning else ''}{own[0][0].name}{more}{joined}{says}"
        if warning and len(longer) > LONGEST_SUMMARY:
            break
        warning = longer
    return warning


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
        summary = _with_names(summary, unique)
    opening = card.opening.say(findings) if card.opening else ""
    paragraphs = [opening, "\n".join(lines), _could_not_be_read(findings.unread)]
    made = _start(card, findings, summary, paragraphs)
    if faults:
        made.indicator = "warning"
    made.because = [
        {"fact": name, "problem": findings.facts[name].status}
        for wanted in missing.values()
        for name in wanted
    ]
    made.because += _problems_of(
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
    lines = [f"- {asked}{_in_brackets(_why_unused(first))}."]
    rest = [f"{fact.spec.label}{_in_brackets(_why_unused(fact))}" for fact, _ in others]
    return [*lines, as_sentence(f"- Also for the form: {', '.join(rest)}")] if rest else lines


def _why_unused(fact: FactValue) -> str:
    """Why the records of a fact were not used; empty if there are none."""
    if fact.status == "conflicting":
        return "recorded with values that contradict each other"
    unused = [p.reason for p in fact.problems if not p.withdrawn or p.has_value]
    return f"recorded, but {' and '.join(dict.fromkeys(unused))}" if unused else ""


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
