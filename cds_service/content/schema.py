"""The schema of the clinical content: what authors may write in ``cards/``.

Field names are those of the files, with ``_`` for ``-``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from ..fhir.doses import Dose
from .codes import Comparison
from .conditions import Condition, compile_condition
from .fact_types import Entry, FactSpec, Identifier, Seconds
from .wording import Wording

OWN_FACT = "urn:lactation-cds:fact"
OWN_ANSWER = "urn:lactation-cds:answer"
OWN_ACTIVITY = "urn:lactation-cds:activity"
VALUE_SET = "urn:lactation-cds:value-set:"
MEDICATIONS = "medications"  # the prefetch key under which Medications are read by id
LONGEST_LIMITS = 80  # characters of dose and length where the service works
LONGEST_LINE = 170  # characters of what is said of a medicine
NOTHING_ASKED = "."  # in a line of an assessment
OWN_RECORD = "lactmed"  # the source of a reading that is the medicine's own record
OTHER_REASON = "other"  # the reason code of a reason that is not in the content
MEDICINE_TYPES = {"MedicationRequest", "MedicationStatement"}
LONGEST_NAME = 60
# The ValueSet of the codes that say that no allergy to a medicine is known.
NO_ALLERGY = f"{VALUE_SET}no-medicine-allergy"
# That of the products that hold something which is no medicine here, beside what is.
IN_PART = f"{VALUE_SET}medicines-in-part"
UNIDENTIFIED = "unidentified"  # the kind of a medicine that the content does not know

RowId = Annotated[str, Field(pattern=r"^[RSP][0-9]{1,2}$")]
Sentence = Annotated[Wording, BeforeValidator(lambda text: Wording(_one_line(text)))]
When = Annotated[Condition, BeforeValidator(compile_condition)]
Review = Annotated[str, Field(pattern=r"^(draft|reviewed by .+ on \d{4}-\d{2}-\d{2})$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
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
    """A source, and where its particulars were verified.

    ``reference`` is its number in the founding article. One not ``seen`` may not be cited; one that
    is not ``primary`` stands behind rules, and on no card. ``known_as`` is a body's short name.
    A regulator is quoted only where it has a say: in the countries that it is ``cited-in``.
    """

    id: Identifier
    reference: int | None = None
    seen: bool = True
    primary: bool = True
    cited_in: list[Country] = Field(default_factory=list)  # everywhere, if none is named
    authors: str
    known_as: str | None = None
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

    def is_cited_in(self, country: str) -> bool:
        """Whether a card may name it where the service works."""
        return self.primary and (not self.cited_in or country in self.cited_in)

    @cached_property
    def short(self) -> str:
        """As a link names it: the first author, or the body, and the year."""
        several = ", " in self.authors or self.authors.endswith("et al.")
        return f"{self._first}{' et al.' if several else ''} {self.year}"

    @cached_property
    def shortest(self) -> str:
        """As it is cited on a card, beside the link."""
        return f"{self.known_as or self._first} {self.year}"

    @property
    def _first(self) -> str:
        first = self.authors.removesuffix(" et al.").split(", ")[0]
        return first.rsplit(" ", 1)[0] if re.search(r" [A-Z]{1,3}$", first) else first


class Grade(Entry):
    """How far the evidence for an intervention goes, and the plain word for it on a card."""

    id: Annotated[str, Field(pattern=r"^[A-Z]$")]
    word: str
    means: str


class PrefetchKey(Entry):
    """One prefetch template, and whether the service can do without it.

    ``by_code`` narrows it to the codes of the facts that come under it, ``by_activity`` to those of
    the activities. ``by_id`` reads the patient's own resource. ``search_by`` is the parameter by
    which the mother is found, where it is not ``patient``. One that is not ``asked`` for is in no
    template and is never read, until a hospital switches it on; what is sent for it counts. That
    one that is ``new`` was not sent is not told: many clients do not know it yet.
    """

    id: Annotated[str, Field(pattern=r"^[a-z][A-Za-z]*$")]
    label: str
    resource: str
    by_code: bool = False
    by_activity: bool = False
    by_id: bool = False
    search_by: str = "patient"
    asked: bool = True
    search: str | None = None
    needed: bool = False
    new: bool = False

    def part(self, number: int) -> PrefetchKey:
        """The key of a further template, for codes that have no room in the first one.

        The service can do without it. No key of the content has a digit in its name.
        """
        return self.model_copy(update={"id": f"{self.id}{number}", "needed": False})


class CodeSystem(Entry):
    """A code system of records: its address, its other addresses, and how codes are compared.

    ``hierarchical`` ones have families: a code with all that begin with it. An entry with
    ``same_as`` is only one more address of another one.
    """

    id: Identifier
    url: str
    aliases: list[str] = Field(default_factory=list)
    same_as: Identifier | None = None
    compare: Comparison = "exact"
    hierarchical: bool = False
    note: str | None = None
    verified: str | None = None


def plain_unit(written: str) -> str:
    """A unit as it is compared when it is no UCUM unit: case, spaces and full stops do not matter.

    Within one kind of unit no two differ by these alone.
    """
    return "".join(written.casefold().replace(".", "").split())


class UnitKind(Entry):
    """UCUM units of one kind, each as factor to the first, with an offset where it has one.

    ``texts`` are other ways in which a unit is written, ``labels`` how it is written for people,
    ``beside`` in which other unit it is said too, and ``decimals`` with how many, where that is
    always the same; each by the UCUM unit.
    """

    id: Identifier
    units: dict[str, float | tuple[float, float]]
    texts: dict[str, list[str]] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    beside: dict[str, str] = Field(default_factory=dict)
    decimals: dict[str, int] = Field(default_factory=dict)


class Parameter(Entry):
    """A number that rules and sentences use, with its unit (UCUM), and since when it stands so."""

    id: Identifier
    label: str
    value: float
    unit: str = "1"
    decimals: int = 1
    rows: list[RowId] = Field(default_factory=list)
    since: date
    note: str
    evidence: list[Identifier] = Field(default_factory=list)
    review: Review


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


class Assessment(Entry):
    """A table of findings: which facts are enough for which conclusion.

    ``columns`` say what each word means; each line of ``table`` is a finding, with a word for each
    column, or a dot where it asks nothing. The findings get their ``when`` from it.
    """

    id: Identifier
    label: str
    columns: dict[str, dict[str, When]]
    table: dict[str, list[str]] = Field(min_length=1)

    def line(self, finding_id: str) -> Iterator[tuple[str, str, Condition]]:
        """The words of a finding's line that ask something: column, word and what it means."""
        for column, word in zip(self.columns, self.table[finding_id], strict=True):
            if word != NOTHING_ASKED:
                yield column, word, self.columns[column][word]


