"""Two instances behind a real front: what ends, changes or is replayed while calls come."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.clients import BASE, clients_file, signed
from tests.support.commands import run
from tests.support.overlays import change, version_of
from tests.support.postgresql import new_database, postgresql_server
from tests.support.processes import Started, free_port, loaded, needed, started
from tests.support.repository import DEPLOY
from tests.support.vignettes import present
from tests.support.waiting import at_once, soon

pytestmark = pytest.mark.slow


@contextmanager
def front(services: list[Started]) -> Iterator[tuple[str, str]]:
    """A real nginx with the configuration of the compose file, before services of this machine.

    Its address, and the certificate to believe.
    """
    program, port = needed("nginx", "nginx-light"), free_port()
    home = Path(tempfile.mkdtemp(prefix="front-"))
    home.chmod(0o755)
    made = [sys.executable, str(DEPLOY / "certificate.py"), str(home), "-", "localhost"]
    subprocess.run(made, check=True)
    text = (DEPLOY / "nginx.conf").read_text()
    for number, service in enumerate(services, 1):
        address = service.address.removeprefix("http://")
        text = text.replace(f"service-{number}:8000", address)
    text = text.replace("/tmp/", f"{home}/").replace("/certificate/", f"{home}/")
    text = text.replace("listen 8443", f"listen 127.0.0.1:{port}")
    (home / "nginx.conf").write_text(text)
    arguments = ["-c", str(home / "nginx.conf"), "-e", "stderr", "-g", "daemon off;"]
    process = subprocess.Popen([program, *arguments], stderr=(home / "log").open("w"))
    address, certificate = f"https://localhost:{port}", str(home / "certificate.pem")
    try:
        soon(lambda: ask(f"{address}/health/live", certificate) == 200)
        yield address, certificate
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(10)
        shutil.rmtree(home, ignore_errors=True)


def ask(url: str, certificate: str) -> int:
    try:
        return requests.get(url, verify=certificate, timeout=5).status_code
    except requests.RequestException:
        return 0


def test_one_can_end_and_no_call_is_lost(content: Content) -> None:
    own, request = {"CDS_AUTH": "open"}, present(content)
    with started("serve", port=free_port(), **own) as first:
        second = started("serve", port=free_port(), **own)
        with second as going, front([first, going]) as (address, certificate):
            with loaded(f"{address}{VIEW}", request, verify=certificate) as answers:
                soon(lambda: len(answers) > 50)
                os.kill(going.pid, signal.SIGTERM)
                soon(lambda: not _listens(going))
                before = len(answers)
                soon(lambda: len(answers) > before + 50)
            assert {answer.status_code for answer in answers} == {200}
            assert ask(f"{address}/metrics", certificate) == 404


def _listens(service: Started) -> bool:
    return ask(f"{service.address}/health/live", "") != 0


def test_when_none_is_left_the_front_says_so_as_the_service_would(content: Content) -> None:
    with started("serve", port=free_port(), CDS_AUTH="open") as first:
        with started("serve", port=free_port(), CDS_AUTH="open") as second:
            pass
        with front([first, second]) as (address, certificate):
            os.kill(first.pid, signal.SIGTERM)
            soon(lambda: not _listens(first))
            url, request = f"{address}{VIEW}", present(content)
            answer = requests.post(url, json=request, verify=certificate, timeout=10)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["issue"][0]["details"]["text"] == "No instance of the service answers."


def test_new_content_comes_to_one_after_the_other_and_each_answer_is_of_one_version(
    content: Content, tmp_path: Path
) -> None:
    request, overlays = present(content), [tmp_path / "first", tmp_path / "second"]
    with ExitStack() as all_of_them:
        services = []
        for overlay in overlays:
            overlay.mkdir()
            own = {"CDS_AUTH": "open", "CDS_CONTENT_DIR": str(overlay)}
            own["CDS_PID_FILE"] = f"{overlay}.pid"
            service = started("serve", "--workers", "2", port=free_port(), **own)
            services.append(all_of_them.enter_context(service))
        address, certificate = all_of_them.enter_context(front(services))
        with loaded(f"{address}{VIEW}", request, verify=certificate) as answers:
            for overlay in overlays:
                before = len(answers)
                soon(lambda before=before: len(answers) > before + 50)
                new = change(overlay, "Our own title")
                environment = {"CDS_CONTENT_DIR": str(overlay)}
                told = run("content", "reload", "--pid-file", f"{overlay}.pid", **environment)
                assert new in told
            soon(
                lambda: {version_of(answer, content) for answer in answers[-40:]} == {new},
                within=20,
            )
    assert {answer.status_code for answer in answers} == {200}
    assert {version_of(answer, content) for answer in answers} == {content.version, new}


def test_a_token_sent_to_all_workers_at_one_moment_is_let_in_once(
    content: Content, tmp_path: Path
) -> None:
    """Eight connections to four workers of two instances, twenty times."""
    own = {"CDS_AUTH": "required", "CDS_BASE_URL": BASE}
    own["CDS_CLIENTS"] = str(clients_file(tmp_path / "clients.yaml"))
    request = present(content)
    with postgresql_server() as server, ExitStack() as both:
        own["CDS_DATABASE_URL"] = new_database(server.address)
        instances = [
            both.enter_context(started("serve", "--workers", "2", port=free_port(), **own))
            for _ in range(2)
        ]
        sessions = [both.enter_context(requests.Session()) for _ in range(8)]
        for _ in range(20):
            token = signed()

            def send(number: int, token: dict[str, str] = token) -> int:
                url = f"{instances[number % 2].address}{VIEW}"
                return sessions[number].post(url, json=request, headers=token).status_code

            assert Counter(at_once(8, send)) == {200: 1, 401: 7}


def test_a_large_body_goes_to_no_disk_of_the_front(content: Content) -> None:
    """nginx says so in its log, where it writes one to a file."""
    request = present(content)
    request["context"]["x"] = "y" * 15_000_000
    with (
        started("serve", port=free_port(), CDS_AUTH="open") as service,
        front([service, service]) as (address, certificate),
    ):
        url = f"{address}{VIEW}"
        answer = requests.post(url, json=request, verify=certificate, timeout=20)
        assert answer.status_code == 200
        assert "temporary file" not in (Path(certificate).parent / "log").read_text()
        request["context"]["x"] += "y" * 2_000_000
        refused = requests.post(url, json=request, verify=certificate, timeout=20)
        assert refused.status_code == 413


def test_what_the_front_answers_is_for_https_only(content: Content) -> None:
    with (
        started("serve", port=free_port(), CDS_AUTH="open") as service,
        front([service, service]) as (address, certificate),
    ):
        for path in ("/cds-services", "/nowhere"):
            answer = requests.get(f"{address}{path}", verify=certificate, timeout=5)
            assert answer.headers["Strict-Transport-Security"] == "max-age=63072000"
        os.kill(service.pid, signal.SIGTERM)
        soon(lambda: not _listens(service))
        away = requests.get(f"{address}/cds-services", verify=certificate, timeout=5)
        assert away.status_code == 503
        assert away.headers["Strict-Transport-Security"] == "max-age=63072000"
