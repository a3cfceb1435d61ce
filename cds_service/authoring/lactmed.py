"""LactMed: reads the National Library's archive, and joins its records to the shipped medicines.

``lactmed_NBK501922.tar.gz`` (NCBI Literature Archive, described at NBK547442) has one NXML file
(BITS) for each substance: its id, its title, its synonyms (ATC and UNII codes are among them), the
date of its revision, and the text. The archive is read as a stream: one file at a time is in
memory, and nothing is unpacked to the disk. Files that are larger than any record, or that define
XML entities, are refused.
"""

from __future__ import annotations

import gzip
import json
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import RawIOBase
from typing import IO, TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ..engine.inert import one_line
from ..engine.medicines import plain
from ..fhir.chart import Resource

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..content.schema import LactMed, Medicine

# Bounds. The archive of September 2026 has 209 MB in about 2,000 files, each below 1 MB.
MOST_BYTES = 8 * 1024**3
MOST_BYTES_OF_A_RECORD = 16 * 1024**2
MOST_BYTES_OF_A_HEADER = 1024**2
MOST_FILES = 50_000
MOST_NAMES = 60  # of one record
LONGEST_NAME = 40  # characters
LONGEST_SUMMARY = 160  # characters

ATC, UNII = "http://www.whocc.no/atc", "http://fdasis.nlm.nih.gov"
FILE = "0-lactmed.yaml"  # read before a hospital's own files, so that these win

_ID = re.compile(r"^[A-Za-z0-9_-]{1,80}$")
_ATC = re.compile(r"^[A-Z]\d{2}[A-Z]{2}\d{2}$")
_UNII = re.compile(r"^(?:UNII-)?((?=\w*\d)(?=\w*[A-Z])[A-Z0-9]{10})$")
_REGISTRY = re.compile(
    r"^(?:\d{2,7}-\d{2}-\d|(?:EINECS|HSDB|CCRIS|NSC|BRN|CAS|CHEBI|EC|RCRA)[ -].*)$"
)
_QUALIFIED = re.compile(r"\s*[\[(][^\[\]()]*[\])]\s*$")  # "Etopophos (phosphate salt)"
# Synonyms of some record that are common words in orders: as names they would match too much.
NO_NAMES = {
    "acid",
    "calcium",
    "capsule",
    "chloride",
    "cream",
    "daily",
    "drops",
    "drug",
    "extract",
    "gel",
    "injection",
    "lotion",
    "oil",
    "ointment",
    "once",
    "oral",
    "patch",
    "powder",
    "salt",
    "sodium",
    "solution",
    "spray",
    "sugar",
    "suspension",
    "syrup",
    "tablet",
    "topical",
    "twice",
    "vaccine",
    "vitamin",
    "water",
    "wine",
}
_SENTENCE_END = re.compile(r"[.!?]['\")]?\s+(?=[A-Z0-9\"'(])")
_ABBREVIATED = re.compile(r"(?:\b(?:[A-Za-z]|e\.g|i\.e|vs|sq|no|al|approx|Dr|St|mg|mL))$")


class ArchiveError(Exception):
    """The archive cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """The parts of one LactMed record that are used."""

    id: str
    title: str
    revised: str
    names: tuple[str, ...]
    codes: tuple[tuple[str, str], ...]
    summary: str | None


@dataclass(frozen=True, slots=True)
class Unread:
    """A file of the archive that is not a record, or cannot be read, with the reason."""

    file: str
    reason: str


# --- reading the archive ------------------------------------------------------------------------


class _Bounded(RawIOBase):
    """The unpacked bytes of a gzip file. Raises ``ArchiveError`` above ``MOST_BYTES``."""

    def __init__(self, packed: IO[bytes]) -> None:
        super().__init__()
        self._unpacked = gzip.GzipFile(fileobj=packed)
        self._left = MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._unpacked.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise ArchiveError("it unpacks to far more than LactMed")
        buffer[: len(data)] = data
        return len(data)


class _Member(tarfile.TarInfo):
    """A member of a tar file. Raises ``ArchiveError`` if an extended header is too large."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        ordinary = member.isreg() or member.isdir() or member.issym() or member.islnk()
        if not ordinary and member.size > MOST_BYTES_OF_A_HEADER:
            raise ArchiveError("a header of it is larger than any header")
        return member


