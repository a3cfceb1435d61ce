"""What keeps the service from starting, in words for whoever starts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gunicorn.errors import AppImportError


class CannotStart(AppImportError, RuntimeError):  # type: ignore[misc]
    """A fault of what the service is started with; the message says which, and no secret.

    A gunicorn that makes the application itself prints the message of the one kind of error from a
    worker, and that of the other before there are any; of all others it prints a traceback.
    """


def say_problem(problem: Mapping[str, Any]) -> str:
    """What pydantic found wrong with a member of a file, for whoever wrote it."""
    if problem["type"] == "extra_forbidden":
        return "there is no member of this name here"
    return str(problem["msg"]).removeprefix("Value error, ")
