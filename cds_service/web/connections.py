"""Connections of callers who are slow: to send, to read their answers, or to hang up.

A thread that waits for such a caller cannot answer others, and if the main loop of a worker waits,
nobody is answered. So neither waits here. The poller of the main loop takes in a request, head and
body, before a thread is given to it; what a caller does not take of an answer at once, it sends on;
and it waits for a caller to hang up. Each has a deadline, and all that is taken in has a bound.
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

from .incoming import HeadTooLongError, Incoming

HEAD_SECONDS = 5.0  # for the head of a request, from its first byte or that of the connection
MOST_TAKEN_IN = 64 * 1024 * 1024  # bytes of requests that a worker has and has not answered
SEND_SECONDS = 5.0  # to take all answers to what was sent one behind the other
HANG_UP_SECONDS = 2.0  # to hang up after the last answer
MOST_HANGING_UP = 128  # connections of a worker; one more is closed at once
MOST_DISCARDED = 1024 * 1024  # bytes that a caller sends after the last answer
LOOK_EVERY = 0.25  # seconds
PIECE = 256 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# To close with a reset: what was not taken is thrown away (SO_LINGER of socket(7)).
AT_ONCE = struct.pack("ii", 1, 0)


class ClientSocket(socket.socket):
    """A connection on which a thread never waits.

    It reads what was taken in before, and then the end: ``cut_short`` is whether it came to that,
    and ``late`` whether that is because the caller was too slow. What is not taken of an answer at
    once is ``unsent``; ``deadline`` (``time.monotonic``) is when all must be taken. It is one for
    all answers to requests that were sent one behind the other.
    """

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(fileno=accepted.detach())
        self.taken_in = bytearray()
        self.counted = 0  # bytes of the request that count for ``MOST_TAKEN_IN``
        self.is_whole = True  # what was taken in: gunicorn need not come to the end
        self.cut_short = self.late = False
        self.unsent = bytearray()
        self.deadline: float | None = None

    def recv(self, size: int, flags: int = 0) -> bytes:
        """What was taken in; nothing if that is all."""
        piece = bytes(self.taken_in[:size])
        del self.taken_in[:size]
        self.cut_short |= not piece
        return piece

    def receive(self, buffer: bytearray) -> int | None:
        """Of what was sent, as much as is here; 0 if it has ended. Raises ``OSError``."""
        try:
            return self.recv_into(buffer, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

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
        """Nothing: gunicorn says ``100 Continue`` with it, and what it would wait for is here."""
        return len(data)

    def send_rest(self) -> bool:
        """Send of the rest what is taken at once; whether that is all. Raises ``OSError``."""
        del self.unsent[: self._send(self.unsent)]
        return not self.unsent

    def has_more_to_read(self) -> bool:
        """Whether the caller has sent more, or has ended."""
        try:
            self.taken_in or super().recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
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

    ``close`` closes a connection and counts it no more, and ``refuse`` answers with a status what
    was not taken in. The body of a request may have ``most`` bytes and take so many seconds.
    """

    def __init__(
        self,
        poller: selectors.BaseSelector,
        close: Callable[[Any], None],
        refuse: Callable[[Any, int], None],
        most: int,
        seconds: float,
    ) -> None:
        self._poller, self._close, self._refuse = poller, close, refuse
        self._most, self._seconds = most, seconds
        self._most_taken_in = max(MOST_TAKEN_IN, 2 * most)
        self._taken_in = 0  # bytes
        self._until: dict[Any, tuple[float, Callable[[], None]]] = {}  # and what then
        self._incoming: set[Any] = set()
        self._discarded: dict[Any, int] = {}  # bytes, of those that are to hang up
        self._buffer = bytearray(PIECE)
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._until)

    def take_in(self, connection: Any, then: Callable[[], None]) -> None:
        """Take in a request, and go on with ``then`` once it is here, or no more of it will be."""
        self.count(connection)
        connection.sock.is_whole = True
        incoming = Incoming(connection.sock.taken_in, self._most)
        if after := self._receive(connection, incoming, then):
            after()
            return
        hear = partial(self._hear, connection, incoming, then)
        self._wait(connection, selectors.EVENT_READ, hear)
        self._incoming.add(connection)
        self._until[connection] = self._end_of(connection, incoming, then)
        self._keep_the_bound()

    def count(self, connection: Any) -> None:
        """Of what was taken in count what is left: before a request, and after it."""
        sock = connection.sock
        self._taken_in += len(sock.taken_in) - sock.counted
        sock.counted = len(sock.taken_in)

    def send_rest(self, connection: Any, then: Callable[[], None]) -> None:
        """Send what is unsent, and go on with ``then``; a caller who does not take it is cut."""
        deadline = connection.sock.deadline
        self._wait(connection, selectors.EVENT_WRITE, partial(self._send_on, connection, then))
        self._until[connection] = deadline, partial(self._cut, connection)

    def hang_up(self, connection: Any) -> None:
        """Close a connection once the caller has: so the last answer is not lost (RFC 9112, 9.6).

        If it were closed while bytes of the caller are unread, the answer could be thrown away.
        """
        connection.sock.taken_in.clear()
        self.count(connection)
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
        until = time.monotonic() + HANG_UP_SECONDS
        self._until[connection] = until, partial(self._cut, connection)

    def cut_late(self) -> None:
        """Cut those whose deadline is over."""
        now = time.monotonic()
        if not self._until or now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        for end in [end for until, end in self._until.values() if now > until]:
            end()

    def cut_the_first(self) -> None:
        """Cut the one whose deadline is the next, so that there is room for another connection."""
        first = min(self._until, key=lambda each: self._until[each][0], default=None)
        if first is not None:
            self._cut(first)

    def _wait(self, connection: Any, event: int, callback: Callable[[Any], object]) -> None:
        connection.sock.setblocking(False)
        self._poller.register(connection.sock, event, callback)

    def _receive(
        self, connection: Any, incoming: Incoming, then: Callable[[], None]
    ) -> Callable[[], None] | None:
        """Take in what is here of a request. What to do with it; nothing while more must come."""
        sock = connection.sock
        try:
            if not sock.taken_in or incoming.lacks():
                received = sock.receive(self._buffer)
                if received == 0:
                    sock.is_whole = False
                    return then if sock.taken_in else partial(self._close, connection)
                if received:
                    sock.taken_in += memoryview(self._buffer)[:received]
                    sock.counted += received
                    self._taken_in += received
                if incoming.lacks():
                    if incoming.expects:
                        incoming.expects = False
                        sock.sendall(CONTINUE)
                    return None
        except HeadTooLongError:
            return partial(self._refuse_and_hang_up, connection, 431)
        except OSError:
            return partial(self._end, connection)
        sock.is_whole = not incoming.is_too_long
        return then

    def _hear(self, connection: Any, incoming: Incoming, then: Callable[[], None], _: Any) -> None:
        if connection not in self._incoming:
            return  # it was refused for another that was heard in the same turn
        had_head = incoming.has_head
        if after := self._receive(connection, incoming, then):
            self._forget(connection)
            after()
            return
        if incoming.has_head and not had_head:
            self._until[connection] = self._end_of(connection, incoming, then)
        self._keep_the_bound()

    def _end_of(
        self, connection: Any, incoming: Incoming, then: Callable[[], None]
    ) -> tuple[float, Callable[[], None]]:
        """Until when more of a request may come, and what is done then."""
        if incoming.has_head:
            return time.monotonic() + self._seconds, partial(self._end_body, connection, then)
        return time.monotonic() + HEAD_SECONDS, partial(self._end_head, connection)

    def _end_head(self, connection: Any) -> None:
        self._forget(connection)
        if connection.sock.taken_in:
            self._refuse_and_hang_up(connection, 408)
        else:
            self._close(connection)

    def _end_body(self, connection: Any, then: Callable[[], None]) -> None:
        """The application says so, after what else there is to say of the request."""
        self._forget(connection)
        connection.sock.late, connection.sock.is_whole = True, False
        then()

    def _keep_the_bound(self) -> None:
        """Refuse the largest of what comes in, while all that was taken in is too much."""
        while self._taken_in > self._most_taken_in and self._incoming:
            largest = max(self._incoming, key=lambda each: len(each.sock.taken_in))
            self._forget(largest)
            self._refuse_and_hang_up(largest, 503)

    def _refuse_and_hang_up(self, connection: Any, status: int) -> None:
        self._refuse(connection, status)
        self.hang_up(connection)

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
        received = connection.sock.receive(self._buffer)
        discarded = self._discarded.get(connection, 0) + (received or 0)
        self._discarded[connection] = discarded
        return received == 0 or discarded > MOST_DISCARDED

    def _cut(self, connection: Any) -> None:
        self._forget(connection)
        self._end(connection)

    def _end(self, connection: Any) -> None:
        connection.sock.taken_in.clear()
        self.count(connection)
        if connection.sock.unsent:  # else the system still delivers the last answer
            with suppress(OSError):
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self._close(connection)

    def _forget(self, connection: Any) -> None:
        del self._until[connection]
        self._incoming.discard(connection)
        self._discarded.pop(connection, None)
        with suppress(OSError, KeyError, ValueError):
            self._poller.unregister(connection.sock)
