"""Warnings about how files of the content are written: old names, and another style of YAML.

The service reads all of these. Old names are no longer read after the next release.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..content.compiled import Content
from ..content.dialect import dialect_faults
from .code_warnings import ContentWarning

OLD_NAMES = "old names that go with the next release"
OTHER_YAML = "lines that are written otherwise than docs/content.md says"


def old_name_warnings(content: Content) -> Iterator[ContentWarning]:
    """A warning for each old name in the files of ``content``."""
    return (ContentWarning(OLD_NAMES, found) for found in content.old_names)


def style_warnings(directory: Path) -> Iterator[ContentWarning]:
    """The warnings about the style of all YAML files below a directory. The files must be valid."""
    for path in sorted(directory.rglob("*.yaml")):
        name = path.relative_to(directory.parent)
        for line, what in dialect_faults(path.read_text("utf-8")):
            yield ContentWarning(OTHER_YAML, f"{name}:{line}: {what}")
