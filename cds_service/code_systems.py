"""The project's own codes as FHIR CodeSystems, made from the content, to be mapped and shared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .cards import TOPIC_SYSTEM
from .content import OWN_ACTIVITY, OWN_ANSWER, OWN_FACT, Content


def code_systems(content: Content) -> dict[str, dict[str, Any]]:
    """A FHIR R4 CodeSystem for facts, answers, activities and cards, by file name."""
    facts = [(fact.id, fact.label, _defined(fact.note)) for fact in content.facts.values()]
    labels: dict[str, set[str]] = {}
    for fact in content.facts.values():
        for answer, spec in fact.answers.items():
            labels.setdefault(answer, set()).add(spec.label)
    # What several facts share ("yes", "no", "former") has no words of one of them.
    answers = [
        (answer, said.pop() if len(said) == 1 else answer, None) for answer, said in labels.items()
    ]
    activities = [(entry.id, entry.label, None) for entry in content.interventions.values()]
    cards = [(card.id, card.title, None) for card in content.cards.values()]
    named: list[tuple[str, str, str, Iterable[tuple[str, str, str | None]]]] = [
        ("fact", "Lactation facts", OWN_FACT, facts),
        ("answer", "Answers of lactation facts", OWN_ANSWER, answers),
        ("activity", "Activities that support lactation", OWN_ACTIVITY, activities),
        ("card", "Cards of lactation-cds", TOPIC_SYSTEM, cards),
    ]
    return {
        f"CodeSystem-lactation-cds-{name}.json": _code_system(content, name, title, url, concepts)
        for name, title, url, concepts in named
    }


def _defined(note: str | None) -> str | None:
    return " ".join(note.split()) if note else None


def _code_system(
    content: Content,
    name: str,
    title: str,
    url: str,
    concepts: Iterable[tuple[str, str, str | None]],
) -> dict[str, Any]:
    listed = [
        {"code": code, "display": display} | ({"definition": definition} if definition else {})
        for code, display, definition in sorted(concepts)
    ]
    return {
        "resourceType": "CodeSystem",
        "id": f"lactation-cds-{name}",
        "url": url,
        "version": content.version,
        "name": "".join(word.capitalize() for word in title.replace("-", " ").split()),
        "title": title,
        "status": "draft",
        "experimental": False,
        "caseSensitive": True,
        "content": "complete",
        "count": len(listed),
        "concept": listed,
    }
