"""The command line, and the service as it runs under gunicorn."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from cds_service.app import create_app
from cds_service.authoring.vignettes import SHIPPED
from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from cds_service.settings import Settings
from tests.support.calls import VIEW
from tests.support.certificates import self_signed
from tests.support.commands import run
from tests.support.fhir_servers import FhirServer, bundle
from tests.support.mothers import (
    HER,
    average,
    birth,
    hook_request,
    inhibited,
    milk,
    observation,
    plan,
)
from tests.support.orders import draft, order_request
from tests.support.processes import connected, free_port, running, started
from tests.support.waiting import soon

pytestmark = pytest.mark.slow

REQUEST = str(SHIPPED / "inhibited-letdown" / "request.json")
NOW = "2026-01-15T12:00:00Z"


def test_evaluate_shows_the_cards() -> None:
    output = run("evaluate", REQUEST, "--now", NOW)
    assert "Inhibited letdown likely: 62 mL recorded in 24 h on day 5" in output
    assert "warning inhibited-letdown" in output
    assert "7 h 40 min" in output
    assert "Order a lactation consultation" in output


def told(*arguments: str) -> str:
    """What ``evaluate`` prints, in one line."""
    return " ".join(run("evaluate", *arguments).split())


def request_file(folder: Path, content: Content, *resources: dict[str, Any], **keys: Any) -> str:
    """A file with the request of a mother with these records, and with more prefetch ``keys``."""
    request = hook_request(content, *resources)
    request["prefetch"].update(keys)
    file = folder / "request.json"
    file.write_text(json.dumps(request))
    return str(file)


def test_evaluate_says_where_nothing_could_count() -> None:
    """Half a year later what changes by the day is too old: that is not "nothing to do"."""
    output = told(REQUEST, "--now", "2026-07-15T12:00:00Z")
    assert "26 records are older than their windows, the newest of 2026-01-15." in output
    assert "Nothing that was sent of how it goes counts any more." in output
    usual = str(SHIPPED / "average-letdown" / "request.json")
    assert "All was read, and there is nothing to do." in told(usual, "--now", NOW)


def test_evaluate_says_what_is_too_old_beside_what_counts(content: Content, tmp_path: Path) -> None:
    """A record of today among old ones: how many are old, and of when the newest is."""
    old = [milk(20, 24 * days) for days in (3, 4, 5)]
    cases = {
        "no card": [birth(24 * 10), *old, observation("breast-fullness", "normal")],
        "a card": [birth(24 * 10), *old, plan("nurse"), observation("pacifier-use", True)],
    }
    for name, records in cases.items():
        output = told(request_file(tmp_path, content, *records), "--now", NOW)
        assert "3 records are older than their windows, the newest of 2026-01-12." in output, name
        assert "All was read" not in output, name
    assert "supply-risk-factors" in output


def test_old_records_that_newer_ones_replace_are_no_news(content: Content, tmp_path: Path) -> None:
    records = [*average(), milk(80, 60), observation("breast-fullness", "full", 24 * 9)]
    output = told(request_file(tmp_path, content, *records), "--now", NOW)
    assert "older than" not in output
    assert "All was read, and there is nothing to do." in output


def test_evaluate_says_which_gate_silences_cards_and_why(content: Content, tmp_path: Path) -> None:
    died = observation("infant-outcome", "died", 24 * 30)
    records = [birth(24 * 40), *inhibited()[1:], died]
    output = told(request_file(tmp_path, content, *records), "--now", NOW)
    assert "Cards about milk are silent: loss of the infant or the pregnancy" in output
    assert "outcome of the birth: born alive and died" in output
    assert "nothing to do" not in output
    alive = told(request_file(tmp_path, content, *inhibited()), "--now", NOW)
    assert "silent" not in alive
    assert "inhibited-letdown (warning)" in alive


def test_evaluate_says_what_was_sent_and_is_not_used(content: Content, tmp_path: Path) -> None:
    of_another = observation("breast-fullness", "full", subject={"reference": "Patient/another"})
    in_words = observation("breast-fullness", valueString="full")
    file = request_file(tmp_path, content, *average(), of_another, in_words, breastMilk=None)
    output = told(file, "--now", NOW)
    assert "Not read, for no prefetch key is called so: breastMilk." in output
    assert "Not used: 1 record of another patient." in output
    assert "Not used: 1 record (its value is plain text which is not read)." in output
    assert "All was read" not in output


def test_evaluate_says_how_many_entries_of_the_draft_orders_hold_no_order(
    content: Content, tmp_path: Path
) -> None:
    request = order_request(content, draft("Metoclopramide"))
    request["context"]["draftOrders"]["entry"].append({"fullUrl": "urn:uuid:an-order-without-one"})
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    output = told(str(file), "--now", NOW)
    assert "Not used: 1 record whose entry in the draft orders holds no resource." in output


def test_evaluate_says_if_nothing_was_sent_or_she_is_a_child(
    content: Content, tmp_path: Path
) -> None:
    assert "No record was sent that is read here." in told(request_file(tmp_path, content))
    child = {"resourceType": "Patient", "id": HER, "birthDate": "2020-01-01"}
    output = told(request_file(tmp_path, content, *inhibited(), patient=child), "--now", NOW)
    assert "By the Patient resource, a child or someone who has died" in output


def test_evaluate_can_show_how_letdown_was_assessed() -> None:
    request = str(SHIPPED / "data-missing" / "request.json")
    output = run("evaluate", request, "--now", NOW, "--assess")
    assert "Letdown: not assessable" in output
    assert "✓ volume little" in output
    assert "? letdown not-felt" in output
    assert "Letdown: inhibited letdown" in run("evaluate", REQUEST, "--now", NOW, "--assess")


def test_the_first_curl_of_the_readme_gives_her_cards() -> None:
    text = Path("README.md").read_text()
    command = text[text.index("cds-service example inhibited-letdown |") :].partition("```")[0]
    port = free_port()
    command = command.replace("cds-service example", f"{sys.executable} -m cds_service.cli example")
    with started("demo", port=port):
        answer = subprocess.run(
            ["sh", "-c", command.replace(":8000", f":{port}")], capture_output=True, check=True
        )
    cards = json.loads(answer.stdout)["cards"]
    (card,) = cards
    assert card["source"]["topic"]["code"] == "inhibited-letdown"
    assert "Check, and start what is missing" in card["detail"]
    offered = card["extension"]["org.lactation-cds"]["interventions"]
    assert {"raise-frequency", "double-pumping", "breast-massage", "hands-on-pumping"} < {*offered}


def test_evaluate_works_where_the_setting_says() -> None:
    request = str(SHIPPED / "domperidone-clear" / "request.json")
    assert "Against it: no licence here" in run("evaluate", request, "--now", NOW)
    there = run("evaluate", request, "--now", NOW, CDS_JURISDICTION="GB")
    assert "no licence here" in there
    assert "Against it: no licence here" not in there


def test_evaluate_prints_the_response(valid: Callable[[str, Any], None]) -> None:
    response = json.loads(run("evaluate", REQUEST, "--now", NOW, "--json"))
    valid("response", response)
    assert [card["source"]["topic"]["code"] for card in response["cards"]] == ["inhibited-letdown"]


def test_evaluate_prints_the_response_with_the_links_to_handouts(
    content: Content, settings: Settings
) -> None:
    """The service's own answer, but for what is new in each: ids and the time."""
    base_url = settings.base_url
    printed = json.loads(run("evaluate", REQUEST, "--now", NOW, "--json", CDS_BASE_URL=base_url))
    client = create_app(settings, content, lambda: datetime.fromisoformat(NOW)).test_client()
    answered = client.post(VIEW, json=json.loads(Path(REQUEST).read_text())).get_json()
    (ours,), (theirs,) = printed["cards"], answered["cards"]
    assert ours["links"] == theirs["links"]
    assert [link["label"] for link in ours["links"]].count("Handout for her") == 1
    assert (ours["summary"], ours["detail"]) == (theirs["summary"], theirs["detail"])


