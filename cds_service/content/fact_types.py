"""Facts: how the content describes one, and what is known of one for a patient.

``FactSpec`` is an entry of ``cards/facts``. ``FactValue`` is the result of reading the records of a
patient for one fact (``engine.facts``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ..fhir.chart import Resource, reference_to
from ..fhir.times import HOUR, Moment, duration, window_seconds
from .codes import WrittenConcept, normal_forms
from .phrase_index import Phrases

SIDE_OF_BREAST = "urn:lactation-cds:value-set:side-of-breast"


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class Entry(BaseModel):
    """The base of all entries of the content. An unknown field is a mistake."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=_kebab, arbitrary_types_allowed=True, populate_by_name=True
    )


Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


Seconds = Annotated[float, BeforeValidator(duration)]
Window = Annotated[float, BeforeValidator(window_seconds)]


class AlsoFrom(Entry):
    """Another resource type that can carry a fact, and its prefetch key."""

    resource: Literal["Procedure", "Condition", "Encounter", "ServiceRequest"]
    prefetch: str


class AnswerSpec(Entry):
    """One answer of a coded fact; ``boolean`` is the ``valueBoolean`` that means this answer."""

    label: str
    boolean: bool | None = None


_NO_BRACKETS = str.maketrans("()[]", "    ")


class Words(Entry):
    """Phrases that mean a fact in a record whose codes mean none, and phrases that deny it.

    Upper and lower case do not matter.

    - ``mean``: phrases that mean the fact.
    - ``unless_after``: phrases that deny it if they stand up to three words before it.
    - ``unless_before``: phrases that deny it if they stand anywhere behind it.
    - ``unless_part_of``: longer phrases that contain one and mean something else.
    - ``only_with``: if given, one of these phrases must be in the record too, or a code of one of
      the ICD families ``or_code``.
    - ``open_words`` and ``open_codes`` (ICD families): they do not say of which person they speak,
      and mean the fact unless a phrase of ``unless_named`` is in the record too.
    - ``orders``: ids of our own activities that are ordered only if the fact holds.
    """

    mean: list[str] = Field(min_length=1)
    unless_after: list[str] = Field(default_factory=list)
    unless_before: list[str] = Field(default_factory=list)
    unless_part_of: list[str] = Field(default_factory=list)
    only_with: list[str] = Field(default_factory=list)
    or_code: list[str] = Field(default_factory=list)
    open_words: list[str] = Field(default_factory=list)
    open_codes: list[str] = Field(default_factory=list)
    unless_named: list[str] = Field(default_factory=list)
    orders: list[str] = Field(default_factory=list)

    def mean_it(self, said: WrittenConcept) -> bool:
        """Whether the texts and codes of a concept mean the fact."""
        if not said.codes.isdisjoint(self.orders):
            return True
        if any(map(self._phrases.are_in, said.texts)):
            if not self.only_with or _has_code_of(said, self.or_code):
                return True
            if any(map(self._only_with.are_in, said.texts)):
                return True
        left_open = _has_code_of(said, self.open_codes) or any(map(self._open.are_in, said.texts))
        if not left_open:
            return False
        # "Death of family member (grandmother)": the text in brackets names the person.
        texts = (text.translate(_NO_BRACKETS) for text in said.texts)
        return not any(map(self._unless_named.are_in, texts))

    @cached_property
    def _phrases(self) -> Phrases:
        return Phrases(self.mean, self.unless_after, self.unless_before, self.unless_part_of)

    @cached_property
    def _open(self) -> Phrases:
        return Phrases(self.open_words, self.unless_after, self.unless_before, self.unless_part_of)

    @cached_property
    def _only_with(self) -> Phrases:
        return Phrases(self.only_with)

    @cached_property
    def _unless_named(self) -> Phrases:
        return Phrases(self.unless_named)


def _has_code_of(said: WrittenConcept, families: list[str]) -> bool:
    """Whether a code of a concept belongs to one of some families of ICD codes."""
    starts = tuple(form for family in families for form in normal_forms(family, "icd"))
    return bool(starts) and any(
        form.startswith(starts) for code in said.codes for form in normal_forms(code, "icd")
    )


TOO_LARGE = 1e6  # the default of ``FactSpec.most``, in the unit of the fact


# The measures of each kind of fact, and how a card writes each. Durations are in seconds.
MEASURES: dict[str, dict[str, str]] = {
    "latest": {"held": "duration"},  # how long the newest value has held
    "sum": {
        "sum": "quantity",  # the total within the window
        "sum-so-far": "quantity",  # the same, even if the records cover little of the window
        "count-so-far": "number",
        "latest": "quantity",  # of the last session
        "count": "number",  # sessions within the window
        "longest-gap": "duration",  # the longest time between two sessions
        "night-sessions": "number",  # sessions that began at ``NIGHT``, in the patient's time zone
        "covered": "duration",  # how much of the window the records cover
    },
    # Hours and full days since the time. ``days-about`` alone is known if the offset is missing.
    "time": {"hours": "number", "days": "number", "days-about": "number"},
    # How many infants were lost, and the time since the last loss.
    "infants": {"lost": "number", "held": "duration"},
}


