"""Evaluation of all patients of a FHIR Bulk Data export.

An export is a directory of NDJSON files with one resource per line. The name of a file has the type
of its resources: ``Observation.ndjson``, ``Observation.2.ndjson``, ``1.Observation.ndjson`` (FHIR
Bulk Data Access, "Bulk Data Output File Organization"). A type without a file was not exported: its
records are unknown, and not "none". There are two ways to evaluate an export:

- ``evaluate_all``, on one machine. The export is read once to index the lines of each patient, and
  nothing is copied to the disk. Then the lines of one patient after another are read from the
  files. So memory grows by eight bytes per line, and by the relations of mothers and infants, but
  not with the length of the lines.
- ``evaluate_on_dask``, on many machines. The lines are distributed to partitions, so that all lines
  about a patient are in one partition. Each partition is evaluated in memory by a worker of Dask.
"""

from __future__ import annotations

import multiprocessing
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple, TypedDict, TypeVar

import orjson

from ..content.compiled import Content
from ..content.loader import load_content
from ..engine.card_json import Told
from ..engine.decide import NothingEvaluated
from ..engine.decision import CardDecision
from ..engine.decoder import decode
from ..engine.evaluation import Evaluation
from ..engine.facts import all_too_old, records_too_old
from ..engine.render import rows_of
from ..fhir.chart import (
    ABOUT_A_PATIENT,
    KeyResult,
    Resource,
    State,
    keys_of_mother,
    keys_of_patient,
    patient_in,
    subject_of,
    text_of,
)
from ..fhir.references import read_reference
from ..hooks.prefetch import make_chart
from ..storage.files import file_for_owner

if TYPE_CHECKING:
    from dask.delayed import Delayed

NAMED = re.compile(r"^(?:.*\.)?([A-Z][A-Za-z]+)(?:\.[^.]+)*\.ndjson$")
AT_ONCE = 100  # patients that a process evaluates before it returns results
# A place of a line is one number: the offset in the file in the lower bits, the number of the file
# in the bits above them.
_OFFSET_BITS = 44


class ExportError(Exception):
    """A directory that is not an export; the message says why."""

    def __init__(self, directory: Path | str) -> None:
        super().__init__(f"{directory} has no NDJSON file that names a type of resource")


class UnreadableLine(Exception):
    """A line that is not a FHIR resource."""


class Line(NamedTuple):
    """A resource with its type, its id, and the id of its patient.

    The patient of a Patient resource is the resource itself.
    """

    resource: Resource
    kind: str
    identifier: str  # empty if there is none
    patient: str | None


# Resources that say who a person is. They alone do not make someone a patient to evaluate.
PERSONS = ("Patient", "RelatedPerson")


@dataclass
class Relations:
    """Which infants belong to which mother, by the records of an export; as in ``Chart``.

    All ids are ids of Patient resources, unless something else is said.
    """

    # By mother: the infants that the mother's records have as ``focus``.
    infants: dict[str, set[str]] = field(default_factory=dict)
    # By the id of an Encounter: its patient.
    encounters: dict[str, str] = field(default_factory=dict)
    # A patient, and the id of the Encounter that one of the patient's Encounters is part of.
    parts: list[tuple[str, str]] = field(default_factory=list)
    # By identifier or link: the patients who have it.
    patients: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    # An infant, and an identifier or link of the mother from the infant's RelatedPerson.
    related: list[tuple[str, tuple[str, str]]] = field(default_factory=list)

    def note(self, line: Line) -> None:
        """Note the relations that a record states."""
        resource, kind, identifier, patient = line
        if patient is None:
            return
        if kind == "Patient":
            for name in keys_of_patient(resource):
                self.patients.setdefault(name, set()).add(patient)
        elif kind == "RelatedPerson":
            self.related += [(patient, name) for name in keys_of_mother(resource)]
        elif kind == "Encounter":
            if identifier:
                self.encounters[identifier] = patient
            whole = read_reference(text_of(resource.get("partOf")) or "")
            if whole is not None and whole.kind == "Encounter":
                self.parts.append((patient, whole.id))
        focus = resource.get("focus")
        named = [patient_in(each) for each in focus] if isinstance(focus, list) else []
        infants = {infant for _, infant in filter(None, named)} - {patient}
        if infants:
            self.infants.setdefault(patient, set()).update(infants)

    def add(self, other: Relations) -> None:
        """Add the relations of other records."""
        for mother, infants in other.infants.items():
            self.infants.setdefault(mother, set()).update(infants)
        for name, patients in other.patients.items():
            self.patients.setdefault(name, set()).update(patients)
        self.encounters |= other.encounters
        self.parts += other.parts
        self.related += other.related

    def resolve(self) -> dict[str, set[str]]:
        """The infants of each mother. To be called after all records were noted."""
        pairs = [(self.encounters.get(whole), infant) for infant, whole in self.parts]
        pairs += [
            (mother, infant)
            for infant, name in self.related
            for mother in self.patients.get(name, ())
        ]
        for mother, infant in pairs:
            if mother is not None and mother != infant:
                self.infants.setdefault(mother, set()).add(infant)
        return self.infants


