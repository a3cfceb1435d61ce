"""What the page for those who connect is made of: codes, prefetch keys, a sample, the settings.

``python -m tests.project.code_table`` writes each into ``docs/connect.md``, between its two marks.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import SecretStr

from cds_service.app import create_app
from cds_service.content.codes import CodeSet
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from cds_service.content.schema import VALUE_SET
from cds_service.settings import Settings, must_be, variable
from tests.support.calls import VIEW
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "connect.md"
WIDTH = 110  # of a line of the sample
SAMPLE_NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
MOST = 6  # codes of one system that are listed


def write_page(page: str, content: Content) -> str:
    """The page with what is so of today's content."""
    sample = f"```json\n{_compact(answer_to(sample_request(content), content))}\n```\n"
    asked = f"```json\n{_compact(sample_request(content))}\n```\n"
    pieces = {
        "codes": table(content),
        "keys": key_table(content),
        "answers": answer_table(content),
        "systems": system_table(content),
        "sample request": asked,
        "sample response": sample,
        "settings": setting_table(),
    }
    for name, made in pieces.items():
        begin, end = f"<!-- {name}: made by `make docs` -->\n", f"<!-- end of {name} -->\n"
        before, rest = page.split(begin)
        page = before + begin + made + end + rest.split(end)[1]
    return page


