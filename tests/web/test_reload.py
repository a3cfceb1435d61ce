"""New content without a restart: under load, whole, and only if it is right."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.commands import run
from tests.support.overlays import change, version_of
from tests.support.processes import free_port, loaded, started
from tests.support.vignettes import present
from tests.support.waiting import soon

pytestmark = pytest.mark.slow


class Serving(NamedTuple):
    address: str
    overlay: Path
    pid_file: Path
    log: Path

    def ready(self) -> Any:
        return requests.get(f"{self.address}/health/ready", timeout=5).json()

    def versions(self) -> set[str]:
        """What several connections are told: each worker has its turn."""
        return {self.ready()["content"] for _ in range(12)}


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    overlay, log = tmp_path / "own", tmp_path / "service.log"
    overlay.mkdir()
    own = {"CDS_AUTH": "open", "CDS_CONTENT_DIR": str(overlay)}
    own["CDS_PID_FILE"] = str(tmp_path / "service.pid")
    with started("serve", "--workers", "3", port=free_port(), log=log, **own) as service:
        yield Serving(service.address, overlay, tmp_path / "service.pid", log)


def test_it_changes_over_under_load_and_no_answer_is_lost_or_mixed(
    serving: Serving, content: Content
) -> None:
    with loaded(f"{serving.address}{VIEW}", present(content), callers=6) as answers:
        soon(lambda: len(answers) > 50)
        new = change(serving.overlay, "Our own title")
        environment = {"CDS_CONTENT_DIR": str(serving.overlay)}
        told = run("content", "reload", "--pid-file", str(serving.pid_file), **environment)
        assert new in told
        soon(lambda: serving.versions() == {new}, within=20)
        before = len(answers)
        soon(lambda: len(answers) > before + 50)
    assert {answer.status_code for answer in answers} == {200}
    assert {version_of(answer, content) for answer in answers} == {content.version, new}


def test_bad_content_changes_nothing_and_is_reported(serving: Serving, content: Content) -> None:
    old = serving.ready()["content"]
    (serving.overlay / "own.yaml").write_text('{"cards": [{"id": "lactation-consult", "when": 3}]}')
    environment = {"CDS_CONTENT_DIR": str(serving.overlay)}
    told = run("content", "reload", "--pid-file", str(serving.pid_file), code=1, **environment)
    assert "own.yaml" in told
    assert serving.ready()["checks"]["content"] == "pass"  # the service was not even told
    os.kill(int(serving.pid_file.read_text()), signal.SIGHUP)
    soon(lambda: serving.ready()["checks"]["content"] == "fail", within=20)
    soon(lambda: "own.yaml" in serving.log.read_text())
    assert serving.ready()["status"] == "warn"
    assert serving.versions() == {old}
    new = change(serving.overlay, "Our own title")
    os.kill(int(serving.pid_file.read_text()), signal.SIGHUP)
    soon(lambda: serving.versions() == {new}, within=20)
    assert serving.ready()["checks"]["content"] == "pass"


def test_without_a_service_it_says_so(tmp_path: Path) -> None:
    gone = tmp_path / "gone.pid"
    assert "no service runs by" in run("content", "reload", "--pid-file", str(gone), code=1)
    assert "CDS_PID_FILE" in run("content", "reload", code=1)
