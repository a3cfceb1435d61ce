"""The keys of a client: those in the clients file, or those that its ``jku`` gives.

CDS Hooks 2.0.1, "Trusting CDS Clients". Keys from a ``jku`` are kept for ten minutes and fetched
anew after that, or when a token names a key that is not among them; never more often than every
half minute. While they cannot be fetched, the last ones hold for a day.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from .outgoing import Outgoing, OutgoingError

FRESH = 600.0  # seconds
KEPT = 24 * 3600.0
NOT_BEFORE = 30.0
PATIENCE = 0.3
MOST_BYTES = 256 * 1024

log = logging.getLogger("cds_service.client_keys")


def key_set_of(document: Any) -> KeySet:
    """A key set from a JWKS. Raises ``ValueError`` if it is none, or not of public keys alone."""
    try:
        keys = KeySet.import_key_set(document)
    except (JoseError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a JWKS ({type(error).__name__})") from None
    for key in keys.keys:
        if key.key_type not in ("EC", "RSA") or key.is_private:
            raise ValueError("a JWKS here holds public EC and RSA keys only")
    return keys


class RemoteKeys:
    """The keys at one ``jku``. ``clock`` counts seconds."""

    def __init__(
        self, jku: str, outgoing: Outgoing, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._jku, self._outgoing, self._clock = jku, outgoing, clock
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")

    def holding(self, kid: str) -> KeySet | None:
        """The keys, if one of them is called ``kid``; fetched if they are old, or it is unknown."""
        now = self._clock()
        known = self._known(kid, now)
        if known is None or now - self._fetched_at > FRESH:
            self.fetch()
            known = self._known(kid, now)
        return known

    def fetch(self, patience: float = PATIENCE) -> None:
        """Fetch the keys anew, unless that was tried a moment ago. Does not raise."""
        with self._lock:
            now = self._clock()
            if now - self._tried_at < NOT_BEFORE:
                return
            self._tried_at = now
            try:
                deadline = time.monotonic() + patience
                status, body = self._outgoing.get(
                    self._jku, {"Accept": "application/json"}, deadline, MOST_BYTES
                )
                if status != 200:
                    raise OutgoingError(f"answered {status}")
                self._keys, self._fetched_at = key_set_of(orjson.loads(body)), now
            except (OutgoingError, ValueError) as error:
                log.warning("the keys of a client could not be fetched: its jku %s", error)

    def _known(self, kid: str, now: float) -> KeySet | None:
        keys = self._keys
        if keys is None or now - self._fetched_at > KEPT:
            return None
        return keys if any(key.kid == kid for key in keys.keys) else None
