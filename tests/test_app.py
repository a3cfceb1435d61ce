"""The service over HTTP: what each request gets, good or bad."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.hooks import protocol
from cds_service.settings import Settings
from tests.support.broken import break_
from tests.support.calls import VIEW, Valid, outcome
from tests.support.fhir_servers import FhirServer, bundle
from tests.support.listeners import Listener, listening
from tests.support.mothers import NOW, average, hook_request, inhibited, milk
from tests.support.processes import running

START = "/cds-services/lactation-encounter-start"


# --- discovery ----------------------------------------------------------------------------------


@pytest.mark.rule("json", "discovery-path", "discovery-entry", "discovery-prefetch")
def test_discovery_lists_the_services(client: FlaskClient, valid: Valid) -> None:
    answer = client.get("/cds-services")
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    valid("discovery", answer.get_json())
    services = {service["id"]: service for service in answer.get_json()["services"]}
    assert services["lactation-patient-view"]["hook"] == "patient-view"
    assert services["lactation-encounter-start"]["hook"] == "encounter-start"
    for service in services.values():
        assert service["title"]
        assert service["usageRequirements"]
        assert "milkExpression" in service["prefetch"]


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.rule("json", "status-200")
def test_a_mother_in_need_gets_cards(client: FlaskClient, content: Content, valid: Valid) -> None:
    request = hook_request(content, *inhibited())
    valid("request", request)
    answer = client.post(VIEW, json=request)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    valid("response", answer.get_json())
    codes = [card["source"]["topic"]["code"] for card in answer.get_json()["cards"]]
    assert codes == ["inhibited-letdown"]


@pytest.mark.rule("status-200", "card-stale")
def test_nothing_to_do_is_an_empty_list(client: FlaskClient, content: Content) -> None:
    answer = client.post(VIEW, json=hook_request(content, *average()))
    assert (answer.status_code, answer.get_json()) == (200, {"cards": []})


def test_encounter_start_answers_alike(client: FlaskClient, content: Content) -> None:
    request = hook_request(content, *inhibited(), hook="encounter-start")
    (card,) = client.post(START, json=request).get_json()["cards"]
    assert card["source"]["topic"]["code"] == "inhibited-letdown"


@pytest.mark.rule("unknown-members", "prefetch-extra")
def test_unknown_members_and_extensions_are_ignored(client: FlaskClient, content: Content) -> None:
    request = hook_request(content, *average(), extension={"org.example": {"a": 1}}, future=[1])
    request["context"] |= {"extension": {}, "more": 3}
    request["prefetch"]["unasked"] = {"resourceType": "Bundle"}
    assert client.post(VIEW, json=request).status_code == 200


@pytest.mark.rule("call-instance")
def test_a_charset_and_an_upper_case_hook_instance_are_fine(
    client: FlaskClient, content: Content
) -> None:
    request = hook_request(content)
    request["hookInstance"] = request["hookInstance"].upper()
    answer = client.post(
        VIEW, data=json.dumps(request), content_type="application/json; charset=utf-8"
    )
    assert answer.status_code == 200


@pytest.mark.rule("call-repeat")
def test_the_same_hook_instance_may_come_again(client: FlaskClient, content: Content) -> None:
    request = hook_request(content, *inhibited())
    answers = [client.post(VIEW, json=request).get_json()["cards"] for _ in range(2)]
    assert [len(cards) for cards in answers] == [1, 1]


# --- refusals (checklist of status codes) -------------------------------------------------------


@pytest.mark.rule("status-400", "status-outcome")
@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_not_a_json_object_is_400(client: FlaskClient, body: bytes) -> None:
    outcome(client.post(VIEW, data=body, content_type="application/json"), 400)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another hook": ({"hook": "order-sign"}, "hook"),
    "no hook": ({"hook": None}, "hook"),
    "no instance": ({"hookInstance": None}, "hookInstance"),
    "an instance that is no UUID": ({"hookInstance": "1"}, "hookInstance"),
    "no context": ({"context": None}, "context"),
    "a context that is text": ({"context": "x"}, "context"),
    "no patient": ({"context": {"userId": "Practitioner/c"}}, "patientId"),
    "no user": ({"context": {"patientId": "1"}}, "userId"),
    "a patient with a slash": (
        {"context": {"userId": "Practitioner/c", "patientId": "Patient/1"}},
        "patientId",
    ),
    "a patient that is a number": (
        {"context": {"userId": "Practitioner/c", "patientId": 1}},
        "patientId",
    ),
    "an empty patient": ({"context": {"userId": "Practitioner/c", "patientId": ""}}, "patientId"),
    "a user of another kind": (
        {"context": {"userId": "Device/c", "patientId": "1"}},
        "userId",
    ),
    "a server that is no address": ({"fhirServer": "file:///etc/passwd"}, "fhirServer"),
    "a server of half an IPv6 address": ({"fhirServer": "http://[::1/fhir"}, "fhirServer"),
    "a server in brackets that is no IPv6 address": (
        {"fhirServer": "https://[d3e7:cc]:480/fhir"},
        "fhirServer",
    ),
    "a server of an IPv4 address in brackets": (
        {"fhirServer": "https://[192.0.2.1]/fhir"},
        "fhirServer",
    ),
    "a server on no port": ({"fhirServer": "https://fhir.example.org:x/fhir"}, "fhirServer"),
    "a server without a name": ({"fhirServer": "https:///fhir"}, "fhirServer"),
    "prefetch that is a list": ({"prefetch": []}, "prefetch"),
    "an authorization without a server": (
        {
            "fhirAuthorization": {
                "access_token": "t",
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": "patient/*.read",
                "subject": "lactation-cds",
            }
        },
        "fhirServer",
    ),
    "another token type": (
        {
            "fhirServer": "https://fhir.example.org",
            "fhirAuthorization": {
                "access_token": "t",
                "token_type": "MAC",
                "expires_in": 300,
                "scope": "x",
                "subject": "y",
            },
        },
        "token_type",
    ),
    "an authorization for another patient": (
        {
            "fhirServer": "https://fhir.example.org",
            "fhirAuthorization": {
                "access_token": "t",
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": "patient/*.read",
                "subject": "lactation-cds",
                "patient": "someone-else",
            },
        },
        "another patient",
    ),
}


@pytest.mark.rule(
    "call-hook",
    "call-instance",
    "call-server",
    "call-required",
    "call-context",
    "authorization-members",
    "authorization-patient",
    "status-400",
)
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_member_is_400_by_name(client: FlaskClient, content: Content, kind: str) -> None:
    members, named = WRONG[kind]
    request = hook_request(content, *average()) | members
    request = {name: value for name, value in request.items() if value is not None}
    issue = outcome(client.post(VIEW, json=request), 400)
    (where,) = issue["expression"]
    assert named in where + issue["details"]["text"]
    assert where.partition(".")[0] in issue["details"]["text"]
    assert "not what it must be" not in issue["details"]["text"]


def members_of(schema: Any, document: dict[str, Any]) -> set[str]:
    """The members of all objects that a schema describes, those of its references too."""
    if isinstance(schema, list):
        return set().union(*(members_of(each, document) for each in schema))
    if not isinstance(schema, dict):
        return set()
    found = set(schema.get("properties", ()))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        found |= members_of(document["components"]["schemas"][name], document)
    return found | members_of(list(schema.values()), document)


def test_of_each_member_it_can_be_said_what_it_must_be(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    bodies = [way["post"]["requestBody"] for way in document["paths"].values() if "post" in way]
    members = set().union(*(members_of(body, document) for body in bodies))
    assert "draftOrders" in members
    assert "acceptedSuggestions" in members
    assert members <= set(protocol.MEMBERS)


@pytest.mark.rule("call-context")
def test_encounter_start_needs_the_encounter(client: FlaskClient, content: Content) -> None:
    request = hook_request(content, hook="encounter-start")
    del request["context"]["encounterId"]
    assert "encounterId" in outcome(client.post(START, json=request), 400)["details"]["text"]


@pytest.mark.rule("discovery-path", "status-404")
def test_an_unknown_service_is_404(client: FlaskClient, content: Content) -> None:
    outcome(client.post("/cds-services/lactation", json=hook_request(content)), 404)
    outcome(client.get("/elsewhere"), 404)
    outcome(client.get("/cds-services/"), 404)


@pytest.mark.rule("status-404")
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/cds-services", "GET"), ("GET", VIEW, "POST"), ("PUT", VIEW, "POST")],
)
def test_another_method_is_405_with_allow(
    client: FlaskClient, method: str, path: str, allowed: str
) -> None:
    answer = client.open(path, method=method)
    outcome(answer, 405)
    assert allowed in answer.headers["Allow"]


@pytest.mark.rule("status-media")
@pytest.mark.parametrize("media", ["text/plain", "application/xml", "application/fhir+json", ""])
def test_another_media_type_is_415(client: FlaskClient, content: Content, media: str) -> None:
    body = json.dumps(hook_request(content))
    outcome(client.post(VIEW, data=body, content_type=media), 415)


@pytest.mark.rule("status-media")
@pytest.mark.parametrize("accept", ["text/html", "application/xml;q=0.9", "application/json;q=0"])
def test_what_cannot_be_accepted_is_406(client: FlaskClient, content: Content, accept: str) -> None:
    headers = {"Accept": accept}
    outcome(client.post(VIEW, json=hook_request(content), headers=headers), 406)
    outcome(client.get("/cds-services", headers=headers), 406)


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "application/*", "text/html, */*;q=0.1"]
)
def test_what_can_be_accepted_is_answered(
    client: FlaskClient, content: Content, accept: str
) -> None:
    headers = {"Accept": accept}
    assert client.post(VIEW, json=hook_request(content), headers=headers).status_code == 200


@pytest.mark.rule("status-media")
def test_a_body_over_the_limit_is_413(content: Content, settings: Settings) -> None:
    small = settings.model_copy(update={"max_body_bytes": 1000})
    client = create_app(small, content, lambda: NOW).test_client()
    outcome(client.post(VIEW, json=hook_request(content, *average())), 413)


@pytest.mark.rule("status-412")
def test_what_is_needed_and_cannot_be_had_is_412(client: FlaskClient, content: Content) -> None:
    request = hook_request(content)
    del request["prefetch"]
    issue = outcome(client.post(VIEW, json=request), 412)
    assert "milkExpression" in issue["details"]["text"]
    assert issue["expression"] == ["prefetch.milkExpression"]


@pytest.mark.rule("status-outcome")
def test_a_refusal_repeats_nothing_of_what_was_sent(client: FlaskClient, content: Content) -> None:
    request = hook_request(content) | {"hook": "Jane Doe", "hookInstance": "Jane Doe"}
    assert "Jane" not in client.post(VIEW, json=request).text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2)
    ),
    max_leaves=5,
)
MEMBERS = ("hook", "hookInstance", "fhirServer", "fhirAuthorization", "context", "prefetch")


@pytest.fixture(scope="module")
def in_no_time(content: Content, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A service that has no time to read."""
    database = f"sqlite:///{tmp_path_factory.mktemp('service')}/service.sqlite3"
    settings = Settings(auth="open", deadline_ms=1, database_url=database)
    return create_app(settings, content, lambda: NOW).test_client()


