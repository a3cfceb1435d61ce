"""A FHIR server that takes its time, and has what was in prefetch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from werkzeug.wrappers import Request, Response

from tests.support.processes import running


@contextmanager
def slow_fhir_server(prefetch: dict[str, Any], seconds: float) -> Iterator[str]:
    """Its base address: every search of a type gets all that was prefetched of that type."""
    by_type: dict[str, list[dict[str, Any]]] = {}
    for bundle in prefetch.values():
        for entry in (bundle or {}).get("entry", ()):
            by_type.setdefault(entry["resource"]["resourceType"], []).append(entry)

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        time.sleep(seconds)
        kind = Request(environ).path.rpartition("/")[2]
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": by_type.get(kind, [])}
        made = Response(orjson.dumps(bundle), mimetype="application/fhir+json")
        return made(environ, start_response)

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each reading
    with running(answer) as address:
        yield f"{address}/fhir"
