"""Texts from elsewhere that do nothing where they are shown.

Many programs that show a card make links by themselves of what looks like one: ``example.com/x``,
an address of mail, whatever follows a scheme. Here that is parted by a space. An ordinary name
keeps its dots: of doses, of initials, at the end of a word.
"""

from __future__ import annotations

import re
import unicodedata

# Marks that are taken for others: by browsers in the name of a host (UTS #46), or by readers.
_ALIKE = str.maketrans("．。｡․﹒＠﹫：﹕／", ".....@@::/")
_WORD = r"[^\W_]"
_HOST = r"(?:[^\W_]|[^\x00-\x7f\s])"  # of a host: signs too, and marks that nobody sees
_MARKUP = re.compile(r"[|<>`*_~\[\]()#\\@]|/{2,}")
_ENTITY = re.compile(rf"&(?={_WORD}+;)")
_SCHEME = re.compile(rf"(?<=[^\W\d_]{_WORD}):(?=\S)")
_WWW = re.compile(r"(www)\.(?=\S)", re.IGNORECASE)
_QUARTETS = re.compile(r"(?<![\w.])((?:\d{1,3}\.){3})(?=\d{1,3}(?!\w|\.\d))")  # as IPv4 is written
_DOT = re.compile(rf"(?<={_HOST})\.(?=({_HOST}+))")
_INITIAL = re.compile(rf"(?<![\w-]){_WORD}")

# Endings of hosts after which even one letter before the dot makes a host, such as ``x.com``. Those
# of two letters are not listed: each is taken for one.
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
    """A text on one line without Markdown or HTML, as the name of a file is told.

    Control characters and those that turn the direction of writing are left out.
    """
    if not text.isascii():
        text = text.translate(_ALIKE)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in text)
    return " ".join(_ENTITY.sub("& ", _MARKUP.sub(" ", text)).split())


def inert(text: str) -> str:
    """``one_line`` of a text, of which no program makes a link."""
    text = one_line(text)
    if ":" in text:
        text = _SCHEME.sub(": ", text)
    if "." in text:
        text = _QUARTETS.sub(r"\1 ", _WWW.sub(r"\1. ", text))
        text = _DOT.sub(_part_hosts, text)
    return " ".join(text.split())


def _part_hosts(dot: re.Match[str]) -> str:
    """A dot within a word, with a space behind it unless it cannot be one in the name of a host."""
    ending = unicodedata.normalize("NFKC", dot[1]).lower()
    if len(ending) == 1 or any(letter.isdigit() for letter in ending):
        return "."  # no host ends so
    is_initial = _INITIAL.fullmatch(dot.string, max(0, dot.start() - 1), dot.start()) is not None
    return "." if is_initial and len(ending) > 2 and ending not in _ENDINGS else ". "
