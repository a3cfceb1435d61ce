"""The service with one thing done otherwise, to know what that thing costs.

python -m benchmarks.variants NAME PORT WORKERS THREADS
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import orjson
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.patient import Patient
from flask import Flask

from cds_service import app
from cds_service.engine.evaluation import Answered, Evaluation
from cds_service.storage.card_log import CardLog
from cds_service.web.admission import Admitted
from cds_service.web.server import Options, run_under_gunicorn
from cds_service.web.telemetry import write_logs_as_json

MODELS = {"Bundle": Bundle, "Patient": Patient}


def validating() -> Flask:
    """Each Bundle, and the Patient, is made a model of FHIR's own before it is looked at."""
    read_body = Admitted.read_body

    def validated(admitted: Admitted) -> bytes:
        body = read_body(admitted)
        for value in orjson.loads(body).get("prefetch", {}).values():
            if value is not None:
                MODELS[value["resourceType"]].model_validate(value)
        return body

    Admitted.read_body = validated  # type: ignore[method-assign]
    return app.create_app()


def unrecorded() -> Flask:
    """What was shown is not noted."""

    def forget(*_: Any) -> None:
        return

    CardLog.keep = forget  # type: ignore[method-assign]
    return app.create_app()


def undecided() -> Flask:
    """Every mother is answered as the first one was: no fact is read, no card put together."""
    decide = Evaluation.answer
    decided: list[Answered] = []

    def repeat(*arguments: Any) -> Answered:
        if not decided:
            decided.append(decide(*arguments))
        return decided[0]

    Evaluation.answer = repeat  # type: ignore[method-assign]
    return app.create_app()


VARIANTS: dict[str, Callable[[], Flask]] = {
    "validating": validating,
    "unrecorded": unrecorded,
    "undecided": undecided,
}

if __name__ == "__main__":
    name, port, workers, threads = sys.argv[1:]
    write_logs_as_json()
    run_under_gunicorn(
        VARIANTS[name], Options("127.0.0.1", int(port), int(workers), int(threads), json_logs=True)
    )
