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
LONGEST_LIMITS = 80  # characters of the line about a medicine's limits
LONGEST_LINE = 170  # characters of the line of a reading or an interaction
NOTHING_ASKED = "."  # in a line of an assessment: this column does not matter
OWN_RECORD = "lactmed"  # as the source of a reading: the medicine's LactMed record
OTHER_REASON = "other"  # stands for a reason code that is not in the content
MEDICINE_TYPES = {"MedicationRequest", "MedicationStatement"}
LONGEST_NAME = 60  # characters of the name of a medicine or feed on a card
# The ValueSet of codes that mean: no allergy to a medicine is known.
NO_ALLERGY = f"{VALUE_SET}no-medicine-allergy"
# The ValueSet of products of which only some ingredients are medicines of the content.
IN_PART = f"{VALUE_SET}medicines-in-part"
TAUGHT = "teaching"  # the template of the interventions that are taught to the patient
UNIDENTIFIED = "unidentified"  # stands for a medicine that the content does not know

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
    """A row: one recommendation of practice (P01), of the founding article (R01) or of safety (S1).

    ``not_yet`` says why nothing in the content follows it yet.
    """

    id: RowId
    says: str
    not_yet: str | None = None


class Evidence(Entry):
    """A source, with what it says and where its particulars were verified.

    - ``reference``: its number in the founding article.
    - ``seen``: if false, nobody has seen the source, and it may not be cited.
    - ``primary``: if false, it stands behind rules and is cited on no card.
    - ``known_as``: the short name of the body that published it.
    - ``cited_in``: the countries in which a card may cite it, such as those of a regulator; all
      countries if empty.
    """

    id: Identifier
    reference: int | None = None
    seen: bool = True
    primary: bool = True
    cited_in: list[Country] = Field(default_factory=list)
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
        """The address to which a card links; ``None`` if the source has none."""
        if self.pmid:
            return f"https://pubmed.ncbi.nlm.nih.gov/{self.pmid}/"
        return f"https://doi.org/{self.doi}" if self.doi else self.url

    def is_cited_in(self, country: str) -> bool:
        """Whether a card may cite it in a country."""
        return self.primary and (not self.cited_in or country in self.cited_in)

    @cached_property
    def short(self) -> str:
        """The text of a link to it: the first author, or the body, and the year."""
        several = ", " in self.authors or self.authors.endswith("et al.")
        return f"{self._first}{' et al.' if several else ''} {self.year}"

    @cached_property
    def shortest(self) -> str:
        """The text by which a card cites it: the short name, or the first author, and the year."""
        return f"{self.known_as or self._first} {self.year}"

    @property
    def _first(self) -> str:
        first = self.authors.removesuffix(" et al.").split(", ")[0]
        return first.rsplit(" ", 1)[0] if re.search(r" [A-Z]{1,3}$", first) else first


class Grade(Entry):
    """How strong the evidence for an intervention is, and the plain word for it on a card."""

    id: Annotated[str, Field(pattern=r"^[A-Z]$")]
    word: str
    means: str


class PrefetchKey(Entry):
    """A prefetch key: the FHIR search of its template, and how the service deals with it.

    - ``label``: its name on cards and in answers.
    - ``by_code``: search only the codes of the facts that come under the key.
    - ``by_activity``: search only the codes of the activities.
    - ``by_id``: read the patient's own resource; this is not a search.
    - ``search_by``: the search parameter that takes the patient's id.
    - ``asked``: if false, the key has no template and is never read, until a hospital switches it
      on; records that are sent under it count all the same.
    - ``search``: further parameters of the search.
    - ``needed``: without these records the service answers with status 412.
    - ``new``: many clients do not know the key yet, so cards do not tell that it was not sent.
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
        """The key of a further template, for codes for which the first one has no room.

        It is not ``needed``. Its id ends in ``number``; the keys of the content have no digits.
        """
        return self.model_copy(update={"id": f"{self.id}{number}", "needed": False})


class CodeSystem(Entry):
    """A code system of records: its address, its other addresses, and how codes are compared.

    A ``hierarchical`` system has families: a code with all codes that begin with it. An entry with
    ``same_as`` only gives another entry one more address.
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
    """A unit that is not UCUM, in the form in which it is compared with others.

    Case, spaces and full stops are removed: no two units of one kind differ only in these.
    """
    return "".join(written.casefold().replace(".", "").split())


