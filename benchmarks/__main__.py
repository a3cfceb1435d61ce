"""``make bench``: the service beside the floor under it, and beside others, in one run.

Whatever is compared runs in turns under the same load, so that noise meets both. The goals are
printed beside what was measured, and the last run that was kept is too; only a wrong answer is a
failure.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import orjson
import requests
import yaml
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.support.postgresql import new_database, postgresql_server, programs
from tests.support.processes import free_port

from . import leave
from .costs import costs_of_observations, each_more
from .load import Measured, measure
from .plot import draw
from .processes import children, process, resident, serving
from .requests import CARDS, SERVICE, TOPICS, build_request
from .slow_fhir import slow_fhir_server

HERE = Path(__file__).parent
KEPT = HERE / "kept.json"
KEPT_PLOT = HERE.parent / "docs" / "performance.svg"
PEER = HERE.parent / ".venv-peer" / "bin" / "python"
EMPTY = "/cds/cds-services/empty"  # the service of the peer
ITS_CARD = [b"One fixed card"]
BASE = "https://cds.example.org"
KEYS = {
    "RS384": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "ES384": ECKey.generate_key("P-384", {"kid": "ec"}),
}
CONNECTIONS, THREADS, WORKERS = 8, 24, 2
SETTLE = 0.5  # seconds until all workers are there: gunicorn starts one after another


@dataclass(frozen=True)
class Row:
    """What was measured, with its goal; a goal is reached from below or from above."""

    name: str
    measured: float | None  # nothing, if it could not be measured here
    goal: float | None
    at_least: bool = True
    unit: str = ""
    said: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; ``None`` if there is none, or nothing was measured."""
        if self.measured is None or self.goal is None:
            return None
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="For each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Turns between what is compared.")
@click.option("--keep", is_flag=True, help="Keep the figures: the next run stands beside them.")
def main(seconds: float, rounds: int, keep: bool) -> None:
    """Measure it all, print it, and write it to ``benchmarks/last`` as JSON and as a plot."""
    bench = Bench(seconds, rounds)
    stages: list[Callable[[], list[Row]]] = [
        bench.beside_the_floor,
        bench.beside_others,
        bench.with_tokens,
        bench.while_recording,
        bench.by_observations,
        bench.without_prefetch,
    ]
    rows: list[Row] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Measuring", total=len(stages))
        for stage in stages:
            rows += stage()
            progress.advance(task)
    before = orjson.loads(KEPT.read_bytes()) if KEPT.exists() else {}
    show(rows, before)
    figures = {row.name: asdict(row) for row in rows}
    written = orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode() + "\n"
    plot = draw([(r.name, r.measured, r.goal, r.at_least, before.get(r.name)) for r in rows])
    leave("figures.json", written, KEPT if keep else None)
    leave("figures.svg", plot, KEPT_PLOT if keep else None)


def show(rows: list[Row], before: dict[str, dict[str, float | None]]) -> None:
    """Print the table."""
    table = Table(title="patient-view, 50 Observations, 4 cards", title_justify="left")
    table.add_column("")
    for column in ("measured", "goal", "kept run", ""):
        table.add_column(column, justify="right")
    for row in rows:
        kept = (before.get(row.name) or {}).get("measured")
        sign = "" if row.goal is None else "at least " if row.at_least else "at most "
        goal = "" if row.goal is None else f"{sign}{row.goal:g}{row.unit}"
        reached = {True: "reached", False: "[red]not reached[/]", None: ""}[row.reached]
        measured = "not measured" if row.measured is None else f"{row.measured:.3g}{row.unit}"
        told = f"{kept:.3g}" if isinstance(kept, float) else ""
        table.add_row(
            f"{row.name}[dim]{' ' + row.said if row.said else ''}[/]", measured, goal, told, reached
        )
    Console(width=120).print(table)


