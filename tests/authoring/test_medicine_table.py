"""``content medicines``: a table for a pharmacist, and which medicine to read first."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from cds_service.authoring.medicine_table import COLUMNS, as_csv, rows
from cds_service.content.compiled import Content
from cds_service.content.schema import BANDS
from cds_service.settings import Settings
from tests.support.commands import run
from tests.support.mothers import medicine
from tests.support.waiting import soon
from tests.support.ward import Ward


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_has_all_that_a_pharmacist_signs(content: Content) -> None:
    table = read(run("content", "medicines", "--csv"))
    assert list(table[0]) == list(COLUMNS)
    assert {row["id"] for row in table} == content.medicines.keys()
    bands = [row["band"] for row in table]
    assert bands == sorted(bands, key=[*BANDS].index)
    by_id = {row["id"]: row for row in table}
    codeine = by_id["codeine"]
    assert codeine["band"] == "avoid"
    assert codeine["source"].startswith("Food and Drug Administration 2017: ")
    assert "rxnorm 2670" in codeine["codes"]
    assert codeine["effects"] == "sedating"
    assert codeine["review"] == "draft"
    assert by_id["metoclopramide"]["dose and length"] == "At most 12 weeks (boxed warning)."
    assert by_id["sertraline"]["source"] == "LactMed LM328"
    assert by_id["sertraline"]["worse for some"] == "watch"
    assert int(by_id["amlodipine"]["products"]) > 5
    unread = [row for row in table if row["band"] == "not-read"]
    assert all(row["line"] == "" and row["source"] == "" for row in unread)


def test_it_is_that_of_a_country() -> None:
    table = {row["id"]: row for row in read(run("content", "medicines", "--csv", "--country=GB"))}
    assert table["codeine"]["source"] == "LactMed LM347"
    assert table["metoclopramide"]["dose and length"].endswith("(MHRA).")
    same = read(run("content", "medicines", "--csv", CDS_JURISDICTION="GB"))
    assert {row["id"]: row for row in same} == table


def test_the_table_counts_the_bands() -> None:
    output = run("content", "medicines", COLUMNS="200")
    assert "Codeine" in output
    assert " medicines in US: " in output
    assert "--not-read says which to read first" in output


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("medicines: [{id: codeine, name: '=1+1'}]")
    table = read(run("content", "medicines", "--csv", "--overlay", str(tmp_path)))
    assert {row["id"]: row for row in table}["codeine"]["name"] == "'=1+1"


def test_a_cell_with_marks_is_read_back(content: Content) -> None:
    table = rows(content, "US")
    assert [row["line"] for row in read(as_csv(table))] == [row["line"] for row in table]


@pytest.fixture
def unread(content: Content) -> list[str]:
    return [each.id for each in content.medicines.values() if not each.readings]


def test_what_is_not_read_comes_by_how_often_it_was_seen(
    ward: Ward, content: Content, unread: list[str]
) -> None:
    often, seldom = content.medicines[unread[30]], content.medicines[unread[10]]
    for number in range(7):
        known = [often] if number < 2 else [often, seldom]
        taken = [medicine(medicationCodeableConcept={"text": each.names[0]}) for each in known]
        assert "medicines-and-milk" in ward.cards(*taken)
    soon(lambda: len(ward.rows("shown")) >= 7)
    environment = {"CDS_PATIENT_KEY": "a secret of the tests", "CDS_DATABASE_URL": ward.database}
    table = read(run("content", "medicines", "--not-read", "--csv", "--days=3650", **environment))
    assert {row["id"] for row in table} == set(unread)
    assert (table[0]["id"], table[0]["seen"]) == (often.id, "7")
    assert (table[1]["id"], table[1]["seen"]) == (seldom.id, "5")
    assert {row["seen"] for row in table[2:]} == {"0"}
    output = run("content", "medicines", "--not-read", "--days=3650", **environment)
    assert "7 cards about medicines in the last 3650 days" in output
    other = environment | {"CDS_PATIENT_KEY": "another secret of them"}
    table = read(run("content", "medicines", "--not-read", "--csv", "--days=3650", **other))
    assert {row["seen"] for row in table} == {"0"}  # nothing can be read without the secret


def test_without_a_secret_nothing_is_told_of_how_often(
    settings: Settings, database: str, unread: list[str]
) -> None:
    table = read(run("content", "medicines", "--not-read", "--csv", CDS_DATABASE_URL=database))
    assert len(table) == len(unread)
    assert {row["seen"] for row in table} == {""}
    assert "tell how often each is seen" in run("content", "medicines", "--not-read")


def test_a_database_that_cannot_be_asked_is_told(tmp_path: Path) -> None:
    environment = {
        "CDS_PATIENT_KEY": "a secret of the tests",
        "CDS_DATABASE_URL": f"sqlite:///{tmp_path}/not/there.sqlite3",
    }
    output = run("content", "medicines", "--not-read", code=1, **environment)
    assert "the database of CDS_DATABASE_URL cannot be used (OperationalError)" in output
