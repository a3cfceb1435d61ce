"""Warnings about how files of the content are written: old names, and another style of YAML.

The service reads all of these. Old names are no longer read after the next release.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..content.dialect import WrittenMapping, dialect_faults, read_yaml
from .code_warnings import ContentWarning

OLD_NAMES = "old names that go with the next release"
OTHER_YAML = "lines that are written otherwise than docs/content.md says"


def form_warnings(directory: Path) -> Iterator[ContentWarning]:
    """The warnings for all YAML files below a directory. The files must be valid."""
    for path in sorted(directory.rglob("*.yaml")):
        text, name = path.read_text("utf-8"), str(path.relative_to(directory.parent))
        for line, what in _old_names(read_yaml(text, name)):
            yield ContentWarning(OLD_NAMES, f"{name}:{line}: {what}")
        for line, what in dialect_faults(text):
            yield ContentWarning(OTHER_YAML, f"{name}:{line}: {what}")


def _old_names(value: object) -> Iterator[tuple[int, str]]:
    """The old names within a value of a YAML file: the line of each, and what replaces it."""
    if isinstance(value, WrittenMapping):
        if "hers" in value and "label" in value:
            yield value.line, "'hers' of a line of a table is 'value' now"
        if value.get("window") == "1200 months":
            yield value.line, "the window '1200 months' is 'ever' now"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _old_names(each)
