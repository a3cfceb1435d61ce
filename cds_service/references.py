"""FHIR references, and the base addresses of the servers that they name.

Two addresses that differ only in the case of scheme and host, in a default port or in a slash at
the end are the same (RFC 3986, section 6.2). The path keeps its case.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
LONGEST = 2000  # characters of a reference; FHIR R4 gives no limit, and no address is longer
MOST_BASES = 64  # that are kept ready

_KIND = re.compile(r"[A-Z][A-Za-z]{1,63}")


class Target(NamedTuple):
    """What a reference points at; ``base`` is nothing where it is relative."""

    base: str
    kind: str
    id: str


@lru_cache(MOST_BASES)
def normal_base(url: str) -> str:
    """The one form of a server's base address; the text itself if it is no address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    if not parts.hostname:
        return url
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is not None and port != DEFAULT_PORTS.get(parts.scheme):
        host += f":{port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


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
