"""What a client sends to the service, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Valid = Callable[[str, Any], None]
VIEW = "/cds-services/lactation-patient-view"


def outcome(answer: TestResponse, status: int, content_type: str = "application/json") -> Any:
    """The one issue of the OperationOutcome that a refusal must be."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == content_type
    body = answer.get_json()
    assert body["resourceType"] == "OperationOutcome"
    (issue,) = body["issue"]
    assert issue["severity"] in ("error", "fatal")
    assert issue["details"]["text"]
    return issue


def fire(
    client: FlaskClient, request: dict[str, Any], valid: Valid | None = None
) -> list[dict[str, Any]]:
    """The cards for a request of any hook; ``valid`` looks at the whole answer."""
    answer = client.post(f"/cds-services/lactation-{request['hook']}", json=request)
    assert answer.status_code == 200, answer.text
    if valid is not None:
        valid("response", answer.get_json())
    cards: list[dict[str, Any]] = answer.get_json()["cards"]
    return cards


def topics(cards: list[dict[str, Any]]) -> list[str]:
    """The ids of cards, in the order in which they came."""
    return [card["source"]["topic"]["code"] for card in cards]


def told(cards: list[dict[str, Any]]) -> dict[str, str]:
    """What cards say, by their id."""
    return {c["source"]["topic"]["code"]: f"{c['summary']}\n{c['detail']}" for c in cards}
