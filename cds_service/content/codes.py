"""Codes: their code systems, their families, and what they mean to the content.

A record may name a code system by any of several addresses, and may write one code in several ways
(see ``cards/systems.yaml``). A set of codes lists concepts, and families of a hierarchical system:
a code with all codes below it. The most specific entry decides: ``O91.01`` can be taken out of the
family ``O91``. The time to look up a code grows with its length only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Required, TypedDict, TypeVar

from .phrase_index import LONGEST_TEXT

Comparison = Literal["exact", "any-case", "icd"]
Pair = tuple[str, str]  # the address of a code system, and a code
Meaning = TypeVar("Meaning")

LONGEST_CODE = 100  # characters; a longer code is not looked up
MOST_CODINGS = 20  # that are read of one CodeableConcept


class Concept(TypedDict):
    """A code that a ValueSet lists."""

    code: str


class Filter(TypedDict):
    """A condition by which a ValueSet lists many codes at once, such as ``concept is-a O91``."""

    property: str
    op: str
    value: str


class Part(TypedDict, total=False):
    """The codes of one system that a ValueSet includes or excludes."""

    system: str
    concept: list[Concept]
    filter: list[Filter]


class Compose(TypedDict, total=False):
    """The codes that a ValueSet includes and excludes."""

    include: list[Part]
    exclude: list[Part]


class ValueSet(TypedDict, total=False):
    """The members of a valid FHIR ValueSet that are read."""

    url: Required[str]
    compose: Compose
    copyright: str


# Between two ICD codes in one text ("J21.8+ B95.6*"); also the marks that are printed after a code.
_BETWEEN_ICD_CODES = re.compile(r"[\s+*†!]+")
_ICD_CODE = re.compile(r"([A-Z][0-9][0-9A-Z])\.?([0-9A-Z]{0,4})(?:\.?-)?")


def normal_forms(code: str, comparison: Comparison) -> list[str]:
    """The forms of a code in which it is compared with others.

    There are several if the text holds several ICD codes, and none if it holds no ICD code.
    """
    if comparison == "exact":
        return [code]
    if comparison == "any-case":
        return [code.upper()]
    parts = map(_ICD_CODE.fullmatch, _BETWEEN_ICD_CODES.split(code.upper()))
    return [part[1] + part[2] for part in parts if part is not None]


@dataclass(slots=True)
class CodeSet:
    """The codes that mean one thing: ``True`` for an entry that counts, ``False`` if taken out."""

    concepts: dict[Pair, bool] = field(default_factory=dict)
    families: dict[Pair, bool] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Pair]:
        """The concepts that count. The codes of families are not listed."""
        return (pair for pair, counts in self.concepts.items() if counts)


@dataclass(frozen=True, slots=True)
class System:
    """A code system as the content describes it: its main address, and how codes are compared."""

    url: str
    comparison: Comparison = "exact"
    hierarchical: bool = False


Systems = dict[str, System]  # by each of a system's addresses


@dataclass(slots=True)
class _Entries(Generic[Meaning]):
    """The entries of one code system in an index, by code in its normal form.

    Each entry has the meanings of the code, each with whether it counts or is taken out.
    """

    system: System
    concepts: dict[str, list[tuple[Meaning, bool]]] = field(default_factory=dict)
    families: dict[str, list[tuple[Meaning, bool]]] = field(default_factory=dict)
    longest: int = 0  # length of the longest code among the families

    def find(self, code: str) -> list[Meaning]:
        """The meanings of a code in its normal form; for each, the most specific entry decides."""
        settled: list[Meaning] = []
        found: list[Meaning] = []
        for entries in self._entries_for(code):
            for meaning, counts in entries:
                if not any(meaning is other for other in settled):
                    settled.append(meaning)
                    if counts:
                        found.append(meaning)
        return found

    def _entries_for(self, code: str) -> Iterator[list[tuple[Meaning, bool]]]:
        if code in self.concepts:
            yield self.concepts[code]
        if self.longest:
            for length in range(min(len(code), self.longest), 0, -1):
                if code[:length] in self.families:
                    yield self.families[code[:length]]


class CodeIndex(Generic[Meaning]):
    """Finds the meanings of codes: facts, answers, activities, medicines or feeds.

    ``settle`` is called once, after all codes are added.
    """

    def __init__(self, systems: Systems) -> None:
        self._systems = systems
        self._entries: dict[str, _Entries[Meaning]] = {}  # by address of the system
        self._as_written: dict[Pair, tuple[Meaning, ...]] = {}  # finds most codes in one step

    def add(self, codes: CodeSet, meaning: Meaning) -> None:
        """Add a meaning to codes; they keep the meanings that they have."""
        for (url, code), counts in codes.families.items():
            entries = self._entries_of(url)
            for normal in normal_forms(code, entries.system.comparison):
                entries.families.setdefault(normal, []).append((meaning, counts))
                entries.longest = max(entries.longest, len(normal))
        for (url, code), counts in codes.concepts.items():
            entries = self._entries_of(url)
            for normal in normal_forms(code, entries.system.comparison):
                entries.concepts.setdefault(normal, []).append((meaning, counts))
            self._as_written[url, code] = ()

    def settle(self) -> None:
        """Look up all listed codes beforehand; to be called once, after all codes are added."""
        for url, code in self._as_written:
            self._as_written[url, code] = self._look_up(url, code)

    def find(self, coding: Any) -> tuple[Meaning, ...]:
        """The meanings of a FHIR Coding; empty if its code is unknown, or it is not a Coding."""
        try:
            system, code = coding["system"], coding["code"]
            found = self._as_written.get((system, code))
        except (KeyError, TypeError):  # there is no code, or it is a list or an object
            return ()
        return self._look_up(system, code) if found is None else found

    def __iter__(self) -> Iterator[Pair]:
        """The listed codes that have a meaning, as they are written in the content."""
        return (pair for pair, meanings in self._as_written.items() if meanings)

    def _entries_of(self, url: str) -> _Entries[Meaning]:
        entries = self._entries.get(url)
        if entries is None:
            system = self._systems.get(url, System(url))
            entries = self._entries.setdefault(system.url, _Entries(system))
            for address, other in self._systems.items():
                if other.url == system.url:
                    self._entries[address] = entries
        return entries

    def _look_up(self, url: Any, code: Any) -> tuple[Meaning, ...]:
        entries = self._entries.get(url)
        if entries is None or not isinstance(code, str) or len(code) > LONGEST_CODE:
            return ()
        forms = normal_forms(code, entries.system.comparison)
        if len(forms) == 1:
            return tuple(entries.find(forms[0]))
        found: list[Meaning] = []
        for form in forms:
            found += [new for new in entries.find(form) if not any(new is old for old in found)]
        return tuple(found)


class WrittenConcept(NamedTuple):
    """The texts, the codes and the code systems of a CodeableConcept."""

    texts: list[str]
    codes: set[str]
    systems: set[str]


def read_concept(concept: Any) -> WrittenConcept:
    """Read the texts, codes and systems of a CodeableConcept; all are empty for anything else."""
    written = concept.get("coding") if isinstance(concept, dict) else None
    several = written if isinstance(written, list) else []
    codings = [each for each in several[:MOST_CODINGS] if isinstance(each, dict)]
    text = concept.get("text") if isinstance(concept, dict) else None
    texts = [text, *(coding.get("display") for coding in codings)]
    return WrittenConcept(
        [text[:LONGEST_TEXT] for text in texts if isinstance(text, str) and text],
        {code for coding in codings if isinstance(code := coding.get("code"), str) and code},
        {system for coding in codings if isinstance(system := coding.get("system"), str)},
    )
