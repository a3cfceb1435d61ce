"""Vignettes: synthetic mothers, each with the cards that she must and must not get.

A vignette is a directory with ``expected.yaml`` and the mother's record. The record is
``mother.yaml``, from which ``build_bundle`` makes a FHIR transaction Bundle that loads into any R4
server, or such a Bundle itself, ``bundle.json``. The ``timestamp`` of the Bundle is the "now" for
which its times are written; ``at`` moves all times together, so that a vignette never gets old. A
``mother.yaml`` looks like this::

    mother: {given: Mother D, born: 1995-03-02}
    records:
      - {fact: delivery-time, ago: 6 d}
      - {fact: expressed-milk-volume, is: [18 mL, 14 mL], ago: [1.5 h, 6 h]}
      - {fact: letdown-sensation, is: no, ago: 1.5 h}

The shipped ones, in ``fhir_fixtures/``, are synthetic; the demo shows them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ..content.compiled import Content
from ..content.dialect import NotYamlError, read_yaml
from ..content.fact_types import FactSpec
from ..content.wording import change_texts
from ..engine.card_json import EXTENSION, Card
from ..engine.facts import BIRTH
from ..errors import say_problems
from ..fhir.times import duration
from ..shipped import shipped_directory

Resource = dict[str, Any]  # a resource that is written here, and so is valid

SHIPPED = shipped_directory("fhir_fixtures")
CLINICIAN = "Practitioner/clinician"

_DATE_TIME = re.compile(r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$")


class VignetteError(Exception):
    """A vignette that cannot be read; the message names the file and the reason."""


class Expected(BaseModel):
    """``expected.yaml``: what a vignette teaches, and the cards that it must and must not have."""

    model_config = ConfigDict(extra="forbid", alias_generator=lambda name: name.replace("_", "-"))

    title: str
    teaches: str
    topic: str = "Your own"  # the heading under which the demo shows it
    place: int = 0  # in the order of vignettes
    sample: bool = False  # its Bundle and hook request are kept in the repository
    hook: str = "patient-view"
    jurisdiction: str = "US"
    orders: list[str] = []  # names of medicines that are being ordered, for the order hooks
    feeds: list[str] = []  # names of feeds that are being ordered for the infant
    fails: list[str] = []  # resource types for which the search in the record system fails
    rows: list[str]  # rows that must stand behind the cards
    near_misses: list[str] = []  # rows that just do not apply: what they bring is not shown
    cards: list[str]  # ids of exactly the cards to be shown, in this order
    assessments: dict[str, str] = {}  # the result of each, such as ``letdown: not assessable``
    never: list[str] = []  # ids of cards that must not be shown
    says: dict[str, list[str]] = {}  # by card: texts in its summary or detail
    never_says: dict[str, list[str]] = {}
    offers: dict[str, list[str]] = {}  # by card: ids of its interventions
    never_offers: dict[str, list[str]] = {}
    indicator: dict[str, str] = {}  # by card


def _must_be_value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a value is an answer, a number, or a quantity such as 18 mL")
    return value


def _must_be_ago(text: str) -> str:
    duration(text)
    return text


def _must_be_resource(written: Resource) -> Resource:
    if not isinstance(written.get("resourceType"), str):
        raise ValueError("a resource has a resourceType")
    change_texts(written, lambda text: _fill(text, {"her": "", "infant": ""}))
    return written


OneOrMore = BeforeValidator(lambda value: value if isinstance(value, list) else [value])
Value = Annotated[str | int | float, BeforeValidator(_must_be_value)]
Ago = Annotated[str, AfterValidator(_must_be_ago)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Person(_Written):
    """The ``mother`` of ``mother.yaml``."""

    given: str
    born: str


class Record(_Written):
    """One of the ``records`` of ``mother.yaml``: an Observation for each time.

    ``values`` are as many as the times, or one for all of them. Only a birth needs none.
    """

    fact: str
    values: Annotated[list[Value], OneOrMore] = Field(default=[], alias="is")
    ago: Annotated[list[Ago], OneOrMore, Field(min_length=1)]
    about: Literal["infant"] | None = None
    status: str = "final"

    @model_validator(mode="after")
    def _has_values_for_its_times(self) -> Self:
        if len(self.values) not in (0, 1, len(self.ago)):
            raise ValueError(f"'is' has {len(self.values)} values, and 'ago' {len(self.ago)} times")
        return self

    @property
    def value_of_each(self) -> Sequence[Value | None]:
        """The value at each time; ``None`` if there are no values."""
        if not self.values:
            return [None] * len(self.ago)
        return self.values if len(self.values) > 1 else self.values * len(self.ago)


class WrittenMother(_Written):
    """``mother.yaml``: who she is, her records, and other FHIR resources of her record."""

    mother: Person
    records: list[Record] = []
    resources: list[Annotated[Resource, AfterValidator(_must_be_resource)]] = []


Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Vignette:
    """One vignette, in the directory ``path``."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.name

    @property
    def is_written_as_bundle(self) -> bool:
        """Whether the record is written as ``bundle.json``, and not made from ``mother.yaml``."""
        return not (self.path / "mother.yaml").exists()

    @cached_property
    def bundle(self) -> Resource:
        """The mother's transaction Bundle, as of its own ``timestamp``.

        Raises ``VignetteError`` if there is none, or if what it is made from is not valid.
        """
        if not self.is_written_as_bundle:
            return build_bundle(self.name, self._written)
        bundle = self.path / "bundle.json"
        if not bundle.exists():
            raise VignetteError(f"{self.path} has neither mother.yaml nor bundle.json")
        try:
            read: Resource = orjson.loads(bundle.read_bytes())
        except orjson.JSONDecodeError as error:
            raise VignetteError(f"{bundle}: {error}") from None
        return read

    @cached_property
    def expected(self) -> Expected:
        """The content of ``expected.yaml``. Raises ``VignetteError`` if it is not valid."""
        return self._read("expected.yaml", Expected)

    def slips(self, content: Content) -> list[str]:
        """What the two files name and the content does not have, a sentence with the file each."""
        rows = [*self.expected.rows, *self.expected.near_misses]
        slips = [f"there is no row '{name}'" for name in rows if name not in content.rows]
        cards = self.expected.cards
        slips += [f"there is no card '{name}'" for name in cards if name not in content.cards]
        own = [] if self.is_written_as_bundle else self._slips_of_records(content.facts)
        return [*(f"expected.yaml: {slip}" for slip in slips), *(f"mother.yaml: {o}" for o in own)]

    def _slips_of_records(self, facts: Mapping[str, FactSpec]) -> list[str]:
        slips: dict[str, None] = {}  # in order, each once
        for record in self._written.records:
            spec = facts.get(record.fact)
            if spec is None:
                slips[f"there is no fact '{record.fact}'"] = None
                continue
            if not record.values and spec.id != BIRTH:
                slips[f"a record of {spec.id} has no value (is)"] = None
            answers = dict.fromkeys(YES_OR_NO if spec.type == "yes-no" else ()) | spec.answers
            for value in record.values:
                if _is_answer(value) and value not in answers:
                    known = f"answer of {spec.id}: {', '.join(answers)}"
                    wanted = known if answers else f"{spec.type} for {spec.id}"
                    slips[f"'{value}' is no {wanted}"] = None
        return list(slips)

    @cached_property
    def _written(self) -> WrittenMother:
        """The content of ``mother.yaml``. Raises ``VignetteError`` if it is not valid."""
        return self._read("mother.yaml", WrittenMother)

    def _read(self, file: str, model: type[Model]) -> Model:
        """Read a YAML file of the directory. Raises ``VignetteError`` if it is not valid."""
        path = self.path / file
        try:
            return model.model_validate(read_yaml(path.read_bytes(), str(path)))
        except NotYamlError as error:
            raise VignetteError(f"{path}: {error}") from None
        except ValidationError as error:
            raise VignetteError(f"{path}: {say_problems(error)}") from None

    @property
    def now(self) -> datetime:
        """The time for which the record is written."""
        return datetime.fromisoformat(self.bundle["timestamp"])

    @property
    def patient_id(self) -> str:
        """The id of the mother's Patient resource."""
        return str(self._first("Encounter")["subject"]["reference"]).partition("/")[2]

    @property
    def encounter_id(self) -> str:
        """The id of the encounter of the hook."""
        return str(self._first("Encounter")["id"])

    @property
    def hooks(self) -> list[str]:
        """The hooks that can be called for it; the order hooks only if it has draft orders."""
        chart = ["patient-view", "encounter-start", "encounter-discharge"]
        return [*chart, "order-select", "order-sign"] if self.draft_orders else chart

    @property
    def draft_orders(self) -> list[Resource]:
        """The draft orders: medicines for the mother, and feeds for the infant."""
        draft = {"meta": TEST_DATA, "status": "draft", "intent": "order"}
        medicines = [
            {
                "resourceType": "MedicationRequest",
                "id": f"draft-{number}",
                **draft,
                "subject": {"reference": f"Patient/{self.patient_id}"},
                "medicationCodeableConcept": {"text": name},
            }
            for number, name in enumerate(self.expected.orders, 1)
        ]
        infant = f"Patient/infant-{self.name}"  # as ``build_bundle`` names it
        feeds = [
            {
                "resourceType": "NutritionOrder",
                "id": f"draft-feed-{number}",
                **draft,
                "patient": {"reference": infant},
                "dateTime": _write(self.now),
                "enteralFormula": {"baseFormulaType": {"text": name}},
            }
            for number, name in enumerate(self.expected.feeds, 1)
        ]
        return [*medicines, *feeds]

    def _first(self, kind: str) -> Resource:
        for entry in self.bundle["entry"]:
            if entry["resource"]["resourceType"] == kind:
                resource: Resource = entry["resource"]
                return resource
        raise LookupError(f"{self.name} has no {kind}")

    def at(self, now: datetime) -> Resource:
        """The Bundle with all times moved, so that its "now" is ``now``."""
        by = now - self.now
        moved: Resource = change_texts(self.bundle, lambda text: _move(text, by))
        return moved


