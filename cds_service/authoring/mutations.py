"""Mutations: small mistakes in the content, made to see that some vignette notices each.

A mutation makes a threshold or a curve a little lower or higher; removes a contraindication,
an ``unless``, an ``unless-in-use``, a ``held-back-by``, a ``withheld-by`` or an interaction;
removes one of several exceptions to an intervention that is offered unless it is in use; keeps a
gate always open; or silences a card behind a gate that lets it through. A mutation that no vignette
notices is a survivor: somebody could change this part of the content by mistake, and no test would
fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..content.compiled import Content
from ..content.conditions import AnyOf, Condition, FactCompares
from ..content.fact_types import Entry
from ..content.schema import WITH_CONDITIONS, Card, Interaction, Parameter, conditions_of

STEP = 0.1  # part of the threshold by which it is moved; at least one unit
DURATIONS = ("h", "d")  # units in which a threshold may be moved by less than one


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change: its name in words, and the functions that make it and take it back."""

    name: str
    make: Callable[[], None]
    take_back: Callable[[], None]


def mutations(content: Content) -> Iterator[Mutation]:
    """All mutations of a content. They change it in place, so only one may be made at a time."""
    for section, entry in content.entries_of(WITH_CONDITIONS):
        where = f"{section.removesuffix('s')} {entry.id}"
        for condition in conditions_of(entry):
            yield from _of_thresholds(condition, where)
        owners = _in_all_words(content, entry)
        for member in ("unless", "unless_in_use"):
            if getattr(entry, member, None) is not None:
                called = member.replace("_", "-")
                yield _of_members(owners, member, None, f"{where}: without its {called}")
        for member in ("contraindications", "held_back_by", "withheld_by"):
            names = getattr(entry, member, [])
            for name in names:
                rest = [other for other in names if other != name]
                yield _of_members(owners, member, rest, f"{where}: without {name}")
    yield from _of_exceptions(content)
    for parameter in content.parameters.values():
        yield from _of_parameter(content, parameter)
    for interaction in content.interactions.values():
        yield _without_pairs(content, interaction)
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


def _of_exceptions(content: Content) -> Iterator[Mutation]:
    """Remove each exception to an intervention that is offered unless it is in use.

    An exception is a part of its ``unless``, or of a finding in it or in its ``held_back_by``, if
    that condition is an ``any``.
    """
    conditions: dict[str, Condition] = {}
    for intervention in content.interventions.values():
        if intervention.unless_in_use is None:
            continue
        names = set(intervention.held_back_by)
        if intervention.unless is not None:
            conditions[f"intervention {intervention.id}"] = intervention.unless
            names |= intervention.unless.findings()
        conditions |= {f"finding {name}": content.findings[name].when for name in sorted(names)}
    for where, condition in conditions.items():
        if not isinstance(condition, AnyOf):
            continue
        for part in condition.parts:
            rest = [other for other in condition.parts if other is not part]
            called = ", ".join(sorted(part.facts() | part.findings()))
            yield _of_member(condition, "parts", rest, f"{where}: without its exception {called}")


def _without(entries: dict[str, Any], name: str, called: str) -> Mutation:
    all_of_them = dict(entries)

    def take_back() -> None:
        entries.clear()
        entries.update(all_of_them)

    return Mutation(called, partial(entries.pop, name), take_back)


def _without_pairs(content: Content, interaction: Interaction) -> Mutation:
    """Remove the pairs of an interaction."""
    pairs = dict(content.pairs)

    def make() -> None:
        for pair in [each for each, said in pairs.items() if said is interaction]:
            del content.pairs[pair]

    name = f"interaction {interaction.id}: not said"
    return Mutation(name, make, partial(content.pairs.update, pairs))


def _of_parameter(content: Content, parameter: Parameter) -> Iterator[Mutation]:
    """Make a parameter a little lower and higher, in all conditions that use it."""
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


def _in_all_words(content: Content, entry: Entry) -> list[Entry]:
    """An entry; for a card, also its copies behind gates and with other words."""
    if not isinstance(entry, Card):
        return [entry]
    copies = [*content.cards_under.values(), *content.cards_worded.values()]
    return [entry, *(copy for copy in copies if copy.id == entry.id)]


def _of_member(owner: Any, member: str, value: Any, name: str) -> Mutation:
    return _of_members([owner], member, value, name)


def _of_members(owners: Sequence[Any], member: str, value: Any, name: str) -> Mutation:
    before = getattr(owners[0], member)

    def put(new: Any) -> None:
        for owner in owners:
            setattr(owner, member, new)

    return Mutation(name, partial(put, value), partial(put, before))
