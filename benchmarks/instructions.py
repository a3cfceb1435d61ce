"""How many instructions one request takes, and its parsing alone: a count that no noise changes.

``python -m benchmarks.instructions`` needs valgrind. It runs itself under callgrind for a few
requests and for more, and gives what one more took: of the whole way from bytes to bytes, and as a
multiple of what orjson takes to parse the same bytes. It is kept in ``instructions.json``.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import orjson

from .costs import answering
from .requests import build_request

KEPT = Path(__file__).parent / "instructions.json"
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
FEW, MORE = 20, 120  # the first are not like the others: nothing is specialized yet


def answer_some(what: str, times: int) -> None:
    """Parse, or answer, the same request so many times."""
    body = build_request(50, NOW)
    do: Callable[[bytes], object] = orjson.loads if what == "parse" else answering(NOW)
    gc.disable()
    for _ in range(times):
        do(body)


def count(what: str, times: int) -> int:
    """The instructions of a whole process that does so."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    program = [sys.executable, "-m", "benchmarks.instructions", what, str(times)]
    same = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*tool, *program], env={**os.environ, **same}, capture_output=True, text=True, check=False
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise SystemExit(done.stderr[-2000:])
    return int(found[1])


def measure() -> dict[str, float]:
    """Instructions of one request, of parsing it, and how many times the one is the other."""
    wanted = [(what, times) for what in ("answer", "parse") for times in (FEW, MORE)]
    with ThreadPoolExecutor(2) as pool:
        counted = dict(zip(wanted, pool.map(lambda each: count(*each), wanted), strict=True))
    answer, parse = (
        (counted[what, MORE] - counted[what, FEW]) / (MORE - FEW) for what in ("answer", "parse")
    )
    return {"answer": round(answer), "parse": round(parse), "times": round(answer / parse, 2)}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        answer_some(sys.argv[1], int(sys.argv[2]))
    else:
        figures = measure()
        print(orjson.dumps(figures).decode())
        if "--keep" in sys.argv:
            KEPT.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
