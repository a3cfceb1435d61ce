"""Sockets of this machine that play what they are told to, well or badly."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Listener:
    """A socket that notes who connects, and plays what it is told to."""

    def __init__(self, play: Callable[[socket.socket], None] | bytes = OK) -> None:
        self.play = play
        self.connections = 0

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        try:
            with peer:
                if callable(self.play):
                    self.play(peer)
                else:
                    peer.recv(65536)
                    peer.sendall(self.play)
        except OSError:
            pass


@contextmanager
def listening(listener: Listener, address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    with socket.create_server((address, port)) as server:
        thread = threading.Thread(target=listener.serve, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def silent(peer: socket.socket) -> None:
    """Say nothing, for as long as the other does not hang up."""
    while peer.recv(65536):
        pass


def drip(before: bytes, seconds: float = 0.05) -> Callable[[socket.socket], None]:
    """Send ``before``, then a byte at a time without end."""

    def play(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(before)
        while True:
            time.sleep(seconds)
            peer.sendall(b"a")

    return play
