"""The content as it was loaded, and what a request looks up in it.

``loader.load_content`` builds it; afterwards nothing changes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

from ..fhir.chart import Resource, member_of
from .codes import CodeIndex, CodeSet, Systems, ValueSet, said_by
from .fact_types import FactSpec, FactValue
from .phrase_index import PhraseIndex
from .schema import (
    OWN_ACTIVITY,
    OWN_FACT,
    VALUE_SET,
    WITH_ROWS,
    Ask,
    Assessment,
    Card,
    CodeSystem,
    Curve,
    Evidence,
    Feed,
    Finding,
    Gate,
    Grade,
    Guard,
    Interaction,
    Intervention,
    Medicine,
    NameWords,
    OverrideReason,
    Parameter,
    PrefetchKey,
    Row,
    Template,
    UnitKind,
    plain_unit,
)
from .wording import SpokenUnit

# FHIR search parameters that take a code, by resource type.
CODE_PARAMETER = {"Encounter": "type"}
# How the addresses of the code systems of diagnoses and procedures begin.
DIAGNOSES = (
    "http://snomed.info/sct",
    "http://hl7.org/fhir/sid/icd-",
    "http://fhir.de/CodeSystem/",
    "http://www.cms.gov/Medicare/Coding/ICD10",
)
LONGEST_TEMPLATE = 1500  # characters, percent-encoded: servers and proxies refuse over 2,000

MOST_WRITTEN = 4096  # codes as they are written in records, whose meaning is kept
LONGEST_WRITTEN = 1000  # bytes of one

_ANNOTATION = re.compile(r"\{[^{}]*\}")


@dataclass(slots=True)
class Content:
    """All of the content, by id, as ``content_loader.load_content`` builds it."""

    version: str
    rows: dict[str, Row]
    evidence: dict[str, Evidence]
    grades: dict[str, Grade]
    prefetch: dict[str, PrefetchKey]
    systems: dict[str, CodeSystem]
    units: dict[str, UnitKind]
    facts: dict[str, FactSpec]
    parameters: dict[str, Parameter]
    curves: dict[str, Curve]
    assessments: dict[str, Assessment]
    findings: dict[str, Finding]
    gates: dict[str, Gate]  # the first comes first
    guards: dict[str, Guard]
    interventions: dict[str, Intervention]
    templates: dict[str, Template]
    cards: dict[str, Card]
    asks: dict[str, Ask]
    medicines: dict[str, Medicine]
    interactions: dict[str, Interaction]
    feeds: dict[str, Feed]
    name_words: dict[str, NameWords]
    override_reasons: dict[str, OverrideReason]
    codes: dict[str, CodeSet]  # by the url of the value set
    addresses: Systems  # each code system by each of its addresses
    value_set_files: list[tuple[str, ValueSet]]  # each as it is written, with its file
    # What follows is derived from the above when it is loaded, so that a request only looks up.
    facts_by_code: dict[str, CodeIndex[FactSpec]] = field(default_factory=dict)  # by resource type
    diagnoses: PhraseIndex[str] = field(
        default_factory=PhraseIndex
    )  # facts by what diagnoses are called
    answers: dict[str, CodeIndex[str]] = field(default_factory=dict)  # by fact
    not_recorded: dict[str, FactValue] = field(default_factory=dict)  # each without a record
    conversions: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    spoken_units: dict[str, SpokenUnit] = field(default_factory=dict)  # by UCUM unit
    suggested: dict[str, Resource] = field(default_factory=dict)  # by intervention
    activities: CodeIndex[str] = field(default_factory=lambda: CodeIndex({}))
    sides: CodeIndex[str] = field(default_factory=lambda: CodeIndex({}))  # of a breast
    guarded: dict[str, Intervention] = field(default_factory=dict)  # by medicine
    # What is said of two medicines together, by their ids: first that on the ``one`` side.
    pairs: dict[tuple[str, str], Interaction] = field(default_factory=dict)
    paired: set[str] = field(default_factory=set)  # the medicines of all of these
    cards_under: dict[tuple[str, str], Card] = field(default_factory=dict)  # by card and gate
    # By card, gate ("" while none is closed) and place among what is worded.
    cards_worded: dict[tuple[str, str, int], Card] = field(default_factory=dict)
    keys_by_resource: dict[str, tuple[str, ...]] = field(default_factory=dict)
    counting_facts: list[FactSpec] = field(default_factory=list)
    facts_of_birth: list[FactSpec] = field(default_factory=list)
    facts_in_words: dict[str, list[FactSpec]] = field(default_factory=dict)  # by resource type
    known_systems: set[str] = field(default_factory=set)  # by every address, and our own
    asked_facts: list[str] = field(default_factory=list)  # those that a rule looks at
    keys_in_use: set[str] = field(default_factory=set)
    prefetch_templates: dict[str, str] = field(default_factory=dict)  # by key
    _kept: Callable[[str, bytes], tuple[FactSpec, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._kept = lru_cache(MOST_WRITTEN)(self._read_code)

    def facts_as_written(self, resource_type: str, code: bytes) -> tuple[FactSpec, ...]:
        """The facts that the code of a resource means, as JSON: most records share a few codes."""
        read = self._kept if len(code) <= LONGEST_WRITTEN else self._read_code
        return read(resource_type, code)

    def _read_code(self, resource_type: str, code: bytes) -> tuple[FactSpec, ...]:
        return self.facts_of_concept(member_of({"code": msgspec.Raw(code)}, "code"), resource_type)

    def index_of(self, value_set: str) -> CodeIndex[str]:
        """What finds the codes of one value set, by its url; empty if the content has none."""
        index: CodeIndex[str] = CodeIndex(self.addresses)
        index.add(self.codes.get(value_set, CodeSet()), value_set)
        index.settle()
        return index

    def facts_of_concept(self, concept: Any, resource_type: str) -> tuple[FactSpec, ...]:
        """The facts that a CodeableConcept codes for in a resource of this type.

        Where no code of it means any, its words are read for those facts that have words.
        """
        codings = concept.get("coding") if isinstance(concept, dict) else None
        by_code = self.facts_by_code.get(resource_type)
        found: tuple[FactSpec, ...] = ()
        if by_code is not None and isinstance(codings, list):
            for coding in codings:
                specs = by_code.find(coding)
                found = (*found, *(spec for spec in specs if spec not in found)) if found else specs
        if not found and resource_type in self.facts_in_words:
            said = said_by(concept)
            in_words = self.facts_in_words[resource_type]
            return tuple(spec for spec in in_words if spec.words and spec.words.mean_it(said))
        return found

    def facts_suggested(self, concept: Any) -> tuple[FactSpec, ...]:
        """The facts that a diagnosis may be of, none of whose codes is of a system that is known.

        By its code, if that means a fact in any system ("O91.22" without a system, or with the
        address of some year), and by its words, if they hold the label of a fact that diagnoses
        tell ("Mastitis, left"). A diagnosis with a code of a known system is of what that says; so
        of most that have nothing to do with milk nothing is suggested.

        This is for counting what was sent and not used. It is no reading: the code may mean
        something else, and the words may be those of a "no".
        """
        said = said_by(concept)
        by_code = self.facts_by_code.get("Condition")
        if by_code is None or not said.systems.isdisjoint(self.known_systems):
            return ()
        found = [
            name for text in said.texts for names in self.diagnoses.find(text) for name in names
        ]
        urls = {system.url for system in self.addresses.values()}
        for code in said.codes:
            for url in urls:
                found += [spec.id for spec in by_code.find({"system": url, "code": code})]
        return tuple(spec for spec in self.facts.values() if spec.id in found)

    def convert(self, fact_id: str, number: float, unit: Any) -> float | None:
        """A number in the fact's unit; ``None`` if its unit is of another kind, or missing.

        An annotation in braces, such as ``{sessions}``, is no unit (UCUM, section 2.1). What is no
        UCUM unit is looked up among the texts for units.
        """
        written = unit if isinstance(unit, str) else ""
        if "{" in written:
            if "log" in written.lower():  # a logarithm is another kind of number
                return None
            written = _ANNOTATION.sub("", written)
        conversions = self.conversions[fact_id]
        conversion = conversions.get(written) or conversions.get(plain_unit(written))
        return None if conversion is None else number * conversion[0] + conversion[1]

    def make_templates(self, key: PrefetchKey) -> list[str]:
        """The prefetch templates of a key, made from the codes of what comes under it.

        One, or as many as it takes for none to be longer than ``LONGEST_TEMPLATE`` when it is
        percent-encoded. Only what CDS Hooks 2.0.1 recommends every client to support: a type-level
        search with token equality, ``_sort`` and ``_count``, and root-level context tokens.
        """
        if key.by_id:
            return [f"{key.resource}/{{{{context.patientId}}}}"]
        start = f"{key.resource}?{key.search_by}={{{{context.patientId}}}}"
        end = f"&{key.search}" if key.search else ""
        codes: list[tuple[str, str]] = []
        if key.by_code:
            for spec in self.facts.values():
                if _comes_under(spec, key):
                    codes += self._searched_codes(spec, key)
        if key.by_activity:
            # A token with a system alone is for all of its codes (FHIR R4, "token").
            codes += [(OWN_ACTIVITY, "")]
            codes += [pair for pair in self.activities if pair[0] != OWN_ACTIVITY]
        if not codes:
            return [start + end]
        start += f"&{CODE_PARAMETER.get(key.resource, 'code')}="
        unique = dict.fromkeys(f"{system}|{code}" for system, code in codes)
        room = LONGEST_TEMPLATE - _encoded_length(start + end)
        if _encoded_length(",".join(unique)) > room:  # our own system as a whole is shorter
            others = [token for token in unique if not token.startswith(f"{OWN_FACT}|")]
            unique = dict.fromkeys([f"{OWN_FACT}|", *others])
        return [start + ",".join(part) + end for part in _parts(unique, room)]

    @property
    def searches(self) -> list[PrefetchKey]:
        """The keys under which records of the mother are asked for."""
        return [key for key in self.prefetch.values() if key.asked and not key.by_id]

    def _searched_codes(self, spec: FactSpec, key: PrefetchKey) -> list[tuple[str, str]]:
        """The codes by which a fact is searched under a key.

        Codes of diagnoses and procedures are not looked for in Observations.
        """
        codes = self.codes_of(spec.id)
        sources = {source.resource for source in spec.also_from}
        if key.resource != "Observation" or "Condition" not in sources:
            return codes
        return [pair for pair in codes if not pair[0].startswith(DIAGNOSES)]

    def codes_of(self, fact_id: str) -> list[tuple[str, str]]:
        """The codes that mean a fact: our own, and those of its ValueSet."""
        return [(OWN_FACT, fact_id), *self.codes.get(f"{VALUE_SET}{fact_id}", ())]

    def entries_of(self, sections: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Every entry of some sections, with the section."""
        for section in sections:
            for entry in getattr(self, section).values():
                yield section, entry

    def row_uses(self) -> dict[str, list[tuple[str, Any]]]:
        """Where each row is at work: the kind of entry, and the entry."""
        uses: dict[str, list[tuple[str, Any]]] = {row: [] for row in self.rows}
        for section, entry in self.entries_of(WITH_ROWS):
            for row in entry.rows:
                uses.setdefault(row, []).append((section.removesuffix("s"), entry))
        return uses


def _encoded_length(text: str) -> int:
    """How long a template is in an address, with a patient id of the usual length at most."""
    text = text.replace("{{context.patientId}}", "x" * 64)
    return len(quote(text, safe="?&="))


def _parts(tokens: Iterable[str], room: int) -> Iterator[list[str]]:
    """The tokens in their order, in lists that are each at most ``room`` long when encoded."""
    part: list[str] = []
    left = room
    for token in tokens:
        length = _encoded_length(f"{token},")
        if part and length > left:
            yield part
            part, left = [], room
        part.append(token)
        left -= length
    yield part


def _comes_under(spec: FactSpec, key: PrefetchKey) -> bool:
    if key.resource == "Observation":
        return spec.prefetch == key.id
    return any(source.prefetch == key.id for source in spec.also_from)
