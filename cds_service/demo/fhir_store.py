"""A small FHIR store in memory: read, search and create, as far as the demo needs them.

It supports only the search parameters of the prefetch templates (``patient``, codes, ``status``,
``_sort``, ``_count`` with ``next`` links). Created resources are kept until a reset. It is for
synthetic data only.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlencode

from ..authoring.vignettes import Resource, Vignette

# Search parameters for codes, and the elements that they search.
CODE_FIELDS = {"code": ("code",), "type": ("type",), "category": ("category",)}
TIME_FIELDS = ("effectiveDateTime", "authoredOn", "performedDateTime", "recordedDate")
PAGE = 200
FRESH = timedelta(minutes=10)


class UnknownParameterError(ValueError):
    """A search parameter that is not supported."""


class SearchFailedError(Exception):
    """A search that fails because the vignette says so (``fails``); not an error of the caller."""


class FhirStore:
    """Resources by type and id. Safe to use from several threads."""

    def __init__(self, mothers: Iterable[Vignette], now: datetime) -> None:
        self._mothers = list(mothers)
        self._failing = {mother.patient_id: mother.expected.fails for mother in self._mothers}
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, str], Resource] = {}
        self._created: dict[tuple[str, str], Resource] = {}
        self._loaded_at = now
        self.reset(now)

    def reset(self, now: datetime) -> None:
        """Forget what was created, and load the mothers as of ``now``."""
        with self._lock:
            self._created = {}
        self._load(now)

    def keep_fresh(self, now: datetime) -> None:
        """Move the times of the mothers to ``now`` if they are older than ``FRESH``."""
        if now - self._loaded_at > FRESH:
            self._load(now)

    def _load(self, now: datetime) -> None:
        loaded: dict[tuple[str, str], Resource] = {}
        for mother in self._mothers:
            for entry in mother.at(now)["entry"]:
                resource = entry["resource"]
                loaded[resource["resourceType"], resource["id"]] = resource
        with self._lock:
            self._loaded, self._loaded_at = loaded, now

    def read(self, kind: str, identifier: str) -> Resource | None:
        """One resource, or ``None``."""
        with self._lock:
            return self._created.get((kind, identifier)) or self._loaded.get((kind, identifier))

    def create(self, resource: Resource) -> Resource:
        """Store a resource with a new id. Returns the resource with this id."""
        kept = {**resource, "id": str(uuid.uuid4())}
        with self._lock:
            self._created[kept["resourceType"], kept["id"]] = kept
        return kept

    def search(self, base: str, kind: str, query: str) -> Resource:
        """A searchset Bundle, one page of it.

        Raises ``UnknownParameterError``, and ``SearchFailedError`` where a vignette says so.
        """
        parameters = parse_qsl(query, keep_blank_values=True)
        count, offset, newest_first = PAGE, 0, False
        with self._lock:
            known = {**self._loaded, **self._created}
        found = [resource for (kept, _), resource in known.items() if kept == kind]
        for name, value in parameters:
            if name == "_count":
                count = max(1, int(value))
            elif name == "_offset":
                offset = max(0, int(value))
            elif name == "_sort":
                newest_first = value.startswith("-")
            elif name == "_id":
                found = [r for r in found if r["id"] in value.split(",")]
            elif name in ("patient", "subject"):
                patient = value.removeprefix("Patient/")
                if kind in self._failing.get(patient, ()):
                    raise SearchFailedError
                wanted = f"Patient/{patient}"
                found = [r for r in found if _subject(r) == wanted]
            elif name == "status":
                found = [r for r in found if r.get("status") in value.split(",")]
            elif name in CODE_FIELDS:
                tokens = set(value.split(","))
                found = [r for r in found if tokens & _tokens(r, CODE_FIELDS[name])]
            else:
                raise UnknownParameterError(name)
        if newest_first:
            found.sort(key=_time, reverse=True)
        page = found[offset : offset + count]
        bundle: Resource = {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
        if offset + count < len(found):
            rest = [pair for pair in parameters if pair[0] != "_offset"]
            rest.append(("_offset", str(offset + count)))
            bundle["link"] = [{"relation": "next", "url": f"{base}/{kind}?{urlencode(rest)}"}]
        if page:
            bundle["entry"] = [
                {
                    "fullUrl": f"{base}/{kind}/{resource['id']}",
                    "resource": resource,
                    "search": {"mode": "match"},
                }
                for resource in page
            ]
        return bundle


def _subject(resource: Resource) -> str | None:
    for name in ("subject", "patient", "for"):
        if name in resource:
            reference = resource[name].get("reference")
            return reference if isinstance(reference, str) else None
    return None


def _tokens(resource: Resource, fields: tuple[str, ...]) -> set[str]:
    tokens: set[str] = set()
    for field in fields:
        concepts = resource.get(field) or []
        for concept in concepts if isinstance(concepts, list) else [concepts]:
            for coding in concept.get("coding", ()):
                tokens.add(f"{coding.get('system')}|{coding.get('code')}")
                tokens.add(str(coding.get("code")))
                tokens.add(f"{coding.get('system')}|")
    return tokens


def _time(resource: Resource) -> float:
    for name in TIME_FIELDS:
        if name in resource:
            return datetime.fromisoformat(resource[name]).timestamp()
    return 0.0