@given(st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=2))
def test_no_request_makes_it_fail(
    in_no_time: FlaskClient, content: Content, members: dict[str, Any]
) -> None:
    answer = in_no_time.post(VIEW, json=hook_request(content) | members)
    assert answer.status_code in (200, 400, 403, 412)


# --- the FHIR server ----------------------------------------------------------------------------


def authorized(content: Content, server: str, **members: Any) -> dict[str, Any]:
    request = hook_request(content, **members)
    del request["prefetch"]
    request["fhirServer"] = f"{server}/fhir"
    request["fhirAuthorization"] = {
        "access_token": "secret-token",
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "patient/*.read",
        "subject": "lactation-cds",
        "patient": request["context"]["patientId"],
    }
    return request


@pytest.mark.rule("call-both-ways", "authorization-bearer")
def test_what_was_not_sent_is_read_from_her_server(
    client: FlaskClient, content: Content, valid: Valid
) -> None:
    server = FhirServer({"Observation": bundle(*inhibited())})
    with running(server) as address:
        answer = client.post(VIEW, json=authorized(content, address))
    valid("response", answer.get_json())
    codes = [card["source"]["topic"]["code"] for card in answer.get_json()["cards"]]
    assert codes == ["inhibited-letdown"]
    assert len(server.seen) == len(content.prefetch_templates)
    assert {token for _, token in server.seen} == {"Bearer secret-token"}
    by_search = [path for path, _ in server.seen if "patient=mother-1" in path]
    assert [path for path, _ in server.seen if path not in by_search] == ["/fhir/Patient/mother-1?"]