def read_line(line: bytes) -> Line:
    """Read a line of an export. Raises ``UnreadableLine`` if it is not a resource."""
    try:
        resource = decode(line)
    except orjson.JSONDecodeError:
        raise UnreadableLine from None
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(resource, dict) or not isinstance(kind, str):
        raise UnreadableLine
    written = resource.get("id")
    identifier = written if isinstance(written, str) else ""
    if kind == "Medication" and not identifier:
        raise UnreadableLine
    if kind == "Patient":
        return Line(resource, kind, identifier, identifier or None)
    subject = patient_in(subject_of(resource))
    return Line(resource, kind, identifier, None if subject is None else subject[1])


def kind_of_file(path: str) -> str | None:
    """The type of the resources in a file of an export, by its name; ``None`` without a type."""
    match = NAMED.match(path.rpartition("/")[2])
    return match[1] if match is not None else None


@dataclass
class Export:
    """The files of an export, and the index that ``scan`` makes of their lines."""

    files: list[tuple[Path, str]]  # each with the type of its resources
    # By patient: the places of the records, and of Patient and RelatedPerson (``PERSONS``).
    records: dict[str, array[int]] = field(default_factory=dict)
    persons: dict[str, array[int]] = field(default_factory=dict)
    relations: Relations = field(default_factory=Relations)
    infants: dict[str, set[str]] = field(default_factory=dict)  # by mother
    medications: dict[str, int] = field(default_factory=dict)  # places by id
    unreadable: int = 0  # lines
    without_patient: int = 0  # lines whose subject cannot be read, or is not a Patient

    @property
    def types(self) -> set[str]:
        """The types of resources that were exported."""
        return {kind for _, kind in self.files}

    @property
    def patients(self) -> list[str]:
        """The ids of the patients to evaluate, sorted: those with records, but no infants."""
        all_infants = {infant for infants in self.infants.values() for infant in infants}
        return sorted(self.records.keys() - all_infants)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path, _ in self.files)


def open_export(directory: Path) -> Export:
    """The files of an export. Raises ``ExportError`` if there are none."""
    found = [(path, kind_of_file(path.name)) for path in sorted(directory.glob("*.ndjson"))]
    files = [(path, kind) for path, kind in found if kind is not None]
    if not files:
        raise ExportError(directory)
    return Export(files)


def scan(export: Export, wanted: Iterable[str], advance: Callable[[int], None]) -> None:
    """Index the lines of each patient. Only files of the types in ``wanted`` are read.

    ``advance`` is called with the number of bytes that were read since the last call.
    """
    kinds = {*wanted, "Medication", *PERSONS}
    for number, (path, kind) in enumerate(export.files):
        if kind not in kinds:
            advance(path.stat().st_size)
            continue
        offset = reported = 0
        with path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    _note(export, line, number << _OFFSET_BITS | offset)
                offset += len(line)
                if offset - reported > 1 << 20:
                    advance(offset - reported)
                    reported = offset
        advance(offset - reported)
    export.infants = export.relations.resolve()


def _note(export: Export, line: bytes, place: int) -> None:
    try:
        read = read_line(line)
    except UnreadableLine:
        export.unreadable += 1
        return
    if read.kind == "Medication":
        export.medications[read.identifier] = place
    elif read.patient is None:
        export.without_patient += read.kind in ABOUT_A_PATIENT
    else:
        places = export.persons if read.kind in PERSONS else export.records
        places.setdefault(read.patient, array("Q")).append(place)
        export.relations.note(read)


@dataclass
class Summary:
    """The results for some patients, as counts."""

    patients: int = 0
    with_cards: int = 0  # patients
    cards: Counter[str] = field(default_factory=Counter)  # by the id of the card
    not_judged: int = 0  # patients
    too_old: int = 0  # patients whose records of facts that change daily are all too old
    old_records: int = 0  # records of these patients that are older than their windows
    newest_old: str = ""  # the day of the newest of these records
    unreadable: int = 0  # lines that could not be read during the evaluation
    without_patient: int = 0  # lines whose subject cannot be read, or is not a Patient

    def add(self, other: Summary) -> None:
        """Add the counts of other patients."""
        self.patients += other.patients
        self.with_cards += other.with_cards
        self.cards += other.cards
        self.not_judged += other.not_judged
        self.too_old += other.too_old
        self.old_records += other.old_records
        self.newest_old = max(self.newest_old, other.newest_old)
        self.unreadable += other.unreadable
        self.without_patient += other.without_patient


