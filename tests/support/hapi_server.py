"""A real FHIR server, HAPI FHIR's, built from its Maven artifacts and started for the tests."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.support.processes import free_port, lacking

PROJECT = Path(__file__).parent / "hapi"
NEEDED = "Java 17 and Maven are needed for HAPI FHIR (Debian: default-jdk-headless, maven)"
SECONDS_TO_START = 180


def build() -> str:
    """Compile what starts it, have Maven fetch the rest, and give the class path of both."""
    found, made = PROJECT / "target" / "class-path", PROJECT / "target" / "classes"
    sources = [PROJECT / "pom.xml", PROJECT / "FhirServer.java"]
    if not found.exists() or found.stat().st_mtime < max(s.stat().st_mtime for s in sources):
        goals = ["compile", "dependency:build-classpath", f"-Dmdep.outputFile={found}"]
        command = ["mvn", "--batch-mode", "--quiet", "--file", str(PROJECT / "pom.xml"), *goals]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:]
    return f"{made}:{found.read_text()}"


@contextmanager
def hapi_server(log: Path) -> Iterator[str]:
    """Its base address, once it answers; what it says goes into ``log``.

    Without Java or Maven, a test is skipped on a desk and fails in CI.
    """
    if shutil.which("java") is None or shutil.which("mvn") is None:
        lacking(NEEDED)
    port = free_port()
    # The first compiler alone is enough for a server that lives for a minute, and starts sooner.
    quick = ["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    with log.open("w") as said:
        process = subprocess.Popen(
            ["java", *quick, "-cp", build(), "FhirServer", str(port)],
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            address = f"http://127.0.0.1:{port}/fhir"
            _wait(process, address, log)
            yield address
        finally:
            process.kill()
            process.wait(10)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            # The first statement of what it can do takes it a while.
            if requests.get(f"{address}/metadata", timeout=SECONDS_TO_START).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    pytest.fail(f"HAPI FHIR did not answer in {SECONDS_TO_START} s: {log.read_text()[-4000:]}")
