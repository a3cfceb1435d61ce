"""Folders for what a service keeps only as long as it runs."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile


def folder_aside(prefix: str) -> str:
    """A new folder for this process and its forks; it is removed when this process ends."""
    path, maker = tempfile.mkdtemp(prefix=prefix), os.getpid()

    def remove() -> None:
        if os.getpid() == maker:  # a fork leaves it to us
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)
    return path
