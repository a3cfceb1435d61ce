"""The request that is measured: one mother in need, with as many Observations as asked.

Each has the members that EHRs send and nothing here reads (version, profile, identifier, category,
encounter, performer): fifty of them make 64 kB.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson

from cds_service.authoring.vignettes import vignettes
from cds_service.content.loader import load_content
from cds_service.demo.ehr import EXAMPLE_SERVER, hook_request, prefetch_from
from cds_service.demo.fhir_store import FhirStore
from cds_service.engine.render import TOPIC_SYSTEM

MOTHER = "inhibited-letdown-smoker"
CARDS = ["inhibited-letdown", "supply-risk-factors", "medicines-and-milk"]
# As each of them says in an answer which card it is.
TOPICS = [f'"{TOPIC_SYSTEM}","code":"{card}"'.encode() for card in CARDS]
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
    entries = [entry for each in sent.values() if each for entry in each.get("entry", ())]
    held = [entry for entry in entries if entry["resource"]["resourceType"] == "Observation"]
    for entry in held:
        entry["resource"] = _as_sent(entry["resource"])
    milk = sent["milkExpression"]["entry"]
    example = next(e["resource"] for e in milk if _code(e["resource"]) == "expressed-milk-volume")
    for number in range(observations - len(held)):
        when = now - timedelta(hours=26, minutes=90 * number)
        session = {**example, "id": f"earlier-{number}", "effectiveDateTime": when.isoformat()}
        if not read:
            coding = {"system": "urn:lactation-cds:fact", "code": "expressed-milk-colour"}
            session["code"] = {"coding": [coding]}
        milk.append({"fullUrl": f"{EXAMPLE_SERVER}/Observation/{number}", "resource": session})
    return orjson.dumps(hook_request(mother, "patient-view", EXAMPLE_SERVER, sent))


def _as_sent(observation: dict[str, Any]) -> dict[str, Any]:
    """An Observation with what an EHR adds."""
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    core = "http://hl7.org/fhir/us/core/StructureDefinition"
    survey = {"system": system, "code": "survey", "display": "Survey"}
    nurse = {"reference": "Practitioner/synthetic", "type": "Practitioner", "display": "Nurse"}
    encounter = {"reference": "Encounter/synthetic", "display": "Hospital encounter"}
    return {
        **observation,
        "meta": {
            **observation.get("meta", {}),
            "versionId": "1",
            "lastUpdated": observation["effectiveDateTime"],
            "profile": [f"{core}/us-core-observation-clinical-result"],
        },
        "identifier": [
            {"use": "official", "system": "urn:oid:2.999.1", "value": observation["id"]}
        ],
        "category": [{"coding": [survey], "text": "Survey"}],
        "encounter": encounter,
        "issued": observation["effectiveDateTime"],
        "performer": [nurse],
    }


def _code(resource: dict[str, Any]) -> str:
    return str(resource["code"]["coding"][0]["code"])
