"""A FHIR Bulk Data export, evaluated for everyone in it.

An export is a directory of NDJSON files, a resource a line, with the type in the name of each:
``Observation.ndjson``, ``Observation.2.ndjson``, ``1.Observation.ndjson`` (FHIR Bulk Data Access,
"Bulk Data Output File Organization"). It is read once to note where each patient's lines are, and
nothing of it is copied to the disk; then the lines of one patient after another are read from
where they are. So memory grows by eight bytes a line, and not with what the lines say.

A type of which the export has no file was not exported: that is no "none".
"""

from __future__ import annotations

import multiprocessing
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from .cards import EXTENSION, NothingEvaluated, Setting
from .chart import Answer, Chart, Resource, State, patient_in, subject_of
from .content import Content
from .evaluation import Evaluation

NAMED = re.compile(r"^(?:.*\.)?([A-Z][A-Za-z]+)(?:\.[^.]+)*\.ndjson$")
AT_ONCE = 100  # patients that a process evaluates before it tells
_OFFSET_BITS = 44  # of a place: below them the offset in the file, above them the file


class ExportError(Exception):
    """A directory that is no export; the message says why."""


@dataclass
class Export:
    """Where everything is. ``patients`` are those of whom there is a record, but for infants."""

    files: list[tuple[Path, str]]  # each with the type of its resources
    places: dict[str, array[int]] = field(default_factory=dict)  # of a patient's lines
    infants: dict[str, set[str]] = field(default_factory=dict)  # whom her records name as focus
    medications: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0  # lines

    @property
    def types(self) -> set[str]:
        """The types of resources that were exported."""
        return {kind for _, kind in self.files}

    @property
    def patients(self) -> list[str]:
        """Whom to evaluate, in the order of their ids."""
        of_others = {infant for infants in self.infants.values() for infant in infants}
        return sorted(self.places.keys() - of_others)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path, _ in self.files)


def open_export(directory: Path) -> Export:
    """The files of an export. Raises ``ExportError`` if there are none."""
    found = [(path, NAMED.match(path.name)) for path in sorted(directory.glob("*.ndjson"))]
    files = [(path, match[1]) for path, match in found if match is not None]
    if not files:
        raise ExportError(f"{directory} has no NDJSON file that names a type of resource")
    return Export(files)


def scan(export: Export, wanted: Iterable[str], advance: Callable[[int], None]) -> None:
    """Note where each patient's lines are; of the types that are ``wanted`` alone.

    ``advance`` is told how many bytes have been read since.
    """
    kinds = {*wanted, "Medication"}
    for number, (path, kind) in enumerate(export.files):
        if kind not in kinds:
            advance(path.stat().st_size)
            continue
        offset = told = 0
        with path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    _note(export, line, number << _OFFSET_BITS | offset)
                offset += len(line)
                if offset - told > 1 << 20:
                    advance(offset - told)
                    told = offset
        advance(offset - told)


def _note(export: Export, line: bytes, place: int) -> None:
    try:
        resource = orjson.loads(line)
        kind = resource["resourceType"]
        if not isinstance(kind, str):
            raise TypeError("the type of a resource is a text")
        if kind == "Medication":
            export.medications[str(resource["id"])] = place
            return
        patient = patient_in(subject_of(resource))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        export.unreadable += 1
        return
    if patient is None:
        return
    _, her = patient
    export.places.setdefault(her, array("Q")).append(place)
    focus = resource.get("focus")
    named = [patient_in(each) for each in focus] if isinstance(focus, list) else []
    infants = {infant for _, infant in filter(None, named)} - {her}
    if infants:
        export.infants.setdefault(her, set()).update(infants)


@dataclass
class Summary:
    """What came of some patients: how many, with how many cards of each, and what went wrong."""

    patients: int = 0
    with_cards: int = 0
    cards: Counter[str] = field(default_factory=Counter)
    not_judged: int = 0

    def add(self, other: Summary) -> None:
        """Count what another has counted too."""
        self.patients += other.patients
        self.with_cards += other.with_cards
        self.cards += other.cards
        self.not_judged += other.not_judged


