"""Names: what is meant by a text that a person wrote, such as "Tylenol 500 mg tablet"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Meant = TypeVar("Meant")

LONGEST_TEXT = 1000  # characters of a text from elsewhere: no name is longer

_WORD = re.compile(r"[a-z0-9]+")
_LETTERS = re.compile(r"[^\W_]+")
_END_OF_CLAUSE = re.compile(r"[,;:()\[\]]")
BETWEEN = 3  # words that may stand between what denies a phrase and the phrase


class Names(Generic[Meant]):
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
        words = tuple(_WORD.findall(text[:LONGEST_TEXT].lower()))
        found: list[list[Meant]] = []
        start = 0
        while start < len(words):
            length, meant = self._longest_at(words, start)
            if meant:
                found.append(meant)
            start += length
        return found

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


class Phrases:
    """Phrases that mean something in a text, unless others deny it: "no", "history of".

    Nor do they mean it as a part of a phrase that means something else: "lost baby weight".
    """

    def __init__(
        self,
        mean: Iterable[str],
        unless_after: Iterable[str],
        unless_before: Iterable[str],
        unless_part_of: Iterable[str] = (),
    ) -> None:
        self._mean = [_words_of(phrase) for phrase in mean]
        self._unless_part_of = [_words_of(phrase) for phrase in unless_part_of]
        self._unless_after = [_words_of(phrase) for phrase in unless_after]
        self._unless_before = [_words_of(phrase) for phrase in unless_before]

    def are_in(self, text: str) -> bool:
        """Whether one of them stands in a text and is not denied there.

        Only the first ``LONGEST_TEXT`` characters are looked at.
        """
        clauses = [_words_of(each) for each in _END_OF_CLAUSE.split(text[:LONGEST_TEXT])]
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
