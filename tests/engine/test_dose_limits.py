"""Dose, length and licence by country (P24): who is quoted where, and what is said without data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.content.files import ContentError
from cds_service.content.loader import load_content
from cds_service.settings import Settings
from tests.support.mothers import (
    CLEAR,
    NONE_KNOWN,
    NOW,
    average,
    birth,
    cards_of,
    medicine,
    plan,
    without_response,
)
from tests.support.orders import draft, order_request

COUNTRIES = ["US", "GB", "DE", "IE", "FR", "CA", "AU", "NZ", "CH", "IN"]
OF_A_COUNTRY = {
    "US": re.compile(r"FDA|Food and Drug|boxed warning|12 weeks"),
    "GB": re.compile(r"MHRA|Medicines and Healthcare products"),
    "DE": re.compile(r"EMA|European Medicines Agency"),
}
SAME = {"IE": "DE", "FR": "DE"}


def told(value: Any) -> str:
    """All that a person reads of cards: words, and the names of links."""
    if isinstance(value, dict):
        return " ".join(
            told(each) for name, each in value.items() if name not in ("url", "extension", "uuid")
        )
    if isinstance(value, list):
        return " ".join(told(each) for each in value)
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize("country", COUNTRIES)
@pytest.mark.parametrize("name", ["metoclopramide", "domperidone"])
def test_a_regulator_is_quoted_only_where_it_has_a_say(
    content: Content, country: str, name: str
) -> None:
    own = medicine(medicationCodeableConcept={"text": name})
    said = [
        told(list(cards_of(content, birth(80), plan("nurse"), own, jurisdiction=country).values())),
        told(
            cards_of(content, *without_response(**CLEAR), NONE_KNOWN, jurisdiction=country)[
                "galactagogue-options"
            ]
        ),
    ]
    app = create_app(Settings(auth="open", jurisdiction=country), content, lambda: NOW)
    request = order_request(content, draft(name), records=average())
    answer = app.test_client().post("/cds-services/lactation-order-sign", json=request)
    said.append(told(answer.get_json()["cards"]))
    here = SAME.get(country, country)
    for text in said:
        for of, quoted in OF_A_COUNTRY.items():
            assert bool(quoted.search(text)) == (of == here), (of, text)
        unknown = f"Dose and length in {country}: not in our list."
        assert (unknown in text) == (here not in OF_A_COUNTRY)


def test_a_medicine_without_limits_anywhere_says_nothing_of_them(content: Content) -> None:
    own = medicine(medicationCodeableConcept={"text": "ibuprofen"})
    cards = cards_of(content, birth(80), plan("nurse"), own, jurisdiction="NZ")
    assert "Dose and length" not in told(list(cards.values()))


def test_a_hospital_gives_the_limits_of_its_country(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        """
medicines:
  - id: metoclopramide
    limits: [{countries: [NZ], line: At most 3 days by our formulary., source: ours}]
evidence:
  - {id: ours, authors: Pharmacy, source: formulary, year: 2026, says: this, verified: ours}
