"""The data that ships with the code: the clinical content, and the synthetic mothers.

In the repository both lie at the top, beside the package; an installed wheel has them within it.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def shipped_directory(name: str) -> Path:
    """Where a directory of shipped data is: ``cards`` or ``fhir_fixtures``."""
    package = Path(str(files("cds_service")))
    installed = package / name
    return installed if installed.is_dir() else package.parent / name
