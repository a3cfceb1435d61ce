"""The wheel and the source distribution: what is in them, what they need, and that they start.

The wheel is installed as the README says, into an environment of its own: the locked packages with
their hashes, then the wheel. It runs outside of the repository, in a folder that cannot be written.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from werkzeug.wrappers import Request, Response

from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.exports import EXPORTED, resources_of, write_export
from tests.support.processes import free_port, running
from tests.support.repository import ROOT, blocks
from tests.support.vignettes import MOTHERS
from tests.support.waiting import soon

pytestmark = pytest.mark.slow

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION: str = PROJECT["project"]["version"]
LOCKS = ("requirements.lock", "requirements-dev.lock", "build.lock")
SHIPPED = ("cards", "fhir_fixtures")  # at the top of the repository, and within the package
NOT_WRITABLE = Path("/proc")  # not even by root
NOW = "2026-01-15T12:00:00Z"
MOTHER = "inhibited-letdown"


# --- what is in them ----------------------------------------------------------------------------


class Built(NamedTuple):
    """The source distribution, the wheel that was made from it, and one made from the tree."""

    source: Path
    wheel: Path
    wheel_of_tree: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    made: list[Path] = []
    for options in ([], ["--wheel"]):
        to = tmp_path_factory.mktemp("dist")
        command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(to)]
        succeed([*command, str(ROOT)])
        made += sorted(to.iterdir(), key=lambda path: path.suffix)
    return Built(*made)


def succeed(command: list[str], **options: Any) -> str:
    """Run a command that must end well, and give what it printed."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
    assert "Traceback" not in ended.stderr
    return ended.stdout


def in_the_repository() -> dict[str, bytes]:
    """Each file of the repository by its path, also one that was just made."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return {
        name: (ROOT / name).read_bytes()
        for name in succeed(listed, cwd=ROOT).splitlines()
        if (ROOT / name).exists()
    }


def within(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_the_code_the_content_and_the_mothers(built: Built) -> None:
    expected = {
        name if name.startswith("cds_service/") else f"cds_service/{name}": data
        for name, data in in_the_repository().items()
        if name.startswith(("cds_service/", *(f"{directory}/" for directory in SHIPPED)))
    }
    held = within(built.wheel)
    metadata = f"lactation_cds-{VERSION}.dist-info/"
    assert {name: held[name] for name in held if not name.startswith(metadata)} == expected


def test_the_wheel_is_the_same_from_the_source_distribution_and_from_the_tree(built: Built) -> None:
    assert within(built.wheel) == within(built.wheel_of_tree)


def test_the_source_distribution_has_the_whole_repository(built: Built) -> None:
    top = f"lactation_cds-{VERSION}/"
    with tarfile.open(built.source) as archive:
        held = {
            entry.name.removeprefix(top): file.read()
            for entry in archive.getmembers()
            if (file := archive.extractfile(entry)) is not None
        }
    del held["PKG-INFO"]
    assert held == in_the_repository()
    assert "NOTICE" in held


def test_the_wheel_says_what_it_is(built: Built) -> None:
    held = within(built.wheel)
    metadata = f"lactation_cds-{VERSION}.dist-info"
    lines = held[f"{metadata}/METADATA"].decode().splitlines()
    assert f"Version: {VERSION}" in lines
    assert "License-Expression: Apache-2.0" in lines
    assert any(line.startswith("Project-URL: ") for line in lines)
    assert "# lactation-cds" in lines  # the README
    for name in ("LICENSE", "NOTICE"):
        assert held[f"{metadata}/licenses/{name}"] == (ROOT / name).read_bytes()
        assert f"License-File: {name}" in lines


def test_the_version_stands_once() -> None:
    again = re.compile(
        rf"""(?:version\w*["']?\s*[:=]+\s*|lactation.cds[-:=@v]+)["']?{re.escape(VERSION)}\b""",
        re.I,
    )
    found = [
        (name, match)
        for name, data in in_the_repository().items()
        if not name.endswith(".lock")
        for match in again.findall(data.decode("utf-8", "ignore"))
    ]
    assert [name for name, _ in found] == ["pyproject.toml"], found


# --- what it needs ------------------------------------------------------------------------------


def dependencies() -> list[Requirement]:
    project = PROJECT["project"]
    listed = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        listed += extra
    return [Requirement(each) for each in listed]


@pytest.mark.parametrize("dependency", dependencies(), ids=str)
def test_each_dependency_has_a_lower_bound_and_is_locked_within_it(dependency: Requirement) -> None:
    assert ">=" in [each.operator for each in dependency.specifier]
    name = canonicalize_name(dependency.name)
    versions = [pins[name] for pins in map(locked, LOCKS) if name in pins]
    assert versions
    for version in versions:
        assert version in dependency.specifier


def locked(name: str) -> dict[str, Version]:
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(), re.M)
    return {canonicalize_name(package): Version(version) for package, version in pins}


