"""Calls to other machines: the networks that are allowed, size limits and deadlines.

All data from other machines (FHIR servers, keys of clients) is read through ``Outgoing.call``. It
resolves the host name, checks each address, and connects to the checked address, even if DNS
answers differently later. Redirects are not followed, and no proxy, ``.netrc`` or cookie is used.
At the deadline the connection is cut, even if the server still sends.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException, HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, NamedTuple, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError
from urllib3.util.connection import create_connection

from ..fhir.references import read_address
from ..limits.deadlines import until
from ..settings import Settings
from .host_names import addresses_of

CHUNK = 64 * 1024
MOST_HEAD = 256 * 1024  # bytes of an answer before its body
SERVERS = 32  # to which connections are kept open
CONNECTIONS = 64  # that are kept open to one server

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

log = logging.getLogger("cds_service.outgoing")


class OutgoingError(Exception):
    """A call has failed; the message says why, without the address."""


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine, by its name or address; other names are not resolved.

    An IPv4 address that is written as IPv6 does not count as this machine, with any Python version.
    """
    if host == "localhost":
        return True
    try:
        ip = ipaddress.ip_address((host or "").strip("[]"))
    except ValueError:
        return False
    return ip.is_loopback and _embedded(ip) is None


# Not called unless the operator lists them, with any Python version: networks from the registries
# of special-purpose addresses (IANA), and the metadata address of a cloud provider.
_NEVER = [
    ipaddress.ip_network(each)
    for each in (
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.175.48.0/24",
        "2001::/23",
        "2001:db8::/32",
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
_UNICAST = ipaddress.ip_network("2000::/3")  # the IPv6 addresses of the open internet
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def may_go_to(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address is on the open internet, or in a network that the operator listed."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if any(ip.version == network.version and ip in network for network in networks):
        return True
    inner = _embedded(ip)
    if inner is not None:
        return may_go_to(str(inner), networks)
    if ip.version == 6 and ip not in _UNICAST:
        return False
    special = any(ip.version == network.version and ip in network for network in _NEVER)
    return ip.is_global and not ip.is_multicast and not special


def _embedded(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that is embedded in an IPv6 address; ``None`` if there is none."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


class Reply(NamedTuple):
    """The reply to a call. ``retry_after`` is the header as it was sent."""

    status: int
    body: bytes
    retry_after: str | None


class Outgoing:
    """The calls of one process.

    ``networks`` are the private networks that calls may go to. Certificates must be signed by an
    authority in the PEM file ``authorities``, or by default by one that browsers trust.
    """

    def __init__(self, networks: Sequence[Network] = (), authorities: Path | None = None) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        if authorities is not None:
            self._session.verify = str(authorities)
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(networks)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Calls to where, and by the authorities by which, the settings allow them."""
        return cls(settings.networks, settings.ca_file)

    def get(
        self, url: str, headers: dict[str, str], deadline: float, most_bytes: int
    ) -> tuple[int, bytes]:
        """GET ``url``. Returns the status and the body, which is empty unless the status is 200.

        ``deadline`` is on the clock of ``time.monotonic``. Raises ``OutgoingError``.
        """
        reply = self.call("GET", url, headers, deadline, most_bytes)
        return reply.status, reply.body

    def call(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        deadline: float,
        most_bytes: int,
        form: str | None = None,
        hold: Callable[[int], None] = lambda _: None,
    ) -> Reply:
        """Make a call and return the reply. Raises as ``get`` does.

        ``form`` is the body of the request. ``hold`` is called with the number of bytes of each
        piece of the reply, and may raise ``OutgoingError``.
        """
        if read_address(url) is None:
            raise OutgoingError("is at no address")
        left = deadline - time.monotonic()
        if left <= 0:
            raise OutgoingError("was too slow")
        try:
            with (
                _call_until(deadline),
                self._session.request(
                    method,
                    url,
                    data=form,
                    headers=headers,
                    timeout=left,
                    stream=True,
                    allow_redirects=False,
                ) as response,
            ):
                body = bytearray()
                while response.status_code == 200:
                    chunk = response.raw.read1(CHUNK, decode_content=True)
                    hold(len(chunk))
                    body += chunk
                    if len(body) > most_bytes:
                        raise OutgoingError("sent too much")
                    if not chunk or time.monotonic() > deadline:
                        break
            if time.monotonic() > deadline:  # a connection that was cut looks like the end
                raise OutgoingError("was too slow")
            return Reply(response.status_code, bytes(body), response.headers.get("Retry-After"))
        except requests.exceptions.SSLError:
            raise OutgoingError("has no certificate that holds") from None
        except OutgoingError:
            raise
        except Exception as error:
            late = time.monotonic() >= deadline or isinstance(error, requests.Timeout)
            if not late and not isinstance(error, requests.RequestException | OSError):
                log.warning("a call failed with %s", type(error).__name__)
            raise OutgoingError("was too slow" if late else "could not be reached") from None


# --- when calls end, and where they go ------------------------------------------------------------


_thread = threading.local()  # with ``call``, the call of this thread


@contextmanager
def _call_until(deadline: float) -> Iterator[None]:
    with until(deadline) as call:
        _thread.call = call
        try:
            yield
        finally:
            _thread.call = None


class _Adapter(HTTPAdapter):
    """Gives ``requests`` connections that check their addresses."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        super().__init__(pool_connections=SERVERS, pool_maxsize=CONNECTIONS)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        networks = self._networks

        class Plain(_CheckedConnection, HTTPConnection):
            pass

        class Secure(_CheckedConnection, HTTPSConnection):
            pass

        for kind in (Plain, Secure):
            kind.networks = networks
            kind.response_class = _Response
        pools = {
            "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": Plain}),
            "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": Secure}),
        }
        super().init_poolmanager(*args, **options)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = pools


