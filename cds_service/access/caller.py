"""Authentication of callers, and authorization of the FHIR servers that they name.

CDS Hooks 2.0.1, "Trusting CDS Clients": a JWT signed by the client, with the exact URL of the call
as its audience. The audience is built from ``CDS_BASE_URL`` and never from headers. The answer does
not say why a token was refused; the log does, without the token.

The keys of a client are in the clients file, or read from the ``jku`` that is given there; a token
with another ``jku`` is refused. A ``jti`` is accepted only once by all workers and machines that
share a database.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ..content.dialect import NotYamlError, read_yaml
from ..errors import CannotStart, Refusal, say_problems
from ..fhir.references import normal_base, read_address
from ..settings import Settings
from ..storage.database import Database
from .client_keys import RemoteKeys, has_private_keys, key_set_of, suitable
from .outgoing import Outgoing, is_loopback

Algorithm = Literal["ES384", "RS384", "ES256", "RS256", "ES512", "RS512"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
LEEWAY = 60
LONGEST_LIFE = 3600
LONGEST_TENANT = 255
LONGEST_TOKEN = 8 * 1024  # as long as a header may be
START_TIMEOUT = 2.0  # seconds, for the keys of a client

log = logging.getLogger("cds_service.caller")


class ClientsError(CannotStart):
    """The clients file cannot be used; the message says why."""


class Client(BaseModel):
    """An EHR that may call: its issuer, its keys, and the FHIR servers that it may name.

    ``fhir_bases`` are other base URLs of these servers, used in references of their records.
    """

    model_config = ConfigDict(extra="forbid")

    issuer: str
    keys: dict[str, Any] | None = None
    jku: str | None = None
    fhir_servers: list[str] = Field(default_factory=list)
    fhir_bases: list[str] = Field(default_factory=list)
    tenants: list[str] = Field(default_factory=list)
    origins: list[str] = Field(default_factory=list)
    algorithms: list[Algorithm] = Field(default=list(ALGORITHMS), min_length=1)

    _key_set: KeySet | None = PrivateAttr(default=None)
    _remote: RemoteKeys | None = PrivateAttr(default=None)

    def keys_holding(self, kid: str) -> KeySet | None:
        """The keys of the file, or else those of the ``jku``, if one of them has this ``kid``."""
        own = self._key_set
        if own is not None and any(key.kid == kid for key in own.keys):
            return own
        return self._remote.holding(kid) if self._remote is not None else None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made a call: a client, and the tenant that its token names.

    ``client`` is ``None`` if the service is open: then callers cannot be told apart.
    """

    client: Client | None = None
    tenant: str = ""

    @property
    def issuer(self) -> str | None:
        """The issuer of the client's tokens; ``None`` if anyone may call."""
        return self.client.issuer if self.client is not None else None

    @property
    def fhir_bases(self) -> list[str]:
        """Other base URLs of the client's FHIR servers."""
        return self.client.fhir_bases if self.client is not None else []


class Token(NamedTuple):
    """A valid token: its client and its claims. It may have been used before.

    Only valid tokens are noted as used. So nobody can make another client's token useless.
    """

    client: Client
    jti: str
    expires: float  # seconds since 1970
    tenant: str | None


