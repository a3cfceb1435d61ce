"""The phrase index: what a text that a person wrote means, such as "Tylenol 500 mg tablet"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Meant = TypeVar("Meant")

LONGEST_TEXT = 1000  # characters of a text from elsewhere: no name is longer

_WORD = re.compile(r"[a-z0-9]+")
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[#/%|-]")
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
_LETTERS = re.compile(r"[^\W_]+")
NAMED = " | "  # what stands for a name in the rest of a text
_END_OF_CLAUSE = re.compile(r"[,;:()\[\]]")
BETWEEN = 3  # words that may stand between what denies a phrase and the phrase


class PhraseIndex(Generic[Meant]):
    """What each name means. A name is found in a text as whole words; the longest wins.

    So "amoxicillin and clavulanic acid" is that one, and not amoxicillin too.
    """

    def __init__(self) -> None:
        self._meant: dict[tuple[str, ...], list[tuple[Meant, bool]]] = {}
        self._longest = 1

    def add(self, name: str, meant: Meant, whole: bool = False) -> None:
        """Let a name mean something; if ``whole``, only where it is the whole text."""
        words = tuple(_WORD.findall(name.lower()))
        known = self._meant.setdefault(words, [])
        if (meant, whole) not in known:
            known.append((meant, whole))
        self._longest = max(self._longest, len(words))

    def find(self, text: str) -> list[list[Meant]]:
        """What stands in a text, in its order: for each name in it, all that the name means.

        Only its first ``LONGEST_TEXT`` characters are looked at.
        """
        return self.read(text)[0]

    def read(self, text: str) -> tuple[list[list[Meant]], str]:
        """What stands in a text, as ``find`` says it, and the text without the names."""
        text = text[:LONGEST_TEXT].lower()
        spans = [match.span() for match in _WORD.finditer(text)]
        words = tuple(text[slice(*span)] for span in spans)
        found: list[list[Meant]] = []
        rest: list[str] = []
        start = read = 0
        while start < len(words):
            length, meant = self._longest_at(words, start)
            if meant:
                found.append(meant)
                rest.append(text[read : spans[start][0]])
                read = spans[start + length - 1][1]
            start += length
        return found, NAMED.join([*rest, text[read:]])

    def _longest_at(self, words: tuple[str, ...], start: int) -> tuple[int, list[Meant]]:
        """The length in words of the longest name here, and what it means; 1 if there is none."""
        for length in range(min(self._longest, len(words) - start), 0, -1):
            meant = [
                each
                for each, whole in self._meant.get(words[start : start + length], ())
                if not whole or length == len(words)
            ]
            if meant:
                return length, meant
        return 1, []


class Unmeaning:
    """What says nothing of which medicine is meant: strengths, forms, routes, salts.

    A number is a strength if a unit follows, if another number stands beside it ("5/325"), if it
    has two digits, behind a strength, or behind a word that counts ("take 2"). One that stands
    behind a sign or a name alone is none: the 3 of "Tylenol #3" is a part of what it is called.
    """

    def __init__(self, words: Iterable[str], units: Iterable[str], counting: Iterable[str]) -> None:
        self._units = {unit.lower() for unit in units}
        self._counting = {word.lower() for word in counting}
        self._words = {word.lower() for word in words} | self._counting
        self._words |= {unit for unit in self._units if len(unit) > 1}

    def left_of(self, text: str) -> list[str]:
        """What is left of a text in small letters, if all that says nothing is taken away."""
        tokens = _TOKEN.findall(_APOSTROPHE.sub("", text))
        left: list[str] = []
        has_strength = False
        for place, token in enumerate(tokens):
            before = tokens[place - 1] if place else ""
            after = tokens[place + 1] if place + 1 < len(tokens) else ""
            if token[0].isdigit():
                has_unit = after.strip("-") in self._units or (
                    after == "-" and "".join(tokens[place + 2 : place + 3]) in self._units
                )
                digits = sum(map(str.isdigit, token))
                is_strength = has_unit or digits > 1 or _is_beside_a_number(tokens, place)
                has_strength = has_strength or is_strength
                counts = (has_strength and before != "#") or before in self._counting
                if not (is_strength or counts):
                    left.append(f"#{token}" if before == "#" else token)
            elif token[0].isalpha() or token in self._units:
                follows = before[:1].isdigit() or before in ("/", "-", "per")
                is_unit = token in self._units and follows and has_strength
                if token not in self._words and not is_unit:
                    left.append(token)
        return left


def _is_beside_a_number(tokens: list[str], place: int) -> bool:
    """Whether a slash, a dash or an x stands between a number and another one."""
    for step in (1, -1):
        between, other = place + step, place + 2 * step
        if not 0 <= other < len(tokens):
            continue
        if tokens[between] in ("/", "-", "x") and tokens[other][0].isdigit():
            return True
    return False


class Phrases:
    """Phrases that mean something in a text, unless others deny it: "no", "history of".

    Nor do they mean it as a part of a phrase that means something else: "lost baby weight".
    """

    def __init__(
        self,
        mean: Iterable[str],
        unless_after: Iterable[str] = (),
        unless_before: Iterable[str] = (),
        unless_part_of: Iterable[str] = (),
    ) -> None:
        self._mean = [_words_of(phrase) for phrase in mean]
        self._first = {phrase[0] for phrase in self._mean}
        self._unless_part_of = [_words_of(phrase) for phrase in unless_part_of]
        self._unless_after = [_words_of(phrase) for phrase in unless_after]
        self._unless_before = [_words_of(phrase) for phrase in unless_before]

    def are_in(self, text: str) -> bool:
        """Whether one of them stands in a text and is not denied there.

        Only the first ``LONGEST_TEXT`` characters are looked at.
        """
        text = text[:LONGEST_TEXT]
        if self._first.isdisjoint(_words_of(text)):
            return False  # as nearly always
        clauses = [_words_of(each) for each in _END_OF_CLAUSE.split(text)]
        for number, words in enumerate(clauses):
            rest = [word for clause in clauses[number + 1 :] for word in clause]
            others = list(_places(words, self._unless_part_of))
            for start, end in _places(words, self._mean):
                if any(first <= start and end <= last for first, last in others):
                    continue
                before = words[:start]
                nearly = before[-BETWEEN - _longest(self._unless_after) :]
                denied = any(
                    len(nearly) - e <= BETWEEN for _, e in _places(nearly, self._unless_after)
                )
                after = [*words[end:], *rest]
                if not denied and not any(_places(after, self._unless_before)):
                    return True
        return False


def _words_of(text: str) -> list[str]:
    return _LETTERS.findall(text.lower())


def _longest(phrases: list[list[str]]) -> int:
    return max(map(len, phrases), default=0)


def _places(words: list[str], phrases: list[list[str]]) -> Iterator[tuple[int, int]]:
    """Where any of some phrases stands: its first word, and the one behind its last."""
    for start in range(len(words)):
        for phrase in phrases:
            if words[start : start + len(phrase)] == phrase:
                yield start, start + len(phrase)