def test_what_the_code_imports_is_a_dependency() -> None:
    project = PROJECT["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["dask"]]
    declared = {canonicalize_name(Requirement(each).name) for each in listed}
    distributions = packages_distributions()
    for path in sorted((ROOT / "cds_service").rglob("*.py")):
        for name in imported(ast.parse(path.read_text())) - sys.stdlib_module_names:
            found = {canonicalize_name(each) for each in distributions.get(name, ())}
            assert found & declared, f"{path.name} imports {name}"


def imported(tree: ast.AST) -> set[str]:
    """The packages that a module imports, other than its own."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names} - {"cds_service"}


# --- that it starts -----------------------------------------------------------------------------


@cache
def pythons() -> list[str]:
    """Each Python that the project names and that this machine has, the oldest first."""
    places = [*os.get_exec_path(), *map(str, Path.home().glob(".pyenv/versions/*/bin"))]
    found = []
    for classifier in PROJECT["project"]["classifiers"]:
        if version := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier):
            programs = (Path(place, f"python{version[1]}") for place in places)
            found += [str(program) for program in programs if can_make_environments(program)][:1]
    assert found, "no Python that the project names"
    return found


def can_make_environments(python: Path) -> bool:
    command = [str(python), "-c", "import ensurepip, venv"]
    return (
        python.exists()
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.fixture(scope="module", params=["oldest", "newest"])
def command(
    request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """``cds-service`` of an environment that has the wheel, and nothing but what is locked."""
    if request.param == "newest" and len(pythons()) == 1:
        pytest.skip("this machine has one Python that the project names")
    python = pythons()[0 if request.param == "oldest" else -1]
    home = tmp_path_factory.mktemp("environment")
    succeed([python, "-m", "venv", str(home)])
    pip = [str(home / "bin/python"), "-m", "pip"]
    succeed([*pip, "install", "--quiet", "--require-hashes", "-r", str(ROOT / "requirements.lock")])
    succeed([*pip, "install", "--quiet", "--no-deps", str(built.wheel)])
    succeed([*pip, "check"])  # what is locked is all that the wheel asks for
    return str(home / "bin/cds-service")


def run(command: str, *arguments: str) -> str:
    """What the installed command prints; the settings are those that it comes with."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CDS_")}
    return succeed([command, *arguments], cwd=NOT_WRITABLE, env=own | {"COLUMNS": "120"})


def request_of(mother: str) -> bytes:
    return (ROOT / "fhir_fixtures" / mother / "request.json").read_bytes()


def cards_expected(mother: str) -> list[str]:
    path = ROOT / "fhir_fixtures" / mother / "expected.yaml"
    cards: list[str] = yaml.safe_load(path.read_text())["cards"]
    return cards


def topics(response: Any) -> list[str]:
    return [card["source"]["topic"]["code"] for card in response["cards"]]


def test_it_knows_its_version(command: str) -> None:
    assert run(command, "--version").endswith(f"version {VERSION}\n")


def test_its_content_is_that_of_the_repository(command: str, content: Content) -> None:
    assert f"Content {content.version} is valid." in run(command, "content", "check")


