"""Products taken apart (P23): RxNorm, the NDC directory and ATC, in files with made-up names.

The files are made here in their real structure; the medicines are laid beside the shipped ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cds_service.authoring import products
from cds_service.authoring.products import ATC, COMMENT, NDC, RXNORM, ndc_forms
from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from tests.support.mothers import NOW, birth, cards_of, chart_of, medicine, plan
from tests.support.once import evaluation_of

pytestmark = pytest.mark.slow

# Made up: three by code and name, three by name only, and two that no content has.
BY_CODE = {"miralin": "9900001", "novatide": "9900002", "perlozin": "9900003"}
BY_NAME = ["quentam", "rostavil", "sentrine"]
KNOWN = [*BY_CODE, *BY_NAME]
STRANGE = ["tuvorin", "ulmexate"]
OF_STRANGE = {"tuvorin": "9900007", "ulmexate": "9900008"}
RXCUI = BY_CODE | {"quentam": "9900004", "rostavil": "9900005", "sentrine": "9900006"} | OF_STRANGE


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("own")
    lines = ["medicines:"]
    for number, name in enumerate(KNOWN):
        code = ""
        if name in BY_CODE:
            code = f'{{system: "{RXNORM}", code: "{BY_CODE[name]}", kind: ingredient, verified: x}}'
        lines.append(
            f"  - {{id: {name}, name: {name.capitalize()}, rows: [R16], names: [{name}], "
            f"codes: [{code}], lactmed: {{id: LM990{number}, revised: 2026-09-15}}, "
            "verified: made up, review: draft}"
        )
    (directory / "own.yaml").write_text("\n".join(lines))
    return directory


def run(kind: str, own: Path, files: dict[str, bytes], *options: str) -> tuple[Path, Result]:
    """Import files whose names are given, into a new directory beside the medicines."""
    to = own.parent / f"{own.name}-{kind}-{random.random()}"
    to.mkdir()
    (to / "own.yaml").write_bytes((own / "own.yaml").read_bytes())
    paths = []
    for name, data in files.items():
        path = to.parent / f"{to.name}-{name}" / name
        path.parent.mkdir()
        path.write_bytes(data)
        paths.append(str(path))
    arguments = [kind, "import", *paths, "--to", str(to), *options]
    return to, CliRunner().invoke(main, arguments)


def found_by(content: Content, system: str, code: str, text: str | None = None) -> tuple[Any, bool]:
    """The medicines that a code is taken for, and whether something else is told to be in it."""
    concept: dict[str, Any] = {"coding": [{"system": system, "code": code}]}
    if text:
        concept["text"] = text
    record = medicine(medicationCodeableConcept=concept)
    case = evaluation_of(content).case(chart_of(content, birth(80), record), NOW)
    ids = {taken.medicine.id for taken in case.medicines if taken.medicine is not None}
    assert all(taken.matched == "code" for taken in case.medicines if taken.medicine is not None)
    return ids, any(taken.medicine is None for taken in case.medicines)


def expected(ingredients: list[str]) -> tuple[set[str], bool]:
    known = {name for name in ingredients if name in KNOWN}
    return known, len(known) < len(set(ingredients)) or not known


def value_sets(to: Path, kind: str) -> list[dict[str, Any]]:
    bundle = json.loads((to / f"0-{kind}.json").read_bytes())
    return [entry["resource"] for entry in bundle["entry"]]


def comments(to: Path, kind: str) -> dict[str, bool]:
    """Each code, and whether it is marked as retired."""
    marked: dict[str, bool] = {}
    for value_set in value_sets(to, kind):
        for include in value_set["compose"]["include"]:
            for each in include["concept"]:
                extension = [{"url": COMMENT, "valueString": "retired"}]
                marked[each["code"]] = each.get("extension") == extension
    return marked


# --- RxNorm -------------------------------------------------------------------------------------


def conso(rxcui: str, kind: str, name: str, suppress: str = "N", source: str = "RXNORM") -> str:
    before = f"{rxcui}|ENG||||||A{rxcui}|A{rxcui}|{rxcui}|"
    return f"{before}|{source}|{kind}|{rxcui}|{name}||{suppress}|4096|"


def rel(one: str, other: str, how: str) -> str:
    return f"{one}||CUI|RO|{other}||CUI|{how}|||RXNORM|||||4096|"


PAIRED = {
    "ingredient": ("has_ingredient", "ingredient_of"),
    "consists": ("consists_of", "constitutes"),
    "brand": ("tradename_of", "has_tradename"),
    "pack": ("contains", "contained_in"),
    "form": ("form_of", "has_form"),
    "part": ("has_part", "part_of"),
}


@dataclass
class RxNorm:
    """A small RxNorm, as it is in its files."""

    concepts: list[str]
    relations: list[str]
    chance: random.Random
    next_code: int = 8800000

    def concept(self, kind: str, name: str, suppress: str = "N") -> str:
        self.next_code += 1
        self.concepts.append(conso(str(self.next_code), kind, name, suppress))
        return str(self.next_code)

    def relate(self, above: str, below: str, how: str) -> None:
        """In the file a relationship stands in both directions; either is enough."""
        down, up = PAIRED[how]
        rows = [rel(below, above, down), rel(above, below, up)]
        self.relations += rows if self.chance.random() < 0.5 else [self.chance.choice(rows)]

    def drug(self, ingredients: list[str], suppress: str = "N") -> str:
        parts = []
        for name in ingredients:
            parts.append(self.concept("SCDC", f"{name} 10 MG"))
            self.relate(parts[-1], RXCUI[name], "ingredient")
        names = " / ".join(f"{name} 10 MG" for name in ingredients)
        drug = self.concept("SCD", f"{names} Oral Tablet", suppress)
        for part in parts:
            self.relate(drug, part, "consists")
        return drug

    def files(self) -> dict[str, bytes]:
        return {
            "RXNCONSO.RRF": ("\n".join(self.concepts) + "\n").encode(),
            "RXNREL.RRF": ("\n".join(self.relations) + "\n").encode(),
        }


def small_rxnorm(seed: int = 1) -> RxNorm:
    made = RxNorm(
        [conso(code, "IN", name) for name, code in RXCUI.items()], [], random.Random(seed)
    )
    made.concepts.append(conso("9900099", "IN", "inert ingredients"))
    made.concepts.append(conso("77", "DP", "not of RxNorm", source="MTHSPL"))
    return made


def test_each_ingredient_of_a_hundred_products_of_rxnorm_is_found(own: Path) -> None:
    made, chance = small_rxnorm(), random.Random(25)
    wanted: dict[str, list[str]] = {}
    retired: dict[str, bool] = {}
    for _ in range(100):
        ingredients = chance.sample([*KNOWN, *STRANGE], chance.randint(1, 4))
        suppress = chance.choice(["N", "N", "O"])
        code = made.drug(ingredients, suppress)
        kind = chance.choice(["SCD", "SBD", "GPCK", "BPCK"])
        if kind == "SBD":
            drug, code = code, made.concept("SBD", "x 10 MG Oral Tablet [Made]", suppress)
            made.relate(code, drug, "brand")
        elif kind in ("GPCK", "BPCK"):
            second = chance.sample(KNOWN, 1)
            drugs = [code, made.drug(second)]
            ingredients = [*ingredients, *second]
            code = made.concept(kind, "{21 (one) / 7 (another) } Pack", suppress)
            for drug in drugs:
                made.relate(code, drug, "pack")
        wanted[code] = ingredients
        retired[code] = suppress == "O"
    to, result = run("rxnorm", own, made.files())
    assert result.exit_code == 0, result.output
    content = load_content(to)
    for code, ingredients in wanted.items():
        assert found_by(content, RXNORM, code) == expected(ingredients), code
    marked = comments(to, "rxnorm")
    assert {code: marked[code] for code in marked.keys() & retired} == {
        code: is_so for code, is_so in retired.items() if code in marked
    }
    assert any(retired.values())
    assert "tuvorin: " in result.output
    assert "is valid" in result.output
    assert "Next: cds-service content test" in result.output


def test_an_unknown_code_is_never_guessed(own: Path) -> None:
    made = small_rxnorm()
    strange = made.drug(["tuvorin"])
    likely = made.concept("SCD", "miralin 10 MG Oral Tablet")  # nothing says what is in it
    brand = made.concept("BN", "Miralin")
    made.relate(brand, BY_CODE["miralin"], "brand")
    made.concepts.append(conso("9900050", "IN", "miralin acetylate"))
    to, result = run("rxnorm", own, made.files())
    assert result.exit_code == 0, result.output
    content = load_content(to)
    for code in (strange, likely, brand, "9900050", "77", "123"):
        assert found_by(content, RXNORM, code) == (set(), True), code


def test_a_drug_that_names_more_than_it_tells_is_known_in_part(own: Path) -> None:
    made = small_rxnorm()
    part = made.concept("SCDC", "miralin 10 MG")
    made.relate(part, BY_CODE["miralin"], "ingredient")
    drug = made.concept("SCD", "miralin 10 MG / novatide 5 MG Oral Tablet")
    made.relate(drug, part, "consists")
    whole, days = made.drug(["novatide"]), made.concept("SCDC", "inert ingredients 1 MG")
    made.relate(days, "9900099", "ingredient")
    blank = made.concept("SCD", "inert ingredients 1 MG Oral Tablet")
    made.relate(blank, days, "consists")
    pack = made.concept(
        "GPCK", "{21 (novatide 10 MG Oral Tablet) / 7 (inert ingredients 1 MG) } Pack"
    )
    short = made.concept("GPCK", "{21 (novatide 10 MG Oral Tablet) / 7 (another) } Pack")
    for each in (whole, blank):
        made.relate(pack, each, "pack")
    made.relate(short, whole, "pack")
    salt, both = made.concept("PIN", "miralin sodium"), made.concept("MIN", "miralin / novatide")
    made.relate(salt, BY_CODE["miralin"], "form")
    for name in ("miralin", "novatide"):
        made.relate(both, BY_CODE[name], "part")
    to, _ = run("rxnorm", own, made.files())
    content = load_content(to)
    assert found_by(content, RXNORM, drug) == ({"miralin"}, True)
    assert found_by(content, RXNORM, pack) == ({"novatide"}, False)
    assert found_by(content, RXNORM, short) == ({"novatide"}, True)
    assert found_by(content, RXNORM, salt) == ({"miralin"}, False)
    assert found_by(content, RXNORM, both) == ({"miralin", "novatide"}, False)
    record = medicine(
        medicationCodeableConcept={
            "text": "Miralin Plus",
            "coding": [{"system": RXNORM, "code": drug}],
        }
    )
    card = cards_of(content, birth(80), plan("nurse"), record)["medicines-and-milk"]
    assert (
        "Miralin Plus (read in part: Miralin; not identified: another ingredient)"
        in (card["detail"])
    )


def test_ndc_codes_of_rxnorm_are_laid_too(own: Path) -> None:
    made = small_rxnorm()
    drug = made.drug(["miralin", "quentam"])
    files = made.files()
    files["RXNSAT.RRF"] = (
        f"{drug}||||{drug}|{drug}|AT1||NDC|RXNORM|99999123401|N|4096|\n"
        f"{drug}||||{drug}|{drug}|AT2||NDC|VANDF|99999123499|N|4096|\n"
    ).encode()
    to, result = run("rxnorm", own, files)
    assert result.exit_code == 0, result.output
    content = load_content(to)
    assert found_by(content, NDC, "99999123401") == ({"miralin", "quentam"}, False)
    assert found_by(content, NDC, "99999123499") == (set(), True)


# --- the NDC directory --------------------------------------------------------------------------

PRODUCT = (
    "PRODUCTID\tPRODUCTNDC\tPRODUCTTYPENAME\tPROPRIETARYNAME\tPROPRIETARYNAMESUFFIX\t"
    "NONPROPRIETARYNAME\tDOSAGEFORMNAME\tROUTENAME\tSTARTMARKETINGDATE\tENDMARKETINGDATE\t"
    "MARKETINGCATEGORYNAME\tAPPLICATIONNUMBER\tLABELERNAME\tSUBSTANCENAME\t"
    "ACTIVE_NUMERATOR_STRENGTH\tACTIVE_INGRED_UNIT\tPHARM_CLASSES\tDEASCHEDULE\t"
    "NDC_EXCLUDE_FLAG\tLISTING_RECORD_CERTIFIED_THROUGH"
)
PACKAGE = (
    "PRODUCTID\tPRODUCTNDC\tNDCPACKAGECODE\tPACKAGEDESCRIPTION\tSTARTMARKETINGDATE\t"
    "ENDMARKETINGDATE\tNDC_EXCLUDE_FLAG\tSAMPLE_PACKAGE"
)


def ndc_row(code: str, substances: str, end: str = "", flag: str = "N", name: str = "Made") -> str:
    return (
        f"{code}_id\t{code}\tHUMAN PRESCRIPTION DRUG\t{name}\t\tx\tTABLET\tORAL\t20200101\t{end}\t"
        f"ANDA\tANDA000000\tMade Up, Inc.\t{substances}\t10\tmg/1\t\t\t{flag}\t20271231"
    )


def package_row(code: str, package: str, end: str = "") -> str:
    return f"{code}_id\t{code}\t{package}\t30 TABLET in 1 BOTTLE\t20200101\t{end}\tN\tN"


def test_each_ingredient_of_a_hundred_products_of_the_directory_is_found(own: Path) -> None:
    chance = random.Random(26)
    rows, packages = [PRODUCT], [PACKAGE]
    wanted: dict[str, list[str]] = {}
    retired: dict[str, bool] = {}
    for number in range(100):
        ingredients = chance.sample([*KNOWN, *STRANGE], chance.randint(1, 4))
        salts = [chance.choice(["", " HYDROCHLORIDE", " PHOSPHATE"]) for _ in ingredients]
        code = f"{99000 + number}-{1000 + number}"
        end = chance.choice(["", "20251231", "20301231"])
        named = "; ".join(
            f"{name.upper()}{salt}" for name, salt in zip(ingredients, salts, strict=True)
        )
        rows.append(ndc_row(code, named, end))
        packages.append(package_row(code, f"{code}-1"))
        for each in (code, f"{code}-1", f"{code.replace('-', '')}01"):
            wanted[each] = ingredients
            retired[each] = end == "20251231"
    files = {"product.txt": "\r\n".join(rows), "package.txt": "\r\n".join(packages)}
    to, result = run(
        "ndc", own, {n: t.encode("cp1252") for n, t in files.items()}, "--as-of", "2026-11-27"
    )
    assert result.exit_code == 0, result.output
    content = load_content(to)
    for code, ingredients in wanted.items():
        assert found_by(content, NDC, code) == expected(ingredients), code
    marked = comments(to, "ndc")
    assert all(marked[code] == is_so for code, is_so in retired.items() if code in marked)
    assert any(retired.values())


def test_a_salt_is_taken_off_and_nothing_else(own: Path) -> None:
    rows = [
        PRODUCT,
        ndc_row("1111-111", "MIRALIN SODIUM PHOSPHATE"),
        ndc_row("1111-112", "MIRALIN ACETYLATE"),
        ndc_row("1111-113", "SODIUM CHLORIDE"),
        ndc_row("1111-114", ""),
        ndc_row("1111-115", "MIRALIN HYDROCHLORIDE", flag="E", name="Mirál®"),
        ndc_row("1111-11", "MIRALIN"),
        "one\ttwo",
    ]
    to, result = run("ndc", own, {"product.txt": "\n".join(rows).encode("cp1252")})
    assert result.exit_code == 0, result.output
    content = load_content(to)
    assert found_by(content, NDC, "1111-115") == ({"miralin"}, False)
    for code in ("1111-111", "1111-112", "1111-113", "1111-114", "1111-11"):
        assert found_by(content, NDC, code) == (set(), True), code
    assert comments(to, "ndc")["1111-115"]
    assert "not read 1 lines" in result.output


@pytest.mark.parametrize(
    ("code", "forms"),
    [
        ("0002-1433-80", ["0002-1433-80", "00002143380"]),
        ("50242-040-62", ["50242-040-62", "50242004062"]),
        ("60505-0025-2", ["60505-0025-2", "60505002502"]),
        ("0002-1433", ["0002-1433"]),
        ("00002143380", ["00002143380"]),
        ("2-1433-80", []),
        ("", []),
    ],
)
def test_an_ndc_as_it_may_stand_in_a_record(code: str, forms: list[str]) -> None:
    assert ndc_forms(code) == forms


# --- ATC ----------------------------------------------------------------------------------------


def test_each_ingredient_of_a_hundred_codes_of_atc_is_found(own: Path) -> None:
    chance = random.Random(27)
    lines = ["atc_code,atc_name,ddd", "X01,a group,", "X01AA,another group,"]
    wanted: dict[str, tuple[set[str], bool]] = {}
    for number in range(100):
        ingredients = chance.sample([*KNOWN, *STRANGE], chance.randint(1, 3))
        with_others = chance.random() < 0.3
        name = (
            " and ".join(ingredients)
            if len(ingredients) < 3
            else (f"{ingredients[0]}, {ingredients[1]} and {ingredients[2]}")
        )
        if with_others:
            name += chance.choice([", combinations", ", combinations excl. psycholeptics"])
        code = f"X{number:02}AA01"
        lines.append(f'{code},"{name}",')
        known, more = expected(ingredients)
        wanted[code] = known, more or (with_others and bool(known)) or not known
    to, result = run("atc", own, {"atc.csv": "\n".join(lines).encode()})
    assert result.exit_code == 0, result.output
    content = load_content(to)
    for code, found in wanted.items():
        assert found_by(content, ATC, code) == found, code


def test_a_name_that_is_known_as_a_whole_is_not_taken_apart(own: Path) -> None:
    lines = ["Code;Name".replace(";", ","), "X01AA01,ampicillin and sulbactam", "X01AA02,miralinum"]
    to, result = run("atc", own, {"atc.csv": "\n".join(lines).encode("utf-8-sig")})
    assert result.exit_code == 0, result.output
    content = load_content(to)
    ids, more = found_by(content, ATC, "X01AA01")
    assert ids
    assert not more
    assert found_by(content, ATC, "X01AA02") == (set(), True)


# --- what goes wrong ----------------------------------------------------------------------------

CONSO = conso("9900001", "IN", "miralin").encode()


@pytest.mark.parametrize(
    ("kind", "files", "reason"),
    [
        ("rxnorm", {"RXNCONSO.RRF": CONSO}, "RXNREL is needed too"),
        ("rxnorm", {"RXNCONSO.RRF": CONSO, "other.RRF": b""}, "one each of RXNCONSO, RXNREL"),
        ("rxnorm", {"RXNCONSO.RRF": b"a|b", "RXNREL.RRF": b""}, "has 2 columns, and not 18"),
        ("rxnorm", {"RXNCONSO.RRF": b"", "RXNREL.RRF": b""}, "no ingredient or drug"),
        ("rxnorm", {"RXNCONSO.RRF": b"\xff" * 9, "RXNREL.RRF": b""}, "line 1 is no utf-8"),
        ("ndc", {"product.txt": b"a\tb\tc\td"}, "no column PRODUCTID"),
        ("ndc", {"product.txt": f"{PRODUCT}\n".encode()}, "0 codes read, and no medicine found"),
        ("ndc", {"package.txt": PACKAGE.encode()}, "product is needed too"),
        ("atc", {"atc.csv": b"x,y\n1,2"}, "no column of codes"),
        ("atc", {"atc.csv": b'atc_code,atc_name\nX01AA01,"' + b"x" * 200_000}, "longer than any"),
        ("atc", {"atc.csv": b"atc_code,atc_name\nX01AA01,tuvorin\n"}, "1 codes read, and no"),
    ],
)
def test_files_that_are_none_are_refused_and_nothing_is_written(
    own: Path, kind: str, files: dict[str, bytes], reason: str
) -> None:
    to, result = run(kind, own, files)
    assert result.exit_code != 0
    assert reason in " ".join(result.output.split())
    assert [path.name for path in to.iterdir()] == ["own.yaml"]


def test_far_too_many_lines_are_refused(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "MOST_LINES", 3)
    lines = ["atc_code,atc_name", *(f"X{n:02}AA01,miralin" for n in range(9))]
    _, result = run("atc", own, {"atc.csv": "\n".join(lines).encode()})
    assert "far more lines" in result.output


def test_an_import_replaces_the_older_one_or_leaves_it(own: Path, tmp_path: Path) -> None:
    csv = tmp_path / "atc.csv"
    to = tmp_path / "to"
    to.mkdir()
    (to / "own.yaml").write_bytes((own / "own.yaml").read_bytes())

    def again(name: str) -> Result:
        csv.write_text(f"atc_code,atc_name\nX01AA01,{name}\n")
        return CliRunner().invoke(main, ["atc", "import", str(csv), "--to", str(to)])

    assert again("miralin").exit_code == 0
    assert again("novatide").exit_code == 0
    assert found_by(load_content(to), ATC, "X01AA01") == ({"novatide"}, False)
    assert again("tuvorin").exit_code != 0
    assert found_by(load_content(to), ATC, "X01AA01") == ({"novatide"}, False)
    assert sorted(path.name for path in to.iterdir()) == ["0-atc.json", "own.yaml"]
    (to / "0-atc.json").unlink()
    (to / "0-atc.json").symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in again("miralin").output


def test_an_import_wants_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDS_CONTENT_DIR", raising=False)
    csv = tmp_path / "atc.csv"
    csv.write_text("atc_code,atc_name\nX01AA01,ibuprofen\n")
    result = CliRunner().invoke(main, ["atc", "import", str(csv)])
    assert "--to" in result.output
    assert result.exit_code != 0


@pytest.mark.parametrize("make", [lambda entry: [entry], lambda entry: "x", lambda entry: [7]])
def test_a_bundle_of_anything_else_is_a_fault(tmp_path: Path, make: Callable[[Any], Any]) -> None:
    bundle = {"resourceType": "Bundle", "entry": make({"resource": {"resourceType": "Patient"}})}
    (tmp_path / "own.json").write_text(json.dumps(bundle))
    if bundle["entry"] == "x":
        load_content(tmp_path)  # no entries
    else:
        with pytest.raises(Exception, match="not a FHIR ValueSet"):
            load_content(tmp_path)
