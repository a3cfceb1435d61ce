"""Conditions in three values: true, false, and *not known*.

Each finding, intervention and card has a condition in ``cards/`` that says when it holds. This
module compiles the written conditions into objects that test a patient case. The absence of a
record is never a "no" (row S10): a condition that lacks a fact is not known (``None``), by the
rules of Kleene's three-valued logic. A condition that is not known never shows anything.

The forms in which a condition can be written::

    {fact: letdown-sensation, is: no}             one answer, or a list of answers
    {fact: pump-session-minutes, at-least: 20}    also above, at-most, below
    {fact: expressed-milk-volume.sum, below: {curve: expected-volume, line: low}}
    {finding: little-milk}                        another finding holds
    {fact: expressed-milk-volume.longest-gap, above: 6 h}
    {fact: body-temperature, at-least: {parameter: fever}}
    {recorded: delivery-time}                     the fact has a value within its window
    {mentioned: pacifier-use}                     the fact has a record, also one without a usable
                                                  value
    {known: expressed-milk-volume.sum}            the measure is known (true or false only)
    {unclear: infant-outcome}                     records contradict each other, or cannot be read
    {unclear: infant-outcome, but-for: alive}     the same; but false if all unreadable records say
                                                  "alive"
    {search-failed: infant-outcome}               no value is known, and a search for its records
                                                  failed, or gave only part
    {left-out: delivery-time}                     a record of the fact was sent that may be the
                                                  patient's: it names no subject, or the patient on
                                                  another FHIR server
    {newer: expressed-milk-volume, than: feeding-plan}   the first fact has a record that is surely
                                                  later than those of the second, or the second has
                                                  none that counts
    {newest: stimulant-use, within: 14 d}         the newest record is not older than this
    {began: varicella, around: delivery-time, before: 5 d, after: 2 d}   it may have begun between 5
                                                  days before and 2 days after the delivery
    {ordered: lactation-consult}                  the activity was asked for or done since the birth
    {ever: psychosis-or-mania}                    a record says yes, or is a Condition, even if it
                                                  has ended
    {allergic: domperidone}                       the list of allergies names the medicine; also any
                                                  medicine of one effect (ergot)
    {contraindicated: cabergoline}                a contraindication of the medicine is present
    {licensed: domperidone}                       the medicine is licensed in ``CDS_JURISDICTION``
    {jurisdiction: US}                            the service works in this country, or in one of a
                                                  list
    {taking: any}                                 there are active medicines; also of one band
                                                  (avoid), of one effect (lowers-supply), or by id
    {together: any}                               two active medicines interact; also by the id of
                                                  one interaction
    {all: [...]}, {any: [...]}, {not: ...}
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ..fhir.times import duration
from .fact_types import FactValue

Truth = bool | None
# The measures of facts that make a condition true, each with the finding that uses it, if any.
Because = dict[tuple[str, str], str | None]


class Case(Protocol):
    """The questions that a condition may ask about a patient case."""

    jurisdiction: str
    now: datetime

    @property
    def facts(self) -> Mapping[str, FactValue]:
        """The facts by id; those without a record too."""

    def finding(self, finding_id: str) -> Truth:
        """Whether a finding holds."""

    def asked_for(self, activity: str) -> Truth:
        """Whether an activity was asked for or done since this birth."""

    def taking(self, what: str) -> Truth:
        """Whether the patient takes a medicine: any, of one band or effect, or by its id."""

    def allergic(self, what: str) -> Truth:
        """Whether the patient is allergic to a medicine by its id, or to any of one effect."""

    def contraindicated(self, medicine_id: str) -> Truth:
        """Whether any contraindication of a medicine is present."""

    def together(self, what: str) -> Truth:
        """Whether two medicines that are taken interact: in any way, or by one interaction's id."""

    def interacting(self, interaction_id: str, medicine_id: str) -> Truth:
        """Whether the patient takes the other side of an interaction, seen from one medicine."""

    def licensed(self, medicine_id: str) -> Truth:
        """Whether a medicine is licensed in ``jurisdiction``, for any use."""

    def search_failed(self, fact_id: str) -> bool:
        """Whether a search for records of a fact was made and failed, or gave only a part."""

    def left_out(self, fact_id: str) -> bool:
        """Whether a record of a fact was sent that may be the patient's, and was not used."""

    def curve(self, curve_id: str, line: str) -> float | None:
        """A line of a curve on the present day after birth; ``None`` before it can be judged."""

    def support(self, finding_id: str, because: Because) -> None:
        """Put what makes a finding true into ``because``."""

    def missing(self, finding_id: str) -> Iterable[str]:
        """The ids of the facts for want of which a finding is not known."""


