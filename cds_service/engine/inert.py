"""Texts from records, made inert: no program that shows them makes a link of them.

Many programs that show a card turn text that looks like a link into one: ``example.com/x``, a mail
address, anything behind a scheme. Here a space is put into such text. An ordinary name keeps its
dots: in a dose, after an initial, at the end of a word.
"""

from __future__ import annotations

import re
import unicodedata

# Characters that browsers (in host names, UTS #46) or readers take for others, and these others.
_ALIKE = str.maketrans("．。｡․﹒＠﹫：﹕／", ".....@@::/")
_WORD = r"[^\W_]"
_HOST = r"(?:[^\W_]|[^\x00-\x7f\s])"  # also symbols and invisible characters
_MARKUP = re.compile(r"[|<>`*_~\[\]()#\\@]|/{2,}")
_ENTITY = re.compile(rf"&(?={_WORD}+;)")
_SCHEME = re.compile(rf"(?<=[^\W\d_]{_WORD}):(?=\S)")
_WWW = re.compile(r"(www)\.(?=\S)", re.IGNORECASE)
_QUARTETS = re.compile(r"(?<![\w.])((?:\d{1,3}\.){3})(?=\d{1,3}(?!\w|\.\d))")  # of an IPv4 address
_DOT = re.compile(rf"(?<={_HOST})\.(?=({_HOST}+))")
_INITIAL = re.compile(rf"(?<![\w-]){_WORD}")

# Top-level domains of three and more letters: before one of them, even a single letter is a host
# (``x.com``). Those of two letters are not listed, because any two letters are taken for one.
_ENDINGS = frozenset(
    re.findall(
        r"\w+",
        "academy aero agency app art asia bank beauty best bio biz blog bot care cash cat center "
        "church city click clinic cloud club coach com community company coop dental design dev "
        "digital directory doctor download education edu email energy events expert express family "
        "farm fashion finance fit fitness foundation fun fund fyi gallery game games gift global "
        "gov group guide guru hair health healthcare help hospital host house icu info ink "
        "institute int international jobs land law legal life link live loan lol love ltd "
        "management market marketing med media medical men mil mobi money mom monster museum name "
        "net network new news now one online org page party pharmacy photos pics plus post press "
        "pro properties pub quest racing red rehab rent report rest review reviews rocks run sale "
        "school science security services sex sexy shop site skin social software solutions space "
        "store stream studio support surgery systems team tech technology tel tips today tools top "
        "town toys training travel trust university vip vision watch web webcam website wiki win "
        "work works world wtf xxx xyz yoga you zip zone",
    )
)


def one_line(text: str) -> str:
    """A text on one line without Markdown or HTML, for example the name of a file.

    Control characters, and those that change the direction of writing, are left out.
    """
    if not text.isascii():
        text = text.translate(_ALIKE)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in text)
    return " ".join(_ENTITY.sub("& ", _MARKUP.sub(" ", text)).split())


def inert(text: str) -> str:
    """A text on one line (``one_line``), with spaces so that no program makes a link of it."""
    text = one_line(text)
    if ":" in text:
        text = _SCHEME.sub(": ", text)
    if "." in text:
        text = _QUARTETS.sub(r"\1 ", _WWW.sub(r"\1. ", text))
        text = _DOT.sub(_split_host, text)
    return " ".join(text.split())


def _split_host(dot: re.Match[str]) -> str:
    """What replaces a dot in a word: a dot, with a space behind it if a host name may have it."""
    ending = unicodedata.normalize("NFKC", dot[1]).lower()
    if len(ending) == 1 or any(letter.isdigit() for letter in ending):
        return "."  # no host name ends like this
    is_initial = _INITIAL.fullmatch(dot.string, max(0, dot.start() - 1), dot.start()) is not None
    return "." if is_initial and len(ending) > 2 and ending not in _ENDINGS else ". "
