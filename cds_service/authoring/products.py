"""Products: which medicines of the content are in the products of RxNorm, the NDC directory or ATC.

The operator's own files are read as streams, one line at a time, and become ValueSets of the
content: one for each medicine, with the codes of the products that contain it, and one with the
codes of products that also contain an ingredient which is not in the content. All ingredients of a
product count. A product without a known ingredient is left out. An ingredient is known only by its
code, or by the exact name of one medicine; similar names do not count.

The files: RxNorm's RXNCONSO, RXNREL and, for NDC codes, RXNSAT (Rich Release Format, UTF-8, the
prescribable subset is enough); the FDA's NDC directory, product.txt and package.txt (columns
between tabs, Windows-1252); and ATC as a CSV with a column of codes and one of names.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypedDict

from ..content.schema import IN_PART, VALUE_SET
from ..engine.medicines import plain
from ..fhir.chart import Resource

if TYPE_CHECKING:
    from ..content.compiled import Content

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
NDC = "http://hl7.org/fhir/sid/ndc"
ATC = "http://www.whocc.no/atc"
COMMENT = "http://hl7.org/fhir/StructureDefinition/valueset-concept-comments"
RETIRED = "retired"

# Bounds. RxNorm has some 8 million relationships; the NDC directory has 260,000 packages.
MOST_LINES = 40_000_000
LONGEST_LINE = 100_000
MOST_PRODUCTS = 1_000_000
MOST_UNMATCHED = 10  # unknown ingredients that are reported
MOST_INGREDIENTS = 200  # of one product; a multivitamin has some 30


class ProductsError(Exception):
    """The files cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """An ingredient of a product: its name, and its RxNorm code if it has one."""

    name: str
    rxcui: str | None = None


@dataclass(frozen=True, slots=True)
class Product:
    """A code of a product, and its ingredients; ``whole`` if all of its ingredients are listed."""

    system: str
    code: str
    name: str
    ingredients: tuple[Ingredient, ...]
    retired: bool = False
    whole: bool = True


@dataclass(slots=True)
class CodesByMedicine:
    """The products by ValueSet url, code system and code, and counts of all that were read."""

    codes: dict[str, dict[str, dict[str, Product]]] = field(default_factory=dict)
    read: int = 0
    known: int = 0  # products of which all ingredients are known
    in_part: int = 0  # products of which some ingredients are known
    unknown: int = 0  # products of which no ingredient is known
    retired: int = 0
    unmatched: Counter[str] = field(default_factory=Counter)  # names of unknown ingredients
    left_out: int = 0  # lines that could not be read


# --- which medicine an ingredient is ------------------------------------------------------------


class KnownMedicines:
    """Finds the medicine that an ingredient is, by its code or its whole name."""

    def __init__(self, content: Content) -> None:
        self._by_code: dict[str, str] = {}
        self._by_name: dict[str, set[str]] = {}
        salts = content.name_words.get("salt")
        self._salts = frozenset(salts.words) if salts is not None else frozenset()
        for medicine in content.medicines.values():
            for code in medicine.codes:
                if code.system == RXNORM and code.kind == "ingredient":
                    self._by_code[code.code] = medicine.id
            for name in (medicine.name, *medicine.names):
                self._by_name.setdefault(name.casefold(), set()).add(medicine.id)

    def find(self, ingredient: Ingredient) -> str | None:
        """The id of the medicine that an ingredient is; ``None`` if none, or several, match."""
        if ingredient.rxcui is not None and ingredient.rxcui in self._by_code:
            return self._by_code[ingredient.rxcui]
        words = ingredient.name.casefold().split()
        while words:
            found = self._by_name.get(" ".join(words), set())
            if found:
                return next(iter(found)) if len(found) == 1 else None
            if len(words) < 2 or words[-1] not in self._salts or words[-2] in self._salts:
                return None
            words.pop()  # the salt of "codeine phosphate"; a salt alone is not an ingredient
        return None


def codes_by_medicine(products: Iterable[Product], known: KnownMedicines) -> CodesByMedicine:
    """Group the codes of products by the medicines in them.

    Raises ``ProductsError`` if there are more than ``MOST_PRODUCTS``.
    """
    result = CodesByMedicine()
    for product in products:
        result.read += 1
        if result.read > MOST_PRODUCTS:
            raise ProductsError("they hold far more products than there are")
        result.retired += product.retired
        found = {each.name: known.find(each) for each in product.ingredients[:MOST_INGREDIENTS]}
        missing = [name for name, medicine in found.items() if medicine is None]
        result.unmatched.update(missing)
        medicines = {medicine for medicine in found.values() if medicine is not None}
        if not medicines:
            result.unknown += 1
            continue
        in_part = bool(missing) or not product.whole
        result.in_part += in_part
        result.known += not in_part
        urls = [f"{VALUE_SET}medicine-{medicine}" for medicine in sorted(medicines)]
        for url in [*urls, IN_PART] if in_part else urls:
            result.codes.setdefault(url, {}).setdefault(product.system, {})[product.code] = product
    return result