class Condition:
    """A compiled condition."""

    def test(self, case: Case) -> Truth:
        """Whether the condition holds for a case; ``None`` if that is not known."""
        raise NotImplementedError

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        """Add the facts that make it true to ``because``. Only called if the condition holds."""

    def missing(self, case: Case) -> Iterator[str]:
        """The facts that it lacks. Only called if the condition is not known."""
        return iter(())

    def facts(self) -> set[str]:
        """The ids of all facts that it reads, for the checks at start."""
        return set()

    def findings(self) -> set[str]:
        """The ids of all findings that it reads, for the checks at start."""
        return set()

    def parts_within(self) -> Iterator[Condition]:
        """The condition itself, and all conditions within it."""
        yield self


def invert(truth: Truth) -> Truth:
    """The negation of a truth value; not known stays not known."""
    return None if truth is None else not truth


@dataclass(slots=True)
class Several(Condition):
    """A condition that is made of several others."""

    parts: list[Condition]

    def missing(self, case: Case) -> Iterator[str]:
        for part in self.parts:
            if part.test(case) is None:
                yield from part.missing(case)

    def facts(self) -> set[str]:
        return set().union(*(part.facts() for part in self.parts))

    def findings(self) -> set[str]:
        return set().union(*(part.findings() for part in self.parts))

    def parts_within(self) -> Iterator[Condition]:
        yield self
        for part in self.parts:
            yield from part.parts_within()


class All(Several):
    """All parts hold: false if one is false, else not known if one is not known."""

    __slots__ = ()

    def test(self, case: Case) -> Truth:
        result: Truth = True
        for part in self.parts:
            truth = part.test(case)
            if truth is False:
                return False
            if truth is None:
                result = None
        return result

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        for part in self.parts:
            part.support(case, because, finding)


class AnyOf(Several):
    """One part holds: true if one is true, else not known if one is not known."""

    __slots__ = ()

    def test(self, case: Case) -> Truth:
        result: Truth = False
        for part in self.parts:
            truth = part.test(case)
            if truth is True:
                return True
            if truth is None:
                result = None
        return result

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        for part in self.parts:
            if part.test(case) is True:
                part.support(case, because, finding)


@dataclass(slots=True)
class Not(Condition):
    """The part does not hold: not known if the part is not known."""

    part: Condition

    def test(self, case: Case) -> Truth:
        return invert(self.part.test(case))

    def missing(self, case: Case) -> Iterator[str]:
        yield from self.part.missing(case)

    def facts(self) -> set[str]:
        return self.part.facts()

    def findings(self) -> set[str]:
        return self.part.findings()

    def parts_within(self) -> Iterator[Condition]:
        yield self
        yield from self.part.parts_within()


@dataclass(slots=True)
class OfFact(Condition):
    """A condition on one fact."""

    fact: str

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        because.setdefault((self.fact, "value"), finding)

    def missing(self, case: Case) -> Iterator[str]:
        yield self.fact

    def facts(self) -> set[str]:
        return {self.fact}


@dataclass(slots=True)
class FactIs(OfFact):
    """Whether the value of a fact is one of some answers; not known without a value."""

    answers: frozenset[str]  # their ids

    def test(self, case: Case) -> Truth:
        value = case.facts[self.fact].value
        return None if value is None else value in self.answers


