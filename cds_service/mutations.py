"""Mutations: is every threshold and every guard of the content watched by some vignette?

Each is one small change for the worse: a threshold or a curve a little lower or higher, a guard, an
``unless``, a ``held-back-by`` or a ``withheld-by`` gone, a gate always open, a card silent under a
gate that lets it through. A vignette must notice. What none notices is a survivor: content that
could be changed by mistake and nobody would see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from .conditions import Condition, FactCompares
from .content import WITH_CONDITIONS, Card, Content, Parameter, conditions_of

STEP = 0.1  # of the threshold, and at least one of its unit
DURATIONS = ("h", "d")  # of which a part of one counts


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change: what it is, in words, and how it is made and taken back."""

    name: str
    make: Callable[[], None]
    take_back: Callable[[], None]


def mutations(content: Content) -> Iterator[Mutation]:
    """Every mutation of a content. Only one may be made at a time."""
    for section, entry in content.entries_of(WITH_CONDITIONS):
        where = f"{section.removesuffix('s')} {entry.id}"
        for condition in conditions_of(entry):
            yield from _of_thresholds(condition, where)
        if getattr(entry, "unless", None) is not None:
            yield _without_unless(content, entry, f"{where}: without its unless")
        for member in ("guards", "held_back_by", "withheld_by"):
            names = getattr(entry, member, [])
            for name in names:
                rest = [other for other in names if other != name]
                yield _of_member(entry, member, rest, f"{where}: without {name}")
    for parameter in content.parameters.values():
        yield from _of_parameter(content, parameter)
    for gate in content.gates.values():
        yield _without(content.gates, gate.id, f"gate {gate.id}: always open")
    for card_id, gate_id in content.cards_under:
        under = content.cards[card_id].under
        yield _without(under, gate_id, f"card {card_id}: silent under {gate_id}")
    for curve in content.curves.values():
        for factor in (1 - STEP, 1 + STEP):
            points = [
                point.model_copy(update={"low": point.low * factor}) for point in curve.points
            ]
            name = f"curve {curve.id}: its low line at {factor:.0%}"
            yield _of_member(curve, "points", points, name)


def _of_thresholds(condition: Condition, where: str) -> Iterator[Mutation]:
    for part in condition.parts_within():
        if isinstance(part, FactCompares) and part.limit is not None and part.parameter is None:
            step = part.limit * STEP if part.in_duration else max(1.0, part.limit * STEP)
            for limit in (part.limit - step, part.limit + step):
                name = f"{where}: {part.fact}.{part.measure} {part.limit:g} -> {limit:g}"
                yield _of_member(part, "limit", limit, name)


def _without(entries: dict[str, Any], name: str, called: str) -> Mutation:
    all_of_them = dict(entries)

    def take_back() -> None:
        entries.clear()
        entries.update(all_of_them)

    return Mutation(called, partial(entries.pop, name), take_back)


def _of_parameter(content: Content, parameter: Parameter) -> Iterator[Mutation]:
    """A parameter a little lower and higher, wherever a condition uses it."""
    parts = [
        part
        for _, entry in content.entries_of(WITH_CONDITIONS)
        for condition in conditions_of(entry)
        for part in condition.parts_within()
        if isinstance(part, FactCompares) and part.parameter == parameter.id
    ]
    step = parameter.value * STEP
    if parameter.unit not in DURATIONS:
        step = max(1.0, step)
    for value in (parameter.value - step, parameter.value + step) if parts else ():
        name = f"parameter {parameter.id}: {parameter.value:g} -> {value:g}"
        factor = value / parameter.value
        limits = [part.limit for part in parts]

        def make(factor: float = factor, limits: list[float | None] = limits) -> None:
            for part, limit in zip(parts, limits, strict=True):
                part.limit = None if limit is None else limit * factor

        yield Mutation(name, make, partial(make, 1.0))


def _without_unless(content: Content, entry: Any, name: str) -> Mutation:
    """An entry without its ``unless``: a card in all its words."""
    worded = [*content.cards_under.items(), *content.cards_worded.items()]
    copies = [card for key, card in worded if key[0] == entry.id and isinstance(entry, Card)]
    unless = entry.unless

    def put(condition: Condition | None) -> None:
        for each in (entry, *copies):
            each.unless = condition

    return Mutation(name, partial(put, None), partial(put, unless))


def _of_member(owner: Any, member: str, value: Any, name: str) -> Mutation:
    put = partial(setattr, owner, member)
    return Mutation(name, partial(put, value), partial(put, getattr(owner, member)))
