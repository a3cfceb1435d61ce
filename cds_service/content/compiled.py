"""The content, compiled: what people wrote, and what is derived of it when it is loaded.

``loader.load_content`` builds it; afterwards nothing changes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..fhir.chart import Resource
from .codes import CodeIndex
from .entries import Entries
from .fact_lookup import FactLookup
from .fact_types import FactSpec, FactValue
from .schema import Card, Interaction, Intervention
from .wording import SpokenUnit


@dataclass(slots=True)
class Content(Entries):
    """The entries, and beside them what a request needs ready: it only looks up."""

    answers: dict[str, CodeIndex[str]] = field(default_factory=dict)  # by fact
    not_recorded: dict[str, FactValue] = field(default_factory=dict)  # each without a record
    spoken_units: dict[str, SpokenUnit] = field(default_factory=dict)  # by UCUM unit
    suggested: dict[str, Resource] = field(default_factory=dict)  # by intervention
    activities: CodeIndex[str] = field(default_factory=lambda: CodeIndex({}))
    sides: CodeIndex[str] = field(default_factory=lambda: CodeIndex({}))  # of a breast
    # The interventions that have contraindications, by medicine.
    with_contraindications: dict[str, Intervention] = field(default_factory=dict)
    # What is said of two medicines together, by their ids: first that on the ``one`` side.
    pairs: dict[tuple[str, str], Interaction] = field(default_factory=dict)
    paired: set[str] = field(default_factory=set)  # the medicines of all of these
    cards_under: dict[tuple[str, str], Card] = field(default_factory=dict)  # by card and gate
    # By card, gate ("" while none is closed) and place among what is worded.
    cards_worded: dict[tuple[str, str, int], Card] = field(default_factory=dict)
    keys_by_resource: dict[str, tuple[str, ...]] = field(default_factory=dict)
    counting_facts: list[FactSpec] = field(default_factory=list)
    facts_of_birth: list[FactSpec] = field(default_factory=list)
    asked_facts: list[str] = field(default_factory=list)  # those that a rule looks at
    keys_in_use: set[str] = field(default_factory=set)
    prefetch_templates: dict[str, str] = field(default_factory=dict)  # by key
    lookup: FactLookup = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.lookup = FactLookup(self)
