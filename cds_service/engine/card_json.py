"""The JSON of the cards in an answer, as this service writes it (CDS Hooks 2.0.1, "Card").

The description of the service (``/openapi.json``) is made from these types and their docstrings.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NotRequired

from pydantic import Field

# Pydantic describes a ``TypedDict`` of ``typing`` only from Python 3.12 on.
from typing_extensions import TypedDict

from ..errors import Text
from ..fhir.chart import Resource

EXTENSION: Final = "org.lactation-cds"
MOST_CARDS = 4

Indicator = Literal["info", "warning", "critical"]
Url = Annotated[str, Field(pattern=r"^https?://")]
Texts = Annotated[list[Text], Field(min_length=1)]
SuggestedResource = Annotated[Resource, Field(json_schema_extra={"required": ["resourceType"]})]


class Coding(TypedDict):
    """A code, with its code system and its name."""

    code: Text
    system: Text
    display: Text


class Source(TypedDict):
    """The source of a card. Its topic says which card of the content it is."""

    label: Text
    topic: Coding


class Create(TypedDict):
    """An action that creates a resource."""

    type: Literal["create"]
    description: Text
    resource: SuggestedResource


class Delete(TypedDict):
    """An action that deletes a draft order, by the relative reference to it."""

    type: Literal["delete"]
    description: Text
    resourceId: Text


Action = Create | Delete


class Suggestion(TypedDict):
    """What a card offers by one click: resources to create, or a draft order to delete."""

    label: Text
    uuid: Text
    isRecommended: NotRequired[bool]
    actions: Annotated[list[Action], Field(min_length=1)]


class Link(TypedDict):
    """A link to a source, or to a handout for the mother."""

    label: Text
    url: Url
    type: Literal["absolute"]


class Told(TypedDict, total=False):
    """One reason why a card is shown.

    It is a fact with its value, a medicine or an order, two medicines that interact, or, with a
    ``problem``, something that is missing or could not be used.
    """

    fact: str
    finding: str
    measure: str
    value: str | float | None
    unit: str
    time: str
    interaction: str
    severity: str
    problem: str
    band: str
    matched: str
    references: list[str]


class CheckedContraindications(TypedDict):
    """The ids of the contraindications of one intervention: present, not known, and absent."""

    present: list[str]
    unknown: list[str]
    absent: list[str]


class OldContraindications(TypedDict):
    """The same by their old names, for one release."""

    open: list[str]
    unchecked: list[str]
    clear: list[str]


class Behind(TypedDict, total=False):
    """What a card offers, its reasons, evidence and grades, by ids of the content."""

    interventions: Texts
    because: Annotated[list[Told], Field(min_length=1)]
    evidence: Texts
    grades: dict[str, str]


class Checked(TypedDict, total=False):
    """The contraindications that were checked, by the intervention or medicine that has them.

    ``guards`` is the old name of ``contraindications``, for one release.
    """

    contraindications: Annotated[dict[str, CheckedContraindications], Field(min_length=1)]
    guards: Annotated[dict[str, OldContraindications], Field(min_length=1)]


class Why(Behind, Checked):
    """Why a card is shown, for programs: ids of the content, and its version."""

    rows: Texts
    content: Text


CardExtension = TypedDict("CardExtension", {"org.lactation-cds": Why})


class Choices(TypedDict, total=False):
    """What a clinician can do with a card. A member that would be empty is left out."""

    overrideReasons: Annotated[list[Coding], Field(min_length=1)]
    suggestions: Annotated[list[Suggestion], Field(min_length=1)]
    selectionBehavior: Literal["any"]
    links: Annotated[list[Link], Field(min_length=1)]


class Card(Choices):
    """A card: what a clinician reads, and can do by one click."""

    uuid: Text
    summary: Annotated[Text, Field(max_length=139)]
    detail: Text
    indicator: Indicator
    source: Source
    extension: CardExtension


class Suppressed(TypedDict):
    """A card that is held back because it was overridden: until when, and the override reason.

    A card about orders is held back for some orders and may be shown for others: ``orders`` has the
    names of those for which it is held back.
    """

    card: Text
    until: Text
    reason: NotRequired[Text]
    orders: NotRequired[Texts]


class Suppressions(TypedDict):
    """The cards that are held back. Only a service with ``CDS_EXPLAIN`` tells of them.

    ``quiet`` is the old name of ``suppressed``, for one release.
    """

    suppressed: Annotated[list[Suppressed], Field(min_length=1)]
    quiet: Annotated[list[Suppressed], Field(min_length=1)]


CardsExtension = TypedDict("CardsExtension", {"org.lactation-cds": Suppressions})


class Cards(TypedDict):
    """The answer to a call: the cards, the most urgent first."""

    cards: Annotated[list[Card], Field(max_length=MOST_CARDS)]
    extension: NotRequired[CardsExtension]
