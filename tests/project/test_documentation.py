"""What the documentation says is so: commands, settings, sections, and the examples in it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from flask.testing import FlaskClient

from benchmarks.requests import CARDS, SERVICE, build_request
from cds_service.app import create_app
from cds_service.authoring.vignettes import vignettes
from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from cds_service.content.schema import SECTIONS
from cds_service.settings import Settings
from tests.project.code_table import answer_to
from tests.support.exports import EXPORTED, resources_of, write_export
from tests.support.mothers import NOW
from tests.support.repository import ROOT, blocks

README = (ROOT / "README.md").read_text()
CONNECT = (ROOT / "docs" / "connect.md").read_text()
CONTENT = (ROOT / "docs" / "content.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "cards/*.md", ".github/**/*.md")
    for page in ROOT.glob(pattern)
)
SANDBOX = (ROOT / "docs" / "sandbox.md").read_text()


def test_the_two_commands_come_first_and_above_the_picture() -> None:
    assert README.index("make run") < README.index("make test") < README.index("![")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"run", "test", "check", "bench"} <= set(targets)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_in_the_repository_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if not target.startswith("https://"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_every_setting_is_documented_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    table = dict(re.findall(r"^\| `CDS_(\w+)` \| (?:`([^`]*)`)? ?\|", CONNECT, re.M))
    assert set(table) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        assert table[name.upper()] == ("" if field.default is None else str(field.default))


def test_the_sample_call_of_the_page_is_answered_as_it_says(content: Content) -> None:
    asked, answered = map(json.loads, blocks(CONNECT, "json"))
    assert [card["source"]["topic"]["code"] for card in answered["cards"]] == [
        "supply-risk-factors"
    ]
    assert answer_to(asked, content) == answered


def test_the_table_of_keys_has_all_that_discovery_asks_for(client: FlaskClient) -> None:
    rows = dict(re.findall(r"^\| `([a-z]\w+)` \| [A-Z]\w+: .* \| ([\w, ]+) \|$", CONNECT, re.M))
    (service, *_) = client.get("/cds-services").get_json()["services"]
    asked = {re.sub(r"\d+$", "", key) for key in service["prefetch"]}
    assert {key for key, needed in rows.items() if needed != "not asked for"} == asked
    assert [key for key, needed in rows.items() if needed.startswith("yes")] == ["milkExpression"]


def test_every_section_of_the_content_is_documented() -> None:
    for section in SECTIONS:
        assert f"`{section}`" in CONTENT


@pytest.mark.parametrize("page", [README, CONNECT, SANDBOX], ids=["readme", "connect", "sandbox"])
def test_a_service_starts_with_the_clients_file_of_the_example(
    page: str, content: Content, settings: Settings, tmp_path: Path
) -> None:
    (example,) = blocks(page, "yaml")
    (tmp_path / "clients.yaml").write_text(example)
    own = settings.model_copy(update={"auth": "required", "clients": tmp_path / "clients.yaml"})
    answer = create_app(own, content).test_client().get("/cds-services")
    assert answer.status_code == 401  # it has started, and knows who may call


def test_the_commands_of_the_sandbox_are_some_and_its_mother_is_there() -> None:
    commands = [line for line in blocks(SANDBOX)[0].splitlines() if line]
    assert len(commands) == 2
    for command in commands:
        *settings, arguments = re.split(r" ?(?=cds-service )", command)
        assert set(re.findall(r"CDS_(\w+)=", "".join(settings))) <= {
            name.upper() for name in Settings.model_fields
        }
        _, name, *rest = shlex.split(arguments)
        main.commands[name].make_context(name, rest)
    (mother,) = re.findall(r"patientId=mother-(\S+)", SANDBOX)
    assert (ROOT / "fhir_fixtures" / mother / "expected.yaml").exists()


def test_the_conditions_of_the_content_page_are_some(tmp_path: Path) -> None:
    finding: dict[str, Any] = {"id": "example", "label": "an example", "review": "draft"}
    document = yaml.load(blocks(CONTENT, "yaml")[0], yaml.BaseLoader)
    document["when"]["all"][1]["at-least"] = 20
    (tmp_path / "conditions.yaml").write_text(json.dumps({"findings": [finding | document]}))
    assert "example" in load_content(tmp_path).findings


# A file of an example: its name, alone at the end of a line, and what is in it.
FILE = re.compile(r"`(my-(?:content|vignettes)/[\w./-]+)`\n\n```(?:yaml|json)\n(.*?)```", re.S)


def write_files(folder: Path, files: Iterable[tuple[str, str]]) -> None:
    for name, text in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.slow
def test_each_change_of_the_content_page_is_proved_by_its_command(tmp_path: Path) -> None:
    files = FILE.findall(CONTENT)
    assert len(files) == 10
    write_files(tmp_path, files)
    vignettes, own = str(tmp_path / "my-vignettes"), str(tmp_path / "my-content")
    result = CliRunner().invoke(main, ["content", "test", vignettes, "--overlay", own])
    assert result.exit_code == 0, result.output
    assert "3 of 3 vignettes" in result.output
    assert "medicationStatements" not in load_content(tmp_path / "my-content").prefetch
    for change in (tmp_path / "my-content").iterdir():  # without any one of them it is not so
        text = change.read_text()
        change.unlink()
        result = CliRunner().invoke(main, ["content", "test", vignettes, "--overlay", own])
        assert result.exit_code == 1, change.name
        change.write_text(text)


# A file of CONTRIBUTING: its name at the end of a line, and what is in it.
NEW_FILE = re.compile(r"`((?:cards|fhir_fixtures)/[\w/-]+\.yaml)`\n\n```yaml\n(.*?)```", re.S)


def test_the_fact_the_card_and_the_mothers_of_contributing_are_some(tmp_path: Path) -> None:
    files = dict(NEW_FILE.findall(CONTRIBUTING))
    shown, missed = (f"fhir_fixtures/{name}" for name in ("nipple-shield-day-5", "long-ago"))
    assert list(files) == [
        *("cards/nipple-shield.yaml", f"{shown}/mother.yaml", f"{shown}/expected.yaml")
    ]
    (opposite,) = [b for b in blocks(CONTRIBUTING, "yaml") if "near-misses: [R28]" in b]
    files[f"{missed}/expected.yaml"] = opposite
    files[f"{missed}/mother.yaml"] = files[f"{shown}/mother.yaml"].replace("ago: 3 h", "ago: 8 d")
    write_files(tmp_path, files.items())
    mothers, own = str(tmp_path / "fhir_fixtures"), str(tmp_path / "cards")
    result = CliRunner().invoke(main, ["content", "test", mothers, "--overlay", own])
    assert result.exit_code == 0, result.output
    assert "2 of 2 vignettes" in result.output
    # What the tests of the shipped content ask of it, too.
    ours = load_content(tmp_path / "cards")
    assert ours.evidence["our-guideline"].link
    topics = {mother.expected.topic for mother in vignettes()}
    assert {mother.expected.topic for mother in vignettes(tmp_path / "fhir_fixtures")} <= topics
    assert "List a new file in\n[cards/README.md](cards/README.md)" in CONTRIBUTING


def test_the_packages_of_the_architecture_are_those_of_the_import_contract() -> None:
    """In its order, from the top to the bottom; the contract names each module that there is."""
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("## Packages")[2]
    rows = re.findall(r"^\| (`.*`) \|", table.partition("## ")[0], re.M)
    written = [name.removesuffix(".py") for row in rows for name in re.findall(r"`(.*?)`", row)]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (each["layers"] for each in contracts["contracts"] if each["type"] == "layers")
    assert written == [name.strip() for layer in layers for name in layer.split("|")]


def test_the_picture_of_a_request_is_the_same_on_each_page_and_that_of_the_code() -> None:
    """Each step is called in ``call_service`` of app.py, in this order."""
    pictures = [
        block.strip()
        for page in ("README.md", "ARCHITECTURE.md")
        for block in blocks((ROOT / page).read_text())
        if block.startswith("HTTP -> ")
    ]
    assert len(pictures) == 2
    assert pictures[0] == pictures[1]
    calls = {
        "admission": "admission.admit(",
        "hook request": "read_request(",
        "prefetch": "resolve_prefetch(",
        "engine": "evaluation.answer(",
        "card log": "card_log.keep(",
    }
    steps = [step for step in pictures[0].split(" -> ") if step not in ("HTTP", "chart")]
    assert steps == list(calls)
    head, _, code = (ROOT / "cds_service" / "app.py").read_text().partition("def call_service(")
    assert f"\n{pictures[0]}\n" in head
    places = [code.index(call) for call in calls.values()]
    assert places == sorted(places)


def test_the_stages_of_the_architecture_are_called_in_this_order() -> None:
    """Those of the engine, in ``Evaluation.judge`` and ``Evaluation.answer``."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    (stages,) = (block for block in blocks(page) if block.startswith("chart -> facts"))
    _, _, *called = stages.strip().split(" -> ")
    code = (ROOT / "cds_service" / "engine" / "evaluation.py").read_text()
    judge = code.partition("    def judge(")[2]
    called = ["Rendering" if name == "render" else name for name in called]
    places = [re.search(rf"\b{name}\(", judge) for name in called]
    starts = [place.start() for place in places if place is not None]
    assert len(starts) == len(called) == 5
    assert starts == sorted(starts)


