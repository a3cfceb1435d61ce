"""How the cards read: short, her numbers first, no words of ours, and something to do on each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from cds_service.content.compiled import Content
from cds_service.engine.render import Prerendered
from tests.support.vignettes import Answered

MOST_WORDS = 120

# Words of the content's files that mean something else, or nothing, to who reads a card.
JARGON = re.compile(
    r"\b(guards?|guarded|findings?|facts?|rows?|held back|open|opened|interventions?|parameters?"
    r"|windows?|null|none recorded|conflicting|unusable|gates?|prefetch|value set)\b",
    re.IGNORECASE,
)

# What an action begins with. A card with a suggestion has one too.
IMPERATIVE = re.compile(
    r"\b(ask|assess|arrange|calm|call|change|check|do not|examine|explain|express|feed|find|have"
    r"|hold|keep|look|make|offer|order|pump|read|record|review|say|see|show|slow|stop|support|take"
    r"|talk|teach|tell|wait|watch|weigh)\b",
    re.IGNORECASE,
)
WITHOUT_SUGGESTION = {
    "medicines-and-milk",
    "medicines-going-home",
    "medicine-against",
    "medicines-together",
    "galactagogue-options",
    "data-needed",
    "check-incomplete",
}

_LINK = re.compile(r"\]\([^)]*\)|https?://\S+")


def words(card: dict[str, Any]) -> int:
    """Runs of letters or digits in summary and detail, without the addresses of links."""
    return len(re.findall(r"[^\W_]+", _LINK.sub("]", f"{card['summary']} {card['detail']}")))


def named(card: dict[str, Any]) -> str:
    name: str = card["source"]["topic"]["code"]
    return name


Cards = dict[str, list[dict[str, Any]]]


@pytest.fixture
def all_cards(answers: list[Answered]) -> Cards:
    """The cards of each mother on her hook."""
    return {answered.name: answered.cards for answered in answers}


def each(all_cards: Cards) -> Iterator[tuple[str, dict[str, Any]]]:
    for mother, cards in all_cards.items():
        for card in cards:
            yield mother, card


def test_a_card_is_at_most_120_words_long(all_cards: Cards) -> None:
    longer = {
        (mother, named(card)): words(card)
        for mother, card in each(all_cards)
        if words(card) > MOST_WORDS
    }
    assert longer == {}
    assert sum(len(cards) for cards in all_cards.values()) > 200


QUESTION = re.compile(r"Ask about: (.+)|: ask (.+)|: (.+)\?$", re.MULTILINE)


def test_a_card_asks_at_most_one_question(all_cards: Cards) -> None:
    """The others belong on the form, and are named."""
    asked = {
        (mother, named(card)): [match[0] for match in QUESTION.finditer(card["detail"])]
        for mother, card in each(all_cards)
    }
    assert {where: several for where, several in asked.items() if len(several) > 1} == {}
    assert sum(map(len, asked.values())) > 20


def test_a_summary_that_judges_a_volume_names_the_day(all_cards: Cards) -> None:
    judged = [
        card["summary"] for _, card in each(all_cards) if re.search(r"\d mL\b", card["summary"])
    ]
    assert len(judged) > 20
    for summary in judged:
        assert re.search(r"\bday \d+\b|\d h after birth", summary), summary


def test_every_card_says_what_to_do_or_asks_one_thing(all_cards: Cards) -> None:
    for mother, card in each(all_cards):
        told = f"{card['summary']}\n{card['detail']}"
        told += "\n".join(suggestion["label"] for suggestion in card.get("suggestions", ()))
        assert IMPERATIVE.search(told) or "?" in told, (mother, told)
        if named(card) not in WITHOUT_SUGGESTION:
            assert card.get("suggestions") or "Ask about: " in told, (mother, named(card))
            assert card["detail"].count("Ask about:") <= 1
            for asked in re.findall(r"Ask about: (.*)", card["detail"]):
                assert "," not in asked, (mother, asked)


def test_at_most_three_actions_are_written_out(all_cards: Cards) -> None:
    most = 0
    for mother, card in each(all_cards):
        written = re.findall(r"^(?:\* )?\*\*", card["detail"], re.MULTILINE)
        most = max(most, len(written))
        assert len(written) <= 3, (mother, card["detail"])
        assert len(re.findall(r"^Then: ", card["detail"], re.MULTILINE)) <= 1
    assert most == 3


def test_no_card_speaks_of_how_the_service_is_made(all_cards: Cards) -> None:
    for mother, card in each(all_cards):
        told = f"{card['summary']}\n{card['detail']}"
        for suggestion in card.get("suggestions", ()):
            told += f"\n{suggestion['label']}"
        assert not JARGON.search(told), (mother, JARGON.search(told), told)


def test_no_card_needs_markdown_to_be_rendered(all_cards: Cards) -> None:
    for mother, card in each(all_cards):
        assert "|" not in card["detail"], (mother, card["detail"])


def test_her_numbers_come_before_anything_else(all_cards: Cards) -> None:
    seen = 0
    for mother, card in each(all_cards):
        lines = card["detail"].splitlines()
        numbers = [n for n, line in enumerate(lines) if re.match(r"- .+: .+ ago$", line)]
        if numbers and named(card) not in WITHOUT_SUGGESTION:
            seen += 1
            assert lines[0].startswith("- "), (mother, card["detail"])
    assert seen > 100


def test_no_age_is_told_in_days_after_two_weeks(all_cards: Cards) -> None:
    for mother, card in each(all_cards):
        for days in re.findall(r"(\d+) (?:d|days?) ago", card["detail"]):
            assert 2 <= int(days) <= 14, (mother, card["detail"])
        for hours in re.findall(r"(\d+) h ago", card["detail"]):
            assert int(hours) < 48, mother
    told = " ".join(card["detail"] for _, card in each(all_cards))
    assert re.search(r"\d weeks ago", told)


# --- what it stands on --------------------------------------------------------------------------


def test_the_founding_article_is_not_cited(content: Content, all_cards: Cards) -> None:
    for _, card in each(all_cards):
        assert "Oracle" not in str(card)
        evidence = card["extension"]["org.lactation-cds"].get("evidence", ())
        assert all(content.evidence[name].primary for name in evidence)


def test_what_rests_on_the_founding_article_alone_cites_nothing(content: Content) -> None:
    printed = Prerendered(content)
    assert not content.evidence["founding-article"].primary
    for card in content.cards.values():
        for name in card.interventions:
            backing = printed.backing(card, name)
            sources = [*content.interventions[name].evidence, *card.evidence]
            primary = [source for source in sources if content.evidence[source].primary]
            assert backing.evidence == list(dict.fromkeys(primary))
            assert bool(backing.cited) == (card.cites and bool(primary))
            assert "Oracle" not in backing.cited


def test_a_card_says_its_grade_once(all_cards: Cards, content: Content) -> None:
    of_several = 0
    for mother, card in each(all_cards):
        told = [line for line in card["detail"].splitlines() if line.startswith("* ")]
        graded = [re.search(r"\*\* \(([a-z ]+)\)\.", line) for line in told]
        words_of = [found[1] for found in graded if found]
        if len(told) > 1:
            of_several += 1
            assert len(words_of) != len(told) or len(set(words_of)) > 1, (mother, named(card))
    assert of_several > 50
