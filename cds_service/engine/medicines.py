"""Medicines: what the patient takes, and the LactMed record of each (row R16).

A medicine is recognised by the code of its ingredient, then by the code of a product that is mapped
to it, then by its text. If the text names a worse medicine than the code, both are listed. A
medicine that was recognised by text alone is marked so. A wrong match is worse than none: a
medicine that is not known is listed by its name with a search of LactMed, and one without a name by
its code or by the reference to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote_plus

from ..content.codes import CodeIndex, CodeSet
from ..content.phrase_index import LONGEST_TEXT, IgnoredWords, PhraseIndex
from ..content.schema import (
    BANDS,
    IN_PART,
    LONGEST_NAME,
    NO_ALLERGY,
    NOT_READ,
    UNIDENTIFIED,
    VALUE_SET,
)
from ..fhir.chart import category_of, codes_of, codings_of, member_of, reference_to, text_of
from ..fhir.doses import NO_DOSE, Dose, dose_of
from .inert import inert

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..content.conditions import Truth
    from ..content.schema import Medicine, Reading
    from ..fhir.chart import Chart, Resource

# The members of records that are read here.
READ = frozenset(
    (
        *("status", "doNotPerform", "medicationCodeableConcept", "medicationReference"),
        *("code", "ingredient", "category", "clinicalStatus", "verificationStatus"),
    )
)
LACTMED_SEARCH = "https://www.ncbi.nlm.nih.gov/books/NBK501922/?term="
# The status of medicines that the patient takes or will take. "unknown", and no status at all, do
# not say that it is not taken: such a medicine is listed too.
TAKEN = {
    "MedicationRequest": {"active", "unknown", None},
    "MedicationStatement": {"active", "intended", "unknown", None},
}
LONGEST_LEFT = 40  # characters of a name that was not understood
LONGEST_SHOWN_CODE = 30
MOST_NAMES = 4096  # written names of medicines whose meaning is kept in memory
MOST_INGREDIENTS = 50  # of a Medication; each may be searched for among contained resources
NAMELESS = "A medicine without a name"
NOT_ALLERGIC = {"refuted", "entered-in-error"}
NO_LONGER_ALLERGIC = {"inactive", "resolved"}

SOMETHING_ELSE = "another ingredient"


@dataclass(slots=True)
class TakenMedicine:
    """One medicine that the patient takes; ``medicine`` is ``None`` if it is not in the content.

    If it is not ``named``, its name is a code or a reference, by which LactMed cannot be searched.
    If a written name was understood in part, each medicine in it has the whole name as ``part_of``;
    the whole name is listed too, with ``medicine`` ``None``, ``read`` (the medicines that were
    understood) and ``left`` (the words that were not).
    """

    name: str
    medicine: Medicine | None
    matched: Literal["code", "name", "none"]
    references: list[str] = field(default_factory=list)
    among: int = 1  # how many medicines have the code or name by which it was found
    named: bool = True
    part_of: str = ""
    read: tuple[str, ...] = ()
    left: str = ""
    dose: Dose = NO_DOSE  # of one that is being ordered

    @property
    def key(self) -> str:
        """What makes two records one medicine."""
        return self.medicine.id if self.medicine is not None else self.name.lower()

    @property
    def kinds(self) -> set[str]:
        """Its id and its effects; ``UNIDENTIFIED`` if the content does not know it."""
        if self.medicine is None:
            return {UNIDENTIFIED}
        return {self.medicine.id, *self.medicine.effects}

    @property
    def read_in_part(self) -> str:
        """Which part of its name was understood and which not; empty if all or nothing was."""
        if not self.left:
            return ""
        return f"read in part: {', '.join(self.read)}; not identified: {self.left}"

    def has(self, effect: str) -> bool:
        """Whether the content says that it has this effect."""
        return self.medicine is not None and effect in self.medicine.effects

    def read_in(self, country: str) -> Reading:
        """Its reading in a country; ``NOT_READ`` if the content does not know it."""
        return self.medicine.read_in(country) if self.medicine is not None else NOT_READ

    @property
    def url(self) -> str | None:
        """The address of its LactMed record, or of the search by its name; ``None`` if unnamed."""
        if self.medicine is not None and self.medicine.lactmed is not None:
            return self.medicine.lactmed.url
        return LACTMED_SEARCH + quote_plus(self.name) if self.named else None


@dataclass(slots=True)
class Allergies:
    """The ids of the medicines to which the patient is recorded as allergic.

    ``asked`` is whether the chart says anything of allergies to medicines: one is listed, or it is
    recorded that none is known. An empty list says nothing (S10).
    """

    to: set[str] = field(default_factory=set)
    asked: bool = False

    def include_any(self, medicines: Iterable[str]) -> Truth:
        """Whether the patient is allergic to any of these; ``None`` if that was not asked."""
        return True if not self.to.isdisjoint(medicines) else False if self.asked else None


class MedicineIndex:
    """The content's medicines by code and by the words of their names."""

    def __init__(self, content: Content) -> None:
        self._none_known = content.index_of(NO_ALLERGY)
        self._in_part = content.index_of(IN_PART)
        self._by_code: CodeIndex[Medicine] = CodeIndex(content.addresses)
        self._products: CodeIndex[Medicine] = CodeIndex(content.addresses)
        self._by_name: PhraseIndex[str] = PhraseIndex()  # the id of each
        self._medicines = content.medicines
        lists = content.name_words.values()
        self._ignored_words = IgnoredWords(
            [word for each in lists for word in each.words],
            [unit for each in lists for unit in each.units],
            [word for each in lists for word in each.counting],
        )
        self._beside: dict[str, PhraseIndex[str]] = {}
        ids = {system.url: system.id for system in content.systems.values()}
        self._systems = {address: ids[of.url] for address, of in content.addresses.items()}
        for medicine in content.medicines.values():
            own = CodeSet({(code.system, code.code): True for code in medicine.codes})
            self._by_code.add(own, medicine)
            products = content.codes.get(f"{VALUE_SET}medicine-{medicine.id}", CodeSet())
            self._products.add(products, medicine)
            for name in medicine.names:
                for written in _spellings(name):
                    self._by_name.add(written, medicine.id, whole=medicine.whole_name_only)
            if medicine.beside:
                beside = self._beside[medicine.id] = PhraseIndex()
                for name in medicine.beside:
                    beside.add(name, medicine.id)
        self._by_code.settle()
        self._products.settle()
        self._understood = lru_cache(MOST_NAMES)(self._understand)  # the names are few

    def taken(self, chart: Chart) -> list[TakenMedicine]:
        """The patient's active medicines, each once, by name; those in the content come first."""
        found: dict[str, TakenMedicine] = {}
        for kind, statuses in TAKEN.items():
            for resource in chart.of_patient(kind):
                chart.go_on()
                status = resource.get("status")
                if isinstance(status, str | None) and status not in statuses:
                    continue
                if resource.get("doNotPerform") is True:
                    continue
                reference = reference_to(resource)
                for medicine in self._medicines_of(resource, chart):
                    known = found.setdefault(medicine.key, medicine)
                    known.references.append(reference)
                    known.among = min(known.among, medicine.among)
                    known.part_of = known.part_of and medicine.part_of
                    if medicine.matched == "code":
                        known.matched = "code"
        return sorted(found.values(), key=lambda taken: (taken.medicine is None, taken.key))

    def ordered(self, chart: Chart, orders: Iterable[Resource]) -> list[TakenMedicine]:
        """The medicines that are being ordered for the patient, each once; no other orders."""
        found: dict[str, TakenMedicine] = {}
        for order in chart.orders_of("MedicationRequest", orders):
            reference = reference_to(order)
            for medicine in self._medicines_of(order, chart):
                known = found.setdefault(medicine.key, medicine)
                known.references.append(reference)
                known.dose = known.dose.and_most_of(dose_of(order))
                known.part_of = known.part_of and medicine.part_of
                if medicine.matched == "code":
                    known.matched = "code"
        return list(found.values())

    def allergies(self, chart: Chart) -> Allergies:
        """The patient's allergies to medicines.

        If one of them is not recognised, the list cannot say that there is no other.
        """
        allergies = Allergies()
        unrecognised = False
        for resource in chart.of_patient("AllergyIntolerance"):
            chart.go_on()
            if codes_of(resource.get("verificationStatus")) & NOT_ALLERGIC:
                continue
            if codes_of(resource.get("clinicalStatus")) & NO_LONGER_ALLERGIC:
                continue
            code = member_of(resource, "code")
            concept = code if isinstance(code, dict) else {}
            if any(self._none_known.find(coding) for coding in codings_of(concept)):
                allergies.asked = True
                continue
            for found in self._recognise(concept):
                if found.medicine is not None:
                    allergies.to.add(found.medicine.id)
                    allergies.asked = True
                elif not found.named:
                    unrecognised = True
                elif "medication" in category_of(resource):
                    allergies.asked = True
        allergies.asked = allergies.asked and not unrecognised
        return allergies

    def _medicines_of(self, resource: Resource, chart: Chart) -> list[TakenMedicine]:
        """The medicines of a request or statement: by its code, else by its ingredients."""
        concept = resource.get("medicationCodeableConcept")
        if isinstance(concept, dict):
            return list(self._recognise(concept))
        pointer = resource.get("medicationReference")
        medication = chart.referenced(text_of(pointer), resource)
        code = member_of(medication, "code") if medication is not None else None
        display = pointer.get("display") if isinstance(pointer, dict) else None
        concept = code if isinstance(code, dict) else {"text": display}
        named = list(self._recognise(concept, text_of(pointer)))
        if medication is None or all(found.medicine is not None for found in named):
            return named
        # A contained resource refers to others that are contained in the same resource.
        inside = resource if str(text_of(pointer)).startswith("#") else medication
        parts = _ingredients_of(medication, chart, inside)
        listed = [list(self._recognise(each)) for each in parts]
        found = [each for ingredient in listed for each in ingredient]
        known = [each for each in found if each.medicine is not None]
        if not known:
            return named
        if len(known) < len(found):
            for each in known:
                each.part_of = each.part_of or named[0].name
            return found
        return known

    def _recognise(
        self, concept: dict[str, object], reference: str | None = None
    ) -> Iterator[TakenMedicine]:
        """The medicines that a concept names; without code and text, one named by ``reference``."""
        codings = codings_of(concept)
        by_code: dict[str, Medicine] = {}
        for coding in codings:
            for medicine in (*self._by_code.find(coding), *self._products.find(coding)):
                by_code[medicine.id] = medicine
        written = [concept.get("text"), *(coding.get("display") for coding in codings)]
        texts = [text for text in written if isinstance(text, str) and text.strip()]
        if by_code:
            yield from self._by_codes(by_code, codings, texts)
            return
        known: dict[str, TakenMedicine] = {}
        for text in texts:
            for found in self._named_in(text):
                known.setdefault(found.key, found)
        if known:
            yield from known.values()
            return
        if texts:
            yield TakenMedicine(plain(texts[0]), None, "none")
            return
        called = plain(reference) if reference else NAMELESS
        for coding in codings:
            code, system = coding.get("code"), str(coding.get("system"))
            if isinstance(code, str):
                of = self._systems.get(system, plain(system))
                called = f"code {plain(code, LONGEST_SHOWN_CODE)} ({of})"
                break
        yield TakenMedicine(called, None, "none", named=False)

    def _by_codes(
        self, by_code: dict[str, Medicine], codings: list[dict[str, object]], texts: list[str]
    ) -> Iterator[TakenMedicine]:
        """The medicines that codes mean; a product that is known in part is listed itself too."""
        names = tuple(medicine.name for medicine in by_code.values())
        in_part = any(self._in_part.find(coding) for coding in codings)
        whole = plain(texts[0]) if texts else " and ".join(names)
        if whole.lower() in by_code or not texts:
            whole = f"{whole} and {SOMETHING_ELSE}"
        # A product that contains several medicines is not a choice between them.
        one = any(len(self._products.find(coding)) == len(by_code) for coding in codings)
        among = 1 if one else len(by_code)
        part_of = whole if in_part else ""
        for medicine in by_code.values():
            yield TakenMedicine(medicine.name, medicine, "code", among=among, part_of=part_of)
        if in_part:
            yield TakenMedicine(whole, None, "none", read=names, left=SOMETHING_ELSE)
        for text in texts:
            for found in self._named_in(text):
                if found.medicine is not None and _says_worse(found.medicine, by_code):
                    by_code[found.medicine.id] = found.medicine
                    yield found

    def _named_in(self, text: str) -> list[TakenMedicine]:
        """The medicines that a text names, and the whole text if only a part was understood."""
        meant, left = self._understood(text[:LONGEST_TEXT])
        found = [each for names in meant for each in self._one_or_several(names)]
        if not left:
            return found
        whole = plain(text)
        for each in found:
            each.part_of = whole
        names = tuple(dict.fromkeys(each.name for each in found))
        return [*found, TakenMedicine(whole, None, "none", read=names, left=left)]

    def _understand(self, text: str) -> tuple[list[list[str]], str]:
        """The ids that each name in a text can mean, and the words that were not understood."""
        named, rest = self._by_name.read(text)
        for name in (each for meant in named for each in meant if each in self._beside):
            _, rest = self._beside[name].read(rest)
        left = self._ignored_words.remove_from(rest) if named else []
        return named, plain(" ".join(left), LONGEST_LEFT) if left else ""

    def _one_or_several(self, meant: list[str]) -> Iterator[TakenMedicine]:
        """The medicines that one name can mean; ``among`` says how many these are."""
        for name in meant:
            medicine = self._medicines[name]
            yield TakenMedicine(medicine.name, medicine, "name", among=len(meant))


