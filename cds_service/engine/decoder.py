"""The decoder: of FHIR JSON it keeps what is read here, and passes over the rest.

Each module that reads records says in its ``READ`` which members it reads; a test looks that none
is missing. Most of a record is passed over, which saves half of the time of decoding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import msgspec
import orjson

from ..fhir import chart
from . import facts, findings, medicines, patient, unmapped

READ = chart.READ | facts.READ | medicines.READ | findings.READ | patient.READ | unmapped.READ
# What is left as it was written, for ``member_of`` to read: every Observation has a category, which
# is looked at in orders and allergies only, and a code, which most often others have too.
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
    """What makes of JSON the members that a TypedDict names; of what is not of this kind, all.

    What is passed over must be JSON in UTF-8 too. Raises ``orjson.JSONDecodeError``.
    """
    decoder = msgspec.json.Decoder(kind)

    def decode(body: bytes) -> object:
        try:
            if not body.isascii():
                body.decode()  # the decoder does not look at the letters that it passes over
            return decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            decoded: object = orjson.loads(body)
            return decoded

    return decode


decode = decoder_of(Sent)
