"""What one more Observation costs, in this process and without HTTP, beside its parsing alone."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

import orjson

from cds_service.content.loader import load_content
from cds_service.engine.evaluation import Evaluation
from cds_service.engine.render import SuggestionContext
from cds_service.hooks.prefetch import resolve_prefetch
from cds_service.hooks.protocol import read_request

from .requests import build_request

SIZES = (50, 500, 5000)
ROUNDS = 6


def microseconds(do: Callable[[], object], times: int) -> float:
    """The least of so many times: what others do on this machine meanwhile only adds to it."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        do()
        found.append(time.perf_counter() - began)
    return min(found) * 1e6


def answering(now: datetime) -> Callable[[bytes], bytes]:
    """The whole way of a patient-view request, from bytes to bytes, without HTTP."""
    content = load_content()
    evaluation = Evaluation(content)

    def answer(body: bytes) -> bytes:
        hook, context = read_request(body, "patient-view")
        chart = resolve_prefetch(content, hook, context, None, 1.0)
        return evaluation.answer(chart, SuggestionContext.of(hook.hook, context), now).body

    return answer


def costs_of_observations(now: datetime) -> dict[str, float]:
    """Microseconds by what was done and how many Observations there were.

    ``answer-50``: the whole way from bytes to bytes; ``unread-50``: the same, if no fact reads
    what there is more; ``parse-50`` and ``parse-unread-50``: orjson alone.
    """
    answer = answering(now)
    done: dict[str, tuple[Callable[[], object], int]] = {}  # each with how often in a turn
    for size in SIZES:
        times = max(10, 20_000 // size)
        for kind, prefix in (("answer", ""), ("unread", "unread-")):
            body = build_request(size, now, read=kind == "answer")
            done[f"{kind}-{size}"] = partial(answer, body), times
            done[f"parse-{prefix}{size}"] = partial(orjson.loads, body), times
    found = dict.fromkeys(done, math.inf)
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(ROUNDS):  # in turns: noise lasts for longer than a size takes
        for what, (do, times) in done.items():
            found[what] = min(found[what], microseconds(do, times))
    gc.enable()
    gc.unfreeze()
    return found


def each_more(costs: dict[str, float], kind: str, few: int, many: int) -> float:
    """Microseconds for one more Observation, between ``few`` and ``many`` of them."""
    return (costs[f"{kind}-{many}"] - costs[f"{kind}-{few}"]) / (many - few)
