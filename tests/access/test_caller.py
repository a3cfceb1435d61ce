"""The caller: a signed JWT for exactly this address, or a bare 401 (CDS Hooks 2.0.1, Security)."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from flask.testing import FlaskClient
from joserfc.jwk import ECKey, RSAKey

from cds_service.access.caller import ClientsError
from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.settings import Settings
from tests.support.calls import VIEW
from tests.support.clients import (
    BASE,
    EC,
    FOR_ENCRYPTION,
    RSA,
    RSA_384,
    STRANGER,
    KeyServer,
    base64url,
    clients_file,
    signed,
)
from tests.support.fhir_servers import FhirServer
from tests.support.mothers import NOW, average, hook_request
from tests.support.processes import running

SMALL_KEY = rsa.generate_private_key(65537, 1024)


SMALL_N = SMALL_KEY.public_key().public_numbers().n.to_bytes(128, "big")
SMALL = {"kty": "RSA", "kid": "rsa-small", "n": base64url(SMALL_N), "e": "AQAB"}


def as_it_is(data: bytes) -> str:
    """JSON without the dots that part a token."""
    return data.decode().replace(".", "\\u002e")


def another_alg(alg: str) -> dict[str, str]:
    """A token whose header names another alg than it was signed with."""
    head, body, signature = signed()["Authorization"].removeprefix("Bearer ").split(".")
    head = base64url(json.dumps({"alg": alg, "typ": "JWT", "kid": "ec-1"}).encode())
    return {"Authorization": f"Bearer {head}.{body}.{signature}"}


@pytest.mark.rule("token-algorithms", "discovery-auth")
@pytest.mark.parametrize(("key", "alg"), [(EC, "ES384"), (RSA, "RS384"), (RSA, "RS256")])
def test_a_token_that_holds_is_let_in(
    guarded: FlaskClient, content: Content, key: Any, alg: str
) -> None:
    request = hook_request(content, *average())
    assert guarded.post(VIEW, json=request, headers=signed(key=key, alg=alg)).status_code == 200
    discovery = signed("/cds-services", key=key, alg=alg)
    assert guarded.get("/cds-services", headers=discovery).status_code == 200


@pytest.mark.rule("token-audience")
def test_an_audience_may_be_one_of_several(guarded: FlaskClient, content: Content) -> None:
    headers = signed(aud=["https://else.example", f"{BASE}{VIEW}"])
    assert guarded.post(VIEW, json=hook_request(content), headers=headers).status_code == 200


@pytest.mark.rule("discovery-auth", "token-audience")
def test_discovery_has_an_audience_of_its_own(guarded: FlaskClient) -> None:
    for headers in ({}, signed(VIEW), signed("/cds-services/")):
        answer = guarded.get("/cds-services", headers=headers)
        assert (answer.status_code, answer.data) == (401, b"")


def none_token() -> dict[str, str]:
    body = signed()["Authorization"].split(".")[1]
    head = base64url(b'{"alg":"none","typ":"JWT","kid":"ec-1"}')
    return {"Authorization": f"Bearer {head}.{body}."}


def public_key_as_secret() -> dict[str, str]:
    body = signed()["Authorization"].split(".")[1]
    head = base64url(b'{"alg":"HS256","typ":"JWT","kid":"rsa-1"}')
    signature = hmac.digest(RSA.as_pem(private=False), f"{head}.{body}".encode(), "sha256")
    return {"Authorization": f"Bearer {head}.{body}.{base64url(signature)}"}


REFUSED: dict[str, Callable[[], dict[str, str]]] = {
    "nothing": dict,
    "another scheme": lambda: {"Authorization": "Basic YTpi"},
    "no token": lambda: {"Authorization": "Bearer "},
    "no JWT": lambda: {"Authorization": "Bearer abc"},
    "three dots of nothing": lambda: {"Authorization": "Bearer ..."},
    "a payload that is a list": lambda: {"Authorization": "Bearer e30.W10.e30"},
    "alg none": none_token,
    "HS256 with the public key": public_key_as_secret,
    "a stranger's key of the same kid": lambda: signed(key=STRANGER),
    "another issuer": lambda: signed(iss="https://else.example"),
    "no issuer": lambda: signed(iss=None),
    "another audience": lambda: signed(aud="https://else.example"),
    "the base alone": lambda: signed(aud=BASE),
    "a prefix": lambda: signed(aud=f"{BASE}/cds-services"),
    "a trailing slash": lambda: signed(aud=f"{BASE}{VIEW}/"),
    "no audience": lambda: signed(aud=None),
    "expired": lambda: signed(exp=int(time.time()) - 120),
    "issued in the future": lambda: signed(iat=int(time.time()) + 600, exp=int(time.time()) + 900),
    "no exp": lambda: signed(exp=None),
    "no iat": lambda: signed(iat=None),
    "exp as text": lambda: signed(exp="tomorrow"),
    "a life of two hours": lambda: signed(exp=int(time.time()) + 7200),
    "exp that is no number": lambda: signed(exp=float("nan")),
    "exp without end": lambda: signed(exp=float("inf")),
    "exp of 400 digits": lambda: signed(exp=10**400),
    "iat of 400 digits": lambda: signed(iat=-(10**400)),
    "not valid yet": lambda: signed(nbf=int(time.time()) + 120),
    "nbf as text": lambda: signed(nbf="yesterday"),
    "nbf of 400 digits": lambda: signed(nbf=10**400),
    "jti with half a character": lambda: signed(jti="\ud800"),
    "tenant with half a character": lambda: signed(tenant="\ud800"),
    "tenant with a NUL": lambda: signed(tenant="ward\0"),
    "tenant of a long name": lambda: signed(tenant="w" * 256),
    "crit that is empty": lambda: signed(headers={"crit": []}),
    "crit with a name of the standard": lambda: signed(headers={"crit": ["kid"]}),
    "crit with an unknown extension": lambda: signed(headers={"crit": ["x"], "x": 1}),
    "crit that is no list": lambda: signed(headers={"crit": "kid"}),
    "no jti": lambda: signed(jti=None),
    "an unknown kid": lambda: signed(key=ECKey.generate_key("P-384", {"kid": "ec-9"})),
    "a token of another type": lambda: signed(headers={"typ": "at+jwt"}),
    "a foreign jku": lambda: signed(headers={"jku": "https://else.example/jwks"}),
    "an alg that its key is not for": lambda: signed(key=RSA_384, alg="RS256"),
    "a key that is not for signing": lambda: signed(key=FOR_ENCRYPTION),
    "an EC key with an RSA alg": lambda: another_alg("RS384"),
    "a payload that is not encoded": lambda: signed(
        headers={"b64": False, "crit": ["b64"]}, encode=as_it_is
    ),
    "kid that is a list": lambda: signed(headers={"kid": ["ec-1"]}),
    "a header nested deeply": lambda: {"Authorization": f"Bearer {base64url(b'[' * 9000)}.e30.e30"},
    "too long": lambda: {"Authorization": "Bearer " + "x" * 1_000_000},
}


@pytest.mark.rule(
    "token-algorithms",
    "token-header",
    "token-audience",
    "token-times",
    "token-issuer",
    "status-401",
)
@pytest.mark.parametrize("kind", REFUSED)
def test_every_other_token_gets_the_same_bare_401(
    guarded: FlaskClient, content: Content, kind: str
) -> None:
    answer = guarded.post(VIEW, json=hook_request(content), headers=REFUSED[kind]())
    assert (answer.status_code, answer.data) == (401, b"")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.rule("status-401")
def test_every_other_token_is_refused_after_the_same_time(
    guarded: FlaskClient, content: Content
) -> None:
    """How long it takes does not say how far a token came, and so not which issuer is known."""
    request = hook_request(content)
    took = {}
    for kind in ("nothing", "another issuer", "an unknown kid", "a stranger's key", "expired"):
        make = next(REFUSED[name] for name in REFUSED if name.startswith(kind))
        samples = []
        for _ in range(15):
            headers = make()
            began = time.perf_counter()
            guarded.post(VIEW, json=request, headers=headers)
            samples.append(time.perf_counter() - began)
        took[kind] = min(samples)  # what else the machine does only adds to it
    assert max(took.values()) < 1.5 * min(took.values()), took


def test_a_token_that_is_valid_by_now_is_let_in(guarded: FlaskClient, content: Content) -> None:
    request = hook_request(content)
    for since in (time.time() - 3, time.time() + 20):  # and as much tolerance as for iat
        assert guarded.post(VIEW, json=request, headers=signed(nbf=since)).status_code == 200


@pytest.mark.rule("token-tenant", "status-403")
def test_a_tenant_that_is_not_listed_is_403(content: Content, tmp_path: Path) -> None:
    clients = clients_file(tmp_path / "c.yaml", tenants=["ward-1"])
    settings = Settings(auth="required", base_url=BASE, clients=clients)
    client = create_app(settings, content, lambda: NOW).test_client()
    request = hook_request(content)
    assert client.post(VIEW, json=request, headers=signed(tenant="ward-1")).status_code == 200
    assert client.post(VIEW, json=request, headers=signed(tenant="ward-2")).status_code == 403
    assert client.post(VIEW, json=request, headers=signed()).status_code == 403


@pytest.mark.rule("authorization-server", "status-403")
def test_a_server_that_is_not_the_callers_is_not_read(
    guarded: FlaskClient, content: Content
) -> None:
    server = FhirServer()
    with running(server) as address:
        request = hook_request(content, fhirServer=address)
        del request["prefetch"]
        assert guarded.post(VIEW, json=request, headers=signed()).status_code == 403
    assert server.seen == []


@pytest.mark.rule("token-secret")
def test_the_reason_is_in_the_log_and_the_token_is_not(
    guarded: FlaskClient, content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    headers = signed(aud="https://else.example")
    guarded.post(VIEW, json=hook_request(content), headers=headers)
    said = (
        "a caller that claims to be https://ehr.example.org was refused: it is for another address"
    )
    assert said in caplog.text
    assert headers["Authorization"].split(".")[1] not in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("clients: 3", "cannot be read"),
        ("nothing: []", "cannot be read"),
        ("clients:\n- issuer: x\n  keys: {keys: [{kty: XX}]}", "not a JWKS"),
        ("clients:\n- issuer: x", "has neither 'keys' nor a 'jku'"),
        ("clients:\n- issuer: x\n  jku: http://ehr.example.org/jwks", "must be reached by https"),
        (
            "clients:\n- issuer: x\n  keys: {keys: []}\n  fhir_servers: [http://ehr.example.org]",
            "must be reached by https",
        ),
        ("clients:\n- issuer: x\n  keys: {keys: []}\n  algorithms: [HS256]", "algorithms"),
        (
            "clients:\n- issuer: x\n  keys: {keys: [{kty: oct, k: c2VjcmV0, kid: a}]}",
            "not a JWKS|public",
        ),
        ("clients:\n- issuer: x\n  colour: red", "colour"),
        ("clients: [", "cannot be read"),
        (
            "clients:\n- {issuer: 'https://a', jku: 'https://a/j'}\n"
            "- {issuer: 'https://b', jku: 'https://b/j'}\n"
            "- {issuer: 'https://a', jku: 'https://c/j'}",
            "https://a stands there 2 times",
        ),
        (
            yaml.safe_dump({"clients": [{"issuer": "x", "keys": {"keys": [SMALL]}}]}),
            "RSA key of 2,048 bits",
        ),
    ],
)
def test_a_clients_file_that_is_none_stops_the_start(
    content: Content, tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "clients.yaml"
    path.write_text(text)
    with pytest.raises(ClientsError, match=reason):
        create_app(Settings(auth="required", clients=path), content)


def test_required_without_clients_does_not_start(content: Content) -> None:
    with pytest.raises(ClientsError, match="CDS_CLIENTS"):
        create_app(Settings(auth="required"), content)


# --- used once ----------------------------------------------------------------------------------


@pytest.mark.rule("token-once")
def test_a_token_is_let_in_once_by_all_workers(
    guarded: FlaskClient, content: Content, tmp_path: Path
) -> None:
    settings = Settings(auth="required", base_url=BASE, clients=clients_file(tmp_path / "c.yaml"))
    another = create_app(settings, content, lambda: NOW).test_client()
    headers, request = signed(), hook_request(content)
    assert guarded.post(VIEW, json=request, headers=headers).status_code == 200
    for worker in (guarded, another):
        answer = worker.post(VIEW, json=request, headers=headers)
        assert (answer.status_code, answer.data) == (401, b"")
    assert another.post(VIEW, json=request, headers=signed()).status_code == 200


@pytest.mark.rule("token-once")
def test_a_token_that_does_not_hold_uses_up_no_jti(guarded: FlaskClient, content: Content) -> None:
    request = hook_request(content)
    forged = signed(key=STRANGER, jti="mine")
    assert guarded.post(VIEW, json=request, headers=forged).status_code == 401
    assert guarded.post(VIEW, json=request, headers=signed(jti="mine")).status_code == 200


@pytest.mark.rule("token-once")
def test_a_clock_that_is_set_ahead_and_back_lets_no_token_in_twice(
    guarded: FlaskClient, content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(auth="required", base_url=BASE, clients=clients_file(tmp_path / "c.yaml"))
    another = create_app(settings, content, lambda: NOW).test_client()
    headers, request, real = signed(), hook_request(content), time.time
    assert guarded.post(VIEW, json=request, headers=headers).status_code == 200
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() + 7200)
        for worker in (guarded, another):
            assert worker.post(VIEW, json=request, headers=signed()).status_code == 200
    for worker in (guarded, another):
        assert worker.post(VIEW, json=request, headers=headers).status_code == 401


def test_where_that_cannot_be_known_nobody_is_let_in(
    guarded: FlaskClient, content: Content, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlalchemy.create_engine(database).begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE seen_tokens"))
    answer = guarded.post(VIEW, json=hook_request(content), headers=signed())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.get_json()["issue"][0]["code"] == "transient"
    assert database not in caplog.text


# --- keys from a jku ----------------------------------------------------------------------------


def client_by_jku(content: Content, path: Path, jku: str) -> FlaskClient:
    clients = clients_file(path, keys=None, jku=jku)
    settings = Settings(auth="required", base_url=BASE, clients=clients)
    return create_app(settings, content, lambda: NOW).test_client()


@pytest.mark.rule("token-issuer", "token-keys")
def test_keys_can_come_from_the_clients_jku(content: Content, tmp_path: Path) -> None:
    server = KeyServer(EC)
    with running(server) as address:
        client = client_by_jku(content, tmp_path / "c.yaml", f"{address}/jwks")
        request = hook_request(content)
        named = {"jku": f"{address}/jwks"}
        for headers in (signed(), signed(headers=named), signed()):
            assert client.post(VIEW, json=request, headers=headers).status_code == 200
        assert server.asked == 1
        other = signed(headers={"jku": f"{address}/other"})
        assert client.post(VIEW, json=request, headers=other).status_code == 401
        assert (
            client.post(VIEW, json=request, headers=signed(key=RSA, alg="RS384")).status_code == 401
        )
        assert server.asked == 1  # an unknown key is asked for at most every half minute


ODD_KEYS: dict[str, dict[str, Any]] = {
    "Ed25519": {
        "kty": "OKP",
        "crv": "Ed25519",
        "kid": "k9",
        "x": "uyh8LhVsuJBQsLEvYLC-nq-OKTPVzmLpARz3ARg7fYQ",
    },
    "an unknown type": {"kty": "LATTICE", "kid": "k9"},
    "for encryption": {**RSA.as_dict(private=False), "kid": "k9", "use": "enc"},
    "too small": {**SMALL, "kid": "ec-1"},
    "another type by the same name": {"kty": "LATTICE", "kid": "ec-1"},
}


@pytest.mark.rule("token-keys")
@pytest.mark.parametrize("odd", ODD_KEYS.values(), ids=ODD_KEYS)
def test_a_key_that_cannot_be_used_beside_a_good_one_is_passed_over(
    content: Content, tmp_path: Path, odd: dict[str, Any]
) -> None:
    server = KeyServer(EC)
    server.odd = [odd]
    with running(server) as address:
        client = client_by_jku(content, tmp_path / "c.yaml", f"{address}/jwks")
        answer = client.post(VIEW, json=hook_request(content), headers=signed())
    assert answer.status_code == 200


@pytest.mark.filterwarnings("ignore:Key size")
@pytest.mark.rule("token-keys")
def test_a_key_that_is_too_small_is_not_used(content: Content, tmp_path: Path) -> None:
    server = KeyServer(EC)
    server.odd = [SMALL]
    small = RSAKey.import_key(SMALL_KEY, {"kid": "rsa-small"})
    with running(server) as address:
        client = client_by_jku(content, tmp_path / "c.yaml", f"{address}/jwks")
        for key, alg, status in ((small, "RS256", 401), (EC, "ES384", 200)):
            headers = signed(key=key, alg=alg)
            answer = client.post(VIEW, json=hook_request(content), headers=headers)
            assert answer.status_code == status


@pytest.mark.rule("token-issuer")
def test_a_jku_that_redirects_is_not_followed(content: Content, tmp_path: Path) -> None:
    elsewhere, server = KeyServer(EC), KeyServer()
    with running(elsewhere) as other, running(server) as address:
        server.location = f"{other}/jwks"
        client = client_by_jku(content, tmp_path / "c.yaml", f"{address}/jwks")
        answer = client.post(VIEW, json=hook_request(content), headers=signed())
    assert answer.status_code == 401
    assert elsewhere.asked == 0
