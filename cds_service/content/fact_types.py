"""Facts as the content describes them, and what is known of one for a patient.

``FactSpec`` is an entry of ``cards/facts``. ``FactValue`` is what ``facts`` makes of the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ..fhir.chart import Resource, reference_to
from ..fhir.times import HOUR, Moment, duration, window_seconds
from .codes import Said, normal_forms
from .phrase_index import Phrases

SIDE_OF_BREAST = "urn:lactation-cds:value-set:side-of-breast"


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class Entry(BaseModel):
    """Anything in the content. Unknown fields are mistakes."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=_kebab, arbitrary_types_allowed=True, populate_by_name=True
    )


Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


Seconds = Annotated[float, BeforeValidator(duration)]
Window = Annotated[float, BeforeValidator(window_seconds)]


class AlsoFrom(Entry):
    """Another resource type that can carry a fact, and the key under which it comes."""

    resource: Literal["Procedure", "Condition", "Encounter", "ServiceRequest"]
    prefetch: str


class AnswerSpec(Entry):
    """One answer of a coded fact; ``boolean`` is the ``valueBoolean`` that means it."""

    label: str
    boolean: bool | None = None


_NO_BRACKETS = str.maketrans("()[]", "    ")


class Words(Entry):
    """Phrases that mean a fact where no code does, and those that say that it is not so.

    They are words as they are written, in any case. ``unless_after`` are phrases up to three words
    before one that means it, ``unless_before`` are those anywhere behind it, and ``unless_part_of``
    are longer ones that mean something else. With ``only_with``, one of these must be said too, or
    one of ``or_code`` be there: families of ICD codes.

    ``open_words``, and the families of ICD codes in ``open_codes``, leave open whom it is of: they
    mean it unless one of ``unless_named`` is said too. ``orders`` are our own activities that are
    ordered only where it is so.
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

    def mean_it(self, said: Said) -> bool:
        """Whether what is said, by its words, an open code or an own order, means the fact."""
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
        # "Death of family member (grandmother)": what stands in brackets says who.
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


def _has_code_of(said: Said, families: list[str]) -> bool:
    """Whether a code of what is said is of one of some families of ICD codes."""
    starts = tuple(form for family in families for form in normal_forms(family, "icd"))
    return bool(starts) and any(
        form.startswith(starts) for code in said.codes for form in normal_forms(code, "icd")
    )


TOO_LARGE = 1e6  # for nearly anything that is measured of her, in the unit of its fact


# The measures of each combination, with how each is written on a card.
MEASURES: dict[str, dict[str, str]] = {
    "latest": {"held": "duration"},  # how long the newest value has stood, within the window
    "sum": {
        "sum": "quantity",  # within the window
        "sum-so-far": "quantity",  # the same, however little of the window is covered
        "count-so-far": "number",
        "latest": "quantity",
        "count": "number",  # sessions within the window
        "longest-gap": "duration",  # seconds between two sessions
        "night-sessions": "number",  # those of the window that began at NIGHT, where she is
        "covered": "duration",  # seconds of the window that records span
    },
    # Since then; ``days-about`` only where its offset is missing, and so nothing else is known.
    "time": {"hours": "number", "days": "number", "days-about": "number"},
    # How many of them are lost, and how long ago the last was.
    "infants": {"lost": "number", "held": "duration"},
}


class FactSpec(Entry):
    """A fact: what it is, in which unit, for how long it counts, and how to ask for it.

    One about the infant with ``own_record`` is read of the infant's Conditions and Encounters only,
    never of the mother's. One that ``tells`` another adds what it reads to that one. ``words`` are
    those of a record whose codes mean no fact. A result that is a limit, such as
    "<20", is no number, unless ``limits_count``: then it is the number next to it. ``most`` is what
    no value reaches; above it is a slip of the pen.

    One with ``before_birth`` is of this birth: what is older than so long before it does not count.
    One ``by_infant`` is an outcome, told apart by infant.
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
    ever: bool = False  # a diagnosis that is over still says yes
    ask: str
    note: str | None = None
    decimals: int = 1

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The prefetch keys under which it can come."""
        return (self.prefetch, *(source.prefetch for source in self.also_from))

    @cached_property
    def measures_like(self) -> str:
        """Which set of ``MEASURES`` the fact has."""
        if self.by_infant:
            return "infants"
        return "time" if self.type == "time" else self.combine

    def label_of(self, answer: str) -> str:
        """An answer in words."""
        known = self.answers.get(answer)
        return known.label if known else answer


Status = Literal[
    "known",  # there is a value
    "not-recorded",  # the chart was read and holds nothing about it
    "stale",  # only values older than the window
    "unusable",  # records that are not a value, the newest or all of them
    "conflicting",  # values that contradict each other
    "not-available",  # the chart could not be read
]


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that did not count: why, and which.

    ``withdrawn`` ones need no one's attention: what else is known of the fact stays. ``has_value``
    is of one that says something and is not used: it is counted.
    """

    reason: str
    reference: str
    withdrawn: bool = False
    moment: Moment | None = None  # when it may be of, as far as that can be read
    has_value: bool = False
    answer: str | None = None  # of an infant's outcome: what it says, if that could be read


class Reading(msgspec.Struct, gc=False):
    """One usable record of a fact, before they are combined."""

    value: float | str
    moment: Moment
    record: Resource
    part: Resource | None = None  # of the record, where it is: the record, or a component
    site: str = ""  # the infant that it is of, if it is one that is told apart
    still_so: bool = False  # it counts now, whenever it began
    spans: float = 0.0  # seconds that it is the total of
    rank: int = 0  # of what says it, such as when a birth was: the lower, the better

    @property
    def reference(self) -> str:
        """Where it was taken from."""
        return reference_to(self.record)


class FactValue(msgspec.Struct):
    """What is known of one fact.

    ``value`` is a number in the fact's unit, an answer code, or for a time its text; ``None``
    unless ``status`` is ``known``. ``measures`` holds the numbers derived from it, in the units
    that ``MEASURES`` states.
    """

    spec: FactSpec
    status: Status = "not-recorded"
    value: float | str | None = None
    time: str | None = None
    references: list[str] = []  # to the first ``MOST_REFERENCES`` records that it was taken from
    problems: list[Problem] = []
    measures: dict[str, float] = {}
    moment: Moment | None = None
    partly_read: bool = False  # there were more pages than could be had
    ever: bool = False  # of yes or no: if any record says yes, or is a Condition that has ended
    unread: list[Problem] = []  # of a sum: the records in its window that could not be read
    too_old: list[Reading] = []  # if it is stale: the values older than the window, newest last

    def measure(self, name: str) -> float | None:
        """A number by its name (``value``, ``sum``, ``hours`` ...), or ``None`` if not known."""
        if name == "value":
            return self.value if isinstance(self.value, float) else None
        return self.measures.get(name)