class Gate(Entry):
    """What must be judged before any card about milk.

    While its ``finding`` holds the gate is closed, and only cards come that name it under
    ``under``. A card that is added later is silent there, unless it says that it is for her. A card
    that names the gate ``words_of`` and not this one is the same here as there.
    """

    id: Identifier
    label: str
    rows: list[RowId] = Field(min_length=1)
    finding: Identifier
    words_of: Identifier | None = None
    review: Review
    note: str | None = None


class SuggestionSpec(Entry):
    """What one click does: a resource made from a template."""

    label: str
    template: Identifier
    recommended: bool = False


class Contraindication(Entry):
    """What forbids an intervention: present if ``when`` holds, absent only if that is known not to.

    One that is not ``of_her_record``, such as a missing licence, says nothing of what she takes.
    """

    id: Identifier
    of_her_record: bool = True
    label: str
    short: Sentence
    rows: list[RowId] = Field(min_length=1)
    when: When
    evidence: list[Identifier] = Field(min_length=1)
    review: Review
    note: str | None = None


class OtherDo(Entry):
    """What an intervention says where ``when`` holds."""

    when: When
    do: Sentence


class Intervention(Entry):
    """Something that would help her, when it would, and how to do it.

    One with ``unless-in-use`` is safe and only needs to be shown: it is offered unless that is
    known to hold, and where it is not known the card says to check. One with ``contraindications``
    is offered only if each is known to be absent; else the card says which are present and which
    could not be checked. ``medicine`` adds the link to its record.

    Of what is ``worded``, the first whose ``when`` holds says what to do.

    ``label`` is said to clinicians; where it reads badly to her, her handout has
    ``title-for-mother``.
    """

    id: Identifier
    label: str
    title_for_mother: str | None = None
    rows: list[RowId] = Field(min_length=1)
    when: When
    unless: When | None = None
    unless_in_use: When | None = None
    held_back_by: list[Identifier] = Field(default_factory=list)
    contraindications: list[Identifier] = Field(default_factory=list)
    medicine: Identifier | None = None
    short: str
    do: Sentence
    worded: list[OtherDo] = Field(default_factory=list)
    how: str
    suggestion: SuggestionSpec | None = None
    ask_if_unknown: bool = True
    evidence: list[Identifier] = Field(min_length=1)
    grade: Annotated[str, Field(pattern=r"^[A-Z]$")]
    review: Review
    note: str | None = None

    @property
    def template(self) -> str | None:
        """The template of its suggestion."""
        return self.suggestion.template if self.suggestion is not None else None