class PatientEvaluation:
    """Evaluates one patient after another. It keeps no state between two patients.

    ``exported`` are the types of resources that the export has.
    """

    def __init__(
        self,
        content: Content,
        exported: Set[str],
        now: datetime,
        jurisdiction: str,
        time_zone: tzinfo | None,
    ) -> None:
        self._content, self._exported, self._now = content, exported, now
        self._evaluation = Evaluation(content, jurisdiction, time_zone)
        cards = content.cards.values()
        self._data_needed = {card.id for card in cards if card.body == "data-needed"}

    def line(self, patient: str, resources: Iterable[Resource], summary: Summary) -> bytes:
        """The cards of a patient as a line of NDJSON; empty if there are none.

        ``resources`` are those of the patient and of the patient's infants, with the Medications
        that they refer to. The result is counted in ``summary``.
        """
        summary.patients += 1
        results = self._results(resources)
        chart = make_chart(self._content, patient, results, asked_by_code=False)
        try:
            judged = self._evaluation.judge(chart, "patient-view", self._now)
        except NothingEvaluated:
            summary.not_judged += 1
            return _line({"patient": patient, "error": "no card could be judged"})
        shown = [decision.card.id for decision in judged.cards]
        if self._data_needed.issuperset(shown) and all_too_old(judged.facts):
            summary.too_old += 1
            records, newest = records_too_old(judged.facts)
            summary.old_records += records
            summary.newest_old = max(summary.newest_old, newest)
        if not shown:
            return b""
        summary.with_cards += 1
        summary.cards.update(shown)
        cards = [_brief_card(decision, self._content) for decision in judged.cards]
        return _line({"patient": patient, "cards": cards})

    def _results(self, resources: Iterable[Resource]) -> dict[str, KeyResult]:
        """Resources as results of prefetch: all of a type under the first key of that type."""
        by_type: dict[str, list[Resource]] = {}
        for resource in resources:
            by_type.setdefault(str(resource["resourceType"]), []).append(resource)
        medications = by_type.pop("Medication", [])
        results: dict[str, KeyResult] = {}
        for key in self._content.searches:
            if key.resource not in self._exported:
                results[key.id] = KeyResult(State.ABSENT, reason="it was not exported")
                continue
            found = by_type.pop(key.resource, [])
            if key.resource.startswith("Medication"):
                found = [*found, *medications]
            results[key.id] = KeyResult(State.COMPLETE if found else State.EMPTY, found)
        persons = [person for kind in PERSONS for person in by_type.pop(kind, ())]
        if persons:
            results["patient"] = KeyResult(State.COMPLETE, persons)
        return results


_Place = TypeVar("_Place", int, bytes)  # the place of a line, or the line itself


def resources_of_patient(
    patient: str,
    infants: Mapping[str, Set[str]],
    records: Mapping[str, Iterable[_Place]],
    persons: Mapping[str, Iterable[_Place]],
    medications: Mapping[str, _Place],
    read: Callable[[_Place], Resource],
) -> Iterator[Resource]:
    """All resources about a patient and the patient's infants, with the Medications they refer to.

    ``infants`` are by mother, ``records`` and ``persons`` by patient, ``medications`` by id.
    ``read`` gives the resource at a place.
    """
    for person in (patient, *sorted(infants.get(patient, ()))):
        for place in persons.get(person, ()):
            yield read(place)
        for place in records.get(person, ()):
            resource = read(place)
            yield resource
            reference = resource.get("medicationReference")
            text = reference.get("reference") if isinstance(reference, dict) else None
            if isinstance(text, str) and text.startswith("Medication/"):
                medication = medications.get(text.removeprefix("Medication/"))
                if medication is not None:
                    yield read(medication)


class BriefCard(TypedDict):
    """A card without suggestions and links, which only an EHR can use."""

    card: str
    indicator: str
    summary: str
    detail: str
    interventions: list[str]
    rows: list[str]
    because: list[Told]
    content: str


class PatientCards(TypedDict):
    """A line of the output for a patient with cards."""

    patient: str
    cards: list[BriefCard]


