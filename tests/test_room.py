"""Room: who finds none is told at once, and what was taken is given back."""

from __future__ import annotations

import pytest

from cds_service.room import Room, TooBusyError


def test_one_caller_leaves_room_for_the_others() -> None:
    room = Room(3, 2)
    with room.taken_by("a"), room.taken_by("a"):
        with pytest.raises(TooBusyError) as greedy, room.taken_by("a"):
            pass
        with room.taken_by("b"), pytest.raises(TooBusyError) as full, room.taken_by("c"):
            pass
    assert (greedy.value.of_one, full.value.of_one) == (True, False)


def test_room_is_given_back_whatever_happens() -> None:
    room = Room(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), room.taken_by("a"):
            raise ZeroDivisionError
    with room.taken_by("b"):
        pass
