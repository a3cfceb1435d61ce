"""Whose override counts for whom: hospitals, servers, users. Against real workers."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy
from pydantic import SecretStr

from cds_service.content.compiled import Content
from cds_service.settings import Settings
from cds_service.storage.database import Database
from tests.support.calls import VIEW
from tests.support.clients import BASE, clients_file, signed
from tests.support.processes import free_port, started
from tests.support.vignettes import present
from tests.support.waiting import soon, stays
from tests.support.ward import SMOKER, Ward

pytestmark = pytest.mark.slow

RISK = "supply-risk-factors"
SERVERS = ["https://fhir.example.org/r4", "https://fhir.example.org/south", "https://other.example"]
NURSE, PHYSICIAN = "Practitioner/nurse", "PractitionerRole/physician"
SHE, HER_PARTNER = "Patient/inhibited-letdown-smoker", "RelatedPerson/partner"

_patients = itertools.count(1)


@dataclass
class Hospital:
    """A running service, and an EHR with one patient whom nobody else has."""

    address: str
    database: str
    request: dict[str, Any]

    def open_chart(
        self, user: str = NURSE, tenant: str | None = "north", server: str | None = SERVERS[0]
    ) -> dict[str, dict[str, Any]]:
        """The cards that a user gets, by id."""
        request = copy.deepcopy(self.request)
        request["context"]["userId"] = user
        if server is not None:
            request["fhirServer"] = server
        answer = self._post(VIEW, request, tenant)
        return {card["source"]["topic"]["code"]: card for card in answer.json()["cards"]}

    def override(self, card: dict[str, Any], tenant: str | None = "north") -> None:
        """Tell that a card was overridden, once it is written that it was shown."""
        soon(lambda: self._is_written(card["uuid"]))
        told = {
            "card": card["uuid"],
            "outcome": "overridden",
            "outcomeTimestamp": datetime.now(UTC).isoformat(),
        }
        self._post(f"{VIEW}/feedback", {"feedback": [told]}, tenant)

    def _post(self, path: str, body: Any, tenant: str | None) -> requests.Response:
        headers = signed(path, tenant=tenant)
        answer = requests.post(f"{self.address}{path}", json=body, headers=headers, timeout=5)
        assert answer.status_code == 200
        return answer

    def _is_written(self, uuid: str) -> bool:
        engine = sqlalchemy.create_engine(self.database)
        with engine.connect() as connection:
            wanted = sqlalchemy.text("SELECT count(*) FROM shown WHERE uuid = :uuid")
            found = connection.execute(wanted, {"uuid": uuid}).scalar_one()
        engine.dispose()
        return bool(found)


@contextmanager
def serving(folder: Path, workers: int = 2, **settings: str) -> Iterator[tuple[str, str]]:
    """A service that knows one client; its address and its database."""
    database = f"sqlite:///{folder}/overrides.sqlite3"
    own = {
        "CDS_BASE_URL": BASE,
        "CDS_CLIENTS": str(clients_file(folder / "clients.yaml", fhir_servers=SERVERS)),
        "CDS_DATABASE_URL": database,
        "CDS_PATIENT_KEY": "a secret of the tests",
    }
    arguments = ("serve", "--workers", str(workers))
    with started(*arguments, port=free_port(), **own | settings) as service:
        yield service.address, database


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with serving(tmp_path_factory.mktemp("overrides")) as service:
        yield service


def hospital_of(service: tuple[str, str], content: Content) -> Hospital:
    request = present(content, "inhibited-letdown-smoker")
    hers = request["context"]["patientId"]
    own = f"{hers}-{next(_patients)}"
    text = json.dumps(request).replace(f"Patient/{hers}", f"Patient/{own}")
    request = json.loads(text)
    request["context"]["patientId"] = own
    return Hospital(*service, request)


@pytest.fixture
def hospital(service: tuple[str, str], content: Content) -> Hospital:
    return hospital_of(service, content)


def test_an_override_counts_for_other_clinicians_of_the_hospital(hospital: Hospital) -> None:
    hospital.override(hospital.open_chart(NURSE)[RISK])
    soon(lambda: RISK not in hospital.open_chart(PHYSICIAN))
    same = "HTTPS://FHIR.example.org:443/r4/"  # by RFC 3986
    soon(lambda: RISK not in hospital.open_chart(NURSE, server=same))


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"tenant": "south"},
        {"tenant": None},
        {"server": SERVERS[1]},
        {"server": SERVERS[2]},
        {"server": None},
    ],
    ids=str,
)
def test_an_override_does_not_count_for_a_patient_of_the_same_id_elsewhere(
    hospital: Hospital, elsewhere: dict[str, Any]
) -> None:
    hospital.override(hospital.open_chart()[RISK])
    soon(lambda: RISK not in hospital.open_chart())
    stays(lambda: RISK in hospital.open_chart(**elsewhere))


def test_feedback_of_another_tenant_on_a_card_does_not_count(hospital: Hospital) -> None:
    hospital.override(hospital.open_chart()[RISK], tenant="south")
    stays(lambda: RISK in hospital.open_chart(), for_=2.5)


@pytest.mark.parametrize("user", [SHE, HER_PARTNER])
def test_what_a_patient_overrides_counts_for_nobody_else(hospital: Hospital, user: str) -> None:
    hospital.override(hospital.open_chart(user)[RISK])
    soon(lambda: RISK not in hospital.open_chart(user))
    another = ({SHE, HER_PARTNER} - {user}).pop()
    stays(lambda: all(RISK in hospital.open_chart(other) for other in (NURSE, PHYSICIAN, another)))


def test_what_a_clinician_overrides_the_patient_still_sees(hospital: Hospital) -> None:
    hospital.override(hospital.open_chart(NURSE)[RISK])
    soon(lambda: RISK not in hospital.open_chart(NURSE))
    assert RISK in hospital.open_chart(SHE)


def test_overrides_can_count_for_the_user_alone(tmp_path: Path, content: Content) -> None:
    with serving(tmp_path, CDS_OVERRIDES_COUNT_FOR="user") as service:
        hospital = hospital_of(service, content)
        hospital.override(hospital.open_chart(NURSE)[RISK])
        soon(lambda: RISK not in hospital.open_chart(NURSE))
        stays(lambda: RISK in hospital.open_chart(PHYSICIAN))


def test_overrides_of_clinicians_can_count_for_everyone(tmp_path: Path, content: Content) -> None:
    with serving(tmp_path, CDS_OVERRIDES_COUNT_FOR="everyone") as service:
        hospital = hospital_of(service, content)
        hospital.override(hospital.open_chart(SHE)[RISK])
        soon(lambda: RISK not in hospital.open_chart(SHE))
        stays(lambda: RISK in hospital.open_chart(NURSE))
        hospital.override(hospital.open_chart(NURSE)[RISK])
        soon(lambda: RISK not in hospital.open_chart(HER_PARTNER))


def test_workers_that_were_never_called_know_of_an_override(
    tmp_path: Path, content: Content
) -> None:
    with serving(tmp_path, workers=4) as service:
        hospital = hospital_of(service, content)
        hospital.override(hospital.open_chart()[RISK])
        soon(lambda: not any(RISK in hospital.open_chart() for _ in range(40)))


def test_under_another_server_a_worker_knows_of_it_at_its_first_call(
    content: Content, settings: Settings
) -> None:
    known = settings.model_copy(update={"patient_key": SecretStr("a secret of the tests")})
    ward = Ward(content, known, settings.database_url)
    later = ward.another_worker()
    ward.override(ward.cards(SMOKER)[RISK])
    soon(lambda: RISK not in ward.cards(SMOKER))
    assert RISK not in ward.cards(SMOKER, client=later)


def test_what_was_overridden_before_tenants_were_told_apart_counts_no_more(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.sqlite3"
    Database(url).upgrade()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        for statement in (
            "ALTER TABLE shown DROP COLUMN tenant",
            "ALTER TABLE shown DROP COLUMN counts_for",
            "ALTER TABLE feedback DROP COLUMN tenant",
            "UPDATE alembic_version SET version_num = '0003'",
            "INSERT INTO shown VALUES "
            "('u', 'c', 's', 'card', 'a', 'p', 'info', '', '', 'r', 'v', 1)",
            "INSERT INTO feedback VALUES "
            "('k', 'c', 's', 'u', 'overridden', 1, 1, '', NULL, NULL, false, NULL)",
        ):
            connection.execute(sqlalchemy.text(statement))
    database = Database(url)
    database.upgrade()
    assert database.feedback_since(0) == []
    (row,) = database.what_came_of_cards(0)  # it still counts in reports
    assert (row.card, row.outcome, row.cards) == ("card", "overridden", 1)
    with engine.connect() as connection:
        kept = connection.execute(sqlalchemy.text("SELECT patient, about, reasons FROM shown"))
        assert list(kept) == [("", "", "")]
    engine.dispose()