def test_it_evaluates_a_request(command: str, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_bytes(request_of(MOTHER))
    printed = run(command, "evaluate", str(request), "--now", NOW, "--json")
    assert topics(json.loads(printed)) == cards_expected(MOTHER)


def test_its_mothers_get_their_cards_and_watch_its_content(command: str) -> None:
    count = len(MOTHERS)
    assert f"{count} of {count} vignettes" in run(command, "content", "test")
    assert "mutations are noticed" in run(command, "content", "mutate")


def test_it_loads_its_mothers(command: str) -> None:
    received: list[str] = []

    def server(environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        if request.method == "POST":
            received.append(json.loads(request.get_data())["id"])
        return Response("{}", mimetype="application/fhir+json")(environ, start_response)

    with running(server) as address:
        run(command, "load", f"{address}/fhir")
    assert sorted(received) == sorted(mother.bundle["id"] for mother in MOTHERS)


@contextmanager
def serving(command: str, *arguments: str, **environment: str) -> Iterator[str]:
    """The address of a service that answers; at the end it is told to stop, and must do so well."""
    port = free_port()
    process = subprocess.Popen(
        [command, *arguments, "--port", str(port)],
        cwd=NOT_WRITABLE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        soon(lambda: answers(address) or process.poll() is not None, within=20)
        assert process.poll() is None, process.communicate()[0]
        yield address
    finally:
        process.terminate()
        process.wait(10)
    assert process.returncode == 0


def answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_it_serves(command: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/service.sqlite3"
    with serving(command, "serve", CDS_AUTH="open", CDS_DATABASE_URL=database) as address:
        answer = call(address)
    assert answer.status_code == 200
    assert answer.json().keys() == {"cards"}


def test_its_demo_starts_answers_and_stops(command: str) -> None:
    with serving(command, "demo") as address:
        page = requests.get(f"{address}/mothers/{MOTHER}/encounter", timeout=10)
        (style,) = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text)
        styled = requests.get(f"{address}{style}", timeout=5)
        answer = call(address)
    assert page.status_code == styled.status_code == answer.status_code == 200
    assert "Inhibited letdown likely" in page.text


INLINE = re.compile(r"`(cds-service [^`\[]+)`")
SERVES = re.compile(r"cds-service (serve|demo)\b")


def printed_commands() -> list[str]:
    """What the README and the page for those who connect print to be run, in their order."""
    commands: list[str] = []
    for page in ("README.md", "docs/connect.md"):
        text = (ROOT / page).read_text()
        for block in blocks(text):
            lines = block.replace("\\\n", " ").splitlines()
            commands += [line for line in lines if "cds-service" in line]
        commands += INLINE.findall(text)
    return list(dict.fromkeys(commands))


def test_every_command_that_is_printed_runs_as_printed_in_any_folder(
    command: str, content: Content, tmp_path: Path
) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("CDS_")}
    own |= {"PATH": f"{Path(command).parent}:{own['PATH']}", "CDS_PID_FILE": "service.pid"}
    (example,) = blocks((ROOT / "README.md").read_text(), "yaml")
    (tmp_path / "clients.yaml").write_text(example)
    write_export(tmp_path / "EXPORT", resources_of(EXPORTED[:3]), content)
    commands = printed_commands()
    servers = [line for line in commands if SERVES.search(line)]
    assert len(servers) == 2
    assert len(commands) >= 9

    def start(line: str) -> tuple[subprocess.Popen[bytes], str]:
        port = free_port()
        started = subprocess.Popen(
            ["sh", "-c", f"exec env {line} --port {port}"],
            cwd=tmp_path,
            env=own,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        address = f"http://127.0.0.1:{port}"
        soon(lambda: answers(address) or started.poll() is not None, within=20)
        assert started.poll() is None, line
        return started, address

    running_ones = []
    try:
        addresses = {}
        for line in servers:
            process, address = start(line)
            running_ones.append(process)
            addresses["demo" if "demo" in line else "serve"] = address
        for line in commands:
            if line not in servers:
                here = line.replace("http://127.0.0.1:8000", addresses["demo"])
                said = succeed(["sh", "-ec", here], cwd=tmp_path, env=own)
                assert "OperationOutcome" not in said, line
    finally:
        for process in running_ones:
            process.terminate()
            process.wait(10)


def call(address: str) -> requests.Response:
    media = {"Content-Type": "application/json"}
    return requests.post(f"{address}{VIEW}", data=request_of(MOTHER), headers=media, timeout=10)


def test_where_it_cannot_write_it_says_which_setting_matters(command: str) -> None:
    ended = subprocess.run(
        [command, "serve", "--port", str(free_port())],
        cwd=NOT_WRITABLE,
        env={"CDS_AUTH": "open"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1
    assert "CDS_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_writes_no_fixtures_over_what_is_installed(command: str) -> None:
    python = str(Path(command).with_name("python"))
    ended = subprocess.run(
        [python, "-m", "cds_service.demo.ehr"],
        cwd=NOT_WRITABLE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "repository" in ended.stderr
    assert "Traceback" not in ended.stderr
