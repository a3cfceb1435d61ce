"""Short ways to write a synthetic mother's record, and the request that opens her chart."""

from __future__ import annotations

import itertools
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from cds_service.content.compiled import Content
from cds_service.engine.decoder import decode
from cds_service.engine.findings import Findings
from cds_service.engine.render import SuggestionContext
from cds_service.fhir.chart import Chart, KeyResult, read_result
from cds_service.hooks.prefetch import make_chart
from tests.support.once import evaluation_of

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
HER = "mother-1"
INFANT = "infant-1"
CLINICIAN = "Practitioner/clinician-1"
ENCOUNTER = "encounter-1"
SETTING = SuggestionContext(HER, CLINICIAN, ENCOUNTER)
SERVER = "https://fhir.example.org/r4"

_numbers = itertools.count(1)

Resource = dict[str, Any]


def ago(hours: float) -> str:
    """The FHIR dateTime this many hours before ``NOW``."""
    return (NOW - timedelta(hours=hours)).isoformat()


def observation(fact: str, value: Any = None, hours: float = 1, **members: Any) -> Resource:
    """An Observation by the project's own code; ``value`` is mL, min, a number, bool or answer."""
    made: Resource = {
        "resourceType": "Observation",
        "id": f"observation-{next(_numbers)}",
        "status": "final",
        "code": {"coding": [{"system": "urn:lactation-cds:fact", "code": fact}]},
        "subject": {"reference": f"Patient/{HER}"},
        "effectiveDateTime": ago(hours),
    }
    if isinstance(value, bool):
        made["valueBoolean"] = value
    elif isinstance(value, str):
        answer = {"system": "urn:lactation-cds:answer", "code": value}
        made["valueCodeableConcept"] = {"coding": [answer]}
    elif isinstance(value, tuple):
        made["valueQuantity"] = {"value": value[0], "code": value[1]}
    elif value is not None:
        made["valueQuantity"] = {"value": value}
    made.update(members)
    return made


def milk(volume: float, hours: float, **members: Any) -> Resource:
    """One pumping session, in mL."""
    return observation("expressed-milk-volume", (volume, "mL"), hours, **members)


def birth(hours: float) -> Resource:
    """A birth this many hours ago."""
    return observation("delivery-time", None, 0.5, valueDateTime=ago(hours))


def caesarean(**members: Any) -> Resource:
    """A birth as a Procedure; give when it was ``performed…``."""
    return {
        "resourceType": "Procedure",
        "id": f"caesarean-{next(_numbers)}",
        "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "11466000"}]},
        "subject": {"reference": f"Patient/{HER}"},
        **members,
    }


def plan(answer: str, hours: float = 24) -> Resource:
    """How she plans to feed: to nurse, pump, both, or none."""
    return observation("feeding-plan", answer, hours)


def medicine(kind: str = "MedicationRequest", **members: Any) -> Resource:
    """An active medicine; give ``medicationCodeableConcept`` or ``medicationReference``."""
    return {
        "resourceType": kind,
        "id": f"medicine-{next(_numbers)}",
        "status": "active",
        "subject": {"reference": f"Patient/{HER}"},
        **members,
    }


def allergy(code: str | None = None, text: str | None = None, **members: Any) -> Resource:
    """An allergy by its SNOMED CT code or its text."""
    concept: dict[str, Any] = {}
    if code is not None:
        concept["coding"] = [{"system": "http://snomed.info/sct", "code": code}]
    if text is not None:
        concept["text"] = text
    return {
        "resourceType": "AllergyIntolerance",
        "id": f"allergy-{next(_numbers)}",
        "patient": {"reference": f"Patient/{HER}"},
        "code": concept,
        **members,
    }


def inhibited(day: int = 5) -> list[Resource]:
    """Inhibited letdown: 62 mL in four sessions, long pumping, full breasts, no letdown felt."""
    return [
        birth(24 * day + 3),
        *(
            milk(volume, hours)
            for volume, hours in ((14, 26), (15, 20), (14, 12.4), (15, 7), (18, 1))
        ),
        observation("breast-fullness", "full"),
        observation("pump-session-minutes", (28, "min")),
        observation("letdown-sensation", False),
    ]


def average(day: int = 10) -> list[Resource]:
    """Average letdown, and a volume that is usual for the day: nothing to do."""
    return [
        birth(24 * day + 3),
        *(milk(75, hours) for hours in range(1, 30, 3)),
        observation("pump-session-minutes", (15, "min")),
        observation("breast-fullness", "normal"),
        observation("letdown-sensation", True),
    ]


