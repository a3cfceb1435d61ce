"""Feeds: what is being ordered for the infant to eat (rows R19 and S7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ..content.codes import CodeIndex, CodeSet
from ..content.phrase_index import PhraseIndex
from ..content.schema import VALUE_SET
from ..fhir.chart import reference_to

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..content.schema import Feed
    from ..fhir.chart import Chart, Resource

# The parts of a NutritionOrder (FHIR R4) that name a feed: the members with its code and its text.
PARTS = {
    "enteralFormula": ("baseFormulaType", "baseFormulaProductName"),
    "supplement": ("type", "productName"),
    "oralDiet": ("type", "instruction"),
}


@dataclass(slots=True)
class OrderedFeed:
    """A feed that is being ordered, with references to the orders."""

    feed: Feed
    matched: Literal["code", "name"]
    references: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The id of the feed: orders with the same key are of one feed."""
        return self.feed.id

    @property
    def kinds(self) -> set[str]:
        """The names by which a card of the content can be about it: only its id."""
        return {self.feed.id}

    @property
    def name(self) -> str:
        """The name of the feed on a card."""
        return self.feed.name


class FeedIndex:
    """The content's feeds by code and by name."""

    def __init__(self, content: Content) -> None:
        self._by_code: CodeIndex[Feed] = CodeIndex(content.addresses)
        self._by_name: PhraseIndex[Feed] = PhraseIndex()
        for feed in content.feeds.values():
            self._by_code.add(content.codes.get(f"{VALUE_SET}feed-{feed.id}", CodeSet()), feed)
            for name in feed.names:
                self._by_name.add(name, feed)
        self._by_code.settle()

    def ordered(self, chart: Chart, orders: Iterable[Resource]) -> list[OrderedFeed]:
        """The feeds of the content that are being ordered, each once; no other orders."""
        found: dict[str, OrderedFeed] = {}
        for order in chart.orders_of("NutritionOrder", orders):
            reference = reference_to(order)
            for feed in self._recognise(order):
                known = found.setdefault(feed.feed.id, feed)
                known.references.append(reference)
        for known in found.values():
            known.references = list(dict.fromkeys(known.references))
        return list(found.values())

    def _recognise(self, order: Resource) -> Iterator[OrderedFeed]:
        for concept, product in _parts_of(order):
            codings = concept.get("coding")
            texts = [product, concept.get("text")]
            for coding in codings if isinstance(codings, list) else ():
                if not isinstance(coding, dict):
                    continue
                for feed in self._by_code.find(coding):
                    yield OrderedFeed(feed, "code")
                texts.append(coding.get("display"))
            for text in texts:
                if isinstance(text, str):
                    for meant in self._by_name.find(text):
                        yield from (OrderedFeed(feed, "name") for feed in meant)


def _parts_of(order: Resource) -> Iterator[tuple[dict[str, object], object]]:
    """Each concept of each part of an order, and then the part's product name."""
    for part, (concept_name, product_name) in PARTS.items():
        written = order.get(part)
        for each in written if isinstance(written, list) else [written]:
            if not isinstance(each, dict):
                continue
            concepts = each.get(concept_name)
            for concept in concepts if isinstance(concepts, list) else [concepts]:
                if isinstance(concept, dict):
                    yield concept, None
            yield {}, each.get(product_name)
