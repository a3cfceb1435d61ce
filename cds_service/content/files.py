"""The files of the content: YAML sections and FHIR ValueSets, with the line of each entry.

Any YAML file below a directory may hold any section (``facts:``, ``findings:``, ``cards:`` ...);
the codes are FHIR ValueSets beside them. A hospital's own directory is laid over the shipped one:
an entry with the same ``id`` replaces the fields that it gives, ``off: true`` switches it off, and
a ValueSet with the same ``url`` adds its codes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from ..errors import CannotStart, say_problem, say_with_place
from . import old_names
from .codes import ValueSet
from .dialect import NotYamlError, WrittenMapping, read_yaml
from .schema import NOTHING_ASKED, SECTIONS, VALUE_SET

_PARAMETER = re.compile(r"\{parameter:([a-z0-9-]+)\}")


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in the content, with its file and line."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class ContentError(CannotStart):
    """The content cannot be used; ``faults`` lists the mistakes, each with file and line.

    ``old_names`` lists the old names in its files: they are no mistakes, but may explain one.
    """

    def __init__(self, faults: list[Fault], old_names: Sequence[Fault] = ()) -> None:
        self.faults = faults
        self.old_names = old_names
        super().__init__("\n".join(str(fault) for fault in faults))


class ContentFiles:
    """Collects the raw entries and ValueSets of directories, and the faults in them.

    ``raw`` has the entries by section and id, as they were written.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.old_names: list[Fault] = []  # each old name that was read; none of them is a fault yet
        self.raw: dict[str, dict[str, WrittenMapping]] = {section: {} for section in SECTIONS}
        self.value_sets: list[tuple[str, ValueSet]] = []  # with the file of each
        self.digest = hashlib.sha256()
        self.left_out: set[tuple[str, str]] = set()  # section and id of each entry that is off

    def read_directory(self, directory: Path, overlay: bool) -> None:
        """Read all YAML and JSON files below a directory, in the order of their paths.

        With ``overlay``, an entry changes one that was read before, or switches it off. A file that
        cannot be read as content is noted in ``faults``; the others are read all the same.
        """
        if not directory.is_dir():
            self.faults.append(Fault(str(directory), 0, "there is no such directory"))
            return
        paths = sorted([*directory.rglob("*.yaml"), *directory.rglob("*.json")])
        for path in paths:
            data = path.read_bytes()
            name = str(path.relative_to(directory.parent))
            # The version depends on the files, and not on where the directory lies.
            inside = f"{overlay} {path.relative_to(directory)}"
            self.digest.update(inside.encode() + b"\0" + data + b"\0")
            if path.suffix == ".yaml":
                self._read_yaml(name, data, overlay)
            else:
                self._read_value_sets(name, data)

    def _read_yaml(self, name: str, data: bytes, overlay: bool) -> None:
        try:
            document = read_yaml(data, name)
        except NotYamlError as error:
            self.faults.append(Fault(name, error.line, error.reason))
            return
        if not isinstance(document, WrittenMapping):
            self.faults.append(Fault(name, 1, "a file holds sections such as 'facts:'"))
            return
        given: dict[tuple[str, str], int] = {}  # the line of each entry of this file
        # Old names are looked for in overlays only: the shipped files have none.
        for written, entries in document.items():
            section = old_names.SECTIONS.get(written, written) if overlay else written
            if section != written:
                line = document.lines.get(written, 1)
                self.old_names.append(Fault(name, line, f"'{written}' is '{section}' now"))
            if section not in SECTIONS:
                self.faults.append(Fault(name, 1, f"'{section}' is not a section"))
                continue
            for entry in entries if isinstance(entries, list) else [entries]:
                self._take(section, entry, name, overlay, given)

    def _take(
        self,
        section: str,
        entry: object,
        name: str,
        overlay: bool,
        given: dict[tuple[str, str], int],
    ) -> None:
        key = entry.get("id") if isinstance(entry, WrittenMapping) else None
        if not isinstance(entry, WrittenMapping) or not isinstance(key, str):
            self.faults.append(Fault(name, 1, f"each of '{section}' is a mapping with an 'id'"))
            return
        for found in old_names.rename_old(section, entry) if overlay else ():
            told = self.faults if found.is_fault else self.old_names
            told.append(Fault(name, found.line, found.sentence))
        known = self.raw[section].get(key)
        if (section, key) in given:
            line = given[section, key]
            self.faults.append(Fault(name, entry.line, f"'{key}' stands already in {name}:{line}"))
            return
        given[section, key] = entry.line
        if entry.get("off") is True and overlay and known is not None:
            del self.raw[section][key]
            self.left_out.add((section, key))
            if section == "medicines":
                self.raw["lactmed-records"].pop(key, None)
        elif known is None:
            self.raw[section][key] = entry
        elif overlay:
            known.update(entry)
            known.file, known.line = entry.file, entry.line
        else:
            reason = f"'{key}' stands already in {known.file}:{known.line}"
            self.faults.append(Fault(entry.file, entry.line, reason))

    def _read_value_sets(self, name: str, data: bytes) -> None:
        """Read a file with one ValueSet, or with a Bundle of them."""
        try:
            read = json.loads(data)
        except ValueError as error:
            self.faults.append(Fault(name, 1, f"this is not a FHIR ValueSet: {brief(error)}"))
            return
        entries = [read]
        if isinstance(read, dict) and read.get("resourceType") == "Bundle":
            written = read.get("entry")
            written = written if isinstance(written, list) else []
            entries = [each.get("resource") if isinstance(each, dict) else None for each in written]
        for value_set in entries:
            self._take_value_set(name, value_set)

    def _take_value_set(self, name: str, value_set: object) -> None:
        try:
            get_fhir_model_class("ValueSet").model_validate(value_set)
        except (ValueError, ValidationError) as error:
            self.faults.append(Fault(name, 1, f"this is not a FHIR ValueSet: {brief(error)}"))
            return
        valid = cast(ValueSet, value_set)
        if not str(valid.get("url", "")).startswith(VALUE_SET):
            self.faults.append(Fault(name, 1, f"its url must start with {VALUE_SET}"))
            return
        self.value_sets.append((name, valid))

    def join_lactmed_records(self) -> None:
        """Set ``lactmed`` of each medicine from the section ``lactmed-records``.

        A ``lactmed`` that is written with the medicine itself stays.
        """
        for key, entry in self.raw["lactmed-records"].items():
            medicine = self.raw["medicines"].get(key)
            if medicine is None:
                self.faults.append(Fault(entry.file, entry.line, f"there is no medicine '{key}'"))
            elif "lactmed" not in medicine:
                medicine["lactmed"] = {"id": entry.get("record"), "revised": entry.get("revised")}

    def fill_parameters(self, said: Mapping[str, str]) -> None:
        """Replace ``{parameter:ID}`` in all texts by the words that ``said`` has for the id."""
        for section, entries in self.raw.items():
            for key, entry in entries.items():
                for name in sorted(_put_in(entry, said)):
                    self.fault(section, key, f"there is no parameter '{name}'")

    def fill_assessments(self) -> None:
        """Set ``when`` of each finding of an assessment: all words of its line must hold."""
        for key, assessment in self.raw["assessments"].items():
            columns, table = assessment.get("columns"), assessment.get("table")
            if not isinstance(columns, dict) or not isinstance(table, dict):
                continue  # the validation reports this
            unused = {(column, word) for column, words in columns.items() for word in words or ()}
            for name, line in table.items():
                reason = self._fill_finding(name, line, columns)
                if reason is not None:
                    self.fault("assessments", key, f"{name}: {reason}")
                else:
                    unused -= set(zip(columns, line, strict=True))
            for column, word in sorted(unused):
                self.fault("assessments", key, f"no line says '{word}' of {column}")

    def _fill_finding(self, name: str, line: object, columns: Mapping[str, Any]) -> str | None:
        """Set ``when`` of one finding from its line; return what is wrong, or ``None``."""
        finding = self.raw["findings"].get(name)
        if finding is None:
            return "there is no such finding"
        if "when" in finding:
            return "its 'when' is made from this line: it cannot have its own"
        if not isinstance(line, list) or len(line) != len(columns):
            return f"it needs a word, or a dot, for each of {', '.join(columns)}"
        asked = [
            (column, word)
            for column, word in zip(columns, line, strict=True)
            if word != NOTHING_ASKED
        ]
        for column, word in asked:
            if word not in columns[column]:
                return f"'{word}' is no word of {column}"
        finding["when"] = {"all": [columns[column][word] for column, word in asked]}
        return None

    def build(self, section: str) -> dict[str, Any]:
        """Validate the entries of one section, by id; those with a fault are noted and left out."""
        built = {}
        for key, entry in self.raw[section].items():
            try:
                built[key] = SECTIONS[section].model_validate(dict(entry))
            except ValidationError as error:
                for problem in error.errors():
                    self._note(key, entry, problem["loc"], say_problem(problem))
        return built

    def _note(
        self, key: str, entry: WrittenMapping, place: tuple[int | str, ...], reason: str
    ) -> None:
        line = entry.line
        inner: Any = entry
        for step in place:
            try:
                inner = inner[step]
            except (KeyError, IndexError, TypeError):
                break
            line = inner.line if isinstance(inner, WrittenMapping) else line
        where = ".".join(str(step) for step in place)
        self.faults.append(Fault(entry.file, line, f"{key}: {where}: {reason}"))

    def fault(self, section: str, key: str, reason: str) -> None:
        """Note a mistake in an entry, by its section and id, at the line where it is written."""
        entry = self.raw[section].get(key)
        file, line = (entry.file, entry.line) if entry is not None else ("?", 0)
        self.faults.append(Fault(file, line, f"{key}: {reason}"))


def _put_in(holder: Any, said: Mapping[str, str]) -> set[str]:
    """Fill the parameters into the texts of an entry, in place; return the unknown names."""
    unknown: set[str] = set()
    places = holder.items() if isinstance(holder, dict) else enumerate(holder)
    for place, value in places:
        if isinstance(value, dict | list):
            unknown |= _put_in(value, said)
        elif isinstance(value, str) and "{parameter:" in value:
            unknown |= set(_PARAMETER.findall(value)) - said.keys()
            holder[place] = _PARAMETER.sub(lambda match: said.get(match[1], ""), value)
    return unknown


def brief(error: Exception) -> str:
    """An error in one line: of a validation, its first mistake and where that is."""
    if isinstance(error, ValidationError):
        return say_with_place(error.errors()[0])
    return str(error)