class UnitKind(Entry):
    """UCUM units of one kind, such as volumes.

    ``units`` has, for each unit, the factor to the first unit of the kind, or the factor and an
    offset. By UCUM unit, ``texts`` has other ways in which records write it, ``labels`` how cards
    write it, ``beside`` the other unit in which cards give the same number too, and ``decimals``
    the number of decimals, if it is always the same.
    """

    id: Identifier
    units: dict[str, float | tuple[float, float]]
    texts: dict[str, list[str]] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    beside: dict[str, str] = Field(default_factory=dict)
    decimals: dict[str, int] = Field(default_factory=dict)


class Parameter(Entry):
    """A number that rules and sentences use, with its UCUM unit; it holds ``since`` a date."""

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
    """The usual values by day after birth, on straight lines between the points.

    Before ``judged_from`` seconds after birth, nothing is compared with it.
    """

    id: Identifier
    label: str
    unit: str
    rows: list[RowId]
    judged_from: Seconds
    points: list[CurvePoint] = Field(min_length=2)
    review: Review
    note: str

    def at(self, line: str, hours: float) -> float:
        """The value of the ``low`` or ``high`` line at some hours after birth, in ``unit``."""
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
    """A condition with a name. It holds if ``when`` does and ``unless`` is not known to hold."""

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

    ``columns`` has, for each column, its words, each with the condition that it means. Each line of
    ``table`` is a finding, with a word for each column, or a dot if the column does not matter. The
    ``when`` of each finding is made from its line.
    """

    id: Identifier
    label: str
    columns: dict[str, dict[str, When]]
    table: dict[str, list[str]] = Field(min_length=1)

    def line(self, finding_id: str) -> Iterator[tuple[str, str, Condition]]:
        """The words in a finding's line, without the dots: column, word, and its condition."""
        for column, word in zip(self.columns, self.table[finding_id], strict=True):
            if word != NOTHING_ASKED:
                yield column, word, self.columns[column][word]


class Gate(Entry):
    """A finding that is judged before any card about milk, such as a loss.

    While ``finding`` holds, the gate is closed, and only cards that name the gate in ``under`` are
    shown. So a card that a hospital adds is silent until it names the gate too. ``words_of`` is
    another gate: a card that names that gate and not this one is shown as it is behind that gate.
    """

    id: Identifier
    label: str
    rows: list[RowId] = Field(min_length=1)
    finding: Identifier
    words_of: Identifier | None = None
    review: Review
    note: str | None = None


class SuggestionSpec(Entry):
    """What one click creates: a resource made from a template."""

    label: str
    template: Identifier
    recommended: bool = False


class Contraindication(Entry):
    """What forbids an intervention.

    It is present if ``when`` is true, absent only if ``when`` is known to be false, and unknown
    otherwise. One with ``of_her_record: false``, such as a missing licence, does not come from the
    patient's record, and does not count against a medicine that the patient already takes.
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
    """The words of an intervention while ``when`` holds."""

    when: When
    do: Sentence


class Intervention(Entry):
    """Something that may help the patient, with when it helps and how it is done.

    - ``label``: its name for clinicians; ``title_for_mother`` replaces it on the handout.
    - ``unless_in_use``: the intervention is safe and only needs to be shown. It is offered unless
      this condition is known to hold; if that is not known, the card says to check.
    - ``held_back_by``: findings; while one holds, the card says that it is not for now.
    - ``contraindications``: it is offered only if each is known to be absent. Otherwise the card
      names those that are present and those that could not be checked.
    - ``medicine``: the id of the medicine that it is about.
    - ``do``: what to do, for the card; of ``worded``, the first entry whose ``when`` holds replaces
      it. ``how``: what the mother is told.
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
        """The id of the template of its suggestion; ``None`` if it has no suggestion."""
        return self.suggestion.template if self.suggestion is not None else None

    @property
    def has_handout(self) -> bool:
        """Whether it is taught to the patient, with ``how`` as the text of a handout."""
        return self.template == TAUGHT and bool(self.how)


class Template(Entry):
    """A FHIR resource with placeholders for an intervention's own words.

    With ``together``, a label, two or more interventions of a card with this template are first
    suggested as one resource, whose lists join theirs. ``{count}`` in the label is their number.
    """

    id: Identifier
    together: str | None = None
    resource: dict[str, Any]
    verified: str


class TableLine(Entry):
    """One line of the table of the patient's numbers; shown only while ``when`` holds, if given."""

    label: str
    when: When | None = None
    value: Sentence
    usual: Sentence | None = None


class LinkSpec(Entry):
    """A link of a card."""

    label: str
    url: Url


