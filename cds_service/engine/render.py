"""Rendering: from the decision on a card to the JSON that a client gets (CDS Hooks 2.0.1, "Card").

The parts of a card that are the same for all patients are made once (``Prerendered``). Only the
patient, the encounter, the time and the author are filled into a suggestion.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from ..content.schema import NOT_READ
from .card_json import (
    EXTENSION,
    Behind,
    Checked,
    CheckedContraindications,
    Choices,
    Coding,
    Create,
    Delete,
    Link,
    OldContraindications,
    Source,
    Suggestion,
    Why,
)
from .card_json import Card as CardJson
from .decision import CardDecision, ShownCard, TakenBack

if TYPE_CHECKING:
    from ..content.compiled import Content
    from ..content.schema import Card, Evidence, Reading
    from ..fhir.chart import Resource
    from .findings import Contraindications
    from .medicines import TakenMedicine

MOST_CITED = 2  # sources that a card names; the others are counted
MOST_LINKS = 12  # on one card
MOST_BACKINGS = 500  # that are kept in memory, and as many offers
TOPIC_SYSTEM = "urn:lactation-cds:card"
SOURCE_LABEL = "lactation-cds"

# The resource types that a suggestion may create, each with who may be its requester (FHIR R4).
REQUESTERS = {
    "ServiceRequest": {"Practitioner", "PractitionerRole", "Patient", "RelatedPerson"},
    "DeviceRequest": {"Practitioner", "PractitionerRole"},
    "CommunicationRequest": {"Practitioner", "PractitionerRole", "Patient", "RelatedPerson"},
}


class Context(Protocol):
    """The members that are read of the context of a hook (``protocol.Context``)."""

    @property
    def patient_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def encounter_id(self) -> str | None: ...


class SuggestionContext:
    """The patient, user and encounter of the hook's context, which are filled into suggestions."""

    def __init__(
        self,
        patient_id: str,
        user_id: str,
        encounter_id: str | None = None,
        hook: str = "patient-view",
    ) -> None:
        self.hook = hook
        self._patient = {"reference": f"Patient/{patient_id}"}
        self._user = {"reference": user_id}
        self._user_kind = user_id.partition("/")[0]
        self._encounter = (
            None if encounter_id is None else {"reference": f"Encounter/{encounter_id}"}
        )

    @classmethod
    def of(cls, hook: str, context: Context) -> SuggestionContext:
        """The suggestion context of a call of ``hook``."""
        return cls(context.patient_id, context.user_id, context.encounter_id, hook)

    def members_of(self, resource_type: str, now: str) -> Resource:
        """The members that are filled into a suggested resource; ``now`` is a FHIR instant."""
        members: Resource = {"subject": self._patient, "authoredOn": now}
        if resource_type == "CommunicationRequest":
            members["recipient"] = [self._patient]
        if self._encounter is not None:
            members["encounter"] = self._encounter
        if self._user_kind in REQUESTERS.get(resource_type, ()):
            members["requester"] = self._user
        return members


@dataclass(frozen=True, slots=True)
class Backing:
    """The evidence and rows behind a card that offers some interventions, for any patient."""

    evidence: list[str]  # ids
    cited: str  # the sources, as the card names them
    links: dict[str, Link]  # by address
    rows: list[str]


@dataclass(frozen=True, slots=True)
class Suggested:
    """A suggestion before the suggestion context is filled in, with its interventions."""

    interventions: str  # ids, joined by ``+``
    label: str
    recommended: bool
    resource: Resource


@dataclass(frozen=True, slots=True)
class Offer:
    """What a card offers by one click for some interventions, for any patient."""

    suggestions: list[Suggested]
    handout: dict[str, Link]  # the link to the handout, by address; empty if there is none


