"""FHIR references, and the base addresses of servers.

Two addresses that differ only in the case of scheme and host, in a default port or in a slash at
the end are the same (RFC 3986, section 6.2). The path keeps its case.

The addresses that the service calls are parsed here too. An address that two programs could parse
differently is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

DEFAULT_PORTS = {"http": 80, "https": 443}
LONGEST = 2000  # characters of a reference; FHIR R4 sets no limit
LONGEST_ADDRESS = 8000  # characters of an address to call; servers take no longer request line
MOST_BASES = 64  # base addresses whose normal form is cached

# No user name, no backslash, no character that some programs drop and others keep.
_ADDRESS = re.compile(
    r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?(/[^?#\\\s]*)?(?:[?#].*)?",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A percent-encoded slash, dot, percent sign, backslash or control character.
_HIDDEN = re.compile(r"%(?:2[ef5]|5c|7f|[01][0-9a-f])", re.IGNORECASE)
_KIND = re.compile(r"[A-Z][A-Za-z]{1,63}")


class Target(NamedTuple):
    """The resource that a reference points at; ``base`` is empty if the reference is relative."""

    base: str
    kind: str
    id: str


class Address(NamedTuple):
    """A parsed http or https address, without its query; ``port`` is always set."""

    scheme: str
    host: str
    port: int
    path: str


def read_address(url: str) -> Address | None:
    """Parse an http or https address; ``None`` if it is none, or could be parsed in two ways.

    Refused are a path with a step ``.`` or ``..`` (also with parameters), a path with a
    percent-encoded slash, dot, percent sign, backslash or control character, and an address longer
    than ``LONGEST_ADDRESS``.
    """
    if len(url) > LONGEST_ADDRESS:
        return None
    match = _ADDRESS.fullmatch(url)
    if match is None or _CONTROL.search(url):
        return None
    scheme, host, written, path = match[1].lower(), match[2].lower(), match[3], match[4] or ""
    if host.startswith("[") and not _is_ipv6(host[1:-1]):
        return None
    port = int(written) if written else DEFAULT_PORTS[scheme]
    if not 0 < port < 65536 or _HIDDEN.search(path):
        return None
    if any(step.partition(";")[0] in (".", "..") for step in path.split("/")):
        return None
    return Address(scheme, host.strip("[]"), port, path)


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def is_below(url: str, base: str) -> bool:
    """Whether an address is a server's base address, or lies below it."""
    there, root = read_address(url), read_address(base)
    if there is None or root is None or there[:3] != root[:3]:
        return False
    path = root.path.rstrip("/")
    return there.path == path or there.path.startswith(f"{path}/")


def normal_base(url: str) -> str:
    """The normal form of a server's base address; the text unchanged if it is not an address."""
    return _normal_base(url) if len(url) <= LONGEST_ADDRESS else url


@lru_cache(MOST_BASES)
def _normal_base(url: str) -> str:
    address = read_address(url)
    if address is None:
        return url
    host = f"[{address.host}]" if ":" in address.host else address.host
    if address.port != DEFAULT_PORTS[address.scheme]:
        host += f":{address.port}"
    return f"{address.scheme}://{host}{address.path.rstrip('/')}"


def normal_urn(address: str) -> str:
    """A ``urn:uuid:`` in lower case, for its case does not matter (RFC 9562); else the text."""
    return address.lower() if address[:9].lower() == "urn:uuid:" else address


def read_reference(text: str) -> Target | None:
    """The target of a literal reference, relative or absolute, with or without a version.

    ``None`` if it does not name a type and an id: a ``urn:``, a contained resource (``#a``), or a
    text that is not a reference. FHIR R4, "Literal References".
    """
    if len(text) > LONGEST:
        return None
    steps = text.split("/")
    if len(steps) >= 4 and steps[-2] == "_history":
        steps = steps[:-2]
    if len(steps) < 2 or not steps[-1] or not _KIND.fullmatch(steps[-2]):
        return None
    if len(steps) == 2:
        return Target("", steps[0], steps[1])
    base = "/".join(steps[:-2])
    if not base.lower().startswith(("http://", "https://")):
        return None
    return Target(normal_base(base), steps[-2], steps[-1])
