"""What EHRs send in other forms: each is read from the bytes of a request."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from flask.testing import FlaskClient
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from werkzeug.wrappers import Request, Response

from cds_service.access.client_keys import NOT_BEFORE, RETRY_AFTER, RemoteKeys, key_set_of
from cds_service.access.outgoing import Outgoing
from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from cds_service.fhir.chart import State
from cds_service.hooks.fhir_server import FhirReader
from cds_service.hooks.prefetch import resolve_prefetch
from cds_service.hooks.protocol import read_request
from cds_service.settings import Settings
from tests.support.broken import UNREADABLE
from tests.support.calls import VIEW
from tests.support.clients import BASE, EC, KeyServer, clients_file, signed
from tests.support.clock import Clock
from tests.support.fhir_servers import FhirServer, bundle, fhir
from tests.support.mothers import NOW, average, cards_of, hook_request, milk
from tests.support.orders import draft, order_request
from tests.support.processes import free_port, running, started

AUTHORIZATION = {
    "access_token": "t",
    "token_type": "Bearer",
    "expires_in": 300,
    "scope": "patient/*.read",
    "subject": "lactation-cds",
}


@pytest.fixture(scope="module")
def serving() -> Iterator[str]:
    """The address of the service, as it runs under gunicorn."""
    with started("serve", port=free_port(), CDS_AUTH="open") as service:
        yield service.address


def post(client: FlaskClient, request: Any, service: str = VIEW, **headers: str) -> Any:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return client.post(service, data=body, headers={"Content-Type": "application/json", **headers})


# --- Bundles ------------------------------------------------------------------------------------


def entry(resource: Any, mode: str | None = None) -> dict[str, Any]:
    return {"resource": resource} | ({} if mode is None else {"search": {"mode": mode}})


SESSION, WITH_IT = milk(40, 2), {"resourceType": "Patient", "id": "another"}


@pytest.mark.parametrize(
    ("sent", "whole"),
    [
        ({"entry": [entry(SESSION)]}, True),
        ({"entry": [entry(SESSION)], "total": 1}, True),
        ({"entry": [entry(SESSION, "match"), entry(WITH_IT, "include")], "total": 1}, True),
        ({"entry": [entry(SESSION)], "total": 24}, False),
        ({"entry": [entry(SESSION), entry(WITH_IT, "include")], "total": 2}, False),
        ({"entry": [entry(SESSION), entry(bundle(milk(40, 5)))]}, False),
        ({"entry": [entry(SESSION), {"fullUrl": "urn:uuid:1"}]}, False),
        ({"entry": [entry(SESSION), entry(7)]}, False),
    ],
)
def test_a_search_of_which_less_came_than_was_found_is_not_whole(
    client: FlaskClient, content: Content, sent: dict[str, Any], whole: bool
) -> None:
    request = hook_request(content, *average()[:-8])
    request["prefetch"]["milkExpression"] = {"resourceType": "Bundle", "type": "searchset", **sent}
    said = post(client, request).text
    assert ("milk expression and letdown (only in part)" in said) is not whole


@pytest.mark.parametrize(
    "sent",
    [
        {"resourceType": "Bundle", "type": "batch-response", "entry": [entry(bundle(SESSION))]},
        {"resourceType": "Bundle", "entry": entry(SESSION)},
        {"resourceType": "Bundle", "entry": {"resource": 1}},
        {"resourceType": "Bundle", "entry": [{"response": {"status": "404"}}]},
        {"resourceType": "Bundle", "type": "searchset", "total": 3},
    ],
)
def test_a_bundle_of_which_nothing_can_be_read_is_not_nothing_found(
    client: FlaskClient, content: Content, sent: dict[str, Any]
) -> None:
    request = hook_request(content, *average())
    request["prefetch"]["conditions"] = sent
    assert "Could not be read: conditions." in post(client, request).text
    request["prefetch"]["milkExpression"] = sent
    assert post(client, request).status_code == 412


@pytest.mark.parametrize(("total", "whole"), [(3, True), (4, False)])
def test_the_pages_of_a_search_are_counted_together(
    content: Content, total: int, whole: bool
) -> None:
    """Each tells how many there are on all of them; the first of them may have been sent."""

    @Request.application
    def paged(request: Request) -> Response:
        page = int(request.args.get("page", 1))
        following = f"{request.base_url}?page={page + 1}" if page < 3 else None
        return fhir(bundle(milk(1, page), following=following) | {"total": total})

    with running(paged) as address:
        for sent in (None, bundle(milk(1, 1), following=f"{address}/fhir/Observation?page=2")):
            request = hook_request(content, fhirServer=f"{address}/fhir")
            request["prefetch"]["milkExpression"] = sent and sent | {"total": total}
            if sent is None:
                del request["prefetch"]["milkExpression"]
            hook, context = read_request(json.dumps(request).encode(), "patient-view")
            chart = resolve_prefetch(content, hook, context, FhirReader(), 2)
            assert len(chart.of_patient("Observation")) == 3
            assert chart.state("milkExpression") is (State.COMPLETE if whole else State.PARTIAL)


# --- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accepted",
    [
        "application/json; charset=utf-8",
        "",
        "text/html, */*;q=0.1",
        "application/json;q=0.9, */*",
        "APPLICATION/*;q=0.5",
    ],
)
def test_accept_with_parameters(client: FlaskClient, content: Content, accepted: str) -> None:
    assert post(client, hook_request(content), Accept=accepted).status_code == 200


@pytest.mark.parametrize("accepted", ["application/json;q=0, */*", "text/html; charset=utf-8"])
def test_accept_that_leaves_json_out(client: FlaskClient, content: Content, accepted: str) -> None:
    assert post(client, hook_request(content), Accept=accepted).status_code == 406


def test_a_byte_order_mark(client: FlaskClient, content: Content) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(hook_request(content)).encode()
    assert post(client, body).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"expires_in": "300"},
        {"expires_in": 300.0},
        {"token_type": "bearer"},
        {"token_type": "BEARER"},
        {"patient": ""},
    ],
)
def test_an_authorization_written_otherwise(
    client: FlaskClient, content: Content, changed: dict[str, Any]
) -> None:
    request = hook_request(content, *average(), fhirServer="https://fhir.example.org")
    request["fhirAuthorization"] = AUTHORIZATION | changed
    assert post(client, request).status_code == 200


@pytest.mark.parametrize("changed", [{"expires_in": "soon"}, {"expires_in": True}])
def test_an_authorization_with_no_time(
    client: FlaskClient, content: Content, changed: dict[str, Any]
) -> None:
    request = hook_request(content, *average(), fhirServer="https://fhir.example.org")
    request["fhirAuthorization"] = AUTHORIZATION | changed
    assert post(client, request).status_code == 400


def test_empty_optional_texts_are_as_none_sent(client: FlaskClient, content: Content) -> None:
    request = hook_request(content, *average(), fhirServer="")
    request["context"]["encounterId"] = ""
    assert post(client, request).status_code == 200
    request["fhirAuthorization"] = AUTHORIZATION  # which needs a server
    assert post(client, request).status_code == 400


@pytest.mark.parametrize(
    ("selection", "judged"),
    [
        ("draft-2", ["draft-2"]),
        ("https://ehr.example.org/fhir/MedicationRequest/draft-2", ["draft-2"]),
        ("MedicationRequest/draft-2/_history/3", ["draft-2"]),
        ("urn:uuid:5c1e9a06-0d0c-4b5f-8d53-0d4a4f9f2a11", ["draft-2"]),
        ("URN:UUID:5C1E9A06-0D0C-4B5F-8D53-0D4A4F9F2A11", ["draft-2"]),
        ("MedicationRequest/nobody", ["draft-1", "draft-2"]),
    ],
)
def test_selections_written_otherwise(
    client: FlaskClient, content: Content, selection: str, judged: list[str]
) -> None:
    orders = [draft("cabergoline", 1), draft("pseudoephedrine", 2)]
    request = order_request(content, *orders, hook="order-select", selections=[selection])
    entries = request["context"]["draftOrders"]["entry"]
    entries[1]["fullUrl"] = "urn:uuid:5c1e9a06-0d0c-4b5f-8d53-0d4a4f9f2a11"
    cards = post(client, request, "/cds-services/lactation-order-select").get_json()["cards"]
    deleted = [card["suggestions"][0]["actions"][0]["resourceId"] for card in cards]
    assert deleted == [f"MedicationRequest/{identifier}" for identifier in judged]


@pytest.mark.parametrize(
    ("subject", "judged"),
    [
        ({"identifier": {"value": "M-1"}}, True),
        ({"reference": "urn:uuid:5c1e9a06-0d0c-4b5f-8d53-0d4a4f9f2a11"}, True),
        ({"reference": "#she"}, True),
        (7, True),
        ({"reference": "Patient/another"}, False),
        ({"reference": "https://ehr.example.org/fhir/Patient/another"}, False),
    ],
)
def test_a_draft_whose_subject_cannot_be_read_is_judged_and_one_of_another_counted(
    client: FlaskClient, content: Content, subject: Any, judged: bool
) -> None:
    """Passed over is only what names someone else; beside it the other is judged all the same."""
    orders = [draft("pseudoephedrine", 1, subject=subject), draft("cabergoline", 2)]
    request = order_request(content, *orders)
    cards = post(client, request, "/cds-services/lactation-order-sign").get_json()["cards"]
    deleted = {card["suggestions"][0]["actions"][0]["resourceId"] for card in cards}
    assert deleted >= {"MedicationRequest/draft-2"}
    assert ("MedicationRequest/draft-1" in deleted) is judged
    hook, context = read_request(json.dumps(request).encode(), "order-sign")
    chart = resolve_prefetch(content, hook, context, None, 0)
    assert chart.left_out == ({} if judged else {"another-patient": 1})


@pytest.mark.parametrize("entry", [{}, {"fullUrl": "urn:uuid:1"}, {"resource": 7}, 7, None])
def test_an_entry_of_the_draft_orders_without_a_resource_is_counted(
    client: FlaskClient, content: Content, entry: Any
) -> None:
    request = order_request(content, draft("cabergoline", 2))
    request["context"]["draftOrders"]["entry"].insert(0, entry)
    cards = post(client, request, "/cds-services/lactation-order-sign").get_json()["cards"]
    assert [card["summary"] for card in cards if "Cabergoline" in card["summary"]]
    hook, context = read_request(json.dumps(request).encode(), "order-sign")
    assert resolve_prefetch(content, hook, context, None, 0).left_out == {"no-resource": 1}


URN = "urn:uuid:6a1c4d1e-5a45-4f5e-9d53-9c0a3b8d8a01"


@pytest.mark.parametrize("reference", [URN, URN.upper(), "Medication/m1", "#m1"])
@pytest.mark.parametrize("where", ["draftOrders", "prefetch"])
def test_a_draft_may_refer_to_a_medication_that_was_sent_with_it(
    client: FlaskClient, content: Content, reference: str, where: str
) -> None:
    medication = {"resourceType": "Medication", "id": "m1", "code": {"text": "Pseudoephedrine"}}
    order = draft("", medicationReference={"reference": reference})
    del order["medicationCodeableConcept"]
    if reference == "#m1":
        order["contained"] = [medication]
    request = order_request(content, order)
    entries = {"draftOrders": request["context"]["draftOrders"]["entry"], "prefetch": []}
    entries[where].append({"fullUrl": URN, "resource": medication})
    if entries["prefetch"]:
        request["prefetch"]["medications"] = {
            "resourceType": "Bundle",
            "entry": entries["prefetch"],
        }
    (card,) = post(client, request, "/cds-services/lactation-order-sign").get_json()["cards"]
    assert card["summary"].startswith("Pseudoephedrine may lower her milk supply")
    deleted = card["suggestions"][0]["actions"][0]["resourceId"]
    assert deleted == "MedicationRequest/draft-1"


NO_BUNDLES: list[dict[str, Any]] = [
    {},
    {"resourceType": "Bundle", "entry": 3},
    {"resourceType": "Bundle", "entry": {"a": 1}},
    {"entry": "x"},
    {"entry": None},
    {"resourceType": "List", "entry": []},
    draft("pseudoephedrine"),
]


@pytest.mark.parametrize("sent", NO_BUNDLES, ids=range(len(NO_BUNDLES)))
@pytest.mark.parametrize("hook", ["order-select", "order-sign"])
def test_orders_that_cannot_be_read_are_not_as_none(
    client: FlaskClient, content: Content, sent: dict[str, Any], hook: str
) -> None:
    request = order_request(content, hook=hook, selections=["a"])
    request["context"]["draftOrders"] = sent
    answer = post(client, request, f"/cds-services/lactation-{hook}")
    assert answer.status_code == 400
    assert "context.draftOrders" in answer.get_json()["issue"][0]["expression"]


def test_entries_that_hold_no_order_are_passed_over(client: FlaskClient, content: Content) -> None:
    request = order_request(content, hook="order-select", selections=["a"])
    request["context"]["draftOrders"]["entry"] = [3, None, {"fullUrl": 3}]
    answer = post(client, request, "/cds-services/lactation-order-select")
    assert answer.get_json() == {"cards": []}


@pytest.mark.parametrize(
    ("identifier", "echoed"),
    [("e" * 194, True), ("a/b", False), ("a\nb", False), ("e" * 5000, False)],
)
def test_an_id_is_echoed_as_it_came(
    client: FlaskClient, content: Content, identifier: str, echoed: bool
) -> None:
    request = order_request(content, draft("pseudoephedrine", id=identifier))
    (card,) = post(client, request, "/cds-services/lactation-order-sign").get_json()["cards"]
    deleted = [
        action["resourceId"]
        for suggestion in card.get("suggestions", ())
        for action in suggestion["actions"]
    ]
    assert deleted == ([f"MedicationRequest/{identifier}"] if echoed else [])


def test_browsers_may_send_a_trace_and_read_the_request_id(
    content: Content, settings: Settings
) -> None:
    own = settings.model_copy(update={"allowed_origins": "https://ehr.example.org"})
    client = create_app(own, content, lambda: NOW).test_client()
    answer = client.options(VIEW, headers={"Origin": "https://ehr.example.org"})
    allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"traceparent", "x-request-id", "authorization", "content-type"} <= set(allowed)
    assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]
    assert int(answer.headers["Access-Control-Max-Age"]) > 0


# --- keys ---------------------------------------------------------------------------------------

ODD = [
    OKPKey.generate_key("Ed25519", {"kid": "okp"}).as_dict(private=False),
    {"kty": "NEW", "kid": "new"},
    {"kty": "EC", "kid": "broken"},
    3,
    ECKey.generate_key("P-256", {"kid": "enc", "use": "enc"}).as_dict(private=False),
]


def test_keys_that_cannot_be_used_beside_a_good_one(content: Content, tmp_path: Path) -> None:
    # An RSA key, and one for encryption, have the good key's kid.
    same = [
        RSAKey.generate_key(2048, {"kid": "ec-1"}).as_dict(private=False),
        ECKey.generate_key("P-384", {"kid": "ec-1", "use": "enc"}).as_dict(private=False),
    ]
    keys = {"keys": [*ODD, *same, EC.as_dict(private=False)]}
    settings = Settings(
        auth="required", base_url=BASE, clients=clients_file(tmp_path / "c.yaml", keys=keys)
    )
    client = create_app(settings, content, lambda: NOW).test_client()
    assert post(client, hook_request(content), **signed()).status_code == 200
    stranger = ECKey.generate_key("P-384", {"kid": "ec-1"})
    assert post(client, hook_request(content), **signed(key=stranger)).status_code == 401


def test_a_set_without_a_usable_key_is_none() -> None:
    with pytest.raises(ValueError, match="JWKS"):
        key_set_of({"keys": ODD})


def test_secret_keys_of_a_jku_are_passed_over() -> None:
    secret = [EC.as_dict(private=True), OctKey.generate_key(256, {"kid": "o"}).as_dict()]
    good = ECKey.generate_key("P-256", {"kid": "good"}).as_dict(private=False)
    assert [key.kid for key in key_set_of({"keys": [*secret, good]}).keys] == ["good"]


def test_a_first_failure_of_a_jku_is_tried_again_soon() -> None:
    clock, server = Clock(), KeyServer(EC)
    with running(server) as address:
        keys = RemoteKeys(f"{address}/jwks", Outgoing(), clock)
        server.status = 500
        assert keys.holding("ec-1") is None
        server.status = 200
        clock.now += RETRY_AFTER
        assert keys.holding("ec-1") is not None


def test_a_jku_that_stays_away_is_asked_ever_less_often() -> None:
    clock, server = Clock(), KeyServer(EC)
    server.status = 500
    with running(server) as address:
        keys = RemoteKeys(f"{address}/jwks", Outgoing(), clock)
        for _ in range(600):  # ten minutes
            assert keys.holding("ec-1") is None
            clock.now += 1
    assert server.asked <= 600 / NOT_BEFORE + 5


# --- templates ----------------------------------------------------------------------------------


def longest(content: Content) -> int:
    filled = (
        template.replace("{{context.patientId}}", "x" * 64)
        for template in content.prefetch_templates.values()
    )
    return max(len(quote(template, safe="?&=")) for template in filled)


def test_no_template_is_longer_than_servers_take(content: Content, tmp_path: Path) -> None:
    assert longest(content) <= 1500
    codes = [f"LOCAL-FLOWSHEET-ROW-{number}" for number in range(900)]
    for fact in ("delivery-time", "pacifier-use", "expressed-milk-volume"):
        own = {
            "resourceType": "ValueSet",
            "url": f"urn:lactation-cds:value-set:{fact}",
            "status": "draft",
            "compose": {
                "include": [
                    {
                        "system": f"urn:hospital:{fact}",
                        "concept": [{"code": code} for code in codes],
                    }
                ]
            },
        }
        (tmp_path / f"{fact}.json").write_text(json.dumps(own))
    wide = load_content(tmp_path)
    assert longest(wide) <= 1500
    assert set(content.prefetch) < set(wide.prefetch)
    assert [key.id for key in wide.prefetch.values() if key.needed] == ["milkExpression"]
    searched = ",".join(wide.prefetch_templates.values())
    for code in codes:
        assert f"urn:hospital:pacifier-use|{code}" in searched


def test_a_part_that_could_not_be_read_is_said(content: Content) -> None:
    cards = cards_of(content, *average(), motherObservations2=UNREADABLE)
    assert content.prefetch["motherObservations"].label in cards["data-needed"]["detail"]


# --- FHIR servers -------------------------------------------------------------------------------


def asked(server: FhirServer, search: str, seconds: float = 2.0) -> Any:
    with running(server) as address:
        return FhirReader().read(f"{address}/fhir", "t", {"key": search}, seconds)["key"]


LONG = f"Observation?patient=m&code={','.join(f'http://loinc.org|{n}-1' for n in range(300))}"


def searching(*refusals: int, after: str | None = None) -> tuple[FhirServer, list[Request]]:
    """A server that refuses its first requests, and then has one record."""
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        request.get_data()
        requests.append(request)
        if len(requests) <= len(refusals):
            headers = {"Retry-After": after} if after is not None else {}
            return Response(status=refusals[len(requests) - 1], headers=headers)
        return fhir(bundle(milk(10, 1)))

    return FhirServer({"Observation": answer, "_search": answer}), requests


def test_a_long_search_is_sent_as_a_form() -> None:
    server, requests = searching()
    assert asked(server, LONG).state is State.COMPLETE
    (request,) = requests
    assert (request.method, request.path) == ("POST", "/fhir/Observation/_search")
    assert request.mimetype == "application/x-www-form-urlencoded"
    assert request.form.to_dict() == {"patient": "m", "code": LONG.rpartition("code=")[2]}
    assert request.headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize("status", [405, 501])
def test_where_a_server_takes_no_form_it_is_asked_by_get(status: int) -> None:
    server, requests = searching(status)
    assert asked(server, LONG).state is State.COMPLETE
    assert [request.method for request in requests] == ["POST", "GET"]


def test_an_address_that_is_too_long_is_sent_as_a_form() -> None:
    server, requests = searching(414)
    assert asked(server, "Observation?patient=m").state is State.COMPLETE
    assert [request.method for request in requests] == ["GET", "POST"]


def test_a_next_link_is_never_posted() -> None:
    server, requests = searching()
    with running(server) as address:
        link = f"{address}/fhir/{LONG}"
        FhirReader().read(f"{address}/fhir", "t", {"key": link}, 2.0)
    assert [request.method for request in requests] == ["GET"]


@pytest.mark.parametrize(
    ("status", "after", "wait"),
    [(429, None, 0.1), (503, "1", 1.0), (503, "Wed, 21 Oct 2026 07:28:00 GMT", 0.1)],
)
def test_a_busy_server_is_asked_once_more(status: int, after: str | None, wait: float) -> None:
    server, requests = searching(status, after=after)
    started = time.monotonic()
    assert asked(server, "Observation?patient=m").state is State.COMPLETE
    assert len(requests) == 2
    assert time.monotonic() - started >= wait


@pytest.mark.parametrize(("refusals", "after", "times"), [((503, 503), None, 2), ((429,), "60", 1)])
def test_it_is_not_asked_without_end(refusals: Any, after: str | None, times: int) -> None:
    server, requests = searching(*refusals, after=after)
    assert asked(server, "Observation?patient=m").state is State.FAILED
    assert len(requests) == times


# --- how a body is coded ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("coding", "status"),
    [
        ("gzip", 415),
        ("GZIP", 415),
        ("deflate", 415),
        ("br", 415),
        ("zstd", 415),
        ("identity, gzip", 415),
        ("no-such-coding", 415),
        ("identity", 200),
        ("", 200),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("path", [VIEW, f"{VIEW}/feedback"])
def test_a_body_with_a_content_encoding_is_refused_with_the_reason(
    serving: str, content: Content, path: str, packed: bool, coding: str, status: int
) -> None:
    """Over HTTP, whether the body is really packed or not; the connection stays of use."""
    body = json.dumps(hook_request(content, *average())).encode()
    if path.endswith("feedback"):
        told = {"card": "c", "outcome": "accepted", "outcomeTimestamp": "2026-01-15T12:00:00Z"}
        told["acceptedSuggestions"] = [{"id": "s"}]  # type: ignore[assignment]
        body = json.dumps({"feedback": [told]}).encode()
    if packed and status == 200:
        return
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    with requests.Session() as session:
        sent = gzip.compress(body) if packed else body
        answer = session.post(serving + path, data=sent, headers=headers, timeout=10)
        assert answer.status_code == status, answer.text
        if status == 415:
            assert answer.headers["Accept-Encoding"] == "identity"
            (issue,) = answer.json()["issue"]
            assert issue["code"] == "not-supported"
            assert "Content-Encoding" in issue["details"]["text"]
            assert "uncompressed" in issue["details"]["text"]
        del headers["Content-Encoding"]
        again = session.post(serving + path, data=body, headers=headers, timeout=10)
        assert again.status_code == 200
