"""A setting that cannot be used: one line that names it, whatever is started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cds_service.app import create_app
from cds_service.authoring.vignettes import SHIPPED
from cds_service.content.compiled import Content
from cds_service.settings import Settings, SettingsError, read_settings, variable
from tests.support.processes import free_port
from tests.support.repository import ROOT

REQUEST = str(SHIPPED / "inhibited-letdown" / "request.json")
NOW = "2026-01-15T12:00:00Z"
SECRET = "swordfish-of-the-operator"
FILES_OF_VARIABLES = (
    *("Dockerfile", "README.md", "SECURITY.md", "docs/connect.md", "docs/sandbox.md"),
    *(f"deploy/{name}" for name in ("demo.env", "settings.env", "kubernetes.yaml")),
)

NUMBERS = ("0", "-1", "1.5", "many", "1e3", "16 MB")
WORDS = ("maybe", "2", "ja")
# Values that each setting refuses; those that are texts without a form refuse none.
WRONG: dict[str, tuple[str, ...]] = {
    "CDS_BASE_URL": ("cds.example.org", "ftp://cds.example.org", "https://", "http://h:x", "/x"),
    "CDS_AUTH": ("maybe", "OPEN", "none"),
    "CDS_CLIENTS": ("/nowhere/clients.yaml", "/tmp"),
    "CDS_CONTENT_DIR": ("/nowhere", "/etc/hostname"),
    "CDS_PID_FILE": ("/nowhere/service.pid", "/tmp"),
    "CDS_JURISDICTION": ("us", "USA", "Germany", "U"),
    "CDS_DATABASE_URL": (
        f"hospital {SECRET}",
        f"mysql://user:{SECRET}@db/name",
        f"postgresql+nothing://user:{SECRET}@db/name",
        f"postgresql+psycopg://user:{SECRET}@db:port/name",
        f"/var/lib/{SECRET}.sqlite3",
    ),
    "CDS_TIME_ZONE": ("Mars/Phobos", "Middle/Earth", "+02:00", "../etc/passwd", "/etc/hostname"),
    "CDS_PRIVATE_NETWORKS": ("10.0.0.1/8", "10.0.0.0/33", "ehr.example.org", "10.0.0.0/8;::/0"),
    "CDS_CA_FILE": ("/nowhere/ca.pem", "/tmp", "/etc/hostname"),
    "CDS_OPEN_BEYOND_LOOPBACK": WORDS,
    "CDS_METRICS": WORDS,
    "CDS_TRACES": WORDS,
    "CDS_KEEP_COMMENTS": WORDS,
    "CDS_PATIENT_KEY": (),
    "CDS_PATIENT_KEY_BEFORE": (),
    "CDS_SUPPRESSION": WORDS,
    "CDS_OVERRIDES_COUNT_FOR": ("me", "nobody", "User"),
    "CDS_DASHBOARD_PASSWORD": (),
    "CDS_DASHBOARD_PASSWORD_BEFORE": (),
    "CDS_EXPLAIN": WORDS,
    "CDS_KEEP_DAYS": NUMBERS,
    "CDS_ALLOWED_ORIGINS": ("ehr.example.org", "*", "https://a.example/path", "https://a, b"),
    "CDS_MAX_BODY_BYTES": NUMBERS,
    "CDS_BODY_MS": NUMBERS,
    "CDS_DEADLINE_MS": NUMBERS,
    "CDS_AT_ONCE": NUMBERS,
    "CDS_READING_AT_ONCE": NUMBERS,
}
EACH = [(name, value) for name, values in WRONG.items() for value in values]
# What is right: as it stands in the documentation, and at the edge of what is allowed.
RIGHT = {
    "CDS_BASE_URL": ("https://cds.example.org/path/", "http://[::1]:8000", "HTTPS://h.example"),
    "CDS_PID_FILE": ("service.pid", "/tmp/service.pid"),
    "CDS_JURISDICTION": ("DE",),
    "CDS_DATABASE_URL": (
        "sqlite:///service.sqlite3",
        "sqlite://",
        "postgresql+psycopg://user:password@host/name",
    ),
    "CDS_TIME_ZONE": ("UTC", "Europe/Berlin"),
    "CDS_PRIVATE_NETWORKS": ("10.0.0.0/8, fd00::/8", ",", "192.0.2.1"),
    "CDS_METRICS": ("true", "False", "1", "0", "yes", "off"),
    "CDS_ALLOWED_ORIGINS": ("https://ehr.example.org, http://localhost:8080",),
    "CDS_KEEP_DAYS": ("1",),
}


def test_each_setting_is_tried_here() -> None:
    assert {variable(name) for name in Settings.model_fields} == WRONG.keys()


@pytest.mark.parametrize(("name", "value"), EACH)
def test_a_wrong_setting_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        read_settings()
    told = str(raised.value)
    assert told.startswith(f"{name} must be ")
    assert told.endswith(".")
    assert len(told.splitlines()) == 1
    assert "None" not in told
    assert SECRET not in told


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values]
)
def test_a_right_setting_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    read_settings()


def test_several_wrong_settings_are_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDS_TIME_ZONE", "Mars/Phobos")
    monkeypatch.setenv("CDS_BODY_MS", "soon")
    with pytest.raises(SettingsError) as raised:
        read_settings()
    starts = [line.partition(" must be ")[0] for line in str(raised.value).splitlines()]
    assert sorted(starts) == ["CDS_BODY_MS", "CDS_TIME_ZONE"]


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("CDS_DEADLNE_MS", "CDS_DEADLINE_MS"),
        ("CDS_PATIENTKEY", "CDS_PATIENT_KEY"),
        ("cds_jurisdicton", "CDS_JURISDICTION"),
        ("CDS_CONTENT", "CDS_CONTENT_DIR"),
    ],
)
def test_a_misspelt_setting_is_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, given: str, nearest: str
) -> None:
    monkeypatch.setenv(given, SECRET)
    with pytest.raises(SettingsError) as raised:
        read_settings()
    assert str(raised.value) == f"{given} is not a setting; the nearest name is {nearest}."


def test_a_misspelt_setting_is_told_with_those_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CDS_BODY_MS", "soon")
    monkeypatch.setenv("CDS_METRIX", "true")
    with pytest.raises(SettingsError) as raised:
        read_settings()
    assert [line.split()[0] for line in str(raised.value).splitlines()] == [
        "CDS_METRIX",
        "CDS_BODY_MS",
    ]


@pytest.mark.parametrize("file", ["docker-compose.yml", *FILES_OF_VARIABLES])
def test_each_variable_of_a_deployment_is_known(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """Also those that compose alone reads: whoever exports its file has them all."""
    written = re.sub(r"#.*", "", (ROOT / file).read_text())
    names = set(re.findall(r"\bCDS_[A-Z_]+\b", written))
    assert names
    for name in names - {variable(setting) for setting in Settings.model_fields}:
        monkeypatch.setenv(name, "x")
    read_settings()


def ended_with(command: list[str], folder: Path, **environment: str) -> tuple[int, str, str]:
    """How a command ends that is to be refused: its code, and what it says on both ways."""
    own = {"PATH": os.environ["PATH"], "CDS_AUTH": "open", "PYTHONPATH": str(Path.cwd())}
    own |= {"CDS_PATIENT_KEY": SECRET, "CDS_DASHBOARD_PASSWORD": SECRET}
    ended = subprocess.run(
        command,
        env=own | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def started_by(way: str) -> list[str]:
    cds = [sys.executable, "-m", "cds_service.cli"]
    bind = ["--bind", f"127.0.0.1:{free_port()}"]
    gunicorn = [sys.executable, "-m", "gunicorn", *bind, "cds_service.app:create_app()"]
    return {
        "serve": [*cds, "serve", "--port", str(free_port())],
        "evaluate": [*cds, "evaluate", REQUEST, "--now", NOW],
        "gunicorn": gunicorn,
        "gunicorn preloading": [*gunicorn, "--preload"],
    }[way]


WAYS = ("serve", "evaluate", "gunicorn", "gunicorn preloading")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CDS_TIME_ZONE", "Mars/Phobos"),
        ("CDS_DEADLINE_MS", "soon"),
        ("CDS_BASE_URL", "cds.example.org"),
        ("CDS_CLIENTS", "/nowhere/clients.yaml"),
        ("CDS_DATABASE_URL", f"mysql://user:{SECRET}@db/name"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_starts_with_a_wrong_setting(
    tmp_path: Path, way: str, name: str, value: str
) -> None:
    code, printed, told = ended_with(started_by(way), tmp_path, **{name: value})
    assert code != 0
    lines = [line for line in told.splitlines() if name in line]
    assert len(lines) == 1, told
    assert f"{name} must be " in lines[0]
    if "gunicorn" not in way:
        assert told.splitlines() == lines
    assert "Traceback" not in told
    assert SECRET not in printed + told


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_nothing_starts_with_a_misspelt_setting(tmp_path: Path, way: str) -> None:
    code, printed, told = ended_with(started_by(way), tmp_path, CDS_DEADLNE_MS=SECRET)
    assert code != 0
    assert "CDS_DEADLNE_MS is not a setting; the nearest name is CDS_DEADLINE_MS." in told
    assert "Traceback" not in told
    assert SECRET not in printed + told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"CDS_AUTH": "required"}, "CDS_CLIENTS, a file that lists the clients"),
        ({"CDS_CLIENTS": "clients.yaml"}, "CDS_CLIENTS (clients.yaml) cannot be read as a clients"),
        ({"CDS_CONTENT_DIR": "own"}, "colour"),
        ({"CDS_DATABASE_URL": "sqlite:////nowhere/x.sqlite3"}, "CDS_DATABASE_URL cannot be used"),
    ],
)
@pytest.mark.parametrize("way", ["gunicorn", "gunicorn preloading"])
def test_what_else_keeps_it_from_starting_is_told_without_a_traceback(
    tmp_path: Path, way: str, environment: dict[str, str], told: str
) -> None:
    (tmp_path / "clients.yaml").write_text("clients: 3")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own.yaml").write_text("colour: red")
    code, _, said = ended_with(started_by(way), tmp_path, **environment)
    assert code != 0
    assert told in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("given", "suppression", "warning"),
    [
        ({"CDS_QUIET": "false"}, False, "CDS_QUIET is CDS_SUPPRESSION now"),
        ({"cds_quiet": "false"}, False, "CDS_QUIET is CDS_SUPPRESSION now"),
        ({"CDS_QUIET": "false", "CDS_SUPPRESSION": ""}, False, "CDS_QUIET is CDS_SUPPRESSION now"),
        ({"CDS_QUIET": "false", "CDS_SUPPRESSION": "true"}, True, "it is ignored"),
        ({"CDS_QUIET": ""}, True, None),
        ({"CDS_SUPPRESSION": "false"}, False, None),
    ],
)
def test_an_old_name_is_read_and_the_log_tells_the_new_one(
    given: dict[str, str],
    suppression: bool,
    warning: str | None,
    content: Content,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert read_settings().suppression is suppression
    create_app(Settings(auth="open"), content)
    told = [line for line in caplog.messages if "now; the old name goes" in line]
    assert len(told) == (warning is not None)
    assert warning is None or warning in told[0]


def test_an_old_name_with_a_wrong_value_says_what_it_must_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CDS_QUIET", "perhaps")
    with pytest.raises(SettingsError, match="CDS_SUPPRESSION must be true or false"):
        read_settings()


def test_the_service_tells_of_old_names_in_an_overlay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ours.yaml").write_text("cards: [{id: low-milk, never-quiet: true}]")
    create_app(Settings(auth="open", content_dir=tmp_path))
    (told,) = [line for line in caplog.messages if "never-quiet" in line]
    assert told.endswith("ours.yaml:1: 'never-quiet' is 'never-suppressed' now")
