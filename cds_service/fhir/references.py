"""FHIR references, and the base addresses of the servers that they name.

Two addresses that differ only in the case of scheme and host, in a default port or in a slash at
the end are the same (RFC 3986, section 6.2). The path keeps its case.

What is called is read here too: an address that programs read differently is none.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

DEFAULT_PORTS = {"http": 80, "https": 443}
LONGEST = 2000  # characters of a reference; FHIR R4 gives no limit, and no address is longer
LONGEST_ADDRESS = 8000  # of what is called; servers take no longer line
MOST_BASES = 64  # that are kept ready

# No user, no backslash, no character that one program drops and another keeps.
_ADDRESS = re.compile(
    r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?(/[^?#\\\s]*)?(?:[?#].*)?",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A slash, a dot, a control character or another percent sign, encoded.
_HIDDEN = re.compile(r"%(?:2[ef5]|5c|7f|[01][0-9a-f])", re.IGNORECASE)
_KIND = re.compile(r"[A-Z][A-Za-z]{1,63}")


class Target(NamedTuple):
    """What a reference points at; ``base`` is nothing where it is relative."""

    base: str
    kind: str
    id: str


class Address(NamedTuple):
    """Where something is to be had; ``port`` is given always."""

    scheme: str
    host: str
    port: int
    path: str


def read_address(url: str) -> Address | None:
    """The address of http or https that a text is; ``None`` if that can be read in two ways.

    The path goes nowhere up, and hides no step: by ``..``, with or without parameters, or encoded.
    Nor is it longer than ``LONGEST_ADDRESS``.
    """
    if len(url) > LONGEST_ADDRESS:
        return None
    match = _ADDRESS.fullmatch(url)
    if match is None or _CONTROL.search(url):
        return None
    scheme, host, written, path = match[1].lower(), match[2].lower(), match[3], match[4] or ""
    port = int(written) if written else DEFAULT_PORTS[scheme]
    if not 0 < port < 65536 or _HIDDEN.search(path):
        return None
    if any(step.partition(";")[0] in (".", "..") for step in path.split("/")):
        return None
    return Address(scheme, host.strip("[]"), port, path)


def is_below(url: str, base: str) -> bool:
    """Whether an address is that of a server's base, or one below it."""
    there, root = read_address(url), read_address(base)
    if there is None or root is None or there[:3] != root[:3]:
        return False
    path = root.path.rstrip("/")
    return there.path == path or there.path.startswith(f"{path}/")


def normal_base(url: str) -> str:
    """The one form of a server's base address; the text itself if it is no address."""
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
    """The one form of a ``urn:uuid:``, whose case does not matter (RFC 9562); else the text."""
    return address.lower() if address[:9].lower() == "urn:uuid:" else address


def read_reference(text: str) -> Target | None:
    """The target of a literal reference: relative or absolute, of one version or of none.

    ``None`` for what names no resource of a type: a ``urn:``, a contained resource (``#a``), or
    what is no reference. FHIR R4, "Literal References".
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
