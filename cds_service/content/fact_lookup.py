"""The lookup of facts: by the codes and words of a record; and of numbers in the fact's unit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from ..fhir.chart import member_of
from .codes import CodeIndex, CodeSet, read_concept
from .entries import Entries
from .fact_types import FactSpec
from .phrase_index import PhraseIndex
from .schema import OWN_ANSWER, OWN_FACT, VALUE_SET, UnitKind, plain_unit

MOST_WRITTEN = 4096  # codes, as raw JSON of records, whose meaning is cached
LONGEST_WRITTEN = 1000  # bytes of such a code; a longer one is not cached

_ANNOTATION = re.compile(r"\{[^{}]*\}")
_BETWEEN_NAMES = re.compile(r"\s*(?:,|\bor\b)\s*")  # in the label of a fact


class FactLookup:
    """Finds the facts that a record is about. Built once from the entries; nothing changes it.

    ``by_code`` has, for each resource type, the index that finds facts by code. ``conversions``
    has, for each fact, the factor and offset from every accepted unit to the fact's own unit.
    """

    def __init__(self, entries: Entries) -> None:
        self._facts, self._addresses = entries.facts, entries.addresses
        self.by_code = _facts_by_code(entries)
        self.conversions = {
            spec.id: conversions_of(spec, entries.units.values())
            for spec in entries.facts.values()
            if spec.type in ("quantity", "number")
        }
        self._in_words: dict[str, list[FactSpec]] = {}  # by resource type
        self._diagnoses: PhraseIndex[str] = PhraseIndex()  # facts by the names of diagnoses
        for spec in entries.facts.values():
            for source in spec.also_from if spec.words is not None else ():
                self._in_words.setdefault(source.resource, []).append(spec)
            if any(source.resource == "Condition" for source in spec.also_from):
                for label in _BETWEEN_NAMES.split(spec.label):
                    self._diagnoses.add(label, spec.id)
        self._known_systems = {OWN_FACT, OWN_ANSWER, *entries.addresses}
        self._kept = lru_cache(MOST_WRITTEN)(self._read_code)

    def as_written(self, resource_type: str, code: bytes) -> tuple[FactSpec, ...]:
        """The facts that the ``code`` of a resource means, where ``code`` is the raw JSON.

        Most records share a few codes, so results are cached.
        """
        read = self._kept if len(code) <= LONGEST_WRITTEN else self._read_code
        return read(resource_type, code)

    def _read_code(self, resource_type: str, code: bytes) -> tuple[FactSpec, ...]:
        return self.of_concept(member_of({"code": msgspec.Raw(code)}, "code"), resource_type)

    def of_concept(self, concept: object, resource_type: str) -> tuple[FactSpec, ...]:
        """The facts that a CodeableConcept means in a resource of this type.

        If none of its codes means a fact, its texts are searched for the ``words`` of facts.
        """
        codings = concept.get("coding") if isinstance(concept, dict) else None
        by_code = self.by_code.get(resource_type)
        found: tuple[FactSpec, ...] = ()
        if by_code is not None and isinstance(codings, list):
            for coding in codings:
                specs = by_code.find(coding)
                found = (*found, *(spec for spec in specs if spec not in found)) if found else specs
        if not found and resource_type in self._in_words:
            said = read_concept(concept)
            in_words = self._in_words[resource_type]
            return tuple(spec for spec in in_words if spec.words and spec.words.mean_it(said))
        return found

    def suggested(self, concept: object) -> tuple[FactSpec, ...]:
        """The facts that a diagnosis may mean, if none of its codes is of a known system.

        A fact is suggested if the code means it in any system ("O91.22" without a system, or with
        an address that is not known), or if a text contains the label of a fact that diagnoses can
        carry ("Mastitis, left"). For a diagnosis with a code of a known system, nothing is
        suggested: that code says what it is.

        The result serves only to count records that were sent and not used. It must not be used as
        a value: the code may mean something else, and the text may deny the fact.
        """
        said = read_concept(concept)
        by_code = self.by_code.get("Condition")
        if by_code is None or not said.systems.isdisjoint(self._known_systems):
            return ()
        found = [
            name for text in said.texts for names in self._diagnoses.find(text) for name in names
        ]
        urls = {system.url for system in self._addresses.values()}
        for code in said.codes:
            for url in urls:
                found += [spec.id for spec in by_code.find({"system": url, "code": code})]
        return tuple(spec for spec in self._facts.values() if spec.id in found)

    def convert(self, fact_id: str, number: float, unit: object) -> float | None:
        """Convert a number to the fact's unit; ``None`` if ``unit`` is missing or of another kind.

        An annotation in braces, such as ``{sessions}``, is not a unit (UCUM, section 2.1) and is
        ignored. A unit that is not UCUM is looked up among the other texts for units.
        """
        written = unit if isinstance(unit, str) else ""
        if "{" in written:
            if "log" in written.lower():  # a logarithm is another kind of number
                return None
            written = _ANNOTATION.sub("", written)
        conversions = self.conversions[fact_id]
        conversion = conversions.get(written) or conversions.get(plain_unit(written))
        return None if conversion is None else number * conversion[0] + conversion[1]


def _facts_by_code(entries: Entries) -> dict[str, CodeIndex[FactSpec]]:
    found: dict[str, CodeIndex[FactSpec]] = {}
    for spec in entries.facts.values():
        for kind in ("Observation", *(source.resource for source in spec.also_from)):
            by_code = found.setdefault(kind, CodeIndex(entries.addresses))
            by_code.add(CodeSet({(OWN_FACT, spec.id): True}), spec)
            if kind == "Observation" and spec.before_birth and spec.type == "yes-no":
                continue  # the codes are of diagnoses; in an Observation they mean something else
            by_code.add(entries.codes.get(f"{VALUE_SET}{spec.id}", CodeSet()), spec)
            if spec.type == "coded" and kind != "Observation":
                for answer in spec.answers:  # the code of the resource is the answer itself
                    name = f"{VALUE_SET}{spec.id}-{answer}"
                    by_code.add(entries.codes.get(name, CodeSet()), spec)
    for by_code in found.values():
        by_code.settle()
    return found


def conversions_of(spec: FactSpec, kinds: Iterable[UnitKind]) -> dict[str, tuple[float, float]]:
    """The factor and offset from each accepted unit to the fact's own; empty if that is unknown."""
    if spec.unit is None:
        plain = {"": (1.0, 0.0), "1": (1.0, 0.0)}
        return {**plain, **{unit: (factor, 0.0) for unit, factor in spec.also_unit.items()}}
    for kind in kinds:
        if spec.unit not in kind.units:
            continue
        own, own_offset = factor_and_offset(kind.units[spec.unit])
        factors = {}
        for unit, written in kind.units.items():
            factor, offset = factor_and_offset(written)
            factors[unit] = (factor / own, (offset - own_offset) / own)
        factors |= {unit: (factor, 0.0) for unit, factor in spec.also_unit.items()}
        texts = {text: unit for unit, written in kind.texts.items() for text in written}
        plain = {plain_unit(unit): factors[unit] for unit in factors}
        plain |= {plain_unit(text): factors[unit] for text, unit in texts.items()}
        return plain | factors
    return {}


def factor_and_offset(written: float | tuple[float, float]) -> tuple[float, float]:
    """The factor and the offset of a unit, which is written as a factor alone or as both."""
    return written if isinstance(written, tuple) else (written, 0.0)
