"""Folders that last as long as a service runs, and files that only their owner reads."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def temporary_folder(prefix: str) -> str:
    """A new temporary folder for this process and its forks, removed when this process ends."""
    path, maker = tempfile.mkdtemp(prefix=prefix), os.getpid()

    def remove() -> None:
        if os.getpid() == maker:  # a fork must not remove it
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)
    return path


class NoPlainFileError(OSError):
    """A file cannot be written because of what is at its path; the message has the reason."""


def must_be_plain(path: Path) -> None:
    """Raises ``NoPlainFileError`` unless a regular file is, or can be made, at ``path``."""
    if path.is_symlink():
        raise NoPlainFileError(f"{path} is a symbolic link; name the file that is meant")
    if path.exists() and not path.is_file():
        raise NoPlainFileError(f"{path} is no plain file")
    if not path.parent.is_dir():
        raise NoPlainFileError(f"{path.parent} is no directory")


@contextmanager
def file_for_owner(path: Path) -> Iterator[IO[bytes]]:
    """A new file that only its owner can read; it replaces ``path`` at the end of the block.

    If the block raises, ``path`` stays as it was. Raises ``NoPlainFileError``.
    """
    must_be_plain(path)
    number, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        os.replace(made, path)
    except BaseException:
        os.unlink(made)
        raise
