"""The chart: the resources of one patient that the EHR sent or the service read, by prefetch key.

A prefetch key can come back in six ways, each with its own meaning (``State``; CDS Hooks 2.0.1,
"Prefetch template"). This module tells them apart; ``fhir_server`` fetches the absent keys.
Resources of anyone but the patient and the infant are left out, and counted by reason. Members of
a resource that no code reads are dropped. Nothing here uses Flask, the network or the clock.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import chain
from typing import Final, Literal, TypedDict

import msgspec

from .references import normal_base, normal_urn, read_reference

Resource = dict[str, object]

# The members of a resource, of any type, that this module reads.
READ = frozenset(
    (
        *("resourceType", "id", "status", "code", "category", "doNotPerform", "contained"),
        *("subject", "patient", "for", "focus", "identifier", "link", "partOf"),
        *("relationship", "active", "medicationReference", "issue"),
    )
)


class Quantity(msgspec.Struct, gc=False):
    """The members of a FHIR Quantity that are read."""

    value: object = None
    comparator: object = None
    unit: object = None
    code: object = None


class Reference(msgspec.Struct, gc=False):
    """The member of a FHIR Reference that is read."""

    reference: object = None


# The types of draft orders that are judged.
ORDERED = frozenset({"MedicationRequest", "NutritionOrder"})
# The types that other resources may refer to by the ``fullUrl`` of their entry in a Bundle.
REFERRED_TO = frozenset({"Medication", "Patient"})


class State(Enum):
    """How a prefetch key came back."""

    ABSENT = "absent"  # the client did not send it: it may be fetched
    NULL = "null"  # the client searched, and found nothing
    EMPTY = "empty"  # a Bundle without entries: nothing was found either
    FAILED = "failed"  # the client or the service tried and failed, or sent what cannot be read
    PARTIAL = "partial"  # not all: a next link, fewer entries than matches, or unreadable entries
    COMPLETE = "complete"  # a single resource, or a Bundle with all that was found


@dataclass(slots=True)
class KeyResult:
    """What was sent or read for one prefetch key."""

    state: State
    resources: list[Resource] = field(default_factory=list)
    reason: str = ""
    next_url: str | None = None
    by_url: dict[str, Resource] = field(default_factory=dict)  # of ``REFERRED_TO``, by ``fullUrl``
    matches: int = 0  # how many entries match the search; included resources do not count
    total: int = 0  # how many matches the server reports for all pages; 0 if it does not say


def read_result(value: object) -> KeyResult:
    """Classify the value that was sent for a prefetch key. Never raises.

    A Bundle that holds fewer matches than its total, and has no link to a next page, is partial, or
    failed if it holds none.
    """
    result = read_page(value)
    if result.next_url is None:
        must_be_all(result)
    return result


def read_page(value: object) -> KeyResult:
    """Classify one page of a result, without comparing its matches with the total. Never raises.

    ``value`` is the value of the key in ``prefetch``, or the answer of a FHIR server. (A key that
    was not sent at all is ``ABSENT``; it does not come here.)

    A Bundle with an OperationOutcome of an error among its entries is partial, or failed if it has
    no other entry. An OperationOutcome that only warns or informs is ignored (FHIR R4,
    SearchEntryMode ``outcome``): the search was done. If it says that data is missing (issue code
    ``incomplete``), it counts as an error.

    An OperationOutcome in place of a Bundle is failed, however mild its severity: without a Bundle
    nothing shows that the search was done, and so nothing shows that there are no records.

    A Bundle with an entry that holds no resource, or holds another Bundle, is partial, or failed if
    it has no other entry.
    """
    if value is None:
        return KeyResult(State.NULL)
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        return KeyResult(State.FAILED, reason="it is not a FHIR resource")
    if value["resourceType"] == "OperationOutcome":
        return KeyResult(State.FAILED, reason=_say_outcome(value))
    if value["resourceType"] != "Bundle":
        return KeyResult(State.COMPLETE, [value])
    entries = value.get("entry")
    if entries is None:
        entries = []
    if not isinstance(entries, list):
        return KeyResult(State.FAILED, reason="its entries are no list")
    resources: list[Resource] = []
    by_url: dict[str, Resource] = {}
    errors: list[Resource] = []
    matches = 0
    unread = ""
    for entry in entries:
        try:
            resource = entry["resource"]
            kind = resource["resourceType"]
        except (KeyError, TypeError, IndexError):
            unread = "an entry of it is no resource"
            continue
        if kind == "OperationOutcome":
            if _is_error(resource):
                errors.append(resource)
        elif kind == "Bundle":
            unread = "an entry of it is a Bundle"
        elif isinstance(kind, str):
            matches += "search" not in entry or _is_match(entry)
            resources.append(resource)
            if kind in REFERRED_TO and isinstance(url := member_of(entry, "fullUrl"), str):
                by_url[normal_urn(url)] = resource
        else:
            unread = "an entry of it is no resource"
    next_url = _next_link(value)
    total = value.get("total")
    result = KeyResult(State.COMPLETE if resources else State.EMPTY, resources, by_url=by_url)
    result.matches, result.total = matches, total if type(total) is int else 0
    if errors or unread:
        result.reason = _say_outcome(errors[0]) if errors else unread
        result.state = State.PARTIAL if resources else State.FAILED
    elif next_url is not None:
        result.state, result.next_url = State.PARTIAL, next_url
        result.reason = "only its first page was sent"
    return result


def must_be_all(result: KeyResult) -> None:
    """Mark a complete result as partial if it holds fewer matches than the server found.

    A result without any resource is marked as failed.
    """
    if result.matches < result.total and result.state in (State.COMPLETE, State.EMPTY):
        result.state = State.PARTIAL if result.resources else State.FAILED
        result.reason = f"only {result.matches} of {result.total} records were sent"


def _is_match(entry: Resource) -> bool:
    """Whether an entry matches the search, and was not only included (FHIR R4, SearchEntryMode)."""
    search = entry.get("search")
    return not isinstance(search, dict) or search.get("mode") not in ("include", "outcome")


def _next_link(bundle: Resource) -> str | None:
    links = bundle.get("link")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("relation") == "next":
            url = link.get("url")
            return url if isinstance(url, str) else ""
    return None


MILD = ("warning", "information", "success")  # severities that are not a failure
INCOMPLETE = "incomplete"  # FHIR R4, IssueType: not every source of data could be reached in time


def _is_error(outcome: Resource) -> bool:
    """Whether an OperationOutcome reports a failure: unless it has issues and all are mild."""
    issues = outcome.get("issue")
    return not isinstance(issues, list) or not issues or not all(map(_is_mild, issues))


def _is_mild(issue: object) -> bool:
    if not isinstance(issue, dict):
        return False
    return issue.get("severity") in MILD and issue.get("code") != INCOMPLETE


def _say_outcome(outcome: Resource) -> str:
    # Only the code is repeated: a text of another system may hold data that must not be shown.
    issues = outcome.get("issue")
    for issue in issues if isinstance(issues, list) else ():
        if isinstance(issue, dict) and re.fullmatch(r"[a-z-]{1,40}", str(issue.get("code"))):
            return f"the record system reported '{issue['code']}'"
    return "the record system reported a failure"


LONGEST_ID = 2000  # characters; FHIR R4 allows 64, and record systems send longer ones


def reference_to(resource: Resource) -> str:
    """The relative reference to a resource, such as ``Observation/1``.

    The id is ``?`` if the resource has no usable one. An id may be longer than FHIR allows (up to
    ``LONGEST_ID``), but one with a slash, a space or a control character cannot be referred to.
    """
    identifier = resource.get("id")
    if (
        not isinstance(identifier, str)
        or not 0 < len(identifier) <= LONGEST_ID
        or "/" in identifier
        or " " in identifier
        or not identifier.isprintable()
    ):
        identifier = "?"
    return f"{resource['resourceType']}/{identifier}"


def base_key(key: str) -> str:
    """The key of the content that a prefetch key belongs to: ``deliveries`` of ``deliveries2``."""
    return key.rstrip("0123456789")


def member_of(resource: Resource, name: str) -> object:
    """A member of a resource, decoded if it is still raw JSON; ``None`` if it cannot be read."""
    member = resource.get(name)
    if not isinstance(member, msgspec.Raw):
        return member
    try:
        return msgspec.json.decode(member)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def category_of(resource: Resource) -> list[object]:
    """The ``category`` of a resource; empty if it is not a list or cannot be read."""
    category = member_of(resource, "category")
    return category if isinstance(category, list) else []


# A draft order with one of these statuses was withdrawn.
TAKEN_BACK = frozenset({"cancelled", "entered-in-error", "revoked", "stopped"})


def subject_of(resource: Resource) -> object:
    """The reference to the subject of a resource, as it is written; ``None`` if there is none."""
    for name in ("subject", "patient", "for"):
        if name in resource:
            return resource[name]
    return None


def text_of(reference: object) -> str | None:
    """The literal reference in a Reference; ``None`` if there is none, or it is not a string."""
    if isinstance(reference, Reference):
        text = reference.reference
    else:
        text = reference.get("reference") if isinstance(reference, dict) else None
    return text if isinstance(text, str) else None


def patient_in(reference: object) -> tuple[str, str] | None:
    """The base address of the server and the id of the Patient that a reference points at.

    The base is empty for a relative reference. ``None`` if the reference is not to a Patient.
    """
    text = text_of(reference)
    target = read_reference(text) if text is not None else None
    return (target.base, target.id) if target is not None and target.kind == "Patient" else None


# Why a record that was sent is not used.
LeftOut = Literal[
    "another-patient", "another-server", "unreadable-reference", "code-not-mapped", "no-resource"
]
ANOTHER_PATIENT: Final = "another-patient"
ANOTHER_SERVER: Final = "another-server"
UNREADABLE: Final = "unreadable-reference"
NOT_MAPPED: Final = "code-not-mapped"
NO_RESOURCE: Final = "no-resource"  # an entry of the draft orders that holds none
# A record that is left out for one of these reasons may be the patient's, and may matter.
PERHAPS_OF_PATIENT: tuple[LeftOut, ...] = (ANOTHER_SERVER, UNREADABLE, NOT_MAPPED)
# Each reason in words, to be said behind a number of records.
SAY_LEFT_OUT: dict[LeftOut, str] = {
    ANOTHER_PATIENT: "of another patient",
    ANOTHER_SERVER: "whose subject is on another FHIR server",
    UNREADABLE: "without a subject that can be read",
    NOT_MAPPED: "whose code is not mapped",
    NO_RESOURCE: "whose entry in the draft orders holds no resource",
}
# The types of which every record must name a patient; one without a subject is not used.
ABOUT_A_PATIENT = frozenset(
    (
        *("Observation", "Condition", "Procedure", "Encounter", "MedicationRequest"),
        *("MedicationStatement", "AllergyIntolerance", "ServiceRequest", "DeviceRequest"),
        *("CommunicationRequest", "Task"),
    )
)
# The relationships of a RelatedPerson that is the mother of a newborn (HL7 v3 RoleCode).
MOTHERS = frozenset({"MTH", "NMTH", "GESTM"})


class KeyCounts(TypedDict, total=False):
    """How many prefetch keys were sent, fetched, missing, and unknown to the content."""

    sent: int
    fetched: int
    missing: int
    unknown: int


class Chart:
    """The resources of one patient, by prefetch key and by resource type.

    ``results`` holds what was sent or read, by prefetch key. ``fhir_server`` is the base address of
    the FHIR server, and ``other_bases`` are its other addresses: an absolute reference to a patient
    must start with one of them. Without ``fhir_server``, the base of the first absolute reference
    to the patient is taken. ``encounter_id`` is the encounter of the hook. ``drafts`` are entries
    of a Bundle: the draft orders, and the resources that they refer to.

    Three arguments decide when a record that cannot be used makes its key partial or unavailable:

    - ``matters`` tells whether any code reads a record. A record that may be the patient's and
      cannot be used makes its key partial only if it matters.
    - ``needed`` are the keys that are unavailable if they hold records and none could be used.
    - ``unmapped`` is called with each Observation of the patient under a needed key. It returns
      ``None`` if the record is read or need not be. Otherwise no code of it is mapped: it returns
      ``True`` if the record may still be what the key asks for (the key is then partial), and
      ``False`` if that is unlikely.

    ``go_on`` is called now and then while many records are read; it raises once the time is over.
    """

    def __init__(
        self,
        patient_id: str,
        results: dict[str, KeyResult],
        fhir_server: str | None = None,
        other_bases: Iterable[str] = (),
        encounter_id: str | None = None,
        drafts: Iterable[object] = (),
        matters: Callable[[Resource], bool] = lambda _: True,
        needed: Collection[str] = (),
        unmapped: Callable[[Resource], bool | None] = lambda _: None,
        go_on: Callable[[], None] = lambda: None,
    ) -> None:
        self.go_on = go_on
        self._matters, self._needed, self._unmapped = matters, needed, unmapped
        self.patient_id = patient_id
        self.results = results
        self._reference = f"Patient/{patient_id}"
        self._fhir_server, self._other_bases = fhir_server, tuple(other_bases)
        self._encounter_id = encounter_id
        self._of_patient: dict[str, list[Resource]] = {}
        self._infants: dict[str, list[Resource]] = {}
        self._infant_ids: set[str] = set()
        self._older_children: set[str] = set()  # their ids; no infants any more
        self._by_id: dict[str, dict[str, Resource]] = {}  # by type, then by id
        self._by_url: dict[str, Resource] = {}
        self.drafts: list[Resource] = []  # every draft order, also those that the hook is not about
        self.left_out: Counter[LeftOut] = Counter()  # records that were not used, by reason
        self._unused: dict[str, Counter[LeftOut]] = {}  # those that matter, by key and reason
        # The records that name no subject, or the patient's id on another server.
        self.perhaps_of_patient: list[Resource] = []
        # By key: how many Observations have no mapped code and are unlikely to be what it asks for.
        self._of_other_codes: Counter[str] = Counter()
        self._sort_in(drafts)
        # The keys of which nothing could be read, or none of the records could be used.
        self._missing = {
            key
            for key, result in results.items()
            if result.state in (State.ABSENT, State.FAILED)
            or (self._left_out_of(key) == len(result.resources) > 0)
            or (key in needed and result.resources and not self._used_of(key))
        }
        # The same by the keys of the content: a key that was split is missing if a part of it is.
        self.unavailable = frozenset(map(base_key, self._missing))
        self.partial = frozenset(  # the keys of which only part could be read
            base_key(key)
            for key, result in results.items()
            if key not in self._missing
            and (result.state is State.PARTIAL or self._left_out_of(key))
        ).difference(self.unavailable)
        self.is_whole = not (self.unavailable or self.partial)
        # The keys for which the client or the service searched, and did not get all records.
        self.failed = self.partial | {
            base_key(key) for key in self._missing if results[key].state is not State.ABSENT
        }

    def _sort_in(self, drafts: Iterable[object]) -> None:
        of_others: list[tuple[str, str, Resource]] = []
        for result in self.results.values():
            self._by_url.update(result.by_url)
        self._index_drafts(drafts)
        for key, result in self.results.items():
            self.go_on()
            for resource in result.resources:
                kind = str(resource["resourceType"])
                identifier = resource.get("id")
                if isinstance(identifier, str):
                    of_its_type = self._by_id.setdefault(kind, {})
                    if identifier in of_its_type:
                        continue  # the same resource came under two keys
                    of_its_type[identifier] = resource
                subject = self._subject(resource)
                if subject == self.patient_id:
                    if kind == "Observation" and key in self._needed:
                        self._look_at_code(key, resource)
                    self._of_patient.setdefault(kind, []).append(resource)
                    if "focus" in resource:
                        self._infant_ids.update(self._others_in(resource["focus"]))
                elif subject is not None:
                    of_others.append((key, subject, resource))
                elif kind in ABOUT_A_PATIENT:
                    self._leave_out(key, self._why_unused(resource), resource)
        self._link_newborns([resource for *_, resource in of_others])
        # The records of an infant count only if a record links the infant to the patient.
        for key, subject, resource in of_others:
            if subject in self._infant_ids:
                self._infants.setdefault(str(resource["resourceType"]), []).append(resource)
            elif resource["resourceType"] in ABOUT_A_PATIENT:
                self._leave_out(key, ANOTHER_PATIENT, resource)
        for draft in map(_resource_in, drafts):
            ordered = draft.get("resourceType")
            if not isinstance(ordered, str):
                self.left_out[NO_RESOURCE] += 1
            elif ordered in ORDERED:
                self.drafts.append(draft)
                if not self.is_ordered_for(draft):
                    self.left_out[ANOTHER_PATIENT] += 1

    def _index_drafts(self, drafts: Iterable[object]) -> None:
        """Index the Medications and Patients among the drafts: draft orders may refer to them."""
        for entry in drafts:
            resource = _resource_in(entry)
            kind = resource.get("resourceType")
            if not isinstance(kind, str) or kind not in REFERRED_TO:
                continue
            url = entry.get("fullUrl") if isinstance(entry, dict) else None
            if isinstance(url, str):
                self._by_url[normal_urn(url)] = resource
            identifier = resource.get("id")
            if isinstance(identifier, str):
                self._by_id.setdefault(kind, {})[identifier] = resource

    # --- the patient of a record ------------------------------------------------------------------

    def _subject(self, resource: Resource) -> str | None:
        subject = resource.get("subject")
        if isinstance(subject, Reference) and subject.reference == self._reference:
            return self.patient_id  # the usual case, without parsing
        return self._patient(subject_of(resource))

    def _patient(self, reference: object) -> str | None:
        found = patient_in(reference)
        if found is None:
            named = self._by_url.get(normal_urn(text_of(reference) or ""), {})
            identifier = named.get("id") if named.get("resourceType") == "Patient" else None
            return identifier if isinstance(identifier, str) else None
        base, patient = found
        return patient if self._is_of_this_server(base) else None

    def _why_unused(self, resource: Resource) -> LeftOut:
        named = patient_in(subject_of(resource))
        if named is None or named[1] == self.patient_id:
            self.perhaps_of_patient.append(resource)
        return ANOTHER_SERVER if named is not None else UNREADABLE

    def _leave_out(self, key: str, reason: LeftOut, resource: Resource) -> None:
        self.left_out[reason] += 1
        of_the_key = self._unused.setdefault(key, Counter())
        if self._matters(resource):
            of_the_key[reason] += 1

    def _look_at_code(self, key: str, resource: Resource) -> None:
        matters = self._unmapped(resource)
        if matters is None:
            return
        self.left_out[NOT_MAPPED] += 1
        if matters:
            self._unused.setdefault(key, Counter())[NOT_MAPPED] += 1
        else:
            self._of_other_codes[key] += 1

    def _left_out_of(self, key: str) -> int:
        """How many records of a key were not used although they matter and may be the patient's."""
        counted = self._unused.get(key)
        return sum(counted[reason] for reason in PERHAPS_OF_PATIENT) if counted else 0

    def _used_of(self, key: str) -> bool:
        """Whether any record of a key could be used."""
        left_out = self._unused.get(key, Counter[LeftOut]()).total() + self._of_other_codes[key]
        return left_out < len(self.results[key].resources)

    def say_left_out(self, key: str) -> str:
        """How many records of a key were not used although they may matter, and why, in words."""
        counted: Counter[LeftOut] = Counter()
        for part, reasons in self._unused.items():
            if base_key(part) == key:
                counted += reasons
        told: Iterable[LeftOut] = PERHAPS_OF_PATIENT
        if key in self.unavailable:
            told = SAY_LEFT_OUT
            for part, count in self._of_other_codes.items():
                if base_key(part) == key:
                    counted[NOT_MAPPED] += count
        return ", ".join(
            f"{counted[reason]} {SAY_LEFT_OUT[reason]}" for reason in told if counted[reason]
        )

    def _others_in(self, references: object) -> Iterator[str]:
        for reference in references if isinstance(references, list) else ():
            patient = self._patient(reference)
            if patient is not None and patient != self.patient_id:
                yield patient

    # --- the newborn ------------------------------------------------------------------------------

    @property
    def patient(self) -> Resource | None:
        """The patient's own Patient resource, if it was sent."""
        return self._by_id.get("Patient", {}).get(self.patient_id)

    def newborns(self) -> list[Resource]:
        """The Patient resources of the infants that were sent."""
        patients = self._by_id.get("Patient", {})
        return [patients[name] for name in sorted(self._infant_ids) if name in patients]

    def _link_newborns(self, of_others: list[Resource]) -> None:
        """Find the newborns of the patient.

        A newborn has a RelatedPerson that is the patient, or an Encounter that is a part of the
        patient's.
        """
        names = set(keys_of_patient(self.patient or {}))
        for resource in of_others:
            newborn = self._subject(resource)
            kind = resource["resourceType"]
            if newborn is None:
                continue
            if kind == "RelatedPerson":
                if not names.isdisjoint(keys_of_mother(resource)):
                    self._infant_ids.add(newborn)
            elif kind == "Encounter" and self._is_encounter_of_patient(resource.get("partOf")):
                self._infant_ids.add(newborn)

    def _is_encounter_of_patient(self, reference: object) -> bool:
        text = text_of(reference)
        target = read_reference(text) if text is not None else None
        if target is None or target.kind != "Encounter":
            return False
        if not self._is_of_this_server(target.base):
            return False
        encounter = self._by_id.get("Encounter", {}).get(target.id)
        if encounter is None:
            return target.id == self._encounter_id
        return self._subject(encounter) == self.patient_id

    @property
    def newborn_ids(self) -> set[str]:
        """The ids of the infants that a record links to the patient."""
        return self._infant_ids

    def leave_out_children(self, ids: set[str]) -> None:
        """Drop these children and their records: they are too old to be infants.

        They stay left out: ``is_of_older_child`` knows the patient's records that are about them.
        """
        if not ids:
            return
        self._infant_ids -= ids
        self._older_children |= ids
        for kind, resources in self._infants.items():
            self._infants[kind] = [each for each in resources if self._subject(each) not in ids]

    def is_of_older_child(self, resource: Resource) -> bool:
        """Whether the subject or focus of a record is a child that was left out."""
        return bool(self._older_children) and self.infant_of(resource) in self._older_children

    def infant_of(self, resource: Resource) -> str:
        """The id of the infant that is the subject or focus of a record; empty if there is none."""
        subject = self._subject(resource)
        if subject is not None and subject != self.patient_id:
            return subject
        return next(self._others_in(resource.get("focus")), "")

    def orders_of(self, kind: str, orders: Iterable[Resource]) -> Iterator[Resource]:
        """The orders of one type (``kind``) that count.

        They are for the patient, or a feed for the infant. An order that was withdrawn, or that
        forbids (``doNotPerform``), does not count.
        """
        for order in orders:
            self.go_on()
            status = order.get("status")
            if (
                order.get("resourceType") == kind
                and order.get("doNotPerform") is not True
                and not (isinstance(status, str) and status in TAKEN_BACK)
                and self.is_ordered_for(order)
            ):
                yield order

    def is_ordered_for(self, order: Resource) -> bool:
        """Whether a draft order is for the patient of the hook, or a feed for the infant.

        It is for the patient of the hook unless its subject names another Patient.
        """
        subject = subject_of(order)
        named = patient_in(subject)
        patient = named[1] if named is not None else self._patient(subject)
        if patient is None or patient == self.patient_id:
            return True
        return order.get("resourceType") == "NutritionOrder" and patient in self._infant_ids

    def names_someone_else(self, focus: object) -> bool:
        """Whether ``focus`` names anyone but the patient, or cannot be read."""
        if not isinstance(focus, list):
            return True
        return any(self._patient(reference) != self.patient_id for reference in focus)

    def of_patient(self, kind: str) -> list[Resource]:
        """The patient's resources of one type, in the order in which they were sent or read."""
        return self._of_patient.get(kind, [])

    def of_infants(self, kind: str) -> list[Resource]:
        """The resources of one type that are of the patient's infants."""
        return self._infants.get(kind, [])

    def referenced(self, reference: object, within: Resource | None = None) -> Resource | None:
        """The resource that a literal reference points at; ``None`` if the chart does not have it.

        The reference may be relative or absolute, name a version, be the ``fullUrl`` of an entry,
        or point into the ``contained`` resources of ``within``, which holds the reference.
        """
        if not isinstance(reference, str):
            return None
        if reference.startswith("#"):
            inner = dicts_in(within.get("contained")) if within is not None else ()
            return next((each for each in inner if each.get("id") == reference[1:]), None)
        named = self._by_url.get(normal_urn(reference))
        if named is not None:
            return named
        target = read_reference(reference)
        if target is None or not self._is_of_this_server(target.base):
            return None
        return self._by_id.get(target.kind, {}).get(target.id)

    def unread_medications(self, orders: Iterable[Resource]) -> list[str]:
        """The ids of Medications to which medicines or orders refer, and which the chart lacks."""
        wanted: dict[str, None] = {}
        taken = [*self.of_patient("MedicationRequest"), *self.of_patient("MedicationStatement")]
        for resource in (*taken, *orders):
            text = text_of(resource.get("medicationReference"))
            target = read_reference(text) if text is not None else None
            if target is None or target.kind != "Medication":
                continue
            if self._is_of_this_server(target.base) and self.referenced(text) is None:
                wanted[target.id] = None
        return list(wanted)

    @cached_property
    def _bases(self) -> frozenset[str]:
        """The normal addresses of the FHIR server; empty if neither hook nor record names it."""
        base = self._fhir_server or self._first_base()
        named = [base, *self._other_bases] if base else []
        return frozenset(normal_base(each) for each in named if each)

    def _first_base(self) -> str:
        """The base of the first absolute reference to the patient, in the order of the keys."""
        for result in self.results.values():
            for resource in result.resources:
                named = patient_in(subject_of(resource))
                if named is not None and named[0] and named[1] == self.patient_id:
                    return named[0]
        return ""

    def _is_of_this_server(self, base: str) -> bool:
        return not base or not self._bases or base in self._bases

    def count_keys(self, sent: Set[str]) -> KeyCounts:
        """Count the prefetch keys by how they came; ``sent`` are the keys of the request."""
        known = self.results.keys()
        absent = known - sent
        return {
            "sent": len(known) - len(absent),
            "fetched": len(absent.difference(self._missing)),
            "missing": len(self._missing),
            "unknown": len(sent - known),
        }

    def state(self, key: str) -> State:
        """How a prefetch key came back."""
        result = self.results.get(key)
        return State.ABSENT if result is None else result.state


