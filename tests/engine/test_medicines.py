"""Medicines: recognised by ingredient, by product, by text; and LactMed for each (row R16)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cds_service.content.compiled import Content
from cds_service.content.files import ContentError
from cds_service.content.loader import load_content
from tests.support.brands import OF_SEVERAL_BRANDS
from tests.support.mothers import birth, cards_of, medicine, plan, why

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
SHIPPED = {
    "domperidone",
    "metoclopramide",
    "nicotine",
    "alcohol",
    "ibuprofen",
    "acetaminophen",
    "sertraline",
    "oxycodone",
    "labetalol",
    "nifedipine",
    "pseudoephedrine",
}


# Products that hold several medicines, and are a name of each.
OF_SEVERAL = OF_SEVERAL_BRANDS | {
    "percocet",
    "cafergot",
    "nurofen plus",
    "claritin-d",
    "zyrtec-d",
    "allegra-d",
    "tylenol 3",
    *(f"tylenol no {number}" for number in (3, 4)),
    *(f"tylenol with codeine {no}{number}" for no in ("", "no ") for number in (3, 4)),
}


CODES_OF_SEVERAL = {(RXNORM, "993781"), (RXNORM, "993890")}  # paracetamol with codeine


def concept(*codes: str, text: str | None = None, system: str = RXNORM) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if codes:
        made["coding"] = [{"system": system, "code": code} for code in codes]
    if text:
        made["text"] = text
    return made


def card_for(content: Content, *medicines: dict[str, Any]) -> dict[str, Any] | None:
    return cards_of(content, birth(12 * 24), plan("nurse"), *medicines).get("medicines-and-milk")


def listed(content: Content, *medicines: dict[str, Any]) -> list[tuple[str, str]]:
    card = card_for(content, *medicines)
    return [(e["value"], e["matched"]) for e in why(card)["because"]] if card else []


def test_the_medicines_that_were_promised_are_shipped(content: Content) -> None:
    assert len(content.medicines) >= 300
    for name in SHIPPED:
        assert any(code.kind == "ingredient" for code in content.medicines[name].codes)
        assert content.medicines[name].reading.line


def test_no_two_medicines_share_a_record_a_code_or_a_name(content: Content) -> None:
    """One written twice would be shown twice; a shared name is a wrong match for one of them."""
    records, codes, names = [], [], []
    for medicine_ in content.medicines.values():
        if medicine_.lactmed is not None:
            records.append(medicine_.lactmed.id)
        own = [(code.system, code.code) for code in medicine_.codes]
        codes += [code for code in own if code not in CODES_OF_SEVERAL]
        names += [name.lower() for name in medicine_.names if name.lower() not in OF_SEVERAL]
    assert sorted(set(records)) == sorted(records)
    assert sorted(set(codes)) == sorted(codes)
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(("_", "code"), sorted(CODES_OF_SEVERAL))
def test_a_product_code_alone_tells_each_of_its_ingredients(
    content: Content, _: str, code: str
) -> None:
    ids = [name for name, _ in listed(content, medicine(medicationCodeableConcept=concept(code)))]
    assert sorted(ids) == ["acetaminophen", "codeine"]


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_by_ingredient_with_its_record(content: Content, name: str) -> None:
    shipped = content.medicines[name]
    code = next(code.code for code in shipped.codes if code.kind == "ingredient")
    card = card_for(content, medicine(medicationCodeableConcept=concept(code)))
    assert card is not None
    url = f"https://www.ncbi.nlm.nih.gov/books/n/lactmed/{shipped.lactmed.id}/"
    assert url in [link["url"] for link in card["links"]]
    assert shipped.lactmed.id in card["detail"]
    label = f"LactMed: {shipped.name}, revised {shipped.lactmed.revised}"
    assert {"label": label, "url": shipped.lactmed.url, "type": "absolute"} in card["links"]
    assert "by name" not in card["detail"]


def test_by_a_product_mapped_to_it(content: Content) -> None:
    assert listed(content, medicine(medicationCodeableConcept=concept("197805"))) == [
        ("ibuprofen", "code")
    ]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Ibuprofen 400 mg tablet", ["ibuprofen"]),
        ("IBUPROFEN", ["ibuprofen"]),
        ("Cabergolin 0,5 mg Tabletten", ["cabergoline"]),
        ("DOMPERIDON 10 mg Filmtabletten", ["domperidone"]),
        ("Avian", ["Avian"]),  # Aviane is a brand
        ("paracetamol 500mg", ["acetaminophen"]),
        ("Percocet 5/325", ["acetaminophen", "oxycodone"]),
        ("oxycodone-acetaminophen", ["oxycodone", "acetaminophen"]),
        (
            "Amoxicillin 875 mg / clavulanate 125 mg",
            ["amoxicillin", "amoxicillin-and-clavulanic-acid"],
        ),
        ("amoxicillin and clavulanic acid 875/125", ["amoxicillin-and-clavulanic-acid"]),
        (
            "ethinyl estradiol 0.03 MG / levonorgestrel 0.15 MG Oral Tablet",
            ["combined-contraceptive"],
        ),
        ("estradiol patch", ["estradiol"]),
        ("Insulin", ["insulin"]),
        ("insulin pen needle", ["insulin pen needle"]),
        ("levonorgestrel 52 mg", ["levonorgestrel 52 mg"]),
        ("St. John's Wort 300 mg", ["st-johns-wort"]),
        ("alcohol swab", ["alcohol swab"]),
        ("methylnicotine", ["methylnicotine"]),
        ("Sudafed PE 10 mg tablet", ["phenylephrine"]),
        ("Sudafed 30 mg tablet", ["pseudoephedrine"]),
        ("Annovera ring", ["combined-contraceptive"]),
        ("Junel 1 mg tablet", ["combined-contraceptive"]),
        ("Otrexup 15 mg", ["methotrexate"]),
        ("Rasuvo 10 mg", ["methotrexate"]),
        ("Adderall XR 20 mg", ["amphetamine"]),
    ],
)
def test_by_text_alone_it_says_so(content: Content, text: str, ids: list[str]) -> None:
    found = listed(content, medicine(medicationCodeableConcept=concept(text=text)))
    assert sorted(name for name, _ in found) == sorted(ids)
    assert all(how in ("name", "none") for _, how in found)


def test_a_code_decides_over_a_text_that_says_otherwise(content: Content) -> None:
    taken = medicine(medicationCodeableConcept=concept("5640", text="acetaminophen"))
    assert listed(content, taken) == [("ibuprofen", "code")]


def test_an_ingredient_code_of_another_system_is_no_match(content: Content) -> None:
    taken = medicine(medicationCodeableConcept=concept("5640", system="urn:local", text="Foo"))
    assert listed(content, taken) == [("Foo", "none")]


def test_an_unknown_medicine_has_the_search_by_its_name(content: Content) -> None:
    card = card_for(content, medicine(medicationCodeableConcept=concept(text="Trastuzumab 600 mg")))
    assert card is not None
    assert "https://www.ncbi.nlm.nih.gov/books/NBK501922/?term=Trastuzumab+600+mg" in [
        link["url"] for link in card["links"]
    ]
    assert "Not in our list" in card["detail"]
    assert "not read for milk" in card["summary"]


def test_a_name_cannot_break_the_line_or_become_a_link(content: Content) -> None:
    name = "A | B [x](http://evil.example) <img> `c`\nd"
    card = card_for(content, medicine(medicationCodeableConcept=concept(text=name)))
    assert card is not None
    row = next(line for line in card["detail"].splitlines() if "evil" in line)
    assert row == "Not in our list, look up by name: A B x http: evil. example img c d."
    assert "](http://evil" not in row
    assert "<img>" not in card["detail"]


def test_a_medication_by_reference_and_one_contained(content: Content) -> None:
    contained = medicine(
        contained=[{"resourceType": "Medication", "id": "m", "code": concept("36437")}],
        medicationReference={"reference": "#m"},
    )
    named = medicine(
        kind="MedicationStatement",
        medicationReference={"reference": "Medication/unknown", "display": "Labetalol 100 mg"},
    )
    assert listed(content, contained, named) == [("labetalol", "name"), ("sertraline", "code")]


@pytest.mark.parametrize("status", ["stopped", "completed", "entered-in-error", "on-hold"])
def test_only_those_that_may_be_active_are_listed(content: Content, status: str) -> None:
    taken = medicine(medicationCodeableConcept=concept("5640")) | {"status": status}
    assert listed(content, taken) == []


@pytest.mark.parametrize("kind", ["MedicationRequest", "MedicationStatement"])
@pytest.mark.parametrize("status", [{"status": "unknown"}, {"status": None}, {"status": 7}, {}])
def test_one_of_which_nobody_says_whether_she_takes_it_is_listed(
    content: Content, kind: str, status: dict[str, Any]
) -> None:
    taken = medicine(kind, medicationCodeableConcept=concept("5640"))
    del taken["status"]
    assert listed(content, taken | status) == listed(
        content, medicine(kind, medicationCodeableConcept=concept("5640"))
    )


def test_one_medicine_twice_is_one_row(content: Content) -> None:
    taken = [medicine(medicationCodeableConcept=concept("5640")) for _ in range(2)]
    taken.append(medicine("MedicationStatement", medicationCodeableConcept=concept(text="Advil")))
    assert listed(content, *taken) == [("ibuprofen", "code")]


def test_one_that_lowers_supply_comes_first_as_a_warning(content: Content) -> None:
    card = card_for(
        content,
        medicine(medicationCodeableConcept=concept("5640")),
        medicine(medicationCodeableConcept=concept("8896")),
    )
    assert card is not None
    assert card["indicator"] == "warning"
    assert card["summary"] == "Pseudoephedrine may lower her milk supply"
    assert card["detail"].startswith("- Pseudoephedrine: Lowers supply")
    assert "LactMed names oxymetazoline instead." in card["detail"]


def test_the_headline_warns_of_each_effect_once(content: Content) -> None:
    """A headline is a warning and no list: who sedates, too, and how many more there are."""
    names = ["oxycodone", "pseudoephedrine", "phenylephrine", "ibuprofen"]
    taken = [medicine(medicationCodeableConcept=concept(text=name)) for name in names]
    card = card_for(content, *taken)
    assert card is not None
    assert card["summary"] == (
        "Phenylephrine and 1 more may lower her milk supply; "
        "Oxycodone can sedate: watch the infant's breathing"
    )


def test_many_medicines_are_not_all_said_at_length(content: Content) -> None:
    read = [m for m in content.medicines.values() if m.readings and not m.whole_name_only]
    taken = [medicine(medicationCodeableConcept=concept(text=m.names[0])) for m in read[:20]]
    card = card_for(content, *taken)
    assert card is not None
    named = [m.name for m in read[:20] if m.name in card["detail"]]
    assert len(named) <= 5
    (others,) = re.findall(r"Others: (.*)\.", card["detail"])
    assert sum(int(count) for count in re.findall(r"\d+", others)) == 20 - 5


@pytest.mark.parametrize(
    "name", ["cabergoline", "Parlodel 2.5 mg", "Climara", "aripiprazole 5 mg", "phenylephrine"]
)
def test_what_else_lowers_supply_is_a_warning(content: Content, name: str) -> None:
    card = card_for(content, medicine(medicationCodeableConcept=concept(text=name)))
    assert card is not None
    assert card["indicator"] == "warning"
    assert "may lower her milk supply" in card["summary"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Adderall 10 mg", "ask before she goes on with it"),
        ("rosuvastatin 10 mg", "ask before she goes on with it"),
        ("vitamin D3 50 mcg capsule", "compatible with breastfeeding"),
        ("simvastatin 20 mg tablet", "ask before she goes on with it"),
        ("lanolin cream", "compatible with breastfeeding"),
        ("Otrexup 15 mg", "avoid while she gives milk"),
        ("Annovera ring", "avoid while she gives milk"),  # 12 days after birth: clots
    ],
)
def test_what_was_read_is_said_of_a_name_as_written(content: Content, name: str, says: str) -> None:
    card = card_for(content, medicine(medicationCodeableConcept=concept(text=name)))
    assert card is not None
    assert says in card["summary"]


def test_one_that_is_not_read_is_said_to_be_so_and_never_compatible(content: Content) -> None:
    unread = next(m for m in content.medicines.values() if not m.readings)
    taken = [medicine(medicationCodeableConcept=concept(text=n)) for n in (unread.name, "Advil")]
    card = card_for(content, *taken)
    assert card is not None
    assert card["indicator"] == "info"
    assert card["summary"] == f"{unread.name}: not read for milk, look it up"
    assert f"Not read, look up: {unread.name} (by name)." in card["detail"]
    assert unread.lactmed.url in [link["url"] for link in card["links"]]


@pytest.mark.parametrize(
    "odd", [{}, {"medicationCodeableConcept": 3}, {"medicationReference": "x"}]
)
def test_a_medicine_that_says_nothing_is_still_counted(
    content: Content, odd: dict[str, Any]
) -> None:
    assert listed(content, medicine(**odd)) == [("A medicine without a name", "none")]


def test_a_name_of_two_records_shows_both_and_says_so(content: Content) -> None:
    card = card_for(content, medicine(medicationCodeableConcept=concept(text="Percocet 5/325")))
    assert card is not None
    assert "Acetaminophen (by name, one of 2 records that match)" in card["detail"]
    assert "Oxycodone (by name, one of 2 records that match)" in card["detail"]


def test_a_code_of_two_records_shows_both_and_says_so(content: Content, tmp_path: Path) -> None:
    code = f'{{system: "{RXNORM}", code: "x", kind: product, verified: here}}'
    (tmp_path / "own.yaml").write_text(
        f"medicines: [{{id: ibuprofen, codes: [{code}]}}, {{id: labetalol, codes: [{code}]}}]"
    )
    taken = medicine(medicationCodeableConcept=concept("x"))
    card = card_for(load_content(tmp_path), taken)
    assert card is not None
    assert "Ibuprofen (one of 2 records that match)" in card["detail"]
    assert "Labetalol (one of 2 records that match)" in card["detail"]


@pytest.mark.parametrize(
    ("system", "code", "found"),
    [
        ("http://www.whocc.no/atc", "N02BE01", "acetaminophen"),
        ("http://www.whocc.no/atc", "G02CB01", "bromocriptine"),
        ("http://www.whocc.no/atc", "N06AB06", "sertraline"),
        (RXNORM, "197361", "amlodipine"),  # a product
        (RXNORM, "854901", "bisoprolol"),
    ],
)
def test_by_atc_and_by_product(content: Content, system: str, code: str, found: str) -> None:
    taken = medicine(medicationCodeableConcept=concept(code, system=system))
    assert listed(content, taken) == [(found, "code")]


def test_most_shipped_medicines_have_a_code(content: Content) -> None:
    with_code = [m for m in content.medicines.values() if m.codes]
    assert len(with_code) >= 250


def test_a_hospitals_own_code_of_a_medicine_is_one_more_value_set(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(
        json.dumps(
            {
                "resourceType": "ValueSet",
                "url": "urn:lactation-cds:value-set:medicine-sertraline",
                "status": "active",
                "compose": {"include": [{"system": "urn:h", "concept": [{"code": "S50"}]}]},
            }
        )
    )
    taken = medicine(medicationCodeableConcept=concept("S50", system="urn:h"))
    assert listed(load_content(tmp_path), taken) == [("sertraline", "code")]


READING = "line: x, source: lactmed, revised: 2026-01-01, read-as: full-text"


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        ("{band: avoid}", "a band needs line, source, revised, read-as"),
        (f"{{band: watch, {READING.replace('source: lactmed, ', '')}}}", "a band needs source"),
        ("{band: not-read, line: x}", "what is not read has no line"),
        ("{line: x}", "what is not read has no line"),
        (f"{{band: safe, {READING}}}", "Input should be 'avoid'"),
        (f"{{band: avoid, {READING.replace('lactmed', 'nowhere')}}}", "there is no 'nowhere'"),
        (f"{{band: avoid, {READING.replace(': x', ': ' + 'x' * 171)}}}", "at most 170"),
        (
            f"{{band: avoid, {READING}, worse: {{band: watch, when: {{finding: newborn}}}}}}",
            "'watch' is not worse than 'avoid'",
        ),
        (
            f"{{band: watch, {READING}, worse: {{band: avoid, when: {{finding: nothing}}}}}}",
            "there is no finding 'nothing'",
        ),
    ],
)
def test_a_reading_without_what_it_rests_on_is_a_fault(
    tmp_path: Path, reading: str, reason: str
) -> None:
    """One for every country, and one for a single country: both are told."""
    (tmp_path / "own.yaml").write_text(
        f"medicines:\n- {{id: ibuprofen, reading: {reading}}}\n"
        f"- {{id: sertraline, reading-in: {{US: {reading}}}}}\n"
    )
    with pytest.raises(ContentError) as caught:
        load_content(tmp_path)
    for name in ("ibuprofen", "sertraline"):
        told = [str(fault) for fault in caught.value.faults if f" {name}: " in str(fault)]
        assert any(reason in line for line in told), (name, caught.value.faults)


STOPPING_HARMS = {
    "lithium",
    "lamotrigine",
    "levetiracetam",
    "valproic-acid",
    "divalproex",
    "phenytoin",
    "carbamazepine",
    "phenobarbital",
    "topiramate",
    "gabapentin",
    "aripiprazole",
    "quetiapine",
    "olanzapine",
    "clozapine",
    "buprenorphine",
    "methadone",
}


def test_where_stopping_can_harm_her_the_line_begins_with_do_not_stop_it(content: Content) -> None:
    for name in STOPPING_HARMS:
        for reading in content.medicines[name].readings:
            assert str(reading.line).startswith("Do not stop it"), name


def test_at_least_120_medicines_are_read_and_each_says_where_and_when(content: Content) -> None:
    read = [m for m in content.medicines.values() if m.readings]
    assert len(read) >= 120
    for medicine_ in read:
        for reading in medicine_.readings:
            if reading.source == "lactmed":
                assert reading.revised == medicine_.lactmed.revised, medicine_.id
                assert "record text" in medicine_.verified, medicine_.id


def test_a_regulators_reading_links_to_it_and_to_the_record(content: Content) -> None:
    card = card_for(content, medicine(medicationCodeableConcept=concept(text="codeine 30 mg")))
    assert card is not None
    urls = [link["url"] for link in card["links"]]
    assert "https://www.fda.gov/Drugs/DrugSafety/ucm549679.htm" in urls
    assert content.medicines["codeine"].lactmed.url in urls
    assert why(card)["because"][0]["band"] == "avoid"


def test_many_that_nobody_has_read_are_named_in_part_and_counted(content: Content) -> None:
    unread = [m for m in content.medicines.values() if not m.readings][:9]
    taken = [medicine(medicationCodeableConcept=concept(text=m.names[0])) for m in unread]
    card = card_for(content, *taken)
    assert card is not None
    assert "and 8 more: not read for milk, look it up" in card["summary"]
    assert " and 4 more." in card["detail"]
    assert "ompatible" not in card["summary"] + card["detail"]


IN_PART = [
    ("Acetaminophen #3", "3"),
    ("Tylenol 2", "2"),
    ("Motrin PM", "pm"),
    ("Tylenol Sinus", "sinus"),
    ("Advil Allergy Sinus", "allergy sinus"),
    ("Motrin IB Sinus", "sinus"),
    ("Loratadine-D", "d"),
    ("dihydroxoergotamine-caffeine", "dihydroxoergotamine"),
    ("amlodipine-olmesartan 5/20 mg", "olmesartan"),
    ("misoprostol-mifepristone", "mifepristone"),
    ("ezetimibe-simvastatin", "ezetimibe"),
    ("chlordiazepoxide-amitriptyline 5-12.5 mg tablet", "chlordiazepoxide"),
    ("Labetalol HCT 200 mg", "hct"),
]


@pytest.mark.parametrize(("name", "left"), IN_PART)
def test_what_is_understood_in_part_is_not_called_compatible(
    content: Content, name: str, left: str
) -> None:
    card = card_for(content, medicine(medicationCodeableConcept=concept(text=name)))
    assert card is not None
    assert f"not identified: {left})" in card["detail"]
    assert "read in part: " in card["detail"]
    assert "not read for milk" in card["summary"]
    assert "ompatible" not in card["summary"] + card["detail"]
    assert "good choice" not in card["detail"]


@given(word=st.from_regex(r"[a-z]{3,9}", fullmatch=True))
@settings(max_examples=60, deadline=None)
def test_a_word_that_nobody_knows_is_told(content: Content, word: str) -> None:
    known = {w for each in content.name_words.values() for w in (*each.words, *each.counting)}
    known |= {w for each in content.name_words.values() for w in each.units}
    known |= {name.lower() for m in content.medicines.values() for name in m.names}
    assume(word not in known)
    card = card_for(content, medicine(medicationCodeableConcept=concept(text=f"Ibuprofen {word}")))
    assert card is not None
    assert f"not identified: {word})" in card["detail"]


WRITTEN = [
    "{}",
    "{} 400 mg tablet",
    "{} 50 MG Oral Tablet",
    "{} 500 mg capsule PO",
    "{} sodium 75 mcg",
    "{} ER 450 mg BID",
    "{} hydrochloride 2.5 mg/5 mL oral solution",
    "take 2 tablets of {} 10 mg by mouth every 4-6 hours as needed",
    "acetaminophen 5 MG Extended Release Oral Tablet [{}]",
]


@pytest.mark.parametrize("form", WRITTEN)
def test_every_name_is_understood_as_it_is_usually_written(content: Content, form: str) -> None:
    names = [name for m in content.medicines.values() if not m.whole_name_only for name in m.names]
    for some in range(0, len(names), 40):
        texts = [form.format(name) for name in names[some : some + 40]]
        taken = [medicine(medicationCodeableConcept=concept(text=text)) for text in texts]
        assert [name for name, how in listed(content, *taken) if how == "none"] == []


def test_what_is_understood_elsewhere_in_her_record_is_said_as_it_was_read(
    content: Content,
) -> None:
    """She takes plain paracetamol too: that is compatible, and the other is still not known."""
    taken = [medicine(medicationCodeableConcept=concept(text=t)) for t in ("Tylenol", "Tylenol ES")]
    card = card_for(content, *taken)
    assert card is not None
    assert "Acetaminophen (by name): A good choice" in card["detail"]
    assert "not identified: es)" in card["detail"]
    assert "not read for milk" in card["summary"]


def test_an_ingredient_that_is_not_known_is_not_passed_over(content: Content) -> None:
    """A Medication of an ingredient that is known and one that is not is not that one alone."""
    ingredients = [{"itemCodeableConcept": concept(text=t)} for t in ("ibuprofen", "Foobarol")]
    made = {"resourceType": "Medication", "id": "m", "code": {"text": "X"}}
    made |= {"ingredient": ingredients}
    taken = medicine(contained=[made], medicationReference={"reference": "#m"})
    assert ("Foobarol", "none") in listed(content, taken)
    card = card_for(content, taken)
    assert card is not None
    assert "preferred choice" not in card["detail"]
    assert "ompatible" not in card["summary"]


@pytest.mark.parametrize(
    "text", ["lithium", "lithium 300 mg BID", "Lithium ER 450 mg", "Lithobid 300 mg", "Eskalith"]
)
def test_lithium_by_its_own_name(content: Content, text: str) -> None:
    card = card_for(content, medicine(medicationCodeableConcept=concept(text=text)))
    assert card is not None
    assert card["summary"] == "Lithium: ask before she goes on with it"


def test_no_order_is_told_not_to_be_stopped(content: Content) -> None:
    """Where an order card would say "do not stop it", there are words for an order."""
    for medicine_ in content.medicines.values():
        for reading in medicine_.readings:
            bands = {reading.band, reading.worse.band if reading.worse else None}
            has_card = bands & {"avoid", "ask-first"} or "lowers-supply" in medicine_.effects
            if has_card and "not stop it" in str(reading.line):
                assert reading.ordered, medicine_.id
            assert "stop it" not in str(reading.ordered), medicine_.id


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("Cafergot", "Ergotamine: avoid while she gives milk"),
        ("ergotamine-caffeine 1-100 mg", "Ergotamine: avoid while she gives milk"),
        ("Accutane 20 mg", "Isotretinoin: avoid while she gives milk"),
        ("CellCept 500 mg", "Mycophenolate: avoid while she gives milk"),
        ("leflunomide 20 mg", "Leflunomide: avoid while she gives milk"),
        ("tamoxifen 20 mg", "Tamoxifen: avoid while she gives milk"),
        ("Adriamycin", "Doxorubicin: avoid while she gives milk"),
        ("Radioactive iodine (I-131)", "Radioiodine (iodine 131): avoid while she gives milk"),
        ("Trexall 5 mg", "Methotrexate: avoid while she gives milk"),
        ("Rheumatrex", "Methotrexate: avoid while she gives milk"),
        ("warfarin 5 mg", "Warfarin: compatible with breastfeeding"),
        ("Ibuprofen 400 mg Filmtabletten", "Ibuprofen: compatible with breastfeeding"),
    ],
)
def test_what_is_harmful_or_common_is_known(content: Content, text: str, summary: str) -> None:
    card = card_for(content, medicine(medicationCodeableConcept=concept(text=text)))
    assert card is not None
    assert card["summary"].startswith(summary)
    assert "not identified" not in card["detail"]


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        ("161", "Tylenol #3", {"acetaminophen": "code", "codeine": "name"}),
        ("161", "Tylenol 325 mg tablet", {"acetaminophen": "code"}),
        ("161", "acetaminophen 325 mg with ibuprofen", {"acetaminophen": "code"}),
        ("161", "oxycodone-acetaminophen", {"acetaminophen": "code", "oxycodone": "name"}),
        ("36437", "sertraline (Zoloft)", {"sertraline": "code"}),
    ],
)
def test_a_code_does_not_hide_a_worse_medicine_that_the_text_names(
    content: Content, code: str, text: str, found: dict[str, str]
) -> None:
    card = card_for(content, medicine(medicationCodeableConcept=concept(code, text=text)))
    assert {entry["value"]: entry["matched"] for entry in why(card or {})["because"]} == found


def test_a_medicine_without_a_record_is_told_by_what_it_was_read_in(content: Content) -> None:
    taken = medicine(medicationCodeableConcept=concept(text="Premarin 0.625 mg"))
    card = card_for(content, taken)
    assert card is not None
    assert card["summary"].startswith("Conjugated estrogens: avoid while she gives milk")
    links = {link["label"]: link["url"] for link in card["links"]}
    assert (
        "https://www.pfizermedicalinformation.com/en-us/premarin/population-use" in links.values()
    )
    search = "https://www.ncbi.nlm.nih.gov/books/NBK501922/?term=Conjugated+estrogens"
    assert search in links.values()


def test_a_reading_of_a_record_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    reading = "{band: watch, line: x, source: lactmed, revised: 2026-01-01, read-as: summary}"
    (tmp_path / "own.yaml").write_text(
        f"medicines: [{{id: conjugated-estrogens, reading: {reading}}}]"
    )
    with pytest.raises(ContentError, match="and it has no LactMed record"):
        load_content(tmp_path)
