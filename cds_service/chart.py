"""The chart: what the EHR sent or let us read, key by key, as data.

CDS Hooks 2.0.1, "Prefetch template": a key can come back in six ways, and each means something
else (``State``). Here they are told apart; fetching what is absent is the work of ``fhir_server``.
Resources of anyone but the mother and her infant are dropped on the way in, and so are members of a
resource that nothing reads. Nothing here knows Flask, the network or the clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict

import msgspec
import orjson

Resource = dict[str, Any]

# The members that are read, here or in what is made of a chart, of resources of any type.
READ = (
    *("resourceType", "id", "status", "code", "type", "category", "doNotPerform"),
    *("subject", "patient", "for", "focus"),
    *("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued"),
    *("onsetDateTime", "recordedDate", "abatementDateTime", "clinicalStatus", "verificationStatus"),
    *("period", "performedDateTime", "performedPeriod", "authoredOn"),
    *("valueQuantity", "valueCodeableConcept", "valueString", "valueBoolean", "valueInteger"),
    *("valueRange", "valueRatio", "valueSampledData", "valueTime", "valueDateTime", "valuePeriod"),
    *("component", "dataAbsentReason", "bodySite", "codeCodeableConcept", "reasonCode"),
    *("medicationCodeableConcept", "medicationReference", "contained"),
    "issue",
)


class Quantity(msgspec.Struct, gc=False):
    """What is read of a Quantity."""

    value: Any = None
    comparator: Any = None
    unit: Any = None
    code: Any = None


class Reference(msgspec.Struct, gc=False):
    """What is read of a Reference."""

    reference: Any = None


# What is left as it was written, for ``member_of`` to read: every Observation has a category, which
# is looked at in orders and allergies only, and a code, which most often others have too.
AS_WRITTEN = ("category", "code")
IN_PART = {"subject": Reference, "valueQuantity": Quantity}
_KINDS = dict.fromkeys(READ, Any) | dict.fromkeys(AS_WRITTEN, msgspec.Raw) | IN_PART
_Read = TypedDict("_Read", _KINDS, total=False)  # type: ignore[misc]


class _Entry(TypedDict, total=False):
    resource: _Read


class Sent(_Read, total=False):
    """What may be sent for a prefetch key: a resource, a Bundle of them, or an OperationOutcome."""

    entry: list[_Entry]
    link: Any


def decoder_of(kind: Any) -> Callable[[bytes], Any]:
    """What makes of JSON the members that ``kind`` names; of what is not of this kind, all.

    What is passed over must be JSON in UTF-8 too. Raises ``orjson.JSONDecodeError``.
    """
    decoder = msgspec.json.Decoder(kind)

    def decode(body: bytes) -> Any:
        try:
            if not body.isascii():
                body.decode()  # the decoder does not look at the letters that it passes over
            return decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return orjson.loads(body)

    return decode


decode = decoder_of(Sent)


class State(Enum):
    """How a prefetch key came back."""

    ABSENT = "absent"  # the client did not send it: it may be fetched
    NULL = "null"  # the client looked, and there is nothing
    EMPTY = "empty"  # a Bundle without entries: nothing either
    FAILED = "failed"  # an OperationOutcome of an error: the client, or we, tried and could not
    PARTIAL = "partial"  # a page with a next link: there is more
    COMPLETE = "complete"  # a resource, or a Bundle that is whole


@dataclass(slots=True)
class Answer:
    """What there is for one prefetch key."""

    state: State
    resources: list[Resource] = field(default_factory=list)
    reason: str = ""
    next_url: str | None = None


def read_answer(value: Any) -> Answer:
    """Tell the states of a value that was sent for a key apart. Never raises.

    ``value`` is what stands in ``prefetch`` (``ABSENT`` is for keys that do not), or what a FHIR
    server answered.

    A Bundle that holds an OperationOutcome of an error among its entries is partial, or failed if
    nothing else is in it. One that only warns or informs is passed over (FHIR R4, SearchEntryMode
    ``outcome``): the search was done. Unless it says that data is missing, what was found is all.

    An OperationOutcome in place of a Bundle has failed, however mild its severity: without a
    Bundle nothing says that the search was done, and so nothing that there are no records.
    """
    if value is None:
        return Answer(State.NULL)
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        return Answer(State.FAILED, reason="it is not a FHIR resource")
    if value["resourceType"] == "OperationOutcome":
        return Answer(State.FAILED, reason=_say_outcome(value))
    if value["resourceType"] != "Bundle":
        return Answer(State.COMPLETE, [value])
    entries = value.get("entry")
    resources: list[Resource] = []
    errors: list[Resource] = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            resource = entry["resource"]
            kind = resource["resourceType"]
        except (KeyError, TypeError, IndexError):
            continue
        if kind == "OperationOutcome":
            if _is_error(resource):
                errors.append(resource)
        elif isinstance(kind, str):
            resources.append(resource)
    next_url = _next_link(value)
    if errors:
        reason = _say_outcome(errors[0])
        return Answer(State.PARTIAL if resources else State.FAILED, resources, reason)
    if next_url is not None:
        return Answer(State.PARTIAL, resources, "only its first page was sent", next_url)
    return Answer(State.COMPLETE if resources else State.EMPTY, resources)


def _next_link(bundle: Resource) -> str | None:
    links = bundle.get("link")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("relation") == "next":
            url = link.get("url")
            return url if isinstance(url, str) else ""
    return None


MILD = ("warning", "information", "success")  # severities of what is no failure
INCOMPLETE = "incomplete"  # FHIR R4, IssueType: not every source of data could be reached in time


def _is_error(outcome: Resource) -> bool:
    """Whether an OperationOutcome tells of a failure: unless each of its issues says otherwise."""
    issues = outcome.get("issue")
    return not isinstance(issues, list) or not issues or not all(map(_is_mild, issues))


def _is_mild(issue: Any) -> bool:
    if not isinstance(issue, dict):
        return False
    return issue.get("severity") in MILD and issue.get("code") != INCOMPLETE


def _say_outcome(outcome: Resource) -> str:
    # Only the coded part is repeated: texts of another system may carry what must not be shown.
    issues = outcome.get("issue")
    for issue in issues if isinstance(issues, list) else ():
        if isinstance(issue, dict) and re.fullmatch(r"[a-z-]{1,40}", str(issue.get("code"))):
            return f"the record system reported '{issue['code']}'"
    return "the record system reported a failure"


LONGEST_ID = 64  # FHIR R4, "id"


def reference_to(resource: Resource) -> str:
    """The relative reference to a resource; with ``?`` if it has no id that FHIR would allow."""
    identifier = resource.get("id")
    if not isinstance(identifier, str) or not 0 < len(identifier) <= LONGEST_ID:
        identifier = "?"
    return f"{resource['resourceType']}/{'?' if '/' in identifier else identifier}"


def member_of(resource: Resource, name: str) -> Any:
    """A member, also one that was left as it was written; ``None`` if it cannot be read."""
    member = resource.get(name)
    if not isinstance(member, msgspec.Raw):
        return member
    try:
        return msgspec.json.decode(member)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def category_of(resource: Resource) -> list[Any]:
    """What a resource says of its kind. Nothing, if that is no list or cannot be read."""
    category = member_of(resource, "category")
    return category if isinstance(category, list) else []


_PATIENT_REFERENCE = re.compile(r"^(?:(https?://.+)/)?Patient/([^/]+)(?:/_history/[^/]+)?$")


def subject_of(resource: Resource) -> Any:
    """The reference to whom a resource is about, as it is written; ``None`` if there is none."""
    for name in ("subject", "patient", "for"):
        if name in resource:
            return resource[name]
    return None


def patient_in(reference: Any) -> tuple[str | None, str] | None:
    """The server, if one is named, and the id of the patient that a reference points at."""
    text: Any = None
    if isinstance(reference, Reference):
        text = reference.reference
    elif isinstance(reference, dict):
        text = reference.get("reference")
    match = _PATIENT_REFERENCE.match(text) if isinstance(text, str) else None
    return None if match is None else (match[1], match[2])


class Chart:
    """Everything known about one mother, by prefetch key and by resource type.

    ``fhir_server`` is the base that absolute references must start with to be believed.
    """

    def __init__(
        self, patient_id: str, answers: dict[str, Answer], fhir_server: str | None = None
    ) -> None:
        self.patient_id = patient_id
        self.answers = answers
        self.unavailable = frozenset(  # the keys of which nothing could be read
            key for key, answer in answers.items() if answer.state in (State.ABSENT, State.FAILED)
        )
        self.partial = frozenset(  # the keys of which only part could be read
            key for key, answer in answers.items() if answer.state is State.PARTIAL
        )
        self.is_whole = not (self.unavailable or self.partial)
        self._reference = f"Patient/{patient_id}"
        self._base = fhir_server.rstrip("/") if fhir_server else None
        self._hers: dict[str, list[Resource]] = {}
        self._infants: dict[str, list[Resource]] = {}
        self._infant_ids: set[str] = set()
        self._by_id: dict[str, dict[str, Resource]] = {}  # of each type
        self._sort_in()

    def _sort_in(self) -> None:
        of_others: list[tuple[str, Resource]] = []
        for answer in self.answers.values():
            for resource in answer.resources:
                kind = resource["resourceType"]
                identifier = resource.get("id")
                if isinstance(identifier, str):
                    of_its_type = self._by_id.setdefault(kind, {})
                    if identifier in of_its_type:
                        continue  # the same resource under two keys
                    of_its_type[identifier] = resource
                subject = self._subject(resource)
                if subject == self.patient_id:
                    self._hers.setdefault(kind, []).append(resource)
                    if "focus" in resource:
                        self._infant_ids.update(self._others_in(resource["focus"]))
                elif subject is not None:
                    of_others.append((subject, resource))
        # An infant's own records count once a record of the mother has named the infant.
        for subject, resource in of_others:
            if subject in self._infant_ids:
                self._infants.setdefault(resource["resourceType"], []).append(resource)

    def _subject(self, resource: Resource) -> str | None:
        subject = resource.get("subject")
        if isinstance(subject, Reference) and subject.reference == self._reference:
            return self.patient_id  # as nearly always
        return self._patient(subject_of(resource))

    def _patient(self, reference: Any) -> str | None:
        found = patient_in(reference)
        if found is None:
            return None
        server, patient = found
        if server is not None and self._base is not None and server != self._base:
            return None  # a patient of another server
        return patient

    def _others_in(self, references: Any) -> Iterator[str]:
        for reference in references if isinstance(references, list) else ():
            patient = self._patient(reference)
            if patient is not None and patient != self.patient_id:
                yield patient

    def is_hers(self, resource: Resource) -> bool:
        """Whether a resource says that it is about the mother."""
        return self._subject(resource) == self.patient_id

    def is_her_infants(self, resource: Resource) -> bool:
        """Whether a resource says that it is about an infant that a record of hers has named."""
        return self._subject(resource) in self._infant_ids

    def names_someone_else(self, focus: Any) -> bool:
        """Whether ``focus`` points at another than the mother."""
        if not isinstance(focus, list):
            return True
        return any(self._patient(reference) != self.patient_id for reference in focus)

    def hers(self, kind: str) -> list[Resource]:
        """The mother's resources of one type, in the order in which they came."""
        return self._hers.get(kind, [])

    def infants(self, kind: str) -> list[Resource]:
        """Those of her infant, or infants."""
        return self._infants.get(kind, [])

    def referenced(self, reference: Any) -> Resource | None:
        """A resource of the chart by its relative reference, such as a Medication."""
        if not isinstance(reference, str) or "/" not in reference:
            return None
        kind, _, identifier = reference.partition("/")
        return self._by_id.get(kind, {}).get(identifier)

    def ways(self, sent: Collection[str]) -> dict[str, int]:
        """How many prefetch keys were sent, were fetched, and could not be had."""
        absent = self.answers.keys() - sent
        fetched, missing = len(absent - self.unavailable), len(self.unavailable)
        return {"sent": len(self.answers) - len(absent), "fetched": fetched, "missing": missing}

    def state(self, key: str) -> State:
        """How a prefetch key came back."""
        answer = self.answers.get(key)
        return State.ABSENT if answer is None else answer.state
