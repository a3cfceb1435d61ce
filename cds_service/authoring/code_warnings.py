"""Warnings about the codes of the content: an author should look at them; none is a fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..content.codes import CodeSet, Compose, Pair, ValueSet
from ..content.compiled import Content
from ..content.schema import VALUE_SET

LOINC, SNOMED_CT = "http://loinc.org", "http://snomed.info/sct"
NOTICES = {LOINC: "LOINC", SNOMED_CT: "SNOMED CT"}  # the names that a copyright must contain
UNKNOWN = "systems that are in no entry of 'systems'"
_LOINC_TERM = re.compile(r"(\d{1,7})-(\d)")
_NO_TERM = ("LA", "LP", "LL")  # prefixes of answers, parts and lists: these are not checked


class ContentWarning(NamedTuple):
    """Something in the content that a person should look at, and that is not a fault.

    ``kind`` is the kind of warning, in words. ``text`` names the file, what is odd, and what to do.
    """

    kind: str
    text: str


def code_warnings(content: Content) -> Iterator[ContentWarning]:
    """The warnings about code systems, copyright notices, LOINC codes, and codes of two facts."""
    for file, value_set in content.value_set_files:
        compose = value_set.get("compose", Compose())
        notice = str(value_set.get("copyright", ""))
        parts = [*compose.get("include", ()), *compose.get("exclude", ())]
        for url in dict.fromkeys(str(part.get("system")) for part in parts):
            if url not in content.addresses and not url.startswith("urn:lactation-cds:"):
                yield ContentWarning(UNKNOWN, f"{file}: {_unknown_system(url)}")
            system = content.addresses[url].url if url in content.addresses else url
            name = NOTICES.get(system)
            if name is not None and name not in notice:
                text = f"{file}: it has codes of {name}: put its notice into 'copyright'"
                yield ContentWarning("codes without the notice of their system", text)
        for part in parts:
            for concept in part.get("concept", ()):
                if part.get("system") == LOINC and not is_loinc(concept["code"]):
                    yield ContentWarning(
                        "codes that cannot be of LOINC",
                        f"{file}: {concept['code']} cannot be a code of LOINC: its last digit is "
                        "not the check digit of the others; look it up",
                    )
    for url, name in {
        code.system: medicine.id
        for medicine in content.medicines.values()
        for code in medicine.codes
        if code.system not in content.addresses
    }.items():
        yield ContentWarning(UNKNOWN, f"medicines: {name}: {_unknown_system(url)}")
    yield from _codes_of_two_facts(content)


def is_loinc(code: str) -> bool:
    """Whether a code can be a LOINC code, by its check digit (Mod 10, also known as Luhn)."""
    if code.upper().startswith(_NO_TERM):
        return True
    term = _LOINC_TERM.fullmatch(code)
    if term is None:
        return False
    total = 0
    for place, digit in enumerate(reversed(term[1])):
        number = int(digit) * (2 if place % 2 == 0 else 1)
        total += number // 10 + number % 10
    return (10 - total % 10) % 10 == int(term[2])


def _unknown_system(url: str) -> str:
    return (
        f"{url} is in no entry of 'systems': correct it, or add an entry with this url "
        "(and 'same-as', if it is another name of one)"
    )


def _codes_of_two_facts(content: Content) -> Iterator[ContentWarning]:
    """A warning for each code that means two facts in one type of resource."""
    told: set[Pair] = set()
    for kind, index in content.lookup.by_code.items():
        for fact in content.facts:
            for pair in content.codes.get(VALUE_SET + fact, CodeSet()):
                system, code = pair
                specs = index.find({"system": system, "code": code})
                # One code of a birth may mean several facts: its time, the outcome, and the way.
                facts = [s.id for s in specs if s.type != "time" and not s.before_birth]
                if len(facts) > 1 and pair not in told:
                    told.add(pair)
                    files = (f for f, each in content.value_set_files if _is_of(each, facts))
                    yield ContentWarning(
                        "codes of two facts",
                        f"{', '.join(files)}: {code} of {system} means {' and '.join(facts)} "
                        f"in a {kind}: keep it where it belongs",
                    )


def _is_of(value_set: ValueSet, facts: list[str]) -> bool:
    return value_set["url"].removeprefix(VALUE_SET) in facts