def setting_table() -> str:
    """The settings: the variable of each, its default, what it is, and what it must be."""
    lines = ["| setting | default | what it is | what it must be |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else str(field.default)
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{variable(name)}` | {shown} | {field.description} | {must_be(name)} |")
    return "\n".join([*lines, ""])


def key_table(content: Content) -> str:
    """The prefetch keys: what comes under each, the facts that can, and whether it is needed."""
    lines = ["| key | what is read | facts | needed |", "|---|---|---|---|"]
    for key in content.prefetch.values():
        facts = [f"`{fact.id}`" for fact in content.facts.values() if key.id in fact.keys]
        needed = "yes, else 412" if key.needed else "no" if key.asked else "not asked for"
        what = f"{key.resource}: {key.label}"
        lines.append(f"| `{key.id}` | {what} | {', '.join(facts)} | {needed} |")
    return "\n".join([*lines, ""])


def answer_table(content: Content) -> str:
    """The facts that are answered by a code: our code of each answer, with what it means."""
    lines = ["| fact | codes of `urn:lactation-cds:answer` |", "|---|---|"]
    yes_or_no = []
    for fact in content.facts.values():
        if fact.type == "yes-no":
            yes_or_no.append(f"`{fact.id}`")
        elif fact.answers:
            answers = [f"`{name}` ({answer.label})" for name, answer in fact.answers.items()]
            lines.append(f"| `{fact.id}` | {', '.join(answers)} |")
    either = f"By `yes` or `no`, or a `valueBoolean`: {', '.join(yes_or_no)}."
    return "\n".join([*lines, "", either, ""])


def system_table(content: Content) -> str:
    """The code systems, each with every address under which its codes are read."""
    lines = ["| system | address | read as the same |", "|---|---|---|"]
    for system in content.systems.values():
        if system.same_as is None:
            also = [each.url for each in content.systems.values() if each.same_as == system.id]
            others = ", ".join(f"`{address}`" for address in (*system.aliases, *also))
            lines.append(f"| {system.id} | `{system.url}` | {others} |")
    return "\n".join([*lines, ""])


def sample_request(content: Content) -> dict[str, Any]:
    """A call for a mother who nurses and smokes, three days after the birth."""

    def observed(name: str, fact: str, **value: Any) -> dict[str, Any]:
        coding = {"system": "urn:lactation-cds:fact", "code": fact}
        told = {"resourceType": "Observation", "id": name, "status": "final"}
        told |= {"code": {"coding": [coding]}, "subject": {"reference": "Patient/1"}}
        return {"resource": told | {"effectiveDateTime": "2026-01-15T11:00:00Z"} | value}

    smokes = {"coding": [{"system": "http://snomed.info/sct", "code": "77176002"}]}
    nurses = {"coding": [{"system": "urn:lactation-cds:answer", "code": "nurse"}]}
    records = [
        observed("plan", "feeding-plan", valueCodeableConcept=nurses),
        observed("birth", "delivery-time", valueDateTime="2026-01-12T12:00:00Z"),
        observed("smoking", "smoking-status", valueCodeableConcept=smokes),
    ]
    nothing = dict.fromkeys(content.prefetch_templates)
    return {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/2", "patientId": "1"},
        "prefetch": nothing
        | {"motherObservations": {"resourceType": "Bundle", "type": "searchset", "entry": records}},
    }


def answer_to(request: Any, content: Content) -> Any:
    """What the service answers, with ids and a version that are always the same."""
    with TemporaryDirectory() as aside:
        settings = Settings(
            auth="open",
            clients=None,
            database_url=f"sqlite:///{aside}/sample.sqlite3",
            patient_key=SecretStr(""),
            explain=False,
            jurisdiction="US",
            time_zone=None,
        )
        client = create_app(settings, content, lambda: SAMPLE_NOW).test_client()
        text = client.post(VIEW, json=request).get_data(as_text=True)
    uuids = dict.fromkeys(re.findall(r'"uuid":"([^"]+)"', text))
    for number, uuid in enumerate(uuids, 1):
        text = text.replace(uuid, f"00000000-0000-7000-8000-{number:012}")
    return json.loads(text.replace(content.version, "0123456789ab"))


def _compact(value: Any, indent: int = 0, before: int = 0) -> str:
    """JSON of which each part stands on one line, if it has room there."""
    flat = json.dumps(value, ensure_ascii=False)
    if indent + before + len(flat) < WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        names = {name: f"{json.dumps(name)}: " for name in value}
        parts = [names[n] + _compact(v, indent + 2, len(names[n])) for n, v in value.items()]
        opened, closed = "{}"
    else:
        parts = [_compact(each, indent + 2) for each in value]
        opened, closed = "[]"
    lines = ",\n".join(inner + part for part in parts)
    return f"{opened}\n{lines}\n{' ' * indent}{closed}"


def table(content: Content) -> str:
    """Facts, orders and feeds with their standard codes; then the facts that have none."""
    names = {fact.id: fact.label for fact in content.facts.values()}
    names |= {f"activity-{name}": a.label for name, a in content.interventions.items()}
    names |= {f"feed-{name}": f"{feed.name}, ordered" for name, feed in content.feeds.items()}
    lines = ["| what is read | standard codes |", "|---|---|"]
    without = []
    for name, label in names.items():
        codes = content.codes.get(VALUE_SET + name)
        if codes is not None:
            lines.append(f"| {label} (`{name}`) | {_in_words(codes, content)} |")
        elif name in content.facts:
            without.append(label)
    none = f"No standard code is read for: {', '.join(without)}."
    return "\n".join([*lines, "", none, ""])


def _in_words(codes: CodeSet, content: Content) -> str:
    ids = {system.url: system.id for system in content.systems.values()}
    systems = dict.fromkeys(url for url, _ in (*codes.concepts, *codes.families))
    said = []
    for url in systems:
        listed = [code for of, code in codes if of == url]
        more = f" and {len(listed) - MOST} more" if len(listed) > MOST else ""
        parts = [", ".join(listed[:MOST]) + more] if listed else []
        families = [
            f"{code}*" for (of, code), counts in codes.families.items() if of == url and counts
        ]
        parts += [", ".join(families)] if families else []
        out = [
            f"{code}*" for (of, code), counts in codes.families.items() if of == url and not counts
        ]
        without = f" without {', '.join(out)}" if out else ""
        said.append(f"{ids.get(url, url)}: {', '.join(parts)}{without}")
    return "<br>".join(said)


if __name__ == "__main__":
    PAGE.write_text(write_page(PAGE.read_text(), load_content()))