@dataclass(slots=True)
class FactCompares(OfFact):
    """Whether a measure of a fact is above or below a limit; not known if either is not known.

    ``limit`` is in the unit in which the measure is kept: of a quantity the unit of the fact, of a
    duration seconds. It is ``None`` if ``curve`` (its id and line) gives it, and for one that
    ``parameter`` gives until the content is loaded.
    """

    measure: str
    compare: Callable[[float, float], bool]
    limit: float | None
    curve: tuple[str, str] | None
    in_duration: bool = False  # the limit was written as a duration; it is kept in seconds
    parameter: str | None = None  # the id of the one that gives the limit

    def test(self, case: Case) -> Truth:
        value = case.facts[self.fact].measure(self.measure)
        limit = self.limit if self.curve is None else case.curve(*self.curve)
        return None if value is None or limit is None else self.compare(value, limit)

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        because.setdefault((self.fact, self.measure), finding)
        if self.curve is not None:
            because.setdefault(("delivery-time", "days"), finding)

    def missing(self, case: Case) -> Iterator[str]:
        if case.facts[self.fact].measure(self.measure) is None:
            yield self.fact
        if self.curve is not None and case.curve(*self.curve) is None:
            yield "delivery-time"


@dataclass(slots=True)
class Recorded(OfFact):
    """Whether a fact has a value within its window.

    Not known if its records contradict each other or cannot be read, or were not available.
    """

    def test(self, case: Case) -> Truth:
        fact = case.facts[self.fact]
        if fact.status == "known":
            return True
        return False if fact.status in ("not-recorded", "stale") else None


@dataclass(slots=True)
class Mentioned(OfFact):
    """Whether a fact has a record, also one that cannot be read or contradicts another.

    Always true or false: it is false also if the chart could not be read.
    """

    def test(self, case: Case) -> Truth:
        fact = case.facts[self.fact]
        return fact.status in ("known", "unusable", "conflicting")

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        """Adds nothing: the fact is no reason for a card."""


@dataclass(slots=True)
class Unclear(OfFact):
    """Whether the records of a fact contradict each other, or cannot be read.

    Always true or false. With ``but_for``, an answer, it is false if the records that
    cannot be read all say this answer, such as a code of a live birth without a date.
    """

    but_for: str | None = None

    def test(self, case: Case) -> Truth:
        fact = case.facts[self.fact]
        if fact.status != "unusable" or self.but_for is None:
            return fact.status in ("conflicting", "unusable")
        return any(not p.withdrawn and p.answer != self.but_for for p in fact.problems)


@dataclass(slots=True)
class SearchFailed(OfFact):
    """Whether a fact has no value, and a search for it failed or gave only part.

    Always true or false.
    """

    def test(self, case: Case) -> Truth:
        return case.facts[self.fact].value is None and case.search_failed(self.fact)


@dataclass(slots=True)
class LeftOut(OfFact):
    """Whether a record of a fact was left out that may be the patient's.

    Such a record names no subject, or the patient on another FHIR server. Always true or false.
    """

    def test(self, case: Case) -> Truth:
        return case.left_out(self.fact)

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        """Adds nothing: the record is no reason for a card."""


@dataclass(slots=True)
class Ever(OfFact):
    """Whether any record says that a fact was ever so, at any time; not known if none does."""

    def test(self, case: Case) -> Truth:
        return True if case.facts[self.fact].ever else None


@dataclass(slots=True)
class Newer(OfFact):
    """Whether a fact has a value that is surely later than the records of another fact.

    True also if the other fact has no record that counts. Always true or false.
    """

    other: str

    def test(self, case: Case) -> Truth:
        fact, other = case.facts[self.fact], case.facts[self.other]
        if fact.value is None or fact.moment is None:
            return False
        return other.moment is None or fact.moment.earliest > other.moment.latest

    def facts(self) -> set[str]:
        return {self.fact, self.other}


