"""Room: who finds none is told at once, and what was taken is given back."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest

from cds_service.limits.concurrency import Room, TooBusyError


def test_one_caller_leaves_room_for_the_others() -> None:
    room = Room(3, each=True)
    with room.taken_by("a"), room.taken_by("a"):
        with pytest.raises(TooBusyError) as greedy, room.taken_by("a"):
            pass
        with room.taken_by("b"), pytest.raises(TooBusyError) as full, room.taken_by("c"):
            pass
    assert (greedy.value.of_one, full.value.of_one) == (True, False)


@pytest.mark.parametrize("greedy", [1, 2, 5])
def test_however_many_take_all_they_can_the_next_finds_room(greedy: int) -> None:
    """Each gives back one place at a time, and takes what it can again."""
    room, held = Room(16, each=True), [list[ExitStack]() for _ in range(greedy)]
    for turn in range(40):
        for number, places in enumerate(held):
            if turn and places:
                places.pop().close()
            with suppress(TooBusyError):
                while True:
                    place = ExitStack()
                    place.enter_context(room.taken_by(f"greedy {number}"))
                    places.append(place)
    with room.taken_by("the next"):
        pass
    counts = [len(places) for places in held]
    assert min(counts) >= 16 // (greedy + 2)
    assert sum(counts) >= 10


def test_room_is_given_back_whatever_happens() -> None:
    room = Room(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), room.taken_by("a"):
            raise ZeroDivisionError
    with room.taken_by("b"):
        pass
