"""Cards: one bottom line, her own numbers, what to do, the evidence; and silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cds_service.content.compiled import Content
from cds_service.engine.decide import NothingEvaluated
from cds_service.engine.render import SuggestionContext
from tests.support.broken import UNREADABLE, break_
from tests.support.mothers import (
    HER,
    NOW,
    ago,
    average,
    birth,
    cards_of,
    chart_of,
    inhibited,
    medicine,
    milk,
    observation,
    plan,
    why,
)
from tests.support.once import evaluation_of


def with_(records: list[dict[str, Any]], *more: dict[str, Any]) -> list[dict[str, Any]]:
    return [*records, *more]


def without(records: list[dict[str, Any]], fact: str) -> list[dict[str, Any]]:
    return [r for r in records if r["code"]["coding"][0]["code"] != fact]


# --- inhibited letdown (R11, R12, R25, S4) ------------------------------------------------------


def test_the_lead_card_says_her_numbers_in_one_line(content: Content) -> None:
    card = cards_of(content, *inhibited())["inhibited-letdown"]
    assert card["summary"] == (
        "Inhibited letdown likely: 62 mL recorded in 24 h on day 5, breasts full. "
        "Change technique today."
    )
    assert card["indicator"] == "warning"
    assert card["detail"].startswith(
        "- Milk in 24 h: 62 mL (usual 260–710 mL)\n"
        "- Sessions in 24 h: 4 (usual 8–10)\n"
        "- Longest gap: 7 h 36 min (usual 3 h), all 1 h ago\n\n"
    )


def test_each_number_has_its_own_age_where_they_differ(content: Content) -> None:
    sessions = observation("pump-sessions-24h", 4, 0.5)
    detail = cards_of(content, *inhibited(), sessions)["inhibited-letdown"]["detail"]
    assert "- Milk in 24 h: 62 mL (usual 260–710 mL), 1 h ago\n" in detail
    assert "- Sessions in 24 h: 4 (usual 8–10), 30 min ago\n" in detail


@pytest.mark.parametrize("fact", ["breast-fullness", "pump-session-minutes", "delivery-time"])
def test_without_one_of_its_facts_it_is_not_concluded_but_asked(
    content: Content, fact: str
) -> None:
    cards = cards_of(content, *without(inhibited(), fact))
    assert "inhibited-letdown" not in cards
    assert fact in [entry.get("fact") for entry in why(cards["data-needed"])["because"]]


def test_where_letdown_is_not_recorded_the_same_is_offered_and_it_is_asked(
    content: Content,
) -> None:
    """P05: what is not charted is no reason to wait, and is not claimed either."""
    charted = cards_of(content, *inhibited())["inhibited-letdown"]
    cards = cards_of(content, *without(inhibited(), "letdown-sensation"))
    assert list(cards) == ["check-letdown"]
    card = cards["check-letdown"]
    assert why(card)["interventions"] == why(charted)["interventions"]
    assert "nhibited" not in card["summary"] + card["detail"]
    assert "Ask about: letdown sensation.\n" in card["detail"]


@pytest.mark.parametrize(
    "change",
    [
        observation("letdown-sensation", True, 0.5, id="x"),
        observation("breast-fullness", "soft", 0.5),
        observation("pump-session-minutes", (19, "min"), 0.5),
        milk(400, 0.5),
    ],
)
def test_one_fact_that_says_otherwise_ends_it(content: Content, change: dict[str, Any]) -> None:
    records = without(inhibited(), change["code"]["coding"][0]["code"])
    if change["code"]["coding"][0]["code"] == "expressed-milk-volume":
        records = inhibited()
    assert "inhibited-letdown" not in cards_of(content, *records, change)


def test_the_same_volume_is_judged_by_the_day(content: Content) -> None:
    assert "inhibited-letdown" in cards_of(content, *inhibited(day=5))
    assert "inhibited-letdown" not in cards_of(content, *inhibited(day=1))


def test_a_session_alone_can_tell_where_the_day_is_not_recorded(content: Content) -> None:
    records = [*without(inhibited(), "expressed-milk-volume"), milk(12, 1)]
    card = cards_of(content, *records)["inhibited-letdown"]
    assert "- Last session: 12 mL (usual 32–88 mL), all 1 h ago\n" in card["detail"]
    plenty = [*without(inhibited(), "expressed-milk-volume"), milk(80, 1)]
    assert "inhibited-letdown" not in cards_of(content, *plenty)


def test_forceful_letdown_keeps_the_low_milk_cards_away(content: Content) -> None:
    fussy = [
        observation("infant-fussy-at-breast", True),
        observation("milk-transfer-adequate", True),
    ]
    cards = cards_of(content, *inhibited(), *fussy)
    assert not {"inhibited-letdown", "lactation-consult"} & set(cards)


TECHNIQUES = [
    ("raise-frequency", observation("pump-sessions-24h", 4, 0.5), "R01"),
    ("double-pumping", observation("pump-mode", "single"), "R03"),
    ("double-pumping", observation("pump-mode", "sequential"), "R03"),
    ("breast-massage", observation("massage-while-pumping", False), "R04"),
    ("warmth-while-pumping", observation("warm-compress", "none"), "R05"),
    ("warmth-while-pumping", observation("warm-compress", "before"), "R05"),
    ("hands-on-pumping", observation("hands-on-pumping", False), "R06"),
    ("pump-beside-infant", observation("separated-from-infant", True), "R08"),
    ("relaxation", observation("relaxation-while-pumping", False), "R09"),
    ("skin-to-skin", observation("skin-to-skin-minutes-24h", (20, "min")), "R10"),
    ("breast-pump", observation("pump-type", "manual"), "R21"),
    ("breast-pump", observation("pump-type", "personal-electric"), "R21"),
    ("shield-fit", observation("breast-shield-fit", "not-checked"), "R22"),
    ("shield-fit", observation("breast-pain", 4), "R22"),
]


@pytest.mark.parametrize(("intervention", "record", "row"), TECHNIQUES)
def test_a_technique_is_offered_with_its_row_and_a_suggestion(
    content: Content, intervention: str, record: dict[str, Any], row: str
) -> None:
    card = cards_of(content, *inhibited(), record)["inhibited-letdown"]
    assert intervention in why(card)["interventions"]
    assert row in why(card)["rows"]
    label = content.interventions[intervention].suggestion
    assert label is not None
    assert label.label in [suggestion["label"] for suggestion in card["suggestions"]]
    names = (content.interventions[intervention].label, content.interventions[intervention].short)
    assert any(name in card["detail"] for name in names)


@pytest.mark.parametrize(
    ("intervention", "record"),
    [
        ("double-pumping", observation("pump-mode", "double")),
        ("breast-massage", observation("massage-while-pumping", True)),
        ("warmth-while-pumping", observation("warm-compress", "before-and-during")),
        ("hands-on-pumping", observation("hands-on-pumping", True)),
        ("relaxation", observation("relaxation-while-pumping", True)),
        ("skin-to-skin", observation("skin-to-skin-minutes-24h", (90, "min"))),
        ("breast-pump", observation("pump-type", "hospital-grade")),
        ("shield-fit", observation("breast-shield-fit", "good")),
    ],
)
def test_what_she_does_already_is_not_offered(
    content: Content, intervention: str, record: dict[str, Any]
) -> None:
    card = cards_of(content, *inhibited(), record)["inhibited-letdown"]
    assert intervention not in why(card)["interventions"]


@pytest.mark.rule("prefetch-absence")
@pytest.mark.parametrize(
    "intervention",
    ["double-pumping", "breast-massage", "warmth-while-pumping", "hands-on-pumping", "relaxation"],
)
def test_the_absence_of_a_record_is_not_a_no(content: Content, intervention: str) -> None:
    """S10, P05: what is safe and not recorded is offered to be checked, and not claimed."""
    card = cards_of(content, *inhibited())["inhibited-letdown"]
    assert intervention in why(card)["interventions"]
    assert "Check, and start what is missing:" in card["detail"]
    claimed = {entry["fact"] for entry in why(card)["because"]}
    assert not claimed & {"pump-mode", "massage-while-pumping", "warm-compress", "hands-on-pumping"}


def test_nothing_is_to_be_checked_where_all_of_it_is_recorded(content: Content) -> None:
    recorded = {name: record for name, record, _ in TECHNIQUES}
    del recorded["breast-pump"], recorded["pump-beside-infant"]
    recorded["shield-fit"] = observation("breast-shield-fit", "not-checked")
    card = cards_of(content, *inhibited(), *recorded.values())["inhibited-letdown"]
    assert set(recorded) <= set(why(card)["interventions"])
    assert "Check" not in card["detail"]
    assert "massage-while-pumping" in [entry["fact"] for entry in why(card)["because"]]


def test_a_pump_is_not_offered_unless_hers_is_recorded(content: Content) -> None:
    """P05: what costs something waits for its record."""
    card = cards_of(content, *inhibited())["inhibited-letdown"]
    assert "breast-pump" not in why(card)["interventions"]


@pytest.mark.parametrize(
    ("sign", "reason"),
    [
        (observation("breast-redness", True), "signs of a breast infection"),
        (observation("body-temperature", (38.2, "Cel")), "fever"),
    ],
)
def test_massage_and_warmth_are_held_back_from_a_red_breast(
    content: Content, sign: dict[str, Any], reason: str
) -> None:
    records = [
        observation("massage-while-pumping", False),
        observation("warm-compress", "none"),
        observation("hands-on-pumping", False),
        observation("pump-mode", "single"),
    ]
    card = cards_of(content, *inhibited(), *records, sign)["inhibited-letdown"]
    assert "double-pumping" in why(card)["interventions"]
    held = {"breast-massage", "warmth-while-pumping", "hands-on-pumping"}
    assert not held & set(why(card)["interventions"])
    assert f"Not now, for {reason}: " in card["detail"]


def test_no_brand_is_named(content: Content) -> None:
    """R23."""
    card = cards_of(content, *inhibited(), observation("pump-type", "manual"))["inhibited-letdown"]
    whole = str(card).lower()
    for brand in ("medela", "spectra", "ameda", "elvie", "lansinoh", "philips", "avent"):
        assert brand not in whole


# --- risk factors (R17-R20) ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("intervention", "records", "row"),
    [
        ("stop-smoking", [observation("smoking-status", "smoker")], "R17"),
        ("stop-vaping", [observation("vaping-status", "yes")], "R17"),
        ("hold-back-pacifier", [observation("pacifier-use", True)], "R18"),
        (
            "avoid-formula",
            [observation("formula-given", True), observation("formula-medical-reason", False)],
            "R19",
        ),
        ("less-alcohol", [observation("alcohol-drinks-per-day", 2)], "R20"),
        ("wait-after-alcohol", [observation("alcohol-drinks-per-day", 1)], "R20"),
    ],
)
def test_risk_factors(
    content: Content, intervention: str, records: list[dict[str, Any]], row: str
) -> None:
    card = cards_of(content, *average(), *records)["supply-risk-factors"]
    assert why(card)["interventions"] == [intervention]
    assert row in why(card)["rows"]


@pytest.mark.parametrize(
    "records",
    [
        [observation("smoking-status", "former")],
        [observation("vaping-status", "no")],
        [observation("pacifier-use", False)],
        [observation("formula-given", True), observation("formula-medical-reason", True)],
        [observation("alcohol-drinks-per-day", 0)],
        [observation("alcohol-drinks-per-day", 1), observation("alcohol-wait-hours", 2)],
    ],
)
def test_no_risk_no_card(content: Content, records: list[dict[str, Any]]) -> None:
    assert "supply-risk-factors" not in cards_of(content, *average(), *records)


def test_formula_without_a_word_why_is_asked_about(content: Content) -> None:
    cards = cards_of(content, *average(), observation("formula-given", True))
    assert list(cards) == ["data-needed"]
    assert "medical reason for formula" in cards["data-needed"]["summary"]


def test_what_is_pumped_stands_in_the_headline_that_asks_whether_it_is_all(
    content: Content,
) -> None:
    """P04, P16: her number is said and not judged; what else is missing is named behind it."""
    records = [birth(24 * 8 + 2), *(milk(15, hours) for hours in (25, 20, 14, 8, 2))]
    asked = cards_of(content, *records)["data-needed"]
    assert asked["summary"] == "60 mL in 24 h on day 8: is this all her milk?"
    more = cards_of(content, *records, observation("formula-given", True))["data-needed"]
    assert more["summary"] == (
        "60 mL in 24 h on day 8: is this all her milk? "
        "Also missing or unclear: medical reason for formula"
    )


def test_a_pacifier_is_no_matter_once_breastfeeding_is_established(content: Content) -> None:
    """S6: hold back until 3-4 weeks, not never."""
    early = cards_of(content, *average(day=20), observation("pacifier-use", True))
    later = cards_of(content, *average(day=40), observation("pacifier-use", True))
    assert "SIDS" in early["supply-risk-factors"]["detail"]
    assert "supply-risk-factors" not in later


def test_a_smoker_without_a_birth_or_milk_gets_no_card(content: Content) -> None:
    assert cards_of(content, observation("smoking-status", "smoker")) == {}


# --- the first hours (R02, R08, R10) ------------------------------------------------------------


def test_nothing_expressed_some_hours_after_birth(content: Content) -> None:
    card = cards_of(content, birth(4), plan("pump", 2))["early-expression"]
    assert card["summary"].startswith("4 h after birth: start expressing, skin-to-skin")
    assert why(card)["interventions"][:2] == ["start-expressing", "skin-to-skin"]
    assert "raise-frequency" not in why(card)["interventions"]


def test_it_is_too_late_for_the_first_hours_on_day_three(content: Content) -> None:
    assert "early-expression" not in cards_of(content, birth(72.5), plan("pump", 2))


def test_an_infant_in_the_nicu(content: Content) -> None:
    records = [
        birth(40),
        *(milk(3, hours) for hours in (25, 19, 13, 7, 1)),
        observation("separated-from-infant", True),
    ]
    cards = cards_of(content, *records)
    assert list(cards) == ["low-milk"]
    offered = why(cards["low-milk"])["interventions"]
    wanted = {"raise-frequency", "skin-to-skin", "pump-beside-infant", "lactation-consult"}
    assert wanted <= set(offered)
    assert "look-for-causes" not in offered
    assert " mL" not in cards["low-milk"]["summary"] + cards["low-milk"]["detail"]


# --- the consult, and what is asked for already (R28) -------------------------------------------


def consult(**members: Any) -> dict[str, Any]:
    activity = {"system": "urn:lactation-cds:activity", "code": "lactation-consult"}
    return {
        "resourceType": "ServiceRequest",
        "id": "consult-1",
        "status": "active",
        "intent": "order",
        "code": {"coding": [activity]},
        "subject": {"reference": f"Patient/{HER}"},
        "authoredOn": ago(10),
        **members,
    }


@pytest.mark.rule("call-again")
@pytest.mark.parametrize("status", ["draft", "active", "completed", "on-hold"])
def test_a_consult_asked_for_or_done_is_not_offered_again(content: Content, status: str) -> None:
    cards = cards_of(content, *inhibited(), consult(status=status))
    assert list(cards) == ["inhibited-letdown"]
    assert "lactation-consult" not in why(cards["inhibited-letdown"])["interventions"]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "revoked"},
        {"status": "entered-in-error"},
        {"doNotPerform": True},
        {"authoredOn": ago(24 * 300)},
        {"subject": {"reference": "Patient/other"}},
    ],
)
def test_a_consult_that_was_not_for_now_does_not_count(
    content: Content, change: dict[str, Any]
) -> None:
    card = cards_of(content, *inhibited(), consult(**change))["inhibited-letdown"]
    assert "lactation-consult" in why(card)["interventions"]


@pytest.mark.parametrize("member", ["code", "category", "reasonCode"])
def test_a_consult_is_known_by_what_it_is_for_wherever_that_is_written(
    content: Content, member: str
) -> None:
    concept = consult()["code"]
    order = consult(code={"text": "See her"}) | {
        member: concept if member == "code" else [{"text": "Ward"}, concept]
    }
    card = cards_of(content, *inhibited(), order)["inhibited-letdown"]
    assert "lactation-consult" not in why(card)["interventions"]


def test_what_could_not_be_read_is_said_on_the_card(content: Content) -> None:
    cards = cards_of(content, *inhibited(), serviceRequests=UNREADABLE)
    for card in cards.values():
        assert "Could not be read: service requests." in card["detail"]


def test_a_consult_is_not_offered_as_new_if_requests_could_not_be_read(content: Content) -> None:
    card = cards_of(content, *inhibited(), serviceRequests=UNREADABLE)["inhibited-letdown"]
    assert "lactation-consult" not in why(card)["interventions"]


@pytest.mark.rule("call-again")
def test_everything_accepted_is_silence(content: Content) -> None:
    cards = cards_of(content, *inhibited())
    written = [
        {**action["resource"], "id": f"written-{n}"}
        for card in cards.values()
        for n, suggestion in enumerate(card["suggestions"])
        for action in suggestion["actions"]
    ]
    for n, resource in enumerate(written):
        resource["id"] = f"written-{n}"
    assert cards_of(content, *inhibited(), *written) == {}


# --- suggestions --------------------------------------------------------------------------------


def all_cards(content: Content) -> list[dict[str, Any]]:
    records = list({name: record for name, record, _ in TECHNIQUES}.values())
    shown = [
        *cards_of(content, *inhibited(), *records).values(),
        *cards_of(content, birth(4), plan("pump", 2)).values(),
    ]
    risks = [
        observation("smoking-status", "smoker"),
        observation("vaping-status", "yes"),
        observation("pacifier-use", True),
        observation("formula-given", True),
        observation("formula-medical-reason", False),
        observation("alcohol-drinks-per-day", 3),
    ]
    return [*shown, *cards_of(content, *average(), *risks).values()]


@pytest.mark.rule("embedded-fhir", "card-draft")
def test_every_suggestion_is_valid_fhir_for_this_patient_and_encounter(content: Content) -> None:
    kinds = set()
    for card in all_cards(content):
        for suggestion in card.get("suggestions", ()):
            for action in suggestion["actions"]:
                resource = action["resource"]
                get_fhir_model_class(resource["resourceType"]).model_validate(resource)
                kinds.add(resource["resourceType"])
                assert resource["subject"] == {"reference": f"Patient/{HER}"}
                assert resource["encounter"] == {"reference": "Encounter/encounter-1"}
                assert resource["requester"] == {"reference": "Practitioner/clinician-1"}
                assert resource["authoredOn"] == NOW.isoformat()
                assert "/someone" not in str(resource)
    assert kinds == {"ServiceRequest", "DeviceRequest", "CommunicationRequest"}


@pytest.mark.rule("call-optional")
def test_without_an_encounter_and_with_a_patient_as_user(content: Content) -> None:
    setting = SuggestionContext(HER, f"Patient/{HER}")
    records = [*inhibited(), observation("pump-type", "manual")]
    cards = evaluation_of(content).cards(chart_of(content, *records), setting, NOW)
    resources = [
        suggestion["actions"][0]["resource"]
        for card in cards
        for suggestion in card.get("suggestions", ())
    ]
    for resource in resources:
        assert "encounter" not in resource
        # FHIR R4: a patient may ask for a service, and not for a device.
        assert ("requester" in resource) == (resource["resourceType"] != "DeviceRequest")
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    kinds = {resource["resourceType"] for resource in resources}
    assert kinds == {"ServiceRequest", "DeviceRequest", "CommunicationRequest"}


# --- the shape of every card --------------------------------------------------------------------


def test_every_card_has_evidence_links_and_override_reasons(content: Content) -> None:
    for card in all_cards(content):
        assert card["overrideReasons"]
        assert all(reason["display"] for reason in card["overrideReasons"])
        assert card["links"]
        assert "Evidence: " in card["detail"]
        for name in why(card)["evidence"]:
            assert name in content.evidence
        assert why(card)["content"] == content.version


def test_because_carries_the_numbers_of_the_table(content: Content) -> None:
    card = cards_of(content, *inhibited())["inhibited-letdown"]
    entries = {(e["fact"], e.get("measure")): e for e in why(card)["because"]}
    total = entries["expressed-milk-volume", "sum"]
    assert total["finding"] == "low-were-it-all"
    assert (total["value"], total["unit"]) == (62.0, "mL")
    assert len(total["references"]) == 4
    assert all(r.startswith("Observation/") for r in total["references"])
    assert entries["letdown-sensation", None]["value"] == "no"
    assert entries["pump-session-minutes", None]["value"] == 28


def test_a_record_that_did_not_count_is_named_in_because(content: Content) -> None:
    limit = observation("expressed-milk-volume", None, 2, id="below-five")
    limit["valueQuantity"] = {"value": 5, "code": "mL", "comparator": "<"}
    card = cards_of(content, *inhibited(), limit)["inhibited-letdown"]
    problems = [e for e in why(card)["because"] if "problem" in e]
    assert problems == [
        {
            "fact": "expressed-milk-volume",
            "problem": "its value is a limit, not a number",
            "references": ["Observation/below-five"],
        }
    ]


@pytest.mark.rule("card-detail")
def test_details_are_markdown_without_html(content: Content) -> None:
    renderer = MarkdownIt("commonmark", {"html": True}).enable("table")
    for card in all_cards(content):
        kinds = {token.type for token in renderer.parse(card["detail"])}
        assert not kinds & {"html_block", "html_inline"}
        assert "table_open" not in kinds  # many clients show the source of Markdown
        assert "bullet_list_open" in kinds
        assert "{" not in card["detail"]


@pytest.mark.rule("card-uuid")
def test_uuids_are_never_the_same(content: Content) -> None:
    seen = [card["uuid"] for _ in range(3) for card in all_cards(content)]
    assert len(set(seen)) == len(seen)


def test_uuids_tell_the_time_and_nothing_else(content: Content) -> None:
    (card, *_) = all_cards(content)
    made = [UUID(each["uuid"]) for each in (card, *card["suggestions"])]
    assert {each.version for each in made} == {7}
    assert {each.int >> 80 for each in made} == {int(NOW.timestamp() * 1000)}
    (again, *_) = all_cards(content)
    assert UUID(again["uuid"]).int & (1 << 62) - 1 != made[0].int & (1 << 62) - 1


def test_at_most_four_cards_and_the_rest_is_named(content: Content) -> None:
    records = [
        *without(inhibited(), "letdown-sensation"),
        observation("letdown-sensation", False, 1),
        observation("smoking-status", "smoker"),
        observation("formula-given", True),
        observation("body-temperature", (38.2, "Cel")),
        medicine(medicationCodeableConcept={"text": "Ibuprofen"}),
    ]
    cards = cards_of(content, *records)
    assert list(cards) == [
        "fever-source",
        "inhibited-letdown",
        "supply-risk-factors",
        "medicines-and-milk",
    ]
    assert cards["medicines-and-milk"]["detail"].endswith("Not shown, as less urgent: Data needed.")


def test_normal_volume_and_letdown_is_silence(content: Content) -> None:
    assert cards_of(content, *average()) == {}


def test_nothing_known_at_all_is_silence(content: Content) -> None:
    assert cards_of(content) == {}


# --- what could not be read or judged -----------------------------------------------------------


@pytest.mark.parametrize("key", ["motherObservations", "deliveries", "medicationRequests"])
def test_a_failed_key_is_never_read_as_nothing_found(content: Content, key: str) -> None:
    cards = cards_of(content, *average(), **{key: UNREADABLE})
    assert content.prefetch[key].label in cards["data-needed"]["detail"]


def test_a_check_is_incomplete_only_where_a_record_says_birth_or_lactation(
    content: Content,
) -> None:
    """Else everyone in the hospital would get a card while one search fails."""
    failed = {key: UNREADABLE for key in content.prefetch_templates if key != "milkExpression"}
    assert cards_of(content, **failed) == {}
    cards = cards_of(content, milk(60, 1), **failed)
    assert list(cards) == ["data-needed"]
    assert "Could not be read: " in cards["data-needed"]["detail"]
    unread = observation("letdown-sensation", "?")  # a record, though it is no value
    assert list(cards_of(content, unread, **failed)) == ["data-needed"]


def test_a_key_that_no_card_needs_may_fail_unsaid(content: Content) -> None:
    assert cards_of(content, *average(), allergies=UNREADABLE) == {}


def test_one_broken_card_is_told_and_the_others_come(content: Content) -> None:
    cards = cards_of(break_(content, "cards", "early-expression"), *inhibited())
    assert list(cards) == ["inhibited-letdown", "data-needed"]
    told = cards["data-needed"]
    assert told["indicator"] == "warning"
    assert told["summary"] == "Part of the lactation check could not be evaluated"
    assert "- Could not be evaluated: card Early expression (ZeroDivisionError)." in told["detail"]
    assert "Jane" not in str(told)


def test_a_broken_finding_or_intervention_is_told(content: Content) -> None:
    broken = break_(content, "findings", "inhibited-letdown")
    assert "finding inhibited letdown" in cards_of(broken, *inhibited())["data-needed"]["detail"]
    broken = break_(content, "interventions", "raise-frequency")
    cards = cards_of(broken, *inhibited(), observation("pump-mode", "single"))
    assert "intervention Express 8-10 times" in cards["data-needed"]["detail"]
    assert why(cards["inhibited-letdown"])["interventions"][0] != "raise-frequency"


def test_a_fault_is_told_even_to_her_who_would_get_no_card(content: Content) -> None:
    cards = cards_of(break_(content, "cards", "lactation-consult"), *average())
    assert list(cards) == ["data-needed"]


def test_if_nothing_can_be_judged_it_is_an_error_and_not_silence(content: Content) -> None:
    broken = break_(content, "cards", *(c for c in content.cards if c != "data-needed"))
    with pytest.raises(NothingEvaluated):
        cards_of(broken, *average())


# --- whatever the numbers -----------------------------------------------------------------------


@given(
    st.floats(0, 5000),
    st.floats(0, 300),
    st.floats(73, 24 * 300),
    st.lists(st.sampled_from([record for _, record, _ in TECHNIQUES]), max_size=6),
)
def test_a_response_is_valid_whatever_her_numbers(
    content: Content,
    valid: Callable[[str, Any], None],
    volume: float,
    minutes: float,
    hours: float,
    records: list[dict[str, Any]],
) -> None:
    sessions = [milk(volume / 5, at) for at in (26, 21, 16, 11, 6, 1)]
    facts = [
        birth(hours),
        observation("breast-fullness", "full"),
        observation("pump-session-minutes", (minutes, "min")),
        observation("letdown-sensation", False),
    ]
    cards = list(cards_of(content, *sessions, *facts, *records).values())
    valid("response", {"cards": cards})
    for card in cards:
        assert not re.search(r"\d{7}", card["summary"])


def test_a_headline_does_not_ask_to_change_what_she_does_already(content: Content) -> None:
    doing = [
        observation("pump-sessions-24h", 8, 0.5),
        observation("pump-mode", "double"),
        observation("massage-while-pumping", True),
        observation("warm-compress", "before-and-during"),
        observation("hands-on-pumping", True),
    ]
    records = [milk(10, hours) for hours in (26, 23, 20, 17, 14, 11, 8, 5, 2)]
    records += without(inhibited(), "expressed-milk-volume")
    assert (
        "Change technique"
        not in cards_of(content, *records, *doing)["inhibited-letdown"]["summary"]
    )
    for n in range(1, len(doing)):
        some = doing[:n] + doing[n + 1 :]
        card = cards_of(content, *records, *some)["inhibited-letdown"]
        assert "Change technique" in card["summary"], n
