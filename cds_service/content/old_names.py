"""Old names in content files: files that still have them are read for one release.

A name is only replaced in the place where it meant something: elsewhere, an author may have an
answer, a gate or a word of the same name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .dialect import WrittenMapping

SECTIONS = {"guards": "contraindications"}
EACH = "*"  # in a place: each entry of a mapping, or of a list
# By section: the place within an entry, the old key, and its new name.
KEYS: dict[str, tuple[tuple[tuple[str, ...], str, str], ...]] = {
    "cards": (
        ((), "never-quiet", "never-suppressed"),
        ((), "if-guarded", "if-contraindicated"),
        (("under", EACH), "if-guarded", "if-contraindicated"),
        (("table", EACH), "hers", "value"),
        (("under", EACH, "table", EACH), "hers", "value"),
    ),
    "interventions": (((), "guards", "contraindications"),),
    "override-reasons": (((), "quiet", "suppressed-for"),),
    "facts": (((), "window", "window"),),
}
# By the old key: old values, and their new ones.
VALUES = {
    "if-guarded": {"open": "present", "unchecked": "unknown"},
    "window": {"1200 months": "ever"},
}
CONDITIONS = ("when", "unless", "unless-in-use", "critical-when")  # keys that have one


class OldName(NamedTuple):
    """An old name that was found: its line, a sentence about it, and whether it is a fault."""

    line: int
    sentence: str
    is_fault: bool = False


def rename_old(section: str, entry: WrittenMapping) -> list[OldName]:
    """Put the new name in place of each old one in an entry, and tell which there were.

    An old name beside its new one is a fault, and is left out.
    """
    found: list[OldName] = []
    for place, old, new in KEYS.get(section, ()):
        for holder in _at(entry, place):
            found += _rename(holder, old, new)
    for holder in _holders_of_guarded(entry):
        found += _rename(holder, "guarded", "contraindicated")
    return found


def _at(value: object, place: tuple[str, ...]) -> Iterator[WrittenMapping]:
    """The mappings at a place within a value."""
    if not place:
        if isinstance(value, WrittenMapping):
            yield value
        return
    step, *rest = place
    for inner in _inner(value) if step == EACH else [_member(value, step)]:
        yield from _at(inner, tuple(rest))


def _inner(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _member(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _holders_of_guarded(value: object, is_condition: bool = False) -> Iterator[WrittenMapping]:
    """The conditions of the form ``{guarded: ...}`` within a value."""
    if is_condition and isinstance(value, WrittenMapping) and list(value) == ["guarded"]:
        yield value
    for key, inner in value.items() if isinstance(value, dict) else ():
        if key == "columns" and not is_condition:  # of an assessment: words, each with a condition
            for word in (word for words in _inner(inner) for word in _inner(words)):
                yield from _holders_of_guarded(word, True)
        else:
            yield from _holders_of_guarded(inner, is_condition or key in CONDITIONS)
    for inner in value if isinstance(value, list) else ():
        yield from _holders_of_guarded(inner, is_condition)


def _rename(holder: WrittenMapping, old: str, new: str) -> list[OldName]:
    """Rename a key of a mapping, and its value if that has an old name too."""
    if old not in holder:
        return []
    value = holder[old]
    line = holder.lines.get(old, holder.line)
    if new != old and new in holder:
        del holder[old]
        both = f"'{old}' is the old name of '{new}', which is given too: remove '{old}'"
        return [OldName(line, both, is_fault=True)]
    said = VALUES.get(old, {}).get(value) if isinstance(value, str) else None
    if said is None and new == old:
        return []
    renamed = {new if key == old else key: each for key, each in holder.items()}
    renamed[new] = value if said is None else said
    holder.clear()
    holder.update(renamed)
    before, after = (old, new) if said is None else (f"{old}: {value}", f"{new}: {said}")
    return [OldName(line, f"'{before}' is '{after}' now")]