def _move(text: str, by: timedelta) -> str:
    """A FHIR time, moved; any other text stays as it is."""
    if not _DATE_TIME.match(text):
        return text
    if len(text) == 10:
        return (datetime.fromisoformat(text) + by).date().isoformat()
    moved = (datetime.fromisoformat(text) + by).isoformat(timespec="seconds")
    return moved.replace("+00:00", "Z") if text.endswith("Z") else moved


def vignettes(directory: Path = SHIPPED) -> list[Vignette]:
    """All vignettes below a directory, by ``place``, then by name."""
    found = [Vignette(path.parent) for path in sorted(directory.glob("*/expected.yaml"))]
    return sorted(found, key=lambda vignette: vignette.expected.place)


def differences(expected: Expected, cards: list[Card], assessed: dict[str, str]) -> list[str]:
    """The differences between expected and actual cards, in words; empty if there are none.

    ``assessed`` has the result of each assessment, by its id.
    """
    shown = {card["source"]["topic"]["code"]: card for card in cards}
    told = [
        f"{name}: expected {wanted}, got {assessed.get(name, 'no such assessment')}"
        for name, wanted in expected.assessments.items()
        if assessed.get(name) != wanted
    ]
    if list(shown) != expected.cards:
        told.append(f"cards: expected {_list(expected.cards)}, got {_list(shown)}")
    told += [f"{name}: must not be shown" for name in expected.never if name in shown]
    for say, texts_of, wanted in (
        ("says", expected.says, True),
        ("never says", expected.never_says, False),
    ):
        for name, texts in texts_of.items():
            said = f"{shown[name]['summary']}\n{shown[name]['detail']}" if name in shown else ""
            told += [f"{name}: {say} {text!r}" for text in texts if (text in said) is not wanted]
    for offer, interventions_of, wanted in (
        ("offers", expected.offers, True),
        ("never offers", expected.never_offers, False),
    ):
        for name, interventions in interventions_of.items():
            why = shown[name]["extension"][EXTENSION] if name in shown else None
            offered = why.get("interventions", []) if why is not None else []
            told += [f"{name}: {offer} {i}" for i in interventions if (i in offered) is not wanted]
    for name, indicator in expected.indicator.items():
        got = shown[name]["indicator"] if name in shown else "no card"
        if got != indicator:
            told.append(f"{name}: expected {indicator}, got {got}")
    rows = {row for card in cards for row in card["extension"][EXTENSION]["rows"]}
    missing = set(expected.rows) - rows
    if missing:
        told.append(f"rows not on the cards: {_list(sorted(missing))}")
    return told


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


