"""Reports on the outcomes of cards: how many were shown, accepted and overridden, and why.

The figures come from the card log, by card, intervention, week, version of the content and client.
Counts below ``FEWEST`` are hidden, so that no person can be recognised in them. If a hidden count
could be calculated from the others, another one is hidden too.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal, NotRequired, TypedDict

from ..content.compiled import Content
from ..engine.render import TOPIC_SYSTEM
from .database import Database

FEWEST = 5
UNTOLD = "not told"
NO_REASON = "no reason given"
ANOTHER_REASON = "another reason"  # one that is not in the content
OUTCOMES = "urn:lactation-cds:outcome"
MEASURE = "urn:lactation-cds:measure:what-the-cards-achieve"


@dataclass
class Line:
    """The outcomes of one card, or of all cards of a week, a version or a client."""

    name: str
    label: str
    shown: int = 0
    accepted: int = 0
    overridden: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def share(self, count: int) -> float | None:
        """A count as a fraction of the cards shown; ``None`` if one of the two is hidden."""
        if disclose(self.shown) is None or disclose(count) is None or not self.shown:
            return None
        return count / self.shown


@dataclass(frozen=True)
class Report:
    """All figures since a moment."""

    since: datetime
    until: datetime
    lines: dict[str, list[Line]]  # by kind: card, intervention, week, content, client

    @property
    def total(self) -> Line:
        """All cards together."""
        whole = Line("all", "All cards")
        for line in self.lines["card"]:
            whole.shown += line.shown
            whole.accepted += line.accepted
            whole.overridden += line.overridden
            whole.reasons += line.reasons
        return whole


def disclose(count: int) -> int | None:
    """The count, or ``None`` if it is hidden."""
    return count if count == 0 or count >= FEWEST else None


def disclose_all(counts: Mapping[str, int]) -> dict[str, int | None]:
    """Counts of which the sum is known. If only one would be hidden, a second one is hidden too."""
    told = {name: disclose(count) for name, count in counts.items()}
    if sum(count is None for count in told.values()) == 1:
        rest = [name for name, count in told.items() if count]
        if rest:
            told[min(rest, key=lambda name: counts[name])] = None
    return told


def disclosed_text(count: int) -> str:
    """The count as a text; a hidden one as "<5"."""
    told = disclose(count)
    return f"<{FEWEST}" if told is None else f"{told:,}"


def say_reasons(line: Line) -> str:
    """Why a card was overridden, the most frequent reason first."""
    counts = disclose_all(dict(line.reasons.most_common()))
    told = [f"{name} {count:,}" for name, count in counts.items() if count is not None]
    return ", ".join([*told, *(["others not told"] if len(told) < len(counts) else [])])


def report_on(database: Database, content: Content, now: datetime, days: int) -> Report:
    """The figures of the last ``days``. Raises ``DatabaseError``."""
    since = now - timedelta(days=days)
    lines: dict[str, dict[str, Line]] = {
        kind: {} for kind in ("card", "intervention", "week", "content", "client")
    }
    titles = {card.id: card.title for card in content.cards.values()}
    displays = {reason.id: reason.display for reason in content.override_reasons.values()}

    def line(kind: str, name: str, label: str) -> Line:
        return lines[kind].setdefault(name, Line(name, label))

    for row in database.what_came_of_cards(since.timestamp()):
        week = (date(1970, 1, 1) + timedelta(weeks=row.week)).isoformat()
        for each in (
            line("card", row.card, titles.get(row.card, row.card)),
            line("week", week, week),
            line("content", row.content, row.content),
            line("client", row.client, row.client or "anyone"),
        ):
            each.shown += row.cards
            if row.outcome == "accepted":
                each.accepted += row.cards
            elif row.outcome == "overridden":
                each.overridden += row.cards
                told = row.reason_code is not None
                reason = displays.get(row.reason_code, ANOTHER_REASON) if told else NO_REASON
                each.reasons[reason] += row.cards
    for row in database.what_came_of_interventions(since.timestamp()):
        taken = set((row.suggestions or "").split())
        offered = dict(each.split("=", 1) for each in row.offered.split())
        accepted = {name for uuid in taken & offered.keys() for name in offered[uuid].split("+")}
        for name in row.interventions.split():
            intervention = content.interventions.get(name)
            each = line("intervention", name, intervention.label if intervention else name)
            each.shown += row.cards
            each.accepted += row.cards * (name in accepted)
    in_order = {
        kind: sorted(
            found.values(), key=lambda each: (each.name if kind == "week" else "", -each.shown)
        )
        for kind, found in lines.items()
    }
    return Report(since, now, in_order)


def _cells(report: Report) -> Iterator[tuple[str, str, str, int | None]]:
    for kind, lines in report.lines.items():
        for line in lines:
            yield kind, line.name, "shown", disclose(line.shown)
            yield kind, line.name, "accepted", disclose(line.accepted)
            if kind != "intervention":
                yield kind, line.name, "overridden", disclose(line.overridden)
                for reason, count in disclose_all(line.reasons).items():
                    yield kind, line.name, f"overridden: {reason}", count


def as_csv(report: Report) -> str:
    """A report as CSV. Each figure has a line: kind, name, what is counted, and the count."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(("of", "name", "what", "count"))
    for kind, name, what, count in _cells(report):
        writer.writerow((kind, plain(name), plain(what), UNTOLD if count is None else count))
    return written.getvalue()


def plain(text: str) -> str:
    """A text in a form that a spreadsheet does not interpret as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


class Coding(TypedDict):
    """A code in its code system."""

    system: str
    code: str
    display: NotRequired[str]


class Concept(TypedDict):
    """A CodeableConcept."""

    coding: list[Coding]


class Population(TypedDict):
    """The number of cards with an outcome; without ``count`` it is hidden."""

    code: Concept
    count: NotRequired[int]


class Group(TypedDict):
    """The outcomes of one card."""

    code: Concept
    population: list[Population]


class Period(TypedDict):
    """A FHIR Period."""

    start: str
    end: str


class MeasureReport(TypedDict):
    """A FHIR R4 MeasureReport."""

    resourceType: Literal["MeasureReport"]
    status: Literal["complete"]
    type: Literal["summary"]
    measure: str
    date: str
    period: Period
    group: NotRequired[list[Group]]


def as_measure_report(report: Report) -> MeasureReport:
    """The figures by card as a FHIR R4 MeasureReport; hidden counts are left out."""
    until = report.until.astimezone(UTC).isoformat(timespec="seconds")
    made: MeasureReport = {
        "resourceType": "MeasureReport",
        "status": "complete",
        "type": "summary",
        "measure": MEASURE,
        "date": until,
        "period": {
            "start": report.since.astimezone(UTC).isoformat(timespec="seconds"),
            "end": until,
        },
    }
    if groups := [_group_of(line) for line in report.lines["card"]]:
        made["group"] = groups
    return made


def _group_of(line: Line) -> Group:
    card: Coding = {"system": TOPIC_SYSTEM, "code": line.name, "display": line.label}
    counts = {"shown": line.shown, "accepted": line.accepted, "overridden": line.overridden}
    return {
        "code": {"coding": [card]},
        "population": [_population_of(name, count) for name, count in counts.items()],
    }


def _population_of(outcome: str, count: int) -> Population:
    code: Concept = {"coding": [{"system": OUTCOMES, "code": outcome}]}
    told = disclose(count)
    return {"code": code} if told is None else {"code": code, "count": told}
