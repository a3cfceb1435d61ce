"""The description of the service, and schemathesis, which tries every corner of it over HTTP."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.mothers import hook_request, inhibited
from tests.support.processes import free_port, started
from tests.support.vignettes import Answered

CONFIG = Path(__file__).with_name("schemathesis.toml")


def test_the_description_names_every_address(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    services = client.get("/cds-services").get_json()["services"]
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "https://cds.example.org"}]
    for service in services:
        assert f"/cds-services/{service['id']}" in document["paths"]
        assert f"/cds-services/{service['id']}/feedback" in document["paths"]


def test_answers_are_as_described(client: FlaskClient, content: Content) -> None:
    document = client.get("/openapi.json").get_json()
    cards = {**document, "$ref": "#/components/schemas/Cards"}
    request = hook_request(content, *inhibited())
    answer = client.post("/cds-services/lactation-patient-view", json=request).get_json()
    Draft202012Validator(cards).validate(answer)
    assert not Draft202012Validator(cards).is_valid({"cards": [{"summary": "x"}]})


def closed(schema: Any) -> Any:
    """The schema without leave for members that it does not describe."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    return {"additionalProperties": False} | inner if "properties" in schema else inner


def test_no_mother_gets_a_member_that_is_not_described(
    client: FlaskClient, answers: list[Answered]
) -> None:
    components = client.get("/openapi.json").get_json()["components"]
    described = {"$ref": "#/components/schemas/Cards", "components": components}
    answer_is = jsonschema_rs.validator_for(closed(described))
    found = set[str]()
    for answered in answers:
        wrong = [str(error) for error in answer_is.iter_errors(answered.body)]
        assert wrong == [], answered.name
        found |= {name for card in answered.cards for name in card}
    assert found == set(components["schemas"]["Card"]["properties"])  # and each of them is met


MEMBERS = ("hook", "hookInstance", "fhirServer", "fhirAuthorization", "context", "prefetch")
IN_CONTEXT = ("userId", "patientId", "encounterId")
VALUES: list[Any] = ["", None, " ", "a/b", 5, [], {}]


def described_request(client: FlaskClient) -> Draft202012Validator:
    """What a request of patient-view must be, by the description."""
    document = client.get("/openapi.json").get_json()
    media = document["paths"][VIEW]["post"]["requestBody"]["content"]["application/json"]
    formats = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator({**document, **media["schema"]}, format_checker=formats)


@pytest.mark.parametrize("member", [*MEMBERS, *IN_CONTEXT])
def test_what_is_sent_of_a_member_is_taken_as_described(
    client: FlaskClient, content: Content, member: str
) -> None:
    """An empty ``encounterId`` above all, which is optional: as none sent, and not refused."""
    described = described_request(client)
    for value in VALUES:
        request = hook_request(content, *inhibited())
        (request["context"] if member in IN_CONTEXT else request)[member] = value
        status = client.post(VIEW, json=request).status_code
        assert (status != 400) is described.is_valid(request), (value, status)


def test_an_empty_server_is_none_also_beside_an_authorization(
    client: FlaskClient, content: Content
) -> None:
    described = described_request(client)
    allowed = {"access_token": "t", "token_type": "Bearer", "expires_in": 300}
    allowed |= {"scope": "patient/*.read", "subject": "lactation-cds"}
    for server, status in (("https://fhir.example.org/r4", 200), ("", 400)):
        request = hook_request(content, *inhibited(), fhirServer=server)
        assert described.is_valid(request)
        request["fhirAuthorization"] = allowed
        assert described.is_valid(request) is (status == 200)
        assert (client.post(VIEW, json=request).status_code == 400) is (status == 400)


@pytest.mark.slow
def test_every_request_of_every_kind_is_answered_as_described(tmp_path: Path) -> None:
    """Good requests, bad ones, and those at the edge of what is described."""
    port = free_port()
    own = {"CDS_AUTH": "open", "CDS_BASE_URL": f"http://127.0.0.1:{port}", "CDS_DEADLINE_MS": "50"}
    with started("serve", port=port, log=tmp_path / "service.log", **own) as service:
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
                *("run", f"{service.address}/openapi.json", "--max-examples", "15", "--no-color"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    tried = re.search(r"(\d+) generated, (\d+) passed", ended.stdout)
    assert tried is not None
    assert int(tried[1]) == int(tried[2]) > 500
    assert "Traceback" not in (tmp_path / "service.log").read_text()
