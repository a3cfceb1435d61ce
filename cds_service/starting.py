"""What keeps the service from starting, in words for whoever starts it."""

from __future__ import annotations

from gunicorn.errors import AppImportError


class CannotStart(AppImportError, RuntimeError):  # type: ignore[misc]
    """A fault of what the service is started with; the message says which, and no secret.

    A gunicorn that makes the application itself prints the message of the one kind of error from a
    worker, and that of the other before there are any; of all others it prints a traceback.
    """
