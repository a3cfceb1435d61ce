"""What the tests share: the shipped content, the service without a network."""

from __future__ import annotations

import gc
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.settings import Settings
from cds_service.storage.database import Database
from tests.support.clients import BASE, clients_file
from tests.support.mothers import NOW
from tests.support.once import evaluation_of, read_shipped_once, shipped_content
from tests.support.recorded import SCHEMAS
from tests.support.vignettes import MOTHERS, Answered, answered
from tests.support.ward import HEARS_EVERY, Ward

# A machine that is slow is no fault of what is tested.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

IGNORED = ("CDS_AUTH", "CDS_CLIENTS", "CDS_CONTENT_DIR", "CDS_ALLOWED_ORIGINS")

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """What takes long to make and is the same for each test is made once."""
    gc.set_threshold(100_000, 20, 10)  # an overlay is 200,000 objects, which are no garbage yet
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    read_shipped_once(patch)
    patch.setattr("cds_service.app.Evaluation", evaluation_of)


def pytest_collection_finish() -> None:
    """What is there once the tests are collected stays to the end: nobody looks for garbage in it.

    It is some 500,000 objects, and a look through them takes half a second.
    """
    gc.freeze()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables and nothing in them."""
    path = tmp_path_factory.mktemp("database") / "empty.sqlite3"
    made = Database(f"sqlite:///{path}")
    made.upgrade()
    made.engine.dispose()
    return path


@pytest.fixture(autouse=True)
def database(monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> str:
    """A database of each test's own, beside none of its files."""
    path = shutil.copy(empty_database, empty_database.with_name(f"{next(_numbers)}.sqlite3"))
    url = f"sqlite:///{path}"
    monkeypatch.setenv("CDS_DATABASE_URL", url)
    return url


@pytest.fixture(scope="session")
def content() -> Content:
    """The shipped content."""
    return shipped_content()


@pytest.fixture(scope="session")
def open_settings() -> Settings:
    """An open service, whatever the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        for name in IGNORED:
            patch.delenv(name, raising=False)
        return Settings(auth="open", base_url="https://cds.example.org", deadline_ms=2000)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, open_settings: Settings, database: str) -> Settings:
    """An open service on the database of this test."""
    for name in IGNORED:
        monkeypatch.delenv(name, raising=False)
    return open_settings.model_copy(update={"database_url": database})


@pytest.fixture
def client(content: Content, settings: Settings) -> FlaskClient:
    """A client of the service, whose present is ``NOW``."""
    return create_app(settings, content, lambda: NOW).test_client()


@pytest.fixture
def answers(content: Content, settings: Settings) -> list[Answered]:
    """The answer to the call for each synthetic mother."""
    return [answered(content, settings, mother) for mother in MOTHERS]


@pytest.fixture
def guarded(content: Content, tmp_path: Path) -> FlaskClient:
    """A service that knows one client."""
    settings = Settings(auth="required", base_url=BASE, clients=clients_file(tmp_path / "c.yaml"))
    return create_app(settings, content, lambda: NOW).test_client()


@pytest.fixture
def hears_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card log writes and reads at once, and not once a second."""
    monkeypatch.setattr("cds_service.storage.card_log.EVERY", HEARS_EVERY)
    monkeypatch.setattr("cds_service.storage.card_log.AGAIN_AFTER", HEARS_EVERY)


@pytest.fixture
def ward(content: Content, settings: Settings, database: str, hears_at_once: None) -> Ward:
    """An EHR beside the service, which knows patients again and hears of overrides at once."""
    known = {"patient_key": SecretStr("a secret of the tests"), "explain": True}
    return Ward(content, settings.model_copy(update=known), database)


@pytest.fixture(scope="session")
def valid() -> Callable[[str, Any], None]:
    """Assert that a document is valid by one of ``tests/support/schemas``."""
    validators = {
        path.stem: Draft202012Validator(json.loads(path.read_text()))
        for path in SCHEMAS.glob("*.json")
    }

    def check(name: str, document: Any) -> None:
        errors = [f"{e.json_path}: {e.message}" for e in validators[name].iter_errors(document)]
        assert not errors, "\n".join(errors)

    return check
