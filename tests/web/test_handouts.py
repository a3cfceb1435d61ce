"""Handouts over HTTP: what a mother reads, what is not printed, and nothing of her in it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.content.compiled import Content
from cds_service.content.loader import load_content
from cds_service.settings import Settings
from cds_service.web.handouts import handout_path
from tests.support.calls import VIEW, outcome
from tests.support.mothers import NOW, hook_request, inhibited
from tests.support.processes import free_port, started

# Words for clinicians, or about her instead of to her.
NOT_FOR_HER = re.compile(
    r"\b(she|her|hers|patient|clinician|postpartum|lactation|letdown|galactagogue|mastitis|abscess"
    r"|sepsis|oxytocin|prolactin|engorgement|prophylaxis|contraindicated|EPDS|\d h)\b",
    re.IGNORECASE,
)


class Reader(HTMLParser):
    """What of a page is read, without its style: each piece with the tag that it stands in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pieces: list[tuple[str, str]] = []
        self.links: list[str] = []
        self._tag = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.links += [value or "" for name, value in attrs if tag == "a" and name == "href"]

    def handle_data(self, data: str) -> None:
        if data.strip() and self._tag != "style":
            self.pieces.append((self._tag, " ".join(data.split())))

    @property
    def text(self) -> str:
        return " ".join(piece for _, piece in self.pieces)

    def of(self, tag: str) -> list[str]:
        return [piece for within, piece in self.pieces if within == tag]


def read(client: FlaskClient, path: str) -> Reader:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return Reader(answer.text)


def taught(content: Content) -> list[str]:
    return [
        each.id
        for each in content.interventions.values()
        if each.suggestion is not None and each.suggestion.template == "teaching"
    ]


# --- what she reads -----------------------------------------------------------------------------


def test_all_that_is_taught_can_be_printed_in_full(client: FlaskClient, content: Content) -> None:
    names = taught(content)
    assert len(names) > 30
    for name in names:
        how = " ".join(content.interventions[name].how.split())
        page = read(client, f"/handouts/{name}")
        steps = re.sub(r"(^|(?<=\. ))\d\. ", "", how)  # the list numbers them
        assert how in page.text or steps in page.text, name
        assert "{" not in page.text, name
        assert page.of("h1") == ["What we talked about"]
        assert len(page.of("h2")) == 3  # and those for what is written by hand
        assert content.version in page.text


def test_the_words_are_for_her(client: FlaskClient, content: Content) -> None:
    for name in taught(content):
        page = read(client, f"/handouts/{name}")
        assert NOT_FOR_HER.findall(page.text) == [], name
        assert "infant" not in page.text.replace("sudden infant death", ""), name


def test_several_stand_in_the_order_of_the_address_and_each_once(client: FlaskClient) -> None:
    page = read(client, "/handouts/warmth-while-pumping+raise-frequency+warmth-while-pumping")
    assert page.of("h2") == [
        "Warmth before and during pumping",
        "Express your milk 8 to 10 times in 24 hours",
        "Notes",
        "Questions for those who care for you",
    ]
    assert page.text.index("warm, not hot") < page.text.index("every 2 to 3 hours")


def test_what_the_text_numbers_is_a_list(client: FlaskClient) -> None:
    steps = read(client, "/handouts/hands-on-pumping").of("li")
    assert len(steps) == 4
    assert steps[1] == "Pump for 5 to 7 minutes."


def test_the_index_leads_to_each(client: FlaskClient, content: Content) -> None:
    for address in ("/handouts/", "/handouts"):
        index = read(client, address)
        assert index.links == [f"/handouts/{name}" for name in taught(content)]
    for link in index.links:
        (title, *_) = read(client, link).of("h2")
        assert title in index.text


def test_a_hospital_prints_its_own_words_and_numbers(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        """
parameters:
  - {id: fewest-sessions, value: 7}
interventions:
  - id: breast-massage
    title-for-mother: Massage & <i>rest</i>
    how: Stroke <b>lightly</b> & "slowly" {parameter:fewest-sessions} times. Stop at 5. Then rest.
  - {id: relaxation, off: true}
cards:
  - {id: early-expression, off: true}
  - {id: inhibited-letdown, off: true}
  - {id: check-letdown, off: true}
  - {id: low-milk, off: true}
"""
    )
    client = create_app(settings, load_content(tmp_path), lambda: NOW).test_client()
    answer = client.get("/handouts/breast-massage+raise-frequency")
    assert "<h2>Massage &amp; &lt;i&gt;rest&lt;/i&gt;</h2>" in answer.text
    assert "<b>" not in answer.text
    page = Reader(answer.text)
    assert 'Stroke <b>lightly</b> & "slowly" 7 times. Stop at 5. Then rest.' in page.text
    assert "Express your milk 7 to 10 times in 24 hours: every" in page.text
    outcome(client.get("/handouts/relaxation"), 404)


