"""The patient: whether there can be cards at all, judged by the Patient resource.

Missing data excludes nobody: no age, no gender, or no Patient resource.
"""

from __future__ import annotations

from datetime import datetime

from ..content.compiled import Content
from ..fhir.chart import Resource
from ..fhir.times import DAY, parse_moment

READ = frozenset(("birthDate", "deceasedBoolean", "deceasedDateTime", "gender"))
YEAR = 365.25 * DAY
SURELY_GROWN = 18  # years; an older patient is surely no child


def gets_no_card(patient: Resource | None, content: Content, now: datetime) -> bool:
    """Whether no card is ever shown for this patient: a child, or one who has died."""
    if patient is None:
        return False
    if patient.get("deceasedBoolean") is True or patient.get("deceasedDateTime"):
        return True
    written = patient.get("birthDate")
    if isinstance(written, str) and written[:4] < str(now.year - SURELY_GROWN):
        return False  # the usual case
    ages = _ages(patient, now)
    return ages is not None and ages[1] < content.parameters["youngest-mother"].value


def is_excluded(patient: Resource | None, content: Content, now: datetime) -> bool:
    """Whether the Patient resource is of a man, a child, an old patient or one who has died.

    Needed data may then be missing. If a record of a man or an old patient tells of a birth or of
    lactation, there are cards all the same.
    """
    if patient is None:
        return False
    ages = _ages(patient, now)
    old = ages is not None and ages[0] > content.parameters["oldest-mother"].value
    return old or patient.get("gender") == "male" or gets_no_card(patient, content, now)


def _ages(patient: Resource, now: datetime) -> tuple[float, float] | None:
    """The lowest and the highest possible age in years, as only the year of birth may be known."""
    assert now.tzinfo is not None
    born = parse_moment(patient.get("birthDate"), now.tzinfo)
    if born is None:
        return None
    at = now.timestamp()
    return (at - born.latest) / YEAR, (at - born.earliest) / YEAR
