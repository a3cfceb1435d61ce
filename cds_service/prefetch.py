"""Prefetch: from what the EHR sent, and what it lets us read, to a chart.

Key by key (CDS Hooks 2.0.1, "Prefetch Template"): what was sent counts, whatever its state; what is
absent is read from the FHIR server; a page with a ``next`` link is read on from there. What is
needed and cannot be had is 412; what is optional and cannot be had stays known as missing, so that
the cards can say so.
"""

from __future__ import annotations

from urllib.parse import quote

from .chart import Answer, Chart, State, read_answer
from .content import Content
from .fhir_server import FhirReader
from .protocol import Context, HookRequest, Refusal

MOST_RESOURCES = 50_000


def gather(
    content: Content,
    request: HookRequest,
    context: Context,
    reader: FhirReader | None,
    seconds: float,
    caller: str | None = None,
) -> Chart:
    """The chart for one request, within ``seconds`` of reading.

    ``reader`` is ``None`` if nothing may be fetched. Raises ``Refusal``: 412 that names what is
    needed and could not be had, 413 if there is too much; and ``TooBusyError`` if no more can be
    read at once, for this ``caller`` or for all.
    """
    answers: dict[str, Answer] = {}
    wanted: dict[str, str] = {}
    for key in content.prefetch.values():
        if key.id in request.prefetch:
            answers[key.id] = answer = read_answer(request.prefetch[key.id])
            if answer.state is State.PARTIAL and answer.next_url:
                wanted[key.id] = answer.next_url
        else:
            answers[key.id] = Answer(State.ABSENT, reason="it was not sent")
            filled = fill_template(content.prefetch_templates[key.id], context)
            if filled is not None:
                wanted[key.id] = filled
    if wanted and reader is not None and request.fhir_server is not None:
        authorization = request.fhir_authorization
        token = authorization.access_token if authorization is not None else None
        fetched = reader.read(request.fhir_server, token, wanted, seconds, caller)
        for name, answer in fetched.items():
            answers[name] = _join(answers[name], answer)
    for key in content.prefetch.values():
        answer = answers[key.id]
        if key.needed and answer.state in (State.ABSENT, State.FAILED):
            raise Refusal(
                412,
                f"Her {key.label} ({key.id}) is needed and could not be had: {answer.reason}.",
                "not-found",
                [f"prefetch.{key.id}"],
            )
    if sum(len(answer.resources) for answer in answers.values()) > MOST_RESOURCES:
        raise Refusal(413, f"There are more than {MOST_RESOURCES} resources.", "too-costly")
    return Chart(context.patient_id, answers, request.fhir_server)


def _join(sent: Answer, fetched: Answer) -> Answer:
    """What was fetched, behind the page that was sent if there was one."""
    if sent.state is not State.PARTIAL:
        return fetched
    resources = sent.resources + fetched.resources
    if fetched.state in (State.FAILED, State.PARTIAL):
        return Answer(State.PARTIAL, resources, fetched.reason)
    return Answer(State.COMPLETE, resources)


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