def prefetch_of(content: Content, resources: list[Resource]) -> dict[str, Any]:
    """The resources as prefetch: each under the first key of its type, all other keys null."""
    sent: dict[str, Any] = dict.fromkeys(content.prefetch_templates)
    for resource in resources:
        for key in content.prefetch.values():
            if key.asked and key.resource == resource["resourceType"]:
                bundle = sent[key.id] or {
                    "resourceType": "Bundle",
                    "type": "searchset",
                    "entry": [],
                }
                bundle["entry"].append({"resource": resource})
                sent[key.id] = bundle
                break
    return sent


def hook_request(content: Content, *resources: Resource, **members: Any) -> dict[str, Any]:
    """A patient-view request with all that is known of her in prefetch."""
    return {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {
            "userId": CLINICIAN,
            "patientId": HER,
            "encounterId": ENCOUNTER,
        },
        "prefetch": prefetch_of(content, list(resources)),
        **members,
    }


def with_a_letdown(body: bytes) -> bytes:
    """A recorded request of a mother of whom a letdown is recorded too: so she gives milk."""
    request = json.loads(body)
    felt = observation("letdown-sensation", True)
    felt["subject"] = {"reference": f"Patient/{request['context']['patientId']}"}
    felt["effectiveDateTime"] = "2026-03-10T10:00:00Z"
    sent = request["prefetch"]["milkExpression"] or {"resourceType": "Bundle", "type": "searchset"}
    sent["entry"] = [*sent.get("entry", []), {"resource": felt}]
    request["prefetch"]["milkExpression"] = sent
    return json.dumps(request).encode()


def answer_of(value: Any) -> KeyResult:
    """What comes for a prefetch key of a value, through JSON and the decoder as in a call."""
    return read_result(decode(json.dumps(value).encode()))


def chart_of(content: Content, *resources: Resource, **answers: KeyResult) -> Chart:
    """Her chart, read of JSON as a call is; ``answers`` replace those of single prefetch keys."""
    sent = prefetch_of(content, list(resources))
    read = {key: answer_of(value) for key, value in sent.items()}
    return make_chart(content, HER, read | answers, SERVER)


def facts_of(
    content: Content, *resources: Resource, now: datetime = NOW, **answers: KeyResult
) -> Any:
    """Her facts by id."""
    return evaluation_of(content).case(chart_of(content, *resources, **answers), now).facts


def findings_of(content: Content, *resources: Resource) -> Findings:
    """What is so of her, to be asked."""
    evaluation = evaluation_of(content)
    return evaluation.findings(evaluation.case(chart_of(content, *resources), NOW))


def cards_of(
    content: Content,
    *resources: Resource,
    now: datetime = NOW,
    jurisdiction: str = "US",
    **answers: KeyResult,
) -> dict[str, dict[str, Any]]:
    """Her cards by their id, in the order in which they come."""
    chart = chart_of(content, *resources, **answers)
    cards = evaluation_of(content, jurisdiction).cards(chart, SETTING, now)
    return {card["source"]["topic"]["code"]: card for card in cards}


def why(card: dict[str, Any]) -> dict[str, Any]:
    """What a card carries for machines."""
    carried: dict[str, Any] = card["extension"]["org.lactation-cds"]
    return carried


CLEAR: dict[str, Any] = {
    "qtc-interval": (459, "ms"),
    "potassium": (4.1, "mmol/L"),
    "magnesium": (1.9, "mg/dL"),
    "long-qt": False,
    "heart-disease": False,
    "liver-impairment": False,
    "gastrointestinal-bleeding-or-obstruction": False,
    "prolactinoma": False,
    "tardive-dyskinesia-or-dystonia": False,
    "phaeochromocytoma": False,
    "epilepsy": False,
    "depression-history": False,
    "depression-score": 4,
    "parkinson-disease": False,
    "psychosis-or-mania": False,
    "suicidality": False,
}
NONE_KNOWN = allergy("409137002")


def without_response(hours: float = 25, **facts: Any) -> list[dict[str, Any]]:
    """Little milk on day 8, with every measure in use for this long; and these facts."""
    in_use = ("massage-while-pumping", "hands-on-pumping")
    records = [
        birth(8 * 24 + 2),
        plan("pump"),
        *(milk(25, 2 + 3 * n) for n in range(9)),
        observation("pump-mode", "double"),
        *(observation(fact, True, ago) for fact in in_use for ago in (hours, 2)),
        *(observation("warm-compress", "before-and-during", ago) for ago in (hours, 2)),
    ]
    return records + [observation(fact, value) for fact, value in facts.items()]