class PatientError(TypedDict):
    """A line of the output for a patient who could not be judged."""

    patient: str
    error: str


def _line(result: PatientCards | PatientError) -> bytes:
    return orjson.dumps(result) + b"\n"


def _brief_card(decision: CardDecision, content: Content) -> BriefCard:
    return {
        "card": decision.card.id,
        "indicator": decision.indicator,
        "summary": decision.summary,
        "detail": decision.detail,
        "interventions": decision.interventions,
        "rows": rows_of(decision, content),
        "because": decision.because,
        "content": content.version,
    }


# --- on one machine -----------------------------------------------------------------------------


class BulkEvaluation:
    """Evaluates any patients of an export, in any process. It keeps no state between calls."""

    def __init__(
        self,
        export: Export,
        content: Content,
        now: datetime,
        jurisdiction: str = "US",
        time_zone: tzinfo | None = None,
    ) -> None:
        self._export = export
        self._evaluation = PatientEvaluation(content, export.types, now, jurisdiction, time_zone)

    def evaluate(self, patients: Iterable[str]) -> tuple[bytes, Summary]:
        """The cards of some patients as NDJSON, one line per patient with cards; and a summary."""
        export, lines = self._export, list[bytes]()
        summary = Summary()
        files: dict[int, BinaryIO] = {}
        try:
            for patient in patients:
                resources = resources_of_patient(
                    *(patient, export.infants, export.records, export.persons),
                    export.medications,
                    lambda place: self._read_at(place, files),
                )
                lines.append(self._evaluation.line(patient, resources, summary))
        finally:
            for file in files.values():
                file.close()
        return b"".join(lines), summary

    def _read_at(self, place: int, files: dict[int, BinaryIO]) -> Resource:
        number = place >> _OFFSET_BITS
        if number not in files:
            files[number] = self._export.files[number][0].open("rb")
        files[number].seek(place & ((1 << _OFFSET_BITS) - 1))
        return read_line(files[number].readline()).resource


_evaluation_of_process: BulkEvaluation | None = None  # inherited by the forks of this process


