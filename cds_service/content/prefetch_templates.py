"""Prefetch templates: the FHIR searches by which EHRs send the records that facts are read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

from .codes import CodeIndex
from .entries import Entries
from .fact_types import FactSpec
from .schema import OWN_ACTIVITY, OWN_FACT, PrefetchKey

# FHIR search parameters that take a code, by resource type.
CODE_PARAMETER = {"Encounter": "type"}
# How the addresses of the code systems of diagnoses and procedures begin.
DIAGNOSES = (
    "http://snomed.info/sct",
    "http://hl7.org/fhir/sid/icd-",
    "http://fhir.de/CodeSystem/",
    "http://www.cms.gov/Medicare/Coding/ICD10",
)
LONGEST_TEMPLATE = 1500  # characters, percent-encoded: servers and proxies refuse over 2,000


def templates_of(key: PrefetchKey, entries: Entries, activities: CodeIndex[str]) -> list[str]:
    """The prefetch templates of a key, made from the codes of its facts and activities.

    There are several if one alone would be longer than ``LONGEST_TEMPLATE`` when percent-encoded.
    They use only what CDS Hooks 2.0.1 recommends that every client supports: a type-level search
    with token equality, ``_sort`` and ``_count``, and root-level context tokens.
    """
    if key.by_id:
        return [f"{key.resource}/{{{{context.patientId}}}}"]
    start = f"{key.resource}?{key.search_by}={{{{context.patientId}}}}"
    end = f"&{key.search}" if key.search else ""
    codes: list[tuple[str, str]] = []
    if key.by_code:
        for spec in entries.facts.values():
            if _comes_under(spec, key):
                codes += _searched_codes(spec, key, entries)
    if key.by_activity:
        # A token with a system and no code finds all codes of the system (FHIR R4, "token").
        codes += [(OWN_ACTIVITY, "")]
        codes += [pair for pair in activities if pair[0] != OWN_ACTIVITY]
    if not codes:
        return [start + end]
    start += f"&{CODE_PARAMETER.get(key.resource, 'code')}="
    unique = dict.fromkeys(f"{system}|{code}" for system, code in codes)
    longest = LONGEST_TEMPLATE - _encoded_length(start + end)
    if _encoded_length(",".join(unique)) > longest:  # all of our own system is shorter
        others = [token for token in unique if not token.startswith(f"{OWN_FACT}|")]
        unique = dict.fromkeys([f"{OWN_FACT}|", *others])
    return [start + ",".join(part) + end for part in _parts(unique, longest)]


def _searched_codes(spec: FactSpec, key: PrefetchKey, entries: Entries) -> list[tuple[str, str]]:
    """The codes by which records of a fact are searched under a key.

    Observations are not searched by codes of diagnoses and procedures.
    """
    codes = entries.codes_of(spec.id)
    sources = {source.resource for source in spec.also_from}
    if key.resource != "Observation" or "Condition" not in sources:
        return codes
    return [pair for pair in codes if not pair[0].startswith(DIAGNOSES)]


def _encoded_length(text: str) -> int:
    """The length of a template when percent-encoded, with a patient id of 64 characters."""
    text = text.replace("{{context.patientId}}", "x" * 64)
    return len(quote(text, safe="?&="))


def _parts(tokens: Iterable[str], longest: int) -> Iterator[list[str]]:
    """Split tokens into lists that are each at most ``longest`` characters when encoded."""
    part: list[str] = []
    left = longest
    for token in tokens:
        length = _encoded_length(f"{token},")
        if part and length > left:
            yield part
            part, left = [], longest
        part.append(token)
        left -= length
    yield part


def _comes_under(spec: FactSpec, key: PrefetchKey) -> bool:
    if key.resource == "Observation":
        return spec.prefetch == key.id
    return any(source.prefetch == key.id for source in spec.also_from)