def without_milk(content: Content, folder: Path, server: str) -> str:
    """A file with a request that lacks her milk, which is to be read from a FHIR server."""
    request = hook_request(content, *inhibited(), fhirServer=server)
    del request["prefetch"]["milkExpression"]
    file = folder / "request.json"
    file.write_text(json.dumps(request))
    return str(file)


IN_TIME = {"CDS_DEADLINE_MS": "5000"}
READ_MILK = {"Observation": bundle(*inhibited())}


def test_evaluate_reads_in_the_private_networks_of_the_service(
    content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def resolve_inside(host: str, *args: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host == "fhir.example.org" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_inside)
    with running(FhirServer(READ_MILK)) as address:
        server = address.replace("127.0.0.1", "fhir.example.org")
        call = ("evaluate", without_milk(content, tmp_path, server), "--now", NOW)
        assert "412: " in run(*call, code=1, **IN_TIME)
        output = run(*call, CDS_PRIVATE_NETWORKS="127.0.0.1/32", **IN_TIME)
    assert "inhibited-letdown (warning)" in output


def test_evaluate_trusts_the_authorities_of_the_service(content: Content, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with running(FhirServer(READ_MILK), tls=tls) as address:
        server = address.replace("127.0.0.1", "localhost")
        call = ("evaluate", without_milk(content, tmp_path, server), "--now", NOW)
        assert "has no certificate that holds" in run(*call, code=1, **IN_TIME)
        output = run(*call, CDS_CA_FILE=certificate, **IN_TIME)
    assert "inhibited-letdown (warning)" in output


def test_the_time_of_evaluation_matters() -> None:
    later = json.loads(run("evaluate", REQUEST, "--now", "2026-03-15T12:00:00+01:00", "--json"))
    codes = [card["source"]["topic"]["code"] for card in later["cards"]]
    assert "inhibited-letdown" not in codes


def test_silence_is_said() -> None:
    request = str(SHIPPED / "average-letdown" / "request.json")
    assert "No cards." in run("evaluate", request, "--now", NOW)


@pytest.mark.parametrize("now", ["noon", "2026-01-15T12:00:00"])
def test_a_time_that_is_none_is_refused(now: str) -> None:
    assert "offset" in (output := run("evaluate", REQUEST, "--now", now, code=2)) or (
        "ISO 8601" in output
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hook": "order-sign"}, "400"),
        ({"prefetch": {}, "fhirServer": None}, "412: Her milk expression"),
        ({"context": {}}, "400"),
    ],
)
def test_a_request_that_is_refused_says_why(
    content: Content, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    request = hook_request(content, *inhibited()) | change
    path = tmp_path / "request.json"
    path.write_text(json.dumps({k: v for k, v in request.items() if v is not None}))
    assert told in run("evaluate", str(path), code=1)


def test_what_is_no_request_says_why(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text("{")
    assert "The body is not JSON in UTF-8." in run("evaluate", str(path), code=1)


def test_an_open_service_stays_on_this_machine_unless_more_is_meant() -> None:
    told = run("serve", "--host", "0.0.0.0", code=1, CDS_AUTH="open")
    assert "CDS_OPEN_BEYOND_LOOPBACK=true" in told


def apart(*arguments: str, width: int = 80) -> tuple[str, str]:
    """What a command prints on stdout, and beside it."""
    result = CliRunner().invoke(main, arguments, env={"COLUMNS": str(width)})
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.mark.parametrize("group", [(), ("content",), ("lactmed",)], ids=str)
def test_the_help_says_each_command_whole(group: tuple[str, ...]) -> None:
    assert "...\n" not in run(*group, "--help", COLUMNS="80").partition("Commands:")[2]


def test_what_machines_read_is_alone_on_stdout_and_what_to_do_next_beside_it(
    tmp_path: Path,
) -> None:
    printed, beside = apart("example", "average-letdown")
    request = tmp_path / "request.json"
    request.write_text(printed)
    assert json.loads(printed)["hook"] == "patient-view"
    assert "cds-service evaluate FILE" in beside
    assert json.loads(apart("evaluate", str(request), "--json")[0]) == {"cards": []}
    assert json.loads(apart("report", "--fhir")[0])["resourceType"] == "MeasureReport"


def test_a_mother_who_is_not_there_is_told_by_whom_is_meant() -> None:
    told = run("example", "inhibited-letdwn", code=1)
    assert "Is it inhibited-letdown" in told
    assert "cds-service example --list" in told
    names = apart("example", "--list")[0].splitlines()
    assert sorted(path.parent.name for path in SHIPPED.glob("*/expected.yaml")) == names


def test_example_writes_what_is_kept_of_the_samples_and_all_others_too(tmp_path: Path) -> None:
    printed, beside = apart("example", "--write", str(tmp_path))
    names = {path.parent.name for path in SHIPPED.glob("*/expected.yaml")}
    assert f"of {len(names)} mothers to " in printed
    assert {path.name for path in tmp_path.iterdir()} == names
    kept = {path.relative_to(SHIPPED): path.read_bytes() for path in SHIPPED.glob("*/*.json")}
    assert kept
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    (command,) = re.findall(r"(?<=cds-service ).*--now \S+", beside)
    file = str(tmp_path / "stillbirth" / "request.json")
    assert "after-loss" in run(*(file if word == "FILE" else word for word in command.split()))


def test_evaluate_ends_with_what_it_came_to() -> None:
    printed, beside = apart("evaluate", REQUEST, "--now", NOW)
    end = " ".join(printed.split("╯")[-1].split())
    assert end == "1 card as of 2026-01-15T12:00+00:00: inhibited-letdown (warning)."
    assert "--json" in beside
    version = re.search(r"content (\w+)", " ".join(printed.replace("│", " ").split()))
    assert version is not None
    assert len(version[1]) == 12  # whole, also in a narrow terminal


def test_an_empty_report_says_so() -> None:
    printed, beside = apart("report")
    assert printed == "No card was shown in the last 90 days.\n"
    assert "CDS_DATABASE_URL" in beside


def test_content_check_is_short_and_its_result_last() -> None:
    printed, beside = apart("content", "check")
    *_, last = lines = printed.splitlines()
    assert len(lines) < 12
    assert max(map(len, lines)) <= 80
    assert re.fullmatch(r"Content \w{12} is valid\. No warnings\.", last)
    assert "--all" in beside
    assert "cds-service content test" in beside


def test_content_check_counts_warnings_by_kind(tmp_path: Path) -> None:
    codes = [{"system": "urn:hospital:drugs", "code": "7", "kind": "product", "verified": "ours"}]
    for number in range(5):
        codes = [codes[0] | {"system": f"urn:hospital:{number}"}, *codes]
    own = {"medicines": [{"id": "domperidone", "codes": codes}]}
    (tmp_path / "own.yaml").write_text(json.dumps(own))
    printed, beside = apart("content", "check", "--directory", str(tmp_path))
    assert "Warning: 6 systems that are in no entry of 'systems'" in printed
    assert printed.count("urn:hospital:") == 3
    assert "3 more warnings" in beside
    assert printed.splitlines()[-1].endswith("is valid. 6 warnings.")
    printed, _ = apart("content", "check", "--directory", str(tmp_path), "--all")
    assert printed.count("urn:hospital:") == 6


def test_content_check_prints_what_it_holds() -> None:
    output = run("content", "check", "--all")
    assert "is valid" in output
    for word in ("facts", "findings", "interventions", "cards", "R01", "S10", "not yet"):
        assert word in output
    assert "rows at work" in output


def test_content_check_tells_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "findings:\n- {id: x, label: x, review: draft, when: {finding: nope}}\n"
    )
    output = run("content", "check", "--directory", str(tmp_path), code=1)
    assert "own.yaml:2" in output
    assert "there is no finding 'nope'" in output


PUMPS = "  - {fact: feeding-plan, is: pump, ago: 2 h}\n"


def vignette(directory: Path, expected: str, mother: str = "") -> Path:
    (directory / "her").mkdir()
    records = mother or "records:\n  - {fact: delivery-time, ago: 4 h}\n" + PUMPS
    text = f"mother: {{given: Mother, born: 1995-03-02}}\n{records}"
    (directory / "her" / "mother.yaml").write_text(text)
    (directory / "her" / "expected.yaml").write_text(expected)
    return directory


def test_content_test_passes_the_shipped_vignettes() -> None:
    output = run("content", "test")
    assert "✗" not in output
    count = len(list(SHIPPED.glob("*/expected.yaml")))
    assert f"{count} of {count} vignettes" in output


def test_content_test_names_slips_of_a_mother(tmp_path: Path) -> None:
    mother = tmp_path / "misspelt"
    mother.mkdir()
    (mother / "mother.yaml").write_text(
        "mother: {given: Mother M, born: 1996-12-11}\n"
        "records:\n  - {fact: delivery-tyme, ago: 5 d}\n"
        "  - {fact: feeding-plan, is: [nurse, nurses], ago: [5 d, 4 d]}\n"
        "  - {fact: vaping-status, is: perhaps, ago: 2 h}\n"
        "  - {fact: potassium, is: normal, ago: 2 h}\n"
    )
    (mother / "expected.yaml").write_text(
        "place: 1\ntopic: x\ntitle: x\nteaches: x\nrows: [R02]\nnear-misses: [R91]\n"
        "cards: [low-milkk]\n"
    )
    output = run("content", "test", str(tmp_path), code=1)
    assert "expected.yaml: there is no row 'R91'" in output
    assert "expected.yaml: there is no card 'low-milkk'" in output
    assert "mother.yaml: there is no fact 'delivery-tyme'" in output
    assert "mother.yaml: 'nurses' is no answer of feeding-plan: nurse, pump" in output
    assert "mother.yaml: 'perhaps' is no answer of vaping-status: yes, no, former" in output
    assert "mother.yaml: 'normal' is no quantity for potassium" in output


def test_content_test_says_what_differs(tmp_path: Path) -> None:
    expected = (
        "title: Four hours\nteaches: x\nrows: [R02, R11]\ncards: [lactation-consult]\n"
        "never: [early-expression]\nsays: {early-expression: [midnight]}\n"
        "never-says: {early-expression: [Start expressing now]}\n"
        "offers: {early-expression: [breast-pump]}\n"
        "never-offers: {early-expression: [skin-to-skin]}\n"
        "indicator: {early-expression: critical, d-mer: info}\n"
    )
    output = run("content", "test", str(vignette(tmp_path, expected)), code=1)
    for told in (
        "cards: expected lactation-consult, got early-expression",
        "early-expression: must not be shown",
        "early-expression: says 'midnight'",
        "early-expression: never says 'Start expressing now'",
        "early-expression: offers breast-pump",
        "early-expression: never offers skin-to-skin",
        "early-expression: expected critical, got info",
        "d-mer: expected info, got no card",
        "rows not on the cards: R11",
        "0 of 1 vignettes",
    ):
        assert told in output, told


def test_content_test_takes_an_overlay(tmp_path: Path) -> None:
    expected = "title: Four hours\nteaches: x\nrows: []\ncards: []\n"
    vignettes = vignette(tmp_path, expected)
    run("content", "test", str(vignettes), code=1)
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "own.yaml").write_text("cards: [{id: early-expression, off: true}]")
    run("content", "test", str(vignettes), "--overlay", str(tmp_path / "overlay"))


@pytest.mark.parametrize(
    ("expected", "told"),
    [("title: [", "expected.yaml"), ("title: x\ncolour: red\n", "colour"), ("", "expected.yaml")],
)
def test_content_test_says_which_vignette_cannot_be_read(
    tmp_path: Path, expected: str, told: str
) -> None:
    assert told in run("content", "test", str(vignette(tmp_path, expected)), code=1)


@pytest.mark.parametrize(
    ("mother", "told"),
    [
        ("recrods: []\n", "recrods: there is no member of this name here"),
        ("records: [{fcat: pump-mode, is: double, ago: 1 h}]\n", "records.0.fact: Field required"),
        ("records: [{fact: pump-mode, is: double}]\n", "records.0.ago: Field required"),
        ("records: [{fact: pump-mode, is: double, ago: soon}]\n", "records.0.ago.0: a duration is"),
        ("records: [{fact: pump-mode, ago: 1 h}]\n", "a record of pump-mode has no value (is)"),
        ("records: [{fact: vaping-status, is: true, ago: 1 h}]\n", "records.0.is.0: a value is an"),
        (
            "records: [{fact: pump-mode, is: [single, double], ago: 1 h}]\n",
            "records.0: 'is' has 2 values, and 'ago' 1 times",
        ),
        ("resources: [{status: final}]\n", "resources.0: a resource has a resourceType"),
        (
            'resources: [{resourceType: Task, for: {reference: "{him}"}}]\n',
            "resources.0: within braces stand her and infant only",
        ),
        ("resources: [{resourceType: Task, text: long ago}]\n", "resources.0: a duration is"),
        ("records: [\n", "mother.yaml: line 3"),
    ],
)
def test_content_test_says_what_of_a_mother_cannot_be_read(
    tmp_path: Path, mother: str, told: str
) -> None:
    expected = "title: x\nteaches: x\nrows: []\ncards: []\n"
    output = run(
        "content", "test", str(vignette(tmp_path, expected, mother)), code=1, COLUMNS="999"
    )
    assert "mother.yaml: " in output
    assert told in output


def test_content_test_says_that_a_mother_is_misspelt_or_has_no_record(tmp_path: Path) -> None:
    vignettes = vignette(tmp_path, "title: x\nteaches: x\nrows: []\ncards: []\n")
    mother = vignettes / "her" / "mother.yaml"
    mother.write_text("mothre: {given: Mother, born: 1995-03-02}\n")
    output = run("content", "test", str(vignettes), code=1)
    assert "her/mother.yaml: " in output
    assert "mothre: there is no member of this name here" in output
    mother.unlink()
    output = run("content", "test", str(vignettes), code=1)
    assert "her has neither mother.yaml nor bundle.json" in output
    (vignettes / "her" / "bundle.json").write_text("{")
    assert "her/bundle.json: " in run("content", "test", str(vignettes), code=1)


def test_content_test_of_nothing_is_an_error(tmp_path: Path) -> None:
    assert "there is no vignette" in run("content", "test", str(tmp_path), code=1)


# --- at start and at the end --------------------------------------------------------------------


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_port_that_is_in_use_is_said_in_a_line_and_another_named(
    command: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "cds_service.cli", command, "--port", str(port)],
            env={**os.environ, "CDS_AUTH": "open", "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    start = f"Error: Port {port} is in use. Choose another: cds-service {command} --port "
    assert line.startswith(start)
    free = int(line.removeprefix(start))
    with socket.create_server(("127.0.0.1", free)):
        pass  # it can be had
    assert list(tmp_path.iterdir()) == []


def test_who_has_the_port_first_is_seen_in_gunicorns_own_lines() -> None:
    """Where another takes it between the look and the start."""
    program = (
        "from cds_service.web.telemetry import write_logs_as_json; write_logs_as_json()\n"
        "from cds_service.web.server import Options, run_under_gunicorn\n"
        "from cds_service.app import create_app\n"
        "import sys; run_under_gunicorn("
        "create_app, Options('127.0.0.1', int(sys.argv[1]), 1, 4, json_logs=True))"
    )
    with socket.create_server(("127.0.0.1", 0)) as other:
        ended = subprocess.run(
            [sys.executable, "-c", program, str(other.getsockname()[1])],
            env={**os.environ, "CDS_AUTH": "open"},
            capture_output=True,
            text=True,
            timeout=30,
        )
    lines = [json.loads(line)["event"] for line in ended.stderr.splitlines()]
    assert sum("Address already in use" in line for line in lines) == 5
    assert not any("left out" in line for line in lines)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["serve", "demo"])
def test_nothing_stays_in_the_temporary_folder(
    command: str, how: signal.Signals, tmp_path: Path
) -> None:
    port = free_port()
    aside = tmp_path / "temporary"
    aside.mkdir()
    own = {"CDS_AUTH": "open", "CDS_METRICS": "true", "TMPDIR": str(aside)}
    service = subprocess.Popen(
        [sys.executable, "-m", "cds_service.cli", command, "--port", str(port)],
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        if command == "demo":
            assert service.stdout is not None
            assert service.stdout.readline().startswith("Open ")
            # Whoever follows the invitation at once is answered.
            assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 200
        else:
            soon(lambda: answers(port), within=20)
        assert requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).status_code == 200
        assert any(aside.iterdir())
        service.send_signal(how)
        service.communicate(timeout=20)
        assert service.returncode == 0
        assert list(aside.iterdir()) == []
    finally:
        service.kill()  # if it has not ended
        service.wait(10)


def answers(port: int) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{port}/health/live", timeout=5).ok
    return False


# --- under gunicorn -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with started(
        "serve", port=free_port(), CDS_AUTH="open", CDS_MAX_BODY_BYTES="200000", CDS_BODY_MS="700"
    ) as service:
        yield service.address


