"""The YAML that is read, and that all of ours is written in one way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cds_service.authoring import vignettes
from cds_service.authoring.form_warnings import OLD_NAMES, OTHER_YAML, style_warnings
from cds_service.cli.__main__ import main
from cds_service.content.conditions import Contraindicated
from cds_service.content.dialect import (
    NotYamlError,
    WrittenMapping,
    dialect_faults,
    read_yaml,
)
from cds_service.content.files import ContentError
from cds_service.content.loader import SHIPPED, load_content
from cds_service.content.old_names import rename_old
from tests.support.repository import ROOT

PAGES = ("docs/content.md", "docs/connect.md", "README.md", "CONTRIBUTING.md")


@pytest.mark.parametrize("directory", [SHIPPED, vignettes.SHIPPED], ids=lambda path: path.name)
def test_all_that_is_shipped_is_written_in_one_way_and_with_no_old_name(directory: Path) -> None:
    assert list(style_warnings(directory)) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_the_pages_are_written_so_too(page: str) -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    assert examples
    for example in examples:
        if not example.startswith(" "):  # else it is a part of an entry
            assert list(dialect_faults(example)) == []


def test_it_is_read_as_yaml_1_2() -> None:
    written = (
        "a: yes\nb: true\nc: 2026-11-28\nd: 12:30\ne: 010\nf: 1.50\ng: -3\nh: 1_0\ni:\nj: on\n"
    )
    assert read_yaml(written) == {
        "a": "yes",
        "b": True,
        "c": "2026-11-28",
        "d": "12:30",
        "e": 10,
        "f": 1.5,
        "g": -3,
        "h": "1_0",
        "i": None,
        "j": "on",
    }


@pytest.mark.parametrize(
    ("written", "line"),
    [("a: 1\nb: 2\na: 3\n", 3), ("a: [1\n", 2), ("a: 1\n---\nb: 2\n", 2), ("a: *b\n", 1)],
)
def test_what_is_no_yaml_is_told_with_its_line(written: str, line: int) -> None:
    with pytest.raises(NotYamlError) as told:
        read_yaml(written)
    assert told.value.line == line


def test_bytes_that_are_no_text_are_no_yaml() -> None:
    with pytest.raises(NotYamlError, match="UTF-8"):
        read_yaml(b"a: \xff\n")


@pytest.mark.parametrize(
    ("written", "line", "told"),
    [
        ("a: 'x'\n", 1, "double"),
        ("a:\n- x\n", 2, "two columns"),
        ("a:\n    b: x\n", 2, "two columns"),
        ("a: &b x\nc: y\n", 1, "anchor"),
        ("a: &b x\nc: *b\n", 2, "alias"),
        ("a: !!str x\n", 1, "tag"),
        ("---\na: x\n", 1, "one document"),
        ("a: |\n  x\n", 1, "folded"),
        ("a: x\nb: True\n", 2, "boolean"),
        ("a: Off\n", 1, "quotes"),
        ("a: ~\n", 1, "left out"),
        ("a: 010\n", 1, "no 0"),
        ("a: 1_000\n", 1, "no '_'"),
        ("a: 12:30\n", 1, "quotes"),
        ("a: x \n", 1, "spaces"),
        ("a: [x,\n\ty]\n", 2, "tabs"),
        ("a: x\r\n", 1, "line feed"),
    ],
)
def test_what_is_written_otherwise_is_told(written: str, line: int, told: str) -> None:
    assert any(where == line and told in what for where, what in dialect_faults(written))


OVERLAY = """
facts:
  - id: nipple-shield
    label: nipple shield
    type: yes-no
    window: 1200 months
    prefetch: infantFeeding
    ask: 'whether she nurses with a nipple shield'
cards:
  - id: inhibited-letdown
    table:
      - {label: Nipple shield, hers: "{nipple-shield}"}
    never-quiet: true
  - id: order-guarded
    if-guarded: unchecked
interventions:
  - id: domperidone
    guards: [epilepsy]
guards:
  - {id: depression, short: of what speaks against it}
findings:
  - {id: measures-in-use, when: {guarded: domperidone}}
override-reasons:
  - {id: patient-refuses, quiet: 9 d}
