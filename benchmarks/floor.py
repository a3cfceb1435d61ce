"""The floor: the same server, parsing the same body with orjson and returning a fixed body.

python -m benchmarks.floor PORT FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
from flask import Flask, Response, request

from cds_service.web.server import Options, run_under_gunicorn


def create_floor(answer: bytes) -> Flask:
    """A route that does what no service can do without."""
    app = Flask("floor", static_folder=None)

    @app.post("/cds-services/<service_id>")
    def call_service(service_id: str) -> Response:
        orjson.loads(request.get_data(cache=False))
        return Response(answer, mimetype="application/json")

    return app


if __name__ == "__main__":
    port, path, workers, threads = sys.argv[1:]
    body = Path(path).read_bytes()
    run_under_gunicorn(
        lambda: create_floor(body), Options("127.0.0.1", int(port), int(workers), int(threads))
    )
