"""The request that is measured: one mother in need, with as many Observations as asked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson

from cds_service.content_loader import load_content
from cds_service.demo.ehr import EXAMPLE_SERVER, hook_request, prefetch_from
from cds_service.demo.fhir_store import FhirStore
from cds_service.vignettes import vignettes

MOTHER = "inhibited-letdown-smoker"
CARDS = ["inhibited-letdown", "lactation-consult", "supply-risk-factors", "medicines-and-milk"]
SERVICE = "/cds-services/lactation-patient-view"


def build_request(observations: int, now: datetime, read: bool = True) -> bytes:
    """A patient-view request as of ``now``, all in prefetch, with so many Observations.

    Her own are those of the synthetic mother; the rest are sessions of the days before, or, unless
    they are to be ``read``, the same under a code that means no fact.
    """
    content = load_content()
    mother = next(mother for mother in vignettes() if mother.name == MOTHER)
    store = FhirStore([mother], now)
    sent = prefetch_from(content, store, EXAMPLE_SERVER, mother.patient_id)
    held = sum(
        entry["resource"]["resourceType"] == "Observation"
        for bundle in sent.values()
        if bundle is not None
        for entry in bundle["entry"]
    )
    milk = sent["milkExpression"]["entry"]
    example = next(e["resource"] for e in milk if _code(e["resource"]) == "expressed-milk-volume")
    for number in range(observations - held):
        when = now - timedelta(hours=26, minutes=90 * number)
        session = {**example, "id": f"earlier-{number}", "effectiveDateTime": when.isoformat()}
        if not read:
            coding = {"system": "urn:lactation-cds:fact", "code": "expressed-milk-colour"}
            session["code"] = {"coding": [coding]}
        milk.append({"fullUrl": f"{EXAMPLE_SERVER}/Observation/{number}", "resource": session})
    return orjson.dumps(hook_request(mother, "patient-view", EXAMPLE_SERVER, sent))


def _code(resource: dict[str, Any]) -> str:
    return str(resource["code"]["coding"][0]["code"])
