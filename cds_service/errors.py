"""What keeps the service from starting, and what is answered in place of cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from gunicorn.errors import AppImportError
from pydantic import Field
from typing_extensions import TypedDict


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


class Refusal(Exception):
    """A request that is not answered with cards: the HTTP status, and why in plain words."""

    def __init__(
        self,
        status: int,
        reason: str,
        code: str = "invalid",
        expression: list[str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.code = code
        self.expression = expression
        self.headers = headers or {}


Severity = Literal["fatal", "error"]
Text = Annotated[str, Field(min_length=1)]


class Details(TypedDict):
    """What went wrong, in words."""

    text: Text


class Issue(TypedDict):
    """What went wrong, and at which member of the request."""

    severity: Severity
    code: Text
    details: Details
    expression: NotRequired[Annotated[list[Text], Field(min_length=1)]]


class OperationOutcome(TypedDict):
    """Why a request was refused, or failed (FHIR R4)."""

    resourceType: Literal["OperationOutcome"]
    issue: Annotated[list[Issue], Field(min_length=1)]


def operation_outcome(
    reason: str, code: str, expression: list[str] | None = None, severity: Severity = "error"
) -> OperationOutcome:
    """An outcome with one issue. ``code`` is of the FHIR issue-type code system."""
    issue: Issue = {"severity": severity, "code": code, "details": {"text": reason}}
    if expression:
        issue["expression"] = expression
    return {"resourceType": "OperationOutcome", "issue": [issue]}
