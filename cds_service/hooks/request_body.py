"""Reads the body of a request, with the limits of size and time that the operator has set.

The body is not parsed here.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from flask import request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from ..errors import Refusal
from ..limits.deadlines import until

PIECE = 1024 * 1024  # bytes to discard at once


def read_body(seconds: float) -> bytes:
    """The body of this request.

    Raises ``RequestEntityTooLarge`` (413) if it is longer than ``MAX_CONTENT_LENGTH``, and
    ``Refusal`` if it has not come within ``seconds`` (408), or is cut off or has invalid chunks
    (400).
    """
    length, limit = request.content_length, request.max_content_length
    with _reading_for(seconds):
        if length is not None:  # in one piece: gunicorn copies the rest for each piece
            body = request.stream.read(length)
            if len(body) < length:
                raise ClientDisconnected
        else:
            body = request.get_data(cache=False)
            if limit is not None and len(body) >= limit:  # werkzeug cuts it there without an error
                raise RequestEntityTooLarge
    return body


def discard_body(seconds: float) -> None:
    """Discard the rest of a refused body: otherwise its connection could not be used again."""
    # If the body is too long, too slow or cut off, the connection ends.
    with suppress(HTTPException, Refusal), _reading_for(seconds):
        while request.stream.read(PIECE):
            pass


def came_too_late() -> bool:
    """Whether the server waited for the body, and it did not come in time."""
    return getattr(request.environ.get("gunicorn.socket"), "late", False)


def too_slow() -> Refusal:
    """The refusal of a body that does not come in time."""
    return Refusal(408, "The body was too slow.", "timeout")


@contextmanager
def _reading_for(seconds: float) -> Iterator[None]:
    """Raises ``Refusal`` if the block lasts longer than ``seconds``, or if the body has no end."""
    with until(time.monotonic() + seconds) as reading:
        sock = request.environ.get("gunicorn.socket")
        if sock is not None:
            reading.cut = partial(sock.shutdown, socket.SHUT_RD)
            reading.late = came_too_late()
        try:
            yield
        except (ClientDisconnected, ParseException):
            if not reading.late:
                reason = "The body is not whole: its end or a chunk is missing."
                raise Refusal(400, reason, "structure") from None
    if reading.late:  # a connection that was cut here looks like the end of the body
        raise too_slow()
