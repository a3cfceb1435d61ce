"""Wording: sentences of ``cards/`` into which a patient's own numbers are filled.

A placeholder names a fact, a measure of a fact, or a curve::

    {letdown-sensation}  {expressed-milk-volume.sum}  {delivery-time.days}  {curve:expected-volume}

``{parameter:fever}`` is the same for every patient: any text of the content may contain it, and it
is filled in when the content is loaded. Sentences have no UCUM codes: units have labels for people
(``cards/units.yaml``).

When the content is loaded, each placeholder is checked, and the longest text that can replace it is
counted, so that a summary never gets longer than CDS Hooks allows (139 characters).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..fhir.times import say_duration
from .fact_types import MEASURES, FactValue

if TYPE_CHECKING:
    from .fact_types import FactSpec

LONGEST_SUMMARY = 139
LONGEST_NUMBER = 6
LONGEST_DURATION = len("99 h 59 min")
NOT_RECORDED = "not recorded"
ALSO_MISSING = " Also missing or unclear"  # after the headline of a question, before other facts

CURVE = "curve:"
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9:.-]*)\}")


def change_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a JSON value with ``change`` applied to each text; keys and other values stay."""
    if isinstance(value, dict):
        return {key: change_texts(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [change_texts(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def as_sentence(text: str) -> str:
    """A text with a full stop at its end, unless it ends with ``.``, ``?`` or ``!`` already.

    Markdown stars after such a mark are ignored.
    """
    return text if text.rstrip("*").endswith((".", "?", "!")) else f"{text}."


@dataclass(frozen=True, slots=True)
class SpokenUnit:
    """A unit as people write it, and another unit in which the number is given too, if any."""

    label: str
    decimals: int | None = None  # if their number is always the same
    beside: SpokenUnit | None = None
    factor: float = 1.0  # factor and offset to the unit ``beside``
    offset: float = 0.0

    def say(self, number: float, decimals: int) -> str:
        """A number with this unit, such as "38.0 °C (100.4 °F)"."""
        if self.decimals is None:
            text = with_unit(number, self.label, decimals)
        else:
            text = f"{number:.{self.decimals}f} {self.label}"
        if self.beside is None:
            return text
        return f"{text} ({self.beside.say(number * self.factor + self.offset, decimals)})"


class Curve(Protocol):
    """The part of a curve that a sentence needs."""

    id: str
    unit: str


class Vocabulary(Protocol):
    """The facts, curves and units that placeholders can name."""

    @property
    def facts(self) -> Mapping[str, FactSpec]: ...
    @property
    def curves(self) -> Mapping[str, Curve]: ...
    @property
    def spoken_units(self) -> Mapping[str, SpokenUnit]: ...


class Figures(Protocol):
    """The numbers of one patient that are filled into placeholders."""

    @property
    def content(self) -> Vocabulary: ...
    @property
    def facts(self) -> Mapping[str, FactValue]: ...
    def curve(self, curve_id: str, line: str) -> float | None: ...


SO_FAR = "sum-so-far"  # a lower limit ("at least") if some records could not be read
AT_LEAST = "at least "

Say = Callable[[Figures], str]


class Wording:
    """A sentence with placeholders, which is parsed once."""

    __slots__ = ("_form", "_sayers", "fact", "measure", "parts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        # Parts at even places are plain text, at odd places the names of placeholders.
        self.parts = _PLACEHOLDER.split(text)
        # Of the first placeholder, the fact and the measure; empty if it names none.
        first = self.placeholders[0] if self.placeholders else ""
        self.fact, _, self.measure = first.partition(".")
        self._form = "%s".join([part.replace("%", "%%") for part in self.parts[::2]])
        self._sayers: list[Say] | None = None  # one for each placeholder; made at first use

    @property
    def placeholders(self) -> list[str]:
        """The names in braces, in the order of the sentence."""
        return self.parts[1::2]

    def say(self, figures: Figures) -> str:
        """The sentence with the numbers of one patient."""
        if not self.fact:
            return self.text
        if self._sayers is None:
            self._sayers = [_sayer(name, figures.content) for name in self.placeholders]
        return self._form % tuple([say(figures) for say in self._sayers])

    def longest(self, content: Vocabulary) -> int:
        """The most characters that the sentence can have.

        Raises ``ValueError`` if a placeholder names no fact, measure or curve.
        """
        plain = sum(len(part) for part in self.parts[::2])
        return plain + sum(_longest(name, content) for name in self.placeholders)


def _sayer(name: str, content: Vocabulary) -> Say:
    """The function that gives the text for one placeholder."""
    if name.startswith(CURVE):
        curve = content.curves[name.removeprefix(CURVE)]
        return lambda figures: _say_curve(figures, curve.id, curve.unit)
    fact_id, _, measure = name.partition(".")
    if not measure:
        return lambda figures: say_value(figures.facts[fact_id], content)
    spec = content.facts[fact_id]
    kind = MEASURES[spec.measures_like][measure]

    def say_measure(figures: Figures) -> str:
        fact = figures.facts[fact_id]
        number = fact.measure(measure)
        if number is None:
            return NOT_RECORDED
        if kind == "duration":
            return say_duration(number)
        if kind == "number":
            return str(int(number))
        said = say_quantity(number, spec.unit, spec.decimals, content.spoken_units)
        is_more = measure == SO_FAR and (fact.unread or fact.partly_read)
        return AT_LEAST + said if is_more else said

    return say_measure


def _say_curve(figures: Figures, curve_id: str, unit: str) -> str:
    low, high = figures.curve(curve_id, "low"), figures.curve(curve_id, "high")
    if low is None or high is None:
        return NOT_RECORDED
    return f"{_about(low)}–{_about(high)} {unit}"


def say_value(fact: FactValue, content: Vocabulary) -> str:
    """The value of a fact with its unit, or the label of its answer, or ``NOT_RECORDED``."""
    if fact.value is None:
        return NOT_RECORDED
    if isinstance(fact.value, str):
        return fact.spec.label_of(fact.value)
    return say_quantity(fact.value, fact.spec.unit, fact.spec.decimals, content.spoken_units)


def say_quantity(
    number: float, unit: str | None, decimals: int, units: Mapping[str, SpokenUnit]
) -> str:
    """A number with a UCUM unit, as people write both; ``units`` has the units with a label."""
    spoken = units.get(unit) if unit else None
    return spoken.say(number, decimals) if spoken else with_unit(number, unit, decimals)


def with_unit(number: float, unit: str | None, decimals: int = 0) -> str:
    """A number with its unit: rounded to ``decimals`` (at least one below 10), without ``.0``."""
    if abs(number) < 10:
        decimals = max(decimals, 1)
    rounded = round(number, decimals)
    text = f"{rounded:.0f}" if rounded == int(rounded) else f"{rounded:.{decimals}f}"
    return f"{text} {unit}" if unit else text


def _about(number: float) -> int:
    """A number of a curve, rounded: to whole numbers below 100, to tens from 100 on."""
    return int(round(number, -1)) if number >= 100 else round(number)


def _longest(name: str, content: Vocabulary) -> int:
    if name.startswith(CURVE):
        curve = content.curves.get(name.removeprefix(CURVE))
        if curve is None:
            raise ValueError(f"there is no curve for the placeholder {{{name}}}")
        return max(len(NOT_RECORDED), 2 * LONGEST_NUMBER + 2 + len(curve.unit))
    fact_id, _, measure = name.partition(".")
    spec = content.facts.get(fact_id)
    if spec is None:
        raise ValueError(f"there is no fact for the placeholder {{{name}}}")
    spoken = content.spoken_units.get(spec.unit or "")
    unit = len(spoken.say(1.0, 1)) if spoken else len(spec.unit or "") + 1
    if spoken and spoken.beside:
        unit += LONGEST_NUMBER
    if measure:
        kind = MEASURES[spec.measures_like].get(measure)
        if kind is None:
            raise ValueError(f"the fact {fact_id} has no measure '{measure}'")
        longest = {"duration": LONGEST_DURATION, "number": LONGEST_NUMBER}
        if measure == SO_FAR:
            unit += len(AT_LEAST)
        return max(len(NOT_RECORDED), longest.get(kind, LONGEST_NUMBER + unit))
    labels = [len(answer.label) for answer in spec.answers.values()]
    return max(len(NOT_RECORDED), LONGEST_NUMBER + unit, *labels)
