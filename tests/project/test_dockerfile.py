"""The Dockerfile's steps, one after the other, on a Debian with a Python and nothing else.

No engine is needed: a stage is a directory that is entered with ``chroot``. That takes root, and
``debootstrap`` for the Debian that the image of Python is made of.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from cds_service.authoring.vignettes import SHIPPED
from tests.support.calls import VIEW
from tests.support.clients import BASE, clients_file, signed
from tests.support.processes import free_port, lacking, needed
from tests.support.repository import ROOT
from tests.support.waiting import soon

pytestmark = pytest.mark.slow

DEBIAN = "bookworm"
# How this machine reaches a package index is its own affair; what it says of it goes along.
OF_THE_MACHINE = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass
class Stage:
    """A root directory, and what the instructions have said of it."""

    root: Path
    directory: str = "/"
    user: str = "0"
    environment: dict[str, str] = field(default_factory=dict)

    def inside(self, path: str) -> Path:
        return self.root / os.path.normpath(os.path.join(self.directory, path)).lstrip("/")

    def command(self, arguments: list[str], **environment: str) -> list[str]:
        path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        own = {"PATH": path, "HOME": "/tmp"} | self.environment | environment
        there = f'cd {shlex.quote(self.directory)} && exec "$@"'
        chroot = ["chroot", f"--userspec={self.user}:{self.user}", str(self.root)]
        pairs = [f"{name}={value}" for name, value in own.items()]
        return [*chroot, "/usr/bin/env", "-i", *pairs, "/bin/sh", "-c", there, "sh", *arguments]


@dataclass
class Image:
    """What was built, and how it is started and asked for its health."""

    stage: Stage
    start: list[str]
    health: list[str]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    program, home = needed("debootstrap", "debootstrap"), tmp_path_factory.mktemp("image")
    if os.geteuid() != 0:
        lacking("root is needed to enter another root directory")
    home.parent.chmod(0o755)
    include = "--include=python3,python3-venv,ca-certificates"
    arguments = ["--variant=minbase", include, DEBIAN, str(home / "base")]
    made = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-2000:]
    (home / "base/usr/local/bin/python").symlink_to("/usr/bin/python3")
    for path in (*OF_THE_MACHINE, CERTIFICATES):
        if Path(path).exists():
            shutil.copy(path, home / "base" / path.lstrip("/"))
    try:
        yield build(home)
    finally:
        shutil.rmtree(home)


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def build(home: Path) -> Image:
    stages: dict[str, Stage] = {}
    arguments: dict[str, str] = {}
    stage, start, health = Stage(home), list[str](), list[str]()
    for name, rest in instructions():
        if name == "ARG":
            argument, _, value = rest.partition("=")
            arguments[f"${{{argument}}}"] = value
        elif name == "FROM":
            base, _, called = rest.partition(" AS ")
            image = arguments.get(base, base)
            assert image.startswith("python:3.11.")
            assert image.endswith(f"-slim-{DEBIAN}")
            stage = stages[called] = Stage(home / f"stage-{len(stages)}")
            subprocess.run(["cp", "-a", str(home / "base"), str(stage.root)], check=True)
        elif name == "WORKDIR":
            stage.directory = rest
            stage.inside(".").mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            copy(stages, stage, rest)
        elif name == "RUN":
            done = subprocess.run(
                stage.command(["/bin/sh", "-e", "-c", rest]),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{rest}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        elif name == "USER":
            stage.user = rest
        elif name == "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif name == "HEALTHCHECK":
            health = json.loads(rest.removeprefix("CMD "))
        elif name in ("ENTRYPOINT", "CMD"):
            start += json.loads(rest)
        else:
            assert name == "EXPOSE", f"no step is known for {name}"
    return Image(stage, start, health)


def copy(stages: dict[str, Stage], stage: Stage, rest: str) -> None:
    source = re.fullmatch(r"(?:--from=(\S+) )?(\S+) (\S+)", rest)
    assert source is not None, rest
    called, what, where = source.groups()
    if called:
        stage.inside(where).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-aT", stages[called].inside(what), stage.inside(where)], check=True)
        return
    # What a clean checkout holds; an engine would send what .dockerignore leaves.
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", what]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        target = stage.inside(where) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def test_what_it_builds_starts_without_root_and_answers(image: Image) -> None:
    port = free_port()
    assert image.stage.user != "0"
    mounted = image.stage.root / image.stage.environment["CDS_CLIENTS"].lstrip("/")
    mounted.parent.mkdir(exist_ok=True)
    clients_file(mounted)
    start = image.stage.command([*image.start, "--port", str(port)], CDS_BASE_URL=BASE)
    process = subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        soon(lambda: healthy(image, port) or process.poll() is not None, within=30)
        assert process.poll() is None, process.communicate()[0]
        request = json.loads((SHIPPED / "inhibited-letdown" / "request.json").read_text())
        del request["fhirServer"]  # this client has another
        url = f"http://127.0.0.1:{port}{VIEW}"
        answer = requests.post(url, json=request, headers=signed(), timeout=5)
        assert answer.status_code == 200, answer.text
        written = {path.name for path in image.stage.inside("/data").iterdir()}
        assert any(name.endswith(".sqlite3") for name in written)
        assert os.stat(f"/proc/{process.pid}").st_uid == int(image.stage.user)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def healthy(image: Image, port: int) -> bool:
    check = [part.replace(":8000", f":{port}") for part in image.health]
    return (
        subprocess.run(image.stage.command(check), capture_output=True, check=False).returncode == 0
    )


def test_it_leaves_out_what_only_the_work_on_it_needs(image: Image) -> None:
    for place in ("/build", "/opt/build", "/wheel"):
        assert not image.stage.inside(place).exists()


def test_it_has_the_wheel_and_no_link_to_where_it_was_built(image: Image) -> None:
    (packages,) = image.stage.inside("/opt/lactation-cds/lib").glob("python3*/site-packages")
    for name in (
        "cli/__main__.py",
        "cards/rows.yaml",
        "fhir_fixtures/stillbirth/mother.yaml",
    ):
        assert (packages / "cds_service" / name).is_file()
    assert not list(packages.glob("*lactation_cds*.pth"))
    assert not (packages / "hatchling").exists()


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_what_is_installed_is_locked_as_what_is_tested(name: str) -> None:
    """Each pin with its hashes is one of ``requirements-dev.lock``."""
    installed, tested = (
        {pin.partition(" ")[0]: set(re.findall(r"--hash=\S+", pin)) for pin in pins(lock)}
        for lock in (name, "requirements-dev.lock")
    )
    assert all(installed.values())
    assert installed.items() <= tested.items()
    assert not any(pin.startswith(("pytest=", "mypy=", "ruff=")) for pin in installed)


def pins(name: str) -> list[str]:
    """The entries of a lock file: what is pinned, when, and its hashes."""
    return re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