def _spellings(name: str) -> Iterator[str]:
    """A name, and the form of it that German and related languages write: "cabergolin".

    Only names of substances have it. Brands begin with a capital and are written in one way.
    """
    yield name
    if name.islower() and name.isalpha() and name.endswith("e"):
        yield name.removesuffix("e")


def _says_worse(named: Medicine, by_code: dict[str, Medicine]) -> bool:
    """Whether a text names a medicine that its codes do not mean and that is worse than these.

    A code counts before a name, but must not hide a worse medicine: "Tylenol #3" with the code of
    acetaminophen. A name that belongs to a coded medicine ("levonorgestrel") is that medicine.
    """
    if named.id in by_code:
        return False
    spoken = {name.lower() for name in named.names}
    if any(not spoken.isdisjoint(each.beside) for each in by_code.values()):
        return False
    if named.effects:
        return True
    worst = min(_worst(each) for each in by_code.values())
    return bool(named.readings) and _worst(named) < worst


def _worst(medicine: Medicine) -> int:
    """The place of a medicine's worst band in any country."""
    bands = [reading.band for reading in medicine.readings] or [NOT_READ.band]
    return min(BANDS.index(band) for band in bands)


def _ingredients_of(
    medication: Resource, chart: Chart, inside: Resource
) -> Iterator[dict[str, object]]:
    """The code of each ingredient of a Medication, or of the resource that an ingredient refers to.

    ``inside`` is the resource in which contained resources are looked for.
    """
    ingredients = medication.get("ingredient")
    for ingredient in ingredients[:MOST_INGREDIENTS] if isinstance(ingredients, list) else ():
        if not isinstance(ingredient, dict):
            continue
        code = ingredient.get("itemCodeableConcept")
        if not isinstance(code, dict):
            item = chart.referenced(text_of(ingredient.get("itemReference")), inside)
            code = member_of(item, "code") if item is not None else None
        if isinstance(code, dict):
            yield code


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """A text from a record, made safe to stand on a card, and cut to ``longest`` characters."""
    text = inert(text[:LONGEST_TEXT])
    if len(text) <= longest:
        return text
    return f"{inert(text[: longest - 1]).rstrip(' .:')}…"  # no "https:…", which is a link to some
