"""Feedback: an EHR reports that a clinician has accepted or overridden a card.

CDS Hooks 2.0.1, "Feedback". One call may have feedback on many cards, and several calls may be
about the same card: then the latest feedback counts. Ignored cards are never reported. If any item
of a call is not valid, the whole call is refused.

Members that are free text in the protocol may name a patient, and are not stored as they were sent.
A reason that is not in the content is stored as ``other``. The id of a card or suggestion is stored
as ``unknown`` if it is not a UUID, because all of our ids are UUIDs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from ..content.compiled import Content
from ..content.schema import OTHER_REASON
from ..errors import Refusal
from ..storage.database import FeedbackRow
from .protocol import MEMBERS, read_object, refusal_of

MOST_ITEMS = 1000
LONGEST_COMMENT = 1000  # characters that are kept; the rest is cut
MOST_STORED = 256 * 1024  # characters of suggestions and comments, in one call

UNKNOWN = "unknown"  # stored in place of an id of a card or suggestion that is not ours

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def _instant(text: Any) -> datetime:
    if not isinstance(text, str) or not _INSTANT.fullmatch(text.upper()):
        raise ValueError("must be a date and time with an offset (RFC 3339)")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError("must be a time that there is") from None


Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class AcceptedSuggestion(_Lenient):
    """A suggestion that was accepted, by its uuid on the card."""

    id: Name


class Reason(_Lenient):
    """The code of an override reason. Some clients leave out the system."""

    code: Name
    system: Name | None = None


class Override(_Lenient):
    """Why a card was overridden: by a code, in the clinician's own words, or both."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["reason"]}, {"required": ["userComment"]}]}
    )

    reason: Reason | None = None
    comment: str | None = Field(default=None, alias="userComment")

    @model_validator(mode="after")
    def _has_reason_or_comment(self) -> Override:
        if self.reason is None and self.comment is None:
            raise ValueError("needs a reason or a userComment")
        return self


class Feedback(_Lenient):
    """The outcome of one card."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"outcome": {"const": "accepted"}}},
            "then": {
                "required": ["acceptedSuggestions"],
                "properties": {"acceptedSuggestions": {"minItems": 1}},
            },
        }
    )

    card: Name
    outcome: Literal["accepted", "overridden"]
    occurred: Annotated[datetime, BeforeValidator(_instant)] = Field(alias="outcomeTimestamp")
    accepted_suggestions: list[AcceptedSuggestion] = Field(
        default_factory=list, alias="acceptedSuggestions", max_length=100, validate_default=True
    )
    override: Override | None = Field(default=None, alias="overrideReason")

    @field_validator("accepted_suggestions")
    @classmethod
    def _has_accepted_suggestions(
        cls, taken: list[AcceptedSuggestion], info: ValidationInfo
    ) -> list[AcceptedSuggestion]:
        if info.data.get("outcome") == "accepted" and not taken:
            raise ValueError("accepted needs acceptedSuggestions")
        return taken

    def row(
        self, client: str, tenant: str, service: str, content: Content, keep_comment: bool
    ) -> FeedbackRow:
        """The row to store. It replaces an earlier row with the same card, time and tenant.

        ``client`` and ``tenant`` are those of the token. Reasons that are in ``content`` are stored
        with their code. ``keep_comment`` says whether the comment is stored.
        """
        same = f"{client}\0{tenant}\0{service}\0{self.card}\0{self.occurred.isoformat()}"
        why = self.override or Override.model_construct()
        system, code = _known_reason(why.reason, content) if why.reason else (None, None)
        return {
            "key": hashlib.sha256(same.encode("utf-8", "replace")).hexdigest(),
            "client": client,
            "tenant": tenant,
            "service": service,
            "card": _known_id(self.card),
            "outcome": self.outcome,
            "occurred": int(self.occurred.timestamp() * 1000),
            "suggestions": " ".join(
                dict.fromkeys(_known_id(taken.id) for taken in self.accepted_suggestions)
            ),
            "reason_system": system,
            "reason_code": code,
            "commented": bool(why.comment),
            "comment": _cut_comment(why.comment) if keep_comment and why.comment else None,
        }


class FeedbackCall(TypedDict):
    """The outcomes of one card or several cards."""

    feedback: Annotated[list[Feedback], Field(min_length=1, max_length=MOST_ITEMS)]


Nothing = Annotated[dict[str, str], Field(max_length=0)]  # the answer


def read_feedback(body: bytes) -> list[Feedback]:
    """The items of a call. Raises ``Refusal``: 400 if they are not valid, 413 if too many."""
    document = read_object(body)
    items = document.get("feedback")
    if not isinstance(items, list) or not items:
        raise Refusal(400, f"feedback must be {MEMBERS['feedback']}.", "value", ["feedback"])
    if len(items) > MOST_ITEMS:
        raise Refusal(413, f"There are more than {MOST_ITEMS} items of feedback.", "too-long")
    read = []
    for number, item in enumerate(items):
        try:
            read.append(Feedback.model_validate(item))
        except ValidationError as error:
            raise refusal_of(error, "feedback", number) from None
    return read


def must_be_stored(rows: Sequence[FeedbackRow]) -> None:
    """Raises ``Refusal`` (413) if the rows of a call would take too much of the database."""
    texts = (text for row in rows for text in (row["suggestions"], row["comment"] or ""))
    if sum(map(len, texts)) > MOST_STORED:
        raise Refusal(413, "There is too much in this feedback to store.", "too-costly")


def _known_reason(reason: Reason, content: Content) -> tuple[str | None, str]:
    """System and code of a reason in the content; without a system, only the code is compared."""
    known = content.override_reasons.get(reason.code)
    if known is None or reason.system not in (None, known.system):
        return None, OTHER_REASON
    return known.system, known.id


def _known_id(sent: str) -> str:
    return sent if _UUID.fullmatch(sent) else UNKNOWN


def _cut_comment(comment: str) -> str:
    return comment.replace("\0", "")[:LONGEST_COMMENT]  # no database can store a NUL
