"""Whose chart it is: whether this patient can lactate at all, by her Patient resource.

Nothing here decides for a patient of whom nothing is known: no age, no gender, not sent.
"""

from __future__ import annotations

from datetime import datetime

from ..content.compiled import Content
from ..fhir.chart import Resource
from ..fhir.times import DAY, parse_moment

READ = frozenset(("birthDate", "deceasedBoolean", "deceasedDateTime", "gender"))
YEAR = 365.25 * DAY
SURELY_GROWN = 18  # years: who was born before needs no closer look


def gets_no_card(patient: Resource | None, content: Content, now: datetime) -> bool:
    """Whether there is never a card on this patient: a child, or one who has died."""
    if patient is None:
        return False
    if patient.get("deceasedBoolean") is True or patient.get("deceasedDateTime"):
        return True
    written = patient.get("birthDate")
    if isinstance(written, str) and written[:4] < str(now.year - SURELY_GROWN):
        return False  # as nearly always
    ages = _ages(patient, now)
    return ages is not None and ages[1] < content.parameters["youngest-mother"].value


def is_excluded(patient: Resource | None, content: Content, now: datetime) -> bool:
    """Whether nothing need be read of this patient: as recorded, a man, a child, old or dead.

    Where a record of theirs says birth or lactation, there are cards all the same.
    """
    if patient is None:
        return False
    ages = _ages(patient, now)
    old = ages is not None and ages[0] > content.parameters["oldest-mother"].value
    return old or patient.get("gender") == "male" or gets_no_card(patient, content, now)


def _ages(patient: Resource, now: datetime) -> tuple[float, float] | None:
    """The least and the most years that have passed since the birth, which may be a year alone."""
    assert now.tzinfo is not None
    born = parse_moment(patient.get("birthDate"), now.tzinfo)
    if born is None:
        return None
    at = now.timestamp()
    return (at - born.latest) / YEAR, (at - born.earliest) / YEAR
