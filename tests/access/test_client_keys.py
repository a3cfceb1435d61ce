"""Keys from a jku: kept, fetched anew in time, never too often, and the last ones for a while."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey

from cds_service.access.client_keys import FRESH, KEPT, NOT_BEFORE, RemoteKeys, key_set_of
from cds_service.access.outgoing import Outgoing
from tests.support.clients import EC, RSA, KeyServer
from tests.support.clock import Clock
from tests.support.processes import running


@pytest.mark.rule("token-keys")
def test_they_are_fetched_anew_when_they_are_old_or_one_is_unknown() -> None:
    clock, server = Clock(), KeyServer(EC)
    with running(server) as address:
        keys = RemoteKeys(f"{address}/jwks", Outgoing(), clock)
        assert keys.holding("ec-1") is not None
        clock.now += FRESH - 1
        assert keys.holding("ec-1") is not None
        assert server.asked == 1
        server.keys.append(RSA)
        assert keys.holding("rsa-1") is not None
        assert server.asked == 2
        clock.now += FRESH + 1
        server.keys.remove(EC)
        assert keys.holding("ec-1") is None
        assert server.asked == 3


@pytest.mark.rule("token-keys")
def test_unknown_keys_do_not_make_it_ask_without_end() -> None:
    clock, server = Clock(), KeyServer(EC)
    with running(server) as address:
        keys = RemoteKeys(f"{address}/jwks", Outgoing(), clock)
        for number in range(100):
            assert keys.holding(f"unknown-{number}") is None
        assert server.asked == 1
        clock.now += NOT_BEFORE
        assert keys.holding("unknown") is None
        assert server.asked == 2


@pytest.mark.rule("token-keys")
def test_while_they_cannot_be_fetched_the_last_ones_hold_for_a_day() -> None:
    clock, server = Clock(), KeyServer(EC)
    with running(server) as address:
        keys = RemoteKeys(f"{address}/jwks", Outgoing(), clock)
        assert keys.holding("ec-1") is not None
        server.status = 500
        clock.now += KEPT - 1
        assert keys.holding("ec-1") is not None
        clock.now += 2
        assert keys.holding("ec-1") is None
        server.status = 200
        clock.now += NOT_BEFORE
        assert keys.holding("ec-1") is not None


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"keys": 3},
        {"keys": [3]},
        {"keys": [{"kty": "XX"}]},
        {"keys": [EC.as_dict(private=True)]},
        {"keys": [OctKey.generate_key(256, {"kid": "a"}).as_dict()]},
    ],
)
def test_what_is_no_set_of_public_keys_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="JWKS"):
        key_set_of(document)


def test_a_set_of_public_keys_is_one() -> None:
    other = ECKey.generate_key("P-256", {"kid": "other"})
    both = {"keys": [key.as_dict(private=False) for key in (EC, other)]}
    assert [key.kid for key in key_set_of(both).keys] == ["ec-1", "other"]
