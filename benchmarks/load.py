"""A lean client: processes that each keep one connection and ask again as soon as answered."""

from __future__ import annotations

import multiprocessing
import socket
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Requests a second, and the latencies in milliseconds, ascending."""

    rate: float
    latencies: list[float]

    def percentile(self, percent: float) -> float:
        """The latency in milliseconds that this many percent do not pass."""
        return self.latencies[
            min(len(self.latencies) - 1, int(len(self.latencies) * percent / 100))
        ]


class WrongAnswer(Exception):
    """What came back is not what was expected."""


def measure(
    port: int, path: str, body: bytes, seconds: float, connections: int, cards: int
) -> Measured:
    """Ask for ``seconds`` on so many connections; every answer must hold so many cards.

    Raises ``WrongAnswer``.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    message = head.encode() + body
    with multiprocessing.get_context("fork").Pool(connections) as pool:
        jobs = [(port, message, seconds, cards)] * connections
        results = pool.starmap(_ask, jobs, chunksize=1)
    latencies = sorted(latency for _, found in results for latency in found)
    took = max(spent for spent, _ in results)
    return Measured(len(latencies) / took, latencies)


def _ask(port: int, message: bytes, seconds: float, cards: int) -> tuple[float, list[float]]:
    latencies: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = now = time.perf_counter()
        while now - began < seconds:
            connection.sendall(message)
            answer = _receive(connection)
            later = time.perf_counter()
            latencies.append((later - now) * 1000)
            if not answer.startswith(b"HTTP/1.1 200") or answer.count(b'"indicator"') != cards:
                raise WrongAnswer(answer[:300].decode(errors="replace"))
            now = time.perf_counter()
    return now - began, latencies


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(1 << 18)
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 18)
    head, _, rest = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    parts, missing = [received], length - len(rest)
    while missing > 0:
        part = connection.recv(1 << 18)
        if not part:
            raise WrongAnswer("the connection was closed")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
