"""The clinical content: loaded from ``cards/``, checked whole, and then only read.

Any YAML file below the directory may hold any section (``facts:``, ``findings:``, ``cards:`` ...);
the codes are FHIR ValueSets beside them (``value-sets/*.json``). A hospital's own directory is laid
over the shipped one: an entry with the same ``id`` replaces the fields that it gives, ``off: true``
switches it off, and a ValueSet with the same ``url`` adds its codes.

All that is wrong is collected and raised at once as ``ContentError``, each with its file, its line
and the reason, so that a service with broken content never starts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from fhir.resources.R4B import get_fhir_model_class
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .conditions import Condition, FactCompares, FactIs, compile_condition
from .facts import MEASURES
from .times import HOUR, duration
from .wording import LONGEST_SUMMARY, Wording

SHIPPED = Path(__file__).resolve().parent.parent / "cards"
OWN_FACT = "urn:lactation-cds:fact"
OWN_ANSWER = "urn:lactation-cds:answer"
OWN_ACTIVITY = "urn:lactation-cds:activity"
VALUE_SET = "urn:lactation-cds:value-set:"
# FHIR search parameters that take a code, by resource type.
CODE_PARAMETER = {"Encounter": "type"}
MEDICINE_TYPES = {"MedicationRequest", "MedicationStatement"}
# What stands in a suggestion until a request fills it in.
SOMEONE = "Patient/someone"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with the content."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class ContentError(Exception):
    """The content cannot be used. ``faults`` says why, with file and line."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class Entry(BaseModel):
    """Anything in the content. Unknown fields are mistakes."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=_kebab, arbitrary_types_allowed=True, populate_by_name=True
    )


Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
RowId = Annotated[str, Field(pattern=r"^[RS][0-9]{1,2}$")]
Seconds = Annotated[float, BeforeValidator(duration)]
Sentence = Annotated[Wording, BeforeValidator(lambda text: Wording(_one_line(text)))]
When = Annotated[Condition, BeforeValidator(compile_condition)]
Review = Annotated[str, Field(pattern=r"^(draft|reviewed by .+ on \d{4}-\d{2}-\d{2})$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]


def _one_line(text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError("a sentence is needed here")
    return " ".join(text.split())


class Row(Entry):
    """A row of the founding recommendations."""

    id: RowId
    says: str
    not_yet: str | None = None


class Evidence(Entry):
    """A source, and where its particulars were verified."""

    id: Identifier
    authors: str
    title: str | None = None
    source: str
    year: int
    pmid: str | None = Field(default=None, pattern=r"^\d{5,8}$")
    doi: str | None = Field(default=None, pattern=r"^10\.\S+$")
    url: Url | None = None
    says: str
    verified: str

    @cached_property
    def link(self) -> str | None:
        """The address that a card links to."""
        if self.pmid:
            return f"https://pubmed.ncbi.nlm.nih.gov/{self.pmid}/"
        return f"https://doi.org/{self.doi}" if self.doi else self.url

    @cached_property
    def short(self) -> str:
        """As it is cited on a card: the first author, or the body, and the year."""
        first, *others = self.authors.removesuffix(" et al.").split(", ")
        family = first.rsplit(" ", 1)[0] if re.search(r" [A-Z]{1,3}$", first) else first
        several = bool(others) or self.authors.endswith("et al.")
        return f"{family}{' et al.' if several else ''} {self.year}"


class PrefetchKey(Entry):
    """One prefetch template, and whether the service can do without it."""

    id: Annotated[str, Field(pattern=r"^[a-z][A-Za-z]*$")]
    label: str
    resource: str
    by_code: bool = False
    search: str | None = None
    needed: bool = False


class AlsoFrom(Entry):
    """Another resource type that can carry a fact, and the key under which it comes."""

    resource: Literal["Procedure", "Condition", "Encounter"]
    prefetch: str


class AnswerSpec(Entry):
    """One answer of a coded fact."""

    label: str


class FactSpec(Entry):
    """A fact: what it is, in which unit, for how long it counts, and how to ask for it."""

    id: Identifier
    label: str
    type: Literal["quantity", "number", "coded", "yes-no", "time"]
    prefetch: str
    window: Seconds
    unit: str | None = None
    also_unit: dict[str, float] = Field(default_factory=dict)
    may_be_negative: bool = False
    combine: Literal["latest", "sum"] = "latest"
    covered: Seconds = 0.0
    record_break: Seconds = 12 * HOUR
    contradicts_within: Seconds = 0.0
    answers: dict[str, AnswerSpec] = Field(default_factory=dict)
    also_from: list[AlsoFrom] = Field(default_factory=list)
    counts: Identifier | None = None
    about: Literal["mother", "infant"] = "mother"
    ask: str
    note: str | None = None

    decimals: int = 1

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The prefetch keys under which it can come."""
        return (self.prefetch, *(source.prefetch for source in self.also_from))

    @cached_property
    def measures_like(self) -> str:
        """Which set of ``MEASURES`` the fact has."""
        return "time" if self.type == "time" else self.combine

    def label_of(self, answer: str) -> str:
        """An answer in words."""
        known = self.answers.get(answer)
        return known.label if known else answer


