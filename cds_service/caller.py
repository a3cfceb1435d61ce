"""The caller: who asks, and where the service may read on their behalf.

CDS Hooks 2.0.1, "Trusting CDS Clients": a JWT signed by the client, with the exact URL that is
called as its audience. The audience is built from ``CDS_BASE_URL`` and never from headers. The
caller learns nothing of why a token was refused; the log says it, without the token.

Keys are given in the clients file. Fetching them from a ``jku``, and refusing a ``jti`` that was
seen before, are not built yet: a client without ``keys`` is refused at start.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import time
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import yaml
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.util import urlsafe_b64decode
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from .protocol import Refusal
from .settings import Settings

ALGORITHMS = ["ES384", "RS384", "ES256", "RS256", "ES512", "RS512"]
LEEWAY = 60
LONGEST_LIFE = 3600
LONGEST_TOKEN = 16 * 1024

log = logging.getLogger("cds_service.caller")


class ClientsError(Exception):
    """The clients file cannot be used; the message says why."""


class Client(BaseModel):
    """An EHR that may call: its issuer, its keys, and the FHIR servers that it may name."""

    model_config = ConfigDict(extra="forbid")

    issuer: str
    keys: dict[str, Any] | None = None
    jku: str | None = None
    fhir_servers: list[str] = Field(default_factory=list)
    tenants: list[str] = Field(default_factory=list)
    origins: list[str] = Field(default_factory=list)

    _key_set: KeySet | None = PrivateAttr(default=None)


class Callers:
    """Everyone who may call. With ``CDS_AUTH=open``, that is anyone."""

    def __init__(self, settings: Settings) -> None:
        self._open = settings.auth == "open"
        self._base_url = settings.base_url
        self._clients = _read_clients(settings.clients) if settings.clients else {}
        if not self._open and not self._clients:
            raise ClientsError("CDS_AUTH=required needs CDS_CLIENTS, a file that lists the clients")
        if self._open:
            log.warning("CDS_AUTH=open: anyone who can reach this service may call it")

    @property
    def origins(self) -> set[str]:
        """The browser origins of all clients."""
        return {origin for client in self._clients.values() for origin in client.origins}

    def identify(self, authorization: str | None, path: str) -> Client | None:
        """The client that calls ``path``; ``None`` if the service is open.

        Raises ``Refusal``: 401 for a token that is missing or does not hold, 403 for a tenant that
        is not on the client's list.
        """
        if self._open:
            return None
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > LONGEST_TOKEN:
            raise _unknown("there is no bearer token")
        try:
            issuer = _payload_of(token).get("iss")
            client = self._clients.get(issuer) if isinstance(issuer, str) else None
            if client is None or client._key_set is None:
                raise _unknown("its issuer is not a client")
            decoded = jwt.decode(token, client._key_set, algorithms=ALGORITHMS)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise _unknown(type(error).__name__) from None
        if not decoded.header.get("kid"):
            raise _unknown("it names no key")
        self._check(decoded.claims, f"{self._base_url}{path}")
        tenant = decoded.claims.get("tenant")
        if client.tenants and tenant not in client.tenants:
            raise Refusal(403, "This tenant may not call the service.", "forbidden")
        return client

    def _check(self, claims: dict[str, Any], url: str) -> None:
        now = time.time()
        expires, issued = claims.get("exp"), claims.get("iat")
        if not (_is_number(expires) and _is_number(issued)):
            raise _unknown("it has no exp or no iat")
        if now > expires + LEEWAY or issued > now + LEEWAY or expires - issued > LONGEST_LIFE:
            raise _unknown("it is expired, not valid yet, or lives too long")
        audience = claims.get("aud")
        if url not in (audience if isinstance(audience, list) else [audience]):
            raise _unknown("it is for another address")
        if not isinstance(claims.get("jti"), str) or not claims["jti"]:
            raise _unknown("it has no jti")

    def may_read(self, client: Client | None, server: str) -> None:
        """Raises ``Refusal`` (403) unless the service may read from ``server`` for this client.

        A known client may name its own servers. An open service reads from https, and from http on
        this machine.
        """
        if client is not None:
            known = {listed.rstrip("/") for listed in client.fhir_servers}
            if server.rstrip("/") not in known:
                raise Refusal(403, "This FHIR server is not on the caller's list.", "forbidden")
        elif urlsplit(server).scheme != "https" and not _is_loopback(urlsplit(server).hostname):
            raise Refusal(403, "A FHIR server must be reached by https.", "forbidden")


def _unknown(why: str) -> Refusal:
    log.warning("a caller was refused: %s", why)
    return Refusal(401, "", headers={"WWW-Authenticate": "Bearer"})


def _payload_of(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("not a compact JWT")
    payload = json.loads(urlsafe_b64decode(parts[1].encode()))
    if not isinstance(payload, dict):
        raise ValueError("not a JWT payload")
    return payload


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _read_clients(path: Path) -> dict[str, Client]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        clients = [Client.model_validate(entry) for entry in document["clients"]]
    except (OSError, yaml.YAMLError, ValidationError, KeyError, TypeError) as error:
        raise ClientsError(f"{path} cannot be read as a clients file: {error}") from error
    for client in clients:
        if client.keys is None:
            raise ClientsError(
                f"{path}: {client.issuer} has no 'keys'; keys from a jku are not read yet"
            )
        try:
            client._key_set = KeySet.import_key_set(client.keys)  # type: ignore[arg-type]
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise ClientsError(f"{path}: the keys of {client.issuer} are not a JWKS") from error
    return {client.issuer: client for client in clients}