def evaluate_all(
    evaluation: BulkEvaluation, patients: Sequence[str], workers: int
) -> Iterator[tuple[bytes, Summary]]:
    """The results as ``BulkEvaluation.evaluate`` gives them, for parts of ``patients``, in order.

    ``workers`` is the number of processes.
    """
    global _evaluation_of_process
    _evaluation_of_process = evaluation
    parts = [patients[start : start + AT_ONCE] for start in range(0, len(patients), AT_ONCE)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        yield from pool.map(_evaluate_part, parts)


def _evaluate_part(patients: Sequence[str]) -> tuple[bytes, Summary]:
    assert _evaluation_of_process is not None
    return _evaluation_of_process.evaluate(patients)


# --- on many machines ---------------------------------------------------------------------------


class Shared(NamedTuple):
    """The data of the whole export that each partition needs."""

    infants: dict[str, set[str]]  # by mother
    mothers: dict[str, set[str]]  # by infant
    medications: dict[str, bytes]  # lines by id


def evaluate_on_dask(
    export: str,
    output: str,
    now: datetime,
    *,
    jurisdiction: str = "US",
    time_zone: tzinfo | None = None,
    content_dir: Path | None = None,
    partitions: int | None = None,
    block: str = "128 MiB",
) -> Delayed:
    """A task of Dask that evaluates an export and returns its ``Summary``.

    ``export`` and ``output`` are directories that each worker can reach: paths, or URLs that fsspec
    knows (``s3://...``). The export is read in blocks of the size ``block``. ``partitions`` is the
    number of partitions, by default that of blocks. The cards of each partition are written to a
    file of their own in ``output``: ``part-00000.ndjson`` and so on. A worker holds one partition
    at a time. Workers exchange one piece of lines for each block and partition.

    Raises ``ExportError`` if no file names a type of resource.
    """
    import dask
    from dask.bytes import read_bytes
    from dask.graph_manipulation import clone

    files = f"{export.rstrip('/')}/*.ndjson"
    try:
        _, found, paths = read_bytes(files, b"\n", blocksize=block, sample=False, include_path=True)
    except OSError:  # there is no such file
        found, paths = [], []
    by_kind = [(kind_of_file(path), blocks) for path, blocks in zip(paths, found, strict=True)]
    exported = frozenset(kind for kind, _ in by_kind if kind is not None)
    if not exported:
        raise ExportError(export)
    read = {key.resource for key in load_content(content_dir).prefetch.values()}
    wanted = read | {"Medication", *PERSONS}
    blocks = [block for kind, blocks in by_kind if kind in wanted for block in blocks]
    count = partitions or max(1, len(blocks))
    # Each block is read twice. Otherwise all blocks would be held in memory until the last is read.
    shared = dask.delayed(_merge)([dask.delayed(_read_shared)(clone(block)) for block in blocks])
    split = [dask.delayed(_split, nout=count)(block, shared, count) for block in blocks]
    options = (content_dir, exported, now, jurisdiction, time_zone)
    summaries = [
        dask.delayed(_evaluate_partition)(
            [pieces[n] for pieces in split],
            shared,
            f"{output.rstrip('/')}/part-{n:05}.ndjson",
            options,
        )
        for n in range(count)
    ]
    return dask.delayed(_add_up)(summaries)


def _read_shared(block: bytes) -> tuple[Relations, dict[str, bytes]]:
    """The relations in a block, and its lines with Medications by id."""
    relations, medications = Relations(), dict[str, bytes]()
    for line in block.split(b"\n"):
        try:
            read = read_line(line)
        except UnreadableLine:
            continue
        if read.kind == "Medication":
            medications[read.identifier] = line
        else:
            relations.note(read)
    return relations, medications


def _merge(blocks: Iterable[tuple[Relations, dict[str, bytes]]]) -> Shared:
    """The shared data of the whole export, from that of its blocks."""
    all_relations = Relations()
    shared = Shared({}, {}, {})
    for relations, medications in blocks:
        all_relations.add(relations)
        shared.medications.update(medications)
    for mother, infants in all_relations.resolve().items():
        shared.infants[mother] = infants
        for infant in infants:
            shared.mothers.setdefault(infant, set()).add(mother)
    return shared


def _split(block: bytes, shared: Shared, count: int) -> list[bytes]:
    """The lines of a block by partition. Lines of an infant go to the mother's partition."""
    pieces: list[list[bytes]] = [[] for _ in range(count)]
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        try:
            read = read_line(line)
        except UnreadableLine:
            pieces[0].append(line)  # one partition counts it
            continue
        if read.patient is None and read.kind in ABOUT_A_PATIENT:
            pieces[0].append(line)  # one partition counts it
        if read.patient is None or read.kind == "Medication":
            continue
        patients = shared.mothers.get(read.patient, (read.patient,))
        for n in {zlib.crc32(patient.encode()) % count for patient in patients}:
            pieces[n].append(line)
    return [b"\n".join(piece) for piece in pieces]


_Options = tuple[Path | None, Set[str], datetime, str, tzinfo | None]  # for ``_evaluation``


def _evaluate_partition(
    pieces: Iterable[bytes], shared: Shared, path: str, options: _Options
) -> Summary:
    """Write the cards of a partition to ``path``. Returns its summary."""
    records: dict[str, list[bytes]] = {}
    persons: dict[str, list[bytes]] = {}
    summary = Summary()
    for line in chain.from_iterable(piece.split(b"\n") for piece in pieces if piece):
        try:
            read = read_line(line)
        except UnreadableLine:
            summary.unreadable += 1
            continue
        if read.patient is None:
            summary.without_patient += 1
            continue
        lines_of = persons if read.kind in PERSONS else records
        lines_of.setdefault(read.patient, []).append(line)

    evaluation = _evaluation(*options)
    with _open_for_owner(path) as file:
        for patient in sorted(records.keys() - shared.mothers.keys()):
            # Lines are kept and decoded again here: decoded, they need several times the memory.
            resources = resources_of_patient(
                *(patient, shared.infants, records, persons),
                shared.medications,
                lambda line: read_line(line).resource,
            )
            file.write(evaluation.line(patient, resources, summary))
    return summary


@cache
def _evaluation(
    content_dir: Path | None,
    exported: Set[str],
    now: datetime,
    jurisdiction: str,
    time_zone: tzinfo | None,
) -> PatientEvaluation:
    """The evaluation of this process, made once: it loads the content itself."""
    return PatientEvaluation(load_content(content_dir), exported, now, jurisdiction, time_zone)


@contextmanager
def _open_for_owner(path: str) -> Iterator[IO[bytes]]:
    """A new file to write. On a local disk, only its owner can read it."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    system, place = url_to_fs(path)
    if isinstance(system, LocalFileSystem):
        local = Path(place)
        local.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_for_owner(local) as file:
            yield file
    else:
        with system.open(place, "wb") as file:
            yield file


def _add_up(summaries: Iterable[Summary]) -> Summary:
    whole = Summary()
    for summary in summaries:
        whole.add(summary)
    return whole
