"""Cards about medicines that interact, and what a card about an order says of interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..card_json import Told
from ..decision import CardDecision
from ..facts import MOST_REFERENCES
from ..medicines import TakenMedicine
from ..render import MOST_CITED, Prerendered, links_of
from ..together import SAYS, TO_WARN_OF, Pair
from .parts import MOST_WORDS, could_not_be_read, count_words, name_some, start_card

if TYPE_CHECKING:
    from ...content.schema import Card, Evidence
    from ..feeds import OrderedFeed
    from ..findings import Findings

MOST_PAIRS = 3  # interactions that are described in full
MOST_IN_A_SUMMARY = 2  # medicines that a summary names as interacting with one
PairKeys = set[frozenset[str]]  # of the interacting pairs that a card of this answer tells already


def decide_interactions(
    card: Card, findings: Findings, prerendered: Prerendered, told_pairs: PairKeys
) -> CardDecision | None:
    """A card about medicines that are taken together and interact; a warning if one is severe."""
    pairs = untold(findings.pairs, told_pairs)
    if not pairs:
        return None
    told_pairs.update(pair.key for pair in pairs)
    summary = f"{names_of(pairs)}{card.summary.say(findings)}"
    paragraphs = [
        card.opening.say(findings) if card.opening else "",
        could_not_be_read(findings.unread),
    ]
    words_left = MOST_WORDS - sum(count_words(text) for text in (summary, *paragraphs))
    sources = prerendered.cited(evidence_of(pairs))
    lines = say_pairs(pairs, words_left, sources if card.cites else [])
    made = start_card(card, findings, summary, [*lines, *paragraphs])
    if any(pair.severity in TO_WARN_OF for pair in pairs):
        made.indicator = "warning"
    made.links = links_of(sources) if card.cites else {}
    made.because = [told_pair(pair, "active-medicines") for pair in pairs]
    made.rows.update(row for pair in pairs for row in pair.interaction.rows)
    made.evidence = [source.id for source in sources]
    return made


def untold(pairs: list[Pair], told_pairs: PairKeys) -> list[Pair]:
    """The pairs that no card of this answer tells yet: none is told twice."""
    return [pair for pair in pairs if pair.key not in told_pairs]


def names_of(pairs: list[Pair], first: TakenMedicine | OrderedFeed | None = None) -> str:
    """The names in the most severe pairs, how many more there are, and how severe the first is.

    ``first`` is an order, which is named before the medicine that it interacts with.
    """
    alike = _alike(pairs, first)
    name, others = alike[0][0], alike[0][1][:MOST_IN_A_SUMMARY]
    rest = len(pairs) - len(others)
    more = f" and {rest} more" if rest else ""
    return f"{name} with {', '.join(others)}{more}: {SAYS[pairs[0].severity]}"


def _alike(
    pairs: list[Pair], first: TakenMedicine | OrderedFeed | None = None
) -> list[tuple[str, list[str], str]]:
    """Pairs with one medicine in common and the same line: its name, the others, the line."""
    alike: dict[tuple[str, str], tuple[str, list[str], str]] = {}
    for pair in pairs:
        one = first if isinstance(first, TakenMedicine) else pair.one
        key = one.key, pair.interaction.id
        said = alike.setdefault(key, (one.name, [], pair.interaction.line))
        said[1].append(pair.across_from(one).name)
    return list(alike.values())


def say_pairs(
    pairs: list[Pair],
    words_left: int,
    sources: list[Evidence],
    first: TakenMedicine | OrderedFeed | None = None,
) -> list[str]:
    """As many pairs as fit with their lines, one at least; the others by name; then the sources.

    Sources that do not fit are left out: the card links to them.
    """
    alike = _alike(pairs, first)
    for count in range(min(len(alike), MOST_PAIRS), 0, -1):
        lines = [
            f"- **{name} with {name_some(others)}**: {line}" for name, others, line in alike[:count]
        ]
        rest = [f"{name} with {name_some(others)}" for name, others, _ in alike[count:]]
        more = len(rest) - MOST_PAIRS
        also = "; ".join([*rest[:MOST_PAIRS], *([f"{more} more"] if more > 0 else [])])
        said = ["\n".join(lines), f"Also: {also}." if also else ""]
        cited = list(dict.fromkeys(source.shortest for source in sources))
        said.append(f"Of these together: {name_some(cited, MOST_CITED)}." if cited else "")
        if count_words(" ".join(said)) <= words_left:
            return said
        if count == 1:
            shorter = said[:2] if sources else said
            if rest and count_words(" ".join(shorter)) > words_left:
                shorter = [said[0], f"Also {len(rest)} more."]
            return shorter
    return []


def evidence_of(pairs: list[Pair]) -> list[str]:
    """The ids of the sources of some pairs."""
    return [name for pair in pairs for name in pair.interaction.evidence]


def told_pair(pair: Pair, fact: str) -> Told:
    """A pair, as the extension tells it."""
    references = [*pair.one.references, *pair.other.references]
    return {
        "fact": fact,
        "value": "+".join(sorted(pair.key)),
        "interaction": pair.interaction.id,
        "severity": pair.severity,
        "references": list(dict.fromkeys(references))[:MOST_REFERENCES],
    }
