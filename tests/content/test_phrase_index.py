"""Names in a text: whole words, the longest first, and every meaning of one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cds_service.content.phrase_index import PhraseIndex

WORDS = st.lists(st.sampled_from(["acid", "milk", "fish", "oil", "b12"]), min_size=1, max_size=4)


def names_of(*pairs: tuple[str, str]) -> PhraseIndex[str]:
    names: PhraseIndex[str] = PhraseIndex()
    for name, meant in pairs:
        names.add(name, meant)
    return names


def test_the_longest_name_wins_and_the_rest_of_the_text_is_still_read() -> None:
    names = names_of(("fish", "FISH"), ("fish oil", "OIL"), ("acid", "ACID"))
    assert names.find("Fish oil, folic ACID") == [["OIL"], ["ACID"]]
    assert names.find("a fish") == [["FISH"]]
    assert names.find("fishes") == []


def test_all_that_a_name_means_comes_together() -> None:
    names = names_of(("Duo", "one"), ("duo", "two"), ("duo", "one"))
    assert names.find("DUO forte") == [["one", "two"]]


def test_a_whole_name_is_the_whole_text() -> None:
    names: PhraseIndex[str] = PhraseIndex()
    names.add("alcohol", "ALCOHOL", whole=True)
    assert names.find("alcohol") == [["ALCOHOL"]]
    assert names.find("alcohol swab") == []


@given(name=WORDS, before=WORDS, after=WORDS)
def test_a_name_is_found_wherever_it_stands(
    name: list[str], before: list[str], after: list[str]
) -> None:
    names = names_of((" ".join(name), "it"))
    text = "; ".join(["x", *before, "y", *name, "y", *after])
    assert ["it"] in names.find(text)