def read_archive(packed: IO[bytes], unread: list[Unread]) -> Iterator[Record]:
    """The records of an archive, one after another.

    Files that are not records, or cannot be read, are added to ``unread``. Raises ``ArchiveError``
    if this is not a tar.gz file, ends too early, or is far larger than LactMed.
    """
    try:
        with tarfile.open(fileobj=_Bounded(packed), mode="r|", tarinfo=_Member) as archive:
            for number, member in enumerate(archive):
                if number >= MOST_FILES:
                    raise ArchiveError("it holds far more files than LactMed")
                if not member.name.lower().endswith(".nxml"):
                    continue
                try:
                    yield _read_record(_content_of(archive, member))
                except ValueError as error:
                    unread.append(Unread(one_line(member.name[:80]), str(error)))
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ArchiveError(f"it is no whole tar.gz ({type(error).__name__})") from None


def _content_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isreg():
        raise ValueError("it is no plain file")
    if member.size > MOST_BYTES_OF_A_RECORD:
        raise ValueError("it is larger than any record")
    file = archive.extractfile(member)
    return file.read() if file is not None else b""


def _read_record(data: bytes) -> Record:
    """Parse an NXML file. Raises ``ValueError``, with the reason, if it is not a record."""
    try:
        root = fromstring(data, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    except DefusedXmlException:
        raise ValueError("its XML defines entities") from None
    except (ParseError, ValueError, LookupError):
        raise ValueError("it is not well-formed XML") from None
    part = next(root.iter("book-part"), None)
    meta = part.find("book-part-meta") if part is not None else None
    if part is None or meta is None:
        raise ValueError("it is no chapter")
    ids = [_text(element) for element in meta.findall("book-part-id")]
    record_id = next((each for each in ids if _ID.match(each)), None)
    title = plain(_text(meta.find("title-group/title")), 80)
    revised = _revised(meta)
    if record_id is None or not title or revised is None:
        lacking = "an id" if record_id is None else "a title" if not title else "a revision date"
        raise ValueError(f"it lacks {lacking}")
    keywords = [_text(keyword) for keyword in meta.iter("kwd")]
    return Record(
        record_id,
        title,
        revised,
        tuple(_names(title, keywords)),
        tuple(_codes(keywords)),
        _summary(part),
    )


def _text(element: Element | None) -> str:
    return " ".join("".join(element.itertext()).split()) if element is not None else ""


def _revised(meta: Element) -> str | None:
    """The newest date of revision, as YYYY-MM-DD; ``None`` if there is none."""
    dates: list[str] = []
    for date in meta.iterfind("pub-history/date[@date-type='revised']"):
        try:
            year, month, day = (int(_text(date.find(name))) for name in ("year", "month", "day"))
        except ValueError:
            continue
        dates.append(f"{year:04}-{month:02}-{day:02}")
    return max(dates, default=None)


def _names(title: str, keywords: Iterable[str]) -> list[str]:
    """The title, and the synonyms that a person may write: no codes, and none too short or long."""
    names = {title.lower(): title}
    for keyword in keywords:
        name = keyword
        while (shorter := _QUALIFIED.sub("", name)) != name:
            name = shorter
        code = _ATC.match(name) or _UNII.match(name) or _REGISTRY.match(name)
        short = len(re.sub(r"[^A-Za-z]", "", name)) < 4
        long = len(name) > LONGEST_NAME or any(mark in name for mark in "[]{}<>|")
        if not (code or short or long or name.lower() in NO_NAMES):
            names.setdefault(name.lower(), name)
    return list(names.values())[:MOST_NAMES]


def _codes(keywords: Iterable[str]) -> list[tuple[str, str]]:
    codes: dict[tuple[str, str], None] = {}
    for keyword in keywords:
        if _ATC.match(keyword):
            codes[ATC, keyword] = None
        elif (unii := _UNII.match(keyword)) is not None:
            codes[UNII, unii[1]] = None
    return list(codes)


def _summary(part: Element) -> str | None:
    """The first sentence of the record's summary; ``None`` if it has no summary."""
    for section in part.iter("sec"):
        if _text(section.find("title")).lower() == "summary of use during lactation":
            paragraph = next(section.iter("p"), None)
            return plain(first_sentence(_text(paragraph)), LONGEST_SUMMARY) or None
    return None


def first_sentence(text: str) -> str:
    """The first sentence of a text; an abbreviation does not end one."""
    for end in _SENTENCE_END.finditer(text):
        if not _ABBREVIATED.search(text[: end.start()]):
            return text[: end.end()].rstrip()
    return text


# --- joining the shipped medicines --------------------------------------------------------------


def overlay(records: Iterable[Record], content: Content, source: str) -> Iterator[Resource]:
    """The entries of ``medicines`` that add the records to a content, as an overlay.

    A shipped medicine gets the names, codes and revision of its record, and keeps all else. A
    record of no shipped medicine becomes a new medicine. A code that several records have is not
    added to any. ``source`` says where the records are from.
    """
    known = {own.id: medicine for own, medicine in _with_record(content)}
    records = list(records)
    holders: dict[tuple[str, str], set[str]] = {}
    for record in records:
        for code in record.codes:
            holders.setdefault(code, set()).add(record.id)
    for record in records:
        medicine = known.get(record.id)
        codes = [
            {"system": system, "code": code, "kind": "ingredient", "verified": source}
            for system, code in record.codes
            if len(holders[system, code]) == 1
        ]
        entry: Resource = {"id": medicine.id if medicine else medicine_id(record)}
        if medicine is None:
            entry |= {"name": record.title, "rows": ["R16"], "review": "draft", "verified": source}
            names = list(record.names)
        else:
            had = {name.lower() for name in medicine.names}
            names = [*medicine.names, *(n for n in record.names if n.lower() not in had)]
            pairs = {(code.system, code.code) for code in medicine.codes}
            new = [code for code in codes if (code["system"], code["code"]) not in pairs]
            codes = [*(code.model_dump() for code in medicine.codes), *new]
        entry |= {"names": names, "codes": codes}
        entry["lactmed"] = {"id": record.id, "revised": record.revised}
        if record.summary:
            entry["summary"] = record.summary
        yield entry


def medicine_id(record: Record) -> str:
    """The id for the medicine of a record that is not shipped."""
    return f"lactmed-{record.id.lower().replace('_', '-')}"


def write_overlay(entries: list[Resource], source: str) -> str:
    """The text of an overlay file, with one medicine on each line, as JSON: JSON is also YAML."""
    head = f"# LactMed, from {source}. Written by 'cds-service lactmed import'; do not edit.\n"
    lines = [f"  - {json.dumps(entry, ensure_ascii=False)}\n" for entry in entries]
    return f"{head}medicines:\n{''.join(lines)}" if lines else f"{head}medicines: []\n"


def write_records(records: Mapping[str, Record], content: Content, source: str) -> str:
    """The text of the file with the section ``lactmed-records``: the record of each medicine.

    The revisions are taken from ``records``, by record id; a record that is not among them keeps
    the revision that it has in the content.
    """
    head = (
        f"# Which record of LactMed each medicine has, and its revision: from {source}.\n"
        "# Written by 'cds-service lactmed revisions'; do not edit.\n"
        "# What people wrote of a medicine stands with the medicine.\n"
    )
    lines = [
        f"  - {{id: {medicine.id}, record: {own.id}, "
        f"revised: {records[own.id].revised if own.id in records else own.revised}}}\n"
        for own, medicine in sorted(_with_record(content), key=lambda pair: pair[1].id)
    ]
    return f"{head}lactmed-records:\n{''.join(lines)}"


# --- the changes of a new archive ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between an archive and the content."""

    kind: str  # new, gone, revised, renamed
    record_id: str
    title: str
    was: str = ""
    now: str = ""
    note: str | None = None  # our line, which was written for the older revision


def changes(records: Iterable[Record], content: Content) -> list[Change]:
    """The differences between an archive and the content, by kind, then by title."""
    known = {own.id: (own, medicine) for own, medicine in _with_record(content)}
    found: list[Change] = []
    for record in records:
        shipped = known.pop(record.id, None)
        if shipped is None:
            found.append(Change("new", record.id, record.title, now=record.revised))
        else:
            found += _changes_of(record, *shipped)
    for own, medicine in known.values():
        found.append(Change("gone", own.id, medicine.name, was=own.revised))
    kinds = ("gone", "revised", "renamed", "new")
    return sorted(found, key=lambda change: (kinds.index(change.kind), change.title.lower()))


def _with_record(content: Content) -> Iterator[tuple[LactMed, Medicine]]:
    """The LactMed records of the content, each with its medicine."""
    for medicine in content.medicines.values():
        if medicine.lactmed is not None:
            yield medicine.lactmed, medicine


def _changes_of(record: Record, own: LactMed, medicine: Medicine) -> Iterator[Change]:
    was, now = own.revised, record.revised
    if was != now:
        yield Change("revised", record.id, record.title, was, now, medicine.reading.line)
    if medicine.id == medicine_id(record) and medicine.name != record.title:
        yield Change("renamed", record.id, record.title, medicine.name, record.title)
