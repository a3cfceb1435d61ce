"""What the service is measured beside must do what it does: else its figures mean nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from benchmarks.costs import answering
from benchmarks.load import holds
from benchmarks.processes import serving
from benchmarks.requests import CARDS, SERVICE, TOPICS, build_request
from benchmarks.variants import VARIANTS
from tests.support.processes import free_port

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_shows_the_cards_of_the_service(name: str) -> None:
    port, starting = free_port(), Retry(connect=10, backoff_factor=0.05)
    with serving("benchmarks.variants", name, str(port), "1", "2"), Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=starting))
        answer = session.post(
            f"http://127.0.0.1:{port}{SERVICE}",
            data=build_request(50, datetime.now(UTC)),
            headers={"Content-Type": "application/json"},
            timeout=10,
        )
    assert answer.status_code == 200
    assert [card["source"]["topic"]["code"] for card in answer.json()["cards"]] == CARDS


def test_the_floor_answers_with_the_bytes_that_it_was_given(tmp_path: Path) -> None:
    fixed = tmp_path / "answer.json"
    fixed.write_bytes(b'{"cards": []}')
    port, starting = free_port(), Retry(connect=10, backoff_factor=0.05)
    with serving("benchmarks.floor", str(port), str(fixed), "1", "2"), Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=starting))
        answer = session.post(f"http://127.0.0.1:{port}{SERVICE}", json={}, timeout=10)
    assert (answer.status_code, answer.content) == (200, b'{"cards": []}')


def test_an_answer_counts_if_it_has_all_cards_in_their_order_and_no_other() -> None:
    now = datetime.now(UTC)
    head, body = b"HTTP/1.1 200 OK\r\n\r\n", answering(now)(build_request(50, now))
    assert holds(head + body, TOPICS)
    assert not holds(head.replace(b"200", b"500") + body, TOPICS)
    assert not holds(head + body, TOPICS[1:])
    assert not holds(head + body, [*TOPICS[1:], TOPICS[0]])
    assert not holds(head + body, [*TOPICS[:-1], b"another card"])
