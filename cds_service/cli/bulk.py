"""A FHIR Bulk Data export, evaluated for everyone in it.

An export is a directory of NDJSON files, a resource a line, with the type in the name of each:
``Observation.ndjson``, ``Observation.2.ndjson``, ``1.Observation.ndjson`` (FHIR Bulk Data Access,
"Bulk Data Output File Organization"). A type of which it has no file was not exported: that is no
"none". There are two ways through one:

- ``evaluate_all``, on one machine. The export is read once to note where each patient's lines are,
  and nothing of it is copied to the disk; then the lines of one patient after another are read
  from where they are. So memory grows by eight bytes a line, and by who is whose infant, not with
  what the lines say.
- ``evaluate_on_dask``, on many: the lines are dealt out, so that all that concerns a patient is in
  one partition, and each partition is evaluated in memory by whatever worker of Dask has time.
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
AT_ONCE = 100  # patients that a process evaluates before it tells
_OFFSET_BITS = 44  # of a place: below them the offset in the file, above them the file


class ExportError(Exception):
    """A directory that is no export; the message says why."""

    def __init__(self, directory: Path | str) -> None:
        super().__init__(f"{directory} has no NDJSON file that names a type of resource")


class UnreadableLine(Exception):
    """A line that is no resource."""


class Line(NamedTuple):
    """A resource, its type and id, and whom it is about: a Patient is about itself."""

    resource: Resource
    kind: str
    identifier: str  # empty if there is none
    patient: str | None


PERSONS = ("Patient", "RelatedPerson")  # that someone is in an export is no record of hers


@dataclass
class Family:
    """What the records of an export say of who is whose infant, as ``Chart`` reads it."""

    infants: dict[str, set[str]] = field(default_factory=dict)  # whom her records name as focus
    stays: dict[str, str] = field(default_factory=dict)  # whose an Encounter is, by its id
    within: list[tuple[str, str]] = field(default_factory=list)  # patient, Encounter around hers
    women: dict[tuple[str, str], set[str]] = field(default_factory=dict)  # by what names them
    related: list[tuple[str, tuple[str, str]]] = field(default_factory=list)  # infant, mother

    def note(self, line: Line) -> None:
        """Note what a record says of it."""
        resource, kind, identifier, patient = line
        if patient is None:
            return
        if kind == "Patient":
            for name in keys_of_patient(resource):
                self.women.setdefault(name, set()).add(patient)
        elif kind == "RelatedPerson":
            self.related += [(patient, name) for name in keys_of_mother(resource)]
        elif kind == "Encounter":
            if identifier:
                self.stays[identifier] = patient
            around = read_reference(text_of(resource.get("partOf")) or "")
            if around is not None and around.kind == "Encounter":
                self.within.append((patient, around.id))
        focus = resource.get("focus")
        named = [patient_in(each) for each in focus] if isinstance(focus, list) else []
        infants = {infant for _, infant in filter(None, named)} - {patient}
        if infants:
            self.infants.setdefault(patient, set()).update(infants)

    def add(self, other: Family) -> None:
        """Note what was noted elsewhere too."""
        for mother, infants in other.infants.items():
            self.infants.setdefault(mother, set()).update(infants)
        for name, women in other.women.items():
            self.women.setdefault(name, set()).update(women)
        self.stays |= other.stays
        self.within += other.within
        self.related += other.related

    def settle(self) -> dict[str, set[str]]:
        """The infants of each mother, once all is noted."""
        pairs = [(self.stays.get(around), infant) for infant, around in self.within]
        pairs += [
            (her, infant) for infant, name in self.related for her in self.women.get(name, ())
        ]
        for her, infant in pairs:
            if her is not None and her != infant:
                self.infants.setdefault(her, set()).add(infant)
        return self.infants


def read_line(line: bytes) -> Line:
    """A line of an export. Raises ``UnreadableLine`` if it is no resource."""
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
    """The type of the resources in a file of an export, by its name; ``None`` if it names none."""
    match = NAMED.match(path.rpartition("/")[2])
    return match[1] if match is not None else None


@dataclass
class Export:
    """Where everything is. ``patients`` are those of whom there is a record, but for infants."""

    files: list[tuple[Path, str]]  # each with the type of its resources
    places: dict[str, array[int]] = field(default_factory=dict)  # of a patient's lines
    persons: dict[str, array[int]] = field(default_factory=dict)  # the Patient and who is related
    family: Family = field(default_factory=Family)
    infants: dict[str, set[str]] = field(default_factory=dict)  # of each mother
    medications: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0  # lines
    of_nobody: int = 0  # those whose subject cannot be read, or is no Patient

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
    found = [(path, kind_of_file(path.name)) for path in sorted(directory.glob("*.ndjson"))]
    files = [(path, kind) for path, kind in found if kind is not None]
    if not files:
        raise ExportError(directory)
    return Export(files)


def scan(export: Export, wanted: Iterable[str], advance: Callable[[int], None]) -> None:
    """Note where each patient's lines are; of the types that are ``wanted`` alone.

    ``advance`` is told how many bytes have been read since.
    """
    kinds = {*wanted, "Medication", *PERSONS}
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
    export.infants = export.family.settle()


def _note(export: Export, line: bytes, place: int) -> None:
    try:
        read = read_line(line)
    except UnreadableLine:
        export.unreadable += 1
        return
    if read.kind == "Medication":
        export.medications[read.identifier] = place
    elif read.patient is None:
        export.of_nobody += read.kind in ABOUT_A_PATIENT
    else:
        places = export.persons if read.kind in PERSONS else export.places
        places.setdefault(read.patient, array("Q")).append(place)
        export.family.note(read)


@dataclass
class Summary:
    """What came of some patients: how many, with how many cards of each, and what went wrong."""

    patients: int = 0
    with_cards: int = 0
    cards: Counter[str] = field(default_factory=Counter)
    not_judged: int = 0
    too_old: int = 0  # of whom nothing that changes by the day counts any more
    old_records: int = 0  # of those, that are older than their windows
    newest_old: str = ""  # the day of the newest of them
    unreadable: int = 0  # lines that were met in evaluating
    of_nobody: int = 0  # those of them whose subject cannot be read, or is no Patient

    def add(self, other: Summary) -> None:
        """Count what another has counted too."""
        self.patients += other.patients
        self.with_cards += other.with_cards
        self.cards += other.cards
        self.not_judged += other.not_judged
        self.too_old += other.too_old
        self.old_records += other.old_records
        self.newest_old = max(self.newest_old, other.newest_old)
        self.unreadable += other.unreadable
        self.of_nobody += other.of_nobody


class PatientEvaluation:
    """What evaluates one patient after another; it holds no state between."""

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
        self._asking = {card.id for card in cards if card.body == "data-needed"}

    def line(self, patient: str, resources: Iterable[Resource], summary: Summary) -> bytes:
        """Her cards as a line of NDJSON, nothing if she has none; counted in ``summary``.

        ``resources`` are hers, those of her infants and the Medications that they point at.
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
        if self._asking.issuperset(shown) and all_too_old(judged.facts):
            summary.too_old += 1
            records, newest = records_too_old(judged.facts)
            summary.old_records += records
            summary.newest_old = max(summary.newest_old, newest)
        if not shown:
            return b""
        summary.with_cards += 1
        summary.cards.update(shown)
        cards = [_brief(decision, self._content) for decision in judged.cards]
        return _line({"patient": patient, "cards": cards})

    def _results(self, resources: Iterable[Resource]) -> dict[str, KeyResult]:
        """As if they had been prefetched: each under the first key of its type."""
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


