"""What several kinds of card have in common: how a card is begun, its table, its lists of names.

A card has one bottom line, the patient's own numbers, what to do, why, and the evidence, in lines
that read well also where Markdown is not rendered. It has at most 120 words: lists are cut so that
they fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ...content.wording import LONGEST_SUMMARY, NOT_RECORDED, as_sentence
from ...fhir.times import say_ago
from ..card_json import Told
from ..decision import CardDecision
from ..facts import MOST_REFERENCES

if TYPE_CHECKING:
    from ...content.compiled import Content
    from ...content.conditions import Truth
    from ...content.fact_types import FactValue
    from ...content.schema import Card, Reading
    from ..findings import Contraindications, Findings
    from ..medicines import TakenMedicine
    from ..render import Backing

MOST_WORDS = 120  # on one card
MOST_NAMES = 5  # names in one list, of medicines and of others
# The status of a fact about which the card that asks for data asks again.
UNCLEAR = ("conflicting", "unusable")
_WORD = re.compile(r"[^\W_]+")
CHECK_TITLES: dict[Truth, str] = {True: "Against it", None: "Not known", False: "Clear"}


def start_card(
    card: Card, findings: Findings, summary: str, paragraphs: Iterable[str]
) -> CardDecision:
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


def with_names(
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


def name_some(names: list[str], most: int = MOST_NAMES) -> str:
    """The first ``most`` names, and how many more there are."""
    more = len(names) - most
    return f"{', '.join(names[:most])}{f' and {more} more' if more > 0 else ''}"


def count_words(text: str) -> int:
    """The words of a text, as ``MOST_WORDS`` counts them: runs of letters and digits."""
    return len(_WORD.findall(text))


def fit_names(say: Callable[[int], list[str]], words_left: int) -> list[str]:
    """What ``say`` gives with the most names whose text keeps to ``words_left``; one at least."""
    for most in range(MOST_NAMES, 1, -1):
        said = say(most)
        if count_words(" ".join(said)) <= words_left:
            return said
    return say(1)


def table_of(card: Card, findings: Findings) -> str:
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
                lines.append(f"- {line.label}: {why_unused(fact)}")
                ages.append("")
            continue
        usual = line.usual.say(findings) if line.usual else ""
        is_time = fact.spec.type == "time" or line.value.measure == "held"
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


def why_unused(fact: FactValue) -> str:
    """Why the records of a fact were not used; empty if there are none."""
    if fact.status == "conflicting":
        return "recorded with values that contradict each other"
    unused = [p.reason for p in fact.problems if not p.withdrawn or p.has_value]
    return f"recorded, but {' and '.join(dict.fromkeys(unused))}" if unused else ""


def list_contraindications(
    checked: Contraindications, findings: Findings, most_unknown: int = LONGEST_SUMMARY
) -> str:
    """The contraindications by result, a line each: present, not known, absent.

    Absent ones are only counted where there are others. At most ``most_unknown`` are named as not
    known.
    """
    lines: list[str] = []
    for truth, title in CHECK_TITLES.items():
        found = checked.where(truth)
        most = most_unknown if truth is None else len(found)
        names = name_some([each.short.say(findings) for each in found], most)
        if truth is False and lines:
            names = f"{len(found)} other{'s' if len(found) > 1 else ''}"
        if found:
            lines.append(as_sentence(f"- {title}: {names}"))
    return "\n".join(lines)


def evidence_line(backing: Backing, grades: set[str], findings: Findings) -> str:
    """A line with the sources, and with the grade if all that is to be done has the same one."""
    told = [findings.content.grades[grade].word.removesuffix(" evidence") for grade in grades]
    if len(told) != 1:
        return f"Evidence: {backing.cited}." if backing.cited else ""
    return f"Evidence: {told[0]}{backing.cited and f' ({backing.cited})'}."


def could_not_be_read(unread: list[str]) -> str:
    """A sentence with the data that could not be read; empty if there is none."""
    return f"Could not be read: {', '.join(unread)}." if unread else ""


def problems_of(facts: Iterable[FactValue]) -> list[Told]:
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


def how_matched(taken: TakenMedicine) -> str:
    """How a medicine was recognised, in brackets, if it was not by one code."""
    how = ["by name"] if taken.matched == "name" else []
    if taken.among > 1:
        how.append(f"one of {taken.among} records that match")
    return f" ({', '.join(how)})" if how else ""


def who_says(reading: Reading, content: Content) -> str:
    """The name of the source of a reading, as a sentence about it begins."""
    source = content.evidence.get(reading.source or "")
    return (source.known_as or source.shortest) if source is not None else "LactMed"
