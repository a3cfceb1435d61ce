"""A card log with what some synthetic months would leave in it."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import orjson

from cds_service.content.compiled import Content
from cds_service.storage.database import Database

CARDS = {
    "inhibited-letdown": (0.34, 0.55, 0.18),
    "lactation-consult": (0.30, 0.62, 0.10),
    "supply-risk-factors": (0.18, 0.20, 0.45),
    "medicines-and-milk": (0.12, 0.0, 0.15),
    "data-needed": (0.05, 0.0, 0.30),
    "galactagogue-options": (0.01, 0.0, 0.5),
}
REASONS = ["action-completed", "patient-refuses", "limited-time", "patient-ineligible", None]


def fill(database: Database, content: Content, now: datetime, days: int, cards: int) -> None:
    """Cards shown on the days before ``now``, and what was told of them; always the same."""
    chance = random.Random(7)
    shown: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    for number in range(cards):
        card = chance.choices(list(CARDS), [often for often, _, _ in CARDS.values()])[0]
        _, accepted, overridden = CARDS[card]
        when = now - timedelta(days=days * (1 - chance.random() ** 0.7))
        client = chance.choice(["https://north.example.org", "https://south.example.org"])
        interventions = content.cards[card].interventions[:3]
        offered = {f"s-{number}-{place}": name for place, name in enumerate(interventions)}
        shown.append(
            {
                "uuid": f"card-{number}",
                "client": client,
                "tenant": "",
                "service": "lactation-patient-view",
                "card": card,
                "about": "",
                "patient": f"{chance.randrange(cards // 3):032x}",
                "counts_for": "",
                "indicator": content.cards[card].indicator,
                "interventions": " ".join(interventions),
                "offered": " ".join(f"{uuid}={name}" for uuid, name in offered.items()),
                "reasons": "",
                "content": "older" if when < now - timedelta(days=days / 2) else "newer",
                "shown": int(when.timestamp() * 1000),
            }
        )
        happened = chance.random()
        if happened >= accepted + overridden:
            continue
        taken = happened < accepted
        reason = None if taken else chance.choices(REASONS, [4, 3, 3, 1, 2])[0]
        told.append(
            {
                "key": f"key-{number}",
                "client": client,
                "tenant": "",
                "service": "lactation-patient-view",
                "card": f"card-{number}",
                "outcome": "accepted" if taken else "overridden",
                "occurred": int(when.timestamp() * 1000) + 60_000,
                "suggestions": " ".join(list(offered)[: chance.randrange(1, 3)]) if taken else "",
                "reason_system": "urn:reasons" if reason else None,
                "reason_code": reason,
                "commented": False,
                "comment": None,
            }
        )
    database.keep_shown(orjson.dumps(shown))
    database.keep_feedback(told, now.timestamp())
