"""The machine-readable description of the service: OpenAPI 3.1, at ``/openapi.json``.

The schemas of requests and answers are generated from the types with which the code reads and
writes them, so that description and code cannot differ.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ..engine.card_json import Cards
from ..errors import OperationOutcome
from .feedback import FeedbackCall, Nothing
from .protocol import CONTEXTS, HOOKS, SPECIFICATION, TITLES, Discovery, HookRequest

_TYPES: dict[str, Any] = {
    "HookRequest": HookRequest,
    **{context.__name__: context for context in CONTEXTS.values()},
    "FeedbackCall": FeedbackCall,
    "Discovery": Discovery,
    "Cards": Cards,
    "Nothing": Nothing,
    "OperationOutcome": OperationOutcome,
}


def describe(base_url: str, version: str, needs_token: bool) -> JsonSchemaValue:
    """The document for a service at ``base_url``; ``version`` is that of the content.

    ``needs_token`` says whether callers need a token. Making the document takes some tens of
    milliseconds.
    """
    schemas, defined = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(of)) for name, of in _TYPES.items()],
        ref_template="#/components/schemas/{model}",
        schema_generator=_WithoutTitles,
    )
    content = {
        name: {"application/json": {"schema": schema}} for (name, _), schema in schemas.items()
    }
    paths = {"/cds-services": {"get": _discovery(content)}}
    for service, hook in HOOKS.items():
        paths[f"/cds-services/{service}"] = {"post": _call(content, service, hook)}
        paths[f"/cds-services/{service}/feedback"] = {"post": _feedback(content, service)}
    document: JsonSchemaValue = {
        "openapi": "3.1.0",
        "info": {
            "title": "lactation-cds",
            "version": version,
            "description": f"CDS Hooks {SPECIFICATION} for postpartum lactation support.",
        },
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {
            "schemas": defined["$defs"],
            "responses": {
                "refused": {
                    "description": "Refused, and why.",
                    "content": content["OperationOutcome"],
                },
                "unknown": {"description": "The caller is not known. Nothing is said of why."},
            },
        },
    }
    if needs_token:
        scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        document["components"]["securitySchemes"] = {"client": scheme}
        document["security"] = [{"client": []}]
    return document


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles of members, which would repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


_Content = dict[str, JsonSchemaValue]  # the content of bodies, by the name of the type


def _discovery(content: _Content) -> JsonSchemaValue:
    return {
        "operationId": "discovery",
        "summary": "The services, and what each wants to have prefetched",
        "responses": _responses(content["Discovery"]),
    }


def _call(content: _Content, service: str, hook: str) -> JsonSchemaValue:
    request = content["HookRequest"]["application/json"]["schema"]
    context = content[CONTEXTS[hook].__name__]["application/json"]["schema"]
    own = {"properties": {"hook": {"const": hook}, "context": context}}
    body = {"application/json": {"schema": {"allOf": [request, own]}}}
    return {
        "operationId": service,
        "summary": TITLES[hook],
        "requestBody": {"required": True, "content": body},
        "responses": _responses(content["Cards"], 400, 408, 412, 413, 415, 429),
    }


def _feedback(content: _Content, service: str) -> JsonSchemaValue:
    return {
        "operationId": f"{service}-feedback",
        "summary": "What became of its cards",
        "requestBody": {"required": True, "content": content["FeedbackCall"]},
        "responses": _responses(content["Nothing"], 400, 408, 413, 415),
    }


def _responses(answer: JsonSchemaValue, *refusals: int) -> JsonSchemaValue:
    answered: JsonSchemaValue = {
        "200": {"description": "Answered.", "content": answer},
        "401": {"$ref": "#/components/responses/unknown"},
    }
    for status in (*refusals, 403, 406, 500, 503):
        answered[str(status)] = {"$ref": "#/components/responses/refused"}
    return answered