class FactSpec(Entry):
    """A fact: what it is, in which unit, for how long its records count, and how to ask for it.

    - ``also_unit``: further units that are accepted, each with its factor to ``unit``.
    - ``covered``: a sum is known only if its records cover so many seconds of the window.
    - ``record_break``: a longer gap between sessions, in seconds, means that records are missing.
    - ``contradicts_within``: two different values within so many seconds contradict each other.
    - ``own_record``: the fact is about the infant, and its Conditions and Encounters count only if
      they are the infant's own.
    - ``tells``: another fact, to which the values of this one are added.
    - ``counts``: another fact, whose sessions this fact counts.
    - ``words``: phrases that mean the fact in a record whose codes mean none.
    - ``limits_count``: a value with a comparator counts, "<20" as the number just below 20. Without
      this, such a value is not used.
    - ``most``: every real value is below this; a value of it or more is a slip of the pen.
    - ``before_birth``: the fact is about this birth; records older than so many seconds before the
      birth do not count.
    - ``by_infant``: the fact is an outcome, and is read for each infant apart.
    """

    id: Identifier
    label: str
    type: Literal["quantity", "number", "coded", "yes-no", "time"]
    prefetch: str
    window: Window
    unit: str | None = None
    also_unit: dict[str, float] = Field(default_factory=dict)
    may_be_negative: bool = False
    combine: Literal["latest", "sum"] = "latest"
    covered: Seconds = 0.0
    record_break: Seconds = 12 * HOUR
    contradicts_within: Seconds = 0.0
    answers: dict[str, AnswerSpec] = Field(default_factory=dict)
    also_from: list[AlsoFrom] = Field(default_factory=list)
    counts: Identifier | None = None
    about: Literal["mother", "infant"] = "mother"
    own_record: bool = False
    tells: Identifier | None = None
    words: Words | None = None
    by_infant: bool = False
    limits_count: bool = False
    most: float = TOO_LARGE
    before_birth: Seconds = 0.0
    ever: bool = False  # a diagnosis that has ended still counts as yes
    ask: str
    note: str | None = None
    decimals: int = 1

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The prefetch keys under which records of the fact can come."""
        return (self.prefetch, *(source.prefetch for source in self.also_from))

    @cached_property
    def measures_like(self) -> str:
        """The key of ``MEASURES`` for this kind of fact."""
        if self.by_infant:
            return "infants"
        return "time" if self.type == "time" else self.combine

    def label_of(self, answer: str) -> str:
        """The label of an answer; the answer itself if it has none."""
        known = self.answers.get(answer)
        return known.label if known else answer


Status = Literal[
    "known",  # there is a value
    "not-recorded",  # the chart was read, and has no record of it
    "stale",  # only values older than the window
    "unusable",  # the newest record, or all records, gave no value
    "conflicting",  # values that contradict each other
    "not-available",  # the chart could not be read
]


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that did not count: the reason, and a reference to the record.

    A ``withdrawn`` record changes nothing of what is known, and nobody need look at it.
    ``has_value`` is true if the record has a value that was not used; such records are counted.
    """

    reason: str
    reference: str
    withdrawn: bool = False
    moment: Moment | None = None  # the time that the record may be of; ``None`` if not readable
    has_value: bool = False
    answer: str | None = None  # its answer, for a fact ``by_infant``, if that could be read


class Reading(msgspec.Struct, gc=False):
    """The value of one usable record of a fact, before the records are combined."""

    value: float | str
    moment: Moment
    record: Resource
    part: Resource | None = None  # what holds the value: the record itself, or a component of it
    site: str = ""  # the id of the infant, for a fact ``by_infant``
    still_so: bool = False  # it holds until now, however long ago it began
    spans: float = 0.0  # seconds over which the value is a total
    rank: int = 0  # of the source of the value, such as of a birth time: the lower, the better

    @property
    def reference(self) -> str:
        """The relative reference to the record."""
        return reference_to(self.record)


class FactValue(msgspec.Struct):
    """What is known of one fact for a patient.

    ``value`` is a number in the fact's unit, the id of an answer, or the text of a time; ``None``
    unless ``status`` is ``known``. ``measures`` holds the numbers derived from it, in the units
    that ``MEASURES`` states.
    """

    spec: FactSpec
    status: Status = "not-recorded"
    value: float | str | None = None
    time: str | None = None
    references: list[str] = []  # to the records behind the value, ``MOST_REFERENCES`` at most
    problems: list[Problem] = []
    measures: dict[str, float] = {}
    moment: Moment | None = None
    partly_read: bool = False  # not all records could be read
    ever: bool = False  # for yes or no: a record says yes, or is a Condition, also if it has ended
    unread: list[Problem] = []  # for a sum: the records in its window that could not be read
    too_old: list[Reading] = []  # if stale: the values older than the window, the newest last

    def measure(self, name: str) -> float | None:
        """A measure by its name (``value``, ``sum``, ``hours``, ...); ``None`` if not known."""
        if name == "value":
            return self.value if isinstance(self.value, float) else None
        return self.measures.get(name)
