"""Cards: what the clinician reads (CDS Hooks 2.0.1, "Card Attributes").

One bottom line, her own numbers, what to do, why, and the evidence: in lines that read well also
where Markdown is not rendered. The words are data; here they are put together, the most urgent
first and at most four. A card without something new to do is not shown. Only the patient, the
encounter, the time and the author are filled into a suggestion; the rest is built beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from .conditions import Because, Truth
from .content import BANDS, INTERACTING, NOT_READ
from .facts import MOST_REFERENCES, RECORDED_WHEN
from .interventions import Choice, check_guards, choose
from .medicines import TakenMedicine
from .quiet import INDICATORS, NOTHING_SAID, Quiet, Shown
from .times import HOUR, MINUTE, say_ago
from .together import SAYS, TO_WARN_OF, Pair
from .wording import ALSO_MISSING, LONGEST_SUMMARY, NOT_RECORDED

if TYPE_CHECKING:
    from .content import Band, Card, Content, Evidence, Guard, Reading
    from .fact_types import FactValue
    from .feeds import OrderedFeed
    from .findings import MotherCase

MOST_CARDS = 4
# What is written out on one card, less for each reason why something is not for now; the rest is
# named in a line. So a card has 120 words at most.
MOST_WRITTEN_OUT = 3
MOST_CITED = 2
# Of a fact: it is known, or the card that asks for data asks for it again.
TOLD_ELSEWHERE = ("known", "conflicting", "unusable")
MOST_UNKNOWN = 3  # of what could not be checked, on a card that tells of pairs
MOST_WORDS = 120
MOST_MEDICINES = 5  # that are named, the first with their lines
MOST_PAIRS = 3  # of what is said of medicines together
MOST_IN_A_SUMMARY = 2  # that are named there as not for beside one
_WORD = re.compile(r"[^\W_]+")
_OF_AN_ORDER = re.compile(r"\*\*[^*\n]+\*\*: ")  # a paragraph with what was read of an order
# What medicines without a line are, by band, and how many of the others are so.
REST_IS: dict[Band, str] = {
    "avoid": "To avoid",
    "ask-first": "Ask first about",
    "not-read": "Not read",
    "watch": "Watch the infant with",
    "compatible": "Compatible",
}
COUNTED_AS: dict[Band, str] = {
    "avoid": "to avoid",
    "ask-first": "to ask about",
    "not-read": "not read",
    "watch": "to watch the infant with",
    "compatible": "compatible",
}
MOST_LINKS = 12
MOST_BACKINGS = 500  # that are kept ready
TOPIC_SYSTEM = "urn:lactation-cds:card"
TAUGHT = "teaching"  # the template of what has a handout
EXTENSION = "org.lactation-cds"
SOURCE_LABEL = "lactation-cds"

# The types that a suggestion may create, and (FHIR R4) who may be the requester of each.
REQUESTERS = {
    "ServiceRequest": {"Practitioner", "PractitionerRole", "Patient", "RelatedPerson"},
    "DeviceRequest": {"Practitioner", "PractitionerRole"},
    "CommunicationRequest": {"Practitioner", "PractitionerRole", "Patient", "RelatedPerson"},
}

# The unit in which a measure stands in ``because``, and what to divide it by.
MEASURE_UNITS: dict[str, tuple[str | None, float]] = {
    "longest-gap": ("min", MINUTE),
    "covered": ("h", HOUR),
    "held": ("h", HOUR),
    "hours": ("h", 1.0),
    "days": ("d", 1.0),
    "days-about": ("d", 1.0),
    "count": (None, 1.0),
}


class Context(Protocol):
    """Whom a hook is about, and where (``protocol.Context``)."""

    @property
    def patient_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def encounter_id(self) -> str | None: ...


class Setting:
    """Where a suggestion belongs: the patient, user and encounter of the hook's context."""

    def __init__(
        self,
        patient_id: str,
        user_id: str,
        encounter_id: str | None = None,
        hook: str = "patient-view",
    ) -> None:
        self.hook = hook
        self._patient = orjson.dumps({"reference": f"Patient/{patient_id}"})
        self._user = orjson.dumps({"reference": user_id})
        self._user_kind = user_id.partition("/")[0]
        self._encounter = orjson.dumps({"reference": f"Encounter/{encounter_id}"})
        self._in_encounter = encounter_id is not None

    @classmethod
    def of(cls, hook: str, context: Context) -> Setting:
        """That of a call of ``hook``."""
        return cls(context.patient_id, context.user_id, context.encounter_id, hook)

    def members_of(self, resource_type: str, now: str) -> bytes:
        """What makes a suggested resource hers, as JSON: patient, time, encounter and author."""
        members = [b',"subject":', self._patient, b',"authoredOn":"', now.encode(), b'"']
        if resource_type == "CommunicationRequest":
            members += [b',"recipient":[', self._patient, b"]"]
        if self._in_encounter:
            members += [b',"encounter":', self._encounter]
        if self._user_kind in REQUESTERS.get(resource_type, ()):
            members += [b',"requester":', self._user]
        return b"".join(members)


@dataclass(frozen=True, slots=True)
class Backing:
    """What stands behind a card that offers some interventions, whoever the mother is."""

    evidence: list[str]  # ids
    cited: str  # as it is written on the card
    links: dict[str, orjson.Fragment]  # by address
    rows: list[str]


