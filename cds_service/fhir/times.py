"""FHIR dates and times, with the precision in which they were written.

FHIR R4 section 2.24.0.1: ``date`` and ``dateTime`` may be partial (a year, a month, a day); with a
time of day there must be an offset. A partial time is read as an interval, so that a record counts
in a window only if it surely lies in it. Moments are seconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
WEEK = 7 * DAY
MONTH = 365.0 / 12 * DAY
LONGEST_TIME = 64  # characters of a FHIR dateTime, with any usual fraction of a second

_DURATION = re.compile(r"^(\d+(?:\.\d+)?) (min|h|d|months)$")
_SECONDS = {"min": MINUTE, "h": HOUR, "d": DAY, "months": MONTH}


def duration(text: object) -> float:
    """Seconds in ``"20 min"``, ``"24 h"``, ``"7 d"`` or ``"12 months"``.

    A month is a twelfth of 365 days. Raises ``ValueError`` if the text is not such a duration.
    """
    match = _DURATION.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"a duration is written like '24 h' or '7 d', not {text!r}")
    return float(match[1]) * _SECONDS[match[2]]


def window_seconds(text: object) -> float:
    """The seconds for which a record counts: a duration, or ``"ever"``, which is a hundred years.

    Raises ``ValueError`` for any other text.
    """
    return duration("1200 months" if text == "ever" else text)


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A recorded time: the earliest and latest second that it can mean, and the text itself."""

    earliest: float
    latest: float
    text: str

    @property
    def exact(self) -> bool:
        """Whether a time of day was given."""
        return self.earliest == self.latest


def parse_moment(text: object, zone: tzinfo, times_in: tzinfo | None = None) -> Moment | None:
    """Read a FHIR date, dateTime or instant; ``None`` if it is not one.

    ``zone`` is the time zone of dates without a time of day. ``times_in`` is the time zone of times
    without an offset; if it is ``None``, such times are not read.
    """
    if not isinstance(text, str) or len(text) > LONGEST_TIME:
        return None
    try:
        if len(text) > 10:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                if times_in is None:
                    return None
                moment = moment.replace(tzinfo=times_in)
                text = moment.isoformat()
            seconds = moment.timestamp()
            return Moment(seconds, seconds, text)
        if len(text) == 10:
            start = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone)
            end = start + timedelta(days=1)
        elif len(text) == 7:
            start = datetime.strptime(text, "%Y-%m").replace(tzinfo=zone)
            end = start + timedelta(days=calendar.monthrange(start.year, start.month)[1])
        elif len(text) == 4:
            start = datetime.strptime(text, "%Y").replace(tzinfo=zone)
            end = start.replace(year=start.year + 1)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return Moment(start.timestamp(), end.timestamp() - 1, text)


def lacks_offset(text: object) -> bool:
    """Whether a text would be a time that can be read, if it had an offset."""
    return parse_moment(text, UTC) is None and parse_moment(text, UTC, UTC) is not None


def say_duration(seconds: float) -> str:
    """A duration in seconds as a clinician says it: ``7 h 40 min``, ``9 d``, ``4 months``."""
    if seconds >= 2 * DAY:
        return _say_days(seconds)
    minutes = round(seconds / MINUTE)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{rest} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def _say_days(seconds: float) -> str:
    """Two days or more: in days up to two weeks, then in weeks, from ten weeks on in months."""
    if seconds < 2 * WEEK:
        return f"{seconds // DAY:.0f} d"
    if seconds < 10 * WEEK:
        return f"{seconds // WEEK:.0f} weeks"
    return f"{seconds // MONTH:.0f} months"


def say_ago(moment: Moment, now: float) -> str:
    """How long before ``now`` a moment was: ``40 min ago``, ``7 h ago``, ``5 weeks ago``.

    The text does not depend on the offset in which the record was written. A moment without a time
    of day gives its date, with the year if it is over 300 days ago; one without a date, "no date".
    """
    if not moment.text:
        return "no date"
    if not moment.exact:
        is_old = len(moment.text) >= 10 and now - moment.latest > 300 * DAY
        return f"{say_time(moment.text)} {moment.text[:4]}" if is_old else say_time(moment.text)
    seconds = max(0.0, now - moment.earliest)
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min ago"
    if seconds < 2 * DAY:
        return f"{seconds // HOUR:.0f} h ago"
    return f"{_say_days(seconds)} ago"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def say_time(text: str | None) -> str:
    """A recorded time in short: ``14 Jan 06:10``, or ``14 Jan`` if it has no time of day."""
    if text is None:
        return ""
    if len(text) < 10:
        return text
    day = f"{int(text[8:10])} {_MONTHS[int(text[5:7]) - 1]}"
    return f"{day} {text[11:16]}" if len(text) > 10 else day