class ValueSets(TypedDict):
    """A FHIR Bundle of ValueSets."""

    resourceType: Literal["Bundle"]
    type: Literal["collection"]
    entry: list[dict[Literal["resource"], Resource]]


def bundle_of(result: CodesByMedicine, source: str, version: str) -> ValueSets:
    """The ValueSets as a Bundle; the codes of retired products have a comment that says so."""
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"resource": _value_set(url, result.codes[url], source, version)}
            for url in sorted(result.codes)
        ],
    }


def _value_set(
    url: str, codes: dict[str, dict[str, Product]], source: str, version: str
) -> Resource:
    return {
        "resourceType": "ValueSet",
        "url": url,
        "version": version,
        "status": "active",
        "description": f"Products, from {source}. Written by an import; do not edit.",
        "compose": {
            "include": [
                {"system": system, "concept": [_concept(each) for each in products.values()]}
                for system, products in codes.items()
            ]
        },
    }


def _concept(product: Product) -> Resource:
    concept: Resource = {"code": product.code}
    if product.name:
        concept["display"] = product.name
    if product.retired:
        concept["extension"] = [{"url": COMMENT, "valueString": RETIRED}]
    return concept


# --- lines --------------------------------------------------------------------------------------

Opened = Callable[[Path], AbstractContextManager[IO[bytes]]]


