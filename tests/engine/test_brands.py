"""Brands and products: each leads to every ingredient, and is told on each hook (P20 to P23)."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.content.codes import CodeSet
from cds_service.content.compiled import Content
from cds_service.content.schema import IN_PART, VALUE_SET
from cds_service.settings import Settings
from tests.support.brands import BRANDS
from tests.support.calls import fire
from tests.support.mothers import (
    NOW,
    birth,
    cards_of,
    hook_request,
    medicine,
    observation,
    plan,
    why,
)
from tests.support.orders import draft, order_request

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"


EACH = [(name, set(ids)) for ids, names in BRANDS.items() for name in names]


def coded(code: str, system: str = RXNORM) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def texted(text: str) -> dict[str, Any]:
    return {"text": text}


def told_of(content: Content, concept: dict[str, Any]) -> set[str]:
    """All that a concept is said to be on the card of what she takes."""
    taken = medicine(medicationCodeableConcept=concept)
    card = cards_of(content, birth(12 * 24), plan("nurse"), taken)["medicines-and-milk"]
    return {entry["value"] for entry in why(card)["because"]}


@pytest.mark.parametrize("form", ["{}", "{} tablet", "{} 10 mg oral"])
def test_each_brand_leads_to_every_ingredient_and_to_nothing_else(
    content: Content, form: str
) -> None:
    for name, ids in EACH:
        assert told_of(content, texted(form.format(name))) == ids, name


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Loestrin Fe 1.5/30 (28) tablet", {"combined-contraceptive"}),
        ("Loestrin 24 Fe", {"combined-contraceptive"}),
        ("Junel Fe 1/20", {"combined-contraceptive"}),
        ("NuvaRing 0.12-0.015 mg/24 hr vaginal ring", {"combined-contraceptive"}),
        ("Microgynon 30", {"combined-contraceptive"}),
        ("Tussionex Pennkinetic ER suspension", {"hydrocodone", "chlorpheniramine"}),
        ("Robitussin-AC 100-10 mg/5 mL syrup", {"codeine", "guaifenesin"}),
        ("co-codamol 30/500 tablets", {"codeine", "acetaminophen"}),
        ("Premarin 0.625 mg tablet", {"conjugated-estrogens"}),
        ("estrogens, conjugated 0.625 mg oral tablet", {"conjugated-estrogens"}),
        ("Mucinex D 12 hr 600-60 mg", {"guaifenesin", "pseudoephedrine"}),
        ("Advil Cold & Sinus Liqui-Gels", {"ibuprofen", "pseudoephedrine"}),
        ("Tylenol PM Extra Strength", {"acetaminophen", "diphenhydramine"}),
        ("Excedrin Extra Strength", {"acetaminophen", "aspirin", "caffeine"}),
        ("Aspirin Complex Granulat", {"aspirin", "pseudoephedrine"}),
    ],
)
def test_a_brand_is_known_as_it_is_usually_written(
    content: Content, text: str, ids: set[str]
) -> None:
    assert told_of(content, texted(text)) == ids


# A kind of a brand that is not known is told, and not taken for the brand.
@pytest.mark.parametrize(
    ("text", "left"), [("NyQuil Severe", "severe"), ("Excedrin PM", "pm"), ("Mucinex DM", "dm")]
)
def test_what_a_kind_of_a_brand_adds_is_told(content: Content, text: str, left: str) -> None:
    taken = medicine(medicationCodeableConcept=texted(text))
    card = cards_of(content, birth(12 * 24), plan("nurse"), taken)["medicines-and-milk"]
    assert f"not identified: {left})" in card["detail"]


# --- product codes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "ids"),
    [
        ("993781", {"acetaminophen", "codeine"}),
        ("1664543", {"chlorpheniramine", "codeine"}),
        ("1087459", {"chlorpheniramine", "hydrocodone"}),
        ("1431286", {"acetaminophen", "butalbital", "caffeine", "codeine"}),
        ("1089055", {"codeine", "guaifenesin", "pseudoephedrine"}),
        ("1092398", {"aspirin", "diphenhydramine"}),
    ],
)
def test_a_product_code_alone_tells_every_ingredient(
    content: Content, code: str, ids: set[str]
) -> None:
    assert told_of(content, coded(code)) == ids


def test_a_product_of_which_more_is_in_it_is_told_in_part_by_its_code(content: Content) -> None:
    """Carisoprodol is no medicine of the list: aspirin and codeine are, and more is said to be."""
    assert {"aspirin", "codeine"} < told_of(content, coded("994226"))
    taken = medicine(medicationCodeableConcept=coded("994226"))
    card = cards_of(content, birth(12 * 24), plan("nurse"), taken)["medicines-and-milk"]
    assert "another ingredient" in card["detail"]


def test_each_code_of_what_is_known_in_part_is_of_a_medicine(content: Content) -> None:
    known = [
        content.codes[f"{VALUE_SET}medicine-{each}"]
        for each in content.medicines
        if f"{VALUE_SET}medicine-{each}" in content.codes
    ]
    codes = {code for each in known for code in list(each)}
    in_part = content.codes.get(IN_PART, CodeSet())
    assert list(in_part)
    assert set(in_part) <= codes


# --- thirty of the kind, on each hook -----------------------------------------------------------

AVOID, ASK, LOWERS = "avoid", "ask-first", "lowers-supply"
# What is sent, the medicine that matters, and what it is: by code, by product code, by brand, in a
# second language, and in combination. ``None`` is what is silent while it is ordered.
KINDS: list[tuple[dict[str, Any], str, str | None]] = [
    (coded("2670"), "Codeine", AVOID),
    (coded("R05DA04", ATC), "Codeine", AVOID),
    (coded("993781"), "Codeine", AVOID),
    (coded("1664543"), "Codeine", AVOID),
    (texted("Cheratussin AC"), "Codeine", AVOID),
    (texted("Tuxarin ER 54.3-8 mg"), "Codeine", AVOID),
    (texted("co-codamol 8/500"), "Codeine", AVOID),
    (texted("Fioricet with codeine"), "Codeine", AVOID),
    (texted("tramadol 50 mg Filmtabletten"), "Tramadol", AVOID),
    (texted("Ultram 50 mg"), "Tramadol", AVOID),
    (texted("methotrexate 2.5 mg tablet"), "Methotrexate", AVOID),
    (texted("Trexall 5 mg"), "Methotrexate", AVOID),
    (texted("CellCept 500 mg"), "Mycophenolate", AVOID),
    (texted("Arava 20 mg"), "Leflunomide", AVOID),
    (texted("Cafergot"), "Ergotamine", AVOID),
    (texted("Premarin 0.3 mg"), "Conjugated estrogens", AVOID),
    (coded("1000351"), "Conjugated estrogens", AVOID),
    (texted("Nolvadex 20 mg"), "Tamoxifen", AVOID),
    (coded("N02AA05", ATC), "Oxycodone", None),
    (texted("paracetamol 500 mg Tabletten"), "Acetaminophen", None),
    (coded("5640"), "Ibuprofen", None),
    (texted("Mucinex D"), "Pseudoephedrine", LOWERS),
    (texted("Aleve-D"), "Pseudoephedrine", LOWERS),
    (texted("Claritin-D"), "Pseudoephedrine", LOWERS),
    (coded("1089055"), "Pseudoephedrine", LOWERS),
    (coded("R01BA02", ATC), "Pseudoephedrine", LOWERS),
    (texted("Aspirin Complex"), "Pseudoephedrine", LOWERS),
    (texted("cabergoline 0.5 mg"), "Cabergoline", LOWERS),
    (texted("Lipitor 20 mg"), "Atorvastatin", ASK),
    (coded("R05DA03", ATC), "Hydrocodone", None),
    (texted("Xanax 0.5 mg"), "Alprazolam", ASK),
    (texted("Esgic Plus"), "Butalbital", ASK),
]
CHART_HOOKS = ["patient-view", "encounter-start", "encounter-discharge"]
ORDER_HOOKS = ["order-select", "order-sign"]
OF_ORDERS = {AVOID: "order-avoid", ASK: "order-ask-first", LOWERS: "order-lowers-supply"}
OF_MEDICINES = {"medicines-and-milk", "medicines-going-home"}


def lost() -> list[dict[str, Any]]:
    return [birth(80), plan("nurse"), observation("infant-outcome", "died")]


@pytest.mark.parametrize("hook", CHART_HOOKS)
def test_thirty_of_the_kind_are_told_when_she_takes_them(
    client: FlaskClient, content: Content, valid: Any, hook: str
) -> None:
    assert len(KINDS) >= 30
    for concept, name, kind in KINDS:
        taken = medicine(medicationCodeableConcept=concept)
        request = hook_request(content, birth(80), plan("nurse"), taken, hook=hook)
        cards = fire(client, request, valid)
        said = [c for c in cards if c["source"]["topic"]["code"] in OF_MEDICINES]
        sedates = any("sedating" in m.effects for m in content.medicines.values() if m.name == name)
        if hook == "encounter-discharge" and kind is not AVOID and not sedates:
            continue  # what goes home with her is told where it is to be avoided, or sedates
        assert any(name in c["summary"] + c["detail"] for c in said), (hook, concept)
        if kind is AVOID:
            assert re.search(rf"{name}( and \d+ more)?: avoid", str(said)), (hook, concept)
            assert all(c["indicator"] == "warning" for c in said), (hook, concept)


@pytest.mark.parametrize("hook", ORDER_HOOKS)
def test_thirty_of_the_kind_are_told_when_they_are_ordered(
    client: FlaskClient, content: Content, valid: Any, hook: str
) -> None:
    for concept, name, kind in KINDS:
        order = draft("x", medicationCodeableConcept=concept)
        selections = ["MedicationRequest/draft-1"] if hook == "order-select" else None
        records = [birth(80), plan("nurse")]
        request = order_request(content, order, hook=hook, selections=selections, records=records)
        cards = {c["source"]["topic"]["code"]: c for c in fire(client, request, valid)}
        if kind is None:
            assert not [c for c in cards.values() if name in c["summary"]], (hook, concept)
        else:
            assert cards[OF_ORDERS[kind]]["summary"].startswith(name), (hook, concept)


@pytest.mark.parametrize("hook", [*CHART_HOOKS, *ORDER_HOOKS])
def test_after_a_loss_none_of_them_is_told_for_milk(
    client: FlaskClient, content: Content, valid: Any, hook: str
) -> None:
    for concept, _, _ in KINDS:
        if hook in CHART_HOOKS:
            taken = medicine(medicationCodeableConcept=concept)
            request = hook_request(content, *lost(), taken, hook=hook)
        else:
            order = draft("x", medicationCodeableConcept=concept)
            selections = ["MedicationRequest/draft-1"] if hook == "order-select" else None
            request = order_request(
                content, order, hook=hook, selections=selections, records=lost()
            )
        said = {c["source"]["topic"]["code"] for c in fire(client, request, valid)}
        assert said.isdisjoint({*OF_MEDICINES, *OF_ORDERS.values()}), (hook, concept, said)


# --- sixty medicines on one chart ---------------------------------------------------------------


def test_sixty_medicines_on_one_chart_are_told_at_once_and_in_thirty_seconds_of_reading(
    content: Content,
) -> None:
    """Of every band, with brands of several, and what nobody knows: the worst leads."""
    whole = [m.names[0] for m in content.medicines.values() if not m.whole_name_only]
    texts = [*whole[::6][:48], "Cheratussin AC", "Mucinex D", "Zorbalimab", "CellCept", "NuvaRing"]
    texts += [
        "Tylenol PM",
        "Excedrin",
        "Fiorinal",
        "Norco",
        "Percocet",
        "Premarin",
        "Foobarol 5 mg",
    ]
    assert len(texts) >= 60
    taken = [medicine(medicationCodeableConcept=texted(text)) for text in texts]
    client = create_app(Settings(auth="open"), content, lambda: NOW).test_client()
    request = hook_request(content, birth(80), plan("nurse"), *taken)
    client.post("/cds-services/lactation-patient-view", json=request)
    took = []
    for _ in range(5):
        before = time.process_time()
        answer = client.post("/cds-services/lactation-patient-view", json=request)
        took.append(time.process_time() - before)
    assert min(took) < 0.1  # s of work; seen: 0.008
    cards = {c["source"]["topic"]["code"]: c for c in answer.get_json()["cards"]}
    card = cards["medicines-and-milk"]
    assert ": avoid while she gives milk" in card["summary"]
    own = card["detail"].partition("\n\nNot shown, as less urgent")[0]
    words = re.findall(r"[^\W_]+", f"{card['summary']} {own}")
    assert len(words) <= 120
    assert "Others: " in card["detail"]
    assert "compatible" in card["detail"]
