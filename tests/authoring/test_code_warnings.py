"""What ``content check`` says of codes: a warning with the file and what to do, and no fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cds_service.authoring.code_warnings import code_warnings, is_loinc
from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content

LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"


def overlay(directory: Path, of: str, system: str, *codes: str, **members: Any) -> Path:
    value_set = {
        "resourceType": "ValueSet",
        "url": f"urn:lactation-cds:value-set:{of}",
        "status": "draft",
        "compose": {"include": [{"system": system, "concept": [{"code": c} for c in codes]}]},
    }
    (directory / "own.json").write_text(json.dumps(value_set | members))
    return directory


def test_nothing_is_odd_about_the_shipped_codes(content: Content) -> None:
    assert list(code_warnings(content)) == []


@pytest.mark.parametrize(
    ("value_set", "warning"),
    [
        (
            ("potassium", "http://loinc.com", "2823-3"),
            "own.json: http://loinc.com is in no entry of 'systems': correct it, or add an entry",
        ),
        (
            ("potassium", LOINC, "2823-4"),
            "own.json: 2823-4 cannot be a code of LOINC: its last digit is not the check digit",
        ),
        (
            ("potassium", LOINC, "2823-3"),
            "own.json: it has codes of LOINC: put its notice into 'copyright'",
        ),
        (
            ("potassium", "urn:oid:2.16.840.1.113883.6.96", "1"),
            "own.json: it has codes of SNOMED CT: put its notice into 'copyright'",
        ),
        (
            ("potassium", LOINC, "19123-9"),
            "19123-9 of http://loinc.org means potassium and magnesium in a Observation",
        ),
    ],
)
def test_what_is_odd_is_warned_of(
    tmp_path: Path, value_set: tuple[str, str, str], warning: str
) -> None:
    told = [each.text for each in code_warnings(load_content(overlay(tmp_path, *value_set)))]
    assert any(warning in line for line in told), told


def test_the_command_tells_a_warning_and_does_not_fail(tmp_path: Path) -> None:
    overlay(tmp_path, "potassium", LOINC, "2823-4")
    result = CliRunner().invoke(main, ["content", "check", "--directory", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "own.json: 2823-4 cannot be a code of LOINC" in result.output
    assert "own.json: it has codes of LOINC: put its notice into 'copyright'" in result.output


def test_a_medicine_with_a_code_of_an_unknown_system_is_warned_of(tmp_path: Path) -> None:
    code = "{system: 'urn:hospital:drugs', code: '7', kind: product, verified: ours}"
    (tmp_path / "own.yaml").write_text(f"medicines: [{{id: domperidone, codes: [{code}]}}]")
    (warning,) = code_warnings(load_content(tmp_path))
    assert warning.text.startswith("medicines: domperidone: urn:hospital:drugs is in no entry")


def test_a_system_that_the_hospital_describes_is_known(tmp_path: Path) -> None:
    overlay(tmp_path, "potassium", "urn:hospital:lab", "K")
    (tmp_path / "own.yaml").write_text("systems: [{id: our-lab, url: 'urn:hospital:lab'}]")
    assert list(code_warnings(load_content(tmp_path))) == []


@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("63895-7", True),
        ("93857-1", True),
        ("72166-2", True),
        ("8310-5", True),
        ("LA33-6", True),
        ("LP7777-1", True),
        ("63895-8", False),
        ("83105", False),
        ("", False),
    ],
)
def test_the_check_digit_of_loinc(code: str, right: bool) -> None:
    assert is_loinc(code) is right
