"""Attacks on availability: many connections of callers who are slow, each kind in its own way.

A connection that the service has cut is renewed, so that there are always as many. One thread keeps
all of them going.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

EACH = 0.1  # seconds from one byte of a connection to its next
PROBES_EACH = 0.05  # seconds, between two looks at whether the service lives
HOLD = 3.0  # seconds that one who does not hang up stays
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
LONG = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"  # the answer is
LENGTH = b"Content-Type: application/json\r\nContent-Length: 99999\r\n"


@dataclass(frozen=True)
class Attack:
    """What a connection sends at first, and then again and again, with a token or none.

    It is renewed once it is answered or cut; one that does not read, once it is cut or after
    ``seconds``.
    """

    name: str
    first: bytes = b""
    then: bytes = b""
    end: bytes = b""  # of the head, behind the token
    bears_token: bool = False
    reads: bool = True
    seconds: float = float("inf")


def attacks(service: str) -> list[Attack]:
    """Those that are known here, on a service (the path of its address)."""
    post = f"POST {service} HTTP/1.1\r\nHost: localhost\r\n".encode()
    return [
        Attack("nothing sent"),
        Attack("head a byte at a time", post + b"X-Slow: ", b"x"),
        Attack("body a byte at a time", post + LENGTH, b" ", b"\r\n", bears_token=True),
        Attack("the same without a token", post + LENGTH, b" ", b"\r\n"),
        Attack("refused again and again", post + b"Content-Length: 2\r\n\r\n{}"),
        Attack("answers not read", then=LONG * 10, end=LONG, reads=False),
        Attack("not hung up", LIVE + b"Connection: close\r\n\r\n", reads=False, seconds=HOLD),
    ]


@contextmanager
def under(
    attack: Attack, port: int, connections: int, token: Callable[[], str] | None = None
) -> Iterator[None]:
    """Within it, the attack is going on."""
    over = threading.Event()
    arguments = (attack, port, connections, token, over)
    thread = threading.Thread(target=_keep_going, args=arguments)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass
class Probes:
    """How long ``/health/live`` took to answer, in milliseconds, and what was no answer."""

    took: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """The milliseconds that this many percent do not pass."""
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@contextmanager
def probed(port: int, patience: float = 30) -> Iterator[Probes]:
    """Ask all the while whether the service lives, on a connection of its own each time."""
    probes, over = Probes(), threading.Event()

    def probe() -> None:
        while not over.wait(PROBES_EACH):
            began = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
            try:
                connection.request("GET", "/health/live")
                status = connection.getresponse().status
                if status != 200:
                    probes.lost.append(str(status))
            except (OSError, http.client.HTTPException) as error:
                probes.lost.append(type(error).__name__)
            finally:
                connection.close()
            probes.took.append((time.perf_counter() - began) * 1000)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield probes
    finally:
        over.set()
        thread.join()


def _keep_going(
    attack: Attack,
    port: int,
    connections: int,
    token: Callable[[], str] | None,
    over: threading.Event,
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
        over.wait(max(EACH / 10, EACH - (time.monotonic() - began)))
    for connection in held:
        connection.close()


def _begun(attack: Attack, port: int, token: Callable[[], str] | None) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(1)
    if not attack.reads:  # nor do the systems on both sides take much for it
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        connection.connect(("127.0.0.1", port))
        connection.setblocking(False)
        bearer = b""
        if attack.bears_token and token is not None:
            bearer = f"Authorization: Bearer {token()}\r\n".encode()
        connection.send(attack.first + bearer + attack.end)
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
