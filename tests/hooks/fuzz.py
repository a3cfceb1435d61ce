"""Break the repository's own requests and see that nothing but a clean answer comes back.

``python -m tests.hooks.fuzz --requests 100000`` runs the service as a process of its own and sends
it the calls for all synthetic mothers, each broken in one to three ways: members of another type,
lengths, numbers at the edge, odd texts, depth, encodings, duplicated keys, bytes. The seed is
printed; the same seed sends the same requests. It fails if an answer is 5xx, is not as described,
takes longer than two seconds, tells of a rule that could not be evaluated, or if the service grows.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import orjson
import requests
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.processes import children, resident
from cds_service.authoring.vignettes import vignettes
from cds_service.content.loader import load_content
from cds_service.demo.ehr import EXAMPLE_SERVER, hook_request, prefetch_from
from cds_service.demo.fhir_store import FhirStore
from tests.support.processes import free_port, started
from tests.support.recorded import SCHEMAS

MOST_BYTES = 200_000  # of an answer
MOST_GROWTH = (
    0.03  # of memory from the second quarter of a run, when all caches are full, to its last
)
MOMENTS = 20  # at which memory is looked at

Shape = Callable[[random.Random], Any]

TEXTS: list[Shape] = [
    lambda _: "",
    lambda _: "\0",
    lambda _: "x" * 100_000,
    lambda _: "\u202e\u0644\u0628\u0646\u200d\U0001f37c",
    lambda _: "a\u0301" * 50,
    lambda _: "<script>alert(1)</script> {{context.patientId}} {x} [y](javascript:z)",
    lambda _: "| a | b |\n\n# c\r\n",
    lambda _: "../../etc/passwd",
    lambda _: "9999-12-31T23:59:59.999999+23:59",
    lambda _: "0001-01-01T00:00:00-23:59",
    lambda _: "2026-02-30",
    lambda _: "Patient/" * 20,
    lambda r: "".join(chr(r.choice((r.randrange(0xD800), 0x10FFFF))) for _ in range(20)),
]
NUMBERS: list[Shape] = [
    lambda _: 0,
    lambda _: -0.0,
    lambda _: -1,
    lambda _: 1e308,
    lambda _: 5e-324,
    lambda _: 2**63 - 1,
    lambda _: -(2**63),
    lambda _: 2**64 - 1,
    lambda _: 10**30,
    lambda _: 10**400,
    lambda _: 0.1 + 0.2,
    lambda r: r.uniform(-1e6, 1e6),
]
OTHERS: list[Shape] = [
    lambda _: None,
    lambda _: True,
    lambda _: [],
    lambda _: {},
    lambda _: [None],
    lambda _: [[]],
    lambda _: {"resourceType": "Observation"},
    lambda _: {"resourceType": "OperationOutcome"},
    lambda _: {"resourceType": "Bundle", "entry": [None, {}, {"resource": 3}]},
    lambda _: {"coding": [{"code": []}, None]},
]


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every member of a document: what holds it, and its name or number there."""
    pending = [document]
    while pending:
        holder = pending.pop()
        names = holder if isinstance(holder, dict) else range(len(holder))
        for name in names:
            yield holder, name
            if isinstance(holder[name], dict | list):
                pending.append(holder[name])


def break_document(document: Any, chance: random.Random) -> None:
    """Change one member somewhere."""
    there = list(places(document))
    if not there:
        return
    holder, name = chance.choice(there)
    way = chance.randrange(8)
    if way == 0:
        del holder[name]
    elif way == 1:
        holder[name] = chance.choice(NUMBERS)(chance)
    elif way == 2:
        holder[name] = chance.choice(OTHERS)(chance)
    elif way == 3:
        holder[name] = nested(chance.choice((10, 200, 900)))
    elif way == 4:
        holder[name] = [holder[name]] * chance.choice((2, 50))
    elif way == 5 and isinstance(holder, dict):
        holder[chance.choice(TEXTS)(chance)] = holder.pop(name)
    elif way == 6:
        other, from_there = chance.choice(there)
        holder[name] = copy.deepcopy(other[from_there])  # another member in its place
    else:
        holder[name] = chance.choice(TEXTS)(chance)


def double_a_key(body: bytes, chance: random.Random) -> bytes:
    """One key twice: the parser must make up its mind."""
    keys = list(re.finditer(rb'"[^"]*": ?', body))
    key = chance.choice(keys)
    again = key[0] + chance.choice((b"null,", b'"x",', b"[],", b"{},", b"1e999,"))
    return body[: key.start()] + again + body[key.start() :]


