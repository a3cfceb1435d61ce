"""The codes of the content as FHIR CodeSystems and ValueSets, to be mapped and shared.

Our own codes are five CodeSystems: facts, answers, findings, activities and cards. Each fact,
answer, activity, medicine and feed is a ValueSet: our own code, if it has one, and the standard
codes that mean the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..content.codes import CodeSet, Concept, Filter, Pair, Part
from ..content.compiled import Content
from ..content.schema import OWN_ACTIVITY, OWN_ANSWER, OWN_FACT, VALUE_SET
from ..engine.render import TOPIC_SYSTEM
from ..fhir.chart import Resource

OWN_FINDING = "urn:lactation-cds:finding"


def code_systems(content: Content) -> dict[str, Resource]:
    """A FHIR R4 CodeSystem for facts, answers, findings, activities and cards, by file name."""
    facts = [(fact.id, fact.label, _defined(fact.note)) for fact in content.facts.values()]
    labels: dict[str, set[str]] = {}
    for fact in content.facts.values():
        for answer, spec in fact.answers.items():
            labels.setdefault(answer, set()).add(spec.label)
    # If facts label an answer differently, its display is the answer itself ("former").
    answers = [
        (answer, said.pop() if len(said) == 1 else answer, None) for answer, said in labels.items()
    ]
    activities = [(entry.id, entry.label, None) for entry in content.interventions.values()]
    findings = [
        (entry.id, entry.label, _defined(entry.note)) for entry in content.findings.values()
    ]
    cards = [(card.id, card.title, None) for card in content.cards.values()]
    named: list[tuple[str, str, str, Iterable[tuple[str, str, str | None]]]] = [
        ("fact", "Lactation facts", OWN_FACT, facts),
        ("answer", "Answers of lactation facts", OWN_ANSWER, answers),
        ("finding", "Findings of lactation-cds", OWN_FINDING, findings),
        ("activity", "Activities that support lactation", OWN_ACTIVITY, activities),
        ("card", "Cards of lactation-cds", TOPIC_SYSTEM, cards),
    ]
    return {
        f"CodeSystem-lactation-cds-{name}.json": _code_system(content, name, title, url, concepts)
        for name, title, url, concepts in named
    }


def value_sets(content: Content) -> dict[str, Resource]:
    """A FHIR R4 ValueSet for each fact, coded answer, activity, medicine and feed, by file name."""
    sets: dict[str, tuple[str, list[Pair]]] = {}
    for fact in content.facts.values():
        sets[fact.id] = fact.label, [(OWN_FACT, fact.id)]
        if fact.type == "coded":
            for answer in fact.answers:
                label = f"{fact.label}: {fact.label_of(answer)}"
                sets[f"{fact.id}-{answer}"] = label, [(OWN_ANSWER, answer)]
    for answer in ("yes", "no"):
        sets[answer] = answer, [(OWN_ANSWER, answer)]
    for name, intervention in content.interventions.items():
        sets[f"activity-{name}"] = intervention.label, [(OWN_ACTIVITY, name)]
    for medicine in content.medicines.values():
        pairs = [(code.system, code.code) for code in medicine.codes]
        sets[f"medicine-{medicine.id}"] = medicine.name, pairs
    for feed in content.feeds.values():
        sets[f"feed-{feed.id}"] = feed.name, []
    made = {}
    for name, (title, pairs) in sets.items():
        standard = content.codes.get(VALUE_SET + name, CodeSet())
        codes = CodeSet(dict.fromkeys(pairs, True) | standard.concepts, standard.families)
        if codes.concepts or codes.families:
            made[f"ValueSet-lactation-cds-{name}.json"] = _value_set(content, name, title, codes)
    return made


def _value_set(content: Content, name: str, title: str, codes: CodeSet) -> Resource:
    compose = {"include": list(_parts(codes, True)), "exclude": list(_parts(codes, False))}
    return {
        "resourceType": "ValueSet",
        "id": f"lactation-cds-{name}"[:64],
        "url": VALUE_SET + name,
        "version": content.version,
        "name": "".join(word.capitalize() for word in name.split("-")),
        "title": title,
        "status": "draft",
        "experimental": False,
        "compose": {part: written for part, written in compose.items() if written},
    }


def _parts(codes: CodeSet, counting: bool) -> Iterator[Part]:
    """The ``include`` (or ``exclude``) of a set: the concepts of each system, then each family."""
    systems: dict[str, list[Concept]] = {}
    for (system, code), counts in codes.concepts.items():
        if counts is counting:
            systems.setdefault(system, []).append({"code": code})
    for system, concepts in systems.items():
        yield {"system": system, "concept": concepts}
    for (system, code), counts in codes.families.items():
        if counts is counting:
            family: Filter = {"property": "concept", "op": "is-a", "value": code}
            yield {"system": system, "filter": [family]}


def _defined(note: str | None) -> str | None:
    return " ".join(note.split()) if note else None


def _code_system(
    content: Content,
    name: str,
    title: str,
    url: str,
    concepts: Iterable[tuple[str, str, str | None]],
) -> Resource:
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
