"""Connections of callers who do not read their answers, or do not hang up.

A thread that waits for such a caller cannot answer others, and if the main loop of a worker waits,
nobody is answered. So neither waits here: what a caller does not take at once is sent on by the
poller of the main loop, and the poller waits for a caller to hang up. Both have a deadline.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

SEND_SECONDS = 5.0  # to take all answers to what was sent one behind the other
HANG_UP_SECONDS = 2.0  # to hang up after the last answer
MOST_HANGING_UP = 128  # connections of a worker; one more is closed at once
MOST_DISCARDED = 64 * 1024  # bytes that a caller sends after the last answer
LOOK_EVERY = 0.25  # seconds
PIECE = 16 * 1024

# To close with a reset: what was not taken is thrown away (SO_LINGER of socket(7)).
AT_ONCE = struct.pack("ii", 1, 0)


class ClientSocket(socket.socket):
    """A connection on which sending never waits: what is not taken at once is ``unsent``.

    ``deadline`` (``time.monotonic``) is when all must be taken. It is one for all answers to
    requests that were sent one behind the other.
    """

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(fileno=accepted.detach())
        self.unsent = bytearray()
        self.deadline: float | None = None

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send what is taken at once, and keep the rest. Raises ``OSError``."""
        if not self.unsent:
            sent = self._send(data)
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            if self.deadline is None:
                self.deadline = time.monotonic() + SEND_SECONDS
        self.unsent += data

    def send(self, data: Any, flags: int = 0) -> int:
        """As ``sendall``: gunicorn says ``100 Continue`` with it."""
        self.sendall(data)
        return len(data)

    def send_rest(self) -> bool:
        """Send of the rest what is taken at once; whether that is all. Raises ``OSError``."""
        del self.unsent[: self._send(self.unsent)]
        return not self.unsent

    def has_more_to_read(self) -> bool:
        """Whether the caller has sent more, or has ended."""
        try:
            self.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _send(self, data: Any) -> int:
        try:
            return super().send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0


class WaitingConnections:
    """Those of one worker that wait on its poller. For the main loop alone: no thread waits.

    ``close`` closes a connection and counts it no more.
    """

    def __init__(self, poller: selectors.BaseSelector, close: Callable[[Any], None]) -> None:
        self._poller, self._close = poller, close
        self._until: dict[Any, float] = {}
        self._discarded: dict[Any, int] = {}  # bytes, of those that are to hang up
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._until)

    def send_rest(self, connection: Any, then: Callable[[], None]) -> None:
        """Send what is unsent, and go on with ``then``; a caller who does not take it is cut."""
        deadline = connection.sock.deadline
        self._wait(connection, selectors.EVENT_WRITE, partial(self._send_on, connection, then))
        self._until[connection] = deadline

    def hang_up(self, connection: Any) -> None:
        """Close a connection once the caller has: so the last answer is not lost (RFC 9112, 9.6).

        If it were closed while bytes of the caller are unread, the answer could be thrown away.
        """
        try:
            connection.sock.shutdown(socket.SHUT_WR)
            ended = self._discard(connection) or len(self._discarded) > MOST_HANGING_UP
        except OSError:
            ended = True
        if ended:
            self._discarded.pop(connection, None)
            self._close(connection)
            return
        self._wait(connection, selectors.EVENT_READ, partial(self._hear_out, connection))
        self._until[connection] = time.monotonic() + HANG_UP_SECONDS

    def cut_late(self) -> None:
        """Cut those whose deadline is over."""
        now = time.monotonic()
        if not self._until or now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        for connection in [each for each, until in self._until.items() if now > until]:
            self._cut(connection)

    def _wait(self, connection: Any, event: int, callback: Callable[[Any], None]) -> None:
        connection.sock.setblocking(False)
        self._poller.register(connection.sock, event, callback)

    def _send_on(self, connection: Any, then: Callable[[], None], _: Any) -> None:
        try:
            if not connection.sock.send_rest():
                return
        except OSError:
            self._cut(connection)
            return
        self._forget(connection)
        then()

    def _hear_out(self, connection: Any, _: Any) -> None:
        try:
            ended = self._discard(connection)
        except OSError:
            ended = True
        if ended:
            self._forget(connection)
            self._close(connection)

    def _discard(self, connection: Any) -> bool:
        """Read what the caller still sends; whether it has ended, or is too much."""
        try:
            piece = connection.sock.recv(PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            piece = None
        discarded = self._discarded.get(connection, 0) + len(piece or b"")
        self._discarded[connection] = discarded
        return piece == b"" or discarded > MOST_DISCARDED

    def _cut(self, connection: Any) -> None:
        self._forget(connection)
        if connection.sock.unsent:  # else the system still delivers the last answer
            with suppress(OSError):
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self._close(connection)

    def _forget(self, connection: Any) -> None:
        del self._until[connection]
        self._discarded.pop(connection, None)
        with suppress(OSError, KeyError, ValueError):
            self._poller.unregister(connection.sock)
