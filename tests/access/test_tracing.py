"""Traces of a real service, sent to a collector on this machine."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.fhir_servers import FhirServer, bundle
from tests.support.mothers import HER, hook_request, inhibited
from tests.support.processes import free_port, running, started
from tests.support.traces import PARENT, TRACE, Collector
from tests.support.waiting import soon

pytestmark = pytest.mark.slow  # real workers

CANARY = "canary-9b1d"


def attributes(span: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


@pytest.fixture
def traced(content: Content) -> tuple[list[Any], list[bytes], list[Any], int]:
    """The spans of one call that is read from her server, and what the collector and server got."""
    collector, port = Collector(), free_port()
    fhir = FhirServer({"Observation": bundle(*inhibited())})
    with running(collector, port) as address, running(fhir) as server:
        own = {"CDS_AUTH": "open", "CDS_TRACES": "true", "CDS_DEADLINE_MS": "2000"}
        own |= {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with started("serve", port=free_port(), **own) as service:
            request = hook_request(content, fhirServer=f"{server}/fhir")
            del request["prefetch"]
            request["fhirAuthorization"] = {
                "access_token": CANARY,
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": CANARY,
                "subject": CANARY,
            }
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "baggage": f"who={CANARY}"}
            answer = requests.post(
                f"{service.address}{VIEW}?{CANARY}", json=request, headers=headers, timeout=5
            )
            wanted = len(content.prefetch_templates) + 1
            soon(
                lambda: sum(s.trace_id.hex() == TRACE for s in collector.spans()) >= wanted,
            )
    return collector.spans(), collector.bodies, fhir.headers, answer.status_code


def test_a_trace_goes_from_the_ehr_through_each_reading(
    traced: tuple[list[Any], list[bytes], list[Any], int], content: Content
) -> None:
    spans, bodies, passed_on, status = traced
    assert status == 200
    ours = [span for span in spans if span.trace_id.hex() == TRACE]
    (call,) = [span for span in ours if span.name.startswith("POST")]
    assert call.name == "POST /cds-services/<service_id>"
    assert call.parent_span_id.hex() == PARENT
    about = attributes(call)
    assert about["cds.service"] == "lactation-patient-view"
    assert about["http.response.status_code"] == 200
    readings = [span for span in ours if span.name == "read"]
    assert {attributes(span)["cds.prefetch_key"] for span in readings} == set(
        content.prefetch_templates
    )
    assert all(span.parent_span_id == call.span_id for span in readings)
    milk = next(s for s in readings if attributes(s)["cds.prefetch_key"] == "milkExpression")
    assert attributes(milk)["cds.state"] == "complete"
    assert attributes(milk)["cds.resources"] == len(inhibited())
    assert {headers["traceparent"].split("-")[1] for headers in passed_on} == {TRACE}
    assert all("baggage" not in headers for headers in passed_on)
    for body in bodies:
        assert CANARY.encode() not in body
        assert HER.encode() not in body


def test_without_the_setting_there_is_no_trace(content: Content) -> None:
    fhir = FhirServer({"Observation": bundle(*inhibited())})
    own = {"CDS_AUTH": "open", "CDS_DEADLINE_MS": "2000"}
    with running(fhir) as server, started("serve", port=free_port(), **own) as service:
        request = hook_request(content, fhirServer=f"{server}/fhir")
        del request["prefetch"]
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        url = f"{service.address}{VIEW}"
        assert requests.post(url, json=request, headers=headers, timeout=5).status_code == 200
    assert fhir.headers
    assert all("traceparent" not in headers for headers in fhir.headers)
