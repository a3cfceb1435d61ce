"""The entries of the content as people wrote them, by section and id, and their ValueSets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .codes import CodeIndex, CodeSet, Systems, ValueSet
from .fact_types import FactSpec
from .schema import (
    OWN_FACT,
    VALUE_SET,
    WITH_ROWS,
    Ask,
    Assessment,
    Card,
    CodeSystem,
    Contraindication,
    Curve,
    Evidence,
    Feed,
    Finding,
    Gate,
    Grade,
    Interaction,
    Intervention,
    LactMedRecord,
    Medicine,
    NameWords,
    OverrideReason,
    Parameter,
    PrefetchKey,
    Row,
    Template,
    UnitKind,
)


@dataclass(slots=True)
class Entries:
    """The entries of each section by id, and the codes of the ValueSets."""

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
    gates: dict[str, Gate]  # in order: of several closed gates, the first decides
    contraindications: dict[str, Contraindication]
    interventions: dict[str, Intervention]
    templates: dict[str, Template]
    cards: dict[str, Card]
    asks: dict[str, Ask]
    lactmed_records: dict[str, LactMedRecord]  # by the id of the medicine
    medicines: dict[str, Medicine]
    interactions: dict[str, Interaction]
    feeds: dict[str, Feed]
    name_words: dict[str, NameWords]
    override_reasons: dict[str, OverrideReason]
    codes: dict[str, CodeSet]  # by the url of the ValueSet
    addresses: Systems  # each code system by each of its addresses
    value_set_files: list[tuple[str, ValueSet]]  # each with the name of its file

    @property
    def searches(self) -> list[PrefetchKey]:
        """The prefetch keys by which records are searched; not that of the Patient resource."""
        return [key for key in self.prefetch.values() if key.asked and not key.by_id]

    def codes_of(self, fact_id: str) -> list[tuple[str, str]]:
        """The codes that mean a fact: our own code, and those of its ValueSet."""
        return [(OWN_FACT, fact_id), *self.codes.get(f"{VALUE_SET}{fact_id}", ())]

    def index_of(self, value_set: str) -> CodeIndex[str]:
        """An index that finds the codes of one ValueSet, by its url; empty if there is none."""
        index: CodeIndex[str] = CodeIndex(self.addresses)
        index.add(self.codes.get(value_set, CodeSet()), value_set)
        index.settle()
        return index

    def entries_of(self, sections: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Every entry of some sections, each with the name of its section."""
        for section in sections:
            for entry in getattr(self, section).values():
                yield section, entry

    def row_uses(self) -> dict[str, list[tuple[str, Any]]]:
        """The entries that name each row, each with its kind (``card``, ``finding``, ...)."""
        uses: dict[str, list[tuple[str, Any]]] = {row: [] for row in self.rows}
        for section, entry in self.entries_of(WITH_ROWS):
            for row in entry.rows:
                uses.setdefault(row, []).append((section.removesuffix("s"), entry))
        return uses