class OtherWords(Entry):
    """The words of a card while ``when`` holds; fields that are not given stay as they are."""

    when: When
    indicator: Literal["info", "warning", "critical"] | None = None
    summary: Sentence | None = None
    summary_names: bool | None = None
    opening: Sentence | None = None
    asks_first: list[Identifier] | None = None


class UnderGate(Entry):
    """The fields of a card that change while a gate is closed; the others stay as they are."""

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
# How severe an interaction is, the most severe first.
Severity = Literal["contraindicated", "avoid", "caution"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
INTERACTING = "interacting"  # of an order: with an active medicine, or with another draft
# The bands of medicines and milk, the worst first. A medicine that was not read may be harmful, so
# it stands before those that are known to be harmless.
Band = Literal["avoid", "ask-first", "not-read", "watch", "compatible"]
BANDS: tuple[Band, ...] = get_args(Band)
Hook = Literal[
    "patient-view", "encounter-start", "encounter-discharge", "order-select", "order-sign"
]


class Card(Entry):
    """A card: on which hooks and when it is shown, what it says, and what it offers.

    ``body`` says what the card is about:

    - ``interventions``: the interventions of the list.
    - ``medicines``: the medicines that the patient takes. ``warnings`` has, by band or effect, what
      the summary says of such medicines, the first entry first; each text begins with a colon, or
      continues the sentence.
    - ``together``: medicines that the patient takes and that interact.
    - ``against``: medicines that the patient takes in spite of a contraindication.
    - ``data-needed``: the facts that are missing or unclear, and data that could not be read.
    - ``order``: each medicine or feed that is being ordered, if its id, band or effect is in
      ``about`` and none of these is in ``not_about``. ``interacting`` in ``about`` means an order
      that interacts with an active medicine or another draft. With ``if_contraindicated:
      present``, the card is shown only if a contraindication is present or the dose is above the
      limits; with ``unknown``, also if a contraindication could not be checked. With ``as_one``,
      a single card names all these orders.

    Other fields decide whether it is shown, and in which words:

    - ``withheld_by``: findings; while one holds, the card is not shown, and the most urgent card
      says so.
    - ``under``: the gates behind which the card is shown, each with the fields that change then.
      While any other gate is closed, the card is not shown.
    - ``worded``: other words; the first entry whose ``when`` holds counts.
    - ``together``: the card's own label for interventions that are suggested as one (``Template``).
    - ``cites``: if false, the card names no source and no LactMed record, for their names speak of
      feeding.
    - ``overridden_for``: for so many seconds an override holds the card back, whatever its reason,
      and for the same birth only.
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
    asks_first: list[Identifier] = Field(default_factory=list)  # facts to ask about first
    never_suppressed: bool = False  # no override holds it back
    links: list[LinkSpec] = Field(default_factory=list)
    evidence: list[Identifier] = Field(default_factory=list)
    review: Review


class Ask(Entry):
    """When missing facts are worth asking for, and ``why``.

    The facts are those of ``facts``, and, while ``finding`` is not known, those that it lacks.
    ``summary`` is the headline of the card that asks. ``under`` names gates: the question is asked
    also while one of these is closed.
    """

    id: Identifier
    rows: list[RowId]
    why: str
    summary: Sentence | None = None
    when: When
    unless: When | None = None
    finding: Identifier | None = None
    facts: list[Identifier] = Field(default_factory=list)
    under: list[Identifier] = Field(default_factory=list)
    review: Review


RecordId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class LactMed(Entry):
    """A LactMed record: its id in the National Library's archive, and the day of its revision."""

    id: RecordId
    revised: Day

    @property
    def url(self) -> str:
        """The permanent address of the record."""
        return f"https://www.ncbi.nlm.nih.gov/books/n/lactmed/{self.id}/"


class LactMedRecord(Entry):
    """The LactMed record of a medicine: ``id`` is the medicine's; ``revised`` is the record's day.

    A program writes these entries from the National Library's archive (``cds-service lactmed
    revisions``), apart from the entries of medicines, which people write.
    """

    id: str
    record: RecordId
    revised: Day


class MedicineCode(Entry):
    """A code of a medicine, as an ingredient, or of a product that contains it."""

    system: str
    code: str
    kind: Literal["ingredient", "product"]
    verified: str


class Worse(Entry):
    """A worse band that counts while ``when`` holds: for a newborn, or an infant born preterm."""

    band: Band
    when: When


class Reading(Entry):
    """The reading of a medicine in milk: its band, and a line in our words (row P20).

    - ``line``: what to do, and what to watch for in the infant.
    - ``ordered``: the line for an order, if ``line`` speaks of a medicine that is taken already
      ("do not stop it").
    - ``instead``: what the source prefers.
    - ``worse``: a worse band for some infants.
    - ``source``: ``lactmed`` for the medicine's LactMed record, or the id of an evidence.
    - ``revised``: the date of the text that was read.
    - ``read_as``: how much of the source was read: all, its own summary, or a quoted summary.

    A reading with the band ``not-read`` has none of these. Any other band needs a line, a source,
    its date and ``read_as``.
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
    """What a regulator in some countries says about a medicine's use, dose and duration (row P24).

    ``daily_mg`` (mg a day) and ``days`` are the limits as numbers; a card tells if an order is for
    more.
    """

    countries: list[Country] = Field(min_length=1)
    line: Annotated[str, Field(min_length=1, max_length=LONGEST_LIMITS)]
    daily_mg: float | None = Field(default=None, gt=0)
    days: float | None = Field(default=None, gt=0)
    source: Identifier

    def exceeded_by(self, dose: Dose) -> list[str]:
        """The numbers of a dose that are above the limits, in words."""
        parts = ((dose.daily, self.daily_mg, "mg a day"), (dose.days, self.days, "days"))
        return [
            f"{value:g} {unit}"
            for value, most, unit in parts
            if value is not None and most is not None and value > most
        ]


class Medicine(Entry):
    """A medicine: how it is recognised, and its reading for milk.

    - ``names``: the names by which it is found in texts; with ``whole_name_only``, a name must be
      the whole text.
    - ``beside``: words that may stand beside a name and belong to it ("levonorgestrel"): its
      reading holds for them too.
    - ``lactmed``: its LactMed record. Without one, it was read in another source, such as a label.
    - ``reading_in``: the reading by country, where a regulator differs from ``reading``.
    - ``summary``: the first sentence of an imported LactMed record, in its own words.
    - ``effects_known``: a pharmacist has confirmed that ``effects`` is complete. Until then, no
      other effect is ruled out.
    - ``licensed_in`` and ``not_licensed_in``: countries (ISO 3166-1), for any use. For a country in
      neither list, it is not known.
    - ``limits``: the limits of dose and duration by country.
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
        """The reading that holds in a country."""
        return self.reading_in.get(country, self.reading)

    def limits_in(self, country: str) -> Limits | None:
        """The limits that hold in a country; ``None`` if the content has none for it."""
        return next((each for each in self.limits if country in each.countries), None)

    def beyond_limits(self, country: str, dose: Dose) -> list[str]:
        """The numbers of a dose that are above the limits in a country, in words."""
        limits = self.limits_in(country)
        return limits.exceeded_by(dose) if limits is not None else []

    def say_limits(self, country: str) -> str:
        """The limits in a country in words, or that they are not known; empty if there are none."""
        if not self.limits:
            return ""
        limits = self.limits_in(country)
        return limits.line if limits else f"Dose and length in {country}: not in our list."

    @property
    def readings(self) -> list[Reading]:
        """The readings for all countries, without those that are not read."""
        return [
            reading
            for reading in (self.reading, *self.reading_in.values())
            if reading.band != "not-read"
        ]


class Side(Entry):
    """One side of an interaction: ids of medicines and effects, and a short name for all."""

    of: list[Identifier] = Field(min_length=1)
    short: Sentence

    def includes(self, medicine: Medicine) -> bool:
        """Whether a medicine is on this side, by its id or one of its effects."""
        return not {medicine.id, *medicine.effects}.isdisjoint(self.of)


class Interaction(Entry):
    """Medicines that are not given together, or only with care (row P22).

    Each medicine of side ``one`` interacts with each medicine of side ``other``. If a pair is in
    several interactions, the most severe counts. An interaction that ``refines`` another replaces
    it for some of its pairs. An interaction without ``refines`` is also a
    contraindication of each intervention that has some and is about one of its medicines.
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
        """The side opposite to a medicine; ``None`` if the medicine is on neither."""
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
    """Words in the written name of a medicine that do not say which medicine it is.

    A number before one of ``units`` is a strength; a number after a word of ``counting`` is an
    amount ("take 2").
    """

    id: Identifier
    words: list[str] = Field(default_factory=list)
    units: list[str] = Field(default_factory=list)
    counting: list[str] = Field(default_factory=list)
    review: Review


class OverrideReason(Entry):
    """A reason that a clinician can give for overriding a card.

    ``suppressed_for`` is for how many seconds the card is then held back. The reason with
    ``otherwise`` also stands for an override without a reason, or with one that the content does
    not have.
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


# The sections whose entries name rows, and those whose entries have conditions.
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
    """All conditions within an entry."""
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
