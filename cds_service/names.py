"""Names: what is meant by a text that a person wrote, such as "Tylenol 500 mg tablet"."""

from __future__ import annotations

import re
from typing import Generic, TypeVar

Meant = TypeVar("Meant")

LONGEST_TEXT = 1000  # characters of a text from elsewhere: no name is longer

_WORD = re.compile(r"[a-z0-9]+")


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