@dataclass(frozen=True, slots=True)
class Suggested:
    """A suggestion but for what is hers, as JSON, and the interventions that it is for."""

    interventions: str  # ids, with a plus sign between two
    before_uuid: bytes
    before_hers: bytes
    resource_type: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What a card that has some interventions to offer lets one do with a click."""

    suggestions: list[Suggested]
    handout: dict[str, orjson.Fragment]  # the link to it, by address


class Printed:
    """What is the same on a card for all mothers, written once.

    Most of it when the content is loaded; the backing of a card by what it offers, and the offer,
    when that first comes. ``handout_of`` gives the address of a handout for interventions that are
    taught, by their ids; without it no card links to one. Sources are named as the ``country``
    allows.
    """

    def __init__(
        self,
        content: Content,
        handout_of: Callable[[Sequence[str]], str] | None = None,
        country: str = "US",
    ) -> None:
        self.sources = {
            card.id: orjson.Fragment(
                orjson.dumps(
                    {
                        "label": SOURCE_LABEL,
                        "topic": {"system": TOPIC_SYSTEM, "code": card.id, "display": card.title},
                    }
                )
            )
            for card in content.cards.values()
        }
        reasons = [
            {"code": reason.id, "system": reason.system, "display": reason.display}
            for reason in content.override_reasons.values()
        ]
        self.override_reasons = orjson.Fragment(orjson.dumps(reasons)) if reasons else None
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
        """What stands behind a card that offers these interventions, by id.

        Of one that does not cite, nothing of it is on its face.
        """
        backing = self._backing_of(card.id, *interventions)
        return backing if card.cites else replace(backing, cited="", links={})

    def sources_of(
        self, taken: TakenMedicine, reading: Reading = NOT_READ
    ) -> dict[str, orjson.Fragment]:
        """Links by address: where a medicine was read, and its record, or the search for it."""
        limits = taken.medicine.limits_in(self._country) if taken.medicine is not None else None
        names = (reading.source or "", limits.source if limits is not None else "")
        links = _links_of(self._content.evidence[n] for n in names if n in self._content.evidence)
        if taken.url is not None:
            known = self.lactmed.get(taken.url)
            links[taken.url] = known or _link(f"LactMed: {taken.name}", taken.url)
        return links

    def cited(self, names: Iterable[str]) -> list[Evidence]:
        """Of sources, by id, those that a card may name where the service works, each once."""
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
        links = _links_of(evidence)
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
        """What a card with these interventions to offer, by id, lets one do with a click."""
        return self._offer_of(card.id, *interventions)

    def _make_offer(self, card_id: str, *interventions: str) -> Offer:
        """The suggestions, those of one kind together first, and the link to the handout.

        What is suggested together is recommended if a part of it is, and the parts no more.
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
            first.append(_print_suggestion(names, label, recommended, whole))
        single = [
            _print_suggestion(
                each.id,
                each.suggestion.label,
                each.suggestion.recommended and each.id not in within,
                content.suggested[each.id],
            )
            for each in offered
            if each.suggestion is not None
        ]
        handout: dict[str, orjson.Fragment] = {}
        taught = [each.id for each in offered if each.template == TAUGHT]
        if taught and self._handout_of is not None:
            url = self._handout_of(taught)
            handout[url] = _link("Handout for her", url)
        return Offer([*first, *single], handout)


def _link(label: str, url: str) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps({"label": label, "url": url, "type": "absolute"}))


def _links_of(sources: Iterable[Evidence]) -> dict[str, orjson.Fragment]:
    """Links to sources, by address."""
    return {
        source.link: _link(f"{source.short}: {source.source}", source.link)
        for source in sources
        if source.link
    }


