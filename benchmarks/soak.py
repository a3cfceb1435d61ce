"""``make soak``: twice as many callers as there is room for, good, bad and slow; then a few again.

The service runs with its callers known: each call has a signed token of its own, used once. First
a few callers alone, to know what is normal; then the many; then the few again. It fails if a worker
is lost, an answer is missing or not one of those that its kind of call may get, memory grows by
more than 3%, or the last few wait much longer than the first.

At last come the attacks on availability, one after another and then all of them together, beside
normal calls at a tenth of capacity. It fails if the p99 of these is half a second or more, or if
the service does not say within a second that it lives.
"""

from __future__ import annotations

import http.client
import multiprocessing
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.synchronize import Event
from pathlib import Path

import click
import orjson
import yaml
from joserfc import jwt
from joserfc.jwk import ECKey
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from cds_service.demo.ehr import EXAMPLE_SERVER

from .attacks import Attack, Probes, attacks, probed, under
from .load import TOGETHER, Measured, WrongAnswer, measure
from .processes import children, resident, serving
from .requests import SERVICE, TOPICS, build_request

PORT, FHIR_PORT = 8221, 8222
BASE = f"http://127.0.0.1:{PORT}"
WORKERS, AT_ONCE, THREADS = 2, 16, 24
MANY = 2 * WORKERS * AT_ONCE
FEW = 4
CLIENTS = 4  # processes
DEADLINE = 0.4  # of the service, for all reading
KEY = ECKey.generate_key("P-384", {"kid": "soak"})  # processes that are forked have it too
MOST_GROWTH = 0.03
MOST_SLOWER = 1.5  # of the p99 of the few, after against before

ATTACKERS = 60  # connections of each attack
CAPACITY_SECONDS = 3.0  # to know what a tenth of capacity is
MOST_OF_NORMAL = 500.0  # milliseconds, of the p99 of normal calls under attack
MOST_OF_LIVENESS = 1000.0  # milliseconds

BUSY = {429, 503}
# What a call of each kind may be answered with, and how often it comes among a hundred.
KINDS: dict[str, tuple[int, set[int]]] = {
    "good": (70, {200}),
    "not JSON": (8, {400}),
    "another hook": (5, {400}),
    "another type": (5, {415}),
    "no token": (3, {401}),
    "slow record system": (6, {412}),
    "a byte at a time": (3, {400, 408}),
}
BUCKET = 10.0  # seconds, of the lines that show the course