_ANNOTATION = re.compile(r"\{[^{}]*\}")


class UnitKind(Entry):
    """UCUM units of one kind, each as factor to the first, with an offset where it has one."""

    id: Identifier
    units: dict[str, float | tuple[float, float]]


class CurvePoint(Entry):
    """Expected values on one day after birth."""

    day: float
    low: float
    high: float
    evidence: list[Identifier] = Field(min_length=1)


class Curve(Entry):
    """What is usual by day after birth; straight lines between the points."""

    id: Identifier
    label: str
    unit: str
    rows: list[RowId]
    judged_from: Seconds
    points: list[CurvePoint] = Field(min_length=2)
    review: Review
    note: str

    def at(self, line: str, hours: float) -> float:
        """The ``low`` or ``high`` line, this many hours after birth."""
        day = hours / 24
        points = self.points
        if day <= points[0].day:
            return float(getattr(points[0], line))
        for before, after in pairwise(points):
            if day <= after.day:
                start, end = getattr(before, line), getattr(after, line)
                return float(start + (end - start) * (day - before.day) / (after.day - before.day))
        return float(getattr(points[-1], line))


class Finding(Entry):
    """A named judgement on the facts."""

    id: Identifier
    label: str
    rows: list[RowId] = Field(default_factory=list)
    when: When
    unless: When | None = None
    evidence: list[Identifier] = Field(default_factory=list)
    review: Review
    note: str | None = None


class SuggestionSpec(Entry):
    """What one click does: a resource made from a template."""

    label: str
    template: Identifier
    recommended: bool = False


class Intervention(Entry):
    """Something that would help her, when it would, and how to do it."""

    id: Identifier
    label: str
    rows: list[RowId] = Field(min_length=1)
    when: When
    unless: When | None = None
    held_back_by: list[Identifier] = Field(default_factory=list)
    short: str
    do: Sentence
    how: str
    suggestion: SuggestionSpec | None = None
    ask_if_unknown: bool = True
    evidence: list[Identifier] = Field(min_length=1)
    review: Review
    note: str | None = None


class Template(Entry):
    """A FHIR resource with places for an intervention's own words."""

    id: Identifier
    resource: dict[str, Any]
    verified: str


class TableLine(Entry):
    """One line of the table of her own numbers."""

    label: str
    hers: Sentence
    usual: Sentence | None = None


class LinkSpec(Entry):
    """A link of a card."""

    label: str
    url: Url


