"""Loading the content: read the files, check everything, and build the indexes for requests.

All faults are collected and raised together as ``ContentError``, each with its file, line and
reason. So a service with broken content never starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from ..fhir.times import duration
from ..shipped import shipped_directory
from .codes import CodeIndex, CodeSet, Compose, Part, System, Systems, normal_forms
from .compiled import Content
from .conditions import (
    AGE,
    Allergic,
    Condition,
    Contraindicated,
    FactCompares,
    FactIs,
    Interacting,
    Known,
    Newest,
    Taking,
    Together,
)
from .fact_lookup import factor_and_offset
from .fact_types import MEASURES, SIDE_OF_BREAST, AnswerSpec, FactSpec, FactValue
from .files import ContentError, ContentFiles, Fault, brief
from .prefetch_templates import templates_of
from .schema import (
    BANDS,
    IN_PART,
    INTERACTING,
    LONGEST_NAME,
    MEDICATIONS,
    MEDICINE_TYPES,
    NO_ALLERGY,
    OWN_ACTIVITY,
    OWN_ANSWER,
    OWN_RECORD,
    SECTIONS,
    SEVERITIES,
    UNIDENTIFIED,
    VALUE_SET,
    WITH_CONDITIONS,
    WITH_ROWS,
    Contraindication,
    Effect,
    Interaction,
    Medicine,
    Parameter,
    UnitKind,
    conditions_of,
)
from .wording import ALSO_MISSING, LONGEST_SUMMARY, SpokenUnit, Wording, change_texts, say_quantity

SHIPPED = shipped_directory("cards")
# The subject of a suggestion until a request fills in the patient.
SOMEONE = "Patient/someone"


def load_content(overlay: Path | None = None, shipped: Path = SHIPPED) -> Content:
    """Load and check the shipped content, and an ``overlay``: a hospital's directory over it.

    Raises ``ContentError`` with all faults.
    """
    files = ContentFiles()
    files.read_directory(shipped, overlay=False)
    if overlay is not None:
        files.read_directory(overlay, overlay=True)
    files.join_lactmed_records()
    # These two sections come first: parameters are filled into the texts of all others.
    first = {section: files.build(section) for section in ("units", "parameters")}
    spoken_units = _spoken_units(first["units"].values())
    files.fill_parameters(
        {name: _say_parameter(each, spoken_units) for name, each in first["parameters"].items()}
    )
    files.fill_assessments()
    sections: dict[str, Any] = {
        section.replace("-", "_"): first[section] if section in first else files.build(section)
        for section in SECTIONS
    }
    addresses = _addresses(sections["systems"], files)
    content = Content(
        version=files.digest.hexdigest()[:12],
        codes=_code_sets(addresses, files),
        addresses=addresses,
        value_set_files=files.value_sets,
        spoken_units=spoken_units,
        **sections,
    )
    _settle_units_and_answers(content, files)
    _settle_parameters(content, files)
    _index(content)
    _check_references(content, files)
    _index_interactions(content, files)
    _check_parameters(content, files)
    _check_findings_have_no_cycle(content, files)
    _check_reasons(content, files)
    _check_told_facts(content, files)
    _check_wording(content, files)
    _build_suggestions(content, files)
    if files.faults:
        faults = sorted(files.faults, key=lambda fault: (fault.file, fault.line))
        raise ContentError(faults, files.old_names)
    _mark_keys_in_use(content)
    _make_templates(content)
    content.old_names = [str(found) for found in files.old_names]
    return content


def _say_parameter(parameter: Parameter, units: dict[str, SpokenUnit]) -> str:
    unit = None if parameter.unit == "1" else parameter.unit
    return say_quantity(parameter.value, unit, parameter.decimals, units)


def _make_templates(content: Content) -> None:
    """Make the prefetch templates; a key that needs several is followed by further keys."""
    keys = list(content.prefetch.values())
    content.prefetch.clear()
    for key in keys:
        content.prefetch[key.id] = key
        if not key.asked:
            continue
        for number, template in enumerate(templates_of(key, content, content.activities), 1):
            part = key if number == 1 else key.part(number)
            content.prefetch[part.id] = part
            content.prefetch_templates[part.id] = template


def _addresses(systems: dict[str, Any], files: ContentFiles) -> Systems:
    """The code systems, each by all of its addresses."""
    addresses: Systems = {}
    for entry in systems.values():
        meant = entry if entry.same_as is None else systems.get(entry.same_as)
        if meant is None or meant.same_as is not None:
            reason = f"there is no system '{entry.same_as}', or it has a same-as itself"
            files.fault("systems", entry.id, reason)
            continue
        system = System(meant.url, meant.compare, meant.hierarchical)
        for written in (entry.url, *entry.aliases):
            for address in _ways_to_write(written):
                if addresses.setdefault(address, system).url != system.url:
                    files.fault("systems", entry.id, f"{address} is an address of another system")
    return addresses


def _ways_to_write(address: str) -> Iterator[str]:
    """An address of a code system, and the other ways in which records write it.

    These are http or https, with or without a slash at the end, and an OID with or without
    ``urn:oid:``. No two systems differ only in these.
    """
    yield address
    if address.startswith("urn:oid:"):
        yield address.removeprefix("urn:oid:")
    scheme, separator, rest = address.partition("://")
    if separator and scheme in ("http", "https"):
        rest = rest.rstrip("/")
        for other in ("http", "https"):
            yield f"{other}://{rest}"
            yield f"{other}://{rest}/"


def _code_sets(addresses: Systems, files: ContentFiles) -> dict[str, CodeSet]:
    """The codes of the ValueSets, by url; a later file adds to an earlier one and may change it."""
    sets: dict[str, CodeSet] = {}
    for file, value_set in files.value_sets:
        codes = CodeSet()
        compose = value_set.get("compose", Compose())
        faults = [*_read_part(compose.get("include", ()), True, codes, addresses)]
        taken_out = CodeSet()
        faults += _read_part(compose.get("exclude", ()), False, taken_out, addresses)
        faults += _included_and_taken_out(codes, taken_out, addresses)
        files.faults += [Fault(file, 1, reason) for reason in faults]
        known = sets.setdefault(value_set["url"], CodeSet())
        for part in (codes, taken_out):
            known.concepts.update(part.concepts)
            known.families.update(part.families)
    return sets


def _read_part(
    parts: Iterable[Part], counts: bool, codes: CodeSet, addresses: Systems
) -> Iterator[str]:
    """Read ``include`` or ``exclude`` of a ValueSet into ``codes``; yield the faults in words."""
    for part in parts:
        url = part.get("system")
        for name in sorted(part.keys() - {"system", "version", "concept", "filter", "id"}):
            yield f"'{name}' of a value set cannot be used here"
        if url is None:
            yield "each include and exclude needs a system"
            continue
        if not part.get("concept") and not part.get("filter"):
            yield f"all codes of {url} cannot be used: list concepts, or a family"
        system = addresses.get(url, System(url))
        for concept in part.get("concept", ()):
            codes.concepts[system.url, concept["code"]] = counts
            if not normal_forms(concept["code"], system.comparison):
                yield f"{concept['code']} is no code of {url}"
        for each in part.get("filter", ()):
            family = each["value"]
            if len(part["filter"]) > 1 or part.get("concept"):
                yield "one filter stands alone in its include or exclude"
            if (each["property"], each["op"]) != ("concept", "is-a"):
                written = f"{each['property']} {each['op']}"
                yield f"the filter {written} cannot be used: only concept is-a"
            elif not system.hierarchical:
                yield f"{url} is not said to be hierarchical: it has no family of {family}"
            elif len(normal_forms(family, system.comparison)) != 1:
                yield f"{family} is no code of {url}"
            else:
                codes.families[system.url, family] = counts


def _included_and_taken_out(
    included: CodeSet, taken_out: CodeSet, addresses: Systems
) -> Iterator[str]:
    """Yield, in words, each code that is both included and excluded.

    In FHIR ``exclude`` wins, here the more specific entry does. So both must give the same result.
    """
    index: CodeIndex[str] = CodeIndex(addresses)
    index.add(
        CodeSet(
            *(dict.fromkeys(codes, True) for codes in (taken_out.concepts, taken_out.families))
        ),
        "taken out",
    )
    index.settle()
    for url, code in (*included.concepts, *included.families):
        if index.find({"system": url, "code": code}):
            yield f"{code} of {url} is included, and excluded too"


def _settle_units_and_answers(content: Content, files: ContentFiles) -> None:
    yes_no = {"yes": AnswerSpec(label="yes"), "no": AnswerSpec(label="no")}
    for spec in content.facts.values():
        if not content.lookup.conversions.get(spec.id, True):
            files.fault("facts", spec.id, f"the unit {spec.unit!r} is in no unit kind")
        if spec.type == "yes-no":
            spec.answers = {**yes_no, **spec.answers}
        if spec.type == "coded" and not spec.answers:
            files.fault("facts", spec.id, "a coded fact needs answers")
        codes: CodeIndex[str] = CodeIndex(content.addresses)
        for answer in spec.answers:
            codes.add(CodeSet({(OWN_ANSWER, answer): True}), answer)
            for name in (f"{spec.id}-{answer}", answer if spec.type == "yes-no" else ""):
                codes.add(content.codes.get(f"{VALUE_SET}{name}", CodeSet()), answer)
        codes.settle()
        content.answers[spec.id] = codes


_UNITS_OF_MEASURES = {"hours": "h", "days": "d", "days-about": "d"}


def _settle_parameters(content: Content, files: ContentFiles) -> None:
    """Set the limit of each condition that names a parameter, in the unit of the fact."""
    for section, entry in content.entries_of((*WITH_CONDITIONS, "assessments")):
        for condition in conditions_of(entry):
            for part in condition.parts_within():
                if not isinstance(part, FactCompares) or part.parameter is None:
                    continue
                parameter = content.parameters.get(part.parameter)
                if parameter is None:
                    files.fault(section, entry.id, f"there is no parameter '{part.parameter}'")
                    continue
                spec = content.facts.get(part.fact)
                if spec is not None and content.lookup.conversions.get(spec.id, True):
                    part.limit = _limit_of(parameter, spec, part.measure, content)
                    if part.limit is None:
                        reason = f"{parameter.id} has another unit than {part.fact}.{part.measure}"
                        files.fault(section, entry.id, reason)


def _limit_of(parameter: Parameter, spec: FactSpec, measure: str, content: Content) -> float | None:
    """The value of a parameter in the unit of a measure; ``None`` if the units do not match."""
    kind = "quantity" if measure == "value" else MEASURES[spec.measures_like].get(measure)
    if kind == "duration" or measure == AGE:
        try:
            return duration(f"{parameter.value:g} {parameter.unit}")
        except ValueError:
            return None
    if kind == "number":
        wanted = _UNITS_OF_MEASURES.get(measure, "1")
        return parameter.value if parameter.unit == wanted else None
    if spec.type not in ("quantity", "number"):
        return None
    return content.lookup.convert(spec.id, parameter.value, parameter.unit)


def _spoken_units(kinds: Iterable[UnitKind]) -> dict[str, SpokenUnit]:
    """The units that have a label, by UCUM unit, each with the unit ``beside`` it."""
    spoken: dict[str, SpokenUnit] = {}
    for kind in kinds:
        for unit, label in kind.labels.items():
            spoken[unit] = SpokenUnit(label, kind.decimals.get(unit))
        for unit, other in kind.beside.items():
            factor, offset = factor_and_offset(kind.units[unit])
            others, others_offset = factor_and_offset(kind.units[other])
            spoken[unit] = replace(
                spoken[unit],
                beside=spoken[other],
                factor=factor / others,
                offset=(offset - others_offset) / others,
            )
    return spoken


def _index(content: Content) -> None:
    content.not_recorded.update({spec.id: FactValue(spec) for spec in content.facts.values()})
    content.counting_facts += [spec for spec in content.facts.values() if spec.counts is not None]
    content.facts_of_birth += [spec for spec in content.facts.values() if spec.before_birth]
    for card in content.cards.values():
        for gate, under in card.under.items():
            other = {name: getattr(under, name) for name in under.model_fields_set}
            content.cards_under[card.id, gate] = card.model_copy(update=other)
        own = {"": card, **{gate: content.cards_under[card.id, gate] for gate in card.under}}
        for gate, worded in own.items():
            for place, words in enumerate(worded.worded):
                other = {name: getattr(words, name) for name in words.model_fields_set - {"when"}}
                content.cards_worded[card.id, gate, place] = worded.model_copy(update=other)
    content.sides = content.index_of(SIDE_OF_BREAST)
    content.activities = CodeIndex(content.addresses)
    for name, intervention in content.interventions.items():
        content.activities.add(CodeSet({(OWN_ACTIVITY, name): True}), name)
        if intervention.medicine is not None and intervention.contraindications:
            content.with_contraindications[intervention.medicine] = intervention
        standard = content.codes.get(f"{VALUE_SET}activity-{name}", CodeSet())
        content.activities.add(standard, name)
    content.activities.settle()
    for key in content.prefetch.values():
        others = content.keys_by_resource.get(key.resource, ())
        content.keys_by_resource[key.resource] = (*others, key.id)


def _index_interactions(content: Content, files: ContentFiles) -> None:
    """Index the interaction of each pair of medicines, and make contraindications of these."""
    for interaction in content.interactions.values():
        if interaction.refines is None:
            for pair in _pairs_of(interaction, content):
                known = content.pairs.get(pair) or content.pairs.get(pair[::-1])
                if known is None or _severity(interaction) < _severity(known):
                    content.pairs.pop(pair[::-1], None)
                    content.pairs[pair] = interaction
    for interaction in content.interactions.values():
        wider = content.interactions.get(interaction.refines or "")
        if wider is None:
            continue
        refined = {frozenset(pair) for pair in _pairs_of(wider, content)}
        for pair in _pairs_of(interaction, content):
            if frozenset(pair) not in refined:
                reason = f"{' with '.join(pair)} is no pair of {wider.id}, which it refines"
                files.fault("interactions", interaction.id, reason)
            content.pairs.pop(pair[::-1], None)
            content.pairs[pair] = interaction
    content.paired.update(name for pair in content.pairs for name in pair)
    for intervention in content.interventions.values():
        medicine = content.medicines.get(intervention.medicine or "")
        if medicine is not None and intervention.contraindications:
            for contraindication in _contraindications_by_interaction(medicine, content):
                content.contraindications[contraindication.id] = contraindication
                intervention.contraindications.append(contraindication.id)


def _severity(interaction: Interaction) -> int:
    return SEVERITIES.index(interaction.severity)


def _pairs_of(interaction: Interaction, content: Content) -> Iterator[tuple[str, str]]:
    """The pairs of two different medicines of an interaction, each once, side ``one`` first."""
    seen: set[frozenset[str]] = set()
    medicines = content.medicines.values()
    others = [medicine for medicine in medicines if interaction.other.includes(medicine)]
    for one in medicines:
        if not interaction.one.includes(one):
            continue
        for other in others:
            pair = frozenset((one.id, other.id))
            if len(pair) == 2 and pair not in seen:
                seen.add(pair)
                yield one.id, other.id


def _contraindications_by_interaction(
    medicine: Medicine, content: Content
) -> Iterator[Contraindication]:
    """The interactions of a medicine, as contraindications of the intervention that is about it."""
    for interaction in content.interactions.values():
        opposite = interaction.opposite(medicine)
        if opposite is None or interaction.refines is not None:
            continue
        yield Contraindication.model_construct(
            id=f"{interaction.id}-with-{medicine.id}",
            of_her_record=False,
            label=opposite.short.text,
            short=opposite.short,
            rows=interaction.rows,
            when=Interacting(interaction.id, medicine.id),
            evidence=interaction.evidence,
            review=interaction.review,
        )


def _mark_keys_in_use(content: Content) -> None:
    """Collect the prefetch keys that can change a card. Others may fail without notice."""
    resources = {str(resource["resourceType"]) for resource in content.suggested.values()}
    if any(card.body == "medicines" for card in content.cards.values()):
        resources |= MEDICINE_TYPES
        content.keys_in_use.add(MEDICATIONS)
    for resource in resources:
        content.keys_in_use.update(content.keys_by_resource.get(resource, ()))
    for name in content.asked_facts:
        content.keys_in_use.update(content.facts[name].keys)
    newborns = (key.id for key in content.prefetch.values() if key.search_by != "patient")
    content.keys_in_use.update(newborns)


def _check_parameters(content: Content, files: ContentFiles) -> None:
    """Check that the parameters exist that the code reads."""
    for name in ("youngest-mother", "oldest-mother"):
        if name not in content.parameters and name not in files.raw["parameters"]:
            files.faults.append(Fault("parameters", 0, f"the parameter '{name}' is missing"))


def _check_references(content: Content, files: ContentFiles) -> None:
    for spec in content.facts.values():
        for key in spec.keys:
            if key not in content.prefetch:
                files.fault("facts", spec.id, f"there is no prefetch key '{key}'")
        if spec.counts is not None and spec.counts not in content.facts:
            files.fault("facts", spec.id, f"there is no fact '{spec.counts}'")
    known_value_sets = {f"{VALUE_SET}{fact}" for fact in content.facts}
    for spec in content.facts.values():
        known_value_sets |= {f"{VALUE_SET}{spec.id}-{answer}" for answer in spec.answers}
    known_value_sets |= {f"{VALUE_SET}yes", f"{VALUE_SET}no", NO_ALLERGY, IN_PART}
    known_value_sets.add(SIDE_OF_BREAST)
    medicines = {*content.medicines, *(key for of, key in files.left_out if of == "medicines")}
    known_value_sets |= {f"{VALUE_SET}medicine-{name}" for name in medicines}
    known_value_sets |= {f"{VALUE_SET}feed-{name}" for name in content.feeds}
    known_value_sets |= {f"{VALUE_SET}activity-{name}" for name in content.interventions}
    for file, value_set in files.value_sets:
        if value_set["url"] not in known_value_sets:
            reason = f"{value_set['url']} belongs to no fact, answer or activity"
            files.faults.append(Fault(file, 1, reason))
    takable = {*get_args(Effect), *BANDS, *files.raw["medicines"]}
    orderable = takable | files.raw["feeds"].keys() | {UNIDENTIFIED, INTERACTING}
    asked: set[str] = set()
    for section, entry in content.entries_of(WITH_CONDITIONS):
        for condition in conditions_of(entry):
            asked |= condition.facts()
            for reason in _wrong_in(condition, content, files, takable):
                files.fault(section, entry.id, reason)
    content.asked_facts += [name for name in content.facts if name in asked]
    references: list[tuple[str, str, str, Iterable[str]]] = []
    cited = ("findings", "contraindications", "interventions", "interactions", "cards")
    for section, entry in content.entries_of(cited):
        references.append((section, entry.id, "evidence", entry.evidence))
    for section, entry in content.entries_of(WITH_ROWS):
        references.append((section, entry.id, "rows", entry.rows))
    for medicine in content.medicines.values():
        sources = {reading.source for reading in medicine.readings}
        if OWN_RECORD in sources and medicine.lactmed is None:
            reason = f"the source of a reading is '{OWN_RECORD}', and it has no LactMed record"
            files.fault("medicines", medicine.id, reason)
        sources -= {OWN_RECORD}
        sources |= {limits.source for limits in medicine.limits}
        references.append(("medicines", medicine.id, "evidence", sorted(filter(None, sources))))
        countries = [country for limits in medicine.limits for country in limits.countries]
        for country in sorted({each for each in countries if countries.count(each) > 1}):
            files.fault("medicines", medicine.id, f"its limits in {country} are given twice")
    for interaction in content.interactions.values():
        refined = [interaction.refines] if interaction.refines else []
        references.append(("interactions", interaction.id, "interactions", refined))
        for name in (*interaction.one.of, *interaction.other.of):
            if name not in takable or name in BANDS:
                reason = f"'{name}' is no medicine, and no effect of one"
                files.fault("interactions", interaction.id, reason)
    for curve in content.curves.values():
        for point in curve.points:
            references.append(("curves", curve.id, "evidence", point.evidence))
    for intervention in content.interventions.values():
        references.append(("interventions", intervention.id, "findings", intervention.held_back_by))
        contraindications = intervention.contraindications
        references.append(
            ("interventions", intervention.id, "contraindications", contraindications)
        )
        references.append(("interventions", intervention.id, "grades", [intervention.grade]))
        if intervention.medicine is not None:
            asked_of = [intervention.medicine]
            references.append(("interventions", intervention.id, "medicines", asked_of))
        if intervention.suggestion is not None:
            template = [intervention.suggestion.template]
            references.append(("interventions", intervention.id, "templates", template))
    for worded in content.cards_worded.values():
        references.append(("cards", worded.id, "facts", worded.asks_first))
    for gate in content.gates.values():
        references.append(("gates", gate.id, "findings", [gate.finding]))
        references.append(("gates", gate.id, "gates", [gate.words_of] if gate.words_of else []))
    for card in content.cards.values():
        references.append(("cards", card.id, "gates", card.under))
        offered = [card.interventions, *(under.interventions for under in card.under.values())]
        if card.body == "interventions" and not any(offered):
            files.fault("cards", card.id, "it has no 'interventions', so it is never shown")
        for under in card.under.values():
            references.append(("cards", card.id, "interventions", under.interventions or ()))
        references.append(("cards", card.id, "interventions", card.interventions))
        references.append(("cards", card.id, "findings", card.withheld_by))
        references.append(("cards", card.id, "facts", card.asks_first))
        for name in (*card.about, *card.not_about):
            if name not in orderable:
                reason = f"'{name}' is no medicine, no band or effect of one, and no feed"
                files.fault("cards", card.id, reason)
        if (card.body == "order") != bool(card.about):
            files.fault("cards", card.id, "the body 'order' and 'about' belong together")
    for ask in content.asks.values():
        references.append(("asks", ask.id, "facts", ask.facts))
        references.append(("asks", ask.id, "gates", ask.under))
        if ask.finding is not None:
            references.append(("asks", ask.id, "findings", [ask.finding]))
    for section, key, target, names in references:
        for name in names:
            if name not in files.raw[target]:
                files.fault(section, key, f"there is no '{name}' in {target}")
            elif target == "evidence" and not getattr(content.evidence.get(name), "seen", True):
                files.fault(section, key, f"'{name}' was not seen, and cannot be cited")


def _wrong_in(
    condition: Condition, content: Content, files: ContentFiles, takable: set[str]
) -> Iterator[str]:
    for fact in sorted(condition.facts() - files.raw["facts"].keys()):
        yield f"there is no fact '{fact}'"
    for finding in sorted(condition.findings() - files.raw["findings"].keys()):
        yield f"there is no finding '{finding}'"
    for part in condition.parts_within():
        if isinstance(part, Taking) and part.what != "any" and part.what not in takable:
            yield f"'{part.what}' is no medicine, and no band or effect of one"
        if isinstance(part, Together) and part.what not in ("any", *files.raw["interactions"]):
            yield f"there is no '{part.what}' in interactions"
        if isinstance(part, Contraindicated) and not any(
            each.medicine == part.medicine and each.contraindications
            for each in content.interventions.values()
        ):
            yield f"'{part.medicine}' has no intervention with contraindications"
        if isinstance(part, Allergic) and part.what not in takable:
            yield f"'{part.what}' is no medicine, and no effect of one"
        if isinstance(part, FactIs) and part.fact in content.facts:
            unknown = sorted(part.answers - content.facts[part.fact].answers.keys())
            if unknown:
                yield f"{part.fact} has no answer '{unknown[0]}'"
        if isinstance(part, Newest):
            continue  # it can be asked of any fact
        if isinstance(part, FactCompares | Known) and part.fact in content.facts:
            spec = content.facts[part.fact]
            if part.measure != "value" and part.measure not in MEASURES[spec.measures_like]:
                yield f"{part.fact} has no measure '{part.measure}'"
        if isinstance(part, FactCompares) and part.fact in content.facts:
            spec = content.facts[part.fact]
            is_duration = MEASURES[spec.measures_like].get(part.measure) == "duration"
            if part.parameter is None and part.in_duration != is_duration:
                what = (
                    "a duration: write it like '6 h'" if is_duration else "a number: write no unit"
                )
                unit = f", it is in {spec.unit}" if spec.unit and not is_duration else ""
                yield f"{part.fact}.{part.measure} is {what}{unit}"
            if part.curve is not None and part.curve[0] not in content.curves:
                yield f"there is no curve '{part.curve[0]}'"


def _check_told_facts(content: Content, files: ContentFiles) -> None:
    for spec in content.facts.values():
        told = content.facts.get(spec.tells) if spec.tells is not None else spec
        if told is None or not told.answers.keys() >= spec.answers.keys():
            reason = f"'{spec.tells}', which it tells, is no fact, or lacks one of its answers"
            files.fault("facts", spec.id, reason)


def _check_reasons(content: Content, files: ContentFiles) -> None:
    otherwise = [reason.id for reason in content.override_reasons.values() if reason.otherwise]
    for name in otherwise[1:]:
        reason = f"only one reason can be 'otherwise': it is '{otherwise[0]}' already"
        files.fault("override-reasons", name, reason)


def _check_findings_have_no_cycle(content: Content, files: ContentFiles) -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            files.fault("findings", name, f"it depends on itself: {' -> '.join((*path, name))}")
            return
        finding = content.findings.get(name)
        if finding is None or name in done:
            return
        for when in (finding.when, finding.unless):
            for other in sorted(when.findings()) if when is not None else ():
                visit(other, (*path, name))
        done.add(name)

    for name in content.findings:
        visit(name, ())


def _check_wording(content: Content, files: ContentFiles) -> None:
    worded = content.cards_worded.values()
    for card in [*content.cards.values(), *content.cards_under.values(), *worded]:
        lines = [line.value for line in card.table]
        lines += [line.usual for line in card.table if line.usual is not None]
        sentences = [card.summary, *lines] + ([card.opening] if card.opening else [])
        for sentence in sentences:
            _check_sentence("cards", card.id, sentence, content, files)
        behind = LONGEST_NAME + len(": ") if card.body == "order" else 0
        _check_summary("cards", card.id, card.summary, behind, content, files)
    for ask in content.asks.values():
        if ask.summary is not None:
            _check_sentence("asks", ask.id, ask.summary, content, files)
            _check_summary("asks", ask.id, ask.summary, len(ALSO_MISSING), content, files)
    for intervention in content.interventions.values():
        for do in (intervention.do, *(words.do for words in intervention.worded)):
            _check_sentence("interventions", intervention.id, do, content, files)
    for each in content.contraindications.values():
        _check_sentence("contraindications", each.id, each.short, content, files)


def _check_summary(
    section: str, key: str, summary: Wording, behind: int, content: Content, files: ContentFiles
) -> None:
    """Check that a summary is short enough, with ``behind`` more characters added to it."""
    try:
        longest = summary.longest(content) + behind
    except ValueError:
        return  # ``_check_sentence`` reports this
    if longest > LONGEST_SUMMARY:
        reason = f"its summary can have {longest} characters, more than {LONGEST_SUMMARY}"
        files.fault(section, key, reason)


def _check_sentence(
    section: str, key: str, sentence: Wording, content: Content, files: ContentFiles
) -> None:
    try:
        sentence.longest(content)
    except ValueError as error:
        files.fault(section, key, str(error))
    if "<" in sentence.text:
        files.fault(section, key, "no HTML, and no '<': a client may take it for a tag")


def _build_suggestions(content: Content, files: ContentFiles) -> None:
    """Make the resource that each intervention suggests, and validate it as FHIR."""
    for intervention in content.interventions.values():
        suggestion = intervention.suggestion
        template = content.templates.get(suggestion.template) if suggestion else None
        if suggestion is None or template is None:
            continue
        words = {
            "activity": intervention.id,
            "label": intervention.label,
            "do": intervention.do.text,
            "how": " ".join(intervention.how.split()),
        }
        resource = _fill(template.resource, words)
        resource["subject"] = {"reference": SOMEONE}
        complete = {
            **resource,
            "encounter": {"reference": "Encounter/some"},
            "authoredOn": "2026-01-01T00:00:00Z",
            "requester": {"reference": "Practitioner/someone"},
        }
        try:
            get_fhir_model_class(str(resource.get("resourceType"))).model_validate(complete)
        except (ValidationError, KeyError, ValueError) as error:
            reason = f"its suggestion is not valid FHIR: {brief(error)} ({intervention.id})"
            files.fault("templates", template.id, reason)
            continue
        content.suggested[intervention.id] = resource


_WORD = re.compile(r"\{(activity|label|do|how)\}")


def _fill(template: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    filled: dict[str, Any] = change_texts(
        template, lambda text: _WORD.sub(lambda match: words[match[1]], text)
    )
    return filled