@dataclass
class Seen:
    """What a phase has seen: statuses by kind, and good answers by second and milliseconds."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    times: list[tuple[float, float]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def add(self, other: Seen) -> None:
        """Take in what another process has seen."""
        self.statuses += other.statuses
        self.times += other.times
        self.lost += other.lost

    def percentile(self, percent: float) -> float:
        """Milliseconds that this many percent of the good answers did not pass."""
        ordered = sorted(milliseconds for _, milliseconds in self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def new_token() -> str:
    """A token that no call has used."""
    now = int(time.time())
    claims = {"iss": "https://ehr.example.org", "aud": BASE + SERVICE, "iat": now}
    claims |= {"exp": now + 300, "jti": str(uuid.uuid4())}
    return jwt.encode({"alg": "ES384", "kid": "soak"}, claims, KEY, algorithms=["ES384"])


class Caller:
    """One connection that calls again and again."""

    def __init__(self, body: bytes, seed: int) -> None:
        self._body, self._chance = body, random.Random(seed)
        document = orjson.loads(body)
        self._other_hook = orjson.dumps(document | {"hook": "order-sign"})
        fhir = {"fhirServer": f"http://127.0.0.1:{FHIR_PORT}/fhir"}
        del document["prefetch"]
        self._slow = orjson.dumps(document | fhir)
        self._connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)

    def call(self, kind: str) -> int:
        """Call once; the status of the answer. Raises ``OSError`` or ``HTTPException``."""
        if kind == "a byte at a time":
            return self._drip()
        body, media = self._body, "application/json"
        if kind == "not JSON":
            body = body[: self._chance.randrange(1, len(body))]
        elif kind == "another hook":
            body = self._other_hook
        elif kind == "another type":
            media = "text/plain"
        elif kind == "slow record system":
            body = self._slow
        headers = {"Content-Type": media}
        if kind != "no token":
            headers["Authorization"] = f"Bearer {new_token()}"
        self._connection.request("POST", SERVICE, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status in BUSY and not (answer.headers["Retry-After"] and b"issue" in text):
            raise http.client.HTTPException(f"{answer.status} without Retry-After or a reason")
        return answer.status

    def _drip(self) -> int:
        with socket.create_connection(("127.0.0.1", PORT), timeout=0.2) as slow:
            head = (
                f"POST {SERVICE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            )
            head += f"Authorization: Bearer {new_token()}\r\nContent-Length: 9999\r\n\r\n"
            slow.sendall(head.encode())
            until = time.monotonic() + 10
            while time.monotonic() < until:
                with suppress(TimeoutError):
                    return int(slow.recv(4096).split()[1])
                slow.sendall(b" ")
        raise TimeoutError("a body that never ends was waited for")

    def go_on(self, seconds: float, kinds: list[str], seen: Seen, pause: float) -> None:
        """Call until the time is over."""
        began = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            kind = self._chance.choice(kinds)
            try:
                status = self.call(kind)
            except (OSError, http.client.HTTPException, IndexError) as error:
                seen.lost.append(f"{kind}: {type(error).__name__} {error}")
                self._connection.close()
                continue
            seen.statuses[kind, status] += 1
            if kind == "good" and status == 200:
                seen.times.append((now - began, (time.monotonic() - now) * 1000))
            if status in BUSY:
                time.sleep(0.05)  # even the greedy wait a little
            time.sleep(pause)


def call_from_a_process(
    connections: int, seconds: float, kinds: list[str], pause: float, body: bytes
) -> Seen:
    """Some of the callers, as threads of this process."""
    seen = Seen()
    seed = random.SystemRandom().getrandbits(32)
    callers = [Caller(body, seed + number) for number in range(connections)]
    threads = [
        threading.Thread(target=caller.go_on, args=(seconds, kinds, seen, pause))
        for caller in callers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


class SlowFhir(BaseHTTPRequestHandler):
    """A record system that thinks for longer than anyone waits."""

    def do_GET(self) -> None:
        """Answer too late."""
        time.sleep(3 * DEADLINE)
        with suppress(OSError):
            self.send_response(200)
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def slow_fhir() -> Iterator[None]:
    """The slow record system, in a process of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", FHIR_PORT), SlowFhir)
    server.daemon_threads = True
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    server.server_close()
    try:
        yield
    finally:
        process.terminate()
        process.join()


class Watch:
    """Looks at the workers while they work: how large they are, each second."""

    def __init__(self, service: int) -> None:
        self._service = service
        self.sizes: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(1):
            with suppress(OSError, StopIteration):  # one that has just ended
                size = sum(resident(child) for child in children(self._service))
                self.sizes.append((time.monotonic() - began, size))

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def growth(self, since: float, until: float) -> float:
        """By how much memory grew from the second quarter of a span to its last, as a fraction."""
        sizes = [size for moment, size in self.sizes if since <= moment <= until]
        quarter = max(1, len(sizes) // 4)
        second = statistics.median(sizes[quarter : 2 * quarter] or sizes)
        return statistics.median(sizes[-quarter:]) / second - 1


def bars(values: list[float]) -> str:
    """A line of bars, from nothing to the largest."""
    most = max(values, default=0) or 1
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(value / most * 8))] for value in values)


def by_bucket(points: list[tuple[float, float]], of: Callable[[list[float]], float]) -> list[float]:
    """One value for each ten seconds."""
    buckets: dict[int, list[float]] = {}
    for moment, value in points:
        buckets.setdefault(int(moment / BUCKET), []).append(value)
    return [of(buckets[number]) for number in sorted(buckets)]