def test_a_failure_of_something_optional_is_said_on_the_card(
    client: FlaskClient, content: Content
) -> None:
    from werkzeug.wrappers import Response

    server = FhirServer(
        {"Observation": bundle(*inhibited()), "Condition": lambda _: Response(status=500)}
    )
    with running(server) as address:
        cards = client.post(VIEW, json=authorized(content, address)).get_json()["cards"]
    assert all("Could not be read: conditions." in card["detail"] for card in cards)


@pytest.mark.rule("call-half-second")
def test_the_answer_comes_within_the_deadline(content: Content, settings: Settings) -> None:
    hasty = settings.model_copy(update={"deadline_ms": 300})
    client = create_app(hasty, content, lambda: NOW).test_client()
    with running(FhirServer(delay=2)) as address:
        started = time.monotonic()
        answer = client.post(VIEW, json=authorized(content, address))
        took = time.monotonic() - started
    issue = outcome(answer, 412)
    assert "too slow" in issue["details"]["text"]
    assert took < 0.5  # the budget of the specification


@pytest.mark.rule("authorization-server")
def test_an_open_service_reads_from_https_or_this_machine_only(
    client: FlaskClient, content: Content
) -> None:
    outcome(client.post(VIEW, json=authorized(content, "http://fhir.example.org")), 403)