class _LimitedHead:
    """A file of which ``http.client`` reads the head of a reply, with a limit to the length."""

    def __init__(self, answer: Any) -> None:
        self._answer, self._left = answer, MOST_HEAD

    def readline(self, limit: int) -> bytes:
        line: bytes = self._answer.readline(min(limit, self._left))
        self._left -= len(line)
        if not self._left:
            raise HTTPException
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)


class _Response(HTTPResponse):
    """A reply with a limit to its head: by itself, ``http.client`` reads up to six megabytes."""

    def begin(self) -> None:
        answer: Any = self.fp
        head: Any = _LimitedHead(answer)
        self.fp = head
        super().begin()
        if self.fp is head:
            self.fp = answer


class _CheckedConnection:
    """A connection that resolves its host name itself, and connects only to allowed addresses."""

    networks: Sequence[Network]

    def _new_conn(self: Any) -> socket.socket:
        host, port = self._dns_host.strip("[]"), self.port or self.default_port
        deadline = _thread.call.deadline
        addresses = addresses_of(host, deadline)
        if not addresses:
            raise NewConnectionError(self, "the name could not be resolved")
        is_local = is_loopback(host)
        allowed = [
            each
            for each in addresses
            if (is_local and is_loopback(each)) or may_go_to(each, self.networks)
        ]
        if not allowed:
            log.warning("a call was refused: its host is in a network that is not listed")
        for address in allowed:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                return create_connection(
                    (address, port), left, self.source_address, self.socket_options
                )
            except OSError:
                continue
        raise NewConnectionError(self, "no address of it could be connected to")

    def request(self: Any, *args: Any, **options: Any) -> Any:
        call = getattr(_thread, "call", None)
        if call is not None:
            call.cut = partial(_cut, self)
        return super().request(*args, **options)  # type: ignore[misc]


def _cut(connection: Any) -> None:
    sock = getattr(connection, "sock", None)
    if sock is not None:
        sock.shutdown(socket.SHUT_RDWR)