def test_pre_commit_does_what_make_check_does() -> None:
    recipe = re.split(r"^check:.*$", (ROOT / "Makefile").read_text(), flags=re.M)[1]
    (own,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert own["repo"] == "local"
    assert own["hooks"]
    for hook in own["hooks"]:
        assert hook["entry"].replace(".venv/bin", "$(BIN)") in recipe


def test_the_forms_ask_for_row_evidence_and_vignette() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    fields = {f.get("id"): f for f in yaml.safe_load((folder / "content.yml").read_text())["body"]}
    for name in ("row", "evidence", "vignette"):
        assert fields[name]["validations"]["required"] is True
    asked = (ROOT / ".github" / "pull_request_template.md").read_text().lower()
    assert all(f"- {name} " in asked for name in ("row", "evidence", "vignette"))


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


@pytest.mark.slow
def test_the_program_for_dask_runs(content: Content, tmp_path: Path) -> None:
    (program,) = blocks(CONNECT, "python")
    (tmp_path / "program.py").write_text(program)
    mothers = [mother for mother in EXPORTED if mother.name.startswith("inhibited-letdown")]
    write_export(tmp_path / "EXPORT", resources_of(mothers), content)
    ran = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert f"of {len(mothers)} patients have cards\n0 lines" in ran.stdout, ran.stderr
    assert list((tmp_path / "CARDS").iterdir())


def test_the_first_card_of_a_tester_comes_as_printed(tmp_path: Path) -> None:
    """The request of the page, by the command of the page; and later, why none comes."""
    (sample,) = [block for block in blocks(CONNECT, "json") if '"hookInstance"' in block]
    (tmp_path / "request.json").write_text(sample)
    (command,) = [b for b in blocks(CONNECT) if b.startswith("cds-service evaluate request.json")]
    _, verb, file, *rest = shlex.split(command)
    shown = CliRunner().invoke(main, [verb, str(tmp_path / file), *rest])
    assert "supply-risk-factors" in shown.output
    later = CliRunner().invoke(main, [verb, str(tmp_path / file), "--now", "2027-12-01T12:00:00Z"])
    assert "older than their windows, the newest of 2026-01-15" in " ".join(later.output.split())
    assert "--now" in README
