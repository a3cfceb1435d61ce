"""The mothers of ``fhir_fixtures/``: vignettes of the tests, and patients of the demo.

Each is a directory with ``bundle.json``, a FHIR transaction Bundle that loads into any R4 server,
and ``expected.yaml``. The Bundle's ``timestamp`` is the "now" to which its times belong; ``at``
moves all of them together, so that the mothers never age.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import yaml

DIRECTORY = Path(__file__).resolve().parent.parent.parent / "fhir_fixtures"
CLINICIAN = "Practitioner/clinician"

_DATE_TIME = re.compile(r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$")


@dataclass(frozen=True)
class Fixture:
    """One mother: her name in the directory."""

    path: Path

    @property
    def name(self) -> str:
        """The name of her directory."""
        return self.path.name

    @cached_property
    def bundle(self) -> dict[str, Any]:
        """Her transaction Bundle, as of its own ``timestamp``."""
        bundle: dict[str, Any] = orjson.loads((self.path / "bundle.json").read_bytes())
        return bundle

    @cached_property
    def expected(self) -> dict[str, Any]:
        """What she teaches, and the cards that must and must not appear."""
        expected: dict[str, Any] = yaml.safe_load((self.path / "expected.yaml").read_text("utf-8"))
        return expected

    @property
    def now(self) -> datetime:
        """The time that her record is written for."""
        return datetime.fromisoformat(self.bundle["timestamp"])

    @property
    def patient_id(self) -> str:
        """Her own id, not her infant's."""
        return str(self._first("Encounter")["subject"]["reference"]).partition("/")[2]

    @property
    def encounter_id(self) -> str:
        """The encounter that is opened."""
        return str(self._first("Encounter")["id"])

    def _first(self, kind: str) -> dict[str, Any]:
        for entry in self.bundle["entry"]:
            if entry["resource"]["resourceType"] == kind:
                resource: dict[str, Any] = entry["resource"]
                return resource
        raise LookupError(f"{self.name} has no {kind}")

    def at(self, now: datetime) -> dict[str, Any]:
        """Her Bundle with every time moved so that its "now" is ``now``."""
        moved: dict[str, Any] = _move(self.bundle, now - self.now)
        return moved


def _move(value: Any, by: Any) -> Any:
    if isinstance(value, dict):
        return {key: _move(inner, by) for key, inner in value.items()}
    if isinstance(value, list):
        return [_move(inner, by) for inner in value]
    if isinstance(value, str) and _DATE_TIME.match(value):
        if len(value) == 10:
            return (datetime.fromisoformat(value) + by).date().isoformat()
        moved = (datetime.fromisoformat(value) + by).isoformat(timespec="seconds")
        return moved.replace("+00:00", "Z") if value.endswith("Z") else moved
    return value


def fixtures(directory: Path = DIRECTORY) -> list[Fixture]:
    """All mothers, in the order of their ``place``, then by name."""
    found = [Fixture(path.parent) for path in sorted(directory.glob("*/bundle.json"))]
    return sorted(found, key=lambda mother: mother.expected["place"])