class Card(Entry):
    """A card: when it is shown, what it says, and what it offers."""

    id: Identifier
    title: str
    rows: list[RowId]
    indicator: Literal["info", "warning", "critical"]
    urgency: int
    when: When
    unless: When | None = None
    body: Literal["interventions", "medicines", "data-needed"] = "interventions"
    summary: Sentence
    summary_names: bool = False
    opening: Sentence | None = None
    table: list[TableLine] = Field(default_factory=list)
    interventions: list[Identifier] = Field(default_factory=list)
    links: list[LinkSpec] = Field(default_factory=list)
    evidence: list[Identifier] = Field(default_factory=list)
    review: Review


class Ask(Entry):
    """When the want of a fact is worth a card."""

    id: Identifier
    rows: list[RowId]
    why: str
    when: When
    finding: Identifier | None = None
    facts: list[Identifier] = Field(default_factory=list)
    review: Review


class LactMed(Entry):
    """A LactMed record: its id in the National Library's archive, and its revision."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    revised: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")

    @property
    def url(self) -> str:
        """Its permanent address."""
        return f"https://www.ncbi.nlm.nih.gov/books/n/lactmed/{self.id}/"


class MedicineCode(Entry):
    """A code of a medicine, as ingredient or as a product that holds it."""

    system: str
    code: str
    kind: Literal["ingredient", "product"]
    verified: str


class Medicine(Entry):
    """A medicine, how it is recognised, and what LactMed says in our words."""

    id: Identifier
    name: str
    rows: list[RowId]
    codes: list[MedicineCode]
    names: list[str]
    whole_name_only: bool = False
    lactmed: LactMed
    note: str
    lowers_supply: bool = False
    verified: str
    review: Review


class OverrideReason(Entry):
    """A reason that a clinician can give for not following a card."""

    id: Identifier
    system: str
    display: str


SECTIONS: dict[str, type[Entry]] = {
    "rows": Row,
    "evidence": Evidence,
    "prefetch": PrefetchKey,
    "units": UnitKind,
    "facts": FactSpec,
    "curves": Curve,
    "findings": Finding,
    "interventions": Intervention,
    "templates": Template,
    "cards": Card,
    "asks": Ask,
    "medicines": Medicine,
    "override-reasons": OverrideReason,
}


@dataclass(slots=True)
class Content:
    """All of the content, by id. Built by ``load_content``; nothing changes it afterwards."""

    version: str
    rows: dict[str, Row]
    evidence: dict[str, Evidence]
    prefetch: dict[str, PrefetchKey]
    units: dict[str, UnitKind]
    facts: dict[str, FactSpec]
    curves: dict[str, Curve]
    findings: dict[str, Finding]
    interventions: dict[str, Intervention]
    templates: dict[str, Template]
    cards: dict[str, Card]
    asks: dict[str, Ask]
    medicines: dict[str, Medicine]
    override_reasons: dict[str, OverrideReason]
    codes: dict[str, list[tuple[str, str]]]
    # What follows is derived from the above when it is loaded, so that a request only looks up.
    facts_by_code: dict[str, dict[tuple[str, str], tuple[FactSpec, ...]]] = field(
        default_factory=dict
    )  # by resource type
    answers: dict[str, dict[tuple[str, str], str]] = field(default_factory=dict)  # by fact
    conversions: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    suggested: dict[str, dict[str, Any]] = field(default_factory=dict)  # by intervention
    activities: dict[tuple[str, str], str] = field(default_factory=dict)
    keys_by_resource: dict[str, tuple[str, ...]] = field(default_factory=dict)
    counting_facts: list[FactSpec] = field(default_factory=list)
    asked_facts: list[str] = field(default_factory=list)  # those that a rule looks at
    keys_in_use: set[str] = field(default_factory=set)

    def facts_of_concept(self, concept: Any, resource_type: str) -> tuple[FactSpec, ...]:
        """The facts that a CodeableConcept codes for in a resource of this type."""
        codings = concept.get("coding") if isinstance(concept, dict) else None
        by_code = self.facts_by_code.get(resource_type)
        if by_code is None or not isinstance(codings, list):
            return ()
        found: tuple[FactSpec, ...] = ()
        for coding in codings:
            try:
                specs = by_code.get((coding["system"], coding["code"]), ())
            except (KeyError, TypeError):  # no code, or one that is a list or an object
                continue
            found = (*found, *(spec for spec in specs if spec not in found)) if found else specs
        return found

    def convert(self, fact_id: str, number: float, unit: Any) -> float | None:
        """A number in the fact's unit; ``None`` if its unit is of another kind, or missing.

        An annotation in braces, such as ``{sessions}``, is no unit (UCUM, section 2.1).
        """
        written = unit if isinstance(unit, str) else ""
        if "{" in written:
            written = _ANNOTATION.sub("", written)
        conversion = self.conversions[fact_id].get(written)
        return None if conversion is None else number * conversion[0] + conversion[1]

    def template_of(self, key: PrefetchKey) -> str:
        """The prefetch template of a key, made from the codes of the facts that come under it.

        Only what CDS Hooks 2.0.1 recommends every client to support: a type-level search with
        token equality, ``_sort`` and ``_count``, and root-level context tokens.
        """
        search = [f"{key.resource}?patient={{{{context.patientId}}}}"]
        if key.by_code:
            codes = [
                code
                for spec in self.facts.values()
                if _comes_under(spec, key)
                for code in self.codes_of(spec.id)
            ]
            unique = dict.fromkeys(f"{system}|{code}" for system, code in codes)
            search.append(f"{CODE_PARAMETER.get(key.resource, 'code')}={','.join(unique)}")
        if key.search:
            search.append(key.search)
        return "&".join(search)

    def codes_of(self, fact_id: str) -> list[tuple[str, str]]:
        """The codes that mean a fact: our own, and those of its ValueSet."""
        return [(OWN_FACT, fact_id), *self.codes.get(f"{VALUE_SET}{fact_id}", [])]

    def row_uses(self) -> dict[str, list[str]]:
        """Where each row is at work, as ``kind id``."""
        uses: dict[str, list[str]] = {row: [] for row in self.rows}
        kinds: list[tuple[str, Iterable[Any]]] = [
            ("finding", self.findings.values()),
            ("intervention", self.interventions.values()),
            ("card", self.cards.values()),
            ("curve", self.curves.values()),
            ("ask", self.asks.values()),
            ("medicine", self.medicines.values()),
        ]
        for kind, entries in kinds:
            for entry in entries:
                for row in entry.rows:
                    uses.setdefault(row, []).append(f"{kind} {entry.id}")
        return uses


def _comes_under(spec: FactSpec, key: PrefetchKey) -> bool:
    if key.resource == "Observation":
        return spec.prefetch == key.id
    return any(source.prefetch == key.id for source in spec.also_from)


# --- reading the files --------------------------------------------------------------------------


class _Mapping(dict[str, Any]):
    """A YAML mapping that remembers where it stands."""

    file: str = "?"
    line: int = 0


def _loader_for(file: str) -> type[yaml.SafeLoader]:
    class Loader(yaml.SafeLoader):
        pass

    def construct(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Iterator[_Mapping]:
        mapping = _Mapping()
        mapping.file, mapping.line = file, node.start_mark.line + 1
        yield mapping
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
        mapping.update({str(k): v for k, v in loader.construct_mapping(node).items()})

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, construct)
    # Dates stay text, and yes and no are answers: only true and false are booleans.
    kept = {
        letter: [pair for pair in resolvers if not pair[0].endswith((":timestamp", ":bool"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.yaml_implicit_resolvers = kept
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), ["t", "f"]
    )
    return Loader


class _Reader:
    """Collects raw entries and value sets from the directories, and what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.raw: dict[str, dict[str, _Mapping]] = {section: {} for section in SECTIONS}
        self.codes: dict[str, list[tuple[str, str]]] = {}
        self.value_set_files: dict[str, str] = {}
        self.digest = hashlib.sha256()

    def read_directory(self, directory: Path, overlay: bool) -> None:
        if not directory.is_dir():
            self.faults.append(Fault(str(directory), 0, "there is no such directory"))
            return
        paths = sorted([*directory.rglob("*.yaml"), *directory.rglob("*.json")])
        for path in paths:
            data = path.read_bytes()
            name = str(path.relative_to(directory.parent))
            self.digest.update(name.encode() + b"\0" + data + b"\0")
            if path.suffix == ".yaml":
                self._read_yaml(name, data, overlay)
            else:
                self._read_value_set(name, data)

    def _read_yaml(self, name: str, data: bytes, overlay: bool) -> None:
        try:
            document = yaml.load(data, _loader_for(name))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 0
            self.faults.append(Fault(name, line, str(getattr(error, "problem", error))))
            return
        if not isinstance(document, dict):
            self.faults.append(Fault(name, 1, "a file holds sections such as 'facts:'"))
            return
        for section, entries in document.items():
            if section not in SECTIONS:
                self.faults.append(Fault(name, 1, f"'{section}' is not a section"))
                continue
            for entry in entries if isinstance(entries, list) else [entries]:
                self._take(section, entry, name, overlay)

    def _take(self, section: str, entry: Any, name: str, overlay: bool) -> None:
        if not isinstance(entry, _Mapping) or not isinstance(entry.get("id"), str):
            self.faults.append(Fault(name, 1, f"each of '{section}' is a mapping with an 'id'"))
            return
        known = self.raw[section].get(entry["id"])
        if entry.get("off") is True and overlay and known is not None:
            del self.raw[section][entry["id"]]
        elif known is None:
            self.raw[section][entry["id"]] = entry
        elif overlay:
            known.update(entry)
            known.file, known.line = entry.file, entry.line
        else:
            reason = f"'{entry['id']}' stands already in {known.file}:{known.line}"
            self.faults.append(Fault(entry.file, entry.line, reason))

    def _read_value_set(self, name: str, data: bytes) -> None:
        try:
            value_set = json.loads(data)
            model = get_fhir_model_class("ValueSet")
            model.model_validate(value_set)
        except (ValueError, ValidationError) as error:
            self.faults.append(Fault(name, 1, f"this is not a FHIR ValueSet: {_brief(error)}"))
            return
        url = str(value_set.get("url", ""))
        if not url.startswith(VALUE_SET):
            self.faults.append(Fault(name, 1, f"its url must start with {VALUE_SET}"))
            return
        self.value_set_files.setdefault(url, name)
        codes = self.codes.setdefault(url, [])
        for include in value_set.get("compose", {}).get("include", ()):
            for concept in include.get("concept", ()):
                pair = (include.get("system", ""), concept["code"])
                if pair not in codes:
                    codes.append(pair)

    def build(self, section: str) -> dict[str, Any]:
        """Validate the entries of one section; what is wrong is noted and left out."""
        built: dict[str, Any] = {}
        for key, entry in self.raw[section].items():
            try:
                built[key] = SECTIONS[section].model_validate(dict(entry))
            except ValidationError as error:
                for problem in error.errors():
                    self._note(key, entry, problem)
        return built

    def _note(self, key: str, entry: _Mapping, problem: Any) -> None:
        line = entry.line
        inner: Any = entry
        for step in problem["loc"]:
            try:
                inner = inner[step]
            except (KeyError, IndexError, TypeError):
                break
            line = inner.line if isinstance(inner, _Mapping) else line
        where = ".".join(str(step) for step in problem["loc"])
        reason = str(problem["msg"]).removeprefix("Value error, ")
        self.faults.append(Fault(entry.file, line, f"{key}: {where}: {reason}"))

    def fault(self, section: str, key: str, reason: str) -> None:
        entry = self.raw[section].get(key)
        file, line = (entry.file, entry.line) if entry is not None else ("?", 0)
        self.faults.append(Fault(file, line, f"{key}: {reason}"))