def _together(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """One resource for several of one template: all that each of them lists, each once."""
    whole = dict(resources[0])
    for name, value in whole.items():
        if isinstance(value, list):
            listed = [item for resource in resources for item in resource[name]]
            whole[name] = [item for n, item in enumerate(listed) if item not in listed[:n]]
    return whole


def _print_suggestion(
    interventions: str, label: str, recommended: bool, resource: dict[str, Any]
) -> Suggested:
    written = orjson.dumps(label)
    same_for_all = {k: v for k, v in resource.items() if k not in ("subject", "recipient")}
    return Suggested(
        interventions,
        b'{"label":' + written + b',"uuid":"',
        b'"'
        + (b',"isRecommended":true' if recommended else b"")
        + b',"actions":[{"type":"create","description":'
        + written
        + b',"resource":'
        + orjson.dumps(same_for_all)[:-1],
        resource["resourceType"],
    )


class NothingEvaluated(Exception):
    """No card could be judged. An empty answer would be read as "no concern"."""


def compose(
    case: MotherCase, setting: Setting, printed: Printed, quiet: Quiet = NOTHING_SAID
) -> list[dict[str, Any]]:
    """The cards of one mother, the most urgent first, at most ``MOST_CARDS``.

    They are ready for ``orjson``; parts of them are JSON already (``orjson.Fragment``). Which were
    shown is in ``case.shown``, and which are held back by ``quiet`` in ``case.held_back``.

    Does not raise for one card: what cannot be put together is kept in ``case.faults`` and told on
    the card that asks for data. Raises ``NothingEvaluated`` if that is so for all of them.
    """
    judged = False
    withheld: list[str] = []
    built: list[tuple[tuple[int, int], Shown, str, dict[str, Any]]] = []

    def build(card: Card, made: dict[str, Any]) -> None:
        shown = _shown(card, made, case)
        said = quiet.holds_back(shown)
        if said is not None:
            case.held_back[card.id] = said
        else:
            built.append((_rank(made, card), shown, _title_of(card, made, case), made))

    data_needed: Card | None = None
    for card in case.content.cards.values():
        case.chart.go_on()
        if not case.gates_let_through(card.under):
            judged = True
            continue
        if card.body == "data-needed":  # last: it tells what went wrong with the others
            if data_needed is None or setting.hook in card.hooks:
                data_needed = card
            continue
        if setting.hook not in card.hooks:
            continue
        holds = case.holds("card", card.title, card.when, card.unless)
        judged = judged or holds is False
        if holds is not True:
            continue
        stronger = next((name for name in card.withheld_by if case.finding(name) is True), None)
        if stronger is not None:
            judged = True
            withheld.append(f"{card.title} ({case.content.findings[stronger].label})")
            continue
        try:
            card = case.worded(card)
            made_of = _make(card, case, setting, printed)
        except Exception as error:
            case.faults[f"card {card.title}"] = type(error).__name__
            continue
        judged = True
        for made in made_of:
            build(card, made)
    if case.faults and not judged:
        raise NothingEvaluated(", ".join(sorted(case.faults)))
    if data_needed is not None and (setting.hook in data_needed.hooks or case.faults):
        data_needed = case.worded(data_needed)
        asked = _make_data_needed(data_needed, case, printed, told=bool(built))
        if asked is not None:
            build(data_needed, asked)
    built.sort(key=lambda ranked: ranked[0])
    cards = [made for *_, made in built[:MOST_CARDS]]
    case.shown = [shown for _, shown, *_ in built[:MOST_CARDS]]
    if case.ordered_medicines:
        _say_once(cards)
    if cards and withheld:
        cards[0]["detail"] += f"\n\nWithheld: {', '.join(withheld)}."
    if len(built) > MOST_CARDS:
        left_out = ", ".join(title for _, _, title, _ in built[MOST_CARDS:])
        cards[-1]["detail"] += f"\n\nNot shown, as less urgent: {left_out}."
    return cards


def _say_once(cards: list[dict[str, Any]]) -> None:
    """What one card says of an order is not said again of the same one on a less urgent card."""
    said: set[str] = set()
    for made in cards:
        own = made["detail"].split("\n\n")
        made["detail"] = "\n\n".join(paragraph for paragraph in own if paragraph not in said)
        said.update(paragraph for paragraph in own if _OF_AN_ORDER.match(paragraph))


def _title_of(card: Card, made: dict[str, Any], case: MotherCase) -> str:
    """What a card is called where it is not shown; one about orders with their names."""
    if card.body != "order":
        return card.title
    known = case.content.medicines | case.content.feeds
    keys = _orders_of(made["extension"][EXTENSION]["because"])
    names = {each.key: each.name for each in case.ordered_medicines}
    said = [names[key] if key in names else known[key].name for key in keys]
    return f"{card.title} ({_name_some(said)})"


def _shown(card: Card, made: dict[str, Any], case: MotherCase) -> Shown:
    """What a card is, and what stands behind it, by what it carries for machines."""
    why = made["extension"][EXTENSION]
    because = [entry for entry in why.get("because", ()) if "problem" not in entry]
    about = "+".join(_orders_of(because)) if card.body == "order" else ""
    return Shown(
        made["uuid"],
        card.id,
        about,
        made["indicator"],
        tuple(why.get("interventions", ())),
        case.offered.get(made["uuid"], {}),
        because,
        card.never_quiet
        or bool(card.body == "data-needed" and made["indicator"] != card.indicator),
        case.day_of_birth if card.overridden_for else None,
    )


def _orders_of(because: Iterable[dict[str, Any]]) -> list[str]:
    """The orders among what stands behind a card."""
    return [entry["value"] for entry in because if "interaction" not in entry]


def _rank(made: dict[str, Any], card: Card) -> tuple[int, int]:
    return INDICATORS.index(made["indicator"]), card.urgency


def _make(card: Card, case: MotherCase, setting: Setting, printed: Printed) -> list[dict[str, Any]]:
    """What a card comes to for her: nothing, one, or one for each order that it is about."""
    made: list[dict[str, Any] | None]
    if card.body == "order":
        orders: list[TakenMedicine | OrderedFeed]
        orders = [*case.ordered_medicines, *case.ordered_feeds]
        if card.as_one:
            made = [_make_unchecked(card, case, printed)]
        else:
            made = [_make_order(card, order, case, printed) for order in orders]
    elif card.body == "medicines":
        made = [_make_medicines(card, case, printed)]
    elif card.body == "against":
        made = [_make_against(card, case, printed)]
    elif card.body == "together":
        made = [_make_together(card, case, printed)]
    else:
        made = [_make_interventions(card, case, setting, printed)]
    return [each for each in made if each is not None]


def _make_interventions(
    card: Card, case: MotherCase, setting: Setting, printed: Printed
) -> dict[str, Any] | None:
    choices = choose(card, case)
    todo = [choice for choice in choices if choice.standing == "open"]
    guarded = [choice for choice in choices if choice.guards]
    if not (todo or guarded):
        return None
    because: Because = {}
    card.when.support(case, because)
    for choice in todo:
        choice.support(case, because)
    shown = [*todo, *(choice for choice in guarded if choice.standing != "open")]
    backing = printed.backing(card, *[choice.intervention.id for choice in shown])
    plain = [choice for choice in todo if not choice.guards]
    not_now = _not_now(choices)
    room = max(1, MOST_WRITTEN_OUT - len(not_now))
    graded = [] if guarded else plain[:room]  # a guarded one tells its own grade
    grades = {choice.intervention.grade for choice in graded}
    is_told_once = len(grades) == 1 and (bool(backing.cited) or len(graded) > 1)
    paragraphs = [
        _numbers(card, case),
        card.opening.say(case) if card.opening else "",
        _todo_list(plain, room, is_told_once, case),
        *(_guards_of(choice, case) for choice in guarded),
        _what_else(card, choices, not_now, case),
        _could_not_be_read(case.unread),
        _evidence(backing, grades if is_told_once else set(), case),
    ]
    summary = card.summary.say(case)
    if card.summary_names:
        summary = _with_names(summary, [choice.intervention.short for choice in todo])
    made = _frame(card, case, printed, summary, paragraphs)
    offer = printed.offer(card, *[choice.intervention.id for choice in todo])
    if offer.suggestions:
        offered = {case.new_uuid(): each.interventions for each in offer.suggestions}
        made["suggestions"] = [
            _suggestion(each, uuid, case, setting)
            for each, uuid in zip(offer.suggestions, offered, strict=True)
        ]
        made["selectionBehavior"] = "any"
        case.offered[made["uuid"]] = offered
    _add_links(made, card, printed, offer.handout | backing.links)
    rows = set(backing.rows)
    for finding in because.values():
        if finding is not None:
            rows.update(case.content.findings[finding].rows)
    for choice in choices:
        if choice.held_back_by is not None:
            rows.update(choice.held_back_by.rows)
    interventions = [choice.intervention.id for choice in todo]
    told = _because(because, case)
    checked = {choice.intervention.id: choice.guards for choice in guarded}
    _add_extension(made, case, interventions, rows, told, backing.evidence, checked)
    if card.critical_when is not None and card.critical_when.test(case) is True:
        made["indicator"] = "critical"
    return made


def _frame(
    card: Card, case: MotherCase, printed: Printed, summary: str, paragraphs: Iterable[str]
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "uuid": case.new_uuid(),
        "summary": summary[:LONGEST_SUMMARY],
        "indicator": card.indicator,
        "detail": "\n\n".join(paragraph for paragraph in paragraphs if paragraph),
        "source": printed.sources[card.id],
    }
    if printed.override_reasons is not None:
        made["overrideReasons"] = printed.override_reasons
    return made


def _with_names(
    summary: str, names: list[str], most: int = LONGEST_SUMMARY // len(", "), end: str = ""
) -> str:
    """The summary with as many names behind it as it can hold, ``most`` at the most, and its end.

    The others are counted.
    """
    for shown in range(min(len(names), most), 0, -1):
        rest = len(names) - shown
        text = f"{summary}: {', '.join(names[:shown])}{f' and {rest} more' if rest else ''}{end}"
        if len(text) <= LONGEST_SUMMARY:
            return text
    return f"{summary}{end}"


# --- the detail ---------------------------------------------------------------------------------


def _numbers(card: Card, case: MotherCase) -> str:
    """Her numbers, a line each: what is usual, and how long ago it was recorded.

    If that is the same for all of them, it is said once; and not where her number is a time.
    """
    lines: list[str] = []
    ages: list[str] = []
    now = case.now.timestamp()
    for line in card.table:
        if line.when is not None and line.when.test(case) is not True:
            continue
        hers = line.hers.say(case)
        fact = case.facts[line.hers.fact]
        if hers == NOT_RECORDED:
            if case.closed_gates and fact.status == "unusable":  # else another card asks for it
                lines.append(f"- {line.label}: {_why_unused(fact)}")
                ages.append("")
            continue
        usual = line.usual.say(case) if line.usual else ""
        is_time = fact.spec.type == "time" or ".held}" in line.hers.text
        ages.append(say_ago(fact.moment, now) if fact.moment and not is_time else "")
        lines.append(f"- {line.label}: {hers}{_beside(usual, hers)}")
    if len(ages) > 1 and len(set(ages)) == 1 and ages[0]:
        ages = [*[""] * (len(ages) - 1), f"all {ages[0]}"]
    return "\n".join(f"{line}{age and ', '}{age}" for line, age in zip(lines, ages, strict=True))


def _beside(usual: str, hers: str) -> str:
    """What is usual, in brackets; nothing where hers says it already."""
    if usual in ("", NOT_RECORDED, hers):
        return ""
    usual = usual.replace(" (", ", ").replace(")", "")
    return f" ({usual})" if usual.endswith("?") else f" (usual {usual})"


def _todo_list(todo: list[Choice], room: int, grade_is_told: bool, case: MotherCase) -> str:
    """What to do, as many as there is ``room`` for in full, the others by name.

    Where it is not recorded whether she does it already, it is to be checked, and not claimed.
    """
    lines = [_todo(choice, grade_is_told, case) for choice in todo[:room]]
    if any(choice.unrecorded for choice in todo):
        lines.insert(0, "Check, and start what is missing:\n")
    others = [choice.intervention.short for choice in todo[room:]]
    return "\n".join([*lines, f"\nThen: {', '.join(others)}." if others else ""]).rstrip()


def _todo(choice: Choice, grade_is_told: bool, case: MotherCase) -> str:
    intervention = choice.intervention
    grade = "" if grade_is_told else f" ({case.content.grades[intervention.grade].word})"
    return f"* **{intervention.label}**{grade}. {choice.do(case)}"


def _evidence(backing: Backing, grades: set[str], case: MotherCase) -> str:
    """The sources in a line, with the grade where all that is to be done has the same."""
    told = [case.content.grades[grade].word.removesuffix(" evidence") for grade in grades]
    if len(told) != 1:
        return f"Evidence: {backing.cited}." if backing.cited else ""
    return f"Evidence: {told[0]}{backing.cited and f' ({backing.cited})'}."


def _guards_of(choice: Choice, case: MotherCase) -> str:
    """What was checked before an intervention could be offered, and what came of it."""
    intervention = choice.intervention
    verdict = "" if choice.standing == "open" else " Not recommended."
    grade = case.content.grades[intervention.grade].word
    medicine = case.content.medicines.get(intervention.medicine or "")
    limits = medicine.say_limits(case.jurisdiction) if medicine is not None else ""
    head = f"**{intervention.label}** ({grade}).{verdict} {choice.do(case)}"
    return f"{head}{limits and f' {limits}'}\n{_list_guards(choice.guards, case)}"


# What came of a guard: in the extension, the older word for it (for one release), and on the card.
GUARD_TITLES: dict[Truth, tuple[str, str, str]] = {
    True: ("present", "open", "Against it"),
    None: ("unknown", "unchecked", "Not known"),
    False: ("absent", "clear", "Clear"),
}


def _list_guards(
    guards: dict[Truth, list[Guard]], case: MotherCase, most_unknown: int = LONGEST_SUMMARY
) -> str:
    """What came of each guard; those that are clear are counted where others are not."""
    lines: list[str] = []
    for truth, (*_, title) in GUARD_TITLES.items():
        found = guards[truth]
        most = most_unknown if truth is None else len(found)
        names = _name_some([guard.short.say(case) for guard in found], most)
        if truth is False and lines:
            names = f"{len(found)} other{'s' if len(found) > 1 else ''}"
        if found:
            lines.append(f"- {title}: {names}.")
    return "\n".join(lines)


def _not_now(choices: list[Choice]) -> dict[str, list[str]]:
    """What is not for now, by the reason; each has a line, in the place of one of what to do."""
    held: dict[str, list[str]] = {}
    for choice in choices:
        if choice.held_back_by is not None:
            held.setdefault(choice.held_back_by.label, []).append(choice.intervention.short)
    return held


def _what_else(
    card: Card, choices: list[Choice], not_now: dict[str, list[str]], case: MotherCase
) -> str:
    """What is not for now and why, what is asked for already, and the one thing to ask her."""
    lines = [f"Not now, for {reason}: {', '.join(names)}." for reason, names in not_now.items()]
    ordered = [c.intervention.short for c in choices if c.standing == "ordered"]
    if ordered:
        lines.append(f"Already asked for: {', '.join(ordered)}.")
    wanted = [fact for fact in card.asks_first if case.facts[fact].status not in TOLD_ELSEWHERE]
    wanted += [fact for choice in choices for fact in choice.missing]
    if wanted:
        lines.append(f"Ask about: {case.content.facts[wanted[0]].label}.")
    return "\n\n".join(lines)


def _could_not_be_read(unread: list[str]) -> str:
    return f"Could not be read: {', '.join(unread)}." if unread else ""


def _add_links(
    made: dict[str, Any], card: Card, printed: Printed, links: dict[str, orjson.Fragment]
) -> None:
    """The links by address, behind those of the card itself."""
    together = printed.own_links[card.id] | links
    if together:
        made["links"] = list(together.values())[:MOST_LINKS]


def _suggestion(
    suggested: Suggested, uuid: str, case: MotherCase, setting: Setting
) -> orjson.Fragment:
    kind = suggested.resource_type
    hers = case.made_hers.get(kind)
    if hers is None:
        hers = case.made_hers[kind] = setting.members_of(kind, case.written_at)
    parts = (suggested.before_uuid, uuid.encode(), suggested.before_hers, hers, b"}}]}")
    return orjson.Fragment(b"".join(parts))


# --- why ----------------------------------------------------------------------------------------


def _because(because: Because, case: MotherCase) -> list[dict[str, Any]]:
    """The facts behind a card, and of these what did not count."""
    entries: list[dict[str, Any]] = []
    with_problems: dict[str, FactValue] = {}
    for (fact_id, measure), finding in because.items():
        fact = case.facts[fact_id]
        entry: dict[str, Any] = {"fact": fact_id}
        if finding is not None:
            entry["finding"] = finding
        if measure == "value":
            value, unit, scale = fact.value, fact.spec.unit, 1.0
        else:
            entry["measure"] = measure
            value = fact.measures.get(measure)
            unit, scale = MEASURE_UNITS.get(measure, (fact.spec.unit, 1.0))
        if value is not None:
            entry["value"] = value if isinstance(value, str) else round(value / scale, 1)
            if unit:
                entry["unit"] = unit
        if fact.time:
            entry["time"] = fact.time
        if fact.references:
            entry["references"] = fact.references
        entries.append(entry)
        if fact.problems:
            with_problems[fact_id] = fact
    return entries + _problems_of(with_problems.values())


def _problems_of(facts: Iterable[FactValue]) -> list[dict[str, Any]]:
    """What did not count, and why."""
    return [
        {
            "fact": fact.spec.id,
            "problem": problem.reason,
            "references": [problem.reference],
        }
        for fact in facts
        for problem in fact.problems[:MOST_REFERENCES]
    ]


def _add_extension(
    made: dict[str, Any],
    case: MotherCase,
    interventions: list[str],
    rows: Iterable[str],
    because: list[dict[str, Any]],
    evidence: list[str],
    guards: dict[str, dict[Truth, list[Guard]]] | None = None,
) -> None:
    """What the card carries for machines. ``guards`` are those that were checked, by what for."""
    used = set(rows)
    for checked in (guards or {}).values():
        used.update(row for found in checked.values() for guard in found for row in guard.rows)
    why: dict[str, Any] = {"rows": [row for row in case.content.rows if row in used]}
    if interventions:
        why["interventions"] = interventions
    if because:
        why["because"] = because
    if evidence:
        why["evidence"] = evidence
    if interventions:
        why["grades"] = {name: case.content.interventions[name].grade for name in interventions}
    why["content"] = case.content.version
    if guards:
        why["guards"] = {
            name: {
                code: [guard.id for guard in checked[truth]]
                for truth, (*codes, _) in GUARD_TITLES.items()
                for code in codes
            }
            for name, checked in guards.items()
        }
    made["extension"] = {EXTENSION: why}


# --- a card about an order ----------------------------------------------------------------------


def _make_order(
    card: Card, order: TakenMedicine | OrderedFeed, case: MotherCase, printed: Printed
) -> dict[str, Any] | None:
    """A card about a medicine or feed that is being ordered; its suggestion takes it back."""
    if not _is_about(card, order, case):
        return None
    reading = case.read(order)[1] if isinstance(order, TakenMedicine) else NOT_READ
    medicine = order if isinstance(order, TakenMedicine) and card.cites else None
    guards: dict[Truth, list[Guard]] = {}
    beyond: list[str] = []  # of its dose, what is more than is allowed
    if medicine is not None and medicine.medicine is not None:
        beyond = medicine.medicine.beyond_limits(case.jurisdiction, medicine.dose)
    guarded = case.content.guarded.get(order.key)
    if card.if_guarded and guarded is not None and isinstance(order, TakenMedicine):
        guards = check_guards(guarded, case.with_orders_beside(order))
        against = guards[True] or beyond
        if not against and (card.if_guarded == "open" or not guards[None]):
            return None
    backing = printed.backing(card)
    line = reading.ordered or reading.line
    limits = ""
    if isinstance(order, TakenMedicine) and order.medicine is not None:
        limits = order.medicine.say_limits(case.jurisdiction)
        limits += f" This order is for more: {', '.join(beyond)}." if beyond else ""
    pairs: list[Pair] = []
    if isinstance(order, TakenMedicine) and (guards or INTERACTING in card.about):
        pairs = _unsaid(case.pairs_with(order), case)
        case.said_together.update(pair.key for pair in pairs)
    paragraphs = [
        _numbers(card, case),
        card.opening.say(case) if card.opening else "",
        f"**{order.name}**: {' '.join(filter(None, (line, limits)))}"
        if medicine is not None and line
        else "",
        f"{_who_says(reading, case.content)} names in its place: {reading.instead}."
        if medicine is not None and reading.instead
        else "",
        _list_guards(guards, case, MOST_UNKNOWN if pairs else LONGEST_SUMMARY) if guards else "",
        "The order was matched by its name." if order.matched == "name" else "",
        _could_not_be_read(case.unread_for_orders),
        _evidence(backing, set(), case),
    ]
    said = card.summary.say(case)
    name = order.name
    if INTERACTING in card.about:
        name = _names_of(pairs, order)
    summary = f"{name}{'' if said.startswith((':', '.')) else ' '}{said}"
    if card.summary_names and guards:
        # What could not be checked is on the card, and not in its headline: it is no finding.
        found = [*beyond, *(guard.short.say(case) for guard in guards[True])]
        summary = _with_names(summary, found)
    room = MOST_WORDS - sum(_words(text) for text in (summary, *paragraphs))
    sources = printed.cited(_evidence_of(pairs))
    named_sources = sources if card.cites else []
    paragraphs[5:5] = _say_together(pairs, room, named_sources, order)
    made = _frame(card, case, printed, summary, paragraphs)
    if INTERACTING in card.about and all(pair.severity not in TO_WARN_OF for pair in pairs):
        made["indicator"] = "info"
    _offer_to_take_back(made, [order], case)
    links: dict[str, orjson.Fragment] = {}
    if medicine is not None and medicine.medicine is not None:
        links = printed.sources_of(medicine, reading)
    links |= backing.links
    _add_links(made, card, printed, links | _links_of(named_sources))
    checked = {order.key: guards} if guards else None
    evidence = [*backing.evidence, *(source.id for source in sources)]
    because = [_told_of(order), *(_told_together(pair, "orders") for pair in pairs)]
    rows = [*card.rows, *(row for pair in pairs for row in pair.interaction.rows)]
    _add_extension(made, case, [], rows, because, list(dict.fromkeys(evidence)), checked)
    return made


# --- medicines that she takes, and what speaks against them -------------------------------------


def _make_against(card: Card, case: MotherCase, printed: Printed) -> dict[str, Any] | None:
    """Medicines that she takes although her record speaks against them, each with what does.

    What she takes beside them has a card of its own (``_make_together``).
    """
    against = [
        (taken, guards)
        for taken in case.medicines
        if (guarded := case.content.guarded.get(taken.key)) is not None
        and (guards := [g for g in check_guards(guarded, case)[True] if g.of_her_record])
    ]
    if not against:
        return None
    (first, its_guards), *others = against
    shorts = [guard.short.say(case) for guard in its_guards]
    names = [*shorts, *(taken.name for taken, _ in others)]
    said = f"{first.name}, which she takes"
    summary = _with_names(said, names, len(shorts), card.summary.say(case))
    lines = [
        f"- {taken.name}: her record has {', '.join(guard.label for guard in guards)}."
        for taken, guards in against
    ]
    paragraphs = [
        "\n".join(lines),
        card.opening.say(case) if card.opening else "",
        _could_not_be_read(case.unread),
    ]
    sources = list(dict.fromkeys(e for _, guards in against for g in guards for e in g.evidence))
    cited = printed.cited(sources)
    if card.cites and cited:
        paragraphs.append(f"Evidence: {', '.join(source.shortest for source in cited)}.")
    made = _frame(card, case, printed, summary, paragraphs)
    _add_links(made, card, printed, _links_of(cited) if card.cites else {})
    because = [
        {
            "fact": "active-medicines",
            "value": taken.key,
            "finding": guard.id,
            "matched": taken.matched,
            "references": taken.references[:MOST_REFERENCES],
        }
        for taken, guards in against
        for guard in guards
    ]
    rows = [*card.rows, *(row for _, guards in against for guard in guards for row in guard.rows)]
    _add_extension(made, case, [], rows, because, sources)
    return made


# --- medicines together -------------------------------------------------------------------------


def _make_together(card: Card, case: MotherCase, printed: Printed) -> dict[str, Any] | None:
    """What she takes together and should not, or with care only; a warning if any is worse."""
    pairs = _unsaid(case.pairs, case)
    if not pairs:
        return None
    case.said_together.update(pair.key for pair in pairs)
    summary = f"{_names_of(pairs)}{card.summary.say(case)}"
    paragraphs = [card.opening.say(case) if card.opening else "", _could_not_be_read(case.unread)]
    room = MOST_WORDS - sum(_words(text) for text in (summary, *paragraphs))
    sources = printed.cited(_evidence_of(pairs))
    lines = _say_together(pairs, room, sources if card.cites else [])
    made = _frame(card, case, printed, summary, [*lines, *paragraphs])
    if any(pair.severity in TO_WARN_OF for pair in pairs):
        made["indicator"] = "warning"
    _add_links(made, card, printed, _links_of(sources) if card.cites else {})
    because = [_told_together(pair, "active-medicines") for pair in pairs]
    rows = [*card.rows, *(row for pair in pairs for row in pair.interaction.rows)]
    _add_extension(made, case, [], rows, because, [source.id for source in sources])
    return made


def _unsaid(pairs: list[Pair], case: MotherCase) -> list[Pair]:
    """Those of which no card of this answer speaks yet: no pair is told twice."""
    return [pair for pair in pairs if pair.key not in case.said_together]


def _names_of(pairs: list[Pair], first: TakenMedicine | OrderedFeed | None = None) -> str:
    """The names of the worst pairs, that of an order first, how many more, and how bad it is."""
    alike = _alike(pairs, first)
    name, others = alike[0][0], alike[0][1][:MOST_IN_A_SUMMARY]
    rest = len(pairs) - len(others)
    more = f" and {rest} more" if rest else ""
    return f"{name} with {', '.join(others)}{more}: {SAYS[pairs[0].severity]}"


def _alike(
    pairs: list[Pair], first: TakenMedicine | OrderedFeed | None = None
) -> list[tuple[str, list[str], str]]:
    """Pairs of one medicine of which the same is said: its name, the others, and what is said."""
    alike: dict[tuple[str, str], tuple[str, list[str], str]] = {}
    for pair in pairs:
        one = first if isinstance(first, TakenMedicine) else pair.one
        key = one.key, pair.interaction.id
        said = alike.setdefault(key, (one.name, [], pair.interaction.line))
        said[1].append(pair.across_from(one).name)
    return list(alike.values())


def _say_together(
    pairs: list[Pair],
    room: int,
    sources: list[Evidence],
    first: TakenMedicine | OrderedFeed | None = None,
) -> list[str]:
    """Lines for some pairs, as many as have room and one at least, the others by name.

    And the ``sources`` of what is said, if they are to be named.
    """
    alike = _alike(pairs, first)
    for count in range(min(len(alike), MOST_PAIRS), 0, -1):
        lines = [
            f"- **{name} with {_name_some(others)}**: {line}"
            for name, others, line in alike[:count]
        ]
        rest = [f"{name} with {_name_some(others)}" for name, others, _ in alike[count:]]
        more = len(rest) - MOST_PAIRS
        also = "; ".join([*rest[:MOST_PAIRS], *([f"{more} more"] if more > 0 else [])])
        said = ["\n".join(lines), f"Also: {also}." if also else ""]
        cited = list(dict.fromkeys(source.shortest for source in sources))
        said.append(f"Of these together: {_name_some(cited, MOST_CITED)}." if cited else "")
        if _words(" ".join(said)) <= room:
            return said
        if count == 1:  # its sources are links still
            shorter = said[:2] if sources else said
            if rest and _words(" ".join(shorter)) > room:
                shorter = [said[0], f"Also {len(rest)} more."]
            return shorter
    return []


def _evidence_of(pairs: list[Pair]) -> list[str]:
    """What stands behind pairs, by id."""
    return [name for pair in pairs for name in pair.interaction.evidence]


def _told_together(pair: Pair, fact: str) -> dict[str, Any]:
    """A pair, for machines."""
    references = [*pair.one.references, *pair.other.references]
    return {
        "fact": fact,
        "value": "+".join(sorted(pair.key)),
        "interaction": pair.interaction.id,
        "severity": pair.severity,
        "references": list(dict.fromkeys(references))[:MOST_REFERENCES],
    }


def _make_unchecked(card: Card, case: MotherCase, printed: Printed) -> dict[str, Any] | None:
    """One card about all orders of which nothing is known for milk, each by its name."""
    orders = [
        order
        for order in case.ordered_medicines
        if _is_about(card, order, case) and not order.part_of  # else the whole of it is here
    ]
    if not orders:
        return None
    in_part = [f"{order.name} ({order.read_in_part})" for order in orders if order.left]
    unknown = [order.name for order in orders if order.medicine is None and not order.left]
    unread = [f"{order.name}{_how_matched(order)}" for order in orders if order.medicine]
    summary = _with_names(card.summary.say(case), [order.name for order in orders])

    def say(most: int) -> list[str]:
        return [
            f"Look up by name: {_name_some(in_part, most)}." if in_part else "",
            f"Neither a code nor a name in our list: {_name_some(unknown, most)}."
            if unknown
            else "",
            f"In our list, but not read for milk: {_name_some(unread, most)}." if unread else "",
            card.opening.say(case) if card.opening else "",
            _could_not_be_read(case.unread_for_orders),
        ]

    made = _frame(card, case, printed, summary, _as_fits(say, MOST_WORDS - _words(summary)))
    _offer_to_take_back(made, orders, case)
    links: dict[str, orjson.Fragment] = {}
    for order in orders:
        links |= printed.sources_of(order)
    _add_links(made, card, printed, links)
    _add_extension(made, case, [], card.rows, [_told_of(order) for order in orders], [])
    return made


def _is_about(card: Card, order: TakenMedicine | OrderedFeed, case: MotherCase) -> bool:
    """Whether a card is about an order: by what it is, its effects, or its band."""
    kinds = order.kinds
    if isinstance(order, TakenMedicine) and order.medicine is not None:
        kinds = kinds | {case.read(order)[0]}
        if INTERACTING in card.about and _unsaid(case.pairs_with(order), case):
            kinds.add(INTERACTING)
    return not kinds.isdisjoint(card.about) and kinds.isdisjoint(card.not_about)


def _told_of(order: TakenMedicine | OrderedFeed) -> dict[str, Any]:
    """An order, for machines."""
    return {
        "fact": "orders",
        "value": order.key,
        "matched": order.matched,
        "references": order.references,
    }


def _offer_to_take_back(
    made: dict[str, Any], orders: Sequence[TakenMedicine | OrderedFeed], case: MotherCase
) -> None:
    suggestions = [
        _take_back(order.name, draft, case)
        for order in orders
        for draft in dict.fromkeys(order.references)
        if not draft.endswith("/?")  # one without an id cannot be pointed at
    ]
    if suggestions:
        made["suggestions"] = suggestions
        made["selectionBehavior"] = "any"


def _take_back(name: str, reference: str, case: MotherCase) -> dict[str, Any]:
    """A suggestion that deletes a draft order, by its id in the hook's context."""
    label = f"Take back {name}"
    action = {"type": "delete", "description": label, "resourceId": reference}
    return {"label": label, "uuid": case.new_uuid(), "actions": [action]}


# --- the two cards that list --------------------------------------------------------------------


def _make_medicines(card: Card, case: MotherCase, printed: Printed) -> dict[str, Any] | None:
    """What was read of her medicines, the worst first; what was not read is said to be so.

    At most ``MOST_MEDICINES`` that were read are named, the first with their lines; of the others
    it is said how many are in which band. What is not read is named as such, and never among those.
    """
    medicines = [(taken, *case.read(taken)) for taken in case.medicines]
    if not medicines:
        return None
    medicines.sort(key=lambda read: _rank_of_warning(card, read[0], read[1]))
    said: list[tuple[str, str, Band]] = []
    unread: list[str] = []
    for taken, band, reading in medicines:
        line = _say_of(taken, reading, case)
        if line is not None:
            said.append((f"{taken.name}{_how_matched(taken)}", line, band))
        elif taken.medicine is not None and not taken.part_of:
            unread.append(f"{taken.name}{_how_matched(taken)}")
    unknown = [taken for taken, *_ in medicines if taken.medicine is None]
    in_part = [f"{taken.name} ({taken.read_in_part})" for taken in unknown if taken.left]
    searched = [taken.name for taken in unknown if taken.named and not taken.left]
    nameless = [taken.name for taken in unknown if not taken.named]
    named = [each for each in medicines if not each[0].part_of or each[1] != "not-read"]
    names = [taken.name for taken, *_ in named]
    summary = _warn(card, named) or _with_names(card.summary.say(case), names)
    opening = card.opening.say(case) if card.opening else ""

    def also(most: int) -> list[str]:
        """What was not read or not identified, as many as that by name."""
        lists = {
            "Not read, look up": unread,
            "Look up by name": in_part,
            "Not in our list, look up by name": searched,
            "No name was sent, ask what it is": nameless,
        }
        named = [
            f"{what}: {_name_some(found, most)}." if found else "" for what, found in lists.items()
        ]
        return [*named, opening, _could_not_be_read(case.unread)]

    least = _words(" ".join((summary, *_lines_of(said, 1))))
    paragraphs = _as_fits(also, MOST_WORDS - least)
    room = MOST_WORDS - sum(_words(text) for text in (summary, *paragraphs))
    made = _frame(card, case, printed, summary, [*_say_read(said, room), *paragraphs])
    if any(band == "avoid" or taken.has("lowers-supply") for taken, band, _ in medicines):
        made["indicator"] = "warning"
    links: dict[str, orjson.Fragment] = {}
    for taken, _, reading in medicines:
        links |= printed.sources_of(taken, reading)
    _add_links(made, card, printed, links)
    because = [
        {
            "fact": "active-medicines",
            "value": taken.medicine.id if taken.medicine else taken.name,
            "band": band,
            "matched": taken.matched,
            "references": taken.references[:MOST_REFERENCES],
        }
        for taken, band, _ in medicines
    ]
    rows = [*card.rows, *(row for m, *_ in medicines if m.medicine for row in m.medicine.rows)]
    _add_extension(made, case, [], rows, because, printed.backing(card).evidence)
    return made


def _rank_of_warning(card: Card, taken: TakenMedicine, band: Band) -> tuple[int, int, bool, str]:
    """Where a medicine stands on the card: by the first warning that is its, then by its band."""
    own = (n for n, kind in enumerate(card.warnings) if kind == band or taken.has(kind))
    rank = next(own, len(card.warnings))
    return rank, BANDS.index(band), taken.medicine is None, taken.key


def _how_matched(taken: TakenMedicine) -> str:
    """How surely a medicine was recognised, if that needs saying."""
    how = ["by name"] if taken.matched == "name" else []
    if taken.among > 1:
        how.append(f"one of {taken.among} records that match")
    return f" ({', '.join(how)})" if how else ""


def _as_fits(say: Callable[[int], list[str]], room: int) -> list[str]:
    """What is said with as many names as there is room for, in words; with one at least."""
    for most in range(MOST_MEDICINES, 1, -1):
        said = say(most)
        if _words(" ".join(said)) <= room:
            return said
    return say(1)


def _words(text: str) -> int:
    return len(_WORD.findall(text))


def _say_of(taken: TakenMedicine, reading: Reading, case: MotherCase) -> str | None:
    """What was read of a medicine, and where; of one that was not, what its record begins with."""
    medicine, content = taken.medicine, case.content
    if medicine is None:
        return None
    record = medicine.lactmed.id if medicine.lactmed is not None else ""
    if reading.line is None:
        summary = medicine.summary
        return f"not read by us. LactMed: {summary} {record}" if summary else None
    instead = f" {_who_says(reading, content)} names {reading.instead} instead."
    where = record
    if reading.source in content.evidence:
        where = content.evidence[reading.source].shortest
    limits = medicine.say_limits(case.jurisdiction)
    return f"{reading.line}{instead if reading.instead else ''} {where}{limits and f'. {limits}'}"


def _who_says(reading: Reading, content: Content) -> str:
    source = content.evidence.get(reading.source or "")
    return (source.known_as or source.shortest) if source is not None else "LactMed"


def _say_read(said: list[tuple[str, str, Band]], room: int) -> list[str]:
    """What was read: a line each for as many as have room, one at least; and of the others."""
    for count in range(min(len(said), MOST_MEDICINES), 1, -1):
        lines, rest = _lines_of(said, count)
        if _words(f"{lines} {rest}") <= room:
            return [lines, rest]
    lines, rest = _lines_of(said, 1)
    if _words(f"{lines} {rest}") > room:
        lines, rest = _lines_of(said, 1, named=1)
    return [lines, rest]


def _lines_of(
    said: list[tuple[str, str, Band]], count: int, named: int = MOST_MEDICINES
) -> tuple[str, str]:
    """Lines for some; the others by band: a few by name, and how many the rest are."""
    lines = "\n".join(f"- {name}: {line}" for name, line, _ in said[:count])
    rest: list[str] = []
    for band in BANDS:
        names = [name for name, _, of in said[count:named] if of == band]
        if names:
            rest.append(f"{REST_IS[band]}: {', '.join(names)}.")
    others = [band for *_, band in said[named:]]
    counts = [f"{others.count(band)} {COUNTED_AS[band]}" for band in BANDS if band in others]
    if counts:
        rest.append(f"Others: {', '.join(counts)}.")
    return lines, " ".join(rest)


def _name_some(names: list[str], most: int = MOST_MEDICINES) -> str:
    """A few names, and how many more there are."""
    more = len(names) - most
    return f"{', '.join(names[:most])}{f' and {more} more' if more > 0 else ''}"


def _warn(card: Card, medicines: list[tuple[TakenMedicine, Band, Reading]]) -> str:
    """What the summary says, as far as it has room: the first medicine of each warning.

    Each medicine is named once. That some are compatible is said only if all are.
    """
    warning = ""
    left = [(taken, band) for taken, band, _ in medicines]
    for kind, says in card.warnings.items():
        own = [(taken, band) for taken, band in left if kind == band or taken.has(kind)]
        if not own or (kind == "compatible" and len(own) < len(medicines)):
            continue
        left = [(taken, band) for taken, band in left if kind != band and not taken.has(kind)]
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        joined = "" if says.startswith(":") else " "
        longer = f"{warning}{'; ' if warning else ''}{own[0][0].name}{more}{joined}{says}"
        if warning and len(longer) > LONGEST_SUMMARY:
            break
        warning = longer
    return warning


def _make_data_needed(
    card: Card, case: MotherCase, printed: Printed, told: bool
) -> dict[str, Any] | None:
    """What is missing, what contradicts, what could not be read, and what could not be judged.

    While a gate is closed, what could not be read needs no card of its own where others have
    ``told`` it.
    """
    concerns = case.holds("card", card.title, card.when, card.unless)
    missing: dict[str, list[str]] = {}
    headline: tuple[str, list[str]] | None = None  # the first question that has one, and its facts
    rows: list[str] = list(card.rows)
    unclear: list[FactValue] = []
    unread: list[str] = []
    if concerns is True:
        for ask in case.content.asks.values():
            wanted = _wanted_by(ask, case)
            if wanted:
                rows += ask.rows
            # What another line of the card asks for already is not asked for again.
            asked = {name for names in missing.values() for name in names}
            if new := [name for name in wanted if name not in asked]:
                missing[ask.why] = new
                if headline is None and ask.summary is not None:
                    headline = ask.summary.say(case), new
        if not case.closed_gates:
            asked_facts = [case.facts[name] for name in case.content.asked_facts]
            unclear = [fact for fact in asked_facts if _is_unclear(fact)]
        unread = [] if told and case.closed_gates else case.unread
    if not (missing or unclear or unread or case.faults):
        return None
    names = [
        *(case.content.facts[name].label for wanted in missing.values() for name in wanted),
        *(fact.spec.label for fact in unclear),
    ]
    questions = [
        (case.facts[name], f"{why}: {_ask_for(case.content.facts[name].ask)}")
        for why, wanted in missing.items()
        for name in wanted
    ]
    questions += [
        (fact, f"{fact.spec.label[:1].upper()}{fact.spec.label[1:]}: {_ask_for(fact.spec.ask)}")
        for fact in unclear
    ]
    lines = _one_question(questions)
    faults = [f"{name} ({kind})" for name, kind in case.faults.items()]
    if faults:
        lines.append(f"- Could not be evaluated: {', '.join(faults)}. Judge these yourself.")
    summary = card.summary.say(case)
    unique = list(dict.fromkeys(names))
    if headline is not None:
        summary, asked_in_it = headline
        told_in_it = {case.content.facts[name].label for name in asked_in_it}
        unique = [name for name in unique if name not in told_in_it]
        summary += ALSO_MISSING if unique else ""
    if faults:
        summary = "Part of the lactation check could not be evaluated"
    elif not names:
        check = "Check" if case.closed_gates else "Lactation check"
        summary, unique = f"{check} incomplete, could not be read", unread
    if unique:
        summary = _with_names(summary, unique)
    opening = card.opening.say(case) if card.opening else ""
    paragraphs = [opening, "\n".join(lines), _could_not_be_read(case.unread)]
    made = _frame(card, case, printed, summary, paragraphs)
    if faults:
        made["indicator"] = "warning"
    because: list[dict[str, Any]] = [
        {"fact": name, "problem": case.facts[name].status}
        for wanted in missing.values()
        for name in wanted
    ]
    because += _problems_of(
        [*unclear, *(case.facts[name] for wanted in missing.values() for name in wanted)]
    )
    because += [
        {
            "fact": fact.spec.id,
            "problem": "conflicting",
            "references": fact.references,
        }
        for fact in unclear
        if fact.status == "conflicting"
    ]
    because += [{"finding": name, "problem": kind} for name, kind in case.faults.items()]
    _add_extension(made, case, [], rows, because, [])
    return made


def _one_question(questions: list[tuple[FactValue, str]]) -> list[str]:
    """The first question, with why its records were not used; of the others only what it is.

    More than one question on a card is not answered: the others belong on the form (S10).
    """
    if not questions:
        return []
    (first, asked), *others = questions
    lines = [f"- {asked}{_in_brackets(_why_unused(first))}."]
    rest = [f"{fact.spec.label}{_in_brackets(_why_unused(fact))}" for fact, _ in others]
    return [*lines, f"- Also for the form: {', '.join(rest)}."] if rest else lines


def _why_unused(fact: FactValue) -> str:
    """Why what is recorded of a fact was not used; nothing if nothing is recorded."""
    if fact.status == "conflicting":
        return "recorded with values that contradict each other"
    unused = [p.reason for p in fact.problems if not p.withdrawn or p.has_value]
    return f"recorded, but {' and '.join(dict.fromkeys(unused))}" if unused else ""


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _wanted_by(ask: Any, case: MotherCase) -> list[str]:
    """The facts that one ask wants and that are not known."""
    if not case.gates_let_through(ask.under):
        return []
    if case.holds("ask", ask.why, ask.when, ask.unless) is not True:
        return []
    if ask.finding is not None and case.finding(ask.finding) is not None:
        return []
    wanted = [name for name in ask.facts if _is_wanting(case.facts[name])]
    if ask.finding is not None:  # not known for want of these, such as the day of a birth
        missing = ((name, case.facts[name]) for name in case.missing(ask.finding))
        wanted += [
            name
            for name, fact in missing
            if _is_wanting(fact) or (fact.spec.type == "time" and fact.measure("days") is None)
        ]
    return list(dict.fromkeys(wanted))


def _is_wanting(fact: FactValue) -> bool:
    """Whether there is no value, or that of a birth of which only the recording is dated."""
    return fact.value is None or any(each.reason == RECORDED_WHEN for each in fact.problems)


def _ask_for(asked: str) -> str:
    return f"ask {asked}" if asked.startswith(("whether", "how")) else f"ask for {asked}"


def _is_unclear(fact: FactValue) -> bool:
    """Whether to ask for a fact again. A code of a birth that has no date is nothing to ask for."""
    return fact.status == "conflicting" or (
        fact.status == "unusable" and not fact.spec.before_birth
    )