def _resource_in(entry: object) -> Resource:
    """The resource of an entry of a Bundle; an empty one if it holds none."""
    resource = entry.get("resource") if isinstance(entry, dict) else None
    return resource if isinstance(resource, dict) else {}


def dicts_in(value: object) -> list[dict[str, object]]:
    """The JSON objects in a list; empty if ``value`` is not a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def keys_of_patient(patient: Resource) -> Iterator[tuple[str, str]]:
    """The keys by which a RelatedPerson can be known to be this Patient.

    Each is an identifier, as system and value, or a link to the RelatedPerson, as empty text and
    reference. ``keys_of_mother`` gives the same for the RelatedPerson.
    """
    yield from _identifiers_of(patient)
    for link in dicts_in(patient.get("link")):
        other = text_of(link.get("other"))
        if other is not None and other.startswith("RelatedPerson/"):
            yield "", other


def keys_of_mother(related: Resource) -> Iterator[tuple[str, str]]:
    """The same keys of a RelatedPerson; none if it is not the mother of a newborn."""
    if related.get("active") is False:
        return
    codes = map(codes_of, dicts_in(related.get("relationship")))
    if not MOTHERS.isdisjoint(chain.from_iterable(codes)):
        yield from _identifiers_of(related)
        yield "", f"RelatedPerson/{related.get('id')}"


def _identifiers_of(resource: Resource) -> Iterator[tuple[str, str]]:
    """The identifiers with a system; without one, two patients may have the same by chance."""
    for identifier in dicts_in(resource.get("identifier")):
        system, value = identifier.get("system"), identifier.get("value")
        if isinstance(system, str) and isinstance(value, str) and system and value:
            yield system, value


def codings_of(concept: object) -> list[dict[str, object]]:
    """The codings of a CodeableConcept; empty for anything else."""
    return dicts_in(concept.get("coding")) if isinstance(concept, dict) else []


def codes_of(concept: object) -> set[str]:
    """The codes of a CodeableConcept, of any system; empty for anything else."""
    codes = (coding.get("code") for coding in codings_of(concept))
    return {code for code in codes if isinstance(code, str)}
