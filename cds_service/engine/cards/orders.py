"""Cards about medicines and feeds that are being ordered; their suggestions take an order back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...content.schema import INTERACTING, NOT_READ
from ...content.wording import LONGEST_SUMMARY, as_sentence
from ..card_json import Told
from ..decision import CardDecision, TakenBack
from ..medicines import TakenMedicine
from ..render import Prerendered, links_of
from ..together import TO_WARN_OF, Pair
from .interactions import PairKeys, evidence_of, names_of, say_pairs, told_pair, untold
from .parts import (
    MOST_WORDS,
    could_not_be_read,
    count_words,
    evidence_line,
    fit_names,
    how_matched,
    list_contraindications,
    name_some,
    start_card,
    table_of,
    who_says,
    with_names,
)

if TYPE_CHECKING:
    from ...content.schema import Card
    from ..feeds import OrderedFeed
    from ..findings import Contraindications, Findings

MOST_UNKNOWN = (
    3  # contraindications that are named as not known, on a card that also tells of interactions
)


def decide_order(
    card: Card,
    order: TakenMedicine | OrderedFeed,
    findings: Findings,
    prerendered: Prerendered,
    told_pairs: PairKeys,
) -> CardDecision | None:
    """A card about a medicine or feed that is being ordered; its suggestion takes it back."""
    if not _is_about(card, order, findings, told_pairs):
        return None
    reading = findings.read(order)[1] if isinstance(order, TakenMedicine) else NOT_READ
    medicine = order if isinstance(order, TakenMedicine) and card.cites else None
    checked: Contraindications | None = None
    beyond: list[str] = []  # of its dose, what is more than is allowed
    if medicine is not None and medicine.medicine is not None:
        beyond = medicine.medicine.beyond_limits(findings.jurisdiction, medicine.dose)
    intervention = findings.content.with_contraindications.get(order.key)
    if card.if_contraindicated and intervention is not None and isinstance(order, TakenMedicine):
        checked = findings.with_orders_beside(order).contraindications(intervention)
        against = checked.present or beyond
        if not against and (card.if_contraindicated == "present" or not checked.unknown):
            return None
    backing = prerendered.backing(card)
    line = reading.ordered or reading.line
    limits = ""
    if isinstance(order, TakenMedicine) and order.medicine is not None:
        limits = order.medicine.say_limits(findings.jurisdiction)
        limits += f" This order is for more: {', '.join(beyond)}." if beyond else ""
    pairs: list[Pair] = []
    if isinstance(order, TakenMedicine) and (checked or INTERACTING in card.about):
        pairs = untold(findings.pairs_with(order), told_pairs)
        told_pairs.update(pair.key for pair in pairs)
    before = [
        table_of(card, findings),
        card.opening.say(findings) if card.opening else "",
        f"**{order.name}**: {' '.join(filter(None, (line, limits)))}"
        if medicine is not None and line
        else "",
        as_sentence(f"{who_says(reading, findings.content)} names in its place: {reading.instead}")
        if medicine is not None and reading.instead
        else "",
    ]
    listed = ""
    if checked:
        most_unknown = MOST_UNKNOWN if pairs else LONGEST_SUMMARY
        listed = list_contraindications(checked, findings, most_unknown)
    after = [
        "The order was matched by its name." if order.matched == "name" else "",
        could_not_be_read(findings.unread_for_orders),
        evidence_line(backing, set(), findings),
    ]
    said = card.summary.say(findings)
    name = order.name
    if INTERACTING in card.about:
        name = names_of(pairs, order)
    summary = f"{name}{'' if said.startswith((':', '.')) else ' '}{said}"
    if card.summary_names and checked:
        # What could not be checked is on the card, and not in its headline: it is no finding.
        found = [*beyond, *(each.short.say(findings) for each in checked.present)]
        summary = with_names(summary, found)
    words_left = MOST_WORDS - sum(map(count_words, (summary, *before, listed, *after)))
    sources = prerendered.cited(evidence_of(pairs))
    named_sources = sources if card.cites else []
    together = say_pairs(pairs, words_left, named_sources, order)
    if checked and sum(map(count_words, together)) > words_left:
        listed = list_contraindications(checked, findings, 1)
    made = start_card(card, findings, summary, [*before, listed, *together, *after])
    if INTERACTING in card.about and all(pair.severity not in TO_WARN_OF for pair in pairs):
        made.indicator = "info"
    _offer_to_take_back(made, [order])
    if medicine is not None and medicine.medicine is not None:
        made.links |= prerendered.sources_of(medicine, reading)
    made.links |= backing.links | links_of(named_sources)
    if checked:
        made.contraindications[order.key] = checked
    made.evidence = list(dict.fromkeys([*backing.evidence, *(source.id for source in sources)]))
    made.because = [_told_of(order), *(told_pair(pair, "orders") for pair in pairs)]
    made.rows.update(row for pair in pairs for row in pair.interaction.rows)
    return made


def decide_unchecked(
    card: Card, findings: Findings, prerendered: Prerendered, told_pairs: PairKeys
) -> CardDecision | None:
    """One card about all orders that were not read for milk or not recognised, each by name."""
    orders = [
        order
        for order in findings.case.ordered_medicines
        if _is_about(card, order, findings, told_pairs)
        and not order.part_of  # the product that it is a part of is listed itself
    ]
    if not orders:
        return None
    in_part = [f"{order.name} ({order.read_in_part})" for order in orders if order.left]
    unknown = [order.name for order in orders if order.medicine is None and not order.left]
    unread = [f"{order.name}{how_matched(order)}" for order in orders if order.medicine]
    summary = with_names(card.summary.say(findings), [order.name for order in orders])

    def say(most: int) -> list[str]:
        return [
            f"Look up by name: {name_some(in_part, most)}." if in_part else "",
            f"Neither a code nor a name in our list: {name_some(unknown, most)}."
            if unknown
            else "",
            f"In our list, but not read for milk: {name_some(unread, most)}." if unread else "",
            card.opening.say(findings) if card.opening else "",
            could_not_be_read(findings.unread_for_orders),
        ]

    made = start_card(card, findings, summary, fit_names(say, MOST_WORDS - count_words(summary)))
    _offer_to_take_back(made, orders)
    for order in orders:
        made.links |= prerendered.sources_of(order)
    made.because = [_told_of(order) for order in orders]
    return made


def _is_about(
    card: Card, order: TakenMedicine | OrderedFeed, findings: Findings, told_pairs: PairKeys
) -> bool:
    """Whether a card is about an order: by its id, its effects, its band or an interaction."""
    kinds = order.kinds
    if isinstance(order, TakenMedicine) and order.medicine is not None:
        kinds = kinds | {findings.read(order)[0]}
        if INTERACTING in card.about and untold(findings.pairs_with(order), told_pairs):
            kinds.add(INTERACTING)
    return not kinds.isdisjoint(card.about) and kinds.isdisjoint(card.not_about)


def _told_of(order: TakenMedicine | OrderedFeed) -> Told:
    """An order, as the extension tells it."""
    return {
        "fact": "orders",
        "value": order.key,
        "matched": order.matched,
        "references": order.references,
    }


def _offer_to_take_back(made: CardDecision, orders: Sequence[TakenMedicine | OrderedFeed]) -> None:
    made.orders = [order.name for order in orders]
    made.to_take_back = [
        TakenBack(order.name, draft)
        for order in orders
        for draft in dict.fromkeys(order.references)
        if not draft.endswith("/?")  # a draft without an id cannot be referred to
    ]
