"""What the tests share: the shipped content, the service without a network."""

from __future__ import annotations

import json
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
from cds_service.content.loader import load_content
from cds_service.settings import Settings
from tests.support.clients import BASE, clients_file
from tests.support.mothers import NOW
from tests.support.recorded import SCHEMAS
from tests.support.ward import Ward

# A machine that is slow is no fault of what is tested.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A database of each test's own."""
    url = f"sqlite:///{tmp_path}/lactation-cds.sqlite3"
    monkeypatch.setenv("CDS_DATABASE_URL", url)
    return url


@pytest.fixture(scope="session")
def content() -> Content:
    """The shipped content."""
    return load_content()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An open service, whatever the environment says."""
    for name in ("CDS_AUTH", "CDS_CLIENTS", "CDS_CONTENT_DIR", "CDS_ALLOWED_ORIGINS"):
        monkeypatch.delenv(name, raising=False)
    return Settings(auth="open", base_url="https://cds.example.org", deadline_ms=2000)


@pytest.fixture
def client(content: Content, settings: Settings) -> FlaskClient:
    """A client of the service, whose present is ``NOW``."""
    return create_app(settings, content, lambda: NOW).test_client()


@pytest.fixture
def guarded(content: Content, tmp_path: Path) -> FlaskClient:
    """A service that knows one client."""
    settings = Settings(auth="required", base_url=BASE, clients=clients_file(tmp_path / "c.yaml"))
    return create_app(settings, content, lambda: NOW).test_client()


@pytest.fixture
def ward(content: Content, settings: Settings, database: str) -> Ward:
    """An EHR beside the service, which knows patients again."""
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
