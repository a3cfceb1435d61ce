"""What the evaluation of a request takes, as its lists become longer: counted, not timed.

``python -m tests.benchmarks.growth COUNTS REQUEST...`` is run under callgrind, which says of each
process how many instructions it took. It loads the content once and evaluates each request in a
fork of its own; ``COUNTS`` is the file into which it writes which process had which request.
"""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

from cds_service.content.loader import load_content
from cds_service.engine.evaluation import Evaluation
from cds_service.engine.render import SuggestionContext
from cds_service.errors import Refusal
from cds_service.hooks.prefetch import resolve_prefetch
from cds_service.hooks.protocol import read_request
from tests.support.mothers import NOW

Place = tuple[str | int, ...]  # the way to a list, by keys and indices
PROCESSES = 2
# What tells one element from another: an id, a code, a name, or what it points at.
TELLING = {"id", "code", "text", "display", "value", "reference", "url", "fullUrl"}
_COLLECTED = re.compile(r"^==(\d+)== Collected : (\d+)", re.MULTILINE)


def lists_in(value: Any, name: str = "", place: Place = ()) -> Iterator[tuple[str, Place]]:
    """Every list in a request that is not empty, with a name: by resource type and element."""
    if isinstance(value, dict):
        kind = value.get("resourceType")
        inside = kind if isinstance(kind, str) and kind != "Bundle" else name
        for key, inner in value.items():
            yield from lists_in(inner, f"{inside}.{key}", (*place, key))
    elif isinstance(value, list):
        if value:
            yield name, place
        for index, inner in enumerate(value):
            yield from lists_in(inner, name, (*place, index))


def grown(request: dict[str, Any], place: Place, length: int, *, alike: bool) -> dict[str, Any]:
    """A request with one list that has ``length`` elements: copies of its own.

    Those that are ``alike`` differ in their ids alone; else in all that tells one from another.
    """
    changed = deepcopy(request)
    holder: Any = changed
    for step in place[:-1]:
        holder = holder[step]
    own = holder[place[-1]]
    telling = {"id"} if alike else TELLING
    holder[place[-1]] = [_told(own[n % len(own)], n, telling) for n in range(length)]
    return changed


def _told(value: Any, number: int, telling: set[str], key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _told(inner, number, telling, k) for k, inner in value.items()}
    if isinstance(value, list):
        return [_told(inner, number, telling, key) for inner in value]
    # A list of texts, such as selections, has no keys: its elements tell themselves.
    if isinstance(value, str) and (key in telling or (not key and len(telling) > 1)):
        return f"{value}-{number}"
    return value


def count(bodies: dict[str, bytes], directory: Path) -> dict[str, int]:
    """The instructions that the evaluation of each request takes, by its name."""
    names = list(bodies)
    shares = [names[start::PROCESSES] for start in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        counted = pool.map(
            lambda number: _count_some(shares[number], bodies, directory / str(number)),
            range(PROCESSES),
        )
    return {name: number for share in counted for name, number in share.items()}


def _count_some(names: list[str], bodies: dict[str, bytes], directory: Path) -> dict[str, int]:
    directory.mkdir()
    files = []
    for number, name in enumerate(names):
        files.append(directory / f"{number}.json")
        files[-1].write_bytes(bodies[name])
    processes = directory / "processes"
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    program = [sys.executable, "-m", "tests.benchmarks.growth", str(processes), *map(str, files)]
    same = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*tool, *program], env={**os.environ, **same}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    collected = {int(pid): int(number) for pid, number in _COLLECTED.findall(done.stderr)}
    nothing, *each = [collected[pid] for pid in json.loads(processes.read_text())]
    return {name: number - nothing for name, number in zip(names, each, strict=True)}


def _evaluate(bodies: Iterable[bytes]) -> list[int]:
    """Evaluate each request in a fork; the first fork does nothing. Their process ids."""
    content = load_content()
    evaluation = Evaluation(content)

    def answer(body: bytes) -> None:
        try:
            hook, context = read_request(body, json.loads(body)["hook"])
        except Refusal:
            return  # an answer too
        chart = resolve_prefetch(content, hook, context, None, 0, now=NOW)
        setting = SuggestionContext.of(hook.hook, context)
        evaluation.answer(chart, setting, NOW, context.judged_orders)

    gc.collect()
    gc.freeze()
    gc.disable()
    processes = []
    for body in (b"", *bodies):
        process = os.fork()
        if process == 0:
            if body:
                answer(body)
            os._exit(0)
        _, ended = os.waitpid(process, 0)
        assert ended == 0
        processes.append(process)
    return processes


if __name__ == "__main__":
    told, *requests = sys.argv[1:]
    Path(told).write_text(json.dumps(_evaluate([Path(each).read_bytes() for each in requests])))