def _brief(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
    return str(error)


def load_content(overlay: Path | None = None, shipped: Path = SHIPPED) -> Content:
    """Load and check the shipped content, with a hospital's directory laid over it if given.

    Raises ``ContentError`` with all that is wrong.
    """
    reader = _Reader()
    reader.read_directory(shipped, overlay=False)
    if overlay is not None:
        reader.read_directory(overlay, overlay=True)
    sections: dict[str, Any] = {
        section.replace("-", "_"): reader.build(section) for section in SECTIONS
    }
    content = Content(version=reader.digest.hexdigest()[:12], codes=reader.codes, **sections)
    _settle_units_and_answers(content, reader)
    _index(content)
    _check_references(content, reader)
    _check_findings_have_no_cycle(content, reader)
    _check_wording(content, reader)
    _build_suggestions(content, reader)
    if reader.faults:
        raise ContentError(sorted(reader.faults, key=lambda fault: (fault.file, fault.line)))
    _mark_keys_in_use(content)
    return content


def _settle_units_and_answers(content: Content, reader: _Reader) -> None:
    yes_no = {"yes": AnswerSpec(label="yes"), "no": AnswerSpec(label="no")}
    for spec in content.facts.values():
        if spec.type in ("quantity", "number"):
            content.conversions[spec.id] = _conversions(content, spec)
            if not content.conversions[spec.id]:
                reader.fault("facts", spec.id, f"the unit {spec.unit!r} is in no unit kind")
        if spec.type == "yes-no":
            spec.answers = {**yes_no, **spec.answers}
        if spec.type == "coded" and not spec.answers:
            reader.fault("facts", spec.id, "a coded fact needs answers")
        codes: dict[tuple[str, str], str] = {}
        for answer in spec.answers:
            codes[OWN_ANSWER, answer] = answer
            for name in (f"{spec.id}-{answer}", answer if spec.type == "yes-no" else ""):
                for pair in content.codes.get(f"{VALUE_SET}{name}", ()):
                    codes[pair] = answer
        content.answers[spec.id] = codes


def _conversions(content: Content, spec: FactSpec) -> dict[str, tuple[float, float]]:
    """Factor and offset from each unit to the fact's own."""
    if spec.unit is None:
        plain = {"": (1.0, 0.0), "1": (1.0, 0.0)}
        return {**plain, **{unit: (factor, 0.0) for unit, factor in spec.also_unit.items()}}
    for kind in content.units.values():
        if spec.unit not in kind.units:
            continue
        own, own_offset = _pair(kind.units[spec.unit])
        factors = {}
        for unit, written in kind.units.items():
            factor, offset = _pair(written)
            factors[unit] = (factor / own, (offset - own_offset) / own)
        return {**factors, **{unit: (factor, 0.0) for unit, factor in spec.also_unit.items()}}
    return {}


def _pair(written: float | tuple[float, float]) -> tuple[float, float]:
    return written if isinstance(written, tuple) else (written, 0.0)


def _index(content: Content) -> None:
    content.counting_facts += [spec for spec in content.facts.values() if spec.counts is not None]
    for spec in content.facts.values():
        for kind in ("Observation", *(source.resource for source in spec.also_from)):
            by_code = content.facts_by_code.setdefault(kind, {})
            for pair in content.codes_of(spec.id):
                by_code[pair] = (*by_code.get(pair, ()), spec)
    for name in content.interventions:
        content.activities[OWN_ACTIVITY, name] = name
        for pair in content.codes.get(f"{VALUE_SET}activity-{name}", ()):
            content.activities[pair] = name
    for key in content.prefetch.values():
        others = content.keys_by_resource.get(key.resource, ())
        content.keys_by_resource[key.resource] = (*others, key.id)


def _mark_keys_in_use(content: Content) -> None:
    """The keys whose want can change a card: the others may fail unsaid."""
    resources = {resource["resourceType"] for resource in content.suggested.values()}
    if any(card.body == "medicines" for card in content.cards.values()):
        resources |= MEDICINE_TYPES
    for resource in resources:
        content.keys_in_use.update(content.keys_by_resource.get(resource, ()))
    for name in content.asked_facts:
        content.keys_in_use.update(content.facts[name].keys)


def _check_references(content: Content, reader: _Reader) -> None:
    for spec in content.facts.values():
        for key in spec.keys:
            if key not in content.prefetch:
                reader.fault("facts", spec.id, f"there is no prefetch key '{key}'")
        if spec.counts is not None and spec.counts not in content.facts:
            reader.fault("facts", spec.id, f"there is no fact '{spec.counts}'")
    known_value_sets = {f"{VALUE_SET}{fact}" for fact in content.facts}
    for spec in content.facts.values():
        known_value_sets |= {f"{VALUE_SET}{spec.id}-{answer}" for answer in spec.answers}
    known_value_sets |= {f"{VALUE_SET}yes", f"{VALUE_SET}no"}
    known_value_sets |= {f"{VALUE_SET}activity-{name}" for name in content.interventions}
    for url, file in reader.value_set_files.items():
        if url not in known_value_sets:
            reader.faults.append(Fault(file, 1, f"{url} belongs to no fact, answer or activity"))
    conditions: list[tuple[str, Any, list[Condition | None]]] = [
        ("findings", entry, [entry.when, entry.unless]) for entry in content.findings.values()
    ]
    conditions += [
        ("interventions", entry, [entry.when, entry.unless])
        for entry in content.interventions.values()
    ]
    conditions += [("cards", entry, [entry.when, entry.unless]) for entry in content.cards.values()]
    conditions += [("asks", entry, [entry.when]) for entry in content.asks.values()]
    asked: set[str] = set()
    for section, entry, whens in conditions:
        for when in whens:
            if when is not None:
                asked |= when.facts()
                for reason in _wrong_in(when, content, reader):
                    reader.fault(section, entry.id, reason)
    content.asked_facts += [name for name in content.facts if name in asked]
    references: list[tuple[str, str, str, Iterable[str]]] = []
    for section in ("findings", "interventions", "cards"):
        for entry in getattr(content, section).values():
            references.append((section, entry.id, "evidence", entry.evidence))
    for section in ("findings", "interventions", "cards", "asks", "medicines", "curves"):
        for entry in getattr(content, section).values():
            references.append((section, entry.id, "rows", entry.rows))
    for curve in content.curves.values():
        for point in curve.points:
            references.append(("curves", curve.id, "evidence", point.evidence))
    for intervention in content.interventions.values():
        references.append(("interventions", intervention.id, "findings", intervention.held_back_by))
        if intervention.suggestion is not None:
            template = [intervention.suggestion.template]
            references.append(("interventions", intervention.id, "templates", template))
    for card in content.cards.values():
        references.append(("cards", card.id, "interventions", card.interventions))
    for ask in content.asks.values():
        references.append(("asks", ask.id, "facts", ask.facts))
        if ask.finding is not None:
            references.append(("asks", ask.id, "findings", [ask.finding]))
    for section, key, target, names in references:
        for name in names:
            if name not in reader.raw[target]:
                reader.fault(section, key, f"there is no '{name}' in {target}")


def _wrong_in(condition: Condition, content: Content, reader: _Reader) -> Iterator[str]:
    for fact in sorted(condition.facts() - reader.raw["facts"].keys()):
        yield f"there is no fact '{fact}'"
    for finding in sorted(condition.findings() - reader.raw["findings"].keys()):
        yield f"there is no finding '{finding}'"
    for part in _parts_of(condition):
        if isinstance(part, FactIs) and part.fact in content.facts:
            unknown = sorted(part.answers - content.facts[part.fact].answers.keys())
            if unknown:
                yield f"{part.fact} has no answer '{unknown[0]}'"
        if isinstance(part, FactCompares) and part.fact in content.facts:
            spec = content.facts[part.fact]
            if part.measure != "value" and part.measure not in MEASURES[spec.measures_like]:
                yield f"{part.fact} has no measure '{part.measure}'"
            is_duration = MEASURES[spec.measures_like].get(part.measure) == "duration"
            if part.in_duration != is_duration:
                yield f"{part.fact}.{part.measure} is {'' if is_duration else 'not '}a duration"
            if part.curve is not None and part.curve[0] not in content.curves:
                yield f"there is no curve '{part.curve[0]}'"


def _parts_of(condition: Condition) -> Iterator[Condition]:
    yield condition
    for part in getattr(condition, "parts", ()):
        yield from _parts_of(part)
    if hasattr(condition, "part"):
        yield from _parts_of(condition.part)


def _check_findings_have_no_cycle(content: Content, reader: _Reader) -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            reader.fault("findings", name, f"it depends on itself: {' -> '.join((*path, name))}")
            return
        finding = content.findings.get(name)
        if finding is None or name in done:
            return
        for when in (finding.when, finding.unless):
            for other in sorted(when.findings()) if when is not None else ():
                visit(other, (*path, name))
        done.add(name)

    for name in content.findings:
        visit(name, ())


def _check_wording(content: Content, reader: _Reader) -> None:
    for card in content.cards.values():
        lines = [line.hers for line in card.table]
        lines += [line.usual for line in card.table if line.usual is not None]
        sentences = [card.summary, *lines] + ([card.opening] if card.opening else [])
        for sentence in sentences:
            _check_sentence("cards", card.id, sentence, content, reader)
        try:
            longest = card.summary.longest(content)
        except ValueError:
            continue
        if longest > LONGEST_SUMMARY:
            reason = f"its summary can have {longest} characters, more than {LONGEST_SUMMARY}"
            reader.fault("cards", card.id, reason)
    for intervention in content.interventions.values():
        _check_sentence("interventions", intervention.id, intervention.do, content, reader)


def _check_sentence(
    section: str, key: str, sentence: Wording, content: Content, reader: _Reader
) -> None:
    try:
        sentence.longest(content)
    except ValueError as error:
        reader.fault(section, key, str(error))
    if "<" in sentence.text:
        reader.fault(section, key, "no HTML, and no '<': a client may take it for a tag")


def _build_suggestions(content: Content, reader: _Reader) -> None:
    """Make each intervention's resource and validate it, once."""
    for intervention in content.interventions.values():
        suggestion = intervention.suggestion
        template = content.templates.get(suggestion.template) if suggestion else None
        if suggestion is None or template is None:
            continue
        words = {
            "activity": intervention.id,
            "label": intervention.label,
            "do": intervention.do.text,
            "how": " ".join(intervention.how.split()),
        }
        resource = _fill(template.resource, words)
        resource["subject"] = {"reference": SOMEONE}
        complete = {
            **resource,
            "encounter": {"reference": "Encounter/some"},
            "authoredOn": "2026-01-01T00:00:00Z",
            "requester": {"reference": "Practitioner/someone"},
        }
        try:
            get_fhir_model_class(str(resource.get("resourceType"))).model_validate(complete)
        except (ValidationError, KeyError, ValueError) as error:
            reason = f"its suggestion is not valid FHIR: {_brief(error)} ({intervention.id})"
            reader.fault("templates", template.id, reason)
            continue
        content.suggested[intervention.id] = resource


_WORD = re.compile(r"\{(activity|label|do|how)\}")


def _fill(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(inner, words) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, words) for inner in value]
    if isinstance(value, str):
        return _WORD.sub(lambda match: words[match[1]], value)
    return value