_Place = TypeVar("_Place", int, bytes)  # where a line is, or the line


def concerning(
    patient: str,
    infants: Mapping[str, Set[str]],
    records: Mapping[str, Iterable[_Place]],
    persons: Mapping[str, Iterable[_Place]],
    medications: Mapping[str, _Place],
    read: Callable[[_Place], Resource],
) -> Iterator[Resource]:
    """Her records, those of her infants, who they are, and the Medications they point at."""
    for one in (patient, *sorted(infants.get(patient, ()))):
        for place in persons.get(one, ()):
            yield read(place)
        for place in records.get(one, ()):
            resource = read(place)
            yield resource
            pointed = resource.get("medicationReference")
            text = pointed.get("reference") if isinstance(pointed, dict) else None
            if isinstance(text, str) and text.startswith("Medication/"):
                there = medications.get(text.removeprefix("Medication/"))
                if there is not None:
                    yield read(there)


class BriefCard(TypedDict):
    """A card without what is for a click: nobody clicks here."""

    card: str
    indicator: str
    summary: str
    detail: str
    interventions: list[str]
    rows: list[str]
    because: list[Told]
    content: str


class PatientCards(TypedDict):
    """A line of the output."""

    patient: str
    cards: list[BriefCard]


class PatientError(TypedDict):
    """A line of the output for a patient who could not be judged."""

    patient: str
    error: str


def _line(told: PatientCards | PatientError) -> bytes:
    return orjson.dumps(told) + b"\n"


def _brief(decision: CardDecision, content: Content) -> BriefCard:
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
    """What evaluates any part of an export, in whatever process: it holds no state between."""

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
        """The cards of some patients as NDJSON, a line for each who has any, and the summary."""
        export, lines = self._export, list[bytes]()
        summary = Summary()
        files: dict[int, BinaryIO] = {}
        try:
            for patient in patients:
                hers = concerning(
                    *(patient, export.infants, export.places, export.persons),
                    export.medications,
                    lambda place: self._at(place, files),
                )
                lines.append(self._evaluation.line(patient, hers, summary))
        finally:
            for file in files.values():
                file.close()
        return b"".join(lines), summary

    def _at(self, place: int, files: dict[int, BinaryIO]) -> Resource:
        number = place >> _OFFSET_BITS
        if number not in files:
            files[number] = self._export.files[number][0].open("rb")
        files[number].seek(place & ((1 << _OFFSET_BITS) - 1))
        return read_line(files[number].readline()).resource


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


# --- on many machines ---------------------------------------------------------------------------


