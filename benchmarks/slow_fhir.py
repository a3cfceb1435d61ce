"""A FHIR server that takes its time, and has what was in prefetch."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        """No line for each."""


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

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/fhir"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