class Prerendered:
    """The parts of a card that are the same for all patients, made once.

    Most parts are made when the content is loaded. The backing and the offer of a card are made
    when the card first offers a list of interventions. ``handout_of`` takes the ids of
    interventions that are taught, and gives the address of a handout; without it no card links to
    one. Only sources that may be cited in ``country`` are named.
    """

    def __init__(
        self,
        content: Content,
        handout_of: Callable[[Sequence[str]], str] | None = None,
        country: str = "US",
    ) -> None:
        self.sources: dict[str, Source] = {
            card.id: {
                "label": SOURCE_LABEL,
                "topic": {"system": TOPIC_SYSTEM, "code": card.id, "display": card.title},
            }
            for card in content.cards.values()
        }
        self.override_reasons: list[Coding] = [
            {"code": reason.id, "system": reason.system, "display": reason.display}
            for reason in content.override_reasons.values()
        ]
        self._content = content
        self.own_links = {
            card.id: {link.url: _link(link.label, link.url) for link in card.links}
            for card in content.cards.values()
        }
        self.lactmed = {
            medicine.lactmed.url: _link(
                f"LactMed: {medicine.name}, revised {medicine.lactmed.revised}",
                medicine.lactmed.url,
            )
            for medicine in content.medicines.values()
            if medicine.lactmed is not None
        }
        self._handout_of = handout_of
        self._country = country
        self._backing_of = lru_cache(MOST_BACKINGS)(self._make_backing)
        self._offer_of = lru_cache(MOST_BACKINGS)(self._make_offer)

    def backing(self, card: Card, *interventions: str) -> Backing:
        """The evidence and rows behind a card that offers these interventions, by id.

        If the card does not cite, neither the names of sources nor links are given.
        """
        backing = self._backing_of(card.id, *interventions)
        return backing if card.cites else replace(backing, cited="", links={})

    def sources_of(self, taken: TakenMedicine, reading: Reading = NOT_READ) -> dict[str, Link]:
        """Links by address: the sources of a medicine, and its LactMed record, or the search."""
        limits = taken.medicine.limits_in(self._country) if taken.medicine is not None else None
        names = (reading.source or "", limits.source if limits is not None else "")
        links = links_of(self._content.evidence[n] for n in names if n in self._content.evidence)
        if taken.url is not None:
            known = self.lactmed.get(taken.url)
            links[taken.url] = known or _link(f"LactMed: {taken.name}", taken.url)
        return links

    def cited(self, names: Iterable[str]) -> list[Evidence]:
        """The sources with these ids that a card may name in the service's country, each once."""
        sources = (self._content.evidence[name] for name in dict.fromkeys(names))
        return [source for source in sources if source.is_cited_in(self._country)]

    def _make_backing(self, card_id: str, *interventions: str) -> Backing:
        card = self._content.cards[card_id]
        offered = [self._content.interventions[name] for name in interventions]
        names = [*(name for each in offered for name in each.evidence), *card.evidence]
        for each in offered:
            medicine = self._content.medicines.get(each.medicine or "")
            limits = medicine.limits_in(self._country) if medicine is not None else None
            names += [limits.source] if limits is not None else []
        evidence = self.cited(names)
        cited = list(dict.fromkeys(source.shortest for source in evidence))
        more = len(cited) - MOST_CITED
        links = links_of(evidence)
        for each in offered:
            record = self._content.medicines[each.medicine].lactmed if each.medicine else None
            if record is not None:
                links[record.url] = self.lactmed[record.url]
        return Backing(
            [source.id for source in evidence],
            f"{', '.join(cited[:MOST_CITED])}{f' and {more} more' if more > 0 else ''}",
            links,
            [*card.rows, *(row for each in offered for row in each.rows)],
        )

    def offer(self, card: Card, *interventions: str) -> Offer:
        """What a card offers by one click for these interventions, by id."""
        return self._offer_of(card.id, *interventions)

    def _make_offer(self, card_id: str, *interventions: str) -> Offer:
        """The suggestions for some interventions, and the link to the handout.

        Interventions with the same template first get one suggestion for all of them. It is
        recommended if one of them is; their single suggestions then no longer are.
        """
        content = self._content
        offered = [
            intervention
            for intervention in (content.interventions[name] for name in interventions)
            if intervention.suggestion is not None and intervention.id in content.suggested
        ]
        first: list[Suggested] = []
        within: set[str] = set()
        for template in content.templates.values():
            parts = [each for each in offered if each.template == template.id]
            label = content.cards[card_id].together or template.together
            if label is None or template.together is None or len(parts) < 2:
                continue
            within |= {each.id for each in parts}
            recommended = any(each.suggestion and each.suggestion.recommended for each in parts)
            whole = _together([content.suggested[each.id] for each in parts])
            label = label.replace("{count}", str(len(parts)))
            names = "+".join(each.id for each in parts)
            first.append(_suggest(names, label, recommended, whole))
        single = [
            _suggest(
                each.id,
                each.suggestion.label,
                each.suggestion.recommended and each.id not in within,
                content.suggested[each.id],
            )
            for each in offered
            if each.suggestion is not None
        ]
        handout: dict[str, Link] = {}
        taught = [each.id for each in offered if each.has_handout]
        if taught and self._handout_of is not None:
            url = self._handout_of(taught)
            handout[url] = _link("Handout for her", url)
        return Offer([*first, *single], handout)


def _link(label: str, url: str) -> Link:
    return {"label": label, "url": url, "type": "absolute"}


def links_of(sources: Iterable[Evidence]) -> dict[str, Link]:
    """Links to sources, by address."""
    return {
        source.link: _link(f"{source.short}: {source.source}", source.link)
        for source in sources
        if source.link
    }


def _together(resources: list[Resource]) -> Resource:
    """One resource for several of the same template, with the items of their lists, each once."""
    whole = dict(resources[0])
    for name, value in whole.items():
        if isinstance(value, list):
            lists = (resource[name] for resource in resources)
            listed = [item for each in lists if isinstance(each, list) for item in each]
            whole[name] = [item for n, item in enumerate(listed) if item not in listed[:n]]
    return whole


def _suggest(interventions: str, label: str, recommended: bool, resource: Resource) -> Suggested:
    same_for_all = {k: v for k, v in resource.items() if k not in ("subject", "recipient")}
    return Suggested(interventions, label, recommended, same_for_all)


