"""Observations that were asked for by their codes, and whose codes mean nothing here."""

from __future__ import annotations

import re

import msgspec

from ..content.codes import said_by
from ..content.compiled import Content
from ..fhir.chart import Resource, member_of
from .facts import is_read, says_something

READ = frozenset(("code", "component"))
_OF_MILK = re.compile(r"milk|breast|lactat|let-?down|pumped|milch|lait\b|leche", re.IGNORECASE)


class Unmapped:
    """Whether an Observation that nothing reads may be of milk all the same, for ``Chart``.

    Who is asked by code and sends a code of the hospital's own has most likely meant it as an
    answer, so that one may be. A code of a terminology that is known (LOINC, SNOMED CT and so on)
    says something else, unless its words speak of milk. If nobody ``asked_by_code``, the words
    decide alone. What was withdrawn, or has no value, never matters.
    """

    def __init__(self, content: Content, asked_by_code: bool = True) -> None:
        self._content, self._asked = content, asked_by_code
        self._known: dict[bytes, bool | None] = {}  # many records have one code

    def __call__(self, resource: Resource) -> bool | None:
        """``None`` if it is read, or need not be; else whether it may be of milk."""
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
        said = said_by(member_of(resource, "code"))
        if any(_OF_MILK.search(text) for text in said.texts):
            return True
        if not self._asked or not (said.texts or said.codes):
            return None
        return said.systems.isdisjoint(self._content.addresses)