class Relations(NamedTuple):
    """What must be known of other partitions to evaluate one."""

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
    """A task of Dask that evaluates an export and gives its ``Summary``.

    ``export`` and ``output`` are directories that each worker reaches: paths, or addresses that
    fsspec knows (``s3://...``). The export is read in blocks, and there is a partition for each
    unless ``partitions`` says how many. The cards of each become a file of its own in ``output``,
    ``part-00000.ndjson`` and so on. A worker holds one partition at a time; between workers goes
    what is dealt out, partitions times blocks.

    Raises ``ExportError`` if no file names a type of resource.
    """
    import dask
    from dask.bytes import read_bytes
    from dask.graph_manipulation import clone

    files = f"{export.rstrip('/')}/*.ndjson"
    try:
        _, found, paths = read_bytes(files, b"\n", blocksize=block, sample=False, include_path=True)
    except OSError:  # there is none
        found, paths = [], []
    by_kind = [(kind_of_file(path), blocks) for path, blocks in zip(paths, found, strict=True)]
    exported = frozenset(kind for kind, _ in by_kind if kind is not None)
    if not exported:
        raise ExportError(export)
    read = {key.resource for key in load_content(content_dir).prefetch.values()}
    wanted = read | {"Medication", *PERSONS}
    blocks = [block for kind, blocks in by_kind if kind in wanted for block in blocks]
    count = partitions or max(1, len(blocks))
    # These blocks are read twice: else the first would be held until the last is read.
    related = dask.delayed(_relate)([dask.delayed(_relations)(clone(block)) for block in blocks])
    dealt = [dask.delayed(_deal, nout=count)(block, related, count) for block in blocks]
    how = (content_dir, exported, now, jurisdiction, time_zone)
    summaries = [
        dask.delayed(_evaluate_partition)(
            [hands[n] for hands in dealt], related, f"{output.rstrip('/')}/part-{n:05}.ndjson", how
        )
        for n in range(count)
    ]
    return dask.delayed(_add_up)(summaries)


def _relations(block: bytes) -> tuple[Family, dict[str, bytes]]:
    family, medications = Family(), dict[str, bytes]()
    for line in block.split(b"\n"):
        try:
            read = read_line(line)
        except UnreadableLine:
            continue
        if read.kind == "Medication":
            medications[read.identifier] = line
        else:
            family.note(read)
    return family, medications


def _relate(all_of_them: Iterable[tuple[Family, dict[str, bytes]]]) -> Relations:
    together = Family()
    related = Relations({}, {}, {})
    for family, medications in all_of_them:
        together.add(family)
        related.medications.update(medications)
    for mother, infants in together.settle().items():
        related.infants[mother] = infants
        for infant in infants:
            related.mothers.setdefault(infant, set()).add(mother)
    return related


def _deal(block: bytes, related: Relations, count: int) -> list[bytes]:
    """The lines of a block by partition: those of an infant to where its mother is."""
    hands: list[list[bytes]] = [[] for _ in range(count)]
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        try:
            read = read_line(line)
        except UnreadableLine:
            hands[0].append(line)  # to be counted once
            continue
        if read.patient is None and read.kind in ABOUT_A_PATIENT:
            hands[0].append(line)  # this, too
        if read.patient is None or read.kind == "Medication":
            continue
        whose = related.mothers.get(read.patient, (read.patient,))
        for n in {zlib.crc32(one.encode()) % count for one in whose}:
            hands[n].append(line)
    return [b"\n".join(hand) for hand in hands]


_How = tuple[Path | None, Set[str], datetime, str, tzinfo | None]  # for ``_evaluation``


def _evaluate_partition(
    hands: Iterable[bytes], related: Relations, path: str, how: _How
) -> Summary:
    lines: dict[str, list[bytes]] = {}
    persons: dict[str, list[bytes]] = {}
    summary = Summary()
    for line in chain.from_iterable(hand.split(b"\n") for hand in hands if hand):
        try:
            read = read_line(line)
        except UnreadableLine:
            summary.unreadable += 1
            continue
        if read.patient is None:
            summary.of_nobody += 1
            continue
        its = persons if read.kind in PERSONS else lines
        its.setdefault(read.patient, []).append(line)

    evaluation = _evaluation(*how)
    with _open_for_owner(path) as file:
        for patient in sorted(lines.keys() - related.mothers.keys()):
            # Lines are held, and decoded again here: what they say takes several times as much.
            hers = concerning(
                *(patient, related.infants, lines, persons),
                related.medications,
                lambda line: read_line(line).resource,
            )
            file.write(evaluation.line(patient, hers, summary))
    return summary


@cache
def _evaluation(
    content_dir: Path | None,
    exported: Set[str],
    now: datetime,
    jurisdiction: str,
    time_zone: tzinfo | None,
) -> PatientEvaluation:
    """Made once in each process: content is loaded there, not sent."""
    return PatientEvaluation(load_content(content_dir), exported, now, jurisdiction, time_zone)


@contextmanager
def _open_for_owner(path: str) -> Iterator[IO[bytes]]:
    """A new file, to be written. On a local disk only its owner can read it."""
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
