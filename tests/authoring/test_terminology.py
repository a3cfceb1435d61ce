"""The project's own codes as FHIR: complete, valid, and written by the command."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from fhir.resources.R4B.codesystem import CodeSystem
from fhir.resources.R4B.valueset import ValueSet

from cds_service.authoring.terminology import code_systems, value_sets
from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from cds_service.content.schema import VALUE_SET


def codes(code_system: CodeSystem) -> set[str]:
    return {concept.code for concept in code_system.concept}


def test_every_own_code_is_in_one_and_once(content: Content) -> None:
    made = {url: CodeSystem.model_validate(system) for url, system in _by_url(content).items()}
    for code_system in made.values():
        assert code_system.count == len(code_system.concept) == len(codes(code_system))
    assert codes(made["urn:lactation-cds:fact"]) == set(content.facts)
    assert codes(made["urn:lactation-cds:finding"]) == set(content.findings)
    assert codes(made["urn:lactation-cds:activity"]) == set(content.interventions)
    assert codes(made["urn:lactation-cds:card"]) == set(content.cards)
    answers = codes(made["urn:lactation-cds:answer"])
    assert all(answers >= set(fact.answers) for fact in content.facts.values())


def test_an_answer_of_several_facts_has_no_words_of_one(content: Content) -> None:
    answers = _by_url(content)["urn:lactation-cds:answer"]["concept"]
    words = {concept["code"]: concept["display"] for concept in answers}
    assert (words["yes"], words["no"], words["former"]) == ("yes", "no", "former")
    assert words["before-and-during"] == "before and during pumping"


def _by_url(content: Content) -> dict[str, dict]:
    return {system["url"]: system for system in code_systems(content).values()}


def test_the_command_writes_them(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["content", "terminology", str(tmp_path / "codes")])
    assert result.exit_code == 0, result.output
    written = sorted((tmp_path / "codes").iterdir())
    systems = [path for path in written if path.name.startswith("CodeSystem")]
    assert len(systems) == 5
    for path in systems:
        CodeSystem.model_validate(json.loads(path.read_text()))
        assert path.name in result.output.replace("\n", "")
    assert f"and {len(written) - 5} ValueSets" in result.output


def test_each_fact_is_a_value_set_of_its_own_code_and_the_standard_ones(content: Content) -> None:
    made = {made["url"]: ValueSet.model_validate(made) for made in value_sets(content).values()}
    for fact in content.facts:
        value_set = made[VALUE_SET + fact]
        listed = [(i.system, i.concept or ()) for i in value_set.compose.include]
        pairs = {(system, c.code) for system, concepts in listed for c in concepts}
        assert pairs == set(content.codes_of(fact))
    assert {f"{VALUE_SET}pump-mode-double", f"{VALUE_SET}activity-lactation-consult"} <= set(made)


def test_what_is_written_can_be_laid_over_the_content(content: Content, tmp_path: Path) -> None:
    """A hospital maps from these files: they are ValueSets as the content reads them."""
    for name, value_set in value_sets(content).items():
        (tmp_path / name).write_text(json.dumps(value_set))
    laid = load_content(tmp_path)
    for kind, index in content.lookup.by_code.items():
        for system, code in index:
            concept = {"coding": [{"system": system, "code": code}]}
            before, after = (c.lookup.of_concept(concept, kind) for c in (content, laid))
            assert [spec.id for spec in before] == [spec.id for spec in after]
    for fact, answers in content.answers.items():
        assert set(laid.answers[fact]) == set(answers)
    for url, codes in content.codes.items():
        assert laid.codes[url].families == codes.families, url
