"""The EHR side of a hook: fills the prefetch templates, makes the request, calls the service."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import orjson
import requests

from ..authoring.vignettes import CLINICIAN, SHIPPED, Resource, Vignette, vignettes
from ..content.compiled import Content
from ..content.loader import load_content
from ..errors import operation_outcome
from ..hooks.protocol import HOOKS
from .fhir_store import FhirStore, SearchFailedError

EXAMPLE_SERVER = "https://example.org/fhir"
DataWay = Literal["prefetch", "server"]
SERVICES = {hook: service for service, hook in HOOKS.items()}


@dataclass(frozen=True)
class Answered:
    """The answer of the service, and how many milliseconds it took."""

    status: int
    response: Resource
    milliseconds: float


def prefetch_from(content: Content, store: FhirStore, base: str, patient: str) -> Resource:
    """The results of all prefetch keys of the content from the store, as a client would send them.

    A resource that two searches find is sent only once: it counts for every fact, whatever its key.
    """
    answers: Resource = {}
    sent: set[tuple[str, str]] = set()
    for key, template in content.prefetch_templates.items():
        kind, _, query = template.replace("{{context.patientId}}", patient).partition("?")
        if "/" in kind:
            answers[key] = store.read(*kind.split("/"))
            continue
        try:
            bundle = store.search(base, kind, query.replace("+", "%2B"))
        except SearchFailedError:
            answers[key] = operation_outcome("This search fails.", "exception")
            continue
        found = bundle.pop("entry", ())
        entries = [each for each in found if (kind, each["resource"]["id"]) not in sent]
        bundle["total"] -= len(found) - len(entries)
        sent.update((kind, each["resource"]["id"]) for each in entries)
        answers[key] = {**bundle, "entry": entries} if entries else None
    return answers


def wanted_orders(mother: Vignette, taken_back: Collection[str]) -> dict[str, Resource]:
    """The draft orders of a vignette by reference, without those that were taken back."""
    drafts = {f"{draft['resourceType']}/{draft['id']}": draft for draft in mother.draft_orders}
    return {reference: draft for reference, draft in drafts.items() if reference not in taken_back}


def hook_request(
    mother: Vignette,
    hook: str,
    base: str,
    prefetch: Resource | None,
    hook_instance: str | None = None,
    taken_back: Collection[str] = (),
) -> Resource:
    """The request that an EHR sends when a clinician opens the mother's encounter, or orders.

    ``base`` is the address of the FHIR server. ``taken_back`` are the references of draft orders
    that are no longer wanted.
    """
    request: Resource = {
        "hook": hook,
        "hookInstance": hook_instance or str(uuid.uuid4()),
        "fhirServer": base,
        "context": {
            "userId": CLINICIAN,
            "patientId": mother.patient_id,
            "encounterId": mother.encounter_id,
        },
    }
    if hook.startswith("order-"):
        wanted = wanted_orders(mother, taken_back)
        entries = [{"resource": draft} for draft in wanted.values()]
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        request["context"]["draftOrders"] = bundle
        if hook == "order-select":
            request["context"]["selections"] = list(wanted or wanted_orders(mother, ()))
    if prefetch is not None:
        request["prefetch"] = prefetch
    return request


def call(service_url: str, request: Resource) -> Answered:
    """Call a service over HTTP."""
    started = time.perf_counter()
    answer = requests.post(
        service_url,
        data=orjson.dumps(request),
        headers={"Content-Type": "application/json"},
        timeout=10,
    )
    milliseconds = (time.perf_counter() - started) * 1000
    return Answered(answer.status_code, orjson.loads(answer.content), milliseconds)


def send_feedback(service_url: str, card: str, suggestion: str | None, reason: str | None) -> int:
    """Send feedback on a card: the accepted suggestion, or the override reason (``system|code``).

    Returns the status of the answer.
    """
    now = datetime.now(UTC).isoformat()
    told: Resource = {"card": card, "outcomeTimestamp": now}
    if suggestion is not None:
        told |= {"outcome": "accepted", "acceptedSuggestions": [{"id": suggestion}]}
    else:
        told["outcome"] = "overridden"
        system, _, code = (reason or "").rpartition("|")
        if system and code:
            told["overrideReason"] = {"reason": {"system": system, "code": code}}
    answer = requests.post(f"{service_url}/feedback", json={"feedback": [told]}, timeout=10)
    return answer.status_code


def write(fhir_server: str, resource: Resource) -> str:
    """Create a resource. Returns its reference. Raises ``ValueError`` if the server refuses it."""
    kind = resource["resourceType"]
    answer = requests.post(f"{fhir_server}/{kind}", json=resource, timeout=10)
    if answer.status_code != 201:
        raise ValueError(f"the FHIR server answered {answer.status_code}")
    return f"{kind}/{answer.json()['id']}"


def example_request(content: Content, mother: Vignette) -> Resource:
    """The hook request of a vignette at the time of the vignette; always the same."""
    store = FhirStore([mother], mother.now)
    sent = prefetch_from(content, store, EXAMPLE_SERVER, mother.patient_id)
    instance = str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:lactation-cds:{mother.name}"))
    return hook_request(mother, mother.expected.hook, EXAMPLE_SERVER, sent, instance)


def present_request(content: Content, mother: Vignette, now: datetime) -> Resource:
    """The hook request of a vignette with its times moved to ``now``, with all prefetch keys."""
    sent = prefetch_from(content, FhirStore([mother], now), EXAMPLE_SERVER, mother.patient_id)
    return hook_request(mother, mother.expected.hook, EXAMPLE_SERVER, sent)


def example_files(content: Content, mother: Vignette) -> dict[str, bytes]:
    """The files of a vignette by name: its Bundle and its hook request."""
    documents = {"bundle.json": mother.bundle, "request.json": example_request(content, mother)}
    return {
        name: orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"
        for name, document in documents.items()
    }


def write_examples(content: Content, mothers: Iterable[Vignette], directory: Path) -> None:
    """Write the files of each vignette (``example_files``) into a folder with its name."""
    for mother in mothers:
        folder = directory / mother.name
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in example_files(content, mother).items():
            (folder / name).write_bytes(data)


def main() -> None:
    """Write the files of the samples into ``fhir_fixtures/``, and of all into ``fhir_bundles/``.

    Called by ``make fixtures``. Exits with a message outside a checkout of the repository.
    """
    checkout = SHIPPED.parent
    if not (checkout / "pyproject.toml").exists():
        sys.exit(
            "Fixtures are written in a checkout of the repository, not into what is installed: "
            "see cds-service example --write."
        )
    content, mothers = load_content(), vignettes()
    write_examples(content, [mother for mother in mothers if mother.expected.sample], SHIPPED)
    write_examples(content, mothers, checkout / "fhir_bundles")


if __name__ == "__main__":
    main()
