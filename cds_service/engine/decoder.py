"""The decoder: it keeps the members of FHIR JSON that this service reads, and skips the others.

Each module that reads records lists the members that it reads in its ``READ``; a test checks that
none is missing. ``feeds`` has none: it reads draft orders, which are decoded in full. Most of a
record is skipped, which saves half of the time of decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import msgspec
import orjson

from ..fhir import chart
from . import facts, findings, medicines, patient, unmapped

READ = chart.READ | facts.READ | medicines.READ | findings.READ | patient.READ | unmapped.READ
# Members that are kept as raw JSON, for ``member_of`` to decode when needed. Every Observation has
# a category, which is read from orders and allergies only, and a code, which many records share.
AS_WRITTEN = ("category", "code")
IN_PART = {"subject": chart.Reference, "valueQuantity": chart.Quantity}
_KINDS = dict.fromkeys(sorted(READ), object) | dict.fromkeys(AS_WRITTEN, msgspec.Raw) | IN_PART
_Read = TypedDict("_Read", _KINDS, total=False)  # type: ignore[misc]


class _Search(TypedDict, total=False):
    mode: object


class _Entry(TypedDict, total=False):
    fullUrl: msgspec.Raw
    search: _Search | None
    resource: _Read


class Sent(_Read, total=False):
    """What may be sent for a prefetch key: a resource, a Bundle of them, or an OperationOutcome."""

    entry: list[_Entry]
    total: object


def decoder_of(kind: Any) -> Callable[[bytes], object]:
    """A function that decodes JSON and keeps only the members that a TypedDict, ``kind``, names.

    JSON that does not fit ``kind`` is decoded in full. Skipped members must be JSON in UTF-8 too.
    The function raises ``orjson.JSONDecodeError``.
    """
    decoder = msgspec.json.Decoder(kind)

    def decode(body: bytes) -> object:
        try:
            if not body.isascii():
                body.decode()  # msgspec does not check the text of members that it skips
            return decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            decoded: object = orjson.loads(body)
            return decoded

    return decode


decode = decoder_of(Sent)
