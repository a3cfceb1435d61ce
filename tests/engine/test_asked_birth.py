"""Whose birth is asked for: of her who pumps and has none in her record, once. Over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.mothers import HER, ago, birth, hook_request, milk, observation

Records = list[dict[str, Any]]
ASKED = "ask for the date and time of birth"


def asked(client: FlaskClient, content: Content, records: Records) -> list[str]:
    """The cards that name the birth; at most once each, or the test fails."""
    answer = client.post(VIEW, json=hook_request(content, *records))
    assert answer.status_code == 200
    cards = [
        (card["source"]["topic"]["code"], f"{card['summary']}\n{card.get('detail', '')}".lower())
        for card in answer.get_json()["cards"]
    ]
    assert all(text.count(ASKED) == text.count("time of birth") - 1 == 1 for _, text in cards)
    return [card for card, _ in cards]


def total(days: int) -> dict[str, Any]:
    """All that she expressed on a day, some days ago."""
    period = {"start": ago(24 * days + 25), "end": ago(24 * days + 1)}
    made = milk(300, 1, effectivePeriod=period)
    del made["effectiveDateTime"]
    return made


WEEKS = [milk(40, hours) for hours in range(2, 24 * 28, 4)]
DAYS = [milk(40, hours) for hours in range(2, 24 * 3, 4)]
ONE_DAY = [milk(40, hours) for hours in range(2, 26, 4)]
LITTLE = [milk(4, hours) for hours in range(2, 24 * 28, 4)]
INHIBITED = [
    observation("breast-fullness", "full"),
    observation("letdown-sensation", False),
    observation("pump-session-minutes", (28, "min")),
]
PUMPING = {
    "weeks": WEEKS,
    "days": DAYS,
    "one day": ONE_DAY,
    "one session": [milk(40, 2)],
    "little milk": LITTLE,
    "totals of days": [total(days) for days in range(20)],
    "only how often": [observation("pump-sessions-24h", 8)],
    "and inhibited letdown": WEEKS + INHIBITED,
}


@pytest.mark.parametrize("records", PUMPING.values(), ids=PUMPING)
def test_who_pumps_without_a_birth_is_asked_for_it_once(
    client: FlaskClient, content: Content, records: Records
) -> None:
    assert asked(client, content, records) == ["data-needed"]


def stay(**members: Any) -> dict[str, Any]:
    """An Encounter of her delivery: the birth was some time within it."""
    delivery = {"coding": [{"system": "http://snomed.info/sct", "code": "177184002"}]}
    her = {"reference": f"Patient/{HER}"}
    return {"resourceType": "Encounter", "id": "stay", "subject": her, "type": [delivery]} | members


def test_a_birth_within_days_is_asked_for_where_its_day_decides(
    client: FlaskClient, content: Content
) -> None:
    some_day = stay(status="in-progress", period={"start": ago(24 * 6)})
    assert asked(client, content, [some_day, *LITTLE[:8], *INHIBITED]) == ["data-needed"]


def newborn(fact: str, value: Any) -> dict[str, Any]:
    """A record of her infant, in her chart."""
    return observation(fact, value, focus=[{"reference": "Patient/baby-1"}])


PERIOD = {"start": ago(24 * 27), "end": ago(24 * 24)}
NOT_ASKED = {
    "a birth": [birth(24 * 28), *WEEKS],
    "bounded by an Encounter": [stay(status="finished", period=PERIOD), *WEEKS],
    "an Encounter that goes on": [stay(status="in-progress", period={"start": ago(100)}), *DAYS],
    "records of the infant alone": [
        newborn("pacifier-use", False),
        newborn("milk-transfer-adequate", True),
    ],
    "nothing at all": [],
    "another Observation": [observation("breast-pain", 0)],
    "milk of last year alone": [milk(40, 24 * 300)],
}


@pytest.mark.parametrize("records", NOT_ASKED.values(), ids=NOT_ASKED)
def test_nobody_else_is_asked_for_a_birth(
    client: FlaskClient, content: Content, records: Records
) -> None:
    request = hook_request(content, *records)
    assert "time of birth" not in client.post(VIEW, json=request).text
