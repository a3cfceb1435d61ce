"""The page of conformance, made from the rules and from the tests that carry their names.

``python -m tests.project.conformance`` writes ``docs/conformance.md``.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.support.repository import ROOT

TESTS = ROOT / "tests"
RULES = Path(__file__).with_name("conformance.yaml")
PAGE = ROOT / "docs" / "conformance.md"

HEAD = """\
# Conformance

What [CDS Hooks](https://cds-hooks.hl7.org/2.0/) asks of a service, rule by rule, in our words:
2.0.1, and where it says so the 3.0 ballot. Each rule is shown by the tests that carry its name, or
it says why not: {shown} rules are shown by tests, {without} are not followed. `make docs` makes
this page, and a test keeps it true.
"""


@dataclass(frozen=True)
class Rule:
    """One thing that CDS Hooks asks."""

    section: str
    name: str
    level: str
    says: str
    without: str = ""


class Test(NamedTuple):
    """A test function."""

    file: str
    name: str


def read_rules() -> dict[str, Rule]:
    """The rules of ``conformance.yaml``, by name and in their order."""
    sections = yaml.safe_load(RULES.read_text())
    rules = [Rule(section["section"], **rule) for section in sections for rule in section["rules"]]
    assert len({rule.name for rule in rules}) == len(rules)
    return {rule.name: rule for rule in rules}


@cache
def find_tests() -> dict[str, list[Test]]:
    """The tests that carry each rule's name: ``@pytest.mark.rule("card-uuid")``."""
    found = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    if ast.unparse(decorator).startswith("pytest.mark.rule("):
                        assert isinstance(decorator, ast.Call)
                        for name in decorator.args:
                            test = Test(path.relative_to(TESTS).as_posix(), node.name)
                            found[ast.literal_eval(name)].append(test)
    return dict(found)


def write_page() -> str:
    """The page as it must be."""
    rules, tests = read_rules(), find_tests()
    without = sum(bool(rule.without) for rule in rules.values())
    lines = [HEAD.format(shown=len(rules) - without, without=without)]
    for section, members in groupby(rules.values(), lambda rule: rule.section):
        lines += [f"## {section}\n", "| rule | | what it asks | shown by |", "|---|---|---|---|"]
        for rule in members:
            shown = rule.without or "<br>".join(
                f"[{test.name.removeprefix('test_').replace('_', ' ')}](../tests/{test.file})"
                for test in tests.get(rule.name, ())
            )
            mark = "not followed: " if rule.without else ""
            lines.append(f"| `{rule.name}` | {rule.level} | {rule.says} | {mark}{shown} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(write_page())
