"""The compiled content: the entries that people wrote, and the indexes derived from them.

``loader.load_content`` builds it; afterwards the service never changes it. Only the mutations of
``authoring.mutations`` do, one at a time, and each is taken back.
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
    """The entries of the content, and indexes made from them, so that a request only looks up."""

    answers: dict[str, CodeIndex[str]] = field(default_factory=dict)  # of each fact, by its id
    not_recorded: dict[str, FactValue] = field(default_factory=dict)  # each fact without a record
    spoken_units: dict[str, SpokenUnit] = field(default_factory=dict)  # by UCUM unit
    suggested: dict[str, Resource] = field(default_factory=dict)  # to be created, by intervention
    activities: CodeIndex[str] = field(default_factory=lambda: CodeIndex({}))
    sides: CodeIndex[str] = field(default_factory=lambda: CodeIndex({}))  # of a breast
    # The interventions that have contraindications, by medicine.
    with_contraindications: dict[str, Intervention] = field(default_factory=dict)
    # The interaction of two medicines, by their ids; that of side ``one`` comes first.
    pairs: dict[tuple[str, str], Interaction] = field(default_factory=dict)
    paired: set[str] = field(default_factory=set)  # the ids of all medicines in ``pairs``
    cards_under: dict[tuple[str, str], Card] = field(default_factory=dict)  # by card and gate
    # By card, closed gate ("" if none is closed), and place in the list ``worded``.
    cards_worded: dict[tuple[str, str, int], Card] = field(default_factory=dict)
    keys_by_resource: dict[str, tuple[str, ...]] = field(default_factory=dict)
    counting_facts: list[FactSpec] = field(default_factory=list)  # those with ``counts``
    facts_of_birth: list[FactSpec] = field(default_factory=list)  # those with ``before_birth``
    asked_facts: list[str] = field(default_factory=list)  # the ids of facts that a condition reads
    keys_in_use: set[str] = field(default_factory=set)  # prefetch keys that can change a card
    prefetch_templates: dict[str, str] = field(default_factory=dict)  # by key
    old_names: list[str] = field(default_factory=list)  # that its files have: file, line, sentence
    lookup: FactLookup = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.lookup = FactLookup(self)
