"""The caller: a signed JWT for exactly this address, or a bare 401 (CDS Hooks 2.0.1, Security)."""

from __future__ import annotations

import base64
import hmac
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from cds_service.app import create_app
from cds_service.caller import ClientsError
from cds_service.content import Content
from cds_service.settings import Settings

from .conftest import running
from .fhir_servers import FhirServer
from .mothers import NOW, average, hook_request

BASE = "https://cds.example.org"
VIEW = "/cds-services/lactation-patient-view"
EC = ECKey.generate_key("P-384", {"kid": "ec-1"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1"})
STRANGER = ECKey.generate_key("P-384", {"kid": "ec-1"})

Sign = Callable[..., dict[str, str]]


def clients_file(path: Path, **members: Any) -> Path:
    client = {
        "issuer": "https://ehr.example.org",
        "keys": {"keys": [EC.as_dict(private=False), RSA.as_dict(private=False)]},
        "fhir_servers": ["https://fhir.example.org/r4"],
        **members,
    }
    path.write_text(yaml.safe_dump({"clients": [client]}))
    return path


def signed(path: str = VIEW, key: Any = EC, alg: str = "ES384", **changes: Any) -> dict[str, str]:
    """The header of a token for ``path``; ``changes`` replace claims, and ``None`` removes them."""
    now = int(time.time())
    claims = {
        "iss": "https://ehr.example.org",
        "aud": f"{BASE}{path}",
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    header = {"alg": alg, "typ": "JWT"} | ({"kid": key.kid} if key.kid else {})
    return {"Authorization": f"Bearer {jwt.encode(header, claims, key, algorithms=[alg])}"}


@pytest.fixture
def guarded(content: Content, tmp_path: Path) -> FlaskClient:
    """A service that knows one client."""
    settings = Settings(auth="required", base_url=BASE, clients=clients_file(tmp_path / "c.yaml"))
    return create_app(settings, content, lambda: NOW).test_client()


@pytest.mark.parametrize(("key", "alg"), [(EC, "ES384"), (RSA, "RS384"), (RSA, "RS256")])
def test_a_token_that_holds_is_let_in(
    guarded: FlaskClient, content: Content, key: Any, alg: str
) -> None:
    request = hook_request(content, *average())
    assert guarded.post(VIEW, json=request, headers=signed(key=key, alg=alg)).status_code == 200
    discovery = signed("/cds-services", key=key, alg=alg)
    assert guarded.get("/cds-services", headers=discovery).status_code == 200


def test_an_audience_may_be_one_of_several(guarded: FlaskClient, content: Content) -> None:
    headers = signed(aud=["https://else.example", f"{BASE}{VIEW}"])
    assert guarded.post(VIEW, json=hook_request(content), headers=headers).status_code == 200


def none_token() -> dict[str, str]:
    body = signed()["Authorization"].split(".")[1]
    head = base64url(b'{"alg":"none","typ":"JWT","kid":"ec-1"}')
    return {"Authorization": f"Bearer {head}.{body}."}


def public_key_as_secret() -> dict[str, str]:
    body = signed()["Authorization"].split(".")[1]
    head = base64url(b'{"alg":"HS256","typ":"JWT","kid":"rsa-1"}')
    signature = hmac.digest(RSA.as_pem(private=False), f"{head}.{body}".encode(), "sha256")
    return {"Authorization": f"Bearer {head}.{body}.{base64url(signature)}"}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


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
    "no jti": lambda: signed(jti=None),
    "too long": lambda: {"Authorization": "Bearer " + "x" * 1_000_000},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_every_other_token_gets_the_same_bare_401(
    guarded: FlaskClient, content: Content, kind: str
) -> None:
    answer = guarded.post(VIEW, json=hook_request(content), headers=REFUSED[kind]())
    assert (answer.status_code, answer.data) == (401, b"")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_tenant_that_is_not_listed_is_403(content: Content, tmp_path: Path) -> None:
    clients = clients_file(tmp_path / "c.yaml", tenants=["ward-1"])
    settings = Settings(auth="required", base_url=BASE, clients=clients)
    client = create_app(settings, content, lambda: NOW).test_client()
    request = hook_request(content)
    assert client.post(VIEW, json=request, headers=signed(tenant="ward-1")).status_code == 200
    assert client.post(VIEW, json=request, headers=signed(tenant="ward-2")).status_code == 403
    assert client.post(VIEW, json=request, headers=signed()).status_code == 403


def test_a_server_that_is_not_the_callers_is_not_read(
    guarded: FlaskClient, content: Content
) -> None:
    server = FhirServer()
    with running(server) as address:
        request = hook_request(content, fhirServer=address)
        del request["prefetch"]
        assert guarded.post(VIEW, json=request, headers=signed()).status_code == 403
    assert server.seen == []


def test_the_reason_is_in_the_log_and_the_token_is_not(
    guarded: FlaskClient, content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    headers = signed(aud="https://else.example")
    guarded.post(VIEW, json=hook_request(content), headers=headers)
    assert "it is for another address" in caplog.text
    assert headers["Authorization"].split(".")[1] not in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("clients: 3", "cannot be read"),
        ("nothing: []", "cannot be read"),
        ("clients:\n- issuer: x\n  keys: {keys: [{kty: XX}]}", "not a JWKS"),
        ("clients:\n- issuer: x\n  jku: https://ehr.example.org/jwks", "has no 'keys'"),
        ("clients:\n- issuer: x\n  colour: red", "colour"),
        ("clients: [", "cannot be read"),
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
