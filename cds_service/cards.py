"""Cards: what the clinician reads (CDS Hooks 2.0.1, "Card Attributes").

One bottom line, her own numbers in a small table, what to do, why, and the evidence. The words are
data; here they are put together, the most urgent first and at most four. A card without something
new to do is not shown. Only the patient, the encounter, the time and the author are filled into a
suggestion: the rest was built and validated when the content was loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from .conditions import Because, Truth
from .facts import MOST_REFERENCES
from .interventions import Choice, check_guards, choose
from .medicines import TakenMedicine
from .quiet import INDICATORS, NOTHING_SAID, Quiet, Shown
from .times import HOUR, MINUTE, say_ago
from .wording import LONGEST_SUMMARY, NOT_RECORDED

if TYPE_CHECKING:
    from .content import Card, Content, Guard, Intervention, Medicine
    from .facts import FactValue
    from .feeds import OrderedFeed
    from .findings import MotherCase
    from .protocol import Context

MOST_CARDS = 4
# What is written out on one card; the rest is named in a line. So a card can be read aloud in
# thirty seconds.
MOST_WRITTEN_OUT = 3
MOST_ASKED = 3
MOST_LINKS = 12
MOST_BACKINGS = 500  # that are kept ready
TOPIC_SYSTEM = "urn:lactation-cds:card"
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
    "count": (None, 1.0),
}


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


class Printed:
    """What is the same on a card for all mothers, written once.

    Most of it when the content is loaded; the backing of a card by what it offers, when that first
    comes.
    """

    def __init__(self, content: Content) -> None:
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
            medicine.lactmed.url: _link(f"LactMed: {medicine.name}", medicine.lactmed.url)
            for medicine in content.medicines.values()
        }
        self.suggestions = {
            intervention.id: _print_suggestion(intervention, content.suggested[intervention.id])
            for intervention in content.interventions.values()
            if intervention.id in content.suggested
        }
        self._backing_of = lru_cache(MOST_BACKINGS)(self._make_backing)

    def backing(self, card: Card, *interventions: str) -> Backing:
        """What stands behind a card that offers these interventions, by id.

        Of one that does not cite, nothing of it is on its face.
        """
        backing = self._backing_of(card.id, *interventions)
        return backing if card.cites else replace(backing, cited="", links={})

    def _make_backing(self, card_id: str, *interventions: str) -> Backing:
        card = self._content.cards[card_id]
        offered = [self._content.interventions[name] for name in interventions]
        names = [*card.evidence, *(name for each in offered for name in each.evidence)]
        evidence = [self._content.evidence[name] for name in dict.fromkeys(names)]
        cited = "; ".join(dict.fromkeys(source.short for source in evidence))
        links = {
            source.link: _link(f"{source.short}: {source.source}", source.link)
            for source in evidence
            if source.link
        }
        for each in offered:
            if each.medicine is not None:
                url = self._content.medicines[each.medicine].lactmed.url
                links[url] = self.lactmed[url]
        return Backing(
            [source.id for source in evidence],
            f"Evidence: {cited}." if cited else "",
            links,
            [*card.rows, *(row for each in offered for row in each.rows)],
        )


def _link(label: str, url: str) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps({"label": label, "url": url, "type": "absolute"}))


def _print_suggestion(
    intervention: Intervention, resource: dict[str, Any]
) -> tuple[bytes, bytes, str]:
    """The JSON before the uuid, that before what is hers, and the type of the resource."""
    assert intervention.suggestion is not None
    label = orjson.dumps(intervention.suggestion.label)
    recommended = b',"isRecommended":true' if intervention.suggestion.recommended else b""
    same_for_all = {k: v for k, v in resource.items() if k not in ("subject", "recipient")}
    return (
        b'{"label":' + label + b',"uuid":"',
        b'"'
        + recommended
        + b',"actions":[{"type":"create","description":'
        + label
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
            built.append((_rank(made, card), shown, card.title, made))

    data_needed: Card | None = None
    for written in case.content.cards.values():
        card = case.as_gates_allow(written)
        if card is None:
            judged = True
            continue
        if card.body == "data-needed":
            data_needed = card  # last: it tells what went wrong with the others
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
        asked = _make_data_needed(data_needed, case, printed, told=bool(built))
        if asked is not None:
            build(data_needed, asked)
    built.sort(key=lambda ranked: ranked[0])
    cards = [made for *_, made in built[:MOST_CARDS]]
    case.shown = [shown for _, shown, *_ in built[:MOST_CARDS]]
    if cards and withheld:
        cards[0]["detail"] += f"\n\nWithheld: {', '.join(withheld)}."
    if len(built) > MOST_CARDS:
        left_out = ", ".join(title for _, _, title, _ in built[MOST_CARDS:])
        cards[-1]["detail"] += f"\n\nNot shown, as less urgent: {left_out}."
    return cards


def _shown(card: Card, made: dict[str, Any], case: MotherCase) -> Shown:
    """What a card is, and what stands behind it, by what it carries for machines."""
    why = made["extension"][EXTENSION]
    because = [entry for entry in why.get("because", ()) if "problem" not in entry]
    if card.overridden_for:
        because.append({"fact": "birth", "value": case.day_of_birth})
    about = because[0]["value"] if card.body == "order" else ""
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
    )


def _rank(made: dict[str, Any], card: Card) -> tuple[int, int]:
    return INDICATORS.index(made["indicator"]), card.urgency


def _make(card: Card, case: MotherCase, setting: Setting, printed: Printed) -> list[dict[str, Any]]:
    """What a card comes to for her: nothing, one, or one for each order that it is about."""
    made: list[dict[str, Any] | None]
    if card.body == "order":
        orders: list[TakenMedicine | OrderedFeed]
        orders = [*case.ordered_medicines, *case.ordered_feeds]
        made = [_make_order(card, order, case, printed) for order in orders]
    elif card.body == "medicines":
        made = [_make_medicines(card, case, printed)]
    else:
        made = [_make_interventions(card, case, setting, printed)]
    return [each for each in made if each is not None]


def _make_interventions(
    card: Card, case: MotherCase, setting: Setting, printed: Printed
) -> dict[str, Any] | None:
    choices = choose(card, case)
    todo = [choice for choice in choices if choice.standing == "open"]
    guarded = [choice for choice in choices if choice.guards]
    standings = {choice.standing for choice in choices}
    asking = card.asks_alone and "ask" in standings and "ordered" not in standings
    if not (todo or guarded or asking):
        return None
    because: Because = {}
    card.when.support(case, because)
    for choice in todo:
        choice.intervention.when.support(case, because)
    shown = [*todo, *(choice for choice in guarded if choice.standing != "open")]
    backing = printed.backing(card, *[choice.intervention.id for choice in shown])
    paragraphs = [
        card.opening.say(case) if card.opening else "",
        _table(card, case),
        _todo_list([choice for choice in todo if not choice.guards], case),
        *(_guards_of(choice, case) for choice in guarded),
        _what_else(choices, case),
        _could_not_be_read(case),
        backing.cited,
    ]
    summary = card.summary.say(case)
    if card.summary_names:
        summary = _with_names(summary, [choice.intervention.short for choice in todo])
    made = _frame(card, case, printed, summary, paragraphs)
    offered = {
        case.new_uuid(): choice.intervention.id
        for choice in todo
        if choice.intervention.id in printed.suggestions
    }
    if offered:
        made["suggestions"] = [
            _suggestion(printed.suggestions[name], each, case, setting)
            for each, name in offered.items()
        ]
        made["selectionBehavior"] = "any"
        case.offered[made["uuid"]] = offered
    _add_links(made, card, printed, backing.links)
    rows = set(backing.rows)
    for finding in because.values():
        if finding is not None:
            rows.update(case.content.findings[finding].rows)
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


def _with_names(summary: str, names: list[str]) -> str:
    """The summary with as many names behind it as it can hold."""
    room = LONGEST_SUMMARY // len(", ")  # for more there is none
    for shown in range(min(len(names), room), 0, -1):
        rest = len(names) - shown
        text = f"{summary}: {', '.join(names[:shown])}{f' and {rest} more' if rest else ''}"
        if len(text) <= LONGEST_SUMMARY:
            return text
    return summary


# --- the detail ---------------------------------------------------------------------------------


def _table(card: Card, case: MotherCase) -> str:
    lines: list[str] = []
    now = case.now.timestamp()
    for line in card.table:
        if line.when is not None and line.when.test(case) is not True:
            continue
        hers = line.hers.say(case)
        if hers == NOT_RECORDED:
            continue
        usual = line.usual.say(case) if line.usual else ""
        fact = case.facts[line.hers.fact]
        usual = "" if usual == NOT_RECORDED else usual
        recorded = say_ago(fact.moment, now) if fact.moment else ""
        lines.append(f"| {line.label} | {hers} | {usual} | {recorded} |")
    if not lines:
        return ""
    return "\n".join(["| | Hers | Usual | Recorded |", "|---|---|---|---|", *lines])


def _todo_list(todo: list[Choice], case: MotherCase) -> str:
    """What to do, the first in full and the others by name; each has its suggestion."""
    lines = [_todo(choice, case) for choice in todo[:MOST_WRITTEN_OUT]]
    others = [choice.intervention.short for choice in todo[MOST_WRITTEN_OUT:]]
    return "\n".join([*lines, f"\nThen: {', '.join(others)}." if others else ""]).rstrip()


def _todo(choice: Choice, case: MotherCase) -> str:
    intervention = choice.intervention
    grade = case.content.grades[intervention.grade].word
    return f"- **{intervention.label}** ({grade}). {intervention.do.say(case)}"


def _guards_of(choice: Choice, case: MotherCase) -> str:
    """What was checked before an intervention could be offered, and what came of it."""
    intervention = choice.intervention
    verdict = "" if choice.standing == "open" else " Not recommended."
    grade = case.content.grades[intervention.grade].word
    head = f"**{intervention.label}** ({grade}).{verdict} {intervention.do.say(case)}"
    return f"{head}\n{_list_guards(choice.guards, case)}"


GUARD_TITLES: dict[Truth, tuple[str, str]] = {
    True: ("open", "Against it"),
    None: ("unchecked", "Not known"),
    False: ("clear", "Clear"),
}


def _list_guards(guards: dict[Truth, list[Guard]], case: MotherCase) -> str:
    return "\n".join(
        f"- {title}: {', '.join(guard.short.say(case) for guard in guards[truth])}."
        for truth, (_, title) in GUARD_TITLES.items()
        if guards[truth]
    )


def _what_else(choices: list[Choice], case: MotherCase) -> str:
    """What is held back and why, what is asked for already, and what to ask her."""
    lines: list[str] = []
    held: dict[str, list[str]] = {}
    for choice in choices:
        if choice.standing == "held-back" and choice.held_back_by is not None:
            held.setdefault(choice.held_back_by, []).append(choice.intervention.short)
    for reason, names in held.items():
        lines.append(f"Held back for {reason}: {', '.join(names)}.")
    ordered = [c.intervention.short for c in choices if c.standing == "ordered"]
    if ordered:
        lines.append(f"Already asked for: {', '.join(ordered)}.")
    missing = dict.fromkeys(fact for choice in choices for fact in choice.missing)
    if missing:
        asks = [case.content.facts[fact].label for fact in missing]
        more = f" and {len(asks) - MOST_ASKED} more" if len(asks) > MOST_ASKED else ""
        lines.append(f"Ask about: {', '.join(asks[:MOST_ASKED])}{more}.")
    return "\n\n".join(lines)


def _could_not_be_read(case: MotherCase) -> str:
    return f"Could not be read: {', '.join(case.unread)}." if case.unread else ""


def _add_links(
    made: dict[str, Any], card: Card, printed: Printed, links: dict[str, orjson.Fragment]
) -> None:
    """The links by address, behind those of the card itself."""
    together = printed.own_links[card.id] | links
    if together:
        made["links"] = list(together.values())[:MOST_LINKS]


def _suggestion(
    print_: tuple[bytes, bytes, str], uuid: str, case: MotherCase, setting: Setting
) -> orjson.Fragment:
    before_uuid, before_hers, resource_type = print_
    hers = case.made_hers.get(resource_type)
    if hers is None:
        hers = case.made_hers[resource_type] = setting.members_of(resource_type, case.written_at)
    parts = (before_uuid, uuid.encode(), before_hers, hers, b"}}]}")
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
                for truth, (code, _) in GUARD_TITLES.items()
            }
            for name, checked in guards.items()
        }
    made["extension"] = {EXTENSION: why}


# --- a card about an order ----------------------------------------------------------------------


def _make_order(
    card: Card, order: TakenMedicine | OrderedFeed, case: MotherCase, printed: Printed
) -> dict[str, Any] | None:
    """A card about a medicine or feed that is being ordered; its suggestion takes it back."""
    if order.kinds.isdisjoint(card.about):
        return None
    medicine = order.medicine if isinstance(order, TakenMedicine) and card.cites else None
    guards: dict[Truth, list[Guard]] = {}
    guarded = case.content.guarded.get(order.key)
    if card.if_guarded and guarded is not None:
        guards = check_guards(guarded, case)
        if not guards[True] and (card.if_guarded == "open" or not guards[None]):
            return None
    backing = printed.backing(card)
    paragraphs = [
        card.opening.say(case) if card.opening else "",
        f"**{order.name}**: {medicine.note}" if medicine and medicine.note else "",
        f"LactMed names in its place: {medicine.instead}." if medicine and medicine.instead else "",
        _list_guards(guards, case) if guards else "",
        _table(card, case),
        "The order was matched by its name." if order.matched == "name" else "",
        _could_not_be_read(case),
        backing.cited,
    ]
    summary = f"{order.name}: {card.summary.say(case)}"
    if card.summary_names and guards:
        summary = _with_names(
            summary, [guard.short.say(case) for guard in guards[True] or guards[None]]
        )
    made = _frame(card, case, printed, summary, paragraphs)
    drafts = [draft for draft in dict.fromkeys(order.references) if not draft.endswith("/?")]
    if drafts:  # one without an id cannot be pointed at
        made["suggestions"] = [_take_back(order.name, draft, case) for draft in drafts]
        made["selectionBehavior"] = "any"
    links = {medicine.lactmed.url: printed.lactmed[medicine.lactmed.url]} if medicine else {}
    _add_links(made, card, printed, links | backing.links)
    entry = {
        "fact": "orders",
        "value": order.key,
        "matched": order.matched,
        "references": order.references,
    }
    checked = {order.key: guards} if guards else None
    _add_extension(made, case, [], card.rows, [entry], backing.evidence, checked)
    return made


def _take_back(name: str, reference: str, case: MotherCase) -> dict[str, Any]:
    """A suggestion that deletes a draft order, by its id in the hook's context."""
    label = f"Take back {name}"
    action = {"type": "delete", "description": label, "resourceId": reference}
    return {"label": label, "uuid": case.new_uuid(), "actions": [action]}


