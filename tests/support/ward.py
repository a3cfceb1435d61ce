"""An EHR beside the service, whose clock can be moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.settings import Settings
from tests.support.calls import VIEW
from tests.support.mothers import (
    NOW,
    average,
    hook_request,
    observation,
    plan,
)
from tests.support.waiting import soon

REASONS = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"
HEARS_EVERY = 0.05  # seconds: its card log writes and reads
LONG_ENOUGH = 0.4  # seconds, to have heard of what was said
SMOKER = observation("smoking-status", "smoker")


@dataclass
class Ward:
    """An EHR and the service, and a clock that can be moved."""

    content: Content
    settings: Settings
    database: str
    now: datetime = NOW
    client: FlaskClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.another_worker()

    def another_worker(self) -> FlaskClient:
        return create_app(self.settings, self.content, lambda: self.now).test_client()

    def cards(self, *records: Any, client: FlaskClient | None = None) -> dict[str, dict[str, Any]]:
        request = hook_request(self.content, *average(), plan("nurse"), *records)
        answer = (client or self.client).post(VIEW, json=request).get_json()
        return {card["source"]["topic"]["code"]: card for card in answer["cards"]}

    def rows(self, table: str) -> list[Any]:
        engine = sqlalchemy.create_engine(self.database)
        with engine.connect() as connection:
            found = list(connection.execute(sqlalchemy.text(f"SELECT * FROM {table}")))
        engine.dispose()
        return found

    def override(self, card: dict[str, Any], code: str | None = "limited-time") -> None:
        """Tell that a card was overridden, once the card log has it."""
        soon(lambda: any(row.uuid == card["uuid"] for row in self.rows("shown")))
        self.tell({"card": card["uuid"], "outcome": "overridden"}, code)

    def tell(self, told: dict[str, Any], code: str | None = None) -> None:
        told["outcomeTimestamp"] = self.now.isoformat()
        if code is not None:
            told["overrideReason"] = {"reason": {"code": code, "system": REASONS}}
        answer = self.client.post(f"{VIEW}/feedback", json={"feedback": [told]})
        assert answer.status_code == 200
