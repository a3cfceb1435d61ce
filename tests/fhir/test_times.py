"""FHIR dates and times: what each precision can mean, and how it is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.fhir.times import DAY, duration, parse_moment, say_ago, say_duration, say_time

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1), timezones=OFFSETS)


@given(TIMES)
def test_a_time_is_the_same_second_in_every_offset(moment: datetime) -> None:
    here = parse_moment(moment.isoformat(), UTC)
    there = parse_moment(moment.astimezone(UTC).isoformat().replace("+00:00", "Z"), UTC)
    assert here is not None
    assert there is not None
    assert here.exact
    assert here.earliest == there.earliest == pytest.approx(moment.timestamp(), abs=1e-5)


@given(TIMES, st.sampled_from([4, 7, 10]))
def test_a_partial_date_spans_the_moment_that_it_was_cut_from(moment: datetime, cut: int) -> None:
    partial = parse_moment(moment.isoformat()[:cut], moment.tzinfo or UTC)
    assert partial is not None
    assert not partial.exact
    assert partial.earliest <= moment.timestamp() < partial.latest + 1


@given(st.one_of(st.text(max_size=30), st.none(), st.integers(), st.lists(st.text())))
def test_anything_at_all_is_a_moment_or_none(text: object) -> None:
    moment = parse_moment(text, UTC)
    assert moment is None or moment.earliest <= moment.latest


@pytest.mark.parametrize(
    "text", ["2026-01-15T12:00:00", "2026-13", "2026-02-30", "yesterday", "", "20260115", "99999"]
)
def test_a_time_without_offset_or_sense_is_none(text: str) -> None:
    assert parse_moment(text, UTC) is None


def test_a_day_has_its_length() -> None:
    day = parse_moment("2026-01-15", UTC)
    assert day is not None
    assert day.latest - day.earliest == DAY - 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("20 min", 1200), ("24 h", 86400), ("7 d", 604800), ("1.5 h", 5400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["24", "h", "-1 h", "1 week", None, 24])
def test_what_is_no_duration_says_how_to_write_one(text: object) -> None:
    with pytest.raises(ValueError, match="'24 h'"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (27600, "7 h 40 min"),
        (10800, "3 h"),
        (1500, "25 min"),
        (0, "0 min"),
        (3599, "1 h"),
        (47.5 * 3600, "47 h 30 min"),
        (2 * DAY, "2 d"),
        (13.9 * DAY, "13 d"),
        (35 * DAY, "5 weeks"),
        (121.7 * DAY, "4 months"),
        (833 * DAY, "27 months"),
    ],
)
def test_a_length_of_time_is_said_as_a_clinician_does(seconds: float, said: str) -> None:
    assert say_duration(seconds) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-01-14T06:10:00+02:00", "14 Jan 06:10"),
        ("2026-01-14", "14 Jan"),
        ("2026-01", "2026-01"),
        (None, ""),
    ],
)
def test_a_time_is_said_as_it_was_recorded(text: str | None, said: str) -> None:
    assert say_time(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-01-15T11:59:40Z", "0 min ago"),
        ("2026-01-15T12:03:00Z", "0 min ago"),  # a clock that is ahead
        ("2026-01-15T11:20:00Z", "40 min ago"),
        ("2026-01-15T04:00:00Z", "8 h ago"),
        ("2026-01-15T06:00:00+02:00", "8 h ago"),
        ("2026-01-13T12:30:00Z", "47 h ago"),
        ("2026-01-13T11:00:00Z", "2 d ago"),
        ("2025-12-11T11:00:00Z", "5 weeks ago"),
        ("2023-10-05T11:00:00Z", "27 months ago"),
        ("2026-01-13", "13 Jan"),
        ("2025-12", "2025-12"),
        ("2025-04-01", "1 Apr"),
        ("2025-03-01", "1 Mar 2025"),
    ],
)
def test_how_long_ago_is_the_same_in_every_zone(text: str, said: str) -> None:
    moment = parse_moment(text, UTC)
    assert moment is not None
    assert say_ago(moment, NOW.timestamp()) == said