class Callers:
    """Everyone who may call. With ``CDS_AUTH=open``, that is anyone."""

    def __init__(self, settings: Settings, outgoing: Outgoing, database: Database) -> None:
        self._open = settings.auth == "open"
        self._beyond_loopback = settings.open_beyond_loopback
        self._base_url = settings.base_url
        self._clients = _read_clients(settings.clients, outgoing) if settings.clients else {}
        if not self._open and not self._clients:
            raise ClientsError("CDS_AUTH=required needs CDS_CLIENTS, a file that lists the clients")
        self._database = database
        if self._open:
            log.warning("CDS_AUTH=open: anyone who can reach this service may call it")

    @property
    def origins(self) -> set[str]:
        """The browser origins of all clients."""
        return {origin for client in self._clients.values() for origin in client.origins}

    @property
    def are_several(self) -> bool:
        """Whether there is more than one client, so that each needs a limit of its own."""
        return len(self._clients) > 1

    def authenticate(self, authorization: str | None, *paths: str) -> Caller:
        """The caller whose token is for one of ``paths``. Raises as ``read`` and ``admit`` do."""
        return self.admit(self.read(authorization, *paths))

    def read(self, authorization: str | None, *paths: str) -> Token | None:
        """Verify the token of a caller, which must be for one of ``paths``; without the database.

        ``None`` if the service is open. Raises ``Refusal`` (401) if the token is missing or not
        valid.
        """
        if self._open:
            return None
        claimed: Client | None = None
        try:
            scheme, _, token = (authorization or "").partition(" ")
            if scheme.lower() != "bearer" or not token or len(token) > LONGEST_TOKEN:
                raise _InvalidToken("there is no bearer token")
            signed = jws.extract_compact(token.encode())
            header: _Members = signed.headers()
            claims: _Members = orjson.loads(signed.payload)
            if not isinstance(claims, dict):
                raise _InvalidToken("its claims are no object")
            client = claimed = self._client_of(claims)
            _must_be_supported(header, client)
            if not any(
                jws.validate_compact(signed, key, client.algorithms)
                for key in _keys_for(header, client)
            ):
                raise _InvalidToken("its signature is not right")
            return _read_claims(client, claims, {f"{self._base_url}{path}" for path in paths})
        except _InvalidToken as refused:
            raise _refusal(str(refused), claimed) from None
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise _refusal(type(error).__name__, claimed) from None

    def admit(self, token: Token | None) -> Caller:
        """The caller of a token that ``read`` has verified. The token is noted as used.

        Raises ``Refusal``: 401 if the token was used before, 403 if its tenant is not on the
        client's list. Raises ``DatabaseError`` if the database cannot be used.
        """
        if token is None:
            return Caller()
        client, jti, expires, tenant = token
        if not self._database.sees_first(client.issuer, jti, expires + LEEWAY, time.time()):
            raise _refusal("it was used before", client)
        if client.tenants and tenant not in client.tenants:
            raise Refusal(403, "This tenant may not call the service.", "forbidden")
        return Caller(client, tenant or "")

    def _client_of(self, claims: _Members) -> Client:
        issuer = claims.get("iss")
        client = self._clients.get(issuer) if isinstance(issuer, str) else None
        if client is None:
            raise _InvalidToken("its issuer is not a client")
        return client

    def authorize_fhir_server(self, client: Client | None, server: str) -> None:
        """Raises ``Refusal`` (403) unless the service may read from ``server`` for this client.

        A known client may name the servers on its list. An open service reads from https addresses,
        and from this machine as long as only this machine can call.
        """
        if client is not None:
            if normal_base(server) not in map(normal_base, client.fhir_servers):
                raise Refusal(403, "This FHIR server is not on the caller's list.", "forbidden")
        elif not _is_confidential(server):
            raise Refusal(403, "A FHIR server must be reached by https.", "forbidden")
        elif self._beyond_loopback and is_loopback(_host_of(server)):
            raise Refusal(403, "This FHIR server may not be named here.", "forbidden")


_Members = Mapping[str, object]  # the header or the claims of a token; not validated yet


class _InvalidToken(Exception):
    """A token is missing or not valid; the message says why, and is only for the log."""


def _refusal(why: str, claimed: Client | None) -> Refusal:
    """Log the refusal of a token, and return it. ``claimed`` is the client that it names."""
    if claimed is None:
        log.warning("a caller was refused: %s", why)
    else:
        log.warning("a caller that claims to be %s was refused: %s", claimed.issuer, why)
    return Refusal(401, "", "login", headers={"WWW-Authenticate": "Bearer"})