def flip_bytes(body: bytes, chance: random.Random) -> bytes:
    """A few bytes are others."""
    changed = bytearray(body)
    for _ in range(chance.randrange(1, 6)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


BYTES: list[Callable[[bytes, random.Random], bytes]] = [
    double_a_key,
    flip_bytes,
    lambda body, chance: body[: chance.randrange(len(body))],
    lambda body, _: body + body,
    lambda body, _: b"\xef\xbb\xbf" + body,
    lambda body, _: body.decode().encode("utf-16"),
    lambda body, _: re.sub(rb'"[A-Z][a-z]+"', rb'"\\ud800"', body, count=1),
    lambda body, _: re.sub(rb": (\d+)", rb":\g<1>" + b"9" * 400, body, count=1),
    lambda body, _: re.sub(rb": (\d+)", rb":NaN", body, count=1),
    lambda body, _: b"[" * 100_000,
    lambda body, _: body.replace(b"{", b"{ \n\t" * 3, 1),
]
MEDIA = ["application/json; charset=utf-16", "text/json", "", "application/json;;;", "\xe9"]


@dataclass(frozen=True)
class Call:
    """One request to be sent."""

    path: str
    body: bytes
    headers: dict[str, str]


def calls(seed: int, count: int, now: datetime) -> Iterator[Call]:
    """Broken calls; always the same for one seed and one ``now``."""
    chance = random.Random(seed)
    originals = good_documents(now)
    for _ in range(count):
        path, written = chance.choice(originals)
        document = orjson.loads(written)
        for _ in range(chance.choice((1, 1, 2, 3))):
            break_document(document, chance)
        body = json.dumps(document).encode()
        if chance.random() < 0.2 and b'":' in body:
            body = chance.choice(BYTES)(body, chance)
        headers = {"Content-Type": "application/json"}
        if chance.random() < 0.03:
            headers["Content-Type"] = chance.choice(MEDIA)
        if chance.random() < 0.03:
            headers["Accept"] = chance.choice(("*/*", "text/html", "application/json;q=x", ",,,"))
        yield Call(path, body, headers)


def good_documents(now: datetime) -> list[tuple[str, bytes]]:
    """Every mother's call as of ``now``, and feedback on a card: each is answered with 200."""
    content = load_content()
    found = []
    for mother in vignettes():
        store = FhirStore([mother], now)
        sent = prefetch_from(content, store, EXAMPLE_SERVER, mother.patient_id)
        instance = str(uuid.uuid5(uuid.NAMESPACE_URL, mother.name))  # the same each time
        request = hook_request(mother, mother.expected.hook, EXAMPLE_SERVER, sent, instance)
        del request["fhirServer"]
        path = f"/cds-services/lactation-{mother.expected.hook}"
        found.append((path, orjson.dumps(request)))
    told = {"card": "c", "outcome": "accepted", "outcomeTimestamp": "2026-01-15T11:59:00Z"}
    told |= {"acceptedSuggestions": [{"id": "s"}], "overrideReason": {"userComment": "no"}}
    feedback = orjson.dumps({"feedback": [told, told]})
    return found + [("/cds-services/lactation-patient-view/feedback", feedback)] * 10


@dataclass
class Seen:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


class Sender:
    """Sends calls, and judges what comes back."""

    def __init__(self, address: str, seen: Seen) -> None:
        self._address, self._seen = address, seen
        self._session = requests.Session()
        schema = json.loads((SCHEMAS / "response.json").read_text())
        self._cards = jsonschema_rs.validator_for(schema)

    def send(self, call: Call) -> None:
        began = time.monotonic()
        headers = {name: value.encode("latin-1") for name, value in call.headers.items()}
        try:
            answer = self._session.post(
                self._address + call.path, data=call.body, headers=headers, timeout=30
            )
        except requests.RequestException as error:
            problem: str | None = f"there was no answer ({error})"
        else:
            took = time.monotonic() - began
            self._seen.statuses[answer.status_code] += 1
            self._seen.slowest = max(self._seen.slowest, took)
            self._seen.largest = max(self._seen.largest, len(answer.content))
            problem = self._problem(call, answer, took)
        if problem is not None:
            kept = Path(tempfile.mkdtemp(prefix="fuzz-")) / "body"
            kept.write_bytes(call.body)
            self._seen.wrong.append(f"{problem} ({call.path}, {call.headers}, {kept})")

    def _problem(self, call: Call, answer: requests.Response, took: float) -> str | None:
        if len(answer.content) > MOST_BYTES:
            return f"the answer is {len(answer.content)} bytes long"
        if answer.status_code >= 500:
            return f"it answered {answer.status_code}"
        if took > 2:
            return f"it took {took:.1f} s"
        try:
            document = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            return "the answer is no JSON"
        if answer.status_code != 200:
            kind = document.get("resourceType")
            return None if kind == "OperationOutcome" else f"it answered {kind}"
        if call.path.endswith("/feedback"):
            return None if document == {} else "the answer is not {}"
        if not self._cards.is_valid(document):
            return f"the cards are not: {next(iter(self._cards.iter_errors(document)))}"
        if "could not be evaluated" in answer.text:
            return "a rule could not be evaluated"
        return None


def memory_of(process: int) -> float:
    """The resident memory of the workers of a service, in MB."""
    return sum(resident(child) for child in children(process))


def is_trouble(line: str) -> bool:
    """Whether a line of the log tells of a fault: an error, or a text that is no line of JSON."""
    return not line.startswith("{") or orjson.loads(line)["level"] in ("error", "critical")


@dataclass
class Fuzzed:
    """What a run has seen."""

    seed: int
    statuses: Counter[int]
    wrong: list[str]
    slowest: float
    largest: int
    sizes_mb: list[float]  # of the workers together, at twenty moments

    @property
    def growth(self) -> float:
        """By how much memory grew from the second quarter to the last, as a fraction."""
        quarter = len(self.sizes_mb) // 4
        second = statistics.median(self.sizes_mb[quarter : 2 * quarter])
        return statistics.median(self.sizes_mb[-quarter:]) / second - 1


def fuzz(seed: int, count: int, show: Callable[[Iterator[Call]], Iterable[Call]]) -> Fuzzed:
    """Send so many broken calls, one after the other."""
    sys.setrecursionlimit(20_000)  # to write what is nested
    seen = Seen()
    now = datetime.now(UTC).replace(microsecond=0)
    sizes = []
    with tempfile.TemporaryDirectory() as aside:
        log = Path(aside) / "service.log"
        own = {"CDS_AUTH": "open", "CDS_DEADLINE_MS": "100"}
        with started("serve", port=free_port(), log=log, **own) as service:
            sender = Sender(service.address, seen)
            for number, call in enumerate(show(calls(seed, count, now))):
                sender.send(call)
                if (number + 1) % (count // MOMENTS) == 0:
                    sizes.append(memory_of(service.pid))
        seen.wrong += [f"the log says {line}" for line in log.open() if is_trouble(line)]
        started_workers = log.read_text().count("Booting worker")
        if started_workers != 2:
            seen.wrong.append(f"{started_workers} workers were started, not 2")
    return Fuzzed(seed, seen.statuses, seen.wrong, seen.slowest, seen.largest, sizes)


@click.command()
@click.option("--requests", "count", default=100_000, show_default=True)
@click.option("--seed", type=int, help="Any number; a new one if none is given.")
def main(count: int, seed: int | None) -> None:
    """Send broken requests to the service and judge every answer."""
    seed = seed if seed is not None else int.from_bytes(os.urandom(4))
    console = Console()
    console.print(f"{count} requests, seed {seed}")
    result = fuzz(seed, count, lambda sent: track(sent, "Breaking", count))
    table = Table("", "")
    for status, times in sorted(result.statuses.items()):
        table.add_row(f"answered {status}", str(times))
    table.add_row("slowest, s", f"{result.slowest:.2f}")
    table.add_row("largest, bytes", str(result.largest))
    sizes = " ".join(f"{size:.0f}" for size in result.sizes_mb[:: MOMENTS // 5])
    table.add_row("workers, MB, over time", f"{sizes} ({result.growth:+.1%})")
    console.print(table)
    for problem in result.wrong[:20]:
        console.print(f"[red]{problem}[/]")
    if result.wrong or result.growth > MOST_GROWTH:
        console.print(f"[red]{len(result.wrong)} wrong; grew by {result.growth:.1%}[/]")
        sys.exit(1)


if __name__ == "__main__":
    main()