class Template(Entry):
    """A FHIR resource with places for an intervention's own words.

    With ``together``, two or more of a card are suggested as one resource first, under that label:
    all that each lists is listed in it. ``{count}`` is how many they are.
    """

    id: Identifier
    together: str | None = None
    resource: dict[str, Any]
    verified: str


class TableLine(Entry):
    """One line of the table of her own numbers; shown only ``when`` that holds, if it is given."""

    label: str
    when: When | None = None
    value: Sentence
    usual: Sentence | None = None


class LinkSpec(Entry):
    """A link of a card."""

    label: str
    url: Url


class OtherWords(Entry):
    """What a card says where ``when`` holds; what is not given stays as it is."""

    when: When
    indicator: Literal["info", "warning", "critical"] | None = None
    summary: Sentence | None = None
    summary_names: bool | None = None
    opening: Sentence | None = None
    asks_first: list[Identifier] | None = None


class UnderGate(Entry):
    """What of a card is other while a gate is closed; what is not given stays as it is."""

    summary: Sentence | None = None
    summary_names: bool | None = None
    opening: Sentence | None = None
    worded: list[OtherWords] | None = None
    table: list[TableLine] | None = None
    interventions: list[Identifier] | None = None
    if_contraindicated: Literal["present"] | None = None
    cites: bool | None = None


