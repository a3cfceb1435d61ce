"""The table of CDS Hooks' rules: each has a test that carries its name, or a reason why not."""

from __future__ import annotations

from tests.project import conformance


def test_each_rule_is_shown_by_a_test_or_has_a_reason_and_each_test_names_one() -> None:
    rules, shown = conformance.read_rules(), conformance.find_tests()
    for rule in rules.values():
        assert (rule.name in shown) != bool(rule.without), rule.name
    assert shown.keys() - rules.keys() == set()


def test_the_page_is_up_to_date() -> None:
    """If this fails after a change of rules or tests, run ``make docs``."""
    assert conformance.PAGE.read_text() == conformance.write_page()