@dataclass(slots=True)
class Newest(FactCompares):
    """Whether the newest record of a fact is at most as old as a limit, in seconds.

    The limit may be longer than the fact's window. How long the value has held does not matter.
    """

    def test(self, case: Case) -> Truth:
        fact = case.facts[self.fact]
        newest = fact.too_old[-1].moment if fact.too_old else fact.moment
        if newest is None or self.limit is None:
            return None
        return case.now.timestamp() - newest.latest <= self.limit

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        because.setdefault((self.fact, "value"), finding)


@dataclass(slots=True)
class Began(OfFact):
    """Whether the value of a fact may have begun around the time of another fact.

    That is from ``before`` seconds before it until ``after`` seconds after it. False if the time of
    the other fact is not known. A record without a time of day may lie anywhere in its day.
    """

    around: str
    before: float
    after: float

    def test(self, case: Case) -> Truth:
        fact, other = case.facts[self.fact], case.facts[self.around]
        held = fact.measure("held")
        if held is None or fact.moment is None:
            return None
        if other.value is None or other.moment is None:
            return False
        latest = case.now.timestamp() - held
        earliest = latest - (fact.moment.latest - fact.moment.earliest)
        return (
            latest >= other.moment.earliest - self.before
            and earliest <= other.moment.latest + self.after
        )

    def facts(self) -> set[str]:
        return {self.fact, self.around}


@dataclass(slots=True)
class Known(OfFact):
    """Whether a measure of a fact is known. Always true or false."""

    measure: str

    def test(self, case: Case) -> Truth:
        return case.facts[self.fact].measure(self.measure) is not None

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        because.setdefault((self.fact, self.measure), finding)


@dataclass(slots=True)
class FindingHolds(Condition):
    """Whether another finding holds."""

    finding: str

    def test(self, case: Case) -> Truth:
        return case.finding(self.finding)

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        case.support(self.finding, because)

    def missing(self, case: Case) -> Iterator[str]:
        yield from case.missing(self.finding)

    def findings(self) -> set[str]:
        return {self.finding}


@dataclass(slots=True)
class Ordered(Condition):
    """Whether an activity was asked for or done since this birth."""

    activity: str

    def test(self, case: Case) -> Truth:
        return case.asked_for(self.activity)


@dataclass(slots=True)
class Taking(Condition):
    """Whether the patient takes such a medicine."""

    what: str  # "any", a band, an effect, or the id of a medicine

    def test(self, case: Case) -> Truth:
        return case.taking(self.what)


@dataclass(slots=True)
class Allergic(Condition):
    """Whether the patient is allergic to a medicine, or to any of one effect."""

    what: str  # the id of a medicine, or an effect

    def test(self, case: Case) -> Truth:
        return case.allergic(self.what)


@dataclass(slots=True)
class Contraindicated(Condition):
    """Whether any contraindication of a medicine is present."""

    medicine: str  # its id

    def test(self, case: Case) -> Truth:
        return case.contraindicated(self.medicine)


@dataclass(slots=True)
class Together(Condition):
    """Whether two medicines that the patient takes interact."""

    what: str  # "any", or the id of an interaction

    def test(self, case: Case) -> Truth:
        return case.together(self.what)


@dataclass(slots=True)
class Interacting(Condition):
    """Whether the patient takes something that interacts with a medicine.

    Made when the interactions are loaded; it cannot be written in the content.
    """

    interaction: str
    medicine: str

    def test(self, case: Case) -> Truth:
        return case.interacting(self.interaction, self.medicine)


@dataclass(slots=True)
class Licensed(Condition):
    """Whether a medicine is licensed where the service works, for any use."""

    medicine: str  # its id

    def test(self, case: Case) -> Truth:
        return case.licensed(self.medicine)


@dataclass(slots=True)
class Jurisdiction(Condition):
    """Whether the service works in one of some countries (ISO 3166-1, two letters)."""

    countries: frozenset[str]

    def test(self, case: Case) -> Truth:
        return case.jurisdiction in self.countries


AGE = "age"  # the measure that ``Newest`` compares: the age of the newest record

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "at-least": operator.ge,
    "above": operator.gt,
    "at-most": operator.le,
    "below": operator.lt,
}


