"""The work that one request is: counted, so that it does not grow unseen on a noisy clock."""

from __future__ import annotations

import json

import pytest

from benchmarks.instructions import KEPT, measure
from tests.support.processes import needed

pytestmark = pytest.mark.slow

MOST = 1.1  # of what was kept


def test_a_request_takes_no_more_instructions_than_it_did() -> None:
    """As a multiple of parsing alone. If more are meant: ``make instructions KEEP=1``."""
    needed("valgrind", "valgrind")
    kept, counted = json.loads(KEPT.read_text())["times"], measure()["times"]
    assert counted <= kept * MOST