# --- making a Bundle from mother.yaml -----------------------------------------------------------

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
SERVER = "https://example.org/fhir"
TEST_DATA = {
    "security": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
            "code": "HTEST",
            "display": "test health data",
        }
    ]
}
YES_OR_NO = ("yes", "no")
_QUANTITY = re.compile(r"^(-?\d+(?:\.\d+)?)(?: (\S+))?$")


def build_bundle(name: str, written: WrittenMother) -> Resource:
    """The transaction Bundle for the content of a ``mother.yaml``.

    Its ``records`` become Observations with the project's own codes. Its ``resources`` are taken as
    they are, except that in their texts ``{her}`` and ``{infant}`` become the references to mother
    and infant, and ``3 h ago`` becomes a time.
    """
    patient, infant = f"Patient/mother-{name}", f"Patient/infant-{name}"
    births = [record.ago[0] for record in written.records if record.fact == BIRTH]
    resources: list[Resource] = [
        _person(f"mother-{name}", written.mother.given, written.mother.born, gender="female"),
        _person(f"infant-{name}", "Infant", _ago(births[0])[:10] if births else None),
        _person("clinician", "Clinician", None, kind="Practitioner"),
        {
            "resourceType": "Encounter",
            "id": f"encounter-{name}",
            "status": "in-progress",
            "class": {
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                "code": "IMP",
                "display": "inpatient encounter",
            },
            "subject": {"reference": patient},
            "period": {"start": _ago("2 h")},
        },
    ]
    for record in written.records:
        for value, time in zip(record.value_of_each, record.ago, strict=True):
            number = sum(r["resourceType"] == "Observation" for r in resources) + 1
            identifier = f"{name}-{number:03}"
            resources.append(_observation(identifier, patient, infant, record, value, time))
    names = {"her": patient, "infant": infant}
    for number, resource in enumerate(written.resources, 1):
        filled = change_texts(resource, lambda text: _fill(text, names))
        resources.append({"id": f"{name}-{filled['resourceType'].lower()}-{number}", **filled})
    return {
        "resourceType": "Bundle",
        "id": name,
        "meta": TEST_DATA,
        "type": "transaction",
        "timestamp": _write(NOW),
        "entry": [_entry(resource) for resource in resources],
    }