# --- what is not printed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        "no-such-thing",
        "raise-frequency+no-such-thing",
        "domperidone",  # nothing is taught
        "lactation-consult",  # an order, though in words for her
        "assess-mood",  # words for a clinician
        "raise-frequency+",
        "+",
        "Raise-Frequency",
        "raise-frequency%20relaxation",
        "raise-frequency/relaxation",
        "%3Cscript%3E",
        "+".join(["relaxation"] * 21),
        "x" * 5000,
    ],
)
def test_anything_else_is_not_found(client: FlaskClient, names: str) -> None:
    answer = client.get(f"/handouts/{names}")
    assert outcome(answer, 404)["code"] == "not-found"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "script" not in answer.text


def test_twenty_names_are_not_too_many(client: FlaskClient, content: Content) -> None:
    names = taught(content)[:20]
    assert len(read(client, handout_path(names)).of("h2")) == 22


def test_it_is_only_read(client: FlaskClient) -> None:
    outcome(client.post("/handouts/relaxation", json={}), 405)
    assert client.head("/handouts/relaxation").status_code == 200


# --- the path for a card's link -----------------------------------------------------------------


def test_the_path_names_each_once(client: FlaskClient, content: Content) -> None:
    path = handout_path(["relaxation", "breast-massage", "relaxation"])
    assert path == "/handouts/relaxation+breast-massage"
    assert read(client, path).of("h2")[0] == "Relaxation or music while pumping"


def test_a_card_links_only_to_what_can_be_read(settings: Settings, tmp_path: Path) -> None:
    """A hospital that teaches by leaflets of its own has no text of a technique to print."""
    (tmp_path / "own.yaml").write_text(
        """
templates:
  - id: teaching
    resource:
      resourceType: CommunicationRequest
      status: draft
      payload: [{contentString: "Our leaflet: {label}"}]
interventions:
  - {id: breast-massage, how: ""}
"""
    )
    own = load_content(tmp_path)
    client = create_app(settings, own, lambda: NOW).test_client()
    (card,) = client.post(VIEW, json=hook_request(own, *inhibited())).get_json()["cards"]
    (link,) = [link["url"] for link in card["links"] if link["label"] == "Handout for her"]
    assert "Teach: breast massage" in [each["label"] for each in card["suggestions"]]
    page = read(client, link.removeprefix(settings.base_url))
    assert "Massage the breasts while pumping" not in page.of("h2")
    assert "Relaxation or music while pumping" in page.of("h2")


@pytest.mark.parametrize("count", [0, 21])
def test_there_is_no_path_for_none_or_too_many(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 20"):
        handout_path(["relaxation"] * count)


# --- nothing of anyone --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/handouts/", "/handouts/relaxation+breast-massage"])
def test_the_page_runs_nothing_and_tells_nothing(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    policy = dict(
        rule.strip().split(" ", 1)
        for rule in answer.headers["Content-Security-Policy"].split(";")
        if " " in rule.strip()
    )
    assert policy["default-src"] == "'none'"
    assert "script-src" not in policy
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy["style-src"] == f"'sha256-{digest}'"
    assert not re.search(r"<script|<form|<img| style=|https?:", answer.text)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert answer.headers["Content-Language"] == "en"
    assert answer.content_type == "text/html; charset=utf-8"
    assert "Set-Cookie" not in answer.headers
    assert '<html lang="en">' in answer.text


@pytest.mark.slow
def test_it_needs_no_token_and_what_is_asked_beside_it_is_nowhere(tmp_path: Path) -> None:
    """The service as it is run, where every caller of a hook must be known."""
    clients, log = tmp_path / "clients.yaml", tmp_path / "service.log"
    clients.write_text(
        "clients:\n"
        "  - issuer: https://ehr.example.org\n"
        "    jku: https://ehr.example.org/jwks.json\n"
        "    fhir_servers: [https://ehr.example.org/fhir/r4]\n"
    )
    own = {"CDS_AUTH": "required", "CDS_CLIENTS": str(clients), "CDS_METRICS": "true"}
    own["CDS_BASE_URL"] = "https://cds.example.org"
    with started("serve", port=free_port(), log=log, **own) as service:
        assert requests.get(f"{service.address}/cds-services", timeout=5).status_code == 401
        address = f"{service.address}/handouts/relaxation+breast-massage"
        plain = requests.get(address, timeout=5)
        named = requests.get(
            f"{address}?patient=Planted&name=Planted",
            headers={"Cookie": "name=Planted", "Referer": "https://ehr.example.org/Planted"},
            timeout=5,
        )
        encoded = requests.get(address.replace("+", "%2B"), timeout=5)
        refused = requests.get(f"{service.address}/handouts/Planted?name=Planted", timeout=5)
        metrics = requests.get(f"{service.address}/metrics", timeout=5).text
    assert plain.status_code == 200
    assert named.content == encoded.content == plain.content
    assert refused.status_code == 404
    written = log.read_text()
    assert '"service":"/handouts/<names>"' in written
    assert 'service="/handouts/<names>",status="404"' in metrics
    assert "Planted" not in plain.text + refused.text + written + metrics
