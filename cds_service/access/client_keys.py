"""The keys of a client: those in the clients file, or those from its ``jku``.

CDS Hooks 2.0.1, "Trusting CDS Clients". Keys from a ``jku`` are cached for ten minutes. They are
fetched again after that, or when a token names an unknown key, but at most every half minute. After
a failure, the next try follows after two seconds, then after twice as long each time, up to half a
minute. While they cannot be fetched, the last keys are used for up to a day.

Keys that cannot verify a signature here are ignored (RFC 7517, section 5), and so are RSA keys of
fewer than 2,048 bits (RFC 7518, section 3.3).
"""

from __future__ import annotations

import codecs
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, RSAKey

from .outgoing import Outgoing, OutgoingError

FRESH = 600.0  # seconds after which keys are fetched again
KEPT = 24 * 3600.0  # seconds for which keys are used at most
NOT_BEFORE = 30.0  # seconds between two fetches at least
RETRY_AFTER = 2.0  # seconds to the second try after a failure
TIMEOUT = 0.3  # seconds
MOST_BYTES = 256 * 1024
FEWEST_BITS = 2048  # of an RSA key

log = logging.getLogger("cds_service.client_keys")


def key_set_of(document: Any) -> KeySet:
    """The public EC and RSA keys of a JWKS that can verify a signature.

    Raises ``ValueError`` if ``document`` is not a JWKS or has no such key.
    """
    written = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(written, list):
        raise ValueError("not a JWKS")
    keys = [key for key in map(_usable, written) if key is not None]
    if not keys:
        raise ValueError(
            "not a JWKS with a public EC key, or RSA key of 2,048 bits, for signatures"
        )
    return KeySet(keys)


def has_private_keys(document: Any) -> bool:
    """Whether a JWKS has a secret key: a private or a symmetric one."""
    written = document.get("keys") if isinstance(document, dict) else None
    return isinstance(written, list) and any(
        isinstance(key, dict) and ("d" in key or "k" in key) for key in written
    )


def _usable(written: Any) -> Key | None:
    if not isinstance(written, dict) or "d" in written:
        return None
    operations = written.get("key_ops", ["verify"])
    if written.get("use", "sig") != "sig" or not isinstance(operations, list):
        return None
    if "verify" not in operations:
        return None
    try:
        if written.get("kty") == "EC":
            return ECKey.import_key(written)
        if written.get("kty") == "RSA":
            key = RSAKey.import_key(written)
            if key.raw_value.key_size >= FEWEST_BITS:
                return key
            log.warning("an RSA key of a client is ignored: it has under %s bits", FEWEST_BITS)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def suitable(keys: KeySet, kid: str, algorithm: Any) -> list[ECKey | RSAKey]:
    """The keys with this ``kid`` that fit an algorithm.

    Keys of different types may have one ``kid`` (RFC 7517, section 4.5).
    """
    return [
        key
        for key in keys.keys
        if isinstance(key, ECKey | RSAKey)
        and key.kid == kid
        and key.get("alg") in (None, algorithm)
        and (
            key.get("crv") == CURVES[algorithm]
            if algorithm in CURVES
            else key.key_type == "RSA" and str(algorithm).startswith("RS")
        )
    ]


class RemoteKeys:
    """The keys at one ``jku``. ``clock`` counts seconds."""

    def __init__(
        self, jku: str, outgoing: Outgoing, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._jku, self._outgoing, self._clock = jku, outgoing, clock
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._failures = 0

    def holding(self, kid: str) -> KeySet | None:
        """The keys, if one of them has this ``kid``.

        They are fetched first if they are older than ``FRESH``, or if none of them has it.
        """
        now = self._clock()
        known = self._known(kid, now)
        if known is None or now - self._fetched_at > FRESH:
            self.fetch()
            known = self._known(kid, now)
        return known

    def fetch(self, timeout: float = TIMEOUT) -> None:
        """Fetch the keys, unless the last try was a short time ago. Does not raise."""
        with self._lock:
            now = self._clock()
            wait = min(NOT_BEFORE, RETRY_AFTER * 2 ** (self._failures - 1))
            if now - self._tried_at < (wait if self._failures else NOT_BEFORE):
                return
            self._tried_at = now
            try:
                deadline = time.monotonic() + timeout
                status, body = self._outgoing.get(
                    self._jku, {"Accept": "application/json"}, deadline, MOST_BYTES
                )
                if status != 200:
                    raise OutgoingError(f"answered {status}")
                document = orjson.loads(body.removeprefix(codecs.BOM_UTF8))
                self._keys, self._fetched_at, self._failures = key_set_of(document), now, 0
            except (OutgoingError, ValueError) as error:
                self._failures = min(self._failures + 1, 10)
                log.warning("the keys of a client could not be fetched: the jku %s", error)

    def _known(self, kid: str, now: float) -> KeySet | None:
        keys = self._keys
        if keys is None or now - self._fetched_at > KEPT:
            return None
        return keys if any(key.kid == kid for key in keys.keys) else None
