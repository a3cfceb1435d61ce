"""Calls to elsewhere: nobody is contacted who must not be, and every call ends in time."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cds_service.access.outgoing import Outgoing, OutgoingError, is_loopback, may_go_to
from tests.support.certificates import self_signed
from tests.support.listeners import OK, Listener, drip, listening, silent


def get(url: str, outgoing: Outgoing | None = None, seconds: float = 1.0) -> tuple[int, bytes]:
    return (outgoing or Outgoing()).get(url, {}, time.monotonic() + seconds, 1_000_000)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_called_when_it_is_named(host: str) -> None:
    with listening(Listener()) as port:
        assert get(f"http://{host}:{port}/") == (200, b"{}")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "LOCALHOST.localdomain",
        socket.gethostname(),
    ],
)
def test_no_other_way_to_write_it_is_let_through(host: str) -> None:
    listener = Listener()
    with listening(listener, "0.0.0.0") as port, pytest.raises(OutgoingError, match="reached"):
        get(f"http://{host}:{port}/")
    assert listener.connections == 0


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.0.0.8", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),  # where clouds keep their metadata
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.8", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a00:8", False),  # 10.0.0.8 by NAT64
        ("64:ff9b::5db8:d822", True),
        ("2002:a00:8::1", False),  # 10.0.0.8 by 6to4
        ("2002:5db8:d822::1", True),
        ("168.63.129.16", False),  # Azure's
        ("192.0.0.192", False),  # Oracle's
        ("192.0.0.9", False),
        ("192.88.99.1", False),
        ("::ffff:168.63.129.16", False),
        ("64:ff9b::a83f:8110", False),  # 168.63.129.16 by NAT64
        ("fec0::1", False),
        ("feff::1", False),
        ("64:ff9b:1::a00:8", False),  # NAT64 of a network's own
        ("64:ff9b:1:ffff::1", False),
        ("::10.0.0.8", False),  # IPv4-compatible
        ("::93.184.216.34", False),
        ("100::1", False),
        ("5f00::1", False),
        ("4000::1", False),
        ("2001:db8::1", False),
        ("2001:1::1", False),
        ("3fff::1", False),
    ],
)
def test_which_addresses_are_on_the_open_internet(address: str, allowed: bool) -> None:
    assert may_go_to(address, []) is allowed


def test_a_private_network_is_called_if_it_is_listed() -> None:
    listed = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")]
    assert may_go_to("10.1.2.3", listed)
    assert may_go_to("::ffff:10.1.2.3", listed)
    assert may_go_to("fd00::1", listed)
    assert not may_go_to("10.2.0.1", listed)
    assert may_go_to("168.63.129.16", [ipaddress.ip_network("168.63.129.16/32")])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_what_names_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", [None, "", "localhost.", "127.1", "2130706433", "::ffff:127.0.0.1", "example.org"]
)
def test_what_does_not(host: str | None) -> None:
    assert not is_loopback(host)


def test_dns_that_changes_its_answer_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is in a listed network; whatever comes later would be this machine."""
    answers = iter(["127.0.0.2", *["127.0.0.1"] * 10])
    real = socket.getaddrinfo

    def resolve(host: str, port: Any, *args: Any, **options: Any) -> Any:
        return real(next(answers) if host == "rebind.example.org" else host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    listed, inside = Listener(), Listener()
    outgoing = Outgoing([ipaddress.ip_network("127.0.0.2/32")])
    with listening(listed, "127.0.0.2") as port, listening(inside, "127.0.0.1", port):
        assert get(f"http://rebind.example.org:{port}/", outgoing)[0] == 200
        with pytest.raises(OutgoingError):
            get(f"http://rebind.example.org:{port}/again", Outgoing())
    assert (listed.connections, inside.connections) == (1, 0)


def test_a_name_of_this_machine_leads_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the resolver says of it: an address of documentation is not called."""
    asked: list[Any] = []
    resolved = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [resolved])
    monkeypatch.setattr(
        "cds_service.access.outgoing.create_connection", lambda address, *_: asked.append(address)
    )
    with pytest.raises(OutgoingError, match="could not be reached"):
        get("http://localhost/")
    assert asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}\\@example.org/",
        "http://example.org@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/../x",
        "http://127.0.0.1:{port}/%2e%2e/x",
        " http://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/a\nb",
        "http://127.0.0.1:{port}:80/",
        "http://[127.0.0.1]:{port}/",
        "http://127。0。0。1:{port}/",
        "http:127.0.0.1:{port}/",
        "http:///127.0.0.1:{port}/",
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_not_called(url: str) -> None:
    listener = Listener()
    with listening(listener) as port, pytest.raises(OutgoingError):
        get(url.format(port=port))
    assert listener.connections == 0


def test_a_redirect_is_an_answer_and_nothing_more() -> None:
    inside = Listener()
    with listening(inside) as port:
        moved = (
            f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n"
        )
        with listening(Listener(moved.encode())) as outside:
            assert get(f"http://127.0.0.1:{outside}/") == (302, b"")
    assert inside.connections == 0


# --- they end -----------------------------------------------------------------------------------


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    "play",
    [
        silent,
        drip(b""),
        drip(b"HTTP/1.1 200 OK\r\nX-Long: "),
        drip(LONG),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"),
    ],
    ids=["silent", "in the status line", "in a header", "in the body", "in a chunk"],
)
def test_a_byte_at_a_time_ends_at_the_deadline(play: Callable[[socket.socket], None]) -> None:
    with listening(Listener(play)) as port:
        started = time.monotonic()
        with pytest.raises(OutgoingError, match="was too slow"):
            get(f"http://127.0.0.1:{port}/", seconds=0.4)
        assert time.monotonic() - started < 0.4 + 0.3


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_an_answer_that_is_no_http_is_a_failure(answer: bytes) -> None:
    with (
        listening(Listener(answer)) as port,
        pytest.raises(OutgoingError, match="could not be reached"),
    ):
        get(f"http://127.0.0.1:{port}/")


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    with (
        listening(Listener(head.encode() + bomb)) as port,
        pytest.raises(OutgoingError, match="sent too much"),
    ):
        get(f"http://127.0.0.1:{port}/", seconds=5)


@pytest.mark.parametrize(("fields", "holds"), [(2, True), (90, False)])
def test_a_head_has_a_bound(fields: int, holds: bool) -> None:
    """Also one that the library would take: of nearly a hundred fields of the longest lines."""
    more = b"X: " + b"x" * 60_000 + b"\r\n"
    answer = OK.replace(b"Content-Type", more * fields + b"Content-Type")
    with listening(Listener(answer)) as port:
        if holds:
            assert get(f"http://127.0.0.1:{port}/") == (200, b"{}")
        else:
            with pytest.raises(OutgoingError, match="could not be reached"):
                get(f"http://127.0.0.1:{port}/", seconds=5)


def test_a_certificate_that_does_not_hold_is_told(tmp_path: Any) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def play(peer: socket.socket) -> None:
        with context.wrap_socket(peer, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(OK)

    with (
        listening(Listener(play)) as port,
        pytest.raises(OutgoingError, match="has no certificate that holds"),
    ):
        get(f"https://127.0.0.1:{port}/")


def test_a_hospital_can_name_its_own_authority(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def play(peer: socket.socket) -> None:
        with context.wrap_socket(peer, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(OK)

    with listening(Listener(play)) as port:
        calls = Outgoing(authorities=Path(certificate))
        status, _ = calls.get(f"https://localhost:{port}/", {}, time.monotonic() + 2, 1000)
    assert status == 200