def test_no_cache_keeps_an_answer(client: FlaskClient, content: Content) -> None:
    for answer in (
        client.post(VIEW, json=hook_request(content, *inhibited())),
        client.post(VIEW, json={}),
        client.get("/cds-services"),
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_open_service_that_others_can_call_does_not_read_from_this_machine(
    content: Content, settings: Settings
) -> None:
    reachable = settings.model_copy(update={"open_beyond_loopback": True})
    client = create_app(reachable, content, lambda: NOW).test_client()
    server = FhirServer()
    with running(server) as address:
        outcome(client.post(VIEW, json=authorized(content, address)), 403)
        secure = address.replace("http://", "https://")
        outcome(client.post(VIEW, json=authorized(content, secure)), 403)
    assert server.seen == []


@pytest.mark.parametrize(
    "written",
    [
        "https://{here}\\@host/",
        "https://{here}\\@host.example/fhir",
        "https://host.example@{here}/",
    ],
)
def test_nor_where_its_address_is_written_so_that_two_programs_read_it_differently(
    content: Content, settings: Settings, written: str
) -> None:
    reachable = settings.model_copy(update={"open_beyond_loopback": True})
    client = create_app(reachable, content, lambda: NOW).test_client()
    listener = Listener()
    with listening(listener) as port:
        server = written.format(here=f"127.0.0.1:{port}")
        issue = outcome(client.post(VIEW, json=authorized(content, server)), 400)
    assert issue["expression"] == ["fhirServer"]
    assert listener.connections == 0


@pytest.mark.rule("authorization-transient")
def test_neither_token_nor_patient_reaches_the_log(
    client: FlaskClient, content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with running(FhirServer({"Observation": bundle(*inhibited())})) as address:
        client.post(VIEW, json=authorized(content, address))
        refused = client.post(VIEW, json=authorized(content, address, hook="x"))
    logged = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("cds_service")
    )
    assert "secret-token" not in logged + refused.text
    assert "mother-1" not in logged + refused.text


# --- faults of our own --------------------------------------------------------------------------


def test_one_broken_rule_is_told_on_a_card(
    content: Content, settings: Settings, valid: Valid
) -> None:
    broken = break_(content, "cards", "early-expression")
    client = create_app(settings, broken, lambda: NOW).test_client()
    answer = client.post(VIEW, json=hook_request(content, *inhibited()))
    valid("response", answer.get_json())
    summaries = [card["summary"] for card in answer.get_json()["cards"]]
    assert len([each for each in summaries if "could not be evaluated" in each]) == 1


@pytest.mark.rule("status-500")
def test_if_nothing_can_be_judged_it_is_500(content: Content, settings: Settings) -> None:
    broken = break_(content, "cards", *(c for c in content.cards if c != "data-needed"))
    client = create_app(settings, broken, lambda: NOW).test_client()
    issue = outcome(client.post(VIEW, json=hook_request(content, *average())), 500)
    assert "not an answer of no concern" in issue["details"]["text"]


@pytest.mark.rule("status-500")
def test_a_fault_anywhere_is_500_without_its_words(
    content: Content, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def clock() -> Any:
        raise RuntimeError("Jane Doe")

    client = create_app(settings, content, clock).test_client()
    answer = client.post(VIEW, json=hook_request(content, *inhibited()))
    outcome(answer, 500)
    assert "Jane" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text


# --- browsers (CORS) ----------------------------------------------------------------------------


@pytest.fixture
def open_to_sandbox(content: Content, settings: Settings) -> FlaskClient:
    own = settings.model_copy(update={"allowed_origins": "https://sandbox.cds-hooks.org"})
    return create_app(own, content, lambda: NOW).test_client()


@pytest.mark.rule("cors")
@pytest.mark.parametrize(
    ("path", "method"),
    [("/cds-services", "GET"), (VIEW, "POST"), (f"{VIEW}/feedback", "POST")],
)
def test_preflight_passes(open_to_sandbox: FlaskClient, path: str, method: str) -> None:
    answer = open_to_sandbox.options(
        path,
        headers={
            "Origin": "https://sandbox.cds-hooks.org",
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization, content-type",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://sandbox.cds-hooks.org"
    assert method in answer.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]


@pytest.mark.rule("cors")
def test_answers_and_errors_alike_carry_the_origin(
    open_to_sandbox: FlaskClient, content: Content
) -> None:
    headers = {"Origin": "https://sandbox.cds-hooks.org"}
    for answer in (
        open_to_sandbox.get("/cds-services", headers=headers),
        open_to_sandbox.post(VIEW, json=hook_request(content), headers=headers),
        open_to_sandbox.post(VIEW, data=b"{", headers=headers, content_type="application/json"),
        open_to_sandbox.post("/cds-services/none", json={}, headers=headers),
        open_to_sandbox.post(f"{VIEW}/feedback", json={}, headers=headers),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "https://sandbox.cds-hooks.org"


@pytest.mark.rule("cors")
def test_another_origin_gets_nothing(open_to_sandbox: FlaskClient, client: FlaskClient) -> None:
    headers = {"Origin": "https://evil.example"}
    for each in (open_to_sandbox, client):
        answer = each.get("/cds-services", headers=headers)
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_ten_thousand_observations_are_answered(client: FlaskClient, content: Content) -> None:
    many = [milk(1, 24 * 30 * n / 10_000) for n in range(10_000)]
    answer = client.post(VIEW, json=hook_request(content, *many))
    assert answer.status_code == 200