class Rendering:
    """Makes the JSON of the cards of one answer. ``now`` must carry an offset."""

    def __init__(
        self,
        content: Content,
        prerendered: Prerendered,
        suggestion_context: SuggestionContext,
        now: datetime,
    ) -> None:
        self._content, self._prerendered = content, prerendered
        self._suggestion_context, self._now = suggestion_context, now.isoformat()
        start = _start_of_uuids(now)
        self._uuids = (f"{start}{number:06x}" for number in count(1))
        self._patient_members: dict[str, Resource] = {}  # by resource type

    def card(self, decision: CardDecision) -> tuple[CardJson, ShownCard]:
        """A card as it is sent, and as the card log keeps it."""
        prerendered, uuid = self._prerendered, next(self._uuids)
        choices: Choices = {}
        if prerendered.override_reasons:
            choices["overrideReasons"] = prerendered.override_reasons
        suggestions = [_take_back(each, next(self._uuids)) for each in decision.to_take_back]
        suggested: dict[str, str] = {}
        if decision.interventions:
            for each in prerendered.offer(decision.card, *decision.interventions).suggestions:
                identifier = next(self._uuids)
                suggested[identifier] = each.interventions
                suggestions.append(self._suggestion(each, identifier))
        if suggestions:
            choices["suggestions"] = suggestions
            choices["selectionBehavior"] = "any"
        links = prerendered.own_links[decision.card.id] | decision.links
        if links:
            choices["links"] = list(links.values())[:MOST_LINKS]
        card: CardJson = {
            "uuid": uuid,
            "summary": decision.summary,
            "indicator": decision.indicator,
            "detail": decision.detail,
            "source": prerendered.sources[decision.card.id],
            **choices,
            "extension": {EXTENSION: self._why(decision)},
        }
        return card, ShownCard(decision, uuid, suggested)

    def _suggestion(self, suggested: Suggested, uuid: str) -> Suggestion:
        kind = str(suggested.resource["resourceType"])
        members = self._patient_members.get(kind)
        if members is None:
            members = self._suggestion_context.members_of(kind, self._now)
            self._patient_members[kind] = members
        label = suggested.label
        create: Create = {
            "type": "create",
            "description": label,
            "resource": suggested.resource | members,
        }
        if not suggested.recommended:
            return {"label": label, "uuid": uuid, "actions": [create]}
        return {"label": label, "uuid": uuid, "isRecommended": True, "actions": [create]}

    def _why(self, decision: CardDecision) -> Why:
        """The extension of a card: why it is shown, for programs."""
        content, behind = self._content, Behind()
        if decision.interventions:
            behind["interventions"] = decision.interventions
        if decision.because:
            behind["because"] = decision.because
        if decision.evidence:
            behind["evidence"] = decision.evidence
        if decision.interventions:
            grades = {name: content.interventions[name].grade for name in decision.interventions}
            behind["grades"] = grades
        checked = Checked()
        if decision.contraindications:
            ids = {name: _ids_of(each) for name, each in decision.contraindications.items()}
            checked["contraindications"] = ids
            checked["guards"] = {name: _by_old_names(each) for name, each in ids.items()}
        rows = rows_of(decision, content)
        return {"rows": rows, **behind, "content": content.version, **checked}


def rows_of(decision: CardDecision, content: Content) -> list[str]:
    """The rows behind a card and the contraindications checked, in the order of the content."""
    used = set(decision.rows)
    for checked in decision.contraindications.values():
        used.update(row for each in checked.all() for row in each.rows)
    return [row for row in content.rows if row in used]


def _ids_of(checked: Contraindications) -> CheckedContraindications:
    """The ids of the contraindications that are present, not known, and absent."""
    return {
        "present": [each.id for each in checked.present],
        "unknown": [each.id for each in checked.unknown],
        "absent": [each.id for each in checked.absent],
    }


def _by_old_names(ids: CheckedContraindications) -> OldContraindications:
    """The same by the old names of the three, which are sent for one release."""
    return {"open": ids["present"], "unchecked": ids["unknown"], "clear": ids["absent"]}


def _take_back(taken_back: TakenBack, uuid: str) -> Suggestion:
    """A suggestion that deletes a draft order."""
    label = f"Take back {taken_back.name}"
    action: Delete = {"type": "delete", "description": label, "resourceId": taken_back.reference}
    return {"label": label, "uuid": uuid, "actions": [action]}


def _start_of_uuids(now: datetime) -> str:
    """All but the last six digits of a UUID of version 7 (RFC 9562, section 5.7).

    It consists of the time and a random number; a count follows. Such UUIDs ascend with time, so
    that the database adds new rows at one place of its index, and not all over it.
    """
    time, chance = int(now.timestamp() * 1000) & (1 << 48) - 1, secrets.randbits(50)
    version, variant = 7, 2
    number = time << 80 | version << 76 | (chance >> 38) << 64 | variant << 62
    return str(UUID(int=number | (chance & (1 << 38) - 1) << 24))[:-6]
