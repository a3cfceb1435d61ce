"""Warnings about how files of the content are written: old names, and another style of YAML.

The service reads all of these. Old names are no longer read after the next release.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..content.dialect import dialect_faults, read_yaml
from ..content.old_names import rename_old
from .code_warnings import ContentWarning

OLD_NAMES = "old names that go with the next release"
OTHER_YAML = "lines that are written otherwise than docs/content.md says"


def form_warnings(directory: Path) -> Iterator[ContentWarning]:
    """The warnings for all YAML files below a directory. The files must be valid."""
    for path in sorted(directory.rglob("*.yaml")):
        text, name = path.read_text("utf-8"), str(path.relative_to(directory.parent))
        for line, what in rename_old(read_yaml(text, name)):
            yield ContentWarning(OLD_NAMES, f"{name}:{line}: {what}")
        for line, what in dialect_faults(text):
            yield ContentWarning(OTHER_YAML, f"{name}:{line}: {what}")
