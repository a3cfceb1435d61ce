"""A text from a record does nothing where a card is shown, and an ordinary name stays as it is."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st

from cds_service.content.compiled import Content
from cds_service.engine.medicines import plain
from tests.support.calls import VIEW
from tests.support.mothers import average, hook_request, medicine

ORDINARY = [
    "Co-codamol 30/500",
    "St. John's wort",
    "B.Braun",
    "B.BRAUN Sterofundin 1/1 E",
    "0.5 mg",
    "Insulin glargine 0.5mg/2.5 mL",
    "Adrenaline 1:10,000",
    "Dr. J.B. Chemicals, vit. B12",
    "Paracetamol 500 mg p.o. q.d.s.",
    "Johnson & Johnson's, 5% w/v",
    "Ibuprofène 400 mg – comprimé",
    "Магния сульфат 250 мг/мл",
    "パラセタモール",
    "Ferrous sulfate: 200 mg",
    "+ zinc ½ tab.",
]

LINKS = {
    "example.com/x": "example. com/x",
    "see www.example.org": "see www. example. org",
    "EXAMPLE.Co.UK": "EXAMPLE. Co. UK",
    "t.me/x": "t. me/x",
    "X.Com": "X. Com",
    "a.b.link/x": "a.b. link/x",
    "https://example.com/x": "https: example. com/x",
    "http://intranet/x": "http: intranet/x",
    "//intranet/x": "intranet/x",
    "mailto:her.doctor": "mailto: her. doctor",
    "tel:5550100": "tel: 5550100",
    "javascript:alert(1)": "javascript: alert 1",
    "doctor@example.com": "doctor example. com",
    "call @doctor": "call doctor",
    "192.0.2.7/x": "192.0.2. 7/x",
    "example\u200b.\u2060com": "example. com",
    "example\u3002com": "example. com",
    "ｘ．ｃｏｍ": "ｘ. ｃｏｍ",
    "пример.рф": "пример. рф",
    "x.xn--p1ai": "x. xn--p1ai",
    "i❤.ws/x": "i❤. ws/x",
    "example\u034f.com": "example\u034f. com",
    "example.ⓒⓞⓜ": "example. ⓒⓞⓜ",
    "~~not~~ for ~her~": "not for her",
    "example&period;com": "example& period;com",
    "nimesulide\u202egpj.exe": "nimesulidegpj. exe",
    "a\x00b\x1b[31mc\x7f": "ab 31mc",
    "one\r\ntwo\u2028three": "one two three",
    "\ud800x": "x",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert plain(name) == name


def test_the_medicines_of_the_content_keep_their_names(content: Content) -> None:
    for each in content.medicines.values():
        for name in (each.name, *each.names):
            assert plain(name, 200) == " ".join(re.sub("[()]", " ", name).split()), each.id


@pytest.mark.parametrize(("written", "shown"), LINKS.items())
def test_what_would_be_a_link_is_parted(written: str, shown: str) -> None:
    assert plain(written) == shown


# What programs make a link of: a scheme, "www.", mail, and a name with a known ending.
ENDINGS = ["com", "org", "net", "info", "de", "uk", "me", "app", "link", "health", "рф", "xn--p1ai"]
LINK = re.compile(
    rf"://|//\w|www\.\w|[^\W\d_][^\W_]:\S|@|\w\.(?:{'|'.join(ENDINGS)})(?![\w-])|"
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])",
    re.IGNORECASE,
)
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(ENDINGS),
        st.sampled_from([".", ".", "/", "//", ":", "@", "www.", "https://", "mailto:", "&period;"]),
        st.sampled_from(["\u200b", "\u202e", "\u2066", "\u200f", "\ufeff", "\x00", "\x1b", "\x85"]),
        st.sampled_from(
            ["．", "。", "＠", "／", "：", "x", "example", "B", "Braun", " ", "192.0.2.7"]
        ),
        st.characters(),
    ),
    max_size=20,
).map("".join)


@given(HOSTILE)
@example("x.&com")
@example("a " * 26 + "https://com")  # cut behind the scheme
def test_nothing_is_left_of_which_a_program_makes_a_link(text: str) -> None:
    shown = plain(text)
    assert not LINK.search(shown), shown
    unseen = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert not [c for c in shown if unicodedata.category(c) in unseen]
    assert not set("<>[]()`*_#|\\@") & set(shown)


WORDS = st.text("abcdefghijklmnopqrstuvwxyzéøüß-'", min_size=2, max_size=12)
DOSE = st.builds("{} {}".format, st.decimals(0, 1000, places=2), st.sampled_from(["mg", "mL", "%"]))


@given(st.lists(st.one_of(WORDS, DOSE, st.sampled_from(ORDINARY[:6])), min_size=1, max_size=3))
def test_a_name_of_words_and_doses_stays_as_it_is(parts: list[str]) -> None:
    name = " ".join(parts)
    assert plain(name, 1000) == name


def test_a_card_has_nothing_of_it(client: FlaskClient, content: Content) -> None:
    names = ["evil.example.com/x", "www.example.org", "a@example.org", "pill\u202etxt.exe"]
    taken: list[Any] = [medicine(medicationCodeableConcept={"text": name}) for name in names]
    answer = client.post(VIEW, json=hook_request(content, *average(), *taken)).get_json()
    text = str([[card["summary"], card["detail"]] for card in answer["cards"]])
    own = re.sub(r"\]\(https://[^)]*\)", "]", text)  # the links of the content
    assert "evil. example. com/x" in own
    assert not LINK.search(own.replace("LactMed:", "")), own
    assert "\\u202e" not in own
