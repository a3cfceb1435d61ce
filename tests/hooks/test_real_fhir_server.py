"""The service beside a real FHIR server: what it reads there is what it would have been sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.authoring.vignettes import Vignette
from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from cds_service.demo.ehr import example_request, hook_request, write
from cds_service.settings import Settings
from tests.support.calls import fire
from tests.support.hapi_server import hapi_server
from tests.support.vignettes import MOTHERS

pytestmark = pytest.mark.slow

SESSIONS = 240  # more than a page of the service's, and some of the server's own
# All but those of whom a search fails: a real server finds their records.
FOUND = [mother for mother in MOTHERS if not mother.expected.fails]
EACH = pytest.mark.parametrize("mother", FOUND, ids=lambda mother: mother.name)


@pytest.fixture(scope="module")
def fhir_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hapi_server(tmp_path_factory.mktemp("hapi") / "log") as address:
        yield address


def put(fhir_server: str, bundle: dict[str, Any]) -> None:
    """Load a transaction."""
    answer = requests.post(fhir_server, json=bundle, timeout=60)
    assert answer.status_code == 200, answer.text


def client_of(content: Content, settings: Settings, mother: Vignette) -> FlaskClient:
    """The service as of the mother's own present, patient with a server that has just begun."""
    changes = {"jurisdiction": mother.expected.jurisdiction, "deadline_ms": 20_000}
    there = settings.model_copy(update=changes)
    return create_app(there, content, lambda: mother.now).test_client()


def created(cards: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the suggestions of these cards would create, by their labels."""
    return {
        suggestion["label"]: action["resource"]
        for card in cards
        for suggestion in card.get("suggestions", ())
        for action in suggestion["actions"]
        if action["type"] == "create"
    }


def without_uuids(value: Any) -> Any:
    """The same document without what is new in each answer."""
    if isinstance(value, dict):
        return {key: without_uuids(inner) for key, inner in value.items() if key != "uuid"}
    return [without_uuids(inner) for inner in value] if isinstance(value, list) else value


def test_the_mothers_are_loaded_by_the_command(fhir_server: str) -> None:
    """In the time that it has: every one is there, and what belongs to her."""
    done = CliRunner().invoke(main, ["load", fhir_server])
    assert done.exit_code == 0, done.output
    assert f"Loaded {len(MOTHERS)} synthetic mothers" in done.output
    for mother in MOTHERS:
        sent = [e for e in mother.bundle["entry"] if e["resource"]["resourceType"] == "Observation"]
        search = f"{fhir_server}/Observation?patient={mother.patient_id}&_summary=count"
        found = requests.get(search, timeout=60).json()["total"]
        hers = [
            e for e in sent if e["resource"]["subject"]["reference"].endswith(mother.patient_id)
        ]
        assert found == len(hers), mother.name


@EACH
def test_read_from_the_server_or_sent_the_answer_is_the_same(
    content: Content, settings: Settings, fhir_server: str, mother: Vignette
) -> None:
    put(fhir_server, mother.bundle)
    client = client_of(content, settings, mother)
    request = example_request(content, mother) | {"fhirServer": fhir_server}
    sent = fire(client, request)
    del request["prefetch"]
    read = fire(client, request)
    assert without_uuids(read) == without_uuids(sent)
    assert [card["source"]["topic"]["code"] for card in read] == mother.expected.cards


def test_a_record_of_many_pages_is_read_to_its_end(
    content: Content, settings: Settings, fhir_server: str, tmp_path: Path
) -> None:
    """A server gives a page at a time; a volume over a day is wrong if one is left out."""
    sessions = [
        {"fact": "expressed-milk-volume", "is": "1 mL", "ago": f"{n * 5} min"}
        for n in range(1, SESSIONS + 1)
    ]
    birth = {"fact": "delivery-time", "ago": "6 d"}
    plan = {"fact": "feeding-plan", "is": "pump", "ago": "5 d"}
    written = {
        "mother": {"given": "Mother of many pages", "born": "1995-03-02"},
        "records": [birth, plan, *sessions],
    }
    mother = Vignette(tmp_path / "many-pages")
    mother.path.mkdir()
    (mother.path / "mother.yaml").write_text(json.dumps(written))
    expected = {"title": "Many pages", "teaches": "Reading on.", "rows": [], "cards": []}
    (mother.path / "expected.yaml").write_text(json.dumps(expected))
    put(fhir_server, mother.bundle)
    request = example_request(content, mother) | {"fhirServer": fhir_server}
    entries = [e for e in mother.bundle["entry"] if e["resource"]["resourceType"] == "Observation"]
    request["prefetch"]["milkExpression"] = {"resourceType": "Bundle", "entry": entries}
    client = client_of(content, settings, mother)
    sent = fire(client, request)
    del request["prefetch"]
    read = fire(client, request)
    assert without_uuids(read) == without_uuids(sent)
    assert f"{SESSIONS} mL" in read[0]["detail"]


def test_what_is_accepted_is_written_read_back_and_not_offered_again(
    content: Content, settings: Settings, fhir_server: str
) -> None:
    """With each mother who is offered what none before her was."""
    tried: set[str] = set()
    for mother in MOTHERS:
        client = client_of(content, settings, mother)
        offered = created(fire(client, example_request(content, mother)))
        if offered.keys() <= tried:
            continue
        tried |= offered.keys()
        put(fhir_server, mother.bundle)
        for resource in offered.values():
            written = write(fhir_server, resource)
            there = requests.get(f"{fhir_server}/{written}", timeout=60).json()
            assert resource.items() <= there.items()
        request = hook_request(mother, mother.expected.hook, fhir_server, None)
        again = created(fire(client, request))
        assert offered.keys().isdisjoint(again.keys()), mother.name
    suggesting = {i.suggestion.label for i in content.interventions.values() if i.suggestion}
    assert suggesting <= tried
    # And several by one click: "Teach the whole routine (3 techniques)".
    several = r"(Teach the whole (routine|plan)|Teach all of it) \(\d \w+\)|Hand over both"
    assert [label for label in tried - suggesting if not re.fullmatch(several, label)] == []
