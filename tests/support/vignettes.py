"""The synthetic mothers that are shipped, and the service where each of them is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.authoring.vignettes import Vignette, vignettes
from cds_service.content.compiled import Content
from cds_service.demo.ehr import EXAMPLE_SERVER, example_request, prefetch_from
from cds_service.demo.ehr import hook_request as ehr_request
from cds_service.demo.fhir_store import FhirStore
from cds_service.settings import Settings


class Answered(NamedTuple):
    """The call for a mother, on the hook that she is written for, and the answer to it."""

    mother: Vignette
    request: dict[str, Any]
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return self.mother.name

    @property
    def cards(self) -> list[dict[str, Any]]:
        cards: list[dict[str, Any]] = self.body["cards"]
        return cards


MOTHERS = vignettes()
EACH = pytest.mark.parametrize("mother", MOTHERS, ids=lambda mother: mother.name)
CLIENTS: dict[Any, FlaskClient] = {}
ANSWERED: dict[str, Answered] = {}


def client_of(
    content: Content, settings: Settings, mother: Vignette, now: datetime | None = None
) -> FlaskClient:
    """The service where she is, at her time or at ``now``: one for all who are there then."""
    key = (content.version, settings.auth, mother.expected.jurisdiction, now or mother.now)
    if key not in CLIENTS:
        there = settings.model_copy(update={"jurisdiction": mother.expected.jurisdiction})
        CLIENTS[key] = create_app(there, content, lambda: key[-1]).test_client()
    return CLIENTS[key]


def answered(content: Content, settings: Settings, mother: Vignette) -> Answered:
    """Her call over HTTP. It is made once in a process, and nobody changes what it gives."""
    if mother.name not in ANSWERED:
        request = example_request(content, mother)
        client = client_of(content, settings, mother)
        answer = client.post(f"/cds-services/lactation-{request['hook']}", json=request)
        assert answer.status_code == 200, (mother.name, answer.text)
        assert answer.mimetype == "application/json", mother.name
        ANSWERED[mother.name] = Answered(mother, request, answer.get_json())
    return ANSWERED[mother.name]


def present(content: Content, name: str = "inhibited-letdown") -> dict[str, Any]:
    """The call for a mother of the fixtures, as of now."""
    mother = next(mother for mother in MOTHERS if mother.name == name)
    store = FhirStore([mother], datetime.now(UTC))
    sent = prefetch_from(content, store, EXAMPLE_SERVER, mother.patient_id)
    made = ehr_request(mother, "patient-view", EXAMPLE_SERVER, sent)
    del made["fhirServer"]
    return made
