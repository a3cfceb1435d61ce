"""The phrase index: finds names and phrases in free text, such as "Tylenol 500 mg tablet".

``PhraseIndex`` finds names, of medicines for example. ``IgnoredWords`` removes the words that do
not say which medicine it is. ``Phrases`` finds phrases that are not denied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Meant = TypeVar("Meant")

LONGEST_TEXT = 1000  # characters that are read of a text from a record: no name is longer

_WORD = re.compile(r"[a-z0-9]+")
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[#/%|-]")
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
_LETTERS = re.compile(r"[^\W_]+")
NAMED = " | "  # replaces a name in the rest of a text
_END_OF_CLAUSE = re.compile(r"[,;:()\[\]]")
BETWEEN = 3  # the most words between a phrase and a denial before it


class PhraseIndex(Generic[Meant]):
    """Finds names in a text, and what each means. Names are matched as whole words.

    The longest name wins: "amoxicillin and clavulanic acid" is this one, and not amoxicillin too.
    """

    def __init__(self) -> None:
        self._meant: dict[tuple[str, ...], list[tuple[Meant, bool]]] = {}
        self._longest = 1

    def add(self, name: str, meant: Meant, whole: bool = False) -> None:
        """Add a meaning to a name; if ``whole``, it is found only where it is the whole text."""
        words = tuple(_WORD.findall(name.lower()))
        known = self._meant.setdefault(words, [])
        if (meant, whole) not in known:
            known.append((meant, whole))
        self._longest = max(self._longest, len(words))

    def find(self, text: str) -> list[list[Meant]]:
        """For each name in a text, in the order of the text, all meanings of the name.

        Only the first ``LONGEST_TEXT`` characters of the text are read.
        """
        return self.read(text)[0]

    def read(self, text: str) -> tuple[list[list[Meant]], str]:
        """The meanings of the names in a text, as in ``find``, and the rest of the text.

        The rest is in lower case, with ``NAMED`` in place of each name.
        """
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
        """The longest name at ``start``: its length in words (1 for none), and its meanings."""
        for length in range(min(self._longest, len(words) - start), 0, -1):
            meant = [
                each
                for each, whole in self._meant.get(words[start : start + length], ())
                if not whole or length == len(words)
            ]
            if meant:
                return length, meant
        return 1, []


class IgnoredWords:
    """The words that do not say which medicine is meant: strengths, forms, routes, salts.

    A number is not a part of the name if a unit follows, if another number stands beside it
    ("5/325"), if it has two digits or more, if it comes after a strength, or if it comes after a
    word of ``counting`` ("take 2"). Any other number is a part of the name: the 3 of "Tylenol #3".
    """

    def __init__(self, words: Iterable[str], units: Iterable[str], counting: Iterable[str]) -> None:
        self._units = {unit.lower() for unit in units}
        self._counting = {word.lower() for word in counting}
        self._words = {word.lower() for word in words} | self._counting
        self._words |= {unit for unit in self._units if len(unit) > 1}

    def remove_from(self, text: str) -> list[str]:
        """The words of a text without the ignored ones. The text must be in lower case."""
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
    """Whether a slash, a dash or an x stands between this number and another one."""
    for step in (1, -1):
        between, other = place + step, place + 2 * step
        if not 0 <= other < len(tokens):
            continue
        if tokens[between] in ("/", "-", "x") and tokens[other][0].isdigit():
            return True
    return False


class Phrases:
    """Phrases that mean something in a text unless other phrases deny it: "no", "history of".

    A phrase does not count either as a part of a longer one that means something else, such as
    "lost baby weight".
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
        """Whether a text contains one of the phrases, and does not deny it.

        Only the first ``LONGEST_TEXT`` characters of the text are read.
        """
        text = text[:LONGEST_TEXT]
        if self._first.isdisjoint(_words_of(text)):
            return False  # the usual case, found early
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
    """The places of some phrases among words: the first word, and the word behind the last."""
    for start in range(len(words)):
        for phrase in phrases:
            if words[start : start + len(phrase)] == phrase:
                yield start, start + len(phrase)