""".lstrip()


def test_an_old_name_is_read_and_content_check_warns_of_it(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(OVERLAY)
    content = load_content(tmp_path)
    card = content.cards["inhibited-letdown"]
    assert [line.value.text for line in card.table] == ["{nipple-shield}"]
    assert card.never_suppressed
    assert content.cards["order-guarded"].if_contraindicated == "unknown"
    assert content.interventions["domperidone"].contraindications[0] == "epilepsy"
    assert content.contraindications["depression"].short.text == "of what speaks against it"
    assert content.findings["measures-in-use"].when == Contraindicated("domperidone")
    assert content.override_reasons["patient-refuses"].suppressed_for == 9 * 86400
    checked = CliRunner().invoke(
        main, ["content", "check", "--all", "--directory", str(tmp_path)], env={"COLUMNS": "200"}
    )
    assert checked.exit_code == 0, checked.output
    told = checked.output
    assert f"8 {OLD_NAMES}" in told
    for line in (
        "5: 'window: 1200 months' is 'window: ever' now",
        "11: 'hers' is 'value' now",
        "12: 'never-quiet' is 'never-suppressed' now",
        "14: 'if-guarded: unchecked' is 'if-contraindicated: unknown' now",
        "17: 'guards' is 'contraindications' now",
        "18: 'guards' is 'contraindications' now",
        "21: 'guarded' is 'contraindicated' now",
        "23: 'quiet' is 'suppressed-for' now",
    ):
        assert f"ours.yaml:{line}" in told, line
    assert f"1 {OTHER_YAML}" in told
    assert "ours.yaml:7: quotes are double ones" in told
    assert "9 warnings." in told


def test_the_list_of_the_files_has_each_once() -> None:
    listed = re.findall(r"\]\(([\w/-]+\.yaml)\)", (SHIPPED / "README.md").read_text())
    there = [path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*.yaml")]
    assert sorted(listed) == sorted(there), "list each file of cards/ once in cards/README.md"


def test_an_entry_begins_with_its_id() -> None:
    begun = [
        (next(iter(entry)), path.name)
        for path in SHIPPED.rglob("*.yaml")
        for entries in read_mapping(path).values()
        for entry in (entries if isinstance(entries, list) else [entries])
    ]
    assert len(begun) > 500
    assert [file for first, file in begun if first != "id"] == []


def read_mapping(path: Path) -> dict[str, object]:
    read = read_yaml(path.read_bytes())
    assert isinstance(read, dict)
    return read


@pytest.mark.parametrize(
    "kept",
    [
        """
facts:
  - id: infant-mood
    label: mood of the infant
    type: coded
    answers: {quiet: {label: quiet}, guards: {label: guards itself}}
    about: infant
    window: 7 d
    prefetch: infantFeeding
    ask: how the infant is
findings:
  - {id: infant-is-quiet, label: a quiet infant, rows: [R1], when: {fact: infant-mood, is: quiet}}
""",
        """
gates:
  - {id: quiet, label: quiet hours, rows: [P01], finding: little-milk, review: draft}
cards:
  - {id: low-milk, under: {quiet: {}}}
""",
        """
assessments:
  - id: letdown
    columns:
      hers: {quiet: {recorded: delivery-time}, guarded: {recorded: feeding-plan}}
    table: {little-milk: [quiet]}
findings: [{id: little-milk, off: true}]
""",
    ],
)
def test_a_name_that_an_author_gave_is_no_old_name(kept: str) -> None:
    read = read_yaml(kept)
    assert isinstance(read, WrittenMapping)
    for section, entries in read.items():
        assert isinstance(entries, list)
        for entry in entries:
            assert rename_old(section, entry) == []
    assert read == read_yaml(kept)


@pytest.mark.parametrize(
    ("written", "line", "told"),
    [
        ("cards: [{id: low-milk, never-quiet: true, never-suppressed: true}]", 1, "never-quiet"),
        (
            "interventions:\n  - id: domperidone\n    guards: []\n    contraindications: []",
            3,
            "guards",
        ),
    ],
)
def test_an_old_name_beside_its_new_one_is_a_fault(
    written: str, line: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "ours.yaml").write_text(written)
    with pytest.raises(ContentError) as refused:
        load_content(tmp_path)
    (fault,) = (str(each) for each in refused.value.faults if told in each.reason)
    assert f"ours.yaml:{line}: '{told}' is the old name of" in fault


def test_an_old_section_beside_its_new_one_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(
        "guards: [{id: depression, label: low mood}]\n"
        "contraindications: [{id: epilepsy, label: fits}]\n"
    )
    contraindications = load_content(tmp_path).contraindications
    assert contraindications["depression"].label == "low mood"
    assert contraindications["epilepsy"].label == "fits"


def test_old_names_deep_within_an_entry_are_read(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text("""
cards:
  - id: order-guarded
    under: {loss: {if-guarded: open, table: [{label: Mood, hers: "{depression-score}"}]}}
    worded:
      - {when: {not: {any: [{guarded: domperidone}]}}, opening: Look again.}
""")
    content = load_content(tmp_path)
    card = content.cards["order-guarded"]
    assert card.under["loss"].if_contraindicated == "present"
    (line,) = card.under["loss"].table or []
    assert line.value.text == "{depression-score}"
    assert Contraindicated("domperidone") in card.worded[0].when.parts_within()
    assert len(content.old_names) == 3


@pytest.mark.parametrize(
    "deep", ["a: " + "[" * 700 + "]" * 700, "findings: &a [*a]", "a: &a {b: *a}", "a: [&a [[*a]]]"]
)
def test_what_is_nested_without_end_is_refused(deep: str, tmp_path: Path) -> None:
    with pytest.raises(NotYamlError, match="deeper than"):
        read_yaml(deep)
    (tmp_path / "ours.yaml").write_text(deep)
    with pytest.raises(ContentError, match=r"ours\.yaml:0: it is nested deeper"):
        load_content(tmp_path)


def test_an_anchor_that_is_used_often_is_no_burden() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 40)]
    assert isinstance(read_yaml("\n".join(lines)), dict)


def test_an_old_name_is_told_beside_the_faults_of_other_lines(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text(
        "cards:\n  - {id: low-milk, quiett: 1, never-quiet: true}\n"
    )
    checked = CliRunner().invoke(main, ["content", "check", "--directory", str(tmp_path)])
    assert checked.exit_code == 1
    assert "quiett" in checked.output
    assert "ours.yaml:2: 'never-quiet' is 'never-suppressed' now" in checked.output
