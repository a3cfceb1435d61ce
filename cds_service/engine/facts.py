"""Facts: typed values about one patient, read from the chart.

The content says which facts there are, which codes mean them, their units and their windows
(``cards/facts``, ``cards/value-sets``). This module reads their values from every type of FHIR
resource that can carry one:

- An Observation has one value (``value[x]``), or one in each component.
- A Procedure, Condition or Encounter has the time of a birth, or an answer: the one that its code
  means, or "yes", and "no" once it has ended. A ServiceRequest has the answer "yes".
- A Condition that is active, or an Observation whose period has no end, holds now, however long ago
  it began. A Condition that is refuted, or ruled out by the German certainty of a diagnosis, has no
  answer.
- A record has no value if it is entered in error, cancelled or in the future, or if its value is in
  another kind of unit, plain text, or a limit such as ``<5 mL`` of a fact for which limits do not
  count. It is kept as a ``Problem``, so that a card can say why it was not used. A record that is
  older than the fact's window does not count either. An older record never replaces a newer one
  that could not be read, and a sum of which a record could not be read is no total of the day.
- The newest value wins. If a different value was recorded at most the fact's ``contradicts-within``
  before it, the fact is ``conflicting`` and has no value.
- For the time of a birth, the most exact record wins. Of records that are equally exact, an
  Observation comes before a Procedure, and a Procedure before a Condition. An Encounter says only
  between which times the birth was.

Nothing here knows the network, Flask or the clock.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from itertools import groupby, islice, pairwise
from typing import TYPE_CHECKING

import msgspec

from ..content.codes import MOST_CODINGS, read_concept
from ..content.fact_types import FactSpec, FactValue, Problem, Reading
from ..fhir.chart import Quantity, Resource, member_of, reference_to
from ..fhir.times import DAY, HOUR, MINUTE, Moment, lacks_offset, parse_moment

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..fhir.chart import Chart


# The members of records that are read here. Of values of other types, only their presence is read.
READ = frozenset(
    (
        *("resourceType", "id", "status", "code", "type", "doNotPerform", "focus"),
        *("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued"),
        *("onsetDateTime", "onsetPeriod", "recordedDate", "abatementDateTime"),
        *("clinicalStatus", "verificationStatus", "birthDate", "_birthDate"),
        *("period", "performedDateTime", "performedPeriod", "authoredOn"),
        *("valueQuantity", "valueCodeableConcept", "valueBoolean", "valueInteger"),
        *("valueDateTime", "valueString"),
        *("valueRange", "valueRatio", "valueSampledData", "valueTime", "valuePeriod"),
        *("component", "dataAbsentReason", "bodySite", "reasonCode", "hospitalization"),
        *("deceasedBoolean", "deceasedDateTime"),
    )
)
Specs = tuple[FactSpec, ...]

OBSERVED_AT = ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued")
FARTHEST_OFFSET = 14 * HOUR  # the most by which a local time differs from UTC
COUNTED_STATUSES = frozenset({"final", "amended", "corrected", "preliminary"})
WITHDRAWN_STATUSES = frozenset({"entered-in-error", "cancelled", "not-done"})
CLOCK_TOLERANCE = 5 * MINUTE
BIRTHS_AGREE_WITHIN = 6 * HOUR
BY_THE_DAY = 30 * DAY  # the longest window of a fact that tells how things are at present
TO_THE_HOUR = 2 * HOUR  # a time of birth that is at most this vague is known to the hour
BIRTH_WRITTEN_WITHIN = 7 * DAY  # after it, if a record has only the date of recording
INFANT_FOR = 365 * DAY  # after birth; an older linked child is no infant
SHORTEST_TOTAL = 12 * HOUR  # an Observation over this time or more is a total, not a session
TOTAL_MARGIN = 2 * HOUR  # by which a total may be longer than the window, as wards count days
# The facts that are also read from the Patient resource of a newborn.
BIRTH = "delivery-time"
OUTCOME = "infant-outcome"
LIVING, STILLBORN, DIED = "alive", "stillborn", "died"
RECORDED_ONLY = 4  # the rank of a birth that has only the date of recording
ACTIVE = frozenset({"active", "recurrence", "relapse"})
REFUTED = frozenset({"entered-in-error", "refuted"})
SUPPOSED = frozenset({"unconfirmed", "provisional", "differential"})  # verificationStatus
# The certainty of a German diagnosis (KBV, S_ICD_DIAGNOSESICHERHEIT): an extension of its code. A
# suspected diagnosis counts, and so does an unconfirmed one: a possible infection is looked at, and
# a medicine is held back. Only a suspected birth does not count.
CERTAINTY = "http://fhir.de/StructureDefinition/icd-10-gm-diagnosesicherheit"
CERTAINTIES = CONFIRMED, SUSPECTED, STATE_AFTER, RULED_OUT = "G", "V", "Z", "A"
_CERTAINTY_NAME = CERTAINTY.rpartition("/")[2].encode()  # without slashes: JSON may escape them
BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
MOST_REFERENCES = 20  # to the records of one fact on a card
NIGHT = range(1, 5)  # the hours from 01:00 to 05:00

# Reasons for not using a record that are counted, but do not change what is known of a fact.
OF_NO_SYSTEM = "its code is of no system that is known"
RECORDED_WHEN = "it says only when it was recorded, which is not when the birth was"

_CODE = re.compile(r"[a-z-]{1,40}")
_SIDE = re.compile(r"\b(left|right|links?|rechts?|gauche|droite?)\b", re.IGNORECASE)


class Unusable(Exception):
    """A record has no value; the message says why."""


class Withdrawn(Unusable):
    """A record that says itself that it does not count, such as a refuted one.

    Nobody need look at it: the fact keeps what is known of it otherwise.
    """


class AsOf(msgspec.Struct, frozen=True):
    """The time of evaluation (seconds since 1970), and the time zones of the chart.

    ``zone`` is for dates without a time of day, ``times_in`` for times without an offset. If
    ``times_in`` is ``None``, such times are not read.
    """

    now: float
    zone: tzinfo
    times_in: tzinfo | None = None

    def moment(self, written: object) -> Moment | None:
        """A FHIR date or time as a moment; ``None`` if it cannot be read."""
        return parse_moment(written, self.zone, self.times_in)


Facts = dict[str, FactValue]  # by id; all patients share the value of a fact without a record


def _is_unread(spec: FactSpec, chart: Chart) -> bool:
    """Whether a prefetch key of the fact could not be read, or not in full."""
    if chart.is_whole:
        return False
    return not (chart.unavailable.isdisjoint(spec.keys) and chart.partial.isdisjoint(spec.keys))


def all_too_old(facts: Facts) -> bool:
    """Whether a fact that changes by the day is stale, and no such fact is known or conflicting."""
    statuses = {fact.status for fact in facts.values() if fact.spec.window <= BY_THE_DAY}
    return "stale" in statuses and statuses.isdisjoint(("known", "conflicting"))


def records_too_old(facts: Facts) -> tuple[int, str]:
    """How many records are older than the window of their fact, and the date of the newest.

    Records that a newer record of the same fact has replaced are not counted. Zero and an empty
    text if there are none.
    """
    old = [reading for fact in facts.values() for reading in fact.too_old]
    newest = max(old, key=lambda reading: reading.moment.latest, default=None)
    records = len({id(reading.record) for reading in old})
    return records, "" if newest is None else newest.moment.text[:10]


def values_left_out(facts: Facts) -> Counter[str]:
    """How many records have a value that was not used, by reason, as log lines write reasons."""
    told = {
        (problem.reference, problem.reason)
        for fact in facts.values()
        for problem in fact.problems
        if problem.has_value
    }
    return Counter(reason.replace(" ", "-").replace(",", "") for _, reason in told)


def is_read(content: Content, resource: Resource) -> bool:
    """Whether a record is read: an Observation or Procedure only if its codes mean a fact."""
    kind = str(resource["resourceType"])
    if kind not in ("Observation", "Procedure"):
        return True
    if _specs_of(content, kind, resource):
        return True
    return "component" in resource and bool(_parts_of(content, kind, resource))


def facts_told_by(content: Content, resource: Resource) -> set[str]:
    """The ids of the facts that a record codes for, whatever its value is."""
    return {spec.id for spec in _specs_of(content, str(resource["resourceType"]), resource)}


def leave_out_older_children(chart: Chart, now: datetime, time_zone: tzinfo | None = None) -> None:
    """Drop the linked children who are too old to be infants of this birth, and their records.

    This changes the chart: it comes before anything else is read of it. To do it again as of the
    same time changes nothing more.
    """
    as_of = _as_of(now, time_zone)
    born = ((str(child["id"]), birth_of_newborn(child, as_of)) for child in chart.newborns())
    before = as_of.now - INFANT_FOR
    chart.leave_out_children(
        {child for child, birth in born if birth is not None and birth.moment.latest < before}
    )


def _as_of(now: datetime, time_zone: tzinfo | None) -> AsOf:
    zone = time_zone or now.tzinfo
    assert zone is not None, "the time of evaluation needs an offset"
    return AsOf(now.timestamp(), zone, time_zone)


def read_facts(
    content: Content, chart: Chart, now: datetime, time_zone: tzinfo | None = None
) -> Facts:
    """All facts of ``content`` from ``chart`` as of ``now`` (which must carry an offset).

    Dates without a time of day and times without an offset are in ``time_zone``. If that is not
    known, such dates are in the zone of ``now``, and such times are not read. Children who are no
    infants any more were dropped from the chart before (``leave_out_older_children``).

    One broken resource never spoils the rest: it becomes a problem of the facts that it codes for.
    """
    at = now.timestamp()
    readings, problems = collect_readings(content, chart, now, time_zone)
    recorded = readings.keys() | problems.keys()
    facts = content.not_recorded.copy()
    if not chart.is_whole:
        for spec in content.facts.values():
            if _is_unread(spec, chart):
                facts[spec.id] = FactValue(spec, "not-available")

    def combine(fact_id: str) -> None:
        found, unusable = readings.get(fact_id, ()), problems.get(fact_id, [])
        facts[fact_id] = _combine(content.facts[fact_id], found, unusable, chart, at, time_zone)

    if BIRTH in recorded:
        combine(BIRTH)
    born = facts.get(BIRTH)
    _leave_out_other_births(content, readings, born.moment if born is not None else None)
    for fact_id in recorded - {BIRTH}:
        combine(fact_id)
    for spec in content.counting_facts:
        assert spec.counts is not None
        if spec.id in recorded or spec.counts in recorded:
            facts[spec.id] = _newer_count(facts[spec.id], facts[spec.counts])
    return facts


def _leave_out_other_births(
    content: Content, readings: dict[str, list[Reading]], born: Moment | None
) -> None:
    """Of the facts about this birth, leave out the readings of an earlier birth."""
    for spec in content.facts_of_birth:
        if spec.id not in readings:
            continue
        for reading in readings[spec.id]:
            reading.still_so = False  # a Condition that was never closed may be of an earlier birth
        if born is not None:
            since = born.earliest - spec.before_birth
            readings[spec.id] = [r for r in readings[spec.id] if r.moment.latest >= since]


def collect_readings(
    content: Content, chart: Chart, now: datetime, time_zone: tzinfo | None = None
) -> tuple[dict[str, list[Reading]], dict[str, list[Problem]]]:
    """The readings of all usable records, of any age, and the problems of the others, by fact.

    The chart is as for ``read_facts``, and is not changed.
    """
    as_of = _as_of(now, time_zone)
    readings: dict[str, list[Reading]] = {}
    problems: dict[str, list[Problem]] = {}
    suggested: dict[bytes, Specs] = {}  # by the code of a diagnosis, as JSON

    def read(
        read_record: _Reader, about_patient: bool, resource: Resource, part: Resource, specs: Specs
    ) -> None:
        for spec in specs:
            if spec.about == "mother" and not about_patient:
                continue
            if spec.own_record and about_patient and resource["resourceType"] != "Observation":
                continue
            try:
                reading = read_record(content, spec, resource, part, as_of)
            except Unusable as unusable:
                withdrawn = (
                    isinstance(unusable, Withdrawn) or _status_of(resource) in WITHDRAWN_STATUSES
                )
                problem = _problem(str(unusable), resource, part, as_of, withdrawn)
                if spec.type == "time" and not withdrawn:
                    moment = _time_with_any_offset(
                        partial(read_record, content, spec, resource, part), as_of
                    )
                    problem = replace(problem, moment=moment)
                if spec.by_infant:
                    problem = replace(problem, answer=_answer_said(content, spec, resource, part))
                problems.setdefault(spec.id, []).append(problem)
            except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError):
                problem = _problem("could not be read", resource, part, as_of)
                problems.setdefault(spec.id, []).append(problem)
            else:
                if spec.by_infant:
                    reading.site = chart.infant_of(resource)
                readings.setdefault(spec.tells or spec.id, []).append(reading)

    for kind, read_record in _READERS.items():
        of_both = ((True, chart.of_patient(kind)), (False, chart.of_infants(kind)))
        for of_patient, resources in of_both:
            chart.go_on()
            for resource in resources:
                specs = _specs_of(content, kind, resource)
                # The subject of a record about the infant may be the patient, with the infant as
                # ``focus``, or the infant. The subject of one about the patient is the patient.
                of_another = "focus" in resource and chart.names_someone_else(resource["focus"])
                about_patient = of_patient and not of_another
                if of_another and chart.is_of_older_child(resource):
                    continue
                if "component" in resource:
                    parts = _parts_of(content, kind, resource, specs)
                    for part, part_specs in parts:
                        read(read_record, about_patient, resource, part, part_specs)
                    # A panel has no value of its own. If no component is read, the panel itself
                    # is, and becomes a problem.
                    if parts and not _has_value(resource):
                        continue
                if specs:
                    read(read_record, about_patient, resource, resource, specs)
                elif kind == "Condition" and not _is_refuted(resource):
                    chart.go_on()
                    for spec in _suggested_by(content, resource, suggested):
                        if spec.own_record if about_patient else spec.about == "mother":
                            continue
                        problem = Problem(OF_NO_SYSTEM, reference_to(resource), True, None, True)
                        problems.setdefault(spec.id, []).append(problem)
    for newborn in chart.newborns():
        for fact_id, read_newborn in ((BIRTH, birth_of_newborn), (OUTCOME, death_of_newborn)):
            told = read_newborn(newborn, as_of) if fact_id in content.facts else None
            if told is not None:
                readings.setdefault(fact_id, []).append(told)
    return readings, problems


def _problem(
    reason: str, resource: Resource, part: Resource, as_of: AsOf, withdrawn: bool = False
) -> Problem:
    """The problem of a record that does not count: why, when it was, whether it has a value."""
    moment = None if withdrawn else _about_when(resource, as_of)
    has_value = (
        resource["resourceType"] == "Observation"
        and _has_value(part)
        and not part.get("dataAbsentReason")
        and _status_of(resource) in COUNTED_STATUSES
    )
    return Problem(reason, reference_to(resource), withdrawn, moment, has_value)


def says_something(observation: Resource) -> bool:
    """Whether an Observation has a status that counts, and a value, or a component with one."""
    components = observation.get("component")
    parts = components if isinstance(components, list) else []
    return _status_of(observation) in COUNTED_STATUSES and any(
        _has_value(part) for part in (observation, *parts) if isinstance(part, dict)
    )


def _about_when(resource: Resource, as_of: AsOf) -> Moment | None:
    """When a record was observed; if its time has no offset, the range over all offsets."""
    with suppress(Unusable):
        return _moment_of(resource, OBSERVED_AT, as_of)
    with suppress(Unusable):
        return _with_any_offset(_moment_of(resource, OBSERVED_AT, _in_utc(as_of)))
    return None


def _time_with_any_offset(read: Callable[[AsOf], Reading], as_of: AsOf) -> Moment | None:
    """A time without an offset as the range over all offsets; ``None`` if it cannot be read."""
    with suppress(Unusable):
        return _with_any_offset(read(_in_utc(as_of)).moment)
    return None


def _in_utc(as_of: AsOf) -> AsOf:
    return msgspec.structs.replace(as_of, times_in=UTC)


def _with_any_offset(utc: Moment) -> Moment:
    return Moment(utc.earliest - FARTHEST_OFFSET, utc.latest + FARTHEST_OFFSET, utc.text)


def _specs_of(content: Content, kind: str, resource: Resource) -> Specs:
    """The facts that a resource codes for."""
    if kind != "Encounter":
        code = resource.get("code")
        if not isinstance(code, msgspec.Raw):
            return content.lookup.of_concept(code, kind)
        return content.lookup.as_written(kind, bytes(code))
    found = {
        spec.id: spec
        for each in _types_of(resource)
        for spec in content.lookup.of_concept(each, kind)
    }
    for each in _reasons_and_disposition(resource):  # only facts about a birth are read from these
        specs = content.lookup.of_concept(each, kind)
        found |= {spec.id: spec for spec in specs if spec.before_birth}
    return tuple(found.values())


def _types_of(encounter: Resource) -> list[object]:
    types = encounter.get("type")
    return types if isinstance(types, list) else []


def _reasons_and_disposition(encounter: Resource) -> list[object]:
    """The reasons of an Encounter, and its discharge disposition."""
    reasons, stay = encounter.get("reasonCode"), encounter.get("hospitalization")
    ended = [stay.get("dischargeDisposition")] if isinstance(stay, dict) else []
    return [*(reasons if isinstance(reasons, list) else ()), *ended]


def _suggested_by(content: Content, resource: Resource, known: dict[bytes, Specs]) -> Specs:
    """The facts that a diagnosis may be of (``FactLookup.suggested``); ``known`` keeps them."""
    code = resource.get("code")
    if not isinstance(code, msgspec.Raw):
        return content.lookup.suggested(code)
    written = bytes(code)
    if written not in known:
        known[written] = content.lookup.suggested(member_of(resource, "code"))
    return known[written]


def _is_refuted(condition: Resource) -> bool:
    return not _codes_of(condition.get("verificationStatus")).isdisjoint(REFUTED)


def _parts_of(
    content: Content, kind: str, resource: Resource, specs: Specs = ()
) -> list[tuple[Resource, Specs]]:
    """The components of an Observation that are read, each with the facts that it codes for.

    ``specs`` are the facts of the whole Observation. If it has no value, and no component codes for
    a fact, the components for the left and the right breast are read for those of ``specs`` that
    are sums.
    """
    written = resource["component"]
    components = [
        each for each in (written if isinstance(written, list) else ()) if isinstance(each, dict)
    ]
    parts = [
        (component, part_specs)
        for component in components
        if (part_specs := content.lookup.of_concept(component.get("code"), kind))
    ]
    adding = tuple(spec for spec in specs if spec.combine == "sum")
    if parts or not adding or _has_value(resource):
        return parts
    return [
        (component, adding)
        for component in components
        if _is_told(component) and _names_a_side(content, component)
    ]


def _names_a_side(content: Content, component: Resource) -> bool:
    """Whether a component says which breast it is of, by its code or in words."""
    code = component.get("code")
    said = read_concept(code)
    if any(_SIDE.search(text) for text in (*said.texts, *said.codes)):
        return True
    codings = code.get("coding") if isinstance(code, dict) else None
    several = codings if isinstance(codings, list) else []
    return any(content.sides.find(coding) for coding in several[:MOST_CODINGS])


def _is_told(part: Resource) -> bool:
    """Whether a component has a value, or says why it has none."""
    return _has_value(part) or "dataAbsentReason" in part


def _has_value(part: Resource) -> bool:
    return any(name.startswith("value") for name in part)


def _status_of(resource: Resource) -> str | None:
    """The status of a record; ``None`` if it has none, or none that is a code."""
    status = resource.get("status")
    return status if isinstance(status, str) and _CODE.fullmatch(status) else None


def _read_observation(
    content: Content, spec: FactSpec, resource: Resource, part: Resource, as_of: AsOf
) -> Reading:
    if resource.get("status") not in COUNTED_STATUSES:
        raise Unusable(f"the record is {_status_of(resource) or 'without a status'}")
    if part.get("dataAbsentReason"):
        raise Unusable("the value is said to be absent")
    if spec.type == "time":
        return _read_time(part, resource, as_of)
    moment = _moment_of(resource, OBSERVED_AT, as_of)
    reading = Reading(_VALUES[spec.type](content, spec, part), moment, resource)
    if "effectivePeriod" in resource:
        period = _object_in(resource, "effectivePeriod")
        if spec.combine == "sum":
            start = as_of.moment(period.get("start"))
            reading.spans = 0.0 if start is None else moment.latest - start.earliest
        elif spec.type in ("yes-no", "coded"):
            reading.still_so = "end" not in period
    if spec.combine == "sum":
        reading.part = part
    return reading


def _read_condition(
    content: Content, spec: FactSpec, resource: Resource, part: Resource, as_of: AsOf
) -> Reading:
    verification = _codes_of(resource.get("verificationStatus"))
    certainty = _certainty_of(content, spec, resource)
    if "entered-in-error" in verification:
        raise Withdrawn("the record is entered-in-error")
    if "refuted" in verification or certainty == RULED_OUT:
        raise Withdrawn("the record is refuted")
    status = _code_of(resource.get("clinicalStatus"))
    if spec.type == "time":
        if certainty == SUSPECTED or not SUPPOSED.isdisjoint(verification):
            raise Withdrawn("the record is a supposition")
        if certainty == STATE_AFTER and not (
            "onsetDateTime" in resource or "onsetPeriod" in resource
        ):
            raise Unusable("the record is of something earlier, without a date")
        return _read_birth(resource, ("onsetDateTime", "onsetPeriod"), 2, as_of)
    if spec.type == "coded":  # the code is the answer, whether the Condition has ended or not
        answer = _answer_in(content, spec, member_of(resource, "code"))
        moment = _moment_of(resource, ("onsetDateTime", "onsetPeriod", "recordedDate"), as_of)
        return Reading(answer, moment, resource, rank=1)
    ended = (
        resource.get("abatementDateTime")
        or status in ("inactive", "remission", "resolved")
        or certainty == STATE_AFTER
    )
    active = not ended and status in ACTIVE
    try:
        moment = _moment_of(resource, ("onsetDateTime", "onsetPeriod", "recordedDate"), as_of)
    except Unusable:
        if not active:
            raise
        # It holds now, but began at an unknown time: any record with a time is newer.
        moment = Moment(-math.inf, as_of.now, "")
    so = not ended or spec.ever
    return Reading("yes" if so else "no", moment, resource, still_so=active)


def _certainty_of(content: Content, spec: FactSpec, resource: Resource) -> str | None:
    """The certainty of a German diagnosis, by its codes for this fact; ``None`` if not given.

    If several are given, the first of them in ``CERTAINTIES`` counts.
    """
    written = resource.get("code")
    if isinstance(written, msgspec.Raw) and _CERTAINTY_NAME not in bytes(written):
        return None  # the usual case
    concept = member_of(resource, "code")
    if not isinstance(concept, dict):
        return None
    of_the_fact = (
        coding
        for coding in islice(concept.get("coding") or (), MOST_CODINGS)
        if spec in content.lookup.of_concept({"coding": [coding]}, "Condition")
    )
    said = {
        (extension.get("valueCoding") or {}).get("code", extension.get("valueCode"))
        for part in (concept, *of_the_fact)
        for extension in part.get("extension") or ()
        if extension.get("url") == CERTAINTY
    }
    return next((code for code in CERTAINTIES if code in said), None)


def _read_procedure(
    content: Content, spec: FactSpec, resource: Resource, part: Resource, as_of: AsOf
) -> Reading:
    status = _status_of(resource)
    if status != "completed":
        raise Unusable(f"the record is {status or 'without a status'}")
    times = ("performedDateTime", "performedPeriod")
    if spec.type == "time":
        return _read_birth(resource, times, 1, as_of)
    if spec.type == "coded":
        answer = _answer_in(content, spec, member_of(resource, "code"))
        return Reading(answer, _moment_of(resource, times, as_of), resource, rank=1)
    return Reading("yes", _moment_of(resource, times, as_of), resource)


def _read_encounter(
    content: Content, spec: FactSpec, resource: Resource, part: Resource, as_of: AsOf
) -> Reading:
    status = _status_of(resource)
    if status in ("entered-in-error", "cancelled", "planned", None):
        raise Unusable(f"the record is {status or 'without a status'}")
    if spec.type == "time":
        return _read_birth(resource, ("period",), 3, as_of)
    ended = _object_in(resource, "period").get("end")
    if spec.before_birth:  # true whether the Encounter has ended or not
        moment = as_of.moment(ended) if spec.own_record else None
        moment = moment or _moment_of(resource, ("period",), as_of)
        concepts = [*_types_of(resource), *_reasons_and_disposition(resource)]
        codings = [coding for each in concepts if each for coding in _codings_in(each)]
        answer = "yes"
        if spec.type == "coded":
            answer = _answer_in(content, spec, {"coding": codings})
        return Reading(answer, moment, resource, rank=1)
    return Reading("no" if ended else "yes", _moment_of(resource, ("period",), as_of), resource)


def _read_request(
    content: Content, spec: FactSpec, resource: Resource, part: Resource, as_of: AsOf
) -> Reading:
    status = _status_of(resource)
    if status in ("revoked", "entered-in-error"):
        raise Withdrawn(f"the record is {status}")
    if resource.get("doNotPerform") is True:
        raise Withdrawn("the record forbids what it names")
    return Reading("yes", _moment_of(resource, ("authoredOn",), as_of), resource)


_Reader = Callable[["Content", "FactSpec", Resource, Resource, AsOf], Reading]
_READERS: dict[str, _Reader] = {
    "Observation": _read_observation,
    "Procedure": _read_procedure,
    "Condition": _read_condition,
    "Encounter": _read_encounter,
    "ServiceRequest": _read_request,
}


def _side_of(reading: Reading) -> str:
    """What a record or its component says about the side, as text, to tell two of them apart."""
    site = reading.record.get("bodySite")
    code = member_of(reading.part or {}, "code")
    text = code.get("text") if isinstance(code, dict) else None
    said = (_code_of(site), site.get("text") if isinstance(site, dict) else None, text)
    return "|".join(each for each in said if isinstance(each, str))


def _read_time(part: Resource, resource: Resource, as_of: AsOf) -> Reading:
    if "valueDateTime" in part:
        moment = as_of.moment(part["valueDateTime"])
        if moment is None:
            raise Unusable(_why_unread(part["valueDateTime"], "the time cannot be read"))
    elif _has_value(part):
        raise Unusable("a time is due here")
    else:
        moment = _moment_of(resource, ("effectiveDateTime", "effectivePeriod"), as_of)
    return Reading(moment.text, moment, resource)


def _read_birth(resource: Resource, times: tuple[str, ...], rank: int, as_of: AsOf) -> Reading:
    """The time of a birth by the members ``times`` of a record: within its period, if it has one.

    If a Condition has only the date of recording, the birth was at most ``BIRTH_WRITTEN_WITHIN``
    before that.
    """
    for name in times:
        written = resource.get(name)
        if isinstance(written, dict):
            start, end = as_of.moment(written.get("start")), as_of.moment(written.get("end"))
            if start is not None:
                latest = end.latest if end is not None else as_of.now
                if end is None and rank != 3:
                    latest = start.latest
                moment = Moment(start.earliest, max(start.earliest, latest), start.text)
                return Reading(moment.text, moment, resource, rank=rank)
    recorded = as_of.moment(resource.get("recordedDate"))
    if recorded is not None and not any(resource.get(name) for name in times):
        earliest = recorded.earliest - BIRTH_WRITTEN_WITHIN
        moment = Moment(earliest, recorded.latest, recorded.text)
        return Reading(moment.text, moment, resource, rank=RECORDED_ONLY)
    moment = _moment_of(resource, times, as_of)
    return Reading(moment.text, moment, resource, rank=rank)


def birth_of_newborn(patient: Resource, as_of: AsOf) -> Reading | None:
    """The time of birth in a Patient resource: ``patient-birthTime``, or else ``birthDate``."""
    more = patient.get("_birthDate")
    extensions = more.get("extension") if isinstance(more, dict) else None
    for extension in extensions if isinstance(extensions, list) else ():
        if isinstance(extension, dict) and extension.get("url") == BIRTH_TIME:
            moment = as_of.moment(extension.get("valueDateTime"))
            if moment is not None:
                return Reading(moment.text, moment, patient)
    moment = as_of.moment(patient.get("birthDate"))
    return None if moment is None else Reading(moment.text, moment, patient, rank=1)


def death_of_newborn(patient: Resource, as_of: AsOf) -> Reading | None:
    """The death in the Patient resource of a newborn, with its time; ``None`` if there is none.

    Without a time, it is taken to lie between the birth and now. "Not deceased" is often the
    default of a form, and says nothing.
    """
    moment = as_of.moment(patient.get("deceasedDateTime"))
    if moment is None and patient.get("deceasedBoolean") is True:
        born = birth_of_newborn(patient, as_of)
        earliest = born.moment.earliest if born is not None else as_of.now
        moment = Moment(min(earliest, as_of.now), as_of.now, "")
    if moment is None:
        return None
    return Reading(DIED, moment, patient, site=str(patient.get("id")))


def _moment_of(resource: Resource, names: tuple[str, ...], as_of: AsOf) -> Moment:
    """The first of the members ``names`` that can be read as a time. Raises ``Unusable``.

    Of an ``effectivePeriod``, this is the end, if it has one; of any other period, the start.
    """
    why = "it has no time that can be read"
    for name in names:
        written = resource.get(name)
        if written is None:
            continue
        if isinstance(written, dict):
            end = written.get("end") if name == "effectivePeriod" else None
            written = end or written.get("start")
        moment = as_of.moment(written)
        if moment is not None:
            return moment
        why = _why_unread(written, why)
    raise Unusable(why)


def _why_unread(written: object, otherwise: str) -> str:
    return "its time has no offset" if lacks_offset(written) else otherwise


def _number(content: Content, spec: FactSpec, part: Resource) -> float:
    quantity = part.get("valueQuantity")
    if quantity is None:
        if spec.answers and "valueCodeableConcept" in part:  # its answers are numbers
            return float(_answer(content, spec, part))
        if "valueInteger" not in part:
            raise _without_value(part)
        quantity = Quantity(part["valueInteger"])
    elif not isinstance(quantity, Quantity):
        quantity = msgspec.convert(quantity, Quantity)
    if quantity.comparator and not spec.limits_count:
        raise Unusable("its value is a limit, not a number")
    number = quantity.value
    if type(number) is not float and type(number) is not int:
        raise Unusable("its value is not a number")
    unit = quantity.code or quantity.unit
    if spec.unit is not None and not unit:
        raise Unusable("its number has no unit, and none is guessed")
    converted = content.lookup.convert(spec.id, float(number), unit)
    if converted is None:
        raise Unusable("its unit is of another kind")
    if not abs(converted) < spec.most:
        raise Unusable("its value is too large to be one")
    if converted < 0 and not spec.may_be_negative:
        raise Unusable("its value is below zero")
    if quantity.comparator is None:
        return converted
    return _next_to_limit(converted, str(quantity.comparator))


def _next_to_limit(limit: float, comparator: str) -> float:
    """The number next to a limit: "<20" is just below 20."""
    towards = {"<": -math.inf, "<=": limit, ">=": limit, ">": math.inf}.get(comparator)
    if towards is None:
        raise Unusable("its value is a limit, not a number")
    return math.nextafter(limit, towards)


def _yes_or_no(content: Content, spec: FactSpec, part: Resource) -> str:
    if isinstance(part.get("valueBoolean"), bool):
        return "yes" if part["valueBoolean"] else "no"
    return _answer(content, spec, part)


def _answer(content: Content, spec: FactSpec, part: Resource) -> str:
    said = part.get("valueBoolean")
    if isinstance(said, bool):
        for name, meant in spec.answers.items():
            if meant.boolean is said:
                return name
        raise Unusable(f"its value is only {'yes' if said else 'no'}, which is no answer to this")
    concept = part.get("valueCodeableConcept")
    if not isinstance(concept, dict):
        raise _without_value(part)
    return _answer_in(content, spec, concept)


def _answer_in(content: Content, spec: FactSpec, concept: object) -> str:
    """The one answer that a CodeableConcept codes for. Raises ``Unusable``."""
    known = content.answers[spec.id]
    answers = {answer for coding in _codings_in(concept) for answer in known.find(coding)}
    if len(answers) == 1:
        (answer,) = answers
        return str(answer)
    raise Unusable("its answers contradict each other" if answers else "its answer is not known")


def _answer_said(
    content: Content, spec: FactSpec, resource: Resource, part: Resource
) -> str | None:
    """The answer of a record that does not count, for example because it has no date."""
    of_a_code = resource["resourceType"] != "Observation"
    concept = member_of(resource, "code") if of_a_code else part.get("valueCodeableConcept")
    try:
        return _answer_in(content, spec, concept)
    except (Unusable, TypeError, AttributeError, LookupError):
        return None


def _without_value(part: Resource) -> Unusable:
    if "valueString" in part:
        return Unusable("its value is plain text, which is not read")
    return Unusable("its value is of another kind" if _has_value(part) else "it has no value")


_VALUES: dict[str, Callable[[Content, FactSpec, Resource], float | str]] = {
    "quantity": _number,
    "number": _number,
    "yes-no": _yes_or_no,
    "coded": _answer,
}


def _object_in(resource: Resource, name: str) -> Resource:
    """A member that is an object; an empty one if there is none. Raises ``TypeError``."""
    member = resource.get(name) or {}
    if not isinstance(member, dict):
        raise TypeError(f"{name} is no object")
    return member


def _codings_in(concept: object) -> list[object]:
    """The codings of a CodeableConcept. Raises ``TypeError`` if it is none."""
    codings = concept.get("coding") or [] if isinstance(concept, dict) else None
    if not isinstance(codings, list):
        raise TypeError("no CodeableConcept")
    return codings


def _codes_of(concept: object) -> set[str]:
    codings = concept.get("coding") if isinstance(concept, dict) else None
    return {
        coding["code"]
        for coding in islice(codings or (), MOST_CODINGS)
        if isinstance(coding, dict) and isinstance(coding.get("code"), str)
    }


def _code_of(concept: object) -> str | None:
    if isinstance(concept, dict):
        for coding in islice(concept.get("coding") or (), MOST_CODINGS):
            code = coding.get("code") if isinstance(coding, dict) else None
            if isinstance(code, str):
                return code
    return None


def _combine(
    spec: FactSpec,
    readings: Iterable[Reading],
    problems: list[Problem],
    chart: Chart,
    now: float,
    time_zone: tzinfo | None,
) -> FactValue:
    partly_read = bool(chart.partial) and not chart.partial.isdisjoint(spec.keys)
    fact = FactValue(spec, problems=problems, partly_read=partly_read)
    oldest = now - spec.window
    counted: list[Reading] = []
    before: list[Reading] = []
    vague = False
    for reading in readings:
        moment = reading.moment
        if moment.earliest > now + CLOCK_TOLERANCE:
            problems.append(Problem("its time is in the future", reading.reference))
        elif moment.earliest > oldest or reading.still_so:
            counted.append(reading)
        elif moment.latest <= oldest:
            before.append(reading)
        else:
            vague = True
            reason = "its time is too vague for this"
            problems.append(Problem(reason, reading.reference, moment=moment, has_value=True))
    if spec.type == "yes-no":
        fact.ever = any(map(_says_it_was_so, (*counted, *before)))
    if len(counted) > 1:
        counted.sort(key=_earliest)
    if len(before) > 1:
        before.sort(key=_earliest)
    if not counted:
        if before and not vague:
            fact.status = "stale"
            fact.too_old = before
            fact.time = before[-1].moment.text
        elif any(not problem.withdrawn for problem in problems):
            fact.status = "unusable"
            if spec.type == "time":
                _set_days_about(fact, now)
        elif _is_unread(spec, chart):
            fact.status = "not-available"
        return fact
    newest = counted[-1]
    if spec.type == "time":
        _settle_time(fact, counted, now)
    elif spec.combine == "sum":
        fact.unread = _unread_after(oldest, problems, now)
        _settle_sum(fact, counted, before, now)
        _count_nights(fact, counted, time_zone)
    elif any(each.has_value for each in _unread_after(newest.moment.latest, problems, now)):
        fact.status = "unusable"
        fact.references = _references_to([newest])
    elif spec.by_infant:
        _settle_outcomes(fact, counted, chart.newborn_ids, now)
    else:
        rivals = [
            reading
            for reading in counted[:-1]
            if reading.value != newest.value
            and newest.moment.earliest - reading.moment.earliest <= spec.contradicts_within
        ]
        fact.status = "conflicting" if rivals else "known"
        fact.references = _references_to([newest, *rivals])
        if not rivals:
            fact.value = newest.value
            fact.measures["held"] = now - _held_since(counted)
    fact.moment = fact.moment or newest.moment
    fact.time = fact.moment.text
    return fact


def _set_days_about(fact: FactValue, now: float) -> None:
    """Set ``days-about``: how many days ago, at least, the time of an unusable record was."""
    moments = [each.moment.latest for each in fact.problems if each.moment is not None]
    since = [now - min(moment, now) for moment in moments if moment - now < 2 * FARTHEST_OFFSET]
    if since:
        fact.measures["days-about"] = float(min(since) // DAY)


def _says_it_was_so(reading: Reading) -> bool:
    """Whether a record says yes, or is a Condition, which may have ended."""
    return reading.value == "yes" or reading.record["resourceType"] == "Condition"


def _unread_after(start: float, problems: list[Problem], now: float) -> list[Problem]:
    """The problems of records that could not be read and may lie between ``start`` and ``now``."""
    return [
        problem
        for problem in problems
        if not problem.withdrawn
        and problem.moment is not None
        and problem.moment.latest > start
        and problem.moment.earliest <= now + CLOCK_TOLERANCE
    ]


def _earliest(reading: Reading) -> float:
    return reading.moment.earliest


def _references_to(readings: list[Reading]) -> list[str]:
    return [reading.reference for reading in readings[:MOST_REFERENCES]]


def _held_since(readings: list[Reading]) -> float:
    """Since when the newest value holds: the time of its first record with no other value since."""
    since = readings[-1]
    for reading in reversed(readings):
        if reading.value != since.value:
            break
        since = reading
    return since.moment.latest


def _settle_time(fact: FactValue, counted: list[Reading], now: float) -> None:
    """Set the time of the last birth, or ``conflicting`` if records contradict each other.

    A record is of the same birth as the newest one if it is at most ``BIRTHS_AGREE_WITHIN`` before
    it, and of an earlier birth if it is more than the fact's ``contradicts_within`` before it. Any
    other record contradicts the newest one.
    """
    # A date of recording may be weeks after the birth: it counts only if no record says more.
    dated = [reading for reading in counted if reading.rank != RECORDED_ONLY] or counted
    newest = dated[-1].moment
    same: list[Reading] = []
    for reading in dated:
        distance = newest.earliest - reading.moment.latest
        if distance <= BIRTHS_AGREE_WITHIN:
            same.append(reading)
        elif distance <= fact.spec.contradicts_within:
            fact.status = "conflicting"
    if fact.status == "conflicting":
        fact.references = _references_to(dated)
        return
    fact.references = _references_to(same)
    chosen = min(reversed(same), key=_vagueness)
    fact.status = "known"
    fact.value = chosen.value
    fact.moment = chosen.moment
    # Without a time of day, ``hours`` is the least time that can have passed: to expect too little
    # milk is the safer error. In the first two days that is too vague, and hours stay unknown.
    since = max(0.0, now - min(chosen.moment.latest, now))
    width = _width(chosen)
    if width <= max(DAY, since / 10):
        fact.measures["days"] = float((now - chosen.moment.earliest) // DAY)
        if width <= TO_THE_HOUR or since >= 2 * DAY:
            fact.measures["hours"] = since / HOUR
    elif chosen.rank == RECORDED_ONLY:
        fact.problems.append(Problem(RECORDED_WHEN, chosen.reference, True, None, True))


def _settle_outcomes(
    fact: FactValue, counted: list[Reading], newborns: set[str], now: float
) -> None:
    """Set the outcome of the birth from the outcome of each infant: alive if one is.

    A record that names no infant is about the only one. If there are several infants, it is about
    each that has no record of its own; but if it says that an infant died, nothing says which one,
    and the outcome is conflicting.
    """
    fact.references = _references_to(counted)
    by_infant: dict[str, list[Reading]] = {name: [] for name in sorted(newborns)}
    for reading in counted:
        if reading.site:
            by_infant.setdefault(reading.site, []).append(reading)
    unnamed = [reading for reading in counted if not reading.site]
    if len(by_infant) <= 1:
        infants = [[*unnamed, *(r for own in by_infant.values() for r in own)]]
    elif any(reading.value == DIED for reading in unnamed):
        fact.status = "conflicting"
        return
    else:
        infants = [own or unnamed for own in by_infant.values()]
    outcomes = [_outcome_of(records) for records in infants]
    if None in outcomes:
        fact.status = "conflicting"
        return
    lost = [outcome for outcome in outcomes if outcome in (STILLBORN, DIED)]
    fact.status = "known"
    fact.value = lost[-1] if len(lost) == len(outcomes) else LIVING
    fact.measures["lost"] = float(len(lost) + _is_another_death(unnamed, by_infant))
    if lost:
        last = max(each.moment.latest for each in counted if each.value in (STILLBORN, DIED))
        fact.measures["held"] = max(0.0, now - last)


def _is_another_death(unnamed: list[Reading], by_infant: dict[str, list[Reading]]) -> bool:
    """Whether a death that names no infant is later than each loss of a named infant.

    It is then the death of another infant.
    """
    named = [r.moment.latest for own in by_infant.values() for r in own if r.value != LIVING]
    deaths = [reading.moment.earliest for reading in unnamed if reading.value == DIED]
    return bool(named and deaths) and max(deaths) > max(named)


def _outcome_of(records: list[Reading]) -> str | None:
    """The outcome of one infant; ``None`` if its records contradict each other.

    An infant that was alive may have died since then. A diagnosis of a live birth is about the
    birth, whenever it was recorded.
    """
    living = [each for each in records if each.value == LIVING]
    lost = [each for each in records if each.value != LIVING]
    if not lost:
        return LIVING
    last = lost[-1]
    if living and any(each.value == STILLBORN for each in lost):
        return None
    if any(each.rank == 0 and each.moment.earliest > last.moment.latest for each in living):
        return None
    return str(last.value)


def _width(reading: Reading) -> float:
    return reading.moment.latest - reading.moment.earliest


def _vagueness(reading: Reading) -> tuple[int, int, float]:
    """A key to sort records of a birth by: the most exact time has the lowest key."""
    width = _width(reading)
    return (width > TO_THE_HOUR) + (width > DAY), reading.rank, width


def _settle_sum(fact: FactValue, counted: list[Reading], before: list[Reading], now: float) -> None:
    """Set the measures of a sum, from its sessions and totals.

    Records of the same time are one session, and their amounts are added (left and right). A record
    over ``SHORTEST_TOTAL`` or more is a total, and is not added to the sessions: of the total and
    the sum of the sessions, the larger one is more complete and counts. A total over more than the
    fact's window plus ``TOTAL_MARGIN`` is not used.
    """
    totals = [reading for reading in counted if reading.spans >= SHORTEST_TOTAL]
    if totals:
        counted = [reading for reading in counted if reading.spans < SHORTEST_TOTAL]
        before = [reading for reading in before if reading.spans < SHORTEST_TOTAL]
        longest = fact.spec.window + TOTAL_MARGIN
        for reading in totals:
            if reading.spans > longest:
                reason = "it is a total of more than the time that is judged"
                fact.problems.append(Problem(reason, reading.reference))
        totals = [reading for reading in totals if reading.spans <= longest]
        if not (totals or counted):
            fact.status = "unusable"
    if counted:
        _add_sessions(fact, counted, before, now)
    if totals:
        _compare_with_totals(fact, totals)


def _compare_with_totals(fact: FactValue, totals: list[Reading]) -> None:
    """Take the newest total instead of the sum of the sessions, if the total is larger.

    Some sessions were then not recorded, and their count is dropped. If the total is equal to the
    sum, all sessions were recorded.
    """
    newest = totals[-1]
    assert isinstance(newest.value, float)
    measures = fact.measures
    fact.status = "known"
    if newest.value > measures.get("sum-so-far", -1.0):
        measures["sum-so-far"] = newest.value
        fact.moment = fact.moment or newest.moment
        fact.references = [*_references_to([newest]), *fact.references][:MOST_REFERENCES]
        for name in ("sum", "count"):
            measures.pop(name, None)
        if newest.spans >= fact.spec.covered:
            measures["sum"] = newest.value
            measures["covered"] = newest.spans
    elif newest.spans >= fact.spec.covered and newest.value == measures["sum-so-far"]:
        _close_the_day(fact)


def _add_sessions(
    fact: FactValue, counted: list[Reading], before: list[Reading], now: float
) -> None:
    """Set the measures of a sum from its sessions."""
    total = latest = 0.0
    sessions: list[float] = []
    fact.references = _references_to(counted)
    for time, together in groupby(counted, _earliest):
        latest = sum(_amounts(list(together), fact.problems))
        total += latest
        sessions.append(time)
    fact.status = "known"
    measures = fact.measures
    fact.value = measures["latest"] = latest
    measures["sum-so-far"] = total
    measures["count-so-far"] = float(len(sessions))
    # A gap longer than ``record_break`` is taken for missing records, not for a pause: the records
    # cover only the time after it.
    earlier = [each.moment.earliest for each in before if each.moment.exact]
    chain = _since_last_break([*earlier, *sessions], fact.spec.record_break)
    start = max(chain[0], now - fact.spec.window)
    measures["covered"] = sessions[-1] - start + min(now - sessions[-1], fact.spec.record_break)
    newest = counted[-1].moment.latest
    if any(each.moment is not None and each.moment.latest >= newest for each in fact.unread):
        del measures["latest"]  # an unread record is later, or of the same session
    if fact.partly_read or fact.unread:
        return  # unread records may add to the sum, and may lie in a gap
    if measures["covered"] >= fact.spec.covered:
        _close_the_day(fact)
    if all(reading.moment.exact for reading in counted):
        inside = [time for time in chain if time > now - fact.spec.window]
        preceding = chain[-len(inside) - 1 : -len(inside)]
        times = [*preceding, *inside]
        if len(times) > 1:
            pairs = pairwise(times)
            measures["longest-gap"] = max(later - sooner for sooner, later in pairs)


def _count_nights(fact: FactValue, counted: list[Reading], time_zone: tzinfo | None) -> None:
    """Set how many sessions were at night, if the local hour of each session is known.

    That no session was at night is known only if the records cover the day.
    """
    sessions = {r.moment.earliest: r.moment for r in counted if r.spans < SHORTEST_TOTAL}
    hours = [_local_hour(moment, time_zone) for moment in sessions.values()]
    at_night = sum(hour in NIGHT for hour in hours)
    if hours and None not in hours and (at_night or "count" in fact.measures):
        fact.measures["night-sessions"] = float(at_night)


def _local_hour(moment: Moment, time_zone: tzinfo | None) -> int | None:
    """The hour of the day in ``time_zone``, or if that is not known, by the record's own offset.

    An offset of zero says nothing of the place: many systems write all times in UTC.
    """
    if not moment.exact:
        return None
    written = datetime.fromisoformat(moment.text)
    if time_zone is not None:
        return written.astimezone(time_zone).hour
    return written.hour if written.utcoffset() else None


def _amounts(together: list[Reading], problems: list[Problem]) -> Iterator[float]:
    """The amounts that were recorded for one time, without those of a record that was sent twice.

    Two records with different ids are left and right, even if they are equal: a chart has only one
    record of each id. Equal records count once if they have no id, or if each has both sides in
    its components.
    """
    seen: set[tuple[str, float, str, int]] = set()
    parts = Counter(id(reading.record) for reading in together)
    alike: Counter[tuple[int, float, str]] = Counter()  # equal parts of one record
    for reading in together:
        amount = reading.value
        assert isinstance(amount, float)
        if len(together) > 1:  # seldom
            part = (id(reading.record), amount, _side_of(reading))
            alike[part] += 1
            one_side = reading.reference if parts[id(reading.record)] == 1 else ""
            key = (one_side, amount, part[2], alike[part])
            if key in seen:
                problems.append(Problem("it repeats another record", reading.reference, True))
                continue
            seen.add(key)
        yield amount


def _close_the_day(fact: FactValue) -> None:
    """Take the recorded sessions as all that there were in the window."""
    fact.measures["sum"] = fact.measures["sum-so-far"]
    fact.measures["count"] = fact.measures["count-so-far"]


def _since_last_break(times: list[float], longest: float) -> list[float]:
    """The times after the last gap longer than ``longest`` seconds. ``times`` ascend."""
    start = len(times) - 1
    while start > 0 and times[start] - times[start - 1] <= longest:
        start -= 1
    return times[start:]


def _newer_count(reported: FactValue, recorded: FactValue) -> FactValue:
    """The reported count of sessions, or the number of recorded sessions, if that is newer.

    If the reported count is the newer one and both are equal, all sessions of the day were
    recorded: then the measures of ``recorded`` are completed.
    """
    if reported.status == "conflicting":
        return reported
    if (
        reported.value is not None
        and reported.moment is not None
        and recorded.moment is not None
        and reported.moment.earliest >= recorded.moment.earliest
    ):
        if reported.value == recorded.measure("count-so-far") and not (
            recorded.partly_read or recorded.unread
        ):
            _close_the_day(recorded)
        return reported
    count = recorded.measure("count")
    if count is None:
        return reported
    return msgspec.structs.replace(
        reported,
        status="known",
        value=count,
        time=recorded.time,
        moment=recorded.moment,
        references=recorded.references,
    )
