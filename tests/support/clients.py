"""Clients that may call: their keys, their tokens, and the file that lists them."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey, RSAKey
from werkzeug.wrappers import Request, Response

from tests.support.calls import VIEW

BASE = "https://cds.example.org"
EC = ECKey.generate_key("P-384", {"kid": "ec-1"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1"})
RSA_384 = RSAKey.generate_key(2048, {"kid": "rsa-384", "alg": "RS384"})
FOR_ENCRYPTION = ECKey.generate_key("P-384", {"kid": "ec-enc", "use": "enc"})
STRANGER = ECKey.generate_key("P-384", {"kid": "ec-1"})
Sign = Callable[..., dict[str, str]]


def clients_file(path: Path, **members: Any) -> Path:
    client = {
        "issuer": "https://ehr.example.org",
        "keys": {
            "keys": [key.as_dict(private=False) for key in (EC, RSA, RSA_384, FOR_ENCRYPTION)]
        },
        "fhir_servers": ["https://fhir.example.org/r4"],
        **members,
    }
    path.write_text(yaml.safe_dump({"clients": [client]}))
    return path


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed(
    path: str = VIEW,
    key: Any = EC,
    alg: str = "ES384",
    headers: dict[str, Any] | None = None,
    encode: Callable[[bytes], str] = base64url,
    **changes: Any,
) -> dict[str, str]:
    """The header of a token for ``path``; ``changes`` replace claims, and ``None`` removes them.

    It is signed here, so that what a library would refuse to sign can be sent too.
    """
    now = int(time.time())
    claims = {
        "iss": "https://ehr.example.org",
        "aud": f"{BASE}{path}",
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    header = {"alg": alg, "typ": "JWT", "kid": key.kid} | (headers or {})
    signing = key.get_op_key("sign") if key.get("use") in (None, "sig") else EC.private_key
    parts = f"{base64url(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
    size = int(alg[2:])
    hashed = {256: hashes.SHA256, 384: hashes.SHA384, 512: hashes.SHA512}[size]()
    if alg.startswith("RS"):
        signature = signing.sign(parts.encode(), padding.PKCS1v15(), hashed)
    else:
        r, s = decode_dss_signature(signing.sign(parts.encode(), ECDSA(hashed)))
        length = (signing.curve.key_size + 7) // 8
        signature = r.to_bytes(length, "big") + s.to_bytes(length, "big")
    return {"Authorization": f"Bearer {parts}.{base64url(signature)}"}


class KeyServer:
    """The address of a client's keys on this machine."""

    def __init__(self, *keys: Any) -> None:
        self.keys = list(keys)
        self.odd: list[dict[str, Any]] = []  # that stand beside them
        self.asked = 0
        self.status = 200
        self.location: str | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        Request(environ)
        self.asked += 1
        jwks = {"keys": [*self.odd, *(key.as_dict(private=False) for key in self.keys)]}
        response = Response(json.dumps(jwks), self.status, mimetype="application/json")
        if self.location is not None:
            response = Response(status=302, headers={"Location": self.location})
        return response(environ, start_response)