def test_serve_answers_a_hook(served: str) -> None:
    with open(REQUEST, "rb") as body:
        answer = requests.post(
            f"{served}/cds-services/lactation-patient-view",
            data=body.read(),
            headers={"Content-Type": "application/json"},
            timeout=5,
        )
    assert answer.status_code == 200
    assert "cards" in answer.json()


def test_a_body_over_the_limit_is_413_also_in_chunks(served: str) -> None:
    for body in (b"x" * 300_000, (b"x" * 30_000 for _ in range(10))):
        answer = requests.post(
            f"{served}/cds-services/lactation-patient-view",
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=5,
        )
        assert answer.status_code == 413
        assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        ("Content-Length: 100", b'{"hook":'),
        ("Transfer-Encoding: chunked", b'9\r\n{"hook":'),
        ("Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"2\r\n{}XX0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\nno header\r\n\r\n"),
    ],
    ids=["cut", "cut in a chunk", "a length that is none", "a chunk without end", "a trailer"],
)
@pytest.mark.parametrize(("media", "status"), [("application/json", 400), ("text/plain", 415)])
def test_a_body_without_a_right_end_is_the_fault_of_the_caller(
    served: str, head: str, sent: bytes, media: str, status: int
) -> None:
    start = f"POST /cds-services/lactation-patient-view HTTP/1.1\r\nHost: localhost\r\n{head}\r\n"
    with connected(served) as caller:
        caller.sendall(f"{start}Content-Type: {media}\r\n\r\n".encode() + sent)
        caller.shutdown(socket.SHUT_WR)
        with caller.makefile("rb") as answer:
            first, _, body = answer.read().partition(b"\r\n\r\n")
    assert first.startswith(f"HTTP/1.1 {status} ".encode())
    assert json.loads(body)["issue"][0]["code"] in ("structure", "not-supported")
    assert b"HTTP/1.1" not in body  # nothing of what followed is taken for another request