@click.command()
@click.option("--overload", default=600.0, show_default=True, help="Seconds of too many callers.")
@click.option("--normal", default=300.0, show_default=True, help="Seconds of few, afterwards.")
@click.option("--before", default=30.0, show_default=True, help="Seconds of few, beforehand.")
@click.option("--attacked", default=20.0, show_default=True, help="Seconds of each attack.")
def main(overload: float, normal: float, before: float, attacked: float) -> None:
    """Soak the service."""
    console = Console()
    client = {"issuer": "https://ehr.example.org", "keys": {"keys": [KEY.as_dict(private=False)]}}
    client["fhir_servers"] = [EXAMPLE_SERVER, f"http://127.0.0.1:{FHIR_PORT}/fhir"]
    mixed = [kind for kind, (often, _) in KINDS.items() for _ in range(often)]
    body = build_request(50, datetime.now(UTC))
    kinds_of_attack = [[attack] for attack in attacks(SERVICE)] + [attacks(SERVICE)]
    under_attack: list[Attacked] = []
    with tempfile.TemporaryDirectory() as aside, slow_fhir():
        clients = Path(aside) / "clients.yaml"
        clients.write_text(yaml.safe_dump({"clients": [client]}))
        own = {"CDS_AUTH": "required", "CDS_CLIENTS": str(clients), "CDS_BASE_URL": BASE}
        own |= {"CDS_AT_ONCE": str(AT_ONCE), "CDS_DEADLINE_MS": str(int(DEADLINE * 1000))}
        own |= {"CDS_BODY_MS": "2000"}
        arguments = ("serve", "--port", str(PORT), "--workers", str(WORKERS))
        with serving(
            "cds_service.command", *arguments, "--threads", str(THREADS), **own
        ) as service:
            wait_until_it_answers()
            while len(workers := children(service.pid)) < WORKERS:
                time.sleep(0.1)
            watch = Watch(service.pid)
            with Progress(console=Console(stderr=True), transient=True) as progress:
                total = before + overload + normal + attacked * len(kinds_of_attack)
                task = progress.add_task("Soaking", total=total)
                phases = []
                for connections, seconds, kinds in (
                    (FEW, before, ["good"]),
                    (MANY, overload, mixed),
                    (FEW, normal, ["good"]),
                ):
                    progress.update(task, description=f"{connections} callers")
                    phases.append(load(connections, seconds, kinds, body, progress, task))
                watch.end()
                pace = capacity(body) / 10
                for kind in kinds_of_attack:
                    progress.update(task, description=name_of(kind))
                    under_attack.append(attack_for(attacked, kind, pace, body))
                    progress.advance(task, attacked)
            left = children(service.pid)
    same = workers == left
    problems = report(console, phases, watch, before, overload, same)
    problems += report_attacks(console, under_attack)
    for problem in problems:
        console.print(f"[red]{problem}[/]")
    sys.exit(1 if problems else 0)


def wait_until_it_answers() -> None:
    """Wait for the service to start."""
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit("the service does not start")


