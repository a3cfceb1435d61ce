"""What the documentation says is so: commands, settings, sections, and the examples in it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from benchmarks.requests import CARDS, SERVICE, build_request
from cds_service.app import create_app
from cds_service.caller import Client
from cds_service.command import main
from cds_service.content import SECTIONS, Content
from cds_service.content_loader import load_content
from cds_service.settings import Settings

from .mothers import NOW

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONNECT = (ROOT / "docs" / "connect.md").read_text()
CONTENT = (ROOT / "docs" / "content.md").read_text()


def blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_the_two_commands_come_first_and_above_the_picture() -> None:
    assert README.index("make run") < README.index("make test") < README.index("![")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"run", "test", "check", "bench"} <= set(targets)


@pytest.mark.parametrize("page", ["README.md", "docs/connect.md", "docs/content.md"])
def test_every_link_in_the_repository_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if not target.startswith("https://"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_commands_of_the_readme_run() -> None:
    lines = [line for block in blocks(README) for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("cds-service ")]
    assert len(commands) == 2
    for command in commands:
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output


def test_every_setting_is_documented_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    table = dict(re.findall(r"^\| `CDS_(\w+)` \| (?:`([^`]*)`)? ?\|", CONNECT, re.M))
    assert set(table) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        assert table[name.upper()] == ("" if field.default is None else str(field.default))


def test_every_section_of_the_content_is_documented() -> None:
    for section in SECTIONS:
        assert f"`{section}`" in CONTENT


def test_the_clients_file_of_the_example_is_one() -> None:
    (example,) = blocks(CONNECT, "yaml")
    for client in yaml.safe_load(example)["clients"]:
        Client.model_validate(client)


def test_the_examples_of_the_content_page_load(tmp_path: Path) -> None:
    conditions, overlay, _, _ = blocks(CONTENT, "yaml")
    (value_set,) = blocks(CONTENT, "json")
    (tmp_path / "own.json").write_text(value_set)
    finding: dict[str, Any] = {"id": "example", "label": "an example", "review": "draft"}
    document = yaml.load(conditions, yaml.BaseLoader)
    document["when"]["all"][1]["at-least"] = 20
    (tmp_path / "conditions.yaml").write_text(json.dumps({"findings": [finding | document]}))
    (tmp_path / "own.yaml").write_text(overlay)
    own = load_content(tmp_path)
    assert "example" in own.findings
    assert "lactation-consult" not in own.cards
    assert "medicationStatements" not in own.prefetch


def test_the_vignette_of_the_content_page_is_one(tmp_path: Path) -> None:
    _, _, mother, expected = blocks(CONTENT, "yaml")
    (tmp_path / "poor-transfer").mkdir()
    (tmp_path / "poor-transfer" / "mother.yaml").write_text(mother)
    (tmp_path / "poor-transfer" / "expected.yaml").write_text(expected)
    result = CliRunner().invoke(main, ["content", "test", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "1 of 1 vignettes" in result.output


def test_what_is_benchmarked_gets_the_cards_that_are_expected(
    content: Content, settings: Settings
) -> None:
    client = create_app(settings, content, lambda: NOW).test_client()
    for size in (50, 500):
        body = build_request(size, NOW)
        answer = client.post(SERVICE, data=body, content_type="application/json")
        codes = [card["source"]["topic"]["code"] for card in answer.get_json()["cards"]]
        assert codes == CARDS
        observations = body.count(b'"resourceType":"Observation"')
        assert observations == size