@pytest.mark.parametrize(("media", "status"), [("application/json", 408), ("text/plain", 415)])
def test_a_body_that_comes_a_byte_at_a_time_holds_nobody(
    served: str, media: str, status: int
) -> None:
    service = "/cds-services/lactation-patient-view"
    head = f"POST {service} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}"
    began = time.monotonic()
    with connected(served, timeout=0.1) as slow:
        slow.sendall(f"{head}\r\nContent-Length: 9999\r\n\r\n".encode())
        answer = b""
        while not answer and time.monotonic() - began < 5:
            slow.sendall(b" ")
            with suppress(TimeoutError):
                answer = slow.recv(4096)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert time.monotonic() - began < 2


def test_a_connection_can_be_used_again_after_a_refusal(served: str) -> None:
    """A body that nobody read would be in the way of the next request, now and then."""
    good = Path(REQUEST).read_bytes()
    with requests.Session() as connection:
        for number in range(200):
            time.sleep(2.5 if number == 199 else 0)  # nor is one closed that is idle for a while
            media = "text/plain" if number % 2 else "application/json"
            answer = connection.post(
                f"{served}/cds-services/lactation-patient-view",
                data=b"x" * 150_000 if number % 2 else good,
                headers={"Content-Type": media},
                timeout=5,
            )
            assert answer.status_code == (415 if number % 2 else 200)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"CDS_AUTH": "required"}, "CDS_CLIENTS"),
        ({"CDS_AUTH": "maybe"}, "CDS_AUTH must be required or open."),
        ({"CDS_AUTH": "open", "CDS_DEADLINE_MS": "0"}, "CDS_DEADLINE_MS"),
        (
            {"CDS_AUTH": "open", "CDS_CONTENT_DIR": "/nowhere"},
            "CDS_CONTENT_DIR must be a directory",
        ),
        (
            {"CDS_AUTH": "open", "CDS_PATIENT_KEY": "q" * 15},
            "CDS_PATIENT_KEY must be a text of 16 characters or more",
        ),
        (
            {"CDS_AUTH": "open", "CDS_PATIENT_KEY": "q" + " " * 15},
            "CDS_PATIENT_KEY must be a text of 16 characters or more",
        ),
        (
            {"CDS_AUTH": "open", "CDS_DASHBOARD_PASSWORD": "q" * 11},
            "CDS_DASHBOARD_PASSWORD must be a text of 12 characters or more",
        ),
    ],
)
def test_serve_says_why_it_does_not_start(environment: dict[str, str], told: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "cds_service.cli", "serve", "--port", str(free_port())],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "qq" not in ended.stderr  # nothing of a secret


def test_it_answers_soon_after_the_start() -> None:
    began = time.monotonic()
    with started("serve", port=free_port(), CDS_AUTH="open"):
        assert time.monotonic() - began < 10  # the figure itself is measured by make bench


def test_every_threshold_and_guard_is_watched_by_a_vignette() -> None:
    result = CliRunner().invoke(main, ["content", "mutate"])
    assert result.exit_code == 0, result.output
    noticed = re.search(r"(\d+) of (\d+) mutations are noticed", result.output)
    assert noticed is not None
    assert int(noticed[1]) == int(noticed[2]) >= 90


def test_what_no_vignette_watches_survives_and_is_named(tmp_path: Path) -> None:
    unwatched = {"fact": "breast-pain", "at-least": 9}
    finding = {"id": "unwatched", "label": "unwatched", "review": "draft", "when": unwatched}
    (tmp_path / "own.yaml").write_text(json.dumps({"findings": [finding]}))
    result = CliRunner().invoke(main, ["content", "mutate", "--overlay", str(tmp_path)])
    assert result.exit_code == 1
    assert "survives finding unwatched: breast-pain.value 9 -> 8" in " ".join(result.output.split())
