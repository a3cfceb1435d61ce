"""Errors: why the service cannot start, and what a client gets in place of cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from gunicorn.errors import AppImportError
from pydantic import Field, ValidationError
from typing_extensions import TypedDict


class CannotStart(AppImportError, RuntimeError):  # type: ignore[misc]
    """A fault of the settings or files that the service starts with; the message has no secret.

    It has two base classes, so that gunicorn prints its message and no traceback: of the one when
    a worker makes the application, of the other before there are workers.
    """


def say_problem(problem: Mapping[str, Any]) -> str:
    """A problem that pydantic found in a file, in words for the author of the file."""
    if problem["type"] == "extra_forbidden":
        return "there is no member of this name here"
    return str(problem["msg"]).removeprefix("Value error, ")


def say_with_place(problem: Mapping[str, Any]) -> str:
    """A problem that pydantic found in a file, behind the place of the member that it is about."""
    return f"{'.'.join(str(step) for step in problem['loc'])}: {say_problem(problem)}"


def say_problems(error: ValidationError) -> str:
    """All that pydantic found in a file, each with its place; without values, which may be keys."""
    return "; ".join(map(say_with_place, error.errors(include_input=False, include_url=False)))


class Refusal(Exception):
    """A request that is not answered with cards: the HTTP status, and the reason in words."""

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
    """Why a request was refused, or failed (FHIR R4, "OperationOutcome")."""

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