class BulkEvaluation:
    """What evaluates any part of an export, in whatever process: it holds no state between."""

    def __init__(
        self, export: Export, content: Content, now: datetime, jurisdiction: str = "US"
    ) -> None:
        self._export, self._content, self._now = export, content, now
        self._evaluation = Evaluation(content, jurisdiction)

    def evaluate(self, patients: Iterable[str]) -> tuple[bytes, Summary]:
        """The cards of some patients as NDJSON, a line for each who has any, and the summary."""
        lines: list[bytes] = []
        summary = Summary()
        files: dict[int, BinaryIO] = {}
        try:
            for patient in patients:
                summary.patients += 1
                lines.append(self._line(patient, files, summary))
        finally:
            for file in files.values():
                file.close()
        return b"".join(lines), summary

    def _line(self, patient: str, files: dict[int, BinaryIO], summary: Summary) -> bytes:
        chart = Chart(patient, self._answers(list(self._read(patient, files))))
        try:
            answered = self._evaluation.answer(chart, Setting(patient, "Device/bulk"), self._now)
        except NothingEvaluated:
            summary.not_judged += 1
            told: dict[str, Any] = {"patient": patient, "error": "no card could be judged"}
            return orjson.dumps(told) + b"\n"
        if not answered.shown:
            return b""
        summary.with_cards += 1
        summary.cards.update(answered.cards)
        cards = orjson.loads(answered.body)["cards"]
        return orjson.dumps({"patient": patient, "cards": [_brief(card) for card in cards]}) + b"\n"

    def _read(self, patient: str, files: dict[int, BinaryIO]) -> Iterator[Resource]:
        """Her records, those of the infants that they name, and the Medications they point at."""
        export = self._export
        whose = [patient, *sorted(export.infants.get(patient, ()))]
        for place in (place for one in whose for place in export.places.get(one, ())):
            resource = self._at(place, files)
            yield resource
            pointed = resource.get("medicationReference")
            text = pointed.get("reference") if isinstance(pointed, dict) else None
            if isinstance(text, str) and text.startswith("Medication/"):
                there = export.medications.get(text.removeprefix("Medication/"))
                if there is not None:
                    yield self._at(there, files)

    def _at(self, place: int, files: dict[int, BinaryIO]) -> Resource:
        number = place >> _OFFSET_BITS
        if number not in files:
            files[number] = self._export.files[number][0].open("rb")
        files[number].seek(place & ((1 << _OFFSET_BITS) - 1))
        resource: Resource = orjson.loads(files[number].readline())
        return resource

    def _answers(self, resources: list[Resource]) -> dict[str, Answer]:
        """As if they had been prefetched: each under the first key of its type."""
        by_type: dict[str, list[Resource]] = {}
        for resource in resources:
            by_type.setdefault(resource["resourceType"], []).append(resource)
        medications = by_type.pop("Medication", [])
        answers: dict[str, Answer] = {}
        for key in self._content.prefetch.values():
            if key.resource not in self._export.types:
                answers[key.id] = Answer(State.ABSENT, reason="it was not exported")
                continue
            found = by_type.pop(key.resource, [])
            if key.resource.startswith("Medication"):
                found = [*found, *medications]
            answers[key.id] = Answer(State.COMPLETE if found else State.EMPTY, found)
        return answers


def _brief(card: dict[str, Any]) -> dict[str, Any]:
    """A card without what is for a click: nobody clicks here."""
    why = card["extension"][EXTENSION]
    return {
        "card": card["source"]["topic"]["code"],
        "indicator": card["indicator"],
        "summary": card["summary"],
        "detail": card["detail"],
        "interventions": why.get("interventions", []),
        "rows": why["rows"],
        "because": why.get("because", []),
        "content": why["content"],
    }


_working: BulkEvaluation | None = None  # of this process, and of those that are forked from it


def evaluate_all(
    evaluation: BulkEvaluation, patients: Sequence[str], workers: int
) -> Iterator[tuple[bytes, Summary]]:
    """The results for some patients after the other, in their order, by so many processes."""
    global _working
    _working = evaluation
    parts = [patients[start : start + AT_ONCE] for start in range(0, len(patients), AT_ONCE)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        yield from pool.map(_evaluate_part, parts)


def _evaluate_part(patients: Sequence[str]) -> tuple[bytes, Summary]:
    assert _working is not None
    return _working.evaluate(patients)
