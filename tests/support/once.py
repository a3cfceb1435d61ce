"""What takes long to make and is the same for each test: it is made once in a process.

The shipped content is read from its files once, and an ``Evaluation`` is made once for a content.
Neither keeps anything of a patient, so that one test cannot notice another.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from datetime import tzinfo
from functools import cache
from pathlib import Path

import pytest

from cds_service.content.compiled import Content
from cds_service.content.files import ContentFiles
from cds_service.content.loader import SHIPPED, load_content
from cds_service.engine.evaluation import Evaluation

HandoutOf = Callable[[Sequence[str]], str]

_evaluations: dict[tuple[int, str, tzinfo | None, str | None], Evaluation] = {}


def evaluation_of(
    content: Content,
    jurisdiction: str = "US",
    time_zone: tzinfo | None = None,
    handout_of: HandoutOf | None = None,
) -> Evaluation:
    """``Evaluation`` of the same arguments: the one that was made before, if it is kept.

    Kept are those of the shipped content and of the content asked for last. More of them would
    make each garbage collection longer.
    """
    address = None if handout_of is None else handout_of(("",))
    key = (id(content), jurisdiction, time_zone, address)
    if key not in _evaluations:
        for other, made in list(_evaluations.items()):
            if made.content is not content and made.content is not shipped_content():
                del _evaluations[other]
        _evaluations[key] = Evaluation(content, jurisdiction, time_zone, handout_of)
    return _evaluations[key]


@cache
def shipped_content() -> Content:
    """The shipped content. Nobody changes it."""
    return load_content()


def read_shipped_once(patch: pytest.MonkeyPatch) -> None:
    """Have the files of the shipped content parsed for the first who asks, and kept for the others.

    What is filled into entries later is filled into copies.
    """
    read = ContentFiles.read_directory
    first: list[tuple[ContentFiles, bytes]] = []

    def read_directory(files: ContentFiles, directory: Path, overlay: bool) -> None:
        if directory != SHIPPED or overlay:
            read(files, directory, overlay)
            return
        if not first:
            made = ContentFiles()
            read(made, directory, overlay)
            first.append((made, pickle.dumps((made.raw, made.faults))))
        made, copied = first[0]
        files.raw, files.faults = pickle.loads(copied)
        files.value_sets = list(made.value_sets)
        files.digest = made.digest.copy()

    patch.setattr(ContentFiles, "read_directory", read_directory)
