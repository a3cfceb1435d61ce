"""FHIR servers on this machine that answer as they are told, well or badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from werkzeug.wrappers import Request, Response

Handler = Callable[[Request], Response]


def fhir(resource: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(resource), status, mimetype="application/fhir+json")


def bundle(*resources: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if resources:
        made["entry"] = [{"resource": resource} for resource in resources]
    if following is not None:
        made["link"] = [{"relation": "next", "url": following}]
    return made


@dataclass
class FhirServer:
    """Answers a search by resource type from ``answers``, an empty Bundle if there is none.

    ``seen`` is every request: path with query, and the Authorization header; ``headers`` are all
    of its headers, by names in small letters.
    """

    answers: dict[str, Handler | dict[str, Any]] = field(default_factory=dict)
    delay: float = 0.0
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        with self._lock:
            self.seen.append((request.full_path, request.headers.get("Authorization")))
            self.headers.append({name.lower(): value for name, value in request.headers})
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(self.delay)
            kind = request.path.rsplit("/", 1)[-1]
            answer = self.answers.get(kind, bundle())
            response = answer(request) if callable(answer) else fhir(answer)
        finally:
            with self._lock:
                self._at_once -= 1
        return response(environ, start_response)
