"""Orders in draft, and the requests that ask about them."""

from __future__ import annotations

import uuid
from typing import Any

from cds_service.content.compiled import Content
from tests.support.mothers import (
    HER,
    average,
    hook_request,
)


def draft(name: str, number: int = 1, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": f"draft-{number}",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{HER}"},
        "medicationCodeableConcept": {"text": name},
        **members,
    }


def order_request(
    content: Content,
    *orders: Any,
    hook: str = "order-sign",
    selections: list[str] | None = None,
    records: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    records = average() if records is None else records
    request = hook_request(content, *records, hook=hook, hookInstance=str(uuid.uuid4()))
    entries = [{"resource": order} for order in orders]
    request["context"]["draftOrders"] = {"resourceType": "Bundle", "entry": entries}
    if selections is not None:
        request["context"]["selections"] = selections
    return request