Effect = Literal[
    "lowers-supply",
    "galactagogue",
    "qt-prolonging",
    "cyp3a4-inhibitor",
    "cyp2d6-inhibitor",
    "dopamine-antagonist",
    "sedating",
    "opioid-treatment",
    "antidepressant",
    "macrolide",
    "ergot",
    "lactation-suppressant",
    "serotonergic",
]
# How much is said against two medicines together, the most first.
Severity = Literal["contraindicated", "avoid", "caution"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
INTERACTING = "interacting"  # of an order: with what she takes, or with another draft
# What a reading says of a medicine in milk, the worst first. One that nobody has read could be
# anything, so it stands before those that are known to be harmless.
Band = Literal["avoid", "ask-first", "not-read", "watch", "compatible"]
BANDS: tuple[Band, ...] = get_args(Band)
Hook = Literal[
    "patient-view", "encounter-start", "encounter-discharge", "order-select", "order-sign"
]


class Card(Entry):
    """A card: on which hooks and when it is shown, what it says, and what it offers.

    While a finding of ``withheld-by`` holds, it is not shown, and the most urgent card says so.
    One with the body ``order`` is about each medicine or feed being ordered that is, or has the
    band or effect of, one of ``about`` and none of ``not_about``; with
    ``if-contraindicated`` only while a contraindication is ``present``, or also while one is
    ``unknown``. ``interacting`` is
    one that is not to be given, or with care, beside what she takes or another draft. The body
    ``together`` is about what she takes and is so. One that is said
    ``as-one`` names all such orders of which nothing is known on one card.

    While a gate is closed it is silent, unless ``under`` names the gate, with what is other then.
    Of what is ``worded``, the first whose ``when`` holds has its words.
    ``together`` is its own label for what is suggested together (``Template``). ``warnings`` are
    what the summary of the card about her medicines says of those of a band or an effect, what
    comes first first; each begins with a colon, or goes on as a sentence.

    One that does not cite (``cites: false``) names no source and no LactMed record on its face:
    their names speak of feeding. One that is ``overridden-for`` a time is held back so long for
    whatever reason, and for the same birth only.
    """

    id: Identifier
    title: str
    rows: list[RowId]
    indicator: Literal["info", "warning", "critical"]
    critical_when: When | None = None
    urgency: int
    when: When
    unless: When | None = None
    withheld_by: list[Identifier] = Field(default_factory=list)
    hooks: list[Hook] = Field(default=["patient-view", "encounter-start"], min_length=1)
    body: Literal["interventions", "medicines", "together", "against", "data-needed", "order"] = (
        "interventions"
    )
    about: list[str] = Field(default_factory=list)
    not_about: list[str] = Field(default_factory=list)
    if_contraindicated: Literal["present", "unknown"] | None = None
    as_one: bool = False
    under: dict[Identifier, UnderGate] = Field(default_factory=dict)
    overridden_for: Seconds = 0.0
    cites: bool = True
    summary: Sentence
    summary_names: bool = False
    opening: Sentence | None = None
    worded: list[OtherWords] = Field(default_factory=list)
    table: list[TableLine] = Field(default_factory=list)
    interventions: list[Identifier] = Field(default_factory=list)
    together: str | None = None
    warnings: dict[Band | Effect, str] = Field(default_factory=dict)
    asks_first: list[Identifier] = Field(default_factory=list)  # facts, before any other question
    never_suppressed: bool = False  # shown again also if it was overridden
    links: list[LinkSpec] = Field(default_factory=list)
    evidence: list[Identifier] = Field(default_factory=list)
    review: Review


class Ask(Entry):
    """When the want of a fact is worth a card; its ``summary`` is the headline of that card."""

    id: Identifier
    rows: list[RowId]
    why: str
    summary: Sentence | None = None
    when: When
    unless: When | None = None
    finding: Identifier | None = None
    facts: list[Identifier] = Field(default_factory=list)
    under: list[Identifier] = Field(default_factory=list)  # gates, while which it is asked too
    review: Review


RecordId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class LactMed(Entry):
    """A LactMed record: its id in the National Library's archive, and its revision."""

    id: RecordId
    revised: Day

    @property
    def url(self) -> str:
        """Its permanent address."""
        return f"https://www.ncbi.nlm.nih.gov/books/n/lactmed/{self.id}/"


class LactMedRecord(Entry):
    """Which record of LactMed is about a medicine, by the medicine's id, and its revision.

    A program writes these from the National Library's archive (``cds-service lactmed revisions``);
    what people say of a medicine stands with the medicine.
    """

    id: str
    record: RecordId
    revised: Day


class MedicineCode(Entry):
    """A code of a medicine, as ingredient or as a product that holds it."""

    system: str
    code: str
    kind: Literal["ingredient", "product"]
    verified: str


class Worse(Entry):
    """A band that is worse while something holds: for a newborn, or an infant born preterm."""

    band: Band
    when: When


class Reading(Entry):
    """What was read of a medicine in milk: its band, and a line in our words (P20).

    The line says what to do and what to watch for in the infant; ``instead`` what is preferred.
    ``source`` is ``lactmed``, the medicine's own record, or an id of the evidence; ``revised``
    the date of what was read, and ``read_as`` how much of it: all, its own summary, or what others
    quote. Where ``line`` speaks of one that she takes ("do not stop it"), ``ordered`` says the same
    for one that is being ordered. One that is not read has none of
    these, and a band that has no source is a mistake.
    """

    band: Band = "not-read"
    line: Annotated[str, Field(min_length=1, max_length=LONGEST_LINE)] | None = None
    ordered: Annotated[str, Field(min_length=1, max_length=LONGEST_LINE)] | None = None
    instead: str | None = None
    worse: Worse | None = None
    source: Identifier | None = None
    revised: Day | None = None
    read_as: Literal["full-text", "summary", "quoted-summary"] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.band == "not-read":
            if self.model_fields_set - {"band"}:
                raise ValueError("what is not read has no line, and nothing else")
            return self
        needed = {"line": self.line, "source": self.source, "revised": self.revised}
        needed |= {"read-as": self.read_as}
        lacking = [name for name, value in needed.items() if value is None]
        if lacking:
            raise ValueError(f"a band needs {', '.join(lacking)}")
        if self.worse is not None and BANDS.index(self.worse.band) >= BANDS.index(self.band):
            raise ValueError(f"'{self.worse.band}' is not worse than '{self.band}'")
        return self


NOT_READ = Reading()


class Limits(Entry):
    """What a regulator says in some countries of a medicine's use, dose and length (P24).

    ``daily_mg`` and ``days`` are the same as numbers: an order that is for more says so.
    """

    countries: list[Country] = Field(min_length=1)
    line: Annotated[str, Field(min_length=1, max_length=LONGEST_LIMITS)]
    daily_mg: float | None = Field(default=None, gt=0)
    days: float | None = Field(default=None, gt=0)
    source: Identifier

    def exceeded_by(self, dose: Dose) -> list[str]:
        """What of a dose is more than this, in words."""
        parts = ((dose.daily, self.daily_mg, "mg a day"), (dose.days, self.days, "days"))
        return [
            f"{value:g} {unit}"
            for value, most, unit in parts
            if value is not None and most is not None and value > most
        ]


class Medicine(Entry):
    """A medicine, how it is recognised, and what was read of it in milk.

    ``summary`` is the first sentence of an imported record, in its own words. ``beside`` are words
    that its reading holds for too where they stand with one of its names ("levonorgestrel").

    Where a regulator says otherwise, ``reading_in`` has the reading by country. Until a pharmacist
    has said that its ``effects`` are all there are (``effects-known``), another one is not ruled
    out. Where it is licensed, for whatever use, is said by country (ISO 3166-1), or not known, and
    so are the ``limits`` of dose and length. One of which LactMed has no record has no ``lactmed``:
    it was read in a label, and is searched for by its name.
    """

    id: Identifier
    name: str
    rows: list[RowId]
    codes: list[MedicineCode] = Field(default_factory=list)
    names: list[str] = Field(min_length=1)
    whole_name_only: bool = False
    beside: list[str] = Field(default_factory=list)
    lactmed: LactMed | None = None
    reading: Reading = NOT_READ
    reading_in: dict[Country, Reading] = Field(default_factory=dict)
    summary: str | None = None
    effects: list[Effect] = Field(default_factory=list)
    effects_known: bool = False
    licensed_in: list[Country] = Field(default_factory=list)
    not_licensed_in: list[Country] = Field(default_factory=list)
    limits: list[Limits] = Field(default_factory=list)
    verified: str
    review: Review

    def read_in(self, country: str) -> Reading:
        """What was read of it, as it holds in a country."""
        return self.reading_in.get(country, self.reading)

    def limits_in(self, country: str) -> Limits | None:
        """The limits of its use that hold in a country; ``None`` if nobody looked them up."""
        return next((each for each in self.limits if country in each.countries), None)

    def beyond_limits(self, country: str, dose: Dose) -> list[str]:
        """What of a dose is more than the limits in a country, in words."""
        limits = self.limits_in(country)
        return limits.exceeded_by(dose) if limits is not None else []

    def say_limits(self, country: str) -> str:
        """The limits in words, or that they are not known there; nothing if none are for any."""
        if not self.limits:
            return ""
        limits = self.limits_in(country)
        return limits.line if limits else f"Dose and length in {country}: not in our list."

    @property
    def readings(self) -> list[Reading]:
        """All that was read of it, in whatever country."""
        return [
            reading
            for reading in (self.reading, *self.reading_in.values())
            if reading.band != "not-read"
        ]


class Side(Entry):
    """One side of an interaction: medicines and effects, and what they are called in short."""

    of: list[Identifier] = Field(min_length=1)
    short: Sentence

    def includes(self, medicine: Medicine) -> bool:
        """Whether a medicine is on this side, by its id or an effect of it."""
        return not {medicine.id, *medicine.effects}.isdisjoint(self.of)


class Interaction(Entry):
    """Two medicines that are not, or not without care, given together (P22).

    Whatever stands on one side with whatever on the ``other``, in both directions. Of a pair that
    is in several, the most severe counts; one that ``refines`` another says otherwise of some of
    its pairs, and always wins. An interaction that does not refine another is also a
    contraindication of each intervention that has contraindications and is about one of its
    medicines.
    """

    id: Identifier
    rows: list[RowId] = Field(min_length=1)
    one: Side
    other: Side
    severity: Severity
    line: Annotated[str, Field(min_length=1, max_length=LONGEST_LINE)]
    refines: Identifier | None = None
    evidence: list[Identifier] = Field(min_length=1)
    review: Review
    note: str | None = None

    def opposite(self, medicine: Medicine) -> Side | None:
        """The side across from a medicine; ``None`` if it is on neither."""
        if self.one.includes(medicine):
            return self.other
        return self.one if self.other.includes(medicine) else None


class Feed(Entry):
    """A feed that can be ordered for an infant; its codes stand in the ValueSet ``feed-<id>``."""

    id: Identifier
    name: str
    rows: list[RowId] = Field(min_length=1)
    names: list[str] = Field(min_length=1)
    review: Review


class NameWords(Entry):
    """Words in a medicine's written name that say nothing of which one it is.

    ``units`` make a number before them a strength; a word that is ``counting`` makes a number
    after it an amount ("take 2").
    """

    id: Identifier
    words: list[str] = Field(default_factory=list)
    units: list[str] = Field(default_factory=list)
    counting: list[str] = Field(default_factory=list)
    review: Review


class OverrideReason(Entry):
    """A reason that a clinician can give for not following a card, and what comes of it.

    The card is held back for ``suppressed-for``. ``otherwise`` is the reason whose time holds if
    none was given, or one that is not known here.
    """

    id: Identifier
    system: str
    display: str
    suppressed_for: Seconds = 0.0
    otherwise: bool = False


SECTIONS: dict[str, type[Entry]] = {
    "rows": Row,
    "evidence": Evidence,
    "grades": Grade,
    "prefetch": PrefetchKey,
    "systems": CodeSystem,
    "units": UnitKind,
    "facts": FactSpec,
    "parameters": Parameter,
    "curves": Curve,
    "assessments": Assessment,
    "findings": Finding,
    "gates": Gate,
    "contraindications": Contraindication,
    "interventions": Intervention,
    "templates": Template,
    "cards": Card,
    "asks": Ask,
    "lactmed-records": LactMedRecord,
    "medicines": Medicine,
    "interactions": Interaction,
    "feeds": Feed,
    "name-words": NameWords,
    "override-reasons": OverrideReason,
}


# The sections whose entries refer to rows, and those whose entries hold conditions.
WITH_ROWS = (
    "gates",
    "parameters",
    "findings",
    "contraindications",
    "interventions",
    "cards",
    "curves",
    "asks",
    "medicines",
    "interactions",
    "feeds",
)
WITH_CONDITIONS = ("findings", "contraindications", "interventions", "cards", "asks", "medicines")


def conditions_of(entry: Entry) -> list[Condition]:
    """The conditions that an entry holds."""
    names = ("when", "unless", "unless_in_use", "critical_when")
    written = [getattr(entry, name, None) for name in names]
    if isinstance(entry, Card):
        tables = [entry.table, *(under.table or () for under in entry.under.values())]
        written += [line.when for table in tables for line in table]
        worded = [entry.worded, *(under.worded or () for under in entry.under.values())]
        written += [words.when for each in worded for words in each]
    if isinstance(entry, Intervention):
        written += [words.when for words in entry.worded]
    if isinstance(entry, Medicine):
        written += [reading.worse.when for reading in entry.readings if reading.worse]
    if isinstance(entry, Assessment):
        written += [each for words in entry.columns.values() for each in words.values()]
    return [condition for condition in written if condition is not None]
