"""Wording: her numbers in sentences that can never grow too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.content.compiled import Content
from cds_service.content.wording import LONGEST_SUMMARY, Wording, as_sentence, with_unit
from tests.support.mothers import birth, cards_of, milk, observation


@pytest.mark.parametrize(
    ("number", "decimals", "said"),
    [
        (61.8, 0, "62"),
        (0.5, 0, "0.5"),
        (38.25, 1, "38.2"),
        (5.0, 1, "5"),
        (9.96, 0, "10"),
        (0, 0, "0"),
    ],
)
def test_numbers_are_as_exact_as_they_deserve(number: float, decimals: int, said: str) -> None:
    assert with_unit(number, None, decimals) == said
    assert with_unit(number, "mL", decimals) == f"{said} mL"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Ask about: the shield", "Ask about: the shield."),
        ("**Is the shield still needed?**", "**Is the shield still needed?**"),
        ("**Teach her**", "**Teach her**."),
        ("Stop!", "Stop!"),
        ("warmth, massage etc.", "warmth, massage etc."),
        ("**Is it needed?** (low)", "**Is it needed?** (low)."),
    ],
)
def test_a_text_gets_no_second_mark_at_its_end(text: str, said: str) -> None:
    assert as_sentence(text) == said


@pytest.mark.parametrize("text", ["{nothing}", "{pump-mode.sum}", "{curve:nothing}"])
def test_a_placeholder_for_nothing_is_refused(content: Content, text: str) -> None:
    with pytest.raises(ValueError, match=r"there is no|has no measure"):
        Wording(text).longest(content)


@pytest.mark.parametrize(
    ("text", "fact", "measure"),
    [
        ("recorded for {tuberculosis.held}", "tuberculosis", "held"),
        ("{body-temperature}, for {mastitis.held}", "body-temperature", ""),
        ("still infectious?", "", ""),
    ],
)
def test_a_wording_is_about_its_first_placeholder(text: str, fact: str, measure: str) -> None:
    wording = Wording(text)
    assert (wording.fact, wording.measure) == (fact, measure)


@given(st.floats(0, 9999), st.integers(73, 24 * 360))
def test_a_summary_is_never_longer_than_was_promised(
    content: Content, volume: float, hours: int
) -> None:
    cards = cards_of(
        content,
        birth(hours),
        milk(volume, 1),
        observation("breast-fullness", "full"),
        observation("pump-session-minutes", (99, "min")),
        observation("letdown-sensation", False),
    )
    for name, card in cards.items():
        assert len(card["summary"]) <= LONGEST_SUMMARY
        if name == "inhibited-letdown":
            promised = content.cards[name].summary.longest(content)
            assert len(card["summary"]) <= promised <= LONGEST_SUMMARY
