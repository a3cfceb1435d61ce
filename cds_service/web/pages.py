"""Protection of the HTML pages: headers, cross-site requests, a limit to wrong passwords."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Set

from flask import Blueprint, Response, request

from ..errors import Refusal
from ..fhir.references import read_address

WINDOW = 300.0  # seconds in which wrong passwords are counted
MOST_WRONG = 10  # from one address
MOST_WRONG_IN_ALL = 100
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def protect(pages: Blueprint, *policy: str, referrer: str = "no-referrer") -> None:
    """Add security headers to the answers of a blueprint, and refuse cross-site requests to it.

    Its pages load only what ``policy`` (directives of a Content-Security-Policy) allows, and cannot
    be shown in a frame. ``referrer`` is the Referrer-Policy.
    """
    own = ("default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'")
    headers = {
        "Content-Security-Policy": "; ".join((*own, *policy)),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": referrer,
    }

    @pages.before_request
    def take_from_own_pages() -> None:
        must_be_of_this_origin()

    @pages.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(headers)
        return response


def must_be_of_this_origin(others: Set[str] = frozenset()) -> None:
    """Raises ``Refusal`` (403) if a browser sends a request that another site's page has caused.

    Only for methods that change something. Origins in ``others`` are allowed. Clients that are no
    browsers send neither ``Origin`` nor ``Sec-Fetch-Site``, and are not refused.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin in others and origin is not None:
        return
    if site is not None:
        is_own = site in ("same-origin", "none")  # "same-site" is another port of this machine too
    else:
        is_own = origin is None or origin.partition("://")[2] == request.host
    if not is_own:
        raise Refusal(403, "This is taken from pages of this service only.", "forbidden")


def own_names(base_url: str) -> frozenset[str]:
    """The host names of this service: those of the loopback interface, and that of ``base_url``."""
    own = read_address(base_url)
    return LOOPBACK if own is None else LOOPBACK | {own.host}


def must_be_called(hosts: Set[str]) -> None:
    """Raises ``Refusal`` (403) if the request is for a host name that is not in ``hosts``.

    This prevents DNS rebinding: a page whose name resolves to this machine cannot read from it.
    """
    address = read_address(f"http://{request.host}")
    if address is None or address.host not in hosts:
        raise Refusal(403, "The service is not known by this name.", "forbidden")


class WrongPasswords:
    """Counts wrong passwords, per address and in all. ``clock`` counts seconds.

    After too many wrong passwords within ``WINDOW``, no password is accepted until it is over, not
    even the right one. At most ``MOST_WRONG_IN_ALL`` addresses are stored. Each process counts for
    itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: dict[str, int] = {}
        self._began = float("-inf")

    def wait(self, address: str, is_right: bool) -> float:
        """Count a password from an address. Returns the seconds to wait; 0 if there is no need.

        ``is_right`` says whether it is the right password.
        """
        network = _network_of(address)
        with self._lock:
            now = self._clock()
            if now - self._began >= WINDOW:
                self._wrong.clear()
                self._began = now
            wrong = self._wrong.get(network, 0)
            if wrong >= MOST_WRONG or sum(self._wrong.values()) >= MOST_WRONG_IN_ALL:
                return self._began + WINDOW - now
            if not is_right:
                self._wrong[network] = wrong + 1
            return 0.0


def _network_of(address: str) -> str:
    """The network of an address: one caller may use all addresses of an IPv6 subnet (/64)."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    bits = 32 if ip.version == 4 else 64
    return str(ipaddress.ip_network((ip, bits), strict=False))
