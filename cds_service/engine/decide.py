"""Decide: which cards are shown to whoever opens a chart, and in which order.

``decide`` judges every card of a hook, ``suppress`` holds back those that a clinician has
overridden, and ``rank`` keeps at most four, the most urgent first. What a card says is put together
by the module for its kind in ``cards``. A card with nothing new to do is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..content.wording import as_sentence
from .card_json import MOST_CARDS
from .cards.interactions import PairKeys, decide_interactions
from .cards.interventions import decide_interventions
from .cards.medicines import decide_contraindicated, decide_medicines
from .cards.orders import decide_order, decide_unchecked
from .cards.parts import name_some
from .decision import CardDecision
from .medicines import TakenMedicine
from .render import Prerendered
from .suppression import INDICATORS

if TYPE_CHECKING:
    from ..content.schema import Card
    from .feeds import OrderedFeed
    from .findings import Findings
    from .suppression import Overridden, Suppression

_OF_AN_ORDER = re.compile(r"\*\*[^*\n]+\*\*: ")  # a paragraph with what was read of an order


class NothingEvaluated(Exception):
    """No card could be judged. An empty answer would be read as "no concern"."""


@dataclass(slots=True)
class Decided:
    """The cards of one patient before they are ranked, and those that a finding withholds.

    ``asks`` is the card that asks for data: ``None`` if the hook has none and there was no fault.
    """

    cards: list[CardDecision]
    withheld: list[str]  # the title of each, and the finding that withholds it
    asks: Card | None = None


def decide(findings: Findings, hook: str, prerendered: Prerendered) -> Decided:
    """Judge every card of a hook, but for the one that asks for data.

    A card that cannot be judged or put together is noted in ``findings.faults``, and the card that
    asks for data tells of it. Raises ``NothingEvaluated`` if no card could be judged.
    """
    judged = False
    told_pairs: PairKeys = set()
    decided = Decided([], [])
    asks: Card | None = None
    for card in findings.content.cards.values():
        findings.case.chart.go_on()
        if not findings.gates_let_through(card.under):
            judged = True
            continue
        if card.body == "data-needed":  # last: it tells what went wrong with the others
            if asks is None or hook in card.hooks:
                asks = card
            continue
        if hook not in card.hooks:
            continue
        holds = findings.holds("card", card.title, card.when, card.unless)
        judged = judged or holds is False
        if holds is not True:
            continue
        stronger = next((name for name in card.withheld_by if findings.finding(name) is True), None)
        if stronger is not None:
            judged = True
            decided.withheld.append(f"{card.title} ({findings.content.findings[stronger].label})")
            continue
        try:
            decided.cards += _decide_card(findings.worded(card), findings, prerendered, told_pairs)
        except Exception as error:
            findings.note_fault(f"card {card.title}", error)
            continue
        judged = True
    if findings.faults and not judged:
        raise NothingEvaluated(", ".join(sorted(findings.faults)))
    if asks is not None and (hook in asks.hooks or findings.faults):
        decided.asks = findings.worded(asks)
    return decided


def suppress(
    cards: Iterable[CardDecision], suppression: Suppression
) -> tuple[list[CardDecision], list[tuple[CardDecision, Overridden]]]:
    """The cards that are shown, and those that are held back, each with the override that does it.

    There may be several of one card: a card about orders is decided on once for each order.
    """
    kept: list[CardDecision] = []
    suppressed: list[tuple[CardDecision, Overridden]] = []
    for decision in cards:
        said = suppression.override_of(decision)
        if said is None:
            kept.append(decision)
        else:
            suppressed.append((decision, said))
    return kept, suppressed


def rank(cards: list[CardDecision], withheld: list[str]) -> list[CardDecision]:
    """At most ``MOST_CARDS``, the most urgent first.

    The paragraphs of these cards are changed, in place: what two cards say of the same order stays
    on the more urgent one alone; the first card names what is withheld ("Withheld: ..."); and the
    last one names the cards that are left out ("Not shown, as less urgent: ...").
    """
    ranked = sorted(cards, key=lambda made: (INDICATORS.index(made.indicator), made.card.urgency))
    first = ranked[:MOST_CARDS]
    _say_once(first)
    if first and withheld:
        first[0].paragraphs.append(as_sentence(f"Withheld: {', '.join(withheld)}"))
    if len(ranked) > MOST_CARDS:
        left_out = ", ".join(_title_of(made) for made in ranked[MOST_CARDS:])
        first[-1].paragraphs.append(as_sentence(f"Not shown, as less urgent: {left_out}"))
    return first


def _say_once(cards: list[CardDecision]) -> None:
    """Drop from a less urgent card what a more urgent one says already of the same order."""
    said: set[str] = set()
    for made in cards:
        if made.card.body != "order":
            continue
        made.paragraphs = [paragraph for paragraph in made.paragraphs if paragraph not in said]
        said.update(paragraph for paragraph in made.paragraphs if _OF_AN_ORDER.match(paragraph))


def _title_of(made: CardDecision) -> str:
    """The title of a card that is not shown; of one about orders, with the names of the orders."""
    title = made.card.title
    return f"{title} ({name_some(made.orders)})" if made.card.body == "order" else title


def _decide_card(
    card: Card, findings: Findings, prerendered: Prerendered, told_pairs: PairKeys
) -> list[CardDecision]:
    """What is decided on one card: none, one, or one for each order that the card is about."""
    made: list[CardDecision | None]
    if card.body == "order":
        orders: list[TakenMedicine | OrderedFeed]
        orders = [*findings.case.ordered_medicines, *findings.case.ordered_feeds]
        if card.as_one:
            made = [decide_unchecked(card, findings, prerendered, told_pairs)]
        else:
            made = [
                decide_order(card, order, findings, prerendered, told_pairs) for order in orders
            ]
    elif card.body == "medicines":
        made = [decide_medicines(card, findings, prerendered)]
    elif card.body == "against":
        made = [decide_contraindicated(card, findings, prerendered)]
    elif card.body == "together":
        made = [decide_interactions(card, findings, prerendered, told_pairs)]
    else:
        made = [decide_interventions(card, findings, prerendered)]
    return [each for each in made if each is not None]
