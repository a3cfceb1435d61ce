"""Prefetch: makes a chart from the data that the EHR sent, and that it lets us read.

Each prefetch key is resolved on its own (CDS Hooks 2.0.1, "Prefetch Template"). Data that was sent
is used, whatever its state. An absent key is read from the FHIR server. If a page has a ``next``
link, the following pages are read too. Then the Medications are read to which medicines and orders
refer, unless they were sent. If a needed key is not available, the answer is 412. An optional key
that is not available is noted as missing, so that the cards can say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from ..content.compiled import Content
from ..content.schema import MEDICATIONS
from ..engine.facts import is_read
from ..engine.patient import is_excluded
from ..engine.unmapped import Unmapped
from ..errors import Refusal
from ..fhir.chart import Chart, KeyResult, State, must_be_all, read_result
from ..limits.bounds import UNBOUNDED, Bounds
from .fhir_server import FhirReader
from .protocol import Context, HookRequest

MOST_RESOURCES = 50_000
MOST_BY_WORDS = 5000  # resources of each type in ``BY_WORDS``
# Types of which the text is searched for names, which takes long.
BY_WORDS = ("Condition", "MedicationRequest", "MedicationStatement", "AllergyIntolerance")
MOST_MEDICATIONS = 100  # Medications to read by id


def resolve_prefetch(
    content: Content,
    request: HookRequest,
    context: Context,
    reader: FhirReader | None,
    seconds: float,
    caller: str | None = None,
    other_bases: Iterable[str] = (),
    now: datetime | None = None,
    bounds: Bounds = UNBOUNDED,
) -> Chart:
    """The chart for one request. Reading takes at most ``seconds``, and stays within ``bounds``.

    ``reader`` is ``None`` if nothing may be fetched. ``other_bases`` are other base URLs of the
    FHIR server. ``now`` is the time for the age of the patient; without it no patient is excluded.
    Raises ``Refusal``: 412 if a needed key is not available, unless the patient cannot lactate, and
    413 if there are too many resources. Raises ``TooBusyError`` if too many requests are reading,
    of this ``caller`` or of all callers.
    """
    until = time.monotonic() + seconds
    results: dict[str, KeyResult] = {}
    wanted: dict[str, str] = {}
    for key in content.prefetch.values():
        if key.id in request.prefetch:
            results[key.id] = result = read_result(request.prefetch[key.id])
            if result.state is State.PARTIAL and result.next_url:
                wanted[key.id] = result.next_url
        elif key.asked:
            results[key.id] = KeyResult(State.ABSENT, reason="it was not sent")
            filled = fill_template(content.prefetch_templates[key.id], context)
            if filled is not None:
                wanted[key.id] = filled

    def read(searches: dict[str, str]) -> dict[str, KeyResult]:
        if not searches or reader is None or request.fhir_server is None:
            return {}
        authorization = request.fhir_authorization
        token = authorization.access_token if authorization is not None else None
        left = max(0.0, until - time.monotonic())
        return reader.read(request.fhir_server, token, searches, left, caller, bounds)

    def make() -> Chart:
        if len(context.draft_entries) > MOST_BY_WORDS:
            raise Refusal(413, f"There are more than {MOST_BY_WORDS} draft orders.", "too-costly")
        if sum(len(result.resources) for result in results.values()) > MOST_RESOURCES:
            raise Refusal(413, f"There are more than {MOST_RESOURCES} resources.", "too-costly")
        chart = make_chart(
            content,
            context.patient_id,
            results,
            request.fhir_server,
            other_bases,
            context.encounter_id,
            context.draft_entries,
            go_on=bounds.must_be_in_time,
        )
        for kind in BY_WORDS:
            if len(chart.of_patient(kind)) + len(chart.of_infants(kind)) > MOST_BY_WORDS:
                reason = f"There are more than {MOST_BY_WORDS} resources of type {kind}."
                raise Refusal(413, reason, "too-costly")
        return chart

    for name, result in read(wanted).items():
        if result.state is State.FAILED and content.prefetch[name].new:
            continue  # the client may neither know this new key yet nor allow to read it
        results[name] = _join(results[name], result)
    chart = make()
    _must_have_what_is_needed(content, chart, now)
    medications = chart.unread_medications(context.judged_orders)[:MOST_MEDICATIONS]
    if medications:
        ids = ",".join(quote(each, safe="") for each in medications)
        found = read({MEDICATIONS: f"Medication?_id={ids}"})
        if found:
            sent = results.get(MEDICATIONS, KeyResult(State.EMPTY)).resources
            result = found[MEDICATIONS]
            result.resources[:0] = sent
            results[MEDICATIONS] = result
            chart = make()
    return chart


def make_chart(
    content: Content,
    patient_id: str,
    results: dict[str, KeyResult],
    fhir_server: str | None = None,
    other_bases: Iterable[str] = (),
    encounter_id: str | None = None,
    drafts: Iterable[Any] = (),
    asked_by_code: bool = True,
    go_on: Callable[[], None] = lambda: None,
) -> Chart:
    """A ``Chart`` of the records that ``content`` reads.

    ``results`` are by prefetch key. ``asked_by_code`` is false if a key has all records of its
    type, and not only those with the codes of its search. ``go_on`` is called repeatedly while the
    chart is judged, and raises when the time is over.
    """
    needed = [key.id for key in content.prefetch.values() if key.needed]
    matters = partial(is_read, content)
    beside = (other_bases, encounter_id, drafts)
    unmapped = Unmapped(content, asked_by_code)
    return Chart(patient_id, results, fhir_server, *beside, matters, needed, unmapped, go_on)


def _must_have_what_is_needed(content: Content, chart: Chart, now: datetime | None) -> None:
    """Raises ``Refusal`` (412) if a needed key is not available, unless the patient is excluded."""
    for key in content.prefetch.values():
        result = chart.results.get(key.id)
        if key.needed and result is not None and result.state in (State.ABSENT, State.FAILED):
            if now is not None and is_excluded(chart.patient, content, now):
                continue
            raise Refusal(
                412,
                f"Her {key.label} ({key.id}) is needed and could not be had: {result.reason}.",
                "not-found",
                [f"prefetch.{key.id}"],
            )


def _join(sent: KeyResult, fetched: KeyResult) -> KeyResult:
    """The fetched result; if a first page was sent, the resources of both."""
    if sent.state is State.PARTIAL:
        fetched.resources[:0] = sent.resources
        fetched.by_url |= sent.by_url
        fetched.matches += sent.matches
        fetched.total = max(sent.total, fetched.total)
        failed = fetched.state in (State.FAILED, State.PARTIAL)
        fetched.state = State.PARTIAL if failed else State.COMPLETE
    must_be_all(fetched)
    return fetched


def fill_template(template: str, context: Context) -> str | None:
    """A prefetch template with its tokens filled in; ``None`` if one of them has no value."""
    tokens = {
        "{{context.patientId}}": context.patient_id,
        "{{context.encounterId}}": context.encounter_id,
        "{{context.userId}}": context.user_id,
    }
    for token, value in tokens.items():
        if token in template:
            if value is None:
                return None
            template = template.replace(token, quote(value, safe=""))
    return template
