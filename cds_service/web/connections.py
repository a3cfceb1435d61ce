"""Connections of callers who are slow to send, to read their answers, or to close the connection.

A thread that waits for such a caller cannot answer others, and while the main loop of a worker
waits, nobody is answered. So neither of them waits. The poller of the main loop receives a whole
request, head and body, before a thread gets it. It sends the parts of an answer that the caller did
not read at once, and it waits for the caller to close the connection. Each of these has a deadline,
and the memory for received requests has a limit.
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

HEAD_SECONDS = 5.0  # for the head of a request, from its first byte or from the connection on
MOST_RECEIVED = 64 * 1024 * 1024  # bytes of requests that a worker has received and not answered
SEND_SECONDS = 5.0  # for the caller to read the answers to all pipelined requests
HANG_UP_SECONDS = 2.0  # for the caller to close the connection after the last answer
MOST_HANGING_UP = 128  # such connections of a worker; one more is closed at once
MOST_DISCARDED = 1024 * 1024  # bytes that a caller may send after the last answer
CHECK_EVERY = 0.25  # seconds between two checks of deadlines
PIECE = 256 * 1024
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Closes a connection with a reset: data that was not sent yet is dropped (SO_LINGER of socket(7)).
RESET = struct.pack("ii", 1, 0)


class ClientSocket(socket.socket):
    """A connection on which a thread never waits.

    A thread reads only the bytes that were ``received`` before, and then the end of the input.
    ``cut_short`` says that it has read that end, and ``late`` that the caller was too slow.
    ``unsent`` are the bytes of answers that could not be sent at once. They must be sent by
    ``deadline`` (``time.monotonic``), which is the same for all answers to pipelined requests.
    """

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(fileno=accepted.detach())
        self.received = bytearray()
        self.counted = 0  # bytes of the request that count for ``MOST_RECEIVED``
        self.is_whole = True  # the request is complete
        self.cut_short = self.late = False
        self.unsent = bytearray()
        self.deadline: float | None = None

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Bytes that were received before; none at the end."""
        piece = bytes(self.received[:size])
        del self.received[:size]
        self.cut_short |= not piece
        return piece

    def receive(self, buffer: bytearray) -> int | None:
        """Receive into ``buffer`` without waiting. Raises ``OSError``.

        Returns the number of bytes: 0 at the end of the input, ``None`` if there are none yet.
        """
        try:
            return self.recv_into(buffer, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send as much as possible without waiting, and keep the rest. Raises ``OSError``."""
        if not self.unsent:
            sent = self._send(data)
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            if self.deadline is None:
                self.deadline = time.monotonic() + SEND_SECONDS
        self.unsent += data

    def send(self, data: Any, flags: int = 0) -> int:
        """Send nothing: gunicorn sends only ``100 Continue`` so, and the body is here already."""
        return len(data)

    def send_rest(self) -> bool:
        """Send more of the rest without waiting; whether all is sent. Raises ``OSError``."""
        del self.unsent[: self._send(self.unsent)]
        return not self.unsent

    def has_more_to_read(self) -> bool:
        """Whether the caller has sent more, or has closed the connection."""
        try:
            self.received or super().recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
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
    """The connections of one worker that wait on its poller. Only the main loop may use it.

    ``close`` closes a connection and no longer counts it. ``refuse`` answers a request that is not
    complete with a status. The body of a request may have ``most`` bytes and take ``seconds``.
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
        self._most_received = max(MOST_RECEIVED, 2 * most)
        self._received = 0  # bytes
        # Of each connection: its deadline, and what is called after it.
        self._deadlines: dict[Any, tuple[float, Callable[[], None]]] = {}
        self._incoming: set[Any] = set()
        self._discarded: dict[Any, int] = {}  # bytes, of connections that the caller should close
        self._buffer = bytearray(PIECE)
        self._checked = 0.0  # when deadlines were last checked

    def __len__(self) -> int:
        return len(self._deadlines)

    def receive_request(self, connection: Any, then: Callable[[], None]) -> None:
        """Receive a request; call ``then`` when it is complete, or when no more of it can come."""
        self.count(connection)
        connection.sock.is_whole = True
        incoming = Incoming(connection.sock.received, self._most)
        if after := self._receive(connection, incoming, then):
            after()
            return
        receive_more = partial(self._receive_more, connection, incoming, then)
        self._wait(connection, selectors.EVENT_READ, receive_more)
        self._incoming.add(connection)
        self._deadlines[connection] = self._deadline_of(connection, incoming, then)
        self._limit_memory()

    def count(self, connection: Any) -> None:
        """Update how many received bytes of a connection count: before a request, and after it."""
        sock = connection.sock
        self._received += len(sock.received) - sock.counted
        sock.counted = len(sock.received)

    def send_rest(self, connection: Any, then: Callable[[], None]) -> None:
        """Send the unsent bytes, then call ``then``; at the deadline, cut the connection."""
        deadline = connection.sock.deadline
        self._wait(connection, selectors.EVENT_WRITE, partial(self._send_more, connection, then))
        self._deadlines[connection] = deadline, partial(self._cut, connection)

    def hang_up(self, connection: Any) -> None:
        """Close a connection after the caller has closed it, or after ``HANG_UP_SECONDS``.

        If it were closed while bytes of the caller are unread, the last answer could be lost
        (RFC 9112, section 9.6).
        """
        connection.sock.received.clear()
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
        self._wait(connection, selectors.EVENT_READ, partial(self._discard_more, connection))
        until = time.monotonic() + HANG_UP_SECONDS
        self._deadlines[connection] = until, partial(self._cut, connection)

    def cut_late(self) -> None:
        """Cut the connections whose deadline is over."""
        now = time.monotonic()
        if not self._deadlines or now - self._checked < CHECK_EVERY:
            return
        self._checked = now
        for end in [end for until, end in self._deadlines.values() if now > until]:
            end()

    def cut_earliest(self) -> None:
        """Cut the connection with the earliest deadline, to make room for another one."""
        first = min(self._deadlines, key=lambda each: self._deadlines[each][0], default=None)
        if first is not None:
            self._cut(first)

    def _wait(self, connection: Any, event: int, callback: Callable[[Any], object]) -> None:
        connection.sock.setblocking(False)
        self._poller.register(connection.sock, event, callback)

    def _receive(
        self, connection: Any, incoming: Incoming, then: Callable[[], None]
    ) -> Callable[[], None] | None:
        """Receive more of a request. Returns what to do next; ``None`` while more must come."""
        sock = connection.sock
        try:
            if not sock.received or incoming.lacks():
                received = sock.receive(self._buffer)
                if received == 0:
                    sock.is_whole = False
                    return then if sock.received else partial(self._close, connection)
                if received:
                    sock.received += memoryview(self._buffer)[:received]
                    sock.counted += received
                    self._received += received
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

    def _receive_more(
        self, connection: Any, incoming: Incoming, then: Callable[[], None], _: Any
    ) -> None:
        if connection not in self._incoming:
            return  # it was refused in this turn, because of the memory for another request
        had_head = incoming.has_head
        if after := self._receive(connection, incoming, then):
            self._forget(connection)
            after()
            return
        if incoming.has_head and not had_head:
            self._deadlines[connection] = self._deadline_of(connection, incoming, then)
        self._limit_memory()

    def _deadline_of(
        self, connection: Any, incoming: Incoming, then: Callable[[], None]
    ) -> tuple[float, Callable[[], None]]:
        """The deadline for more of a request, and what is called after it."""
        if incoming.has_head:
            return time.monotonic() + self._seconds, partial(self._end_body, connection, then)
        return time.monotonic() + HEAD_SECONDS, partial(self._end_head, connection)

    def _end_head(self, connection: Any) -> None:
        self._forget(connection)
        if connection.sock.received:
            self._refuse_and_hang_up(connection, 408)
        else:
            self._close(connection)

    def _end_body(self, connection: Any, then: Callable[[], None]) -> None:
        """Give the incomplete request to the application, which refuses it.

        The application checks first whether there are other reasons to refuse it.
        """
        self._forget(connection)
        connection.sock.late, connection.sock.is_whole = True, False
        then()

    def _limit_memory(self) -> None:
        """While the received requests take too much memory, refuse the largest incomplete one."""
        while self._received > self._most_received and self._incoming:
            largest = max(self._incoming, key=lambda each: len(each.sock.received))
            self._forget(largest)
            self._refuse_and_hang_up(largest, 503)

    def _refuse_and_hang_up(self, connection: Any, status: int) -> None:
        self._refuse(connection, status)
        self.hang_up(connection)

    def _send_more(self, connection: Any, then: Callable[[], None], _: Any) -> None:
        try:
            if not connection.sock.send_rest():
                return
        except OSError:
            self._cut(connection)
            return
        self._forget(connection)
        then()

    def _discard_more(self, connection: Any, _: Any) -> None:
        try:
            ended = self._discard(connection)
        except OSError:
            ended = True
        if ended:
            self._forget(connection)
            self._close(connection)

    def _discard(self, connection: Any) -> bool:
        """Read and drop bytes of the caller; whether it has ended, or has sent too many."""
        received = connection.sock.receive(self._buffer)
        discarded = self._discarded.get(connection, 0) + (received or 0)
        self._discarded[connection] = discarded
        return received == 0 or discarded > MOST_DISCARDED

    def _cut(self, connection: Any) -> None:
        self._forget(connection)
        self._end(connection)

    def _end(self, connection: Any) -> None:
        connection.sock.received.clear()
        self.count(connection)
        if connection.sock.unsent:  # otherwise the system still delivers the last answer
            with suppress(OSError):
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._close(connection)

    def _forget(self, connection: Any) -> None:
        del self._deadlines[connection]
        self._incoming.discard(connection)
        self._discarded.pop(connection, None)
        with suppress(OSError, KeyError, ValueError):
            self._poller.unregister(connection.sock)
