"""Pages in a browser: nothing frames them, posts to them or reads them that is not theirs."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.demo.app import create_demo
from cds_service.settings import Settings
from cds_service.web.pages import MOST_WRONG, MOST_WRONG_IN_ALL, WINDOW, WrongPasswords
from tests.support.calls import VIEW, outcome
from tests.support.mothers import NOW, hook_request, inhibited

PASSWORD = "a password of the tests"
HERE = "127.0.0.1:8000"
RESET, ENCOUNTER = "/demo/reset", "/mothers/inhibited-letdown/encounter"
SIGN_IN = ("any", "synthetic-only")


@pytest.fixture(scope="module")
def demo() -> FlaskClient:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CDS_ALLOWED_ORIGINS", raising=False)
        return create_demo(f"http://{HERE}", lambda: NOW).test_client()


@pytest.fixture
def guarded(content: Content, settings: Settings) -> FlaskClient:
    own = settings.model_copy(update={"dashboard_password": SecretStr(PASSWORD)})
    return create_app(own, content, lambda: NOW).test_client()


@pytest.mark.parametrize(
    "path", ["/", "/mothers/inhibited-letdown", "/dashboard", "/handouts/", "/handouts/relaxation"]
)
def test_no_page_stands_in_a_frame(demo: FlaskClient, path: str) -> None:
    answer = demo.get(path, auth=SIGN_IN)
    assert answer.status_code == 200
    rules = [rule.strip() for rule in answer.headers["Content-Security-Policy"].split(";")]
    assert "frame-ancestors 'none'" in rules
    assert "base-uri 'none'" in rules
    assert "default-src 'none'" in rules
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] in ("no-referrer", "same-origin")


def test_nor_does_the_page_that_asks_for_the_password(guarded: FlaskClient) -> None:
    for auth in (None, ("any", "wrong")):
        answer = guarded.get("/dashboard", auth=auth)
        assert answer.status_code == 401
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


# --- from which page ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [RESET, "/mothers/inhibited-letdown/override", "/fhir/Observation"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Origin": "http://127.0.0.1:9000"},  # something else on this machine
        {"Origin": "http://127.0.0.1:8000.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8000"},
    ],
)
def test_a_page_of_elsewhere_changes_nothing(
    demo: FlaskClient, headers: dict[str, str], path: str
) -> None:
    outcome(demo.post(path, data={"card": "x"}, headers={"Host": HERE, **headers}), 403)


@pytest.mark.parametrize(
    "headers",
    [
        {},  # no browser
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_its_own_pages_do(demo: FlaskClient, headers: dict[str, str]) -> None:
    assert demo.post(RESET, headers={"Host": HERE, **headers}).status_code == 303


def test_the_sandbox_may_call_and_not_start_over(demo: FlaskClient) -> None:
    headers = {"Origin": "https://sandbox.cds-hooks.org", "Sec-Fetch-Site": "cross-site"}
    assert demo.post(VIEW, json={}, headers=headers).status_code == 400
    outcome(demo.post(RESET, headers=headers), 403)


# --- by which name ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example:8000",
        "169.254.1.1",
        "[::2]:8000",
    ],
)
@pytest.mark.parametrize("path", ["/", ENCOUNTER, "/dashboard", "/fhir/Patient", "/cds-services"])
def test_the_demo_is_not_read_by_another_name(demo: FlaskClient, host: str, path: str) -> None:
    answer = demo.get(path, headers={"Host": host}, auth=SIGN_IN)
    outcome(answer, 403)


@pytest.mark.parametrize(
    "host", [HERE, "localhost:8000", "LOCALHOST:9000", "[::1]:8000", "127.0.0.1"]
)
def test_it_is_by_the_names_of_this_machine(demo: FlaskClient, host: str) -> None:
    assert demo.get("/", headers={"Host": host}).status_code == 200


def test_nor_is_a_service_that_is_open_called_by_one(content: Content, settings: Settings) -> None:
    """A page of elsewhere has no token, and so cannot call one that asks for it."""
    opened = create_app(settings, content, lambda: NOW).test_client()
    request = hook_request(content, *inhibited())
    for host, status in (("elsewhere.example:8000", 403), (HERE, 200), ("localhost", 200)):
        assert opened.post(VIEW, json=request, headers={"Host": host}).status_code == status
    assert opened.get("/cds-services", headers={"Host": "elsewhere.example"}).status_code == 403
    meant = settings.model_copy(update={"open_beyond_loopback": True})
    known = settings.model_copy(update={"base_url": "https://elsewhere.example"})
    for own in (meant, known):
        client = create_app(own, content, lambda: NOW).test_client()
        answer = client.post(VIEW, json=request, headers={"Host": "elsewhere.example"})
        assert answer.status_code == 200


# --- wrong passwords ----------------------------------------------------------------------------


def look(client: FlaskClient, password: str | None, address: str = "192.0.2.1") -> Any:
    auth = ("any", password) if password is not None else None
    return client.get("/dashboard", auth=auth, environ_base={"REMOTE_ADDR": address})


def test_who_guesses_has_to_wait_with_the_right_one_too(guarded: FlaskClient) -> None:
    for _ in range(MOST_WRONG):
        assert look(guarded, "wrong").status_code == 401
    for password in ("wrong", PASSWORD):
        answer = look(guarded, password)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["Retry-After"]) <= WINDOW
        assert PASSWORD not in answer.text
    assert look(guarded, PASSWORD, "192.0.2.2").status_code == 200
    assert look(guarded, None).status_code == 401


def test_many_who_guess_have_to_wait_together(guarded: FlaskClient) -> None:
    for number in range(MOST_WRONG_IN_ALL):
        assert look(guarded, "wrong", f"198.51.100.{number}").status_code == 401
    assert look(guarded, "wrong", "192.0.2.1").status_code == 429
    assert look(guarded, PASSWORD, "192.0.2.1").status_code == 429


def test_who_only_looks_never_waits(guarded: FlaskClient) -> None:
    for _ in range(MOST_WRONG_IN_ALL + 1):
        assert look(guarded, PASSWORD).status_code == 200
        assert look(guarded, None).status_code == 401


def test_a_password_that_is_no_text_is_a_wrong_one(guarded: FlaskClient) -> None:
    headers = {"Authorization": "Basic Onxcg5j/"}
    assert guarded.get("/dashboard", headers=headers).status_code == 401


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_wait_is_over_in_time() -> None:
    clock = Clock()
    wrong = WrongPasswords(clock)
    for _ in range(MOST_WRONG):
        assert wrong.wait("192.0.2.1", is_right=False) == 0
    clock.now += 100
    assert wrong.wait("192.0.2.1", is_right=True) == WINDOW - 100
    clock.now += WINDOW - 100
    assert wrong.wait("192.0.2.1", is_right=True) == 0


def test_addresses_of_one_subnet_are_one() -> None:
    wrong = WrongPasswords(Clock())
    for number in range(MOST_WRONG):
        assert wrong.wait(f"2001:db8::{number:x}", is_right=False) == 0
    assert wrong.wait("2001:db8::ffff", is_right=False) > 0
    assert wrong.wait("2001:db8:0:1::1", is_right=False) == 0


def test_no_number_of_addresses_takes_memory_without_end() -> None:
    clock = Clock()
    wrong = WrongPasswords(clock)
    tracemalloc.start()
    for number in range(20_000):
        clock.now += 1
        wrong.wait(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", is_right=False)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000