class Bench:
    """The measurements, each with its servers, which end with it."""

    def __init__(self, seconds: float, rounds: int) -> None:
        self._seconds, self._rounds = seconds, rounds
        self._now = datetime.now(UTC)
        self._body = build_request(50, self._now)
        self._answer = b""

    def beside_the_floor(self) -> list[Row]:
        """Throughput, latency, start and memory."""
        began = time.perf_counter()
        with self._service() as (port, service):
            start = time.perf_counter() - began
            with self._floor() as floor:
                pairs = self._turns(port, floor)
                rates = [statistics.median(pair[n].rate for pair in pairs) for n in (0, 1)]
                at_70 = [
                    [
                        self._measure(each, pace=0.7 * rate)
                        for each, rate in ((port, rates[0]), (floor, rates[0]), (floor, rates[1]))
                    ]
                    for _ in range(self._rounds)
                ]
                with self._variant("undecided") as undecided:
                    ceiling = self._turns(undecided, floor)
            memory = max(resident(child) for child in children(service.pid))
        return [
            _ratio("throughput, of the floor's", pairs, 0.9, f"{rates[0]:.0f} of {rates[1]:.0f}/s"),
            _ratio("the same, if deciding took no time", ceiling, None),
            _spread("p99 over p50 at 70% of capacity", [turn[0] for turn in at_70], 3),
            _spread("the same of the floor, at the same pace", [turn[1] for turn in at_70]),
            _spread("the same of the floor, at 70% of its own", [turn[2] for turn in at_70]),
            Row("first answer after start", start, 1.5, False, " s"),
            Row("memory of a worker", memory, 100, False, " MB"),
        ]

    def beside_others(self) -> list[Row]:
        """A peer that does nothing, and the service if it validated each Bundle."""
        rows: list[Row] = []
        for count, said in ((1, "one process each"), (2, "two processes each")):
            name = f"throughput, of HealthChain's, {said}"
            if not PEER.exists():
                rows.append(Row(name, None, 2.5))
                continue
            with self._service(workers=count) as (port, _), self._peer(count) as peer:
                rows.append(_ratio(name, self._turns(port, peer, ITS_CARD, EMPTY), 2.5))
        with self._service() as (port, _), self._variant("validating") as other:
            pairs = self._turns(port, other)
        rows.append(_ratio("throughput, of the same with fhir.resources", pairs, 10))
        return rows

    def with_tokens(self) -> list[Row]:
        """Each call with a token of its own, that is kept."""
        clients = [
            {
                "issuer": BASE,
                "keys": {"keys": [key.as_dict(private=False) for key in KEYS.values()]},
                "fhir_servers": ["https://example.org/fhir"],
            }
        ]
        rows: list[Row] = []
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(yaml.safe_dump({"clients": clients}))
            file.flush()
            own = {"CDS_AUTH": "required", "CDS_CLIENTS": file.name, "CDS_BASE_URL": BASE}
            for name, goal in (("RS384", 0.6), ("ES384", None)):
                signed = _signed(name, int(self._seconds * self._rounds * 1500))
                shares = iter([signed[turn :: self._rounds] for turn in range(self._rounds)])
                with self._service(**own) as (port, _), self._floor() as floor:
                    ours = partial(self._measure_bearing, port, shares)
                    pairs = self._in_turns(ours, partial(self._measure, floor))
                rows.append(_ratio(f"throughput with tokens, {name}, of the floor's", pairs, goal))
        return rows

    def while_recording(self) -> list[Row]:
        """What was shown goes into a PostgreSQL, and the same without."""
        name = "throughput while recording in PostgreSQL, of without"
        if programs() is None:
            return [Row(name, None, 0.9)]
        with postgresql_server() as server:
            own = {
                "CDS_DATABASE_URL": new_database(server.address),
                "CDS_PATIENT_KEY": "a secret of the bench",
            }
            with self._service(**own) as (port, _), self._variant("unrecorded", **own) as other:
                return [_ratio(name, self._turns(port, other), 0.9)]

    def by_observations(self) -> list[Row]:
        """What one more costs, and whether many cost as much each as a few."""
        costs = costs_of_observations(self._now)
        read, parsed = (each_more(costs, kind, 50, 500) for kind in ("answer", "parse"))
        unread, unread_parsed = (
            each_more(costs, kind, 50, 500) for kind in ("unread", "parse-unread")
        )
        growth = each_more(costs, "answer", 500, 5000) / read
        said = f"{read:.1f} of {parsed:.1f} us"
        return [
            Row(
                "one more Observation that a fact reads, of parsing",
                read / parsed,
                3,
                False,
                said=said,
            ),
            Row("one more that none reads, of parsing", unread / unread_parsed, 1.2, False),
            Row("each from 500 to 5,000, of each from 50 to 500", growth, 1.15, False),
        ]

    def without_prefetch(self) -> list[Row]:
        """Nothing sent: the time to answer, beside the slowest single reading."""
        request = orjson.loads(self._body)
        prefetch = request.pop("prefetch")
        with (
            slow_fhir_server(prefetch, 0.05) as fhir,
            self._service(CDS_DEADLINE_MS="5000") as (port, _),
        ):
            request["fhirServer"] = fhir
            searches = [f"{fhir}/{kind}?patient=x" for kind in ("Observation", "Condition")]
            alone = max(_seconds(lambda s=s: requests.get(s, timeout=5)) for s in searches)
            url = f"http://127.0.0.1:{port}{SERVICE}"
            whole = _seconds(lambda: _checked(requests.post(url, json=request, timeout=5)))
        return [Row("nothing in prefetch, of the slowest reading", whole / alone, 1.25, False)]

    # --- servers ---

    @contextmanager
    def _service(
        self, workers: int = WORKERS, **environment: str
    ) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
        port = free_port()
        arguments = ("serve", "--port", port, "--workers", workers, "--threads", THREADS)
        with serving("cds_service.cli", *map(str, arguments), **environment) as service:
            self._answer = self._wait(port) or self._answer
            yield port, service

    @contextmanager
    def _floor(self) -> Iterator[int]:
        port = free_port()
        with tempfile.NamedTemporaryFile() as fixed:
            fixed.write(self._answer)
            fixed.flush()
            arguments = (str(port), fixed.name, str(WORKERS), str(THREADS))
            with serving("benchmarks.floor", *arguments):
                self._wait(port)
                yield port

    @contextmanager
    def _variant(self, name: str, **environment: str) -> Iterator[int]:
        port = free_port()
        arguments = (name, str(port), str(WORKERS), str(THREADS))
        with serving("benchmarks.variants", *arguments, **environment):
            self._wait(port)
            yield port

    @contextmanager
    def _peer(self, count: int) -> Iterator[int]:
        port = free_port()
        with ExitStack() as all_of_them:
            for _ in range(count):
                all_of_them.enter_context(process(PEER, HERE / "peer.py", str(port)))
            self._wait(port, EMPTY)
            time.sleep(3 * (count - 1))  # until the others listen too
            yield port

    def _wait(self, port: int, path: str = SERVICE) -> bytes:
        """The first answer of a server that is starting; that of the service is checked."""
        for _ in range(3000):
            try:
                url = f"http://127.0.0.1:{port}{path}"
                # One that stays open would count when the connections are shared among workers.
                head = {"Content-Type": "application/json", "Connection": "close"}
                answer = requests.post(url, data=self._body, headers=head, timeout=5)
            except requests.ConnectionError:
                time.sleep(0.01)
                continue
            if answer.status_code == 401:
                return b""
            return _checked(answer).content if path == SERVICE else answer.content
        raise SystemExit(f"nothing answers on port {port}")

    # --- measuring ---

    def _measure(
        self,
        port: int,
        expected: Sequence[bytes] = TOPICS,
        path: str = SERVICE,
        tokens: Sequence[str] = (),
        pace: float | None = None,
    ) -> Measured:
        return measure(
            port, path, self._body, self._seconds, CONNECTIONS, expected, tokens=tokens, pace=pace
        )

    def _measure_bearing(self, port: int, shares: Iterator[Sequence[str]]) -> Measured:
        return self._measure(port, tokens=next(shares))

    def _turns(
        self, port: int, other: int, expected: Sequence[bytes] = TOPICS, path: str = SERVICE
    ) -> list[tuple[Measured, Measured]]:
        theirs = partial(self._measure, other, expected, path)
        return self._in_turns(partial(self._measure, port), theirs)

    def _in_turns(
        self, ours: Callable[[], Measured], theirs: Callable[[], Measured]
    ) -> list[tuple[Measured, Measured]]:
        time.sleep(SETTLE)
        return [(ours(), theirs()) for _ in range(self._rounds)]


