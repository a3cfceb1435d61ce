"""Prefetch: what was sent counts key by key; what is absent is read; what is needed is named."""

from __future__ import annotations

from typing import Any

import pytest

from cds_service.content.compiled import Content
from cds_service.errors import Refusal
from cds_service.fhir.chart import Chart, State
from cds_service.hooks.fhir_server import FhirReader
from cds_service.hooks.prefetch import fill_template, resolve_prefetch
from cds_service.hooks.protocol import PatientViewContext, read_request
from tests.support.fhir_servers import FhirServer, bundle
from tests.support.mothers import hook_request, milk
from tests.support.processes import running

FAILED = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "timeout"}]}


def gathered(content: Content, request: dict[str, Any], reader: FhirReader | None = None) -> Chart:
    import json

    hook, context = read_request(json.dumps(request).encode(), "patient-view")
    return resolve_prefetch(content, hook, context, reader, 2.0)


@pytest.mark.rule(
    "prefetch-absent",
    "prefetch-null",
    "prefetch-empty",
    "prefetch-failed",
    "prefetch-page",
    "prefetch-partial",
)
def test_the_six_states_of_a_key(content: Content) -> None:
    """CDS Hooks 2.0.1, Prefetch Template; the absent key alone is asked for at the server."""
    server = FhirServer({"ServiceRequest": bundle()})
    request = hook_request(content, milk(10, 1))
    sent = request["prefetch"]
    del sent["serviceRequests"]
    sent["conditions"] = None
    sent["encounters"] = bundle()
    sent["allergies"] = FAILED
    with running(server) as address:
        request["fhirServer"] = f"{address}/fhir"
        sent["deliveries"] = bundle(milk(1, 1), following=f"{address}/fhir/Procedure?page=2")
        chart = gathered(content, request, FhirReader())
    states = {key: chart.state(key) for key in content.prefetch_templates}
    assert states["serviceRequests"] is State.EMPTY
    assert states["conditions"] is State.NULL
    assert states["encounters"] is State.EMPTY
    assert states["allergies"] is State.FAILED
    assert states["deliveries"] is State.COMPLETE
    assert states["milkExpression"] is State.COMPLETE
    paths = sorted(path.partition("?")[0] for path, _ in server.seen)
    assert paths == ["/fhir/Procedure", "/fhir/ServiceRequest"]


@pytest.mark.rule("prefetch-needed")
def test_what_is_needed_and_absent_is_412_by_name(content: Content) -> None:
    request = hook_request(content)
    del request["prefetch"]["milkExpression"]
    with pytest.raises(Refusal) as caught:
        gathered(content, request)
    assert caught.value.status == 412
    assert "milkExpression" in caught.value.reason
    assert caught.value.expression == ["prefetch.milkExpression"]


@pytest.mark.rule("prefetch-needed", "prefetch-failed")
def test_what_is_needed_and_failed_is_412(content: Content) -> None:
    request = hook_request(content)
    request["prefetch"]["milkExpression"] = FAILED
    with pytest.raises(Refusal) as caught:
        gathered(content, request)
    assert caught.value.status == 412
    assert "timeout" in caught.value.reason


WARNING = {
    "resourceType": "OperationOutcome",
    "issue": [
        {"severity": "warning", "code": "processing", "details": {"text": "no results"}},
        {"severity": "information", "code": "informational"},
    ],
}


@pytest.mark.rule("prefetch-warning")
def test_a_warning_in_a_searchset_is_no_412(content: Content) -> None:
    """In what is sent, and in each page of what is read."""
    request = hook_request(content)
    sent = request["prefetch"]
    warned = bundle(WARNING)
    warned["entry"][0]["search"] = {"mode": "outcome"}
    sent["milkExpression"] = warned
    sent["conditions"] = bundle(WARNING, milk(10, 1))
    del sent["encounters"], sent["serviceRequests"]
    server = FhirServer({"Encounter": bundle(WARNING)})
    with running(server) as address:
        request["fhirServer"] = f"{address}/fhir"
        following = f"{address}/fhir/Encounter?page=2"
        server.answers["ServiceRequest"] = bundle(milk(10, 1), WARNING, following=following)
        chart = gathered(content, request, FhirReader())
    assert chart.state("milkExpression") is State.EMPTY
    assert chart.state("conditions") is State.COMPLETE
    assert chart.state("encounters") is State.EMPTY
    assert chart.state("serviceRequests") is State.COMPLETE
    assert chart.is_whole


@pytest.mark.rule("prefetch-failed", "prefetch-needed")
def test_a_warning_in_place_of_a_searchset_is_412(content: Content) -> None:
    request = hook_request(content)
    request["prefetch"]["milkExpression"] = WARNING
    with pytest.raises(Refusal) as caught:
        gathered(content, request)
    assert caught.value.status == 412


@pytest.mark.rule("prefetch-null")
def test_null_is_known_empty_and_no_412(content: Content) -> None:
    chart = gathered(content, hook_request(content))
    assert chart.state("milkExpression") is State.NULL


@pytest.mark.rule("prefetch-page")
def test_a_page_without_a_server_stays_partial(content: Content) -> None:
    request = hook_request(content)
    request["prefetch"]["milkExpression"] = bundle(milk(1, 1), following="https://x.example/next")
    assert gathered(content, request).state("milkExpression") is State.PARTIAL


@pytest.mark.rule("prefetch-extra")
def test_extra_keys_are_ignored(content: Content) -> None:
    request = hook_request(content)
    request["prefetch"]["anything"] = bundle(milk(1, 1))
    assert "anything" not in gathered(content, request).results


CONTEXT = PatientViewContext(userId="Practitioner/c", patientId="mother-1")


def test_a_token_without_a_value_leaves_the_template_unfilled() -> None:
    assert fill_template("Encounter?_id={{context.encounterId}}", CONTEXT) is None


def test_a_token_cannot_change_the_search() -> None:
    odd = PatientViewContext(userId="Practitioner/c", patientId="1&patient=2")
    assert fill_template("Condition?patient={{context.patientId}}", odd) == (
        "Condition?patient=1%26patient%3D2"
    )


@pytest.mark.rule("prefetch-templates", "prefetch-tokens", "prefetch-subset")
def test_the_templates_ask_only_what_every_client_can(content: Content) -> None:
    """CDS Hooks 2.0.1, "Prefetch query restrictions"."""
    for key in map(content.prefetch.get, content.prefetch_templates):
        template = content.prefetch_templates[key.id]
        if key.by_id:
            assert template == "Patient/{{context.patientId}}"
            continue
        kind, _, query = template.partition("?")
        assert kind.isalpha()
        names = [part.partition("=")[0] for part in query.split("&")]
        assert set(names) <= {"patient", "code", "type", "status", "_sort", "_count"}, template
        tokens = template.count("{{")
        assert tokens == template.count("{{context.patientId}}") == 1


def test_a_new_code_in_a_value_set_is_in_the_template(tmp_path: Any) -> None:
    import json

    from cds_service.content.loader import load_content

    own = {
        "resourceType": "ValueSet",
        "url": "urn:lactation-cds:value-set:pacifier-use",
        "status": "draft",
        "compose": {"include": [{"system": "urn:hospital", "concept": [{"code": "PAC-1"}]}]},
    }
    (tmp_path / "pacifier.json").write_text(json.dumps(own))
    changed = load_content(tmp_path)
    template = changed.prefetch_templates["infantFeeding"]
    assert "urn:hospital|PAC-1" in template
    assert "urn:lactation-cds:fact|," in template  # every fact of ours
