"""The FHIR endpoint of the demo: read, search and create (FHIR R4, "RESTful API")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fhir.resources.R4B import get_fhir_model_class
from flask import Blueprint, Response, request
from pydantic import ValidationError

from ..authoring.vignettes import Resource
from ..errors import operation_outcome
from .fhir_store import FhirStore, SearchFailedError, UnknownParameterError

TYPES = (
    "AllergyIntolerance",
    "CommunicationRequest",
    "Condition",
    "DeviceRequest",
    "Encounter",
    "Medication",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Patient",
    "Practitioner",
    "Procedure",
    "ServiceRequest",
    "Task",
)


def fhir_endpoint(store: FhirStore, base: str) -> Blueprint:
    """Routes under ``/fhir`` for a store whose address is ``base``."""
    endpoint = Blueprint("fhir", __name__, url_prefix="/fhir")

    @endpoint.get("/metadata")
    def metadata() -> Response:
        return _fhir(_capabilities(base))

    @endpoint.get("/<kind>")
    def search(kind: str) -> Response:
        # A "+" in a query is a plus sign here, as in time offsets, and not a space.
        return find(kind, request.query_string.decode().replace("+", "%2B"))

    @endpoint.post("/<kind>/_search")
    def search_by_post(kind: str) -> Response:
        return find(kind, request.get_data(as_text=True))

    def find(kind: str, query: str) -> Response:
        if kind not in TYPES:
            return _refuse(404, "This resource type is not kept here.", "not-supported")
        try:
            return _fhir(store.search(base, kind, query))
        except UnknownParameterError as error:
            return _refuse(400, f"The search parameter {error} is not known.", "not-supported")
        except SearchFailedError:
            return _refuse(500, "This search fails, as the vignette says.", "exception")
        except ValueError:
            return _refuse(400, "A search parameter has a value that cannot be read.", "value")

    @endpoint.get("/<kind>/<identifier>")
    def read(kind: str, identifier: str) -> Response:
        found = store.read(kind, identifier)
        return _fhir(found) if found else _refuse(404, "There is no such resource.", "not-found")

    @endpoint.post("/<kind>")
    def create(kind: str) -> Response:
        try:
            resource = orjson.loads(request.get_data(cache=False))
            if kind not in TYPES or resource.get("resourceType") != kind:
                return _refuse(400, f"A {kind} is due here.", "invalid")
            get_fhir_model_class(kind).model_validate(resource)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            return _refuse(422, f"This is not a valid {kind}: {where}: {first['msg']}", "invalid")
        except (orjson.JSONDecodeError, AttributeError):
            return _refuse(400, "The body is not a JSON object.", "structure")
        kept = store.create(resource)
        response = _fhir(kept, 201)
        response.headers["Location"] = f"{base}/{kind}/{kept['id']}"
        return response

    return endpoint


def _fhir(resource: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(resource), status, mimetype="application/fhir+json")


def _refuse(status: int, reason: str, code: str) -> Response:
    return _fhir(operation_outcome(reason, code), status)


def _capabilities(base: str) -> Resource:
    interactions = [{"code": code} for code in ("read", "search-type", "create")]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-24",
        "kind": "instance",
        "software": {"name": "lactation-cds demo"},
        "implementation": {"description": "Synthetic mothers", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "resource": [{"type": kind, "interaction": interactions} for kind in TYPES],
            }
        ],
    }
