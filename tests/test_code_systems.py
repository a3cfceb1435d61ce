"""The project's own codes as FHIR: complete, valid, and written by the command."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from fhir.resources.R4B.codesystem import CodeSystem

from cds_service.code_systems import code_systems
from cds_service.command import main
from cds_service.content import Content


def codes(code_system: CodeSystem) -> set[str]:
    return {concept.code for concept in code_system.concept}


def test_every_own_code_is_in_one_and_once(content: Content) -> None:
    made = {url: CodeSystem.model_validate(system) for url, system in _by_url(content).items()}
    for code_system in made.values():
        assert code_system.count == len(code_system.concept) == len(codes(code_system))
    assert codes(made["urn:lactation-cds:fact"]) == set(content.facts)
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
    result = CliRunner().invoke(main, ["content", "code-systems", str(tmp_path / "codes")])
    assert result.exit_code == 0, result.output
    written = sorted((tmp_path / "codes").iterdir())
    assert len(written) == 4
    for path in written:
        CodeSystem.model_validate(json.loads(path.read_text()))
        assert path.name in result.output.replace("\n", "")
