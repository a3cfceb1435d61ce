"""Requests as they came over the wire, and the schemas of what is sent."""

from __future__ import annotations

from pathlib import Path

REQUESTS = Path(__file__).parent / "requests"
SCHEMAS = Path(__file__).parent / "schemas"


def recorded(name: str) -> bytes:
    """The body of a recorded request."""
    return (REQUESTS / f"{name}.json").read_bytes()
