"""Bulk exports of synthetic mothers, and what the command makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cds_service.authoring.vignettes import NOW, Vignette
from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from tests.support.vignettes import MOTHERS

EXPORTED = [
    mother
    for mother in MOTHERS
    if mother.expected.hook == "patient-view"
    and mother.expected.jurisdiction == "US"
    and mother.now == NOW
    and not mother.expected.fails  # no search is made of a bulk export
]


def write_export(directory: Path, resources: Iterable[dict[str, Any]], content: Content) -> None:
    """A file for each type of which the content reads anything, and two of Observations."""
    directory.mkdir()
    types = {key.resource for key in content.searches} | {"Medication", "Patient"}
    lines: dict[str, list[str]] = {f"{kind}.ndjson": [] for kind in types}
    lines["Observation.2.ndjson"] = []
    for number, resource in enumerate(resources):
        kind = resource["resourceType"]
        second = ".2" if kind == "Observation" and number % 2 else ""
        lines.setdefault(f"{kind}{second}.ndjson", []).append(json.dumps(resource))
    for name, written in lines.items():
        (directory / name).write_text("".join(f"{line}\n" for line in written))


def resources_of(mothers: Iterable[Vignette]) -> list[dict[str, Any]]:
    return [entry["resource"] for mother in mothers for entry in mother.bundle["entry"]]


def evaluate(directory: Path, output: Path, *more: str) -> Result:
    arguments = ["evaluate-bulk", str(directory), "--output", str(output)]
    return CliRunner().invoke(main, [*arguments, "--now", NOW.isoformat(), *more])


def cards_in(output: Path) -> dict[str, list[str]]:
    found = [json.loads(line) for line in output.read_text().splitlines()]
    return {each["patient"]: [card["card"] for card in each["cards"]] for each in found}
