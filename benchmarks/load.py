"""A lean client: processes that each keep one connection and ask again as soon as answered."""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

TOGETHER = 0.3  # seconds until all processes of a measurement are there


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
    port: int,
    path: str,
    body: bytes,
    seconds: float,
    connections: int,
    expected: Sequence[bytes],
    tokens: Sequence[str] = (),
    pace: float | None = None,
) -> Measured:
    """Ask for ``seconds`` on so many connections; every answer must hold the ``expected`` cards.

    Each call bears a token of its own, if there are ``tokens``; it ends when they are used up. At a
    ``pace`` (calls a second, of all together, evenly apart) each is due at its time, and its
    latency counts from there. Raises ``WrongAnswer``.
    """
    apart = None if pace is None else connections / pace
    start = time.perf_counter() + TOGETHER
    with multiprocessing.get_context("fork").Pool(connections) as pool:
        jobs = [
            (
                port,
                path,
                body,
                seconds,
                expected,
                tokens[number::connections],
                start + number * (apart or 0) / connections,
                apart,
            )
            for number in range(connections)
        ]
        results = pool.starmap(_ask, jobs, chunksize=1)
    latencies = sorted(latency for _, found in results for latency in found)
    took = max(spent for spent, _ in results)
    return Measured(len(latencies) / took, latencies)


def holds(answer: bytes, expected: Sequence[bytes]) -> bool:
    """Whether an answer over HTTP has as many cards, which say what is expected, in that order."""
    at = 0
    for words in expected:
        at = answer.find(words, at) + 1
        if at == 0:
            return False
    return answer.startswith(b"HTTP/1.1 200") and answer.count(b'"indicator"') == len(expected)


def _messages(port: int, path: str, body: bytes, tokens: Sequence[str]) -> Iterator[bytes]:
    """The calls, one after another: without end if there are no tokens."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
    )
    if tokens:
        return (f"{head}Authorization: Bearer {t}\r\n\r\n".encode() + body for t in tokens)
    return cycle([f"{head}\r\n".encode() + body])


def _ask(
    port: int,
    path: str,
    body: bytes,
    seconds: float,
    expected: Sequence[bytes],
    tokens: Sequence[str],
    due: float,
    apart: float | None,
) -> tuple[float, list[float]]:
    latencies: list[float] = []
    messages = _messages(port, path, body, tokens)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        time.sleep(max(0.0, due - time.perf_counter()))
        began = now = time.perf_counter()
        while now - began < seconds and (message := next(messages, None)) is not None:
            if apart is not None:
                time.sleep(max(0.0, due - time.perf_counter()))
                now, due = due, due + apart
            connection.sendall(message)
            answer = _receive(connection)
            later = time.perf_counter()
            latencies.append((later - now) * 1000)
            if not holds(answer, expected):
                raise WrongAnswer(answer[:300].decode(errors="replace"))
            now = time.perf_counter()
    return time.perf_counter() - began, latencies


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
