"""Content that cannot be judged and answers that cannot be read, on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cds_service.content.compiled import Content
from cds_service.content.conditions import Condition, Truth
from cds_service.fhir.chart import KeyResult, State

UNREADABLE = KeyResult(State.FAILED, reason="the record system was too slow")


class Broken(Condition):
    """A rule that throws."""

    def test(self, case: Any) -> Truth:
        raise ZeroDivisionError("Jane Doe")


def break_(content: Content, section: str, *names: str) -> Content:
    entries = dict(getattr(content, section))
    for name in names:
        entries[name] = entries[name].model_copy(update={"when": Broken()})
    changed: dict[str, Any] = {section: entries}
    if section == "cards":  # and as they are behind a gate, or in other words
        for copies in ("cards_under", "cards_worded"):
            changed[copies] = {
                key: card.model_copy(update={"when": Broken()}) if key[0] in names else card
                for key, card in getattr(content, copies).items()
            }
    return replace(content, **changed)