# --- the two cards that list --------------------------------------------------------------------


def _make_medicines(card: Card, case: MotherCase, printed: Printed) -> dict[str, Any] | None:
    medicines = sorted(case.medicines, key=lambda taken: not taken.has("lowers-supply"))
    if not medicines:
        return None
    lines = ["| Medicine | For milk and baby | LactMed |", "|---|---|---|"]
    for taken in medicines:
        name = taken.name + _how_matched(taken)
        if not taken.named:
            lines.append(f"| {name} | Could not be looked up | no name was sent |")
        elif taken.medicine is None:
            lines.append(f"| {name} | Not in our list | [search by name]({taken.url}) |")
        else:
            record = taken.medicine.lactmed
            link = f"[{record.id}, revised {record.revised}]({taken.url})"
            said = taken.medicine.note or taken.medicine.summary or "See the record"
            lines.append(f"| {name} | {said} | {link} |")
    lowering = [_lowering(m.medicine) for m in medicines if m.medicine and m.has("lowers-supply")]
    summary = _with_names(card.summary.say(case), [taken.name for taken in medicines])
    all_read = all(taken.is_read for taken in medicines)
    opening = card.opening.say(case) if card.opening and all_read else ""
    if lowering:
        opening = f"May lower milk supply: {'; '.join(lowering)}."
    paragraphs = [opening, "\n".join(lines), _could_not_be_read(case)]
    made = _frame(card, case, printed, summary, paragraphs)
    if lowering:
        made["indicator"] = "warning"
    links = {
        taken.url: printed.lactmed.get(taken.url) or _link(f"LactMed: {taken.name}", taken.url)
        for taken in medicines
        if taken.url is not None
    }
    _add_links(made, card, printed, links)
    because = [
        {
            "fact": "active-medicines",
            "value": taken.medicine.id if taken.medicine else taken.name,
            "matched": taken.matched,
            "references": taken.references[:MOST_REFERENCES],
        }
        for taken in medicines
    ]
    rows = [*card.rows, *(row for m in medicines if m.medicine for row in m.medicine.rows)]
    _add_extension(made, case, [], rows, because, printed.backing(card).evidence)
    return made


