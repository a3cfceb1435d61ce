"""The CDS Hooks protocol: discovery, and validation of requests.

CDS Hooks 2.0.1, "HTTP Request" and "HTTP Status Codes". Unknown members and extensions are ignored;
members that are required or given must be of the right kind. A refusal is an OperationOutcome that
does not repeat any part of the request.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from ..content.compiled import Content
from ..engine.decoder import Sent, decoder_of
from ..errors import Refusal, Text
from ..fhir.chart import Resource
from ..fhir.references import normal_urn, read_address

SPECIFICATION = "2.0.1"

HOOKS = {
    "lactation-patient-view": "patient-view",
    "lactation-encounter-start": "encounter-start",
    "lactation-encounter-discharge": "encounter-discharge",
    "lactation-order-select": "order-select",
    "lactation-order-sign": "order-sign",
}

TITLES = {
    "patient-view": "Lactation support when her chart is opened",
    "encounter-start": "Lactation support when her encounter starts",
    "encounter-discharge": "Lactation support that goes home with her",
    "order-select": "Lactation and a newly selected order",
    "order-sign": "Lactation and the orders to be signed",
}

_CHART = (
    "Looks at a mother's records of milk expression, letdown, habits and medicines in the year "
    "after a birth, and answers with what would help her: expression technique, supply risk "
    "factors, a lactation consultant, and LactMed on her medicines."
)
_ORDERS = (
    "Looks at medicines that are being ordered for a mother in the year after a birth: one that "
    "lowers milk supply, and one for more milk that her record speaks against or that comes before "
    "technique."
)
DESCRIPTIONS = {
    "patient-view": _CHART,
    "encounter-start": _CHART,
    "encounter-discharge": (
        "Checks that a lactating mother's plan goes home with her: a lactation consultant, a pump "
        "and a check of the infant's feeding."
    ),
    "order-select": _ORDERS,
    "order-sign": _ORDERS,
}

USAGE = (
    "FHIR R4. Works from prefetch alone, from the FHIR server alone, or from both, key by key. "
    "Needs the key milkExpression or leave to read it (patient/Observation.read). Content is under "
    "clinical review; this is not a medical device."
)


# What each member must be, by its JSON name: the end of the sentence in a refusal.
MEMBERS = {
    "hook": "the name of a hook",
    "hookInstance": "a UUID",
    "fhirServer": "an address of http or https, and be there where fhirAuthorization is",
    "fhirAuthorization": ("an object with access_token, token_type, expires_in, scope and subject"),
    "access_token": "a text that is not empty",
    "token_type": "Bearer",
    "expires_in": "a number of seconds",
    "scope": "a text that is not empty",
    "subject": "a text that is not empty",
    "patient": "the id of the patient of the context",
    "prefetch": "an object with an answer, or null, for each key",
    "context": "an object with the members of its hook",
    "userId": (
        "Practitioner/[id] or PractitionerRole/[id], or in patient-view also Patient/[id] or "
        "RelatedPerson/[id], of at most 255 characters"
    ),
    "patientId": "an id without a type, of 1 to 255 characters",
    "encounterId": "an id without a type, of 1 to 255 characters",
    "draftOrders": "a Bundle, as an object",
    "selections": "a list of at least one reference, each a text",
    "feedback": (
        "a list of at least one item, each an object with card, outcome and outcomeTimestamp"
    ),
    "card": "the uuid of a card, a text of 1 to 255 characters",
    "outcome": "accepted or overridden",
    "outcomeTimestamp": (
        "a date and time with an offset (RFC 3339), as 2026-01-15T12:00:00Z or "
        "2026-01-15T13:00:00+01:00"
    ),
    "acceptedSuggestions": (
        "a list of objects with an id, at most 100, and of at least one if the outcome is accepted"
    ),
    "id": "the uuid of a suggestion, a text of 1 to 255 characters",
    "overrideReason": "an object with a reason, a userComment, or both",
    "reason": "an object with a code, and its system if there is one",
    "code": "a text of 1 to 255 characters",
    "system": "a text of 1 to 255 characters",
    "userComment": "a text",
}


# For optional members: an empty string counts as absent. Clients must leave out members without a
# value (CDS Hooks 2.0.1, "Use of JSON"), but some do not. ``Empty`` is for the OpenAPI description.
OrNone = BeforeValidator(lambda value: None if value == "" else value)
Empty = Literal[""]
BareId = Annotated[str, Field(max_length=255, pattern=r"^[^/\s]+$")]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class Context(_Lenient):
    """The context members of every hook here: the user, the patient and the encounter."""

    user_id: str = Field(
        alias="userId", max_length=255, pattern=r"^(Practitioner|PractitionerRole)/[^/\s]+$"
    )
    patient_id: BareId = Field(alias="patientId")
    encounter_id: Annotated[BareId | Empty | None, OrNone] = Field(
        default=None, alias="encounterId"
    )

    @property
    def judged_orders(self) -> list[Resource]:
        """The draft orders that the call is about."""
        return []

    @property
    def draft_entries(self) -> list[Any]:
        """The entries of the Bundle of draft orders, as they came."""
        return []


class PatientViewContext(Context):
    """Context of ``patient-view``."""

    user_id: str = Field(
        alias="userId",
        max_length=255,
        pattern=r"^(Practitioner|PractitionerRole|Patient|RelatedPerson)/[^/\s]+$",
    )


class EncounterContext(Context):
    """Context of ``encounter-start`` and ``encounter-discharge``."""

    encounter_id: BareId = Field(alias="encounterId")


class OrderSignContext(Context):
    """Context of ``order-sign``. Orders need not be drafts, and may be of any type."""

    draft_orders: Resource = Field(alias="draftOrders")

    @field_validator("draft_orders")
    @classmethod
    def _is_a_bundle(cls, sent: Resource) -> Resource:
        if sent.get("resourceType", "Bundle") != "Bundle" or (
            not isinstance(sent.get("entry", []), list)
        ):
            raise ValueError
        if "resourceType" not in sent and "entry" not in sent:
            raise ValueError
        return sent

    @property
    def judged_orders(self) -> list[Resource]:
        """Every order of the Bundle; entries without a resource are ignored."""
        resources = [
            entry.get("resource") for entry in self.draft_entries if isinstance(entry, dict)
        ]
        return [resource for resource in resources if isinstance(resource, dict)]

    @property
    def draft_entries(self) -> list[Any]:
        """The entries of the Bundle of draft orders, as they came."""
        entries = self.draft_orders.get("entry")
        return entries if isinstance(entries, list) else []


class OrderSelectContext(OrderSignContext):
    """Context of ``order-select``."""

    selections: Annotated[list[str], FailFast(), Field(min_length=1)]

    @property
    def judged_orders(self) -> list[Resource]:
        """The newly selected orders; the others were judged when they were selected.

        A selection may also be an absolute reference, a reference to a version, an id without a
        type, or the ``fullUrl`` of an entry. If no selection matches a draft, all are judged.
        """
        names = {_selected(selection) for selection in self.selections}
        orders = super().judged_orders
        addresses = {
            id(entry.get("resource")): entry.get("fullUrl")
            for entry in self.draft_entries
            if isinstance(entry, dict)
        }

        def is_selected(order: Resource) -> bool:
            identifier, address = order.get("id"), addresses.get(id(order))
            own = {f"{order.get('resourceType')}/{identifier}"}
            own |= {_selected(text) for text in (identifier, address) if isinstance(text, str)}
            return not names.isdisjoint(own)

        return [order for order in orders if is_selected(order)] or orders


def _selected(reference: str) -> str:
    """``Type/id`` of a reference, without server and version; else the text itself."""
    steps = normal_urn(reference).partition("/_history/")[0].split("/")
    return "/".join(steps[-2:])


CONTEXTS: dict[str, type[Context]] = {
    "patient-view": PatientViewContext,
    "encounter-start": EncounterContext,
    "encounter-discharge": EncounterContext,
    "order-select": OrderSelectContext,
    "order-sign": OrderSignContext,
}


class FhirAuthorization(_Lenient):
    """The token for reading the FHIR server; it is used for this request only."""

    access_token: str = Field(min_length=1, repr=False)
    token_type: str = Field(pattern=r"^[Bb][Ee][Aa][Rr][Ee][Rr]$")  # RFC 6749, section 5.1
    expires_in: float | Annotated[str, Field(pattern=r"^\s*[0-9]+\s*$")]
    scope: str = Field(min_length=1)
    subject: str = Field(min_length=1)
    patient: Annotated[str | None, OrNone] = None


def _uuid(text: str) -> str:
    UUID(text)
    return text


def _address(text: str) -> str:
    if read_address(text) is None:
        raise ValueError("it names no server")
    return text


Address = Annotated[
    str,
    Field(  # may be empty, see ``OrNone``
        pattern=r"^([Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
        r"([/?#][^\s]*)?)?$"
    ),
    AfterValidator(_address),
]


class HookRequest(_Lenient):
    """A service call. ``prefetch`` is not validated here: it is read key by key later."""

    model_config = ConfigDict(  # null counts as absent
        json_schema_extra={
            "if": {
                "required": ["fhirAuthorization"],
                "properties": {"fhirAuthorization": {"type": "object"}},
            },
            "then": {
                "required": ["fhirServer"],
                "properties": {"fhirServer": {"type": "string", "minLength": 1}},
            },
        }
    )

    hook: str
    hook_instance: Annotated[str, AfterValidator(_uuid)] = Field(
        alias="hookInstance", json_schema_extra={"format": "uuid"}
    )
    fhir_server: Annotated[Address | Empty | None, OrNone] = Field(default=None, alias="fhirServer")
    fhir_authorization: FhirAuthorization | None = Field(default=None, alias="fhirAuthorization")
    context: dict[str, Any]
    prefetch: dict[str, Any] = Field(
        default_factory=dict, json_schema_extra={"type": ["object", "null"]}
    )

    @model_validator(mode="after")
    def _server_for_authorization(self) -> HookRequest:
        if self.fhir_authorization is not None and self.fhir_server is None:
            raise ValueError("fhirServer is required with fhirAuthorization")
        return self


def read_object(body: bytes, decode: Callable[[bytes], Any] = orjson.loads) -> dict[str, Any]:
    """Read a body as a JSON object. Raises ``Refusal`` (400) if it is not one.

    A body that is nested too deeply for the parser is refused too: above 1,024 levels, or some
    thousands with a newer Python where only the typed decoder reads them. A byte-order mark at the
    start is ignored (RFC 8259, section 8.1).
    """
    try:
        document = decode(body.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError:
        raise Refusal(400, "The body is not JSON in UTF-8.", "structure") from None
    if not isinstance(document, dict):
        raise Refusal(400, "The body must be a JSON object.", "structure")
    return document


class _Call(TypedDict, total=False):
    hook: Any
    hookInstance: Any
    fhirServer: Any
    fhirAuthorization: Any
    context: Any
    prefetch: dict[str, Sent | None]


_decode_call = decoder_of(_Call)


def read_request(body: bytes, hook: str) -> tuple[HookRequest, Context]:
    """Read the body of a call to a service for ``hook``.

    Raises ``Refusal`` (400) if the body is not JSON, lacks a required member, has a member of the
    wrong kind, is for another hook, or has an authorization for another patient.
    """
    document = read_object(body, _decode_call)
    if document.get("prefetch") is None:
        document["prefetch"] = {}  # null counts as absent
    if not isinstance(document["prefetch"], dict):
        raise Refusal(400, "prefetch must be an object.", "structure", ["prefetch"])
    try:
        request = HookRequest.model_validate(document)
        if request.hook != hook:
            raise Refusal(400, f"This service answers the hook {hook} only.", "value", ["hook"])
    except ValidationError as error:
        raise refusal_of(error) from None
    try:
        context = CONTEXTS[hook].model_validate(request.context)
    except ValidationError as error:
        raise refusal_of(error, "context") from None
    authorization = request.fhir_authorization
    if authorization and authorization.patient not in (None, context.patient_id):
        where = ["fhirAuthorization.patient"]
        raise Refusal(400, "fhirAuthorization is for another patient.", "security", where)
    return request, context


def refusal_of(error: ValidationError, *within: str | int) -> Refusal:
    """The refusal (400) that names the first member that is not valid, and what it must be.

    ``within`` is the path to the validated object: names and indexes, the outermost first.
    """
    first = error.errors(include_input=False, include_url=False)[0]
    where, name = "", ""
    for step in (*within, *first["loc"]):
        if isinstance(step, int):
            where += f"[{step}]"
            continue
        # A member with a default is reported by its Python name.
        step = step if step in MEMBERS else to_camel(step)
        if step in MEMBERS:  # other steps are names of types in a union
            where, name = f"{where}.{step}" if where else step, step
    if not where:
        where = name = "fhirServer"  # it is missing although fhirAuthorization is given
    missing = first["type"] == "missing"
    what = "is missing. It must be" if missing else "must be"
    return Refusal(
        400, f"{where} {what} {MEMBERS[name]}.", "required" if missing else "value", [where]
    )


class Service(TypedDict):
    """A service: the hook that calls it, and the FHIR data that it asks for as prefetch."""

    hook: Text
    title: Text
    description: Text
    id: Text
    prefetch: Annotated[dict[str, Text], Field(min_length=1)]
    usageRequirements: Text
    version: Text


class Discovery(TypedDict):
    """All services."""

    services: Annotated[list[Service], Field(min_length=1)]


def discovery(content: Content) -> Discovery:
    """The answer of ``GET /cds-services``: the services, with templates made from the content."""
    prefetch = content.prefetch_templates
    return {
        "services": [
            {
                "hook": hook,
                "title": TITLES[hook],
                "description": DESCRIPTIONS[hook],
                "id": service_id,
                "prefetch": prefetch,
                "usageRequirements": USAGE,
                "version": SPECIFICATION,
            }
            for service_id, hook in HOOKS.items()
        ]
    }
