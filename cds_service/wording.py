"""Wording: sentences of ``cards/`` with her own numbers put in.

A placeholder names a fact, a measure of a fact, or a curve::

    {letdown-sensation}  {expressed-milk-volume.sum}  {delivery-time.days}  {curve:expected-volume}

Placeholders are checked when the content is loaded, with the longest text that each can become, so
that a summary can never grow past what CDS Hooks allows (139 characters).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from .facts import MEASURES, FactValue
from .times import say_duration

if TYPE_CHECKING:
    from .content import Content, FactSpec

LONGEST_SUMMARY = 139
LONGEST_NUMBER = 6
LONGEST_DURATION = len("99 h 59 min")
NOT_RECORDED = "not recorded"

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9:.-]*)\}")


class Figures(Protocol):
    """Where the numbers come from."""

    def fact(self, fact_id: str) -> FactValue: ...
    def curve(self, curve_id: str, line: str) -> float | None: ...


class Wording:
    """A sentence with placeholders, taken apart once."""

    __slots__ = ("parts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        # Even parts are plain text, odd ones the names of placeholders.
        self.parts = _PLACEHOLDER.split(text)

    @property
    def placeholders(self) -> list[str]:
        """The names in braces, in order."""
        return self.parts[1::2]

    def say(self, figures: Figures, content: Content) -> str:
        """The sentence for one mother."""
        if len(self.parts) == 1:
            return self.text
        said = [
            _say(part, figures, content) if index % 2 else part
            for index, part in enumerate(self.parts)
        ]
        return "".join(said)

    def longest(self, content: Content) -> int:
        """The most characters that the sentence can have. ``ValueError`` on a wrong placeholder."""
        plain = sum(len(part) for part in self.parts[::2])
        return plain + sum(_longest(name, content) for name in self.placeholders)


def _say(name: str, figures: Figures, content: Content) -> str:
    if name.startswith("curve:"):
        curve = content.curves[name.removeprefix("curve:")]
        low, high = figures.curve(curve.id, "low"), figures.curve(curve.id, "high")
        if low is None or high is None:
            return NOT_RECORDED
        return f"{_about(low)}–{_about(high)} {curve.unit}"
    fact_id, _, measure = name.partition(".")
    fact = figures.fact(fact_id)
    if not measure:
        return say_value(fact)
    number = fact.measure(measure)
    if number is None:
        return NOT_RECORDED
    return _say_measure(fact.spec, measure, number)


def say_value(fact: FactValue) -> str:
    """A fact's value with its unit, or the label of its answer."""
    if fact.value is None:
        return NOT_RECORDED
    if isinstance(fact.value, str):
        return fact.spec.label_of(fact.value)
    return with_unit(fact.value, fact.spec.unit, fact.spec.decimals)


def with_unit(number: float, unit: str | None, decimals: int = 0) -> str:
    """A number as a clinician writes it: with ``decimals`` (below ten at least one), or whole."""
    if abs(number) < 10:
        decimals = max(decimals, 1)
    rounded = round(number, decimals)
    text = f"{rounded:.0f}" if rounded == int(rounded) else f"{rounded:.{decimals}f}"
    return f"{text} {unit}" if unit else text


def _say_measure(spec: FactSpec, measure: str, number: float) -> str:
    kind = MEASURES[spec.measures_like].get(measure)
    if kind == "duration":
        return say_duration(number)
    if kind == "number":
        return with_unit(float(int(number)), None)
    return with_unit(number, spec.unit, spec.decimals)


def _about(number: float) -> int:
    """A number of a curve, no more exact than it deserves: to the next ten from a hundred on."""
    return int(round(number, -1)) if number >= 100 else round(number)


def _longest(name: str, content: Content) -> int:
    if name.startswith("curve:"):
        curve = content.curves.get(name.removeprefix("curve:"))
        if curve is None:
            raise ValueError(f"there is no curve for the placeholder {{{name}}}")
        return max(len(NOT_RECORDED), 2 * LONGEST_NUMBER + 2 + len(curve.unit))
    fact_id, _, measure = name.partition(".")
    spec = content.facts.get(fact_id)
    if spec is None:
        raise ValueError(f"there is no fact for the placeholder {{{name}}}")
    unit = len(spec.unit or "") + 1
    if measure:
        kind = MEASURES[spec.measures_like].get(measure)
        if kind is None:
            raise ValueError(f"the fact {fact_id} has no measure '{measure}'")
        longest = {"duration": LONGEST_DURATION, "number": LONGEST_NUMBER}
        return max(len(NOT_RECORDED), longest.get(kind, LONGEST_NUMBER + unit))
    labels = [len(answer.label) for answer in spec.answers.values()]
    return max(len(NOT_RECORDED), LONGEST_NUMBER + unit, *labels)