def load(
    connections: int,
    seconds: float,
    kinds: list[str],
    body: bytes,
    progress: Progress,
    task: TaskID,
) -> Seen:
    """One phase: so many callers for so long. What they have seen."""
    pause = 0.02 if connections == FEW else 0.0
    seen = Seen()
    with multiprocessing.get_context("fork").Pool(CLIENTS) as pool:
        each = (connections // CLIENTS, seconds, kinds, pause, body)
        results = pool.starmap_async(call_from_a_process, [each] * CLIENTS, chunksize=1)
        while not results.ready():
            results.wait(1)
            progress.advance(task, 1)
        for other in results.get():
            seen.add(other)
    return seen


@dataclass(frozen=True)
class Attacked:
    """What an attack did: to normal calls, or why one was not answered rightly, and to liveness."""

    name: str
    normal: Measured | str
    probes: Probes


def name_of(kind: Sequence[Attack]) -> str:
    """What an attack is called."""
    return kind[0].name if len(kind) == 1 else "all together"


def capacity(body: bytes) -> float:
    """How many calls a second are answered, by as many callers as are normal."""
    tokens = [new_token() for _ in range(int(CAPACITY_SECONDS * 1500))]
    return measure(PORT, SERVICE, body, CAPACITY_SECONDS, FEW, TOPICS, tokens).rate


def attack_for(seconds: float, kind: Sequence[Attack], pace: float, body: bytes) -> Attacked:
    """One attack, or several together, beside normal calls at a pace, and whether it lives."""
    tokens = [new_token() for _ in range(int(seconds * pace) + FEW)]
    context = multiprocessing.get_context("fork")
    over = context.Event()
    process = context.Process(target=attack_until, args=(over, kind))
    process.start()
    try:
        time.sleep(2 * TOGETHER)
        with probed(PORT) as probes:
            normal: Measured | str = measure(
                PORT, SERVICE, body, seconds, FEW, TOPICS, tokens, pace
            )
    except (OSError, WrongAnswer) as error:
        normal = f"{type(error).__name__} {error}"
    finally:
        over.set()
        process.join()
    return Attacked(name_of(kind), normal, probes)


def attack_until(over: Event, kind: Sequence[Attack]) -> None:
    """The attackers, as threads of this process."""
    with ExitStack() as all_of_them:
        for attack in kind:
            all_of_them.enter_context(under(attack, PORT, ATTACKERS, new_token))
        over.wait()


def report_attacks(console: Console, under_attack: list[Attacked]) -> list[str]:
    """Print the table; what is not as it should be, in words."""
    title = f"{ATTACKERS} connections of each attack; milliseconds"
    table = Table(title=title, title_justify="left")
    for column in ("attack", "p50", "p99", "p99 of liveness", "most"):
        table.add_column(column, justify="left" if column == "attack" else "right")
    problems: list[str] = []
    for each in under_attack:
        normal, probes = each.normal, each.probes
        figures = ["", ""]
        if isinstance(normal, str):
            problems.append(f"{each.name}: a normal call got no right answer: {normal}")
        else:
            figures = [f"{normal.percentile(percent):.1f}" for percent in (50, 99)]
            if normal.percentile(99) >= MOST_OF_NORMAL:
                problems.append(f"{each.name}: the p99 of normal calls is {figures[1]} ms")
        slowest = max(probes.took)
        table.add_row(each.name, *figures, f"{probes.percentile(99):.1f}", f"{slowest:.1f}")
        if probes.lost or slowest > MOST_OF_LIVENESS:
            problems.append(f"{each.name}: liveness took {slowest:.0f} ms, or was {probes.lost}")
    console.print(table)
    return problems


def report(
    console: Console, phases: list[Seen], watch: Watch, before: float, overload: float, same: bool
) -> list[str]:
    """Print the tables; what is not as it should be, in words."""
    first, many, last = phases
    table = Table(title=f"{MANY} callers, room for {WORKERS * AT_ONCE}", title_justify="left")
    for column in ("call", "as it should be", "told to come again", "otherwise"):
        table.add_column(column, justify="left" if column == "call" else "right")
    problems = [] if same else ["a worker was lost"]
    for kind, (_, allowed) in KINDS.items():
        counts = Counter({s: n for (k, s), n in many.statuses.items() if k == kind})
        right = sum(counts[status] for status in allowed)
        busy = sum(counts[status] for status in BUSY)
        otherwise = {s: n for s, n in counts.items() if s not in allowed | BUSY}
        table.add_row(kind, str(right), str(busy), str(otherwise or ""))
        if otherwise:
            problems.append(f"{kind} was answered with {otherwise}")
    console.print(table)
    sizes = [size for _, size in watch.sizes]
    growth = watch.growth(before, before + overload)
    slower = last.percentile(99) / first.percentile(99)
    facts = Table("", "before", "many", "after", show_header=True)
    percentiles = [f"{phase.percentile(99):.1f}" for phase in phases]
    facts.add_row("p50 of good, ms", *(f"{phase.percentile(50):.1f}" for phase in phases))
    facts.add_row("p99 of good, ms", *percentiles)
    facts.add_row("answers", *(str(sum(phase.statuses.values())) for phase in phases))
    facts.add_row("without an answer", *(str(len(phase.lost)) for phase in phases))
    console.print(facts)
    console.print(f"memory of the workers, each 10 s  {bars(by_bucket(watch.sizes, max))}")
    console.print(
        f"  {sizes[0]:.0f} MB at first, {max(sizes):.0f} at most, {sizes[-1]:.0f} at last"
    )
    course = by_bucket(many.times, lambda values: sorted(values)[int(len(values) * 0.99)])
    console.print(f"p99 of good under load, each 10 s {bars(course)}")
    console.print(f"memory grew by {growth:+.1%} under load; p99 is {slower:.2f} times that before")
    if growth > MOST_GROWTH:
        problems.append(f"memory grew by {growth:.1%}")
    if slower > MOST_SLOWER:
        problems.append(f"p99 is {slower:.2f} times what it was")
    for phase in phases:
        problems += [f"no answer: {lost}" for lost in phase.lost[:5]]
    for phase in (first, last):
        refused = {key: n for key, n in phase.statuses.items() if key[1] != 200}
        if refused:
            problems.append(f"the few were answered with {refused}")
    return problems


if __name__ == "__main__":
    main()
