"""The content: checked whole at start; what is wrong is said with file, line and reason."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from fhir.resources.R4B.valueset import ValueSet
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_service.content.compiled import Content
from cds_service.content.files import ContentError
from cds_service.content.loader import SHIPPED, load_content
from cds_service.content.wording import LONGEST_SUMMARY
from tests.support.mothers import birth, cards_of, facts_of, inhibited, observation, plan, why


def faults_of(overlay: Path, **files: str) -> list[str]:
    for name, text in files.items():
        (overlay / f"{name}.yaml").write_text(text)
    with pytest.raises(ContentError) as caught:
        load_content(overlay)
    return [str(fault) for fault in caught.value.faults]


CARD = """
cards:
  - id: lactation-consult
    {field}
"""

WRONG: dict[str, tuple[str, str]] = {
    "an unknown fact": (
        "findings:\n- id: x\n  label: x\n  review: draft\n  when: {fact: milk-colour, is: blue}\n",
        "there is no fact 'milk-colour'",
    ),
    "an unknown answer": (
        "findings:\n- id: x\n  label: x\n  review: draft\n  when: {fact: pump-mode, is: triple}\n",
        "pump-mode has no answer 'triple'",
    ),
    "an unknown measure": (
        "findings:\n- id: x\n  label: x\n  review: draft\n"
        "  when: {fact: pump-mode.sum, above: 3}\n",
        "pump-mode has no measure 'sum'",
    ),
    "a number for a duration": (
        "findings:\n- id: x\n  label: x\n  review: draft\n"
        "  when: {fact: expressed-milk-volume.longest-gap, above: 6}\n",
        "expressed-milk-volume.longest-gap is a duration",
    ),
    "an unknown finding": (
        "findings:\n- id: x\n  label: x\n  review: draft\n  when: {finding: low-mood}\n",
        "there is no finding 'low-mood'",
    ),
    "a finding that needs itself": (
        "findings:\n- {id: x, label: x, review: draft, when: {finding: y}}\n"
        "- {id: y, label: y, review: draft, when: {finding: x}}\n",
        "it depends on itself: x -> y -> x",
    ),
    "a condition that is none": (
        "findings:\n- id: x\n  label: x\n  review: draft\n  when: {fact: pump-mode, was: double}\n",
        "a fact can be asked with 'is'",
    ),
    "an intervention without evidence": (
        "interventions:\n- {id: double-pumping, evidence: []}\n",
        "evidence: List should have at least 1 item",
    ),
    "evidence that is not there": (
        "interventions:\n- {id: double-pumping, evidence: [smith-1999]}\n",
        "there is no 'smith-1999' in evidence",
    ),
    "a row that is not there": (
        "interventions:\n- {id: double-pumping, rows: [R77]}\n",
        "there is no 'R77' in rows",
    ),
    "an unknown field": (
        "interventions:\n- {id: double-pumping, colour: red}\n",
        "colour: there is no member of this name here",
    ),
    "a summary that can grow too long": (
        f"cards:\n- id: lactation-consult\n  summary: {'x' * 130} {{pump-mode}}\n",
        f"more than {LONGEST_SUMMARY}",
    ),
    "a question whose headline leaves no room for what else is missing": (
        f"asks:\n- id: formula\n  summary: {'x' * 120}\n",
        f"more than {LONGEST_SUMMARY}",
    ),
    "a headline of a question with a placeholder for nothing": (
        "asks:\n- id: formula\n  summary: 'See {milk-colour}'\n",
        "there is no fact for the placeholder {milk-colour}",
    ),
    "other words of an intervention with a placeholder for nothing": (
        "interventions:\n- id: double-pumping\n  worded:\n"
        "  - {when: {recorded: pump-mode}, do: 'See {milk-colour}'}\n",
        "there is no fact for the placeholder {milk-colour}",
    ),
    "a placeholder for nothing": (
        "cards:\n- id: lactation-consult\n  summary: 'See {milk-colour}'\n",
        "there is no fact for the placeholder {milk-colour}",
    ),
    "html": (
        "cards:\n- id: lactation-consult\n  opening: <b>Now</b>\n",
        "no HTML",
    ),
    "a suggestion that is not FHIR": (
        "templates:\n- id: consult\n  resource: {resourceType: ServiceRequest, status: 3}\n",
        "its suggestion is not valid FHIR",
    ),
    "a template that is not there": (
        "interventions:\n- {id: double-pumping, suggestion: {label: x, template: fax}}\n",
        "there is no 'fax' in templates",
    ),
    "a duration for a number": (
        "findings:\n- {id: little-milk, when: {fact: potassium, above: 4 h}}\n",
        "potassium.value is a number: write no unit, it is in mmol/L",
    ),
    "a card that offers nothing": (
        "cards:\n- {id: low-milk, interventions: []}\n",
        "it has no 'interventions', so it is never shown",
    ),
    "an entry that stands twice in a file": (
        "parameters:\n- {id: fever, value: 38.5}\n- {id: fever, value: 39}\n",
        "'fever' stands already in",
    ),
    "an unknown section": ("kards: []\n", "'kards' is not a section"),
    "no mapping": ("- a\n- b\n", "a file holds sections"),
    "a key given twice": (
        "findings:\n- {id: x, label: x, label: y, review: draft, when: {recorded: pump-mode}}\n",
        "'label' is given twice",
    ),
    "broken YAML": ("cards: [\n", "expected"),
    "an unknown unit": (
        "facts:\n- {id: potassium, unit: furlong}\n",
        "the unit 'furlong' is in no unit kind",
    ),
    "an unknown prefetch key": (
        "facts:\n- {id: potassium, prefetch: labs}\n",
        "there is no prefetch key 'labs'",
    ),
    "a review that is none": (
        "findings:\n- {id: little-milk, review: fine by me}\n",
        "review: String should match pattern",
    ),
    "a window that is none": (
        "facts:\n- {id: x, label: x, type: yes-no, prefetch: conditions, window: forever}\n",
        "a duration is written like '24 h' or '7 d'",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_stops_the_start_with_file_line_and_reason(tmp_path: Path, kind: str) -> None:
    text, reason = WRONG[kind]
    told = faults_of(tmp_path, own=text)
    assert any(reason in line for line in told), told
    assert all("own.yaml:" in line for line in told), told


@pytest.mark.parametrize(("window", "status"), [("ever", "known"), ("365 d", "stale")])
def test_what_counts_for_ever_counts_after_thirty_years(
    tmp_path: Path, window: str, status: str
) -> None:
    (tmp_path / "own.yaml").write_text(f"facts: [{{id: breast-surgery, window: {window}}}]")
    record = observation("breast-surgery", True, 30 * 365 * 24)
    assert facts_of(load_content(tmp_path), record)["breast-surgery"].status == status


def test_the_line_is_that_of_the_entry(tmp_path: Path) -> None:
    text = "findings:\n\n  # a comment\n  - id: little-milk\n    review: no\n"
    (line,) = faults_of(tmp_path, own=text)
    assert line.startswith(f"{tmp_path.name}/own.yaml:4: little-milk: review")


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    told = faults_of(
        tmp_path,
        one="findings:\n- {id: x, label: x, review: draft, when: {finding: nope}}\n",
        two="interventions:\n- {id: double-pumping, evidence: [nope]}\n",
    )
    assert len(told) == 2


def test_an_id_twice_in_the_shipped_content_is_refused(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "cards")
    (tmp_path / "cards" / "again.yaml").write_text(
        "findings:\n- {id: little-milk, label: x, review: draft, when: {recorded: pump-mode}}\n"
    )
    with pytest.raises(ContentError, match="'little-milk' stands already in cards/"):
        load_content(shipped=tmp_path / "cards")


def shipped_entries() -> list[tuple[str, dict[str, Any]]]:
    """Each entry of the shipped content as it is written, with its section."""
    return [
        (section, entry)
        for path in sorted(SHIPPED.rglob("*.yaml"))
        for section, entries in yaml.load(path.read_text(), yaml.CSafeLoader).items()
        for entry in entries
        if section != "rows"
    ]


ODD_VALUES = st.sampled_from([None, True, -1, "", "odd", [], {}, ["odd"], {"odd": "odd"}])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.deferred(lambda: st.sampled_from(shipped_entries())), st.data())
def test_no_odd_value_in_a_field_is_more_than_a_fault(
    tmp_path_factory: pytest.TempPathFactory, entry: tuple[str, dict[str, Any]], data: Any
) -> None:
    section, fields = entry
    field = data.draw(st.sampled_from(sorted(set(fields) - {"id"})))
    odd = {section: [{"id": fields["id"], field: data.draw(ODD_VALUES)}]}
    directory = tmp_path_factory.mktemp("odd")
    (directory / "odd.yaml").write_text(yaml.safe_dump(odd))
    with suppress(ContentError):
        load_content(directory)


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="there is no such directory"):
        load_content(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("value_set", "reason"),
    [
        ("{", "this is not a FHIR ValueSet"),
        ('{"resourceType": "ValueSet", "status": "fine"}', "its url must start with"),
        (
            '{"resourceType": "ValueSet", "status": "draft",'
            ' "url": "urn:lactation-cds:value-set:milk-colour"}',
            "belongs to no fact, answer or activity",
        ),
        ('{"resourceType": "ValueSet"}', "this is not a FHIR ValueSet"),
    ],
)
def test_a_value_set_that_is_none_is_refused(tmp_path: Path, value_set: str, reason: str) -> None:
    (tmp_path / "own.json").write_text(value_set)
    with pytest.raises(ContentError, match=reason):
        load_content(tmp_path)


# --- a hospital's own directory -----------------------------------------------------------------


def hospital_codes(url: str, *codes: str) -> str:
    include = {"system": "urn:hospital", "concept": [{"code": code} for code in codes]}
    return json.dumps(
        {
            "resourceType": "ValueSet",
            "url": f"urn:lactation-cds:value-set:{url}",
            "status": "draft",
            "compose": {"include": [include]},
        }
    )


def test_local_codes_are_one_more_value_set(tmp_path: Path) -> None:
    (tmp_path / "pump.json").write_text(hospital_codes("pump-mode", "FLOW-77"))
    (tmp_path / "double.json").write_text(hospital_codes("pump-mode-double", "BOTH"))
    (tmp_path / "consult.json").write_text(hospital_codes("activity-lactation-consult", "LC-1"))
    own = load_content(tmp_path)
    record = observation(
        "x", valueCodeableConcept={"coding": [{"system": "urn:hospital", "code": "BOTH"}]}
    )
    record["code"] = {"coding": [{"system": "urn:hospital", "code": "FLOW-77"}]}
    assert facts_of(own, record)["pump-mode"].value == "double"
    order: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "id": "lc",
        "status": "active",
        "subject": {"reference": "Patient/mother-1"},
        "code": {"coding": [{"system": "urn:hospital", "code": "LC-1"}]},
    }
    assert list(cards_of(own, *inhibited(), order)) == ["inhibited-letdown"]


def test_a_card_can_be_switched_off_and_a_threshold_changed(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "cards:\n- {id: lactation-consult, off: true}\n"
        "interventions:\n- id: raise-frequency\n  when: {fact: pump-sessions-24h, below: 3}\n"
    )
    own = load_content(tmp_path)
    cards = cards_of(own, *inhibited(), observation("pump-mode", "single"))
    assert list(cards) == ["inhibited-letdown"]
    assert "raise-frequency" not in why(cards["inhibited-letdown"])["interventions"]
    assert cards_of(own, birth(4), plan("pump", 2))["early-expression"]["summary"].startswith(
        "4 h after birth"
    )


SMOKES = observation("smoking-status", "smoker")


def test_an_intervention_can_be_added_without_python(tmp_path: Path, content: Content) -> None:
    names = [*content.cards["supply-risk-factors"].interventions, "rest-more"]
    (tmp_path / "own.yaml").write_text(
        "interventions:\n"
        "- id: rest-more\n  label: Rest\n  short: rest\n  rows: [R29]\n  review: draft\n"
        "  when: {fact: smoking-status, is: smoker}\n  do: Lie down for an hour.\n"
        "  how: Lie down.\n"
        "  evidence: [becker-2016]\n  grade: D\n"
        f"cards:\n- id: supply-risk-factors\n  interventions: [{', '.join(names)}]\n"
    )
    own = load_content(tmp_path)
    card = cards_of(own, birth(100), plan("nurse"), SMOKES)["supply-risk-factors"]
    assert "**Rest** (expert practice). Lie down for an hour." in card["detail"]


def test_the_version_changes_with_the_content(tmp_path: Path, content: Content) -> None:
    (tmp_path / "own.yaml").write_text("cards:\n- {id: lactation-consult, urgency: 19}\n")
    assert load_content(tmp_path).version != content.version
    assert load_content().version == content.version


# --- the shipped content ------------------------------------------------------------------------

AT_WORK = (
    *("P01", "P02", "P03", "P04", "P10", "P11", "P12", "P13", "P14", "P15"),
    *("P17", "P18", "P19", "P25", "P26"),
    *("R01", "R03", "R04", "R05", "R06", "R08", "R09", "R10", "R11", "R12", "R16", "R17", "R18"),
    *("R19", "R20", "R21", "R22", "R23", "R24", "R25", "R27", "R28", "R29"),
    *("R07", "R13", "R14", "R15", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10"),
)


@pytest.mark.parametrize("row", AT_WORK)
def test_a_row_that_was_promised_is_at_work(content: Content, row: str) -> None:
    assert content.rows[row].not_yet is None
    assert content.row_uses()[row]


def test_a_row_says_that_it_works_or_why_not_yet(content: Content) -> None:
    assert len(content.rows) >= 65
    for row, uses in content.row_uses().items():
        assert uses or content.rows[row].not_yet, row


def test_every_source_is_verified_and_found(content: Content) -> None:
    for source in content.evidence.values():
        assert source.verified
        is_found = source.link or not source.seen or source.id == "founding-article"
        assert is_found, f"{source.id} needs a url, pmid or doi"


def test_the_articles_references_are_all_there_and_what_was_not_seen_is_cited_nowhere(
    content: Content, tmp_path: Path
) -> None:
    by_number = {s.reference: s for s in content.evidence.values() if s.reference}
    assert sorted(by_number) == [1, 2, 3, 4, 5, 6, 7, 8]
    (tmp_path / "own.yaml").write_text("cards: [{id: d-mer, evidence: [d-mer-2024]}]")
    with pytest.raises(ContentError, match="'d-mer-2024' was not seen, and cannot be cited"):
        load_content(tmp_path)


def test_each_intervention_says_on_its_card_how_far_the_evidence_goes(content: Content) -> None:
    for intervention in content.interventions.values():
        assert content.grades[intervention.grade].word


def test_every_value_set_says_where_its_codes_were_verified() -> None:
    for path in (SHIPPED / "value-sets").glob("*.json"):
        value_set = ValueSet.model_validate_json(path.read_text())
        assert "Verified" in (value_set.description or ""), path.name


def test_a_curve_rises_and_its_low_is_below_its_high(content: Content) -> None:
    for curve in content.curves.values():
        for line in ("low", "high"):
            values = [curve.at(line, hours) for hours in range(0, 24 * 60)]
            assert values == sorted(values)
        assert all(point.low < point.high for point in curve.points)
    assert content.curves["expected-volume"].at("low", 14 * 24) == 500
    assert content.curves["expected-volume"].at("high", 14 * 24) == 750


def test_the_version_is_of_what_is_said_and_not_of_where_it_lies(tmp_path: Path) -> None:
    """Two instances with the same content name the same version."""
    versions = set()
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.yaml").write_text("cards: [{id: lactation-consult, title: Ours}]")
        versions.add(load_content(tmp_path / name).version)
    assert len(versions) == 1
    assert versions != {load_content().version}
