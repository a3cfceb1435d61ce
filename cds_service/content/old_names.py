"""Old names in content files: files that still have them are read for one release."""

from __future__ import annotations

from .dialect import WrittenMapping

KEYS = {
    "guards": "contraindications",
    "guarded": "contraindicated",
    "if-guarded": "if-contraindicated",
    "quiet": "suppressed-for",
    "never-quiet": "never-suppressed",
    "hers": "value",
}
VALUES = {
    ("if-contraindicated", "open"): "present",
    ("if-contraindicated", "unchecked"): "unknown",
    ("window", "1200 months"): "ever",
}


def rename_old(read: object) -> list[tuple[int, str]]:
    """Put the new name in place of each old one in what was read of a file.

    Gives the line of each, and a sentence with both names. A key that stands under both names is
    left as it is: the old one is then told as unknown.
    """
    found: list[tuple[int, str]] = []
    if isinstance(read, WrittenMapping):
        renamed = {}
        for key, value in read.items():
            new = KEYS.get(key, key)
            if new != key and new in read:
                new = key
            elif new != key:
                found.append((read.line, f"'{key}' is '{new}' now"))
            said = VALUES.get((new, value)) if isinstance(value, str) else None
            if said is not None:
                found.append((read.line, f"'{new}: {value}' is '{new}: {said}' now"))
            renamed[new] = value if said is None else said
        read.clear()
        read.update(renamed)
    inner = read.values() if isinstance(read, dict) else read if isinstance(read, list) else ()
    return found + [told for each in inner for told in rename_old(each)]
