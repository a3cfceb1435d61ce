"""The table of CDS Hooks' rules: each has a test that carries its name, or a reason why not."""

from __future__ import annotations

from tests.project import conformance

RULES = conformance.read_rules()
SHOWN = conformance.find_tests()


def test_each_rule_is_shown_by_a_test_or_has_a_reason() -> None:
    for rule in RULES.values():
        assert (rule.name in SHOWN) != bool(rule.without), rule.name


def test_each_test_names_rules_that_there_are() -> None:
    assert SHOWN.keys() - RULES.keys() == set()


def test_the_page_is_up_to_date() -> None:
    """If this fails after a change of rules or tests, run ``make docs``."""
    assert conformance.PAGE.read_text() == conformance.write_page()
