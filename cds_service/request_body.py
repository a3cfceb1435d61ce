"""The body of a request: as many bytes, and for as long, as an operator allows.

Nothing here looks into it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from flask import request
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from .deadlines import until
from .protocol import Refusal

CHUNK = 64 * 1024


def read_body(seconds: float) -> bytes:
    """The body of this request.

    Raises ``RequestEntityTooLarge`` (413) if it is longer than ``MAX_CONTENT_LENGTH``, and
    ``Refusal`` (408) if it is not here after ``seconds``.
    """
    with _reading_for(seconds):
        body = request.get_data(cache=False)
    limit = request.max_content_length
    # A body in chunks has no length beforehand, and is cut at the limit without an error.
    if request.content_length is None and limit is not None and len(body) >= limit:
        raise RequestEntityTooLarge
    return body


def discard_body(seconds: float) -> None:
    """Read what is left of a body that is refused: else its connection cannot be used again."""
    # One that is too long, too slow or cut is left: its connection ends.
    with suppress(HTTPException, Refusal), _reading_for(seconds):
        while request.stream.read(CHUNK):
            pass


@contextmanager
def _reading_for(seconds: float) -> Iterator[None]:
    with until(time.monotonic() + seconds) as reading:
        sock = request.environ.get("gunicorn.socket")
        if sock is not None:
            reading.cut = partial(sock.shutdown, socket.SHUT_RD)
        with suppress(ClientDisconnected):
            yield
    if reading.late:  # what was cut looks like an end
        raise Refusal(408, "The body was too slow.", "timeout")