def _ratio(
    name: str, pairs: list[tuple[Measured, Measured]], goal: float | None, said: str = ""
) -> Row:
    ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
    return Row(name, statistics.median(ratios), goal, said=said)


def _spread(name: str, turns: list[Measured], goal: float | None = None) -> Row:
    """How many times the p50 the p99 is."""
    ratios = [each.percentile(99) / each.percentile(50) for each in turns]
    p50 = statistics.median(each.percentile(50) for each in turns)
    return Row(name, statistics.median(ratios), goal, False, said=f"p50 {p50:.1f} ms")


def _signed(name: str, count: int) -> list[str]:
    key, now = KEYS[name], int(time.time())
    header = {"alg": name, "typ": "JWT", "kid": key.kid}
    common = {"iss": BASE, "aud": f"{BASE}{SERVICE}", "iat": now, "exp": now + 900}
    found: list[str] = []

    def sign(share: int) -> None:
        for _ in range(share):
            claims = {**common, "jti": str(uuid.uuid4())}
            found.append(jwt.encode(header, claims, key, algorithms=[name]))

    threads = [threading.Thread(target=sign, args=(count // 2,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _checked(answer: requests.Response) -> requests.Response:
    """The answer, if it holds the cards that it must."""
    codes = [card["source"]["topic"]["code"] for card in answer.json().get("cards", ())]
    if codes != CARDS:
        raise SystemExit(f"wrong cards: {codes}, {answer.status_code}")
    return answer


def _seconds(do: Callable[[], object], times: int = 15) -> float:
    """The median of several times."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        do()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


if __name__ == "__main__":
    main()