def _how_matched(taken: TakenMedicine) -> str:
    """How surely a medicine was recognised, if that needs saying."""
    how = ["by name"] if taken.matched == "name" else []
    if taken.among > 1:
        how.append(f"one of {taken.among} records that match")
    return f" ({', '.join(how)})" if how else ""


def _lowering(medicine: Medicine) -> str:
    """A medicine that lowers supply, with what LactMed names in its place."""
    instead = f" (LactMed names {medicine.instead})" if medicine.instead else ""
    return medicine.name + instead


def _make_data_needed(
    card: Card, case: MotherCase, printed: Printed, told: bool
) -> dict[str, Any] | None:
    """What is missing, what contradicts, what could not be read, and what could not be judged.

    While a gate is closed, what could not be read needs no card of its own where others have
    ``told`` it.
    """
    concerns = case.holds("card", card.title, card.when, card.unless)
    missing: dict[str, list[str]] = {}
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
        unclear = [
            case.facts[name]
            for name in case.content.asked_facts
            if not case.closed_gates and case.facts[name].status in ("conflicting", "unusable")
        ]
        unread = [] if told and case.closed_gates else case.unread
    if not (missing or unclear or unread or case.faults):
        return None
    names = [
        *(case.content.facts[name].label for wanted in missing.values() for name in wanted),
        *(fact.spec.label for fact in unclear),
    ]
    lines: list[str] = []
    for why, wanted in missing.items():
        asks = ", ".join(case.content.facts[name].ask for name in wanted)
        lines.append(f"- **{why}:** ask for {asks}.")
    for fact in unclear:
        lines.append(f"- **{fact.spec.label}** {_say_unclear(fact)}")
    faults = [f"{name} ({kind})" for name, kind in case.faults.items()]
    if faults:
        lines.append(f"- **Could not be evaluated:** {', '.join(faults)}. Judge these yourself.")
    summary = card.summary.say(case)
    unique = list(dict.fromkeys(names))
    if faults:
        summary = "Part of the lactation check could not be evaluated"
    elif not unique:
        summary, unique = "Lactation check incomplete, could not be read", unread
    if unique:
        summary = _with_names(summary, unique)
    opening = card.opening.say(case) if card.opening else ""
    paragraphs = [opening, "\n".join(lines), _could_not_be_read(case)]
    made = _frame(card, case, printed, summary, paragraphs)
    if faults:
        made["indicator"] = "warning"
    because: list[dict[str, Any]] = [
        {"fact": name, "problem": case.facts[name].status}
        for wanted in missing.values()
        for name in wanted
    ]
    because += _problems_of(unclear)
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


def _wanted_by(ask: Any, case: MotherCase) -> list[str]:
    """The facts that one ask wants and that are not known."""
    if not case.gates_let_through(ask.under):
        return []
    if case.holds("ask", ask.why, ask.when, ask.unless) is not True:
        return []
    if ask.finding is not None and case.finding(ask.finding) is not None:
        return []
    wanted = list(ask.facts)
    if ask.finding is not None:
        wanted += case.missing(ask.finding)
    return [name for name in dict.fromkeys(wanted) if case.facts[name].value is None]


def _say_unclear(fact: FactValue) -> str:
    if fact.status == "conflicting":
        return f"is recorded with values that contradict each other. Ask for {fact.spec.ask}."
    reasons = dict.fromkeys(p.reason for p in fact.problems if not p.withdrawn)
    return f"is recorded, but {' and '.join(reasons)}. Ask for {fact.spec.ask}."