def _entry(resource: Resource) -> Resource:
    url = f"{resource['resourceType']}/{resource['id']}"
    marked = {"resourceType": resource["resourceType"], "id": resource["id"], "meta": TEST_DATA}
    return {
        "fullUrl": f"{SERVER}/{url}",
        "resource": {**marked, **resource},
        "request": {"method": "PUT", "url": url},
    }


def _person(
    identifier: str, given: str, born: str | None, kind: str = "Patient", gender: str | None = None
) -> Resource:
    person: Resource = {
        "resourceType": kind,
        "id": identifier,
        "active": True,
        "name": [{"family": "Synthetic", "given": [given]}],
    }
    if gender:
        person["gender"] = gender
    if born:
        person["birthDate"] = born
    return person


def _observation(
    identifier: str, patient: str, infant: str, record: Record, value: Value | None, time: str
) -> Resource:
    made: Resource = {
        "resourceType": "Observation",
        "id": identifier,
        "status": record.status,
        "code": {"coding": [{"system": "urn:lactation-cds:fact", "code": record.fact}]},
        "subject": {"reference": patient},
        "effectiveDateTime": _ago(time),
    }
    if record.about == "infant":
        made["focus"] = [{"reference": infant}]
    if record.fact == BIRTH:
        made["valueDateTime"] = _ago(time)
    elif value in YES_OR_NO:
        made["valueBoolean"] = value == "yes"
    elif (quantity := _QUANTITY.match(str(value))) is not None:
        made["valueQuantity"] = {"value": float(quantity[1])}
        if quantity[2]:
            unit = {"unit": quantity[2], "system": "http://unitsofmeasure.org", "code": quantity[2]}
            made["valueQuantity"] |= unit
    else:
        answer = {"system": "urn:lactation-cds:answer", "code": value}
        made["valueCodeableConcept"] = {"coding": [answer]}
    return made


def _is_answer(value: object) -> bool:
    """Whether a value of ``mother.yaml`` is an answer: a word, and not a number or a quantity."""
    return isinstance(value, str) and not _QUANTITY.match(value)


def _ago(text: str) -> str:
    return _write(NOW - timedelta(seconds=duration(text)))


def _write(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _fill(text: str, names: dict[str, str]) -> str:
    """A text with its references, or the time that it names. Raises ``ValueError`` for others."""
    if text.endswith(" ago"):
        return _ago(text.removesuffix(" ago"))
    try:
        return text.format(**names)
    except (LookupError, AttributeError):
        raise ValueError("within braces stand her and infant only") from None