"""
    )
    own = medicine(medicationCodeableConcept={"text": "metoclopramide"})
    content = load_content(tmp_path)
    cards = cards_of(content, birth(80), plan("nurse"), own, jurisdiction="NZ")
    assert "At most 3 days by our formulary." in cards["medicines-and-milk"]["detail"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ("{countries: [NZ], line: x, source: nowhere}", "there is no 'nowhere' in evidence"),
        ("{countries: [], line: x, source: lactmed-metoclopramide}", "countries"),
        ("{countries: [nz], line: x, source: lactmed-metoclopramide}", "countries"),
        (
            "{countries: [NZ, NZ], line: x, source: lactmed-metoclopramide}",
            "its limits in NZ are given twice",
        ),
    ],
)
def test_limits_that_cannot_be_meant_are_a_fault(tmp_path: Path, limits: str, reason: str) -> None:
    (tmp_path / "own.yaml").write_text(f"medicines: [{{id: metoclopramide, limits: [{limits}]}}]")
    with pytest.raises(ContentError, match=re.escape(reason)):
        load_content(tmp_path)


# --- an order that is for more ------------------------------------------------------------------

TABLET = {"value": 1, "unit": "tablet"}


def dosage(dose: Any, repeat: Any = None, **members: Any) -> dict[str, Any]:
    """A dosageInstruction of one dose in mg, three times a day if nothing else is said."""
    quantity = dose if isinstance(dose, dict) else {"value": dose, "unit": "mg", "code": "mg"}
    rhythm = {"frequency": 3, "period": 1, "periodUnit": "d"} if repeat is None else repeat
    return {"doseAndRate": [{"doseQuantity": quantity}], "timing": {"repeat": rhythm}, **members}


def length(value: float, unit: str = "d") -> dict[str, Any]:
    bounds = {"value": value, "unit": unit, "code": unit}
    return {"frequency": 3, "period": 1, "periodUnit": "d", "boundsDuration": bounds}


def said_of_an_order(
    content: Content, country: str, name: str, *instructions: Any, **more: Any
) -> str:
    """All that is told of an order with these instructions."""
    app = create_app(Settings(auth="open", jurisdiction=country), content, lambda: NOW)
    order = draft(name, dosageInstruction=list(instructions), **more)
    request = order_request(content, order, records=average())
    answer = app.test_client().post("/cds-services/lactation-order-sign", json=request)
    assert answer.status_code == 200
    return told(answer.get_json()["cards"])


@pytest.mark.parametrize(
    ("country", "name", "instruction", "more"),
    [
        ("GB", "metoclopramide", dosage(15), "45 mg a day"),
        ("GB", "metoclopramide", dosage(10, length(14)), "14 days"),
        ("GB", "metoclopramide", dosage(20, length(2, "wk")), "60 mg a day, 14 days"),
        (
            "DE",
            "metoclopramide",
            dosage(10, {"frequency": 1, "period": 6, "periodUnit": "h"}),
            "40 mg a day",
        ),
        ("GB", "domperidone", dosage({"value": 0.02, "unit": "g"}), "60 mg a day"),
        ("FR", "domperidone", dosage(20), "60 mg a day"),
        ("US", "metoclopramide", dosage(10, length(13, "wk")), "91 days"),
        (
            "GB",
            "metoclopramide",
            {
                "doseAndRate": [{"doseRange": {"high": {"value": 20, "code": "mg"}}}],
                "timing": {"code": {"coding": [{"code": "TID"}]}},
            },
            "60 mg a day",
        ),
        (
            "GB",
            "metoclopramide",
            {
                "maxDosePerPeriod": {
                    "numerator": {"value": 40, "code": "mg"},
                    "denominator": {"value": 24, "code": "h"},
                }
            },
            "40 mg a day",
        ),
        (
            "GB",
            "metoclopramide",
            dosage(10, {"boundsPeriod": {"start": "2026-03-01", "end": "2026-03-15T08:00:00Z"}}),
            "14 days",
        ),
    ],
)
def test_an_order_for_more_than_is_allowed_says_how_much(
    content: Content, country: str, name: str, instruction: Any, more: str
) -> None:
    text = said_of_an_order(content, country, name, instruction)
    assert f"This order is for more: {more}." in text
    assert f": check before you order it: {more}" in text


@pytest.mark.parametrize(
    ("country", "name", "instruction"),
    [
        ("GB", "metoclopramide", dosage(10, length(5))),
        ("GB", "domperidone", dosage(10, length(7))),
        ("NZ", "metoclopramide", dosage(50, length(60))),  # nobody looked it up there
        ("US", "metoclopramide", dosage(10, length(84))),
        ("US", "domperidone", dosage(30)),
        ("GB", "metoclopramide", dosage(TABLET | {"value": 20})),  # how much is in one is not said
        ("GB", "metoclopramide", dosage(10, {"frequency": 4})),
        ("GB", "metoclopramide", dosage(10, "often")),
        ("GB", "metoclopramide", dosage({"value": "99", "unit": "mg"})),
        ("GB", "metoclopramide", dosage({"value": True, "unit": "mg"})),
        ("GB", "metoclopramide", dosage(10, {"boundsPeriod": {"start": "2026-03-01", "end": "x"}})),
        ("GB", "metoclopramide", {"doseAndRate": 7, "timing": [], "maxDosePerPeriod": "x"}),
        ("GB", "metoclopramide", "30 mg"),
        ("GB", "metoclopramide", {"text": "10 mg four times a day for 14 days"}),
    ],
)
def test_what_is_no_more_or_is_not_structured_claims_nothing(
    content: Content, country: str, name: str, instruction: Any
) -> None:
    assert "for more:" not in said_of_an_order(content, country, name, instruction)


def test_most_of_several_instructions_and_the_supply_count(content: Content) -> None:
    supply = {"expectedSupplyDuration": {"value": 10, "code": "d"}}
    text = said_of_an_order(
        content, "GB", "metoclopramide", dosage(5), dosage(20), dispenseRequest=supply
    )
    assert "This order is for more: 60 mg a day, 10 days." in text


def test_an_order_for_more_is_told_where_nothing_else_is_against_it(content: Content) -> None:
    app = create_app(Settings(auth="open", jurisdiction="GB"), content, lambda: NOW)
    records = [*without_response(**CLEAR), NONE_KNOWN]
    for dose, told_so in ((10, False), (20, True)):
        order = draft("domperidone", dosageInstruction=[dosage(dose)])
        request = order_request(content, order, records=records)
        answer = app.test_client().post("/cds-services/lactation-order-sign", json=request)
        cards = answer.get_json()["cards"]
        of_it = [c for c in cards if c["source"]["topic"]["code"] == "order-guarded"]
        assert any("60 mg a day" in card["summary"] for card in of_it) == told_so
