"""FHIR references, and the base addresses of the servers that they name.

Two addresses that differ only in the case of scheme and host, in a default port or in a slash at
the end are the same (RFC 3986, section 6.2). The path keeps its case.
"""

from __future__ import annotations

from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


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
