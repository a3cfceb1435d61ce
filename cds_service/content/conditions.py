"""Conditions in three values: true, false, and *not known*.

A finding, an intervention and a card each say in ``cards/`` when they hold. This module turns what
is written there into something that can be asked of a case. The absence of a record is never a
"no" (row S10): what a condition needs and cannot have makes it unknown (``None``), by the rules of
Kleene's logic, and an unknown condition never shows anything.

What can be written::

    {fact: letdown-sensation, is: no}             one answer, or a list of answers
    {fact: pump-session-minutes, at-least: 20}    also above, at-most, below
    {fact: expressed-milk-volume.sum, below: {curve: expected-volume, line: low}}
    {finding: little-milk}                        another finding
    {fact: expressed-milk-volume.longest-gap, above: 6 h}
    {fact: body-temperature, at-least: {parameter: fever}}
    {recorded: delivery-time}                     there is a value within the fact's window
    {mentioned: pacifier-use}                     there is a record of it, also one that is no value
    {known: expressed-milk-volume.sum}            a measure is known (true or false, never unknown)
    {unclear: infant-outcome}                     records contradict each other, or cannot be read
    {unclear: infant-outcome, but-for: alive}     but not if what cannot be read says just that
    {search-failed: infant-outcome}               its records were asked for, and not all came
    {left-out: delivery-time}                     a record of it was sent that may be hers, without
                                                  a subject or with her on another FHIR server
    {newer: expressed-milk-volume, than: feeding-plan}   its newest record is surely the later one,
                                                  or there is none of the other
    {newest: stimulant-use, within: 14 d}         its newest record is no older
    {began: varicella, around: delivery-time, before: 5 d, after: 2 d}   it may have begun so long
                                                  before until so long after
    {ordered: lactation-consult}                  asked for already, or done
    {ever: psychosis-or-mania}                    a record says that it was so, or has ended
    {allergic: domperidone}                       by her list of allergies, if medicines are on it;
                                                  also to any medicine of one effect (ergot)
    {contraindicated: cabergoline}                a contraindication of it is present
    {licensed: domperidone}                       where the service works (``CDS_JURISDICTION``)
    {jurisdiction: US}                            where the service works: one country, or several
    {taking: any}                                 there are active medicines; also of one band
                                                  (avoid), effect (lowers-supply), or id
    {together: any}                               two of her medicines interact; also by one
                                                  interaction, by its id
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
# What makes a condition true: measures of facts, each with the finding by way of which, if any.
Because = dict[tuple[str, str], str | None]


class Case(Protocol):
    """What a condition may ask about a mother."""

    jurisdiction: str
    now: datetime

    @property
    def facts(self) -> Mapping[str, FactValue]: ...
    def finding(self, finding_id: str) -> Truth: ...
    def asked_for(self, activity: str) -> Truth: ...
    def taking(self, what: str) -> Truth: ...
    def allergic(self, what: str) -> Truth: ...
    def contraindicated(self, medicine_id: str) -> Truth: ...
    def together(self, what: str) -> Truth: ...
    def interacting(self, interaction_id: str, medicine_id: str) -> Truth: ...
    def licensed(self, medicine_id: str) -> Truth: ...
    def search_failed(self, fact_id: str) -> bool: ...
    def left_out(self, fact_id: str) -> bool: ...
    def curve(self, curve_id: str, line: str) -> float | None: ...
    def support(self, finding_id: str, because: Because) -> None: ...
    def missing(self, finding_id: str) -> Iterable[str]: ...


class Condition:
    """A compiled condition."""

    def test(self, case: Case) -> Truth:
        """Whether the condition holds for this case; ``None`` if that is not known."""
        raise NotImplementedError

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        """Put what makes it true into ``because``. Only asked of a condition that holds."""

    def missing(self, case: Case) -> Iterator[str]:
        """The facts for want of which it is unknown. Only asked of an unknown condition."""
        return iter(())

    def facts(self) -> set[str]:
        """Every fact that it reads, for the checks at start."""
        return set()

    def findings(self) -> set[str]:
        """Every finding that it reads, for the checks at start."""
        return set()

    def parts_within(self) -> Iterator[Condition]:
        """Itself, and every condition that it is made of."""
        yield self


def invert(truth: Truth) -> Truth:
    """Not; unknown stays unknown."""
    return None if truth is None else not truth


@dataclass(slots=True)
class Several(Condition):
    """Conditions together."""

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
    answers: frozenset[str]

    def test(self, case: Case) -> Truth:
        value = case.facts[self.fact].value
        return None if value is None else value in self.answers


@dataclass(slots=True)
class FactCompares(OfFact):
    measure: str
    compare: Callable[[float, float], bool]
    limit: float | None
    curve: tuple[str, str] | None
    in_duration: bool = False  # the limit was written as a duration, and is in seconds
    parameter: str | None = None  # its limit is put in when the content is loaded

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
    def test(self, case: Case) -> Truth:
        fact = case.facts[self.fact]
        if fact.status == "known":
            return True
        return False if fact.status in ("not-recorded", "stale") else None


@dataclass(slots=True)
class Mentioned(OfFact):
    """Whether there is a record of a fact, also one that cannot be read or contradicts another.

    Never itself unknown: what could not be read at all mentions nothing.
    """

    def test(self, case: Case) -> Truth:
        fact = case.facts[self.fact]
        return fact.status in ("known", "unusable", "conflicting")

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        """It stands behind no card."""


@dataclass(slots=True)
class Unclear(OfFact):
    """Whether the newest records of a fact contradict each other, or cannot be read.

    Never itself unknown. If all that cannot be read says one answer (``but_for``), such as a code
    of a live birth without a date, it is not unclear.
    """

    but_for: str | None = None

    def test(self, case: Case) -> Truth:
        fact = case.facts[self.fact]
        if fact.status != "unusable" or self.but_for is None:
            return fact.status in ("conflicting", "unusable")
        return any(not p.withdrawn and p.answer != self.but_for for p in fact.problems)


@dataclass(slots=True)
class SearchFailed(OfFact):
    """Whether no value is known and a search for it failed, or gave only part. Never unknown."""

    def test(self, case: Case) -> Truth:
        return case.facts[self.fact].value is None and case.search_failed(self.fact)


@dataclass(slots=True)
class LeftOut(OfFact):
    """Whether a record of a fact was not used for whose it is, and may be hers. Never unknown."""

    def test(self, case: Case) -> Truth:
        return case.left_out(self.fact)

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        """It stands behind no card."""


@dataclass(slots=True)
class Ever(OfFact):
    """Whether any record says that a fact was so, whenever; not known if none does."""

    def test(self, case: Case) -> Truth:
        return True if case.facts[self.fact].ever else None


@dataclass(slots=True)
class Newer(OfFact):
    """Whether a fact has a record that is surely later than those of another; never unknown."""

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
    """Whether the newest record of a fact is at most so old, however long it has been so.

    That may be longer than the fact's window.
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
    """Whether what a fact says can have begun around a time; ``False`` if that time is not known.

    What has no time of day counts wherever in its day it can lie.
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
    """Whether a measure of a fact is known; never itself unknown."""

    measure: str

    def test(self, case: Case) -> Truth:
        return case.facts[self.fact].measure(self.measure) is not None

    def support(self, case: Case, because: Because, finding: str | None = None) -> None:
        because.setdefault((self.fact, self.measure), finding)


@dataclass(slots=True)
class FindingHolds(Condition):
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
    activity: str

    def test(self, case: Case) -> Truth:
        return case.asked_for(self.activity)


@dataclass(slots=True)
class Taking(Condition):
    what: str

    def test(self, case: Case) -> Truth:
        return case.taking(self.what)


@dataclass(slots=True)
class Allergic(Condition):
    what: str

    def test(self, case: Case) -> Truth:
        return case.allergic(self.what)


@dataclass(slots=True)
class Contraindicated(Condition):
    medicine: str

    def test(self, case: Case) -> Truth:
        return case.contraindicated(self.medicine)


@dataclass(slots=True)
class Together(Condition):
    what: str

    def test(self, case: Case) -> Truth:
        return case.together(self.what)


@dataclass(slots=True)
class Interacting(Condition):
    """Whether she takes what interacts with a medicine; made of the interactions, never written."""

    interaction: str
    medicine: str

    def test(self, case: Case) -> Truth:
        return case.interacting(self.interaction, self.medicine)


@dataclass(slots=True)
class Licensed(Condition):
    medicine: str

    def test(self, case: Case) -> Truth:
        return case.licensed(self.medicine)


@dataclass(slots=True)
class Jurisdiction(Condition):
    """Whether the service works in one of these countries (ISO 3166-1, two letters)."""

    countries: frozenset[str]

    def test(self, case: Case) -> Truth:
        return case.jurisdiction in self.countries


AGE = "age"  # of the newest record of a fact: what ``Newest`` compares

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
    """Turn a condition as written in ``cards/`` into one that can be asked.

    Raises ``ValueError``, in words for the author, if it is not one of the forms above.
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
    raise ValueError(f"not a condition that is known: {written!r}")


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
