"""The hooks of orders and of discharge over HTTP: which orders are judged, and what is said."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from flask.testing import FlaskClient

from cds_service.content.compiled import Content
from tests.support.calls import Valid, fire
from tests.support.fhir_servers import bundle
from tests.support.mothers import (
    CLINICIAN,
    ENCOUNTER,
    HER,
    INFANT,
    average,
    birth,
    hook_request,
    inhibited,
    observation,
    plan,
    why,
)
from tests.support.orders import draft, order_request


def told(cards: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Each card with the order that it names."""
    return [
        (c["source"]["topic"]["code"], re.split(r":| may lower ", c["summary"])[0]) for c in cards
    ]


@pytest.mark.rule("card-delete")
def test_an_order_that_lowers_supply_is_named_and_can_be_taken_back(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    request = order_request(content, draft("Pseudoephedrine 60 mg", 7))
    valid("request", request)
    (card,) = fire(client, request, valid)
    assert card["summary"].startswith("Pseudoephedrine may lower her milk supply.")
    assert card["indicator"] == "warning"
    (suggestion,) = card["suggestions"]
    assert suggestion["actions"] == [
        {
            "type": "delete",
            "description": "Take back Pseudoephedrine",
            "resourceId": "MedicationRequest/draft-7",
        }
    ]
    assert "LactMed names in its place: oxymetazoline." in card["detail"]
    assert why(card)["because"][0]["references"] == ["MedicationRequest/draft-7"]


@pytest.mark.rule("card-delete")
def test_an_order_without_an_id_is_named_and_cannot_be_taken_back(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    for odd in (None, 7, "a/b", "x" * 100_000):
        (card,) = fire(client, order_request(content, draft("pseudoephedrine", id=odd)), valid)
        assert card["summary"].startswith("Pseudoephedrine")
        assert "suggestions" not in card
        assert "selectionBehavior" not in card


def test_an_order_that_stands_twice_is_taken_back_once(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    order = draft("pseudoephedrine")
    (card,) = fire(client, order_request(content, order, order), valid)
    assert len(card["suggestions"]) == 1


@pytest.mark.rule("call-selections")
def test_order_select_looks_at_what_was_selected_and_order_sign_at_all(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    orders = [draft("cabergoline", 1), draft("pseudoephedrine", 2), draft("ibuprofen", 3)]
    chosen = ["MedicationRequest/draft-2", "MedicationRequest/draft-3"]
    selected = order_request(content, *orders, hook="order-select", selections=chosen)
    valid("request", selected)
    assert told(fire(client, selected, valid)) == [("order-lowers-supply", "Pseudoephedrine")]
    signed = fire(client, order_request(content, *orders), valid)
    assert told(signed) == [
        ("order-lowers-supply", "Cabergoline"),
        ("order-lowers-supply", "Pseudoephedrine"),
    ]


@pytest.mark.rule("call-orders")
@pytest.mark.parametrize(
    "order",
    [
        {"resourceType": "ServiceRequest", "id": "s", "subject": {"reference": f"Patient/{HER}"}},
        {"resourceType": "NutritionOrder", "id": "n", "patient": {"reference": f"Patient/{HER}"}},
        draft("pseudoephedrine", subject={"reference": "Patient/another"}),
        draft("pseudoephedrine", subject={"reference": "https://elsewhere.example.org/Patient/7"}),
        draft("ibuprofen"),
        {},
        None,
        3,
    ],
)
def test_other_orders_are_passed_over_and_spoil_nothing(
    client: FlaskClient, content: Content, valid: Valid, order: Any
) -> None:
    assert fire(client, order_request(content, order), valid) == []
    both = fire(client, order_request(content, order, draft("pseudoephedrine", 2)), valid)
    assert told(both) == [("order-lowers-supply", "Pseudoephedrine")]


@pytest.mark.parametrize(
    "subject",
    [
        None,
        {"identifier": {"system": "urn:mrn", "value": "M-1"}},
        {"display": "She"},
        {"reference": "urn:uuid:5c1e9a06-0d0c-4b5f-8d53-0d4a4f9f2a11"},
        {"reference": "#she"},
        {"reference": "Group/4"},
        {"reference": f"https://proxy.example.org/r4/Patient/{HER}"},
        "Patient/another",
    ],
)
def test_a_draft_is_of_the_patient_of_the_hook_unless_it_names_another(
    client: FlaskClient, content: Content, valid: Valid, subject: Any
) -> None:
    for request in (
        order_request(content, draft("ibuprofen", 1), draft("pseudoephedrine", 2, subject=subject)),
        order_request(content, draft("pseudoephedrine", 2) | {"subject": subject}),
    ):
        request["fhirServer"] = "https://fhir.example.org/r4"
        assert told(fire(client, request, valid)) == [("order-lowers-supply", "Pseudoephedrine")]
    unsaid = draft("pseudoephedrine")
    del unsaid["subject"]
    assert len(fire(client, order_request(content, unsaid), valid)) == 1
    formula = feed(supplement=[{"type": {"text": "Infant formula"}}]) | {"patient": subject}
    request = order_request(content, formula, records=[birth(80), NURSED])
    assert told(fire(client, request, valid)) == [("order-formula", "Infant formula")]


def feed(number: int = 1, patient: str = INFANT, **parts: Any) -> dict[str, Any]:
    return {
        "resourceType": "NutritionOrder",
        "id": f"feed-{number}",
        "status": "draft",
        "intent": "order",
        "patient": {"reference": f"Patient/{patient}"},
        **parts,
    }


SCT = "http://snomed.info/sct"
NURSED = observation("milk-transfer-adequate", False, focus=[{"reference": f"Patient/{INFANT}"}])
BY_CODE = {
    "enteralFormula": {"baseFormulaType": {"coding": [{"system": SCT, "code": "386127005"}]}}
}


@pytest.mark.parametrize(
    ("parts", "how"),
    [
        (BY_CODE, "code"),
        ({"enteralFormula": {"baseFormulaProductName": "Preterm formula 24 kcal"}}, "name"),
        ({"supplement": [{"type": {"text": "Infant formula"}}, {"productName": "cereal"}]}, "name"),
        ({"oralDiet": {"type": [{"coding": [{"display": "Formula milk (substance)"}]}]}}, "name"),
    ],
)
def test_formula_without_a_reason_is_asked_about_once(
    client: FlaskClient, content: Content, valid: Valid, parts: dict[str, Any], how: str
) -> None:
    orders = [feed(1, **parts), feed(2, **parts)]
    request = order_request(content, *orders, records=[birth(80), NURSED])
    (card,) = fire(client, request, valid)
    assert told([card]) == [("order-formula", "Infant formula")]
    assert {"R19", "S7"} <= set(why(card)["rows"])
    assert why(card)["because"][0]["matched"] == how
    assert [s["actions"][0]["resourceId"] for s in card["suggestions"]] == [
        "NutritionOrder/feed-1",
        "NutritionOrder/feed-2",
    ]


@pytest.mark.parametrize(
    ("order", "records"),
    [
        (feed(**BY_CODE), [NURSED, observation("formula-medical-reason", True)]),
        (feed(patient="another-infant", **BY_CODE), [NURSED]),
        (feed(**BY_CODE), []),  # no record says that this is her infant
        (
            feed(enteralFormula={"baseFormulaType": {"text": "Adult high protein formula"}}),
            [NURSED],
        ),
        (feed(oralDiet={"type": [{"text": "Low sodium diet"}]}), [NURSED]),
        (feed(enteralFormula=None, supplement="milk", oralDiet={"type": 3}), [NURSED]),
    ],
)
def test_other_feeds_and_those_with_a_reason_are_passed_over(
    client: FlaskClient,
    content: Content,
    valid: Valid,
    order: dict[str, Any],
    records: list[dict[str, Any]],
) -> None:
    request = order_request(content, order, records=[birth(80), *records])
    assert fire(client, request, valid) == []


@pytest.mark.parametrize(("born", "asked"), [("2022-01-10", False), ("2026-01-12", True)])
def test_formula_for_an_older_child_is_passed_over(
    client: FlaskClient, content: Content, valid: Valid, born: str, asked: bool
) -> None:
    child = {"resourceType": "Patient", "id": INFANT, "birthDate": born}
    request = order_request(content, feed(**BY_CODE), records=[birth(80), NURSED])
    request["prefetch"]["infantFeeding"] = bundle(NURSED, child)
    assert bool(fire(client, request, valid)) is asked


@pytest.mark.rule("call-orders")
@pytest.mark.parametrize("status", ["active", "on-hold", None])
def test_an_order_need_not_be_a_draft(
    client: FlaskClient, content: Content, valid: Valid, status: str | None
) -> None:
    request = order_request(content, draft("pseudoephedrine", status=status))
    assert len(fire(client, request, valid)) == 1


@pytest.mark.parametrize(("forbidden", "cards"), [(True, 0), (False, 1)])
def test_an_order_that_a_medicine_is_not_to_be_taken_is_passed_over(
    client: FlaskClient, content: Content, valid: Valid, forbidden: bool, cards: int
) -> None:
    request = order_request(content, draft("pseudoephedrine", doNotPerform=forbidden))
    assert len(fire(client, request, valid)) == cards


@pytest.mark.parametrize(("status", "cards"), [("cancelled", 0), ("stopped", 0), ("active", 1)])
def test_an_order_that_was_withdrawn_is_passed_over(
    client: FlaskClient, content: Content, valid: Valid, status: str, cards: int
) -> None:
    request = order_request(content, draft("pseudoephedrine", status=status))
    assert len(fire(client, request, valid)) == cards


@pytest.mark.rule("call-orders")
@pytest.mark.parametrize(
    "bundle",
    [
        {"entry": [3, {}, {"resource": []}]},
        {"entry": [{"resource": {"resourceType": kind, "id": "1"}} for kind in ([], {}, 3, None)]},
    ],
)
def test_a_strange_bundle_of_orders_has_no_orders(
    client: FlaskClient, content: Content, valid: Valid, bundle: dict[str, Any]
) -> None:
    request = order_request(content)
    request["context"]["draftOrders"] = bundle
    assert fire(client, request, valid) == []


@pytest.mark.rule("call-context", "call-required")
@pytest.mark.parametrize(
    ("hook", "context"),
    [
        ("order-sign", {}),
        ("order-sign", {"draftOrders": []}),
        ("order-select", {"draftOrders": {}}),
        ("order-select", {"draftOrders": {}, "selections": []}),
        ("order-select", {"draftOrders": {}, "selections": [3]}),
        ("encounter-discharge", {"encounterId": None}),
    ],
)
def test_a_context_that_is_not_the_hooks_is_refused(
    client: FlaskClient, content: Content, hook: str, context: dict[str, Any]
) -> None:
    request = hook_request(content, *average(), hook=hook)
    request["context"] |= context
    answer = client.post(f"/cds-services/lactation-{hook}", json=request)
    assert answer.status_code == 400
    OperationOutcome.model_validate(answer.get_json())
    assert answer.get_json()["issue"][0]["expression"]


def test_a_herb_comes_after_technique(client: FlaskClient, content: Content, valid: Valid) -> None:
    request = order_request(
        content, draft("Fenugreek 610 mg"), records=[birth(8 * 24), plan("pump")]
    )
    (card,) = fire(client, request, valid)
    assert "R26" in why(card)["rows"]


def test_an_order_says_what_is_against_it_and_what_was_not_checked(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    records = [birth(8 * 24), plan("pump"), observation("epilepsy", True)]
    request = order_request(content, draft("metoclopramide 10 mg"), records=records)
    checked, technique = fire(client, request, valid)
    assert told([checked, technique]) == [
        ("order-guarded", "Metoclopramide"),
        ("order-before-technique", "Metoclopramide"),
    ]
    assert why(checked)["contraindications"]["metoclopramide"]["present"] == ["epilepsy"]
    assert "- Against it: epilepsy." in checked["detail"]
    assert "- Not known: psychosis, tardive dyskinesia" in checked["detail"]


def test_what_was_not_checked_is_on_the_card_and_not_in_its_headline(
    content: Content, client: FlaskClient
) -> None:
    """P16: a headline warns of what is so, and not of what nobody has recorded."""
    request = order_request(content, draft("Metoclopramide 10 mg"), records=[birth(190)])
    cards = client.post("/cds-services/lactation-order-sign", json=request).json["cards"]
    card = next(c for c in cards if c["source"]["topic"]["code"] == "order-guarded")
    names = re.findall(r"- Not known: (.+)\.", card["detail"])[0].split(", ")
    assert len(names) > 4
    assert card["summary"] == "Metoclopramide: check before you order it"


def test_without_a_birth_or_milk_in_her_record_orders_are_left_alone(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    request = order_request(content, draft("pseudoephedrine"), records=[])
    assert fire(client, request, valid) == []


def test_cards_of_the_chart_and_of_orders_keep_to_their_hooks(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    records = inhibited()
    chart = {code for code, _ in told(fire(client, hook_request(content, *records), valid))}
    orders = order_request(content, draft("pseudoephedrine"), records=records)
    ordered = {code for code, _ in told(fire(client, orders, valid))}
    leaving = hook_request(content, *records, hook="encounter-discharge")
    discharge = {code for code, _ in told(fire(client, leaving, valid))}
    assert chart == {"inhibited-letdown"}
    assert ordered == {"order-lowers-supply"}
    assert discharge == {"discharge-plan"}


def test_what_goes_home_with_her_is_suggested_for_this_encounter(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    apart = observation("separated-from-infant", "yes")
    records = [*average(), apart]
    (card,) = fire(client, hook_request(content, *records, hook="encounter-discharge"), valid)
    made = [suggestion["actions"][0]["resource"] for suggestion in card["suggestions"]]
    assert [resource["resourceType"] for resource in made] == [
        "ServiceRequest",
        "DeviceRequest",
        "ServiceRequest",
    ]
    for resource in made:
        assert resource["subject"] == {"reference": f"Patient/{HER}"}
        assert resource["encounter"] == {"reference": f"Encounter/{ENCOUNTER}"}
        assert resource["requester"] == {"reference": CLINICIAN}


def test_prefetch_that_is_null_is_as_none_sent(client: FlaskClient, content: Content) -> None:
    request = hook_request(content) | {"prefetch": None}
    answer = client.post("/cds-services/lactation-patient-view", json=request)
    assert answer.status_code == 412


def test_a_draft_that_was_not_selected_speaks_against_one_that_was(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    orders = [draft("cabergoline", 1), draft("methylergometrine", 2)]
    records = [birth(30), observation("infant-outcome", "stillborn", 30)]
    chosen = ["MedicationRequest/draft-1"]
    request = order_request(
        content, *orders, hook="order-select", selections=chosen, records=records
    )
    assert [card["summary"] for card in fire(client, request, valid)] == [
        "Cabergoline: reasons against it: ergot"
    ]
    alone = order_request(content, orders[0], records=records)
    assert fire(client, alone, valid) == []


def test_what_is_drafted_for_someone_else_speaks_against_nothing(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    anothers = draft("methylergometrine", 2, subject={"reference": "Patient/another"})
    records = [birth(30), observation("infant-outcome", "stillborn", 30)]
    request = order_request(content, draft("cabergoline", 1), anothers, records=records)
    assert fire(client, request, valid) == []


@pytest.mark.parametrize(
    "name",
    [
        "Acetaminophen #3",
        "Tylenol Sinus",
        "Advil Allergy Sinus",
        "Motrin IB Sinus",
        "Loratadine-D",
        "dihydroxoergotamine-caffeine",
        "amlodipine-olmesartan",
        "misoprostol-mifepristone",
        "ezetimibe-simvastatin",
        "chlordiazepoxide-amitriptyline",
    ],
)
def test_an_order_that_was_understood_in_part_is_never_silent(
    client: FlaskClient, content: Content, valid: Valid, name: str
) -> None:
    cards = fire(client, order_request(content, draft(name)), valid)
    said = next(c for c in cards if "Not checked for milk, look up" in c["summary"])
    assert re.search(r"read in part: \w+; not identified: \w+", said["detail"])
    assert "ompatible" not in str([(c["summary"], c["detail"]) for c in cards])


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("Tylenol #3", "Codeine: avoid while she gives milk"),
        ("Tylenol No. 3", "Codeine: avoid while she gives milk"),
        ("Tylenol with Codeine #4 tablet", "Codeine: avoid while she gives milk"),
        ("Nurofen Plus", "Codeine: avoid while she gives milk"),
        ("Claritin-D 24 Hour", "Pseudoephedrine may lower her milk supply"),
        ("Zyrtec-D", "Pseudoephedrine may lower her milk supply"),
        ("Allegra-D 12 hour", "Pseudoephedrine may lower her milk supply"),
    ],
)
def test_a_product_of_two_is_known_by_both(
    client: FlaskClient, content: Content, valid: Valid, name: str, summary: str
) -> None:
    cards = fire(client, order_request(content, draft(name)), valid)
    assert cards[0]["summary"].startswith(summary)
    assert "read in part" not in str(cards)


def test_all_orders_of_which_nothing_is_known_are_on_one_card(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    unread = next(m for m in content.medicines.values() if not m.readings and not m.effects)
    names = ["Zorbalimab", unread.name, "Foobarol"]
    orders = [draft(name, number) for number, name in enumerate(names)]
    (card,) = fire(client, order_request(content, *orders), valid)
    assert card["indicator"] == "info"
    assert card["summary"] == f"Not checked for milk, look up: {', '.join(names)}"
    assert "list: Zorbalimab, Foobarol." in card["detail"]
    assert f"not read for milk: {unread.name}" in card["detail"]
    assert len(card["suggestions"]) == 3


def test_one_that_is_not_shown_for_want_of_room_is_named(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    names = ["codeine", "pseudoephedrine", "amiodarone", "varenicline", "Zorbalimab", "Foobarol"]
    orders = [draft(name, number) for number, name in enumerate(names)]
    cards = fire(client, order_request(content, *orders), valid)
    assert len(cards) == 4
    assert "Zorbalimab, Foobarol" in cards[-1]["detail"]


@pytest.mark.parametrize("name", ["lithium 300 mg", "apixaban 5 mg"])
def test_a_new_order_is_not_told_not_to_be_stopped(
    client: FlaskClient, content: Content, valid: Valid, name: str
) -> None:
    (card,) = fire(client, order_request(content, draft(name)), valid)
    assert "ask pharmacy before you order it" in card["summary"]
    assert "stop it" not in card["detail"]


def test_an_order_to_avoid_is_not_told_not_to_be_stopped(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    (card,) = fire(client, order_request(content, draft("amiodarone 200 mg")), valid)
    assert card["summary"].startswith("Amiodarone: avoid while she gives milk.")
    assert "heart and thyroid of the infant are followed" in card["detail"]
    assert "stop it" not in card["detail"]


@pytest.mark.parametrize("name", ["metoclopramide", "domperidone", "cabergoline"])
def test_what_was_read_of_an_order_is_said_once(
    client: FlaskClient, content: Content, valid: Valid, name: str
) -> None:
    psychosis = {
        "resourceType": "Condition",
        "id": "c",
        "subject": {"reference": f"Patient/{HER}"},
        "clinicalStatus": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/condition-clinical",
                    "code": "active",
                }
            ]
        },
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "F53.1"}]},
    }
    request = order_request(content, draft(name), records=[*average(), psychosis])
    cards = fire(client, request, valid)
    assert len(cards) == 2
    line = str(content.medicines[name].read_in("US").line)
    assert [line in card["detail"] for card in cards] == [True, False]


@pytest.mark.parametrize("name", ["clarithromycin 500 mg", "erythromycin", "fluconazole 150 mg"])
def test_what_speaks_against_domperidone_is_said_when_she_takes_it(
    client: FlaskClient, content: Content, valid: Valid, name: str
) -> None:
    taken = draft("domperidone 10 mg", 9, status="active")
    request = order_request(content, draft(name), records=[*average(), taken])
    cards = fire(client, request, valid)
    assert "with Domperidone: contraindicated together. Ask pharmacy" in cards[0]["summary"]
    assert cards[0]["indicator"] == "warning"
    alone = fire(client, order_request(content, draft(name)), valid)
    assert "domperidone, which she takes" not in str(alone)


@pytest.mark.parametrize(
    ("born", "topics"),
    [
        ("2026-01-10T04:10:00", ["order-avoid"]),  # five days ago, or so
        ("2025-02-10T04:10:00", []),  # eleven months ago
        ("2996-02-10T04:10:00", []),
        ("in spring", []),
    ],
)
def test_an_order_after_a_birth_whose_time_lacks_an_offset_is_judged(
    client: FlaskClient, content: Content, valid: Valid, born: str, topics: list[str]
) -> None:
    """What could not be read is said; a birth of which nothing is known makes no card."""
    birth_ = observation("delivery-time", None, 1)
    birth_["valueDateTime"] = born
    request = order_request(content, draft("Codeine 30 mg tablet"), records=[birth_])
    cards = fire(client, request, valid)
    assert [card["source"]["topic"]["code"] for card in cards] == topics
    for card in cards:
        assert "avoid if she gives her milk" in card["summary"]
        assert "Could not be read: time of birth (its time has no offset)." in card["detail"]
