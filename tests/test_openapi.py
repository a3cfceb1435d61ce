"""The description of the service, and schemathesis, which tries every corner of it over HTTP."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from cds_service.content import Content

from .mothers import hook_request, inhibited
from .processes import free_port, started

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
