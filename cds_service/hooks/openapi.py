"""The description of the service for programs: OpenAPI 3.1, published at ``/openapi.json``.

What a request must be is told by the models that read it, so that the two cannot differ. What is
answered is CDS Hooks 2.0.1, "CDS Service Response", as far as this service uses it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .feedback import MOST_ITEMS, Feedback
from .protocol import CONTEXTS, HOOKS, SPECIFICATION, TITLES, HookRequest

_REFERENCE = "#/components/schemas/"


def describe(base_url: str, version: str, must_be_known: bool) -> dict[str, Any]:
    """The document, for a service at ``base_url``; ``version`` is that of its content.

    ``must_be_known`` says whether callers need a token.
    """
    models: list[type[BaseModel]] = [HookRequest, Feedback, *dict.fromkeys(CONTEXTS.values())]
    _, defined = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCE + "{model}"
    )
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "lactation-cds",
            "version": version,
            "description": f"CDS Hooks {SPECIFICATION} for postpartum lactation support.",
        },
        "servers": [{"url": base_url}],
        "paths": {"/cds-services": {"get": _discovery()}},
        "components": {
            "schemas": defined["$defs"] | _ANSWERS,
            "responses": {
                "refused": {
                    "description": "Refused, and why.",
                    "content": _json({"$ref": _REFERENCE + "OperationOutcome"}),
                },
                "unknown": {"description": "The caller is not known. Nothing is said of why."},
            },
        },
    }
    for service, hook in HOOKS.items():
        document["paths"][f"/cds-services/{service}"] = {"post": _call(service, hook)}
        document["paths"][f"/cds-services/{service}/feedback"] = {"post": _feedback(service)}
    if must_be_known:
        scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        document["components"]["securitySchemes"] = {"client": scheme}
        document["security"] = [{"client": []}]
    return document


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _responses(schema: str, *refusals: int) -> dict[str, Any]:
    answered: dict[str, Any] = {
        "200": {"description": "Answered.", "content": _json({"$ref": _REFERENCE + schema})},
        "401": {"$ref": "#/components/responses/unknown"},
    }
    for status in (*refusals, 403, 406, 500, 503):
        answered[str(status)] = {"$ref": "#/components/responses/refused"}
    return answered


def _discovery() -> dict[str, Any]:
    return {
        "operationId": "discovery",
        "summary": "The services, and what each wants to have prefetched",
        "responses": _responses("Discovery"),
    }


def _call(service: str, hook: str) -> dict[str, Any]:
    own = {"hook": {"const": hook}, "context": {"$ref": _REFERENCE + CONTEXTS[hook].__name__}}
    both = {"allOf": [{"$ref": _REFERENCE + "HookRequest"}, {"properties": own}]}
    return {
        "operationId": service,
        "summary": TITLES[hook],
        "requestBody": {"required": True, "content": _json(both)},
        "responses": _responses("Cards", 400, 408, 412, 413, 415, 429),
    }


def _feedback(service: str) -> dict[str, Any]:
    items = {"type": "array", "minItems": 1, "maxItems": MOST_ITEMS}
    items |= {"items": {"$ref": _REFERENCE + "Feedback"}}
    body = {"type": "object", "required": ["feedback"], "properties": {"feedback": items}}
    return {
        "operationId": f"{service}-feedback",
        "summary": "What became of its cards",
        "requestBody": {"required": True, "content": _json(body)},
        "responses": _responses("Nothing", 400, 408, 413, 415),
    }


def _object(required: str, /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


_TEXT = {"type": "string", "minLength": 1}
_ADDRESS = {"type": "string", "pattern": "^https://"}
_CODING = _object("code system", code=_TEXT, system=_TEXT, display=_TEXT)
_RESOURCE = _object("resourceType", resourceType=_TEXT)
_ACTION = _object(
    "type description",
    type={"enum": ["create", "delete"]},
    description=_TEXT,
    resource=_RESOURCE,
    resourceId=_TEXT,
)


def _some(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": schema}


_SUGGESTION = _object(
    "label uuid actions",
    label=_TEXT,
    uuid=_TEXT,
    isRecommended={"type": "boolean"},
    actions=_some(_ACTION),
)
_LINK = _object("label url type", label=_TEXT, url=_ADDRESS, type={"const": "absolute"})
_CARD = _object(
    "uuid summary detail indicator source extension",
    uuid=_TEXT,
    summary=_TEXT | {"maxLength": 139},
    detail=_TEXT,
    indicator={"enum": ["info", "warning", "critical"]},
    source=_object("label topic", label=_TEXT, url=_ADDRESS, topic=_CODING),
    suggestions=_some(_SUGGESTION),
    selectionBehavior={"enum": ["at-most-one", "any"]},
    overrideReasons=_some(_CODING),
    links=_some(_LINK),
    extension=_object("org.lactation-cds"),
)
_SERVICE = _object(
    "hook title description id prefetch usageRequirements version",
    hook=_TEXT,
    title=_TEXT,
    description=_TEXT,
    id=_TEXT,
    prefetch={"type": "object", "minProperties": 1, "additionalProperties": _TEXT},
    usageRequirements=_TEXT,
    version=_TEXT,
)
_ISSUE = _object(
    "severity code details",
    severity={"enum": ["fatal", "error"]},
    code=_TEXT,
    details=_object("text", text=_TEXT),
    expression=_some(_TEXT),
)

_ANSWERS = {
    "Discovery": _object("services", services=_some(_SERVICE)),
    "Cards": _object("cards", cards={"type": "array", "maxItems": 4, "items": _CARD})
    | {"additionalProperties": False},
    "Nothing": {"type": "object", "maxProperties": 0},
    "OperationOutcome": _object(
        "resourceType issue", resourceType={"const": "OperationOutcome"}, issue=_some(_ISSUE)
    ),
}
