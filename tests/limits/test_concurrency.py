"""Concurrency limits: who is over one is told at once, and each place is given back."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest

from cds_service.limits.concurrency import ConcurrencyLimit, TooBusyError


def test_one_caller_leaves_room_for_the_others() -> None:
    room = ConcurrencyLimit(3, each=True)
    with room.slot_for("a"), room.slot_for("a"):
        with pytest.raises(TooBusyError) as greedy, room.slot_for("a"):
            pass
        with room.slot_for("b"), pytest.raises(TooBusyError) as full, room.slot_for("c"):
            pass
    assert (greedy.value.of_one, full.value.of_one) == (True, False)


@pytest.mark.parametrize("greedy", [1, 2, 5])
def test_however_many_take_all_they_can_the_next_finds_room(greedy: int) -> None:
    """Each gives back one place at a time, and takes what it can again."""
    room, held = ConcurrencyLimit(16, each=True), [list[ExitStack]() for _ in range(greedy)]
    for turn in range(40):
        for number, places in enumerate(held):
            if turn and places:
                places.pop().close()
            with suppress(TooBusyError):
                while True:
                    place = ExitStack()
                    place.enter_context(room.slot_for(f"greedy {number}"))
                    places.append(place)
    with room.slot_for("the next"):
        pass
    counts = [len(places) for places in held]
    assert min(counts) >= 16 // (greedy + 2)
    assert sum(counts) >= 10


def test_room_is_given_back_whatever_happens() -> None:
    room = ConcurrencyLimit(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), room.slot_for("a"):
            raise ZeroDivisionError
    with room.slot_for("b"):
        pass