_OF_ONE_NAME: dict[str, Callable[[str], Condition]] = {
    "finding": FindingHolds,
    "recorded": Recorded,
    "mentioned": Mentioned,
    "unclear": Unclear,
    "search-failed": SearchFailed,
    "left-out": LeftOut,
    "ever": Ever,
    "ordered": Ordered,
    "taking": Taking,
    "allergic": Allergic,
    "contraindicated": Contraindicated,
    "together": Together,
    "licensed": Licensed,
}


def compile_condition(written: Any) -> Condition:
    """Compile a condition as it is written in ``cards/``.

    Raises ``ValueError``, with a message for the author, if it has none of the forms above.
    """
    if not isinstance(written, dict) or not written:
        raise ValueError(
            f"a condition is a mapping such as {{fact: ..., is: ...}}, not {written!r}"
        )
    keys = set(written)
    if keys == {"all"} or keys == {"any"}:
        (kind,) = keys
        parts = written[kind]
        if not isinstance(parts, list) or not parts:
            raise ValueError(f"'{kind}' needs a list of conditions")
        compiled = [compile_condition(part) for part in parts]
        return All(compiled) if kind == "all" else AnyOf(compiled)
    if keys == {"not"}:
        return Not(compile_condition(written["not"]))
    if keys == {"unclear", "but-for"}:
        return Unclear(_text(written["unclear"]), _text(written["but-for"]))
    for kind, make in _OF_ONE_NAME.items():
        if keys == {kind}:
            return make(_text(written[kind]))
    if keys == {"jurisdiction"}:
        countries = written["jurisdiction"]
        countries = countries if isinstance(countries, list) else [countries]
        for country in countries:
            if not re.fullmatch("[A-Z]{2}", _text(country)):
                raise ValueError(f"a country has two letters, such as US, not {country!r}")
        return Jurisdiction(frozenset(countries))
    if keys == {"known"}:
        fact, _, measure = _text(written["known"]).partition(".")
        return Known(fact, measure or "value")
    if keys == {"newest", "within"}:
        within = written["within"]
        name = _text(within.get("parameter")) if isinstance(within, dict) else None
        limit = None if name else duration(within)
        return Newest(_text(written["newest"]), AGE, operator.le, limit, None, True, name)
    if keys == {"began", "around", "before", "after"}:
        before, after = duration(written["before"]), duration(written["after"])
        return Began(_text(written["began"]), _text(written["around"]), before, after)
    if keys == {"newer", "than"}:
        return Newer(_text(written["newer"]), _text(written["than"]))
    if "fact" in keys and len(keys) == 2:
        return _compile_fact(written)
    raise ValueError(f"this is not a known form of a condition: {written!r}")


def _compile_fact(written: dict[str, Any]) -> Condition:
    fact, _, measure = _text(written["fact"]).partition(".")
    (how,) = set(written) - {"fact"}
    wanted = written[how]
    if how == "is":
        answers = wanted if isinstance(wanted, list) else [wanted]
        return FactIs(fact, frozenset(_text(answer) for answer in answers))
    if how in COMPARISONS:
        if isinstance(wanted, dict) and "parameter" in wanted:
            name = _text(wanted["parameter"])
            return FactCompares(
                fact, measure or "value", COMPARISONS[how], None, None, parameter=name
            )
        if isinstance(wanted, dict):
            curve = (_text(wanted.get("curve")), _text(wanted.get("line")))
            return FactCompares(fact, measure or "value", COMPARISONS[how], None, curve)
        if isinstance(wanted, str):
            return FactCompares(
                fact, measure or "value", COMPARISONS[how], duration(wanted), None, True
            )
        if isinstance(wanted, bool) or not isinstance(wanted, int | float):
            raise ValueError(
                f"'{how}' needs a number, a duration, a curve or a parameter, not {wanted!r}"
            )
        return FactCompares(fact, measure or "value", COMPARISONS[how], float(wanted), None)
    raise ValueError(f"a fact can be asked with 'is', {', '.join(COMPARISONS)}; not with '{how}'")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"a name is needed here, not {value!r}")
    return value
