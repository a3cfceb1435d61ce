"""What a hospital starts it with: the compose file, Kubernetes, the synthetic mothers."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import requests
import yaml
from werkzeug.wrappers import Request, Response

from benchmarks.processes import children, resident
from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from cds_service.limits.bounds import EVALUATION_SECONDS, MOST_HELD
from cds_service.settings import Settings
from cds_service.storage.database import CONNECTIONS, Database, DatabaseError
from cds_service.web.server import GRACE_SECONDS
from tests.support.calls import VIEW
from tests.support.commands import run
from tests.support.postgresql import postgresql_server
from tests.support.processes import free_port, needed, running, started
from tests.support.repository import DEPLOY, ROOT
from tests.support.vignettes import MOTHERS, present

pytestmark = pytest.mark.slow

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
SETTINGS = {f"CDS_{name.upper()}" for name in Settings.model_fields}


# --- compose ------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", ["settings", "demo"])
def test_the_compose_file_is_one(env: str, tmp_path: Path) -> None:
    written = (DEPLOY / f"{env}.env").read_text()
    filled = re.sub(r"^(CDS_\w+)=$", r"\1=secret", written, flags=re.M)
    (tmp_path / "env").write_text(filled)
    ended = subprocess.run(
        [
            *(needed("docker-compose", "docker-compose"), "--env-file", str(tmp_path / "env")),
            *("--profile", "demo", "--profile", "metrics", "config", "--services"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert set(ended.stdout.split()) == set(COMPOSE["services"])


def test_without_its_secrets_it_does_not_start() -> None:
    program = needed("docker-compose", "docker-compose")
    empty = {name: value for name, value in os.environ.items() if not name.startswith("CDS_")}
    ended = subprocess.run(
        [program, "config"], cwd=ROOT, env=empty, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "write it into .env" in ended.stderr


def test_every_setting_of_the_compose_file_is_one() -> None:
    for service in ("service-1", "service-2"):
        assert set(COMPOSE["services"][service]["environment"]) <= SETTINGS
    text = (ROOT / "docker-compose.yml").read_text()
    asked = set(re.findall(r"\$\{(CDS_\w+)", text))
    images = {f"CDS_{name}_IMAGE" for name in ("PYTHON", "FRONT", "DATABASE", "FHIR", "PROMETHEUS")}
    own = {"CDS_DATABASE_PASSWORD", "CDS_CLIENTS_FILE", "CDS_PORT"} | images
    assert asked <= SETTINGS | own
    for name in ("settings", "demo"):
        written = set(re.findall(r"^(CDS_\w+)=", (DEPLOY / f"{name}.env").read_text(), re.M))
        assert written <= asked


def test_every_command_of_the_compose_file_is_one() -> None:
    (load,) = [
        service["command"]
        for service in COMPOSE["services"].values()
        if service.get("command", [""])[0] == "load"
    ]
    command, *arguments = load
    context = main.commands[command].make_context(command, list(arguments))
    assert context.params == {"server": "http://fhir:8080/fhir", "wait": 300}
    last = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.M)[-1]
    command, *arguments = yaml.safe_load(last)
    assert main.commands[command].make_context(command, arguments).params["host"] == "0.0.0.0"


def test_images_are_pinned_and_nothing_is_privileged() -> None:
    python = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert python is not None
    exact = r":v?\d+\.\d+(\.\d+)?(-[a-z-]+)?$"
    assert re.search(exact, python[1])
    for name, service in COMPOSE["services"].items():
        image = service["image"]
        if image == "lactation-cds:local":  # which is built here
            built = service.get("build", {}).get("args", {}).get("PYTHON_IMAGE", "")
            assert name == "fixtures" or built == f"${{CDS_PYTHON_IMAGE:-{python[1]}}}"
        else:  # by its digest, where a hospital says so
            named = re.fullmatch(r"\$\{CDS_[A-Z]+_IMAGE:-(.+)\}", image)
            assert named is not None, (name, image)
            assert re.search(exact, named[1]), (name, image)
        assert not service.get("privileged")
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
    for name in ("service-1", "service-2", "front"):
        service = COMPOSE["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_no_password_is_known_outside_the_demo() -> None:
    for line in (DEPLOY / "settings.env").read_text().splitlines():
        name, _, value = line.partition("=")
        if name.endswith(("PASSWORD", "KEY")):
            assert value == ""


# --- keys, and the database over TLS --------------------------------------------------------------


def certificate_for(directory: Path, owner: str, *names: str) -> None:
    directory.mkdir(exist_ok=True)
    made = [sys.executable, str(DEPLOY / "certificate.py"), str(directory), owner, *names]
    subprocess.run(made, check=True)


def test_a_key_is_its_owners_alone_also_one_of_before(tmp_path: Path) -> None:
    for _ in range(2):
        certificate_for(tmp_path, "-", "localhost")
        assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
        (tmp_path / "key.pem").chmod(0o644)
    if os.geteuid() == 0:
        certificate_for(tmp_path, "101", "localhost")
        assert (tmp_path / "key.pem").stat().st_uid == 101
    (volume,) = [each for each in POD["volumes"] if each["name"] == "clients"]
    assert volume["secret"]["defaultMode"] & 0o007 == 0
    assert POD["securityContext"]["fsGroup"] == POD["securityContext"]["runAsUser"]


def test_the_database_is_asked_over_tls_and_no_other_is_believed(tmp_path: Path) -> None:
    """By the options of the compose file, with certificates as it has them made."""
    for name in ("own", "other"):
        certificate_for(tmp_path / name, "-", "localhost")
    written = COMPOSE["services"]["database"]["command"].replace(
        "/database-certificate", "{home}/tls"
    )
    options = written.removeprefix("postgres ")
    address = COMPOSE["services"]["service-1"]["environment"]["CDS_DATABASE_URL"]
    query = address.rpartition("?")[2].replace("/database-certificate", "{}")
    with postgresql_server(options, {"tls": tmp_path / "own"}) as server:
        url = f"{server.address.replace('127.0.0.1', 'localhost')}?{query}"
        database = Database(url.format(tmp_path / "own"))
        database.upgrade()
        with database.engine.connect() as connection:
            asked = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            encrypted, version = connection.exec_driver_sql(asked).one()
        assert encrypted
        assert version in ("TLSv1.2", "TLSv1.3")
        with pytest.raises(DatabaseError):
            Database(url.format(tmp_path / "other")).upgrade()


# --- what fits to what --------------------------------------------------------------------------

MIB = 1024 * 1024
UNITS = {"Ki": 1024, "Mi": MIB, "Gi": 1024 * MIB, "k": 1024, "m": MIB, "g": 1024 * MIB}
POD: dict[str, Any] = KUBERNETES[0]["spec"]["template"]["spec"]
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}
SERVE = {option.name: option.default for option in main.commands["serve"].params}
NGINX = (DEPLOY / "nginx.conf").read_text()


def bytes_in(size: str) -> int:
    found = re.fullmatch(r"(\d+)([A-Za-z]*)", size)
    assert found is not None
    return int(found[1]) * UNITS[found[2]]


def workers_in(command: list[str]) -> int:
    return int(command[command.index("--workers") + 1])


def of_nginx(name: str) -> str:
    found = re.search(rf"^\s*{name} ([^;]+);", NGINX, re.M)
    assert found is not None, name
    return found[1]


def seconds_in(written: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s)", written).groups()  # type: ignore[union-attr]
    return int(number) / (1000 if unit == "ms" else 1)


def test_all_that_workers_may_hold_fits_into_a_pod_and_a_container(content: Content) -> None:
    """Measured: what they take without a request. Added to it: what requests may hold, and /tmp."""
    container = POD["containers"][0]
    service = COMPOSE["services"]["service-1"]
    last = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.M)[-1]
    workers = workers_in(container["args"])
    assert workers_in(yaml.safe_load(last)) == workers  # as in the compose file, which says none
    request = present(content)
    own = started("serve", "--workers", str(workers), port=free_port(), CDS_AUTH="open")
    with own as there:
        for _ in range(40):
            answer = requests.post(f"{there.address}{VIEW}", json=request, timeout=5)
            assert answer.status_code == 200
        base = sum(resident(process) for process in (there.pid, *children(there.pid))) * MIB
    bodies = 4 * DEFAULTS["max_body_bytes"]  # that come in, and are not weighed yet
    (tmp,) = [each["emptyDir"]["sizeLimit"] for each in POD["volumes"] if each["name"] == "tmp"]
    needed = base + workers * (MOST_HELD + bodies)
    assert needed + bytes_in(tmp) <= bytes_in(container["resources"]["limits"]["memory"])
    (in_memory,) = service["tmpfs"]
    size = re.search(r"size=(\w+)", in_memory)
    assert size is not None
    assert needed + bytes_in(size[1]) <= bytes_in(service["mem_limit"])


def test_limits_fit_each_other() -> None:
    assert DEFAULTS["reading_at_once"] <= DEFAULTS["at_once"] < SERVE["threads"]
    assert bytes_in(of_nginx("client_max_body_size")) == DEFAULTS["max_body_bytes"]
    longest = (DEFAULTS["body_ms"] + DEFAULTS["deadline_ms"]) / 1000 + EVALUATION_SECONDS
    assert longest < seconds_in(of_nginx("proxy_read_timeout"))
    assert DEFAULTS["deadline_ms"] / 1000 + EVALUATION_SECONDS < GRACE_SECONDS
    pause = int(re.findall(r"sleep\((\d+)\)", str(POD["containers"][0]["lifecycle"]))[0])
    assert pause + GRACE_SECONDS < POD["terminationGracePeriodSeconds"]
    stop = COMPOSE["services"]["service-1"]["stop_grace_period"]
    assert seconds_in(stop) > GRACE_SECONDS


def test_all_instances_leave_connections_of_a_postgresql_to_others() -> None:
    """By default it takes 100, three of them for its administrators."""
    (scaler,) = [each for each in KUBERNETES if each["kind"] == "HorizontalPodAutoscaler"]
    workers = workers_in(POD["containers"][0]["args"])
    most = scaler["spec"]["maxReplicas"] + 1  # one more while they are changed
    assert most * (workers * CONNECTIONS + 1) <= 97  # one of the first process, from the start


# --- the synthetic mothers ----------------------------------------------------------------------


def test_they_are_loaded_as_transactions_of_today() -> None:
    sent: list[Any] = []

    def server(environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        if request.method == "POST":
            sent.append(json.loads(request.get_data()))
        return Response("{}", mimetype="application/fhir+json")(environ, start_response)

    with running(server) as address:
        assert "synthetic mothers into" in run("load", f"{address}/fhir")
    assert len(sent) == len(MOTHERS)
    for bundle in sent:
        assert bundle["type"] == "transaction"
        age = datetime.now(UTC) - datetime.fromisoformat(bundle["timestamp"])
        assert age < timedelta(minutes=1)


def test_without_a_server_loading_says_so() -> None:
    assert "no FHIR server answers" in run("load", f"http://127.0.0.1:{free_port()}/fhir", code=1)


# --- Kubernetes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", KUBERNETES, ids=lambda manifest: manifest["kind"])
def test_each_manifest_is_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.30", strict=True)


def test_the_deployment_runs_what_there_is() -> None:
    kinds = [manifest["kind"] for manifest in KUBERNETES]
    assert kinds == [
        *("Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"),
        "NetworkPolicy",
    ]
    pod = KUBERNETES[0]["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False  # else other Services set variables CDS_...
    (container,) = pod["containers"]
    assert {each["name"] for each in container["env"]} <= SETTINGS
    command, *arguments = container["args"]
    assert main.commands[command].make_context(command, arguments).params["workers"] == 2
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in ("/health/live", "/health/ready")
    assert container["resources"]["limits"]["memory"]
