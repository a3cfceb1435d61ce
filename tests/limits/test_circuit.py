"""A circuit: nobody waits for what has just failed slowly, and all go on once one has done it."""

from __future__ import annotations

import pytest

from cds_service.limits.circuit import AGAIN_AFTER, SLOW, Circuit, CircuitOpenError


class Tried:
    """Something that takes ``seconds``, and fails or not."""

    def __init__(self) -> None:
        self.now, self.times = 0.0, 0
        self.circuit = Circuit(lambda: self.now)

    def __call__(self, seconds: float, fails: bool) -> None:
        with self.circuit.trying():
            self.times += 1
            self.now += seconds
            if fails:
                raise ZeroDivisionError


@pytest.fixture
def tried() -> Tried:
    return Tried()


def test_what_fails_slowly_is_not_tried_again_at_once(tried: Tried) -> None:
    with pytest.raises(ZeroDivisionError):
        tried(SLOW, fails=True)
    for _ in range(5):
        with pytest.raises(CircuitOpenError):
            tried(0, fails=False)
    assert tried.times == 1
    tried.now += AGAIN_AFTER
    tried(0, fails=False)
    tried(0, fails=False)
    assert tried.times == 3


def test_what_fails_at_once_costs_nothing_and_is_tried_each_time(tried: Tried) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            tried(SLOW / 2, fails=True)
    tried(0, fails=False)


def test_while_one_tries_again_the_others_do_not_wait(tried: Tried) -> None:
    with pytest.raises(ZeroDivisionError):
        tried(SLOW, fails=True)
    tried.now += AGAIN_AFTER
    with tried.circuit.trying():
        for _ in range(3):
            with pytest.raises(CircuitOpenError):
                tried(0, fails=False)
    tried(0, fails=False)


def test_one_that_fails_again_keeps_it_open(tried: Tried) -> None:
    with pytest.raises(ZeroDivisionError):
        tried(SLOW, fails=True)
    tried.now += AGAIN_AFTER
    with pytest.raises(ZeroDivisionError):
        tried(0, fails=True)
    with pytest.raises(CircuitOpenError):
        tried(0, fails=False)