def _lines(file: IO[bytes], encoding: str, name: str) -> Iterator[str]:
    for number in range(MOST_LINES + 1):
        line = file.readline(LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > LONGEST_LINE:
            raise ProductsError(f"{name}: line {number + 1} is longer than any")
        try:
            yield line.decode(encoding).rstrip("\r\n")
        except UnicodeDecodeError:
            raise ProductsError(f"{name}: line {number + 1} is no {encoding}") from None
    raise ProductsError(f"{name} holds far more lines than any such file")


def _rows(
    file: IO[bytes], encoding: str, name: str, between: str, columns: int, left_out: list[int]
) -> Iterator[list[str]]:
    """The lines of a file, split into columns.

    A line with fewer than ``columns`` is left out, and its number added to ``left_out``. Raises
    ``ProductsError`` if the first line has fewer.
    """
    for number, line in enumerate(_lines(file, encoding, name)):
        row = line.split(between)
        if len(row) >= columns:
            yield row
        elif number == 0:
            raise ProductsError(f"{name} has {len(row)} columns, and not {columns}: what is it?")
        elif line:
            left_out.append(number + 1)


# --- RxNorm -------------------------------------------------------------------------------------

# The relationships from a concept down to its ingredients, by the kinds (TTY) of both concepts. The
# file has each relationship in both directions, with two names.
_PARTS = {"has_ingredient", "ingredient_of", "has_ingredients", "ingredients_of"}
_CONSIST = {"consists_of", "constitutes"}
_PACK = {"contains", "contained_in"}
_BRAND = {"tradename_of", "has_tradename"}
_FORM = {"form_of", "has_form"}
_WHOLE = {"has_part", "part_of"}
DOWN: dict[tuple[str, str], set[str]] = {
    ("BPCK", "SBD"): _PACK,
    ("BPCK", "SCD"): _PACK,
    ("GPCK", "SCD"): _PACK,
    ("SBD", "SCD"): _BRAND,
    ("SCD", "SCDC"): _CONSIST,
    ("SCDC", "IN"): _PARTS,
    ("MIN", "IN"): _WHOLE,
    ("PIN", "IN"): _FORM,
}
CODED = ("IN", "PIN", "MIN", "SCDC", "SCD", "SBD", "GPCK", "BPCK")
_KINDS = {kind for pair in DOWN for kind in pair}
_BETWEEN_PARTS = " / "  # between the ingredients in the name of a drug
_IN_A_PACK = re.compile(r"(?<![\w.])\d+ \(")  # "{21 (one drug) / 7 (another) } Pack"
NOTHING = {"inert ingredients"}  # what the tablets of a pack contain that have no drug


@dataclass(slots=True)
class _Concept:
    kind: str
    name: str
    retired: bool
    below: set[str] = field(default_factory=set)


def rxnorm_products(
    files: dict[str, Path], open_file: Opened, left_out: list[int]
) -> Iterator[Product]:
    """The products of RxNorm. ``files`` are by name: RXNCONSO, RXNREL and perhaps RXNSAT.

    Retired products are included, and marked. Raises ``ProductsError``.
    """
    concepts: dict[str, _Concept] = {}
    with open_file(files["RXNCONSO"]) as file:
        for row in _rows(file, "utf-8", "RXNCONSO", "|", 18, left_out):
            rxcui, source, kind, name, suppressed = row[0], row[11], row[12], row[14], row[16]
            if source != "RXNORM" or kind not in _KINDS:
                continue
            concept = concepts.get(rxcui)
            retired = suppressed in ("O", "Y", "E")
            if concept is None or (concept.retired and not retired):
                concepts[rxcui] = _Concept(kind, name, retired)
            if len(concepts) > MOST_PRODUCTS:
                raise ProductsError("RXNCONSO holds far more concepts than RxNorm")
    if not concepts:
        raise ProductsError("RXNCONSO holds no ingredient or drug of RxNorm")
    with open_file(files["RXNREL"]) as file:
        for row in _rows(file, "utf-8", "RXNREL", "|", 16, left_out):
            one, other, how = concepts.get(row[0]), concepts.get(row[4]), row[7]
            if one is None or other is None:
                continue
            if how in DOWN.get((one.kind, other.kind), ()):
                one.below.add(row[4])
            elif how in DOWN.get((other.kind, one.kind), ()):
                other.below.add(row[0])
    packages: dict[str, list[str]] = {}
    if "RXNSAT" in files:
        with open_file(files["RXNSAT"]) as file:
            for row in _rows(file, "utf-8", "RXNSAT", "|", 13, left_out):
                if row[8] == "NDC" and row[9] == "RXNORM" and row[0] in concepts:
                    packages.setdefault(row[0], []).append(row[10])
    for rxcui, concept in concepts.items():
        if concept.kind not in CODED:
            continue
        found = _ingredients_of(rxcui, concepts)
        ingredients = tuple(Ingredient(plain(concepts[each].name), each) for each in sorted(found))
        whole, name = _is_whole(rxcui, concepts), plain(concept.name, 200)
        for system, code in [
            (RXNORM, rxcui),
            *((NDC, form) for ndc in packages.get(rxcui, ()) for form in ndc_forms(ndc)),
        ]:
            yield Product(system, code, name, ingredients, concept.retired, whole)


def _ingredients_of(rxcui: str, concepts: dict[str, _Concept]) -> set[str]:
    """The ingredients of a concept, found by following the relationships of ``DOWN``."""
    concept = concepts[rxcui]
    if concept.kind == "IN":
        return set() if concept.name.casefold() in NOTHING else {rxcui}
    return {found for each in concept.below for found in _ingredients_of(each, concepts)}


def _is_whole(rxcui: str, concepts: dict[str, _Concept]) -> bool:
    """Whether all parts that a concept's name lists were found below it, and are whole too."""
    concept = concepts[rxcui]
    if concept.kind == "IN":
        return True
    parts = 1
    if concept.kind in ("SCD", "MIN"):
        parts = concept.name.count(_BETWEEN_PARTS) + 1
    elif concept.kind in ("GPCK", "BPCK"):
        parts = len(_IN_A_PACK.findall(concept.name))
    return len(concept.below) >= parts and all(_is_whole(each, concepts) for each in concept.below)


# --- the FDA's directory of NDC -----------------------------------------------------------------

_PRODUCT_COLUMNS = ("PRODUCTID", "PRODUCTNDC", "PROPRIETARYNAME", "SUBSTANCENAME")
_PACKAGE_COLUMNS = ("PRODUCTID", "NDCPACKAGECODE")
_TWO_PARTS, _THREE_PARTS = (
    re.compile(r"^\d{4,5}-\d{3,4}$"),
    re.compile(r"^\d{4,5}-\d{3,4}-\d{1,2}$"),
)
_ELEVEN = re.compile(r"^\d{11}$")
_DATE = re.compile(r"^\d{8}$")


def ndc_forms(code: str) -> list[str]:
    """The forms of an NDC in records: as it is written, and with 11 digits if it has three parts.

    Empty if the code is not an NDC.
    """
    if _THREE_PARTS.match(code):
        labeler, product, package = code.split("-")
        return [code, f"{labeler:0>5}{product:0>4}{package:0>2}"]
    return [code] if _TWO_PARTS.match(code) or _ELEVEN.match(code) else []


def ndc_products(
    files: dict[str, Path], open_file: Opened, left_out: list[int], today: date
) -> Iterator[Product]:
    """The products of the NDC directory, and their packages if ``package`` is among the files.

    Products that are no longer marketed by ``today``, or are excluded from the directory, are
    included and marked as retired. Raises ``ProductsError``.
    """
    products: dict[str, Product] = {}
    with open_file(files["product"]) as file:
        for row in _named_rows(file, "product", _PRODUCT_COLUMNS, left_out):
            names = [name.strip() for name in row["SUBSTANCENAME"].split(";")]
            ingredients = tuple(Ingredient(plain(name)) for name in names if name)
            name = plain(f"{row['PROPRIETARYNAME']} ({row['SUBSTANCENAME']})", 200)
            retired = _is_over(row, today)
            for code in ndc_forms(row["PRODUCTNDC"]):
                product = Product(NDC, code, name, ingredients, retired, bool(ingredients))
                products[row["PRODUCTID"]] = product
                yield product
            if len(products) > MOST_PRODUCTS:
                raise ProductsError("product.txt holds far more products than the directory")
    if "package" not in files:
        return
    with open_file(files["package"]) as file:
        for row in _named_rows(file, "package", _PACKAGE_COLUMNS, left_out):
            held = products.get(row["PRODUCTID"])
            if held is None:
                continue
            retired = held.retired or _is_over(row, today)
            for code in ndc_forms(row["NDCPACKAGECODE"]):
                yield Product(NDC, code, held.name, held.ingredients, retired, held.whole)


def _named_rows(
    file: IO[bytes], name: str, needed: tuple[str, ...], left_out: list[int]
) -> Iterator[dict[str, str]]:
    rows = _rows(file, "cp1252", f"{name}.txt", "\t", len(needed), left_out)
    header = [each.strip() for each in next(rows, [])]
    missing = [each for each in needed if each not in header]
    if missing:
        raise ProductsError(f"{name}.txt has no column {missing[0]}")
    for number, row in enumerate(rows, 2):
        if len(row) < len(header):
            left_out.append(number)
        else:
            yield dict(zip(header, (each.strip() for each in row), strict=False))


def _is_over(row: dict[str, str], today: date) -> bool:
    end = row.get("ENDMARKETINGDATE", "")
    excluded = row.get("NDC_EXCLUDE_FLAG", "N") not in ("", "N")
    return excluded or bool(_DATE.match(end) and end < today.strftime("%Y%m%d"))


# --- ATC ----------------------------------------------------------------------------------------

_ATC_CODE = re.compile(r"^[A-Z]\d{2}[A-Z]{2}\d{2}$")
_CODE_COLUMNS = ("atc_code", "atc code", "atccode", "code")
_NAME_COLUMNS = ("atc_name", "atc name", "atcname", "name", "atc_label", "label")
_OTHERS = re.compile(r",?\s*\b(?:combinations?|other)\b.*$")
_AND = re.compile(r"\s*,\s*|\s+and\s+")


def atc_products(
    path: Path, open_file: Opened, left_out: list[int], known: KnownMedicines
) -> Iterator[Product]:
    """The substances and fixed combinations of ATC.

    A name that is not ``known`` as a whole is split at its commas and at "and". If it says
    "combinations" or "other", the product has further ingredients, and is not ``whole``. Raises
    ``ProductsError``.
    """
    with open_file(path) as file:
        rows = csv.reader(_lines(file, "utf-8-sig", path.name))
        try:
            yield from _of_atc(rows, path.name, left_out, known)
        except csv.Error as error:
            raise ProductsError(f"{path.name} is no CSV: {error}") from None


def _of_atc(
    rows: Iterator[list[str]], name: str, left_out: list[int], known: KnownMedicines
) -> Iterator[Product]:
    header = [each.strip().casefold() for each in next(rows, [])]
    code_at = next((header.index(each) for each in _CODE_COLUMNS if each in header), None)
    name_at = next((header.index(each) for each in _NAME_COLUMNS if each in header), None)
    if code_at is None or name_at is None:
        raise ProductsError(f"{name} has no column of codes (atc_code) and of names (atc_name)")
    seen: set[str] = set()
    for number, row in enumerate(rows, 2):
        if len(row) <= max(code_at, name_at):
            left_out.append(number)
            continue
        code, named = row[code_at].strip().upper(), plain(row[name_at], 200)
        if not _ATC_CODE.match(code) or code in seen:
            continue  # a group, or another dose of the same substance
        seen.add(code)
        if known.find(Ingredient(named)) is not None:
            yield Product(ATC, code, named, (Ingredient(named),))
            continue
        alone = _OTHERS.sub("", named)
        parts = tuple(Ingredient(part) for part in _AND.split(alone) if part)
        yield Product(ATC, code, named, parts, whole=alone == named)


# --- writing ------------------------------------------------------------------------------------


def write(bundle: ValueSets) -> Iterator[bytes]:
    """A Bundle as JSON, with one ValueSet on each line."""
    entries = bundle["entry"]
    head = {name: value for name, value in bundle.items() if name != "entry"}
    yield json.dumps(head, ensure_ascii=False)[:-1].encode() + b', "entry": [\n'
    for number, entry in enumerate(entries):
        comma = b",\n" if number + 1 < len(entries) else b"\n"
        yield json.dumps(entry, ensure_ascii=False).encode() + comma
    yield b"]}\n"