def _read_claims(client: Client, claims: _Members, urls: set[str]) -> Token:
    """The token with these claims, valid now and for one of ``urls``. Raises ``_InvalidToken``."""
    now = time.time()
    expires, issued = claims.get("exp"), claims.get("iat")
    if not (_is_number(expires) and _is_number(issued)):
        raise _InvalidToken("it has no exp or no iat")
    if "nbf" in claims and not (_is_number(claims["nbf"]) and claims["nbf"] <= now + LEEWAY):
        raise _InvalidToken("it is not valid yet")
    if now > expires + LEEWAY or issued > now + LEEWAY or expires - issued > LONGEST_LIFE:
        raise _InvalidToken("it is expired, not valid yet, or lives too long")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(url, str) and url in urls for url in named):
        raise _InvalidToken("it is for another address")
    jti, tenant = claims.get("jti"), claims.get("tenant")
    if not isinstance(jti, str) or not jti:
        raise _InvalidToken("it has no jti")
    if "\0" in str(tenant) or len(str(tenant)) > LONGEST_TENANT:  # stored with each card
        raise _InvalidToken("its tenant is no name")
    return Token(client, jti, expires, tenant if isinstance(tenant, str) else None)


def _must_be_supported(header: _Members, client: Client) -> None:
    """Raises ``_InvalidToken`` if the header of a token needs something that is not supported."""
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise _InvalidToken("it is a token of another type")
    if "b64" in header:  # not allowed in a JWT (RFC 7797, section 7)
        raise _InvalidToken("its payload is not encoded as that of a JWT")
    # No extension is supported. An empty list, or one of standard members, is not allowed either
    # (RFC 7515, section 4.1.11).
    if "crit" in header:
        raise _InvalidToken("it needs an extension to be understood")
    if "jku" in header and (client.jku is None or header["jku"] != client.jku):
        raise _InvalidToken("its jku is not that of its issuer")


def _keys_for(header: _Members, client: Client) -> list[ECKey | RSAKey]:
    """The keys of a client that may have signed a token, at least one. Raises ``_InvalidToken``."""
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise _InvalidToken("it names no key")
    holding = client.keys_holding(kid)
    if holding is None:
        raise _InvalidToken("its key is not among the client's")
    keys = suitable(holding, kid, header.get("alg"))
    if not keys:
        raise _InvalidToken("its key is for something else")
    return keys


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_confidential(url: str) -> bool:
    """Whether a connection to ``url`` is confidential: https, or http on this machine."""
    address = read_address(url)
    return address is not None and (address.scheme == "https" or is_loopback(address.host))


def _host_of(url: str) -> str | None:
    address = read_address(url)
    return address.host if address is not None else None


def _read_clients(path: Path, outgoing: Outgoing) -> dict[str, Client]:
    file = f"CDS_CLIENTS ({path})"
    try:
        document = read_yaml(path.read_bytes())
        listed = document.get("clients") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise TypeError
        clients = [Client.model_validate(entry) for entry in listed]
    except (OSError, NotYamlError, ValidationError, TypeError) as error:
        what = f"{file} cannot be read as a clients file: {_describe_error(error)}"
        raise ClientsError(what) from None
    for issuer, entries in Counter(client.issuer for client in clients).items():
        if entries > 1:
            raise ClientsError(f"{file}: {issuer} stands there {entries} times; list each once")
    for client in clients:
        if client.keys is None and client.jku is None:
            raise ClientsError(f"{file}: {client.issuer} has neither 'keys' nor a 'jku'")
        for url in (*client.fhir_servers, *([client.jku] if client.jku else [])):
            if not _is_confidential(url):
                raise ClientsError(f"{file}: {client.issuer}: {url} must be reached by https")
        if client.keys is not None:
            try:
                if has_private_keys(client.keys):
                    raise ValueError("one is not public, and only the client may have that")
                client._key_set = key_set_of(client.keys)
            except ValueError as error:
                raise ClientsError(f"{file}: the keys of {client.issuer}: {error}") from None
        if client.jku is not None:
            client._remote = RemoteKeys(client.jku, outgoing)
            client._remote.fetch(timeout=START_TIMEOUT)
    return {client.issuer: client for client in clients}


def _describe_error(error: Exception) -> str:
    """The errors in a clients file with their places; without values, which may be keys."""
    if isinstance(error, ValidationError):
        return say_problems(error)
    if isinstance(error, NotYamlError):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it needs 'clients:', a list"
