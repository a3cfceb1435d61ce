"""Codes: the systems that they belong to, the families that they form, and what they mean here.

A record names a code system by one of several addresses and writes one code in several ways
(``cards/systems.yaml`` says which). A set of codes lists concepts, and families of a hierarchical
system: a code with all that is below it. The most specific entry decides: ``O91.01`` can be taken
out of the family ``O91``. Looking a code up takes steps of the order of its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Required, TypedDict, TypeVar

from .phrase_index import LONGEST_TEXT

Comparison = Literal["exact", "any-case", "icd"]
Pair = tuple[str, str]  # a system and a code
Meaning = TypeVar("Meaning")

LONGEST_CODE = 100
MOST_CODINGS = 20  # of one concept, that are looked at


class Concept(TypedDict):
    """A code that a ValueSet lists."""

    code: str


class Filter(TypedDict):
    """What codes have in common that a ValueSet names together."""

    property: str
    op: str
    value: str


class Part(TypedDict, total=False):
    """What a ValueSet includes, or excludes, of one system."""

    system: str
    concept: list[Concept]
    filter: list[Filter]


class Compose(TypedDict, total=False):
    """Of what a ValueSet consists."""

    include: list[Part]
    exclude: list[Part]


class ValueSet(TypedDict, total=False):
    """A FHIR ValueSet that was found to be valid, as far as it is read."""

    url: Required[str]
    compose: Compose
    copyright: str


# Two ICD codes in one ("J21.8+ B95.6*"), and the marks that stand behind one in print.
_BETWEEN_ICD_CODES = re.compile(r"[\s+*†!]+")
_ICD_CODE = re.compile(r"([A-Z][0-9][0-9A-Z])\.?([0-9A-Z]{0,4})(?:\.?-)?")


def normal_forms(code: str, comparison: Comparison) -> list[str]:
    """A code as it is compared; several if one text holds several ICD codes, none if it is none."""
    if comparison == "exact":
        return [code]
    if comparison == "any-case":
        return [code.upper()]
    parts = map(_ICD_CODE.fullmatch, _BETWEEN_ICD_CODES.split(code.upper()))
    return [part[1] + part[2] for part in parts if part is not None]


@dataclass(slots=True)
class CodeSet:
    """The codes that mean one thing; each entry says whether it counts or is taken out again."""

    concepts: dict[Pair, bool] = field(default_factory=dict)
    families: dict[Pair, bool] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Pair]:
        """The concepts that count. Families cannot be listed."""
        return (pair for pair, counts in self.concepts.items() if counts)


@dataclass(frozen=True, slots=True)
class System:
    """A code system as the content describes it: its address and how its codes are compared."""

    url: str
    comparison: Comparison = "exact"
    hierarchical: bool = False


Systems = dict[str, System]  # by each of a system's addresses


@dataclass(slots=True)
class _Entries(Generic[Meaning]):
    """What an index holds of one system: by code in its normal form, whether it means a thing."""

    system: System
    concepts: dict[str, list[tuple[Meaning, bool]]] = field(default_factory=dict)
    families: dict[str, list[tuple[Meaning, bool]]] = field(default_factory=dict)
    longest: int = 0  # of the families

    def find(self, code: str) -> list[Meaning]:
        """What a code in its normal form means, by its most specific entry for each meaning."""
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
    """What codes mean: facts, answers, activities, medicines or feeds."""

    def __init__(self, systems: Systems) -> None:
        self._systems = systems
        self._entries: dict[str, _Entries[Meaning]] = {}  # by address of the system
        self._as_written: dict[Pair, tuple[Meaning, ...]] = {}  # most codes are found here

    def add(self, codes: CodeSet, meaning: Meaning) -> None:
        """Let codes mean something; what they mean already stays."""
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
        """To be called once all codes are added: find those that are listed in one step."""
        for url, code in self._as_written:
            self._as_written[url, code] = self._look_up(url, code)

    def find(self, coding: Any) -> tuple[Meaning, ...]:
        """What a FHIR Coding means here; nothing if it is unknown, or no Coding."""
        try:
            system, code = coding["system"], coding["code"]
            found = self._as_written.get((system, code))
        except (KeyError, TypeError):  # no code, or one that is a list or an object
            return ()
        return self._look_up(system, code) if found is None else found

    def __iter__(self) -> Iterator[Pair]:
        """The concepts that mean something, as they are written in the content."""
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


class Said(NamedTuple):
    """What a CodeableConcept says: its words, its codes, and their systems."""

    texts: list[str]
    codes: set[str]
    systems: set[str]


def said_by(concept: Any) -> Said:
    """What is read of a CodeableConcept whose codes are not known; of anything else nothing."""
    written = concept.get("coding") if isinstance(concept, dict) else None
    several = written if isinstance(written, list) else []
    codings = [each for each in several[:MOST_CODINGS] if isinstance(each, dict)]
    text = concept.get("text") if isinstance(concept, dict) else None
    texts = [text, *(coding.get("display") for coding in codings)]
    return Said(
        [text[:LONGEST_TEXT] for text in texts if isinstance(text, str) and text],
        {code for coding in codings if isinstance(code := coding.get("code"), str) and code},
        {system for coding in codings if isinstance(system := coding.get("system"), str)},
    )
