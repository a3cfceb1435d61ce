"""The medicines of the content as a table for a pharmacist, and how often cards named each."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..content.schema import BANDS, OWN_RECORD, VALUE_SET
from ..engine.decision import reason_of
from ..engine.suppression import Digests
from ..storage.report import plain

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..content.schema import Band, Medicine

COLUMNS = (
    "id",
    "name",
    "band",
    "worse for some",
    "line",
    "instead",
    "dose and length",
    "codes",
    "products",
    "effects",
    "source",
    "revised",
    "read as",
    "review",
    "verified",
)
# The facts under which a card names a medicine: one that is taken, and one that is ordered.
TOLD_AS = ("active-medicines", "orders")


def rows(content: Content, country: str, bands: Iterable[Band] = BANDS) -> list[dict[str, str]]:
    """One row for each medicine of some bands, as it is read in a country; the worst band first."""
    wanted = set(bands)
    ordered = sorted(
        content.medicines.values(),
        key=lambda each: (BANDS.index(each.read_in(country).band), each.name.lower()),
    )
    return [
        _row(each, content, country) for each in ordered if each.read_in(country).band in wanted
    ]


def _row(medicine: Medicine, content: Content, country: str) -> dict[str, str]:
    reading = medicine.read_in(country)
    names = {system.url: system.id for system in content.systems.values()}
    codes = [f"{names.get(code.system, code.system)} {code.code}" for code in medicine.codes]
    products = content.codes.get(f"{VALUE_SET}medicine-{medicine.id}")
    source = reading.source or ""
    if source == OWN_RECORD and medicine.lactmed is not None:
        source = f"LactMed {medicine.lactmed.id}"
    elif source:
        source = f"{content.evidence[source].short}: {content.evidence[source].source}"
    values = (
        medicine.id,
        medicine.name,
        reading.band,
        reading.worse.band if reading.worse is not None else "",
        reading.line or "",
        reading.instead or "",
        medicine.say_limits(country),
        ", ".join(codes),
        str(len(list(products))) if products is not None else "0",
        ", ".join(medicine.effects),
        source,
        reading.revised or "",
        reading.read_as or "",
        medicine.review,
        medicine.verified,
    )
    return dict(zip(COLUMNS, values, strict=True))


def as_csv(table: Iterable[dict[str, str]], columns: Iterable[str] = COLUMNS) -> str:
    """A table as CSV, in which a spreadsheet takes no cell for a formula."""
    columns = tuple(columns)
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(columns)
    for row in table:
        writer.writerow([plain(row[name]) for name in columns])
    return written.getvalue()


def seen_in(shown: Iterable[Any], medicines: Iterable[str], digests: Digests) -> Counter[str]:
    """On how many of the ``shown`` cards each of some medicines (ids) was named.

    The card log has no names, only digests of the reasons for a card. So the digests of each
    medicine are compared with these.
    """
    told = {
        name: [reason_of({"fact": fact, "value": name}) for fact in TOLD_AS] for name in medicines
    }
    seen: Counter[str] = Counter()
    for row in shown:
        reasons = set(row.reasons.split())
        for name, tried in told.items():
            seen[name] += not reasons.isdisjoint(digests.reasons_of(row.uuid, tried))
    return seen
