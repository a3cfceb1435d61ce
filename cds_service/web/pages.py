"""What protects pages that a browser shows: headers, who may post to them, wrong passwords."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Set
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from ..errors import Refusal
from ..fhir.references import read_address

WINDOW = 300.0  # seconds in which wrong passwords are counted
MOST_WRONG = 10  # of one address
MOST_WRONG_IN_ALL = 100
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def protect(pages: Blueprint, *policy: str, referrer: str = "no-referrer") -> None:
    """Let these pages load only what ``policy`` says, stand in no frame, and tell nobody of them.

    ``policy`` are directives of a Content-Security-Policy. What changes something is taken from
    these pages only.
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
    """Raises ``Refusal`` (403) if a page of elsewhere lets a browser change something here.

    ``others`` are origins that may. Who is no browser sends neither header that is looked at.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin in others and origin is not None:
        return
    if site is not None:
        is_own = site in ("same-origin", "none")  # "same-site" is another port of this machine too
    else:
        is_own = origin is None or urlsplit(origin).netloc == request.host
    if not is_own:
        raise Refusal(403, "This is taken from pages of this service only.", "forbidden")


def own_names(base_url: str) -> frozenset[str]:
    """The names of this machine: those of any machine for itself, and that of ``base_url``."""
    own = read_address(base_url)
    return LOOPBACK if own is None else LOOPBACK | {own.host}


def must_be_called(hosts: Set[str]) -> None:
    """Raises ``Refusal`` (403) if a browser was told that this machine has another name.

    So no page of another name can read what is here (DNS rebinding).
    """
    address = read_address(f"http://{request.host}")
    if address is None or address.host not in hosts:
        raise Refusal(403, "The service is not known by this name.", "forbidden")


class WrongPasswords:
    """How often a wrong password was given, by whom and in all. ``clock`` counts seconds.

    Who has given too many within ``WINDOW`` has to wait until it is over, with the right one too.
    No more addresses are kept than wrong passwords are taken in all. It is known to this process.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: dict[str, int] = {}
        self._began = float("-inf")

    def wait(self, address: str, is_right: bool) -> float:
        """Note that a password was given from an address; how long to wait, 0 if it counts."""
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
    """What one caller can take addresses from: of IPv6, the whole subnet."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    bits = 32 if ip.version == 4 else 64
    return str(ipaddress.ip_network((ip, bits), strict=False))
