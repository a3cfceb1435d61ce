"""Unmapped Observations: those of which no code means a fact of the content."""

from __future__ import annotations

import re

import msgspec

from ..content.codes import read_concept
from ..content.compiled import Content
from ..fhir.chart import Resource, member_of
from .facts import is_read, says_something

READ = frozenset(("code", "component"))
_OF_MILK = re.compile(r"milk|breast|lactat|let-?down|pumped|milch|lait\b|leche", re.IGNORECASE)


class Unmapped:
    """Judges for ``Chart`` whether an Observation that nothing reads may be about milk.

    With ``asked_by_code``, the EHR was asked for Observations by their codes. If it answers with a
    code of the hospital's own, that was most likely meant as an answer: the Observation may be
    about milk. A code of a known terminology (LOINC, SNOMED CT and so on) means something else,
    unless its words speak of milk. Without ``asked_by_code``, the words alone decide. An
    Observation that was withdrawn, or has no value, never matters.
    """

    def __init__(self, content: Content, asked_by_code: bool = True) -> None:
        self._content, self._asked = content, asked_by_code
        self._known: dict[bytes, bool | None] = {}  # by code as JSON: many records share one

    def __call__(self, resource: Resource) -> bool | None:
        """Whether an Observation may be about milk; ``None`` if it is read, or does not matter."""
        code = resource.get("code")
        if isinstance(code, msgspec.Raw) and "component" not in resource:
            written = bytes(code)
            if written not in self._known:
                self._known[written] = self._judge(resource)
            found = self._known[written]
        else:
            found = self._judge(resource)
        return found if found is not None and says_something(resource) else None

    def _judge(self, resource: Resource) -> bool | None:
        if is_read(self._content, resource):
            return None
        said = read_concept(member_of(resource, "code"))
        if any(_OF_MILK.search(text) for text in said.texts):
            return True
        if not self._asked or not (said.texts or said.codes):
            return None
        return said.systems.isdisjoint(self._content.addresses)
