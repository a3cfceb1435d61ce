"""Dose, length and licence by country (P24): who is quoted where, and what is said without data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cds_service.app import create_app
from cds_service.content import Content
from cds_service.content_files import ContentError
from cds_service.content_loader import load_content
from cds_service.settings import Settings

from .mothers import NOW, average, birth, cards_of, medicine, plan
from .test_guards import CLEAR, NONE_KNOWN, without_response
from .test_orders import draft, order_request

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
