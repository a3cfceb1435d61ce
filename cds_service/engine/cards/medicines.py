"""Cards about the medicines that the patient takes: all of them, and the contraindicated ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...content.schema import BANDS
from ...content.wording import LONGEST_SUMMARY, as_sentence
from ..decision import CardDecision
from ..facts import MOST_REFERENCES
from ..medicines import TakenMedicine
from ..render import Prerendered, links_of
from .parts import (
    MOST_NAMES,
    MOST_WORDS,
    could_not_be_read,
    count_words,
    fit_names,
    how_matched,
    name_some,
    start_card,
    who_says,
    with_names,
)

if TYPE_CHECKING:
    from ...content.schema import Band, Card, Reading
    from ..findings import Findings

# How medicines that are named without a line are introduced, by band; and how others are counted.
REST_IS: dict[Band, str] = {
    "avoid": "To avoid",
    "ask-first": "Ask first about",
    "not-read": "Not read",
    "watch": "Watch the infant with",
    "compatible": "Compatible",
}
COUNTED_AS: dict[Band, str] = {
    "avoid": "to avoid",
    "ask-first": "to ask about",
    "not-read": "not read",
    "watch": "to watch the infant with",
    "compatible": "compatible",
}


def decide_medicines(
    card: Card, findings: Findings, prerendered: Prerendered
) -> CardDecision | None:
    """A card that lists the medicines that the patient takes, the worst first.

    At most ``MOST_NAMES`` are named with their band, the first of them with their lines; the
    others are counted by band. Medicines that were not read for milk are listed apart, and said to
    be so.
    """
    medicines = [(taken, *findings.read(taken)) for taken in findings.case.medicines]
    if not medicines:
        return None
    medicines.sort(key=lambda read: _rank_of_warning(card, read[0], read[1]))
    said: list[tuple[str, str, Band]] = []
    unread: list[str] = []
    for taken, band, reading in medicines:
        line = _say_of(taken, reading, findings)
        if line is not None:
            said.append((f"{taken.name}{how_matched(taken)}", line, band))
        elif taken.medicine is not None and not taken.part_of:
            unread.append(f"{taken.name}{how_matched(taken)}")
    unknown = [taken for taken, *_ in medicines if taken.medicine is None]
    in_part = [f"{taken.name} ({taken.read_in_part})" for taken in unknown if taken.left]
    searched = [taken.name for taken in unknown if taken.named and not taken.left]
    nameless = [taken.name for taken in unknown if not taken.named]
    named = [each for each in medicines if not each[0].part_of or each[1] != "not-read"]
    names = [taken.name for taken, *_ in named]
    summary = _warn(card, named) or with_names(card.summary.say(findings), names)
    opening = card.opening.say(findings) if card.opening else ""

    def also(most: int) -> list[str]:
        """What was not read or not identified, at most ``most`` of each kind by name."""
        lists = {
            "Not read, look up": unread,
            "Look up by name": in_part,
            "Not in our list, look up by name": searched,
            "No name was sent, ask what it is": nameless,
        }
        named = [
            f"{what}: {name_some(found, most)}." if found else "" for what, found in lists.items()
        ]
        return [*named, opening, could_not_be_read(findings.unread)]

    least = count_words(" ".join((summary, *_lines_of(said, 1))))
    paragraphs = fit_names(also, MOST_WORDS - least)
    words_left = MOST_WORDS - sum(count_words(text) for text in (summary, *paragraphs))
    made = start_card(card, findings, summary, [*_say_read(said, words_left), *paragraphs])
    if any(band == "avoid" or taken.has("lowers-supply") for taken, band, _ in medicines):
        made.indicator = "warning"
    for taken, _, reading in medicines:
        made.links |= prerendered.sources_of(taken, reading)
    made.because = [
        {
            "fact": "active-medicines",
            "value": taken.medicine.id if taken.medicine else taken.name,
            "band": band,
            "matched": taken.matched,
            "references": taken.references[:MOST_REFERENCES],
        }
        for taken, band, _ in medicines
    ]
    made.rows.update(row for m, *_ in medicines if m.medicine for row in m.medicine.rows)
    made.evidence = prerendered.backing(card).evidence
    return made


def decide_contraindicated(
    card: Card, findings: Findings, prerendered: Prerendered
) -> CardDecision | None:
    """A card about medicines that the patient takes in spite of a contraindication in the record.

    Interactions between such medicines have a card of their own (``decide_interactions``).
    """
    against = [
        (taken, present)
        for taken in findings.case.medicines
        if (intervention := findings.content.with_contraindications.get(taken.key)) is not None
        and (
            present := [
                each
                for each in findings.contraindications(intervention).present
                if each.of_her_record
            ]
        )
    ]
    if not against:
        return None
    (first, of_the_first), *others = against
    shorts = [each.short.say(findings) for each in of_the_first]
    names = [*shorts, *(taken.name for taken, _ in others)]
    said = f"{first.name}, which she takes"
    summary = with_names(said, names, len(shorts), card.summary.say(findings))
    lines = [
        as_sentence(f"- {taken.name}: her record has {', '.join(each.label for each in present)}")
        for taken, present in against
    ]
    paragraphs = [
        "\n".join(lines),
        card.opening.say(findings) if card.opening else "",
        could_not_be_read(findings.unread),
    ]
    sources = list(
        dict.fromkeys(name for _, present in against for each in present for name in each.evidence)
    )
    cited = prerendered.cited(sources)
    if card.cites and cited:
        paragraphs.append(f"Evidence: {', '.join(source.shortest for source in cited)}.")
    made = start_card(card, findings, summary, paragraphs)
    made.links = links_of(cited) if card.cites else {}
    made.because = [
        {
            "fact": "active-medicines",
            "value": taken.key,
            "finding": each.id,
            "matched": taken.matched,
            "references": taken.references[:MOST_REFERENCES],
        }
        for taken, present in against
        for each in present
    ]
    made.rows.update(row for _, present in against for each in present for row in each.rows)
    made.evidence = sources
    return made


def _rank_of_warning(card: Card, taken: TakenMedicine, band: Band) -> tuple[int, int, bool, str]:
    """The key to sort medicines on the card by: the first warning that applies, then the band."""
    own = (n for n, kind in enumerate(card.warnings) if kind == band or taken.has(kind))
    rank = next(own, len(card.warnings))
    return rank, BANDS.index(band), taken.medicine is None, taken.key


def _say_of(taken: TakenMedicine, reading: Reading, findings: Findings) -> str | None:
    """The line of a medicine, with its source; if it was not read, the start of its LactMed record.

    ``None`` if there is neither.
    """
    medicine, content = taken.medicine, findings.content
    if medicine is None:
        return None
    record = medicine.lactmed.id if medicine.lactmed is not None else ""
    if reading.line is None:
        summary = medicine.summary
        return f"not read by us. LactMed: {summary} {record}" if summary else None
    instead = f" {who_says(reading, content)} names {reading.instead} instead."
    where = record
    if reading.source in content.evidence:
        where = content.evidence[reading.source].shortest
    limits = medicine.say_limits(findings.jurisdiction)
    return f"{reading.line}{instead if reading.instead else ''} {where}{limits and f'. {limits}'}"


def _say_read(said: list[tuple[str, str, Band]], words_left: int) -> list[str]:
    """The lines of as many medicines as fit, one at least; then what is said of the others."""
    for count in range(min(len(said), MOST_NAMES), 1, -1):
        lines, rest = _lines_of(said, count)
        if count_words(f"{lines} {rest}") <= words_left:
            return [lines, rest]
    lines, rest = _lines_of(said, 1)
    if count_words(f"{lines} {rest}") > words_left:
        lines, rest = _lines_of(said, 1, named=1)
    return [lines, rest]


def _lines_of(
    said: list[tuple[str, str, Band]], count: int, named: int = MOST_NAMES
) -> tuple[str, str]:
    """The lines of the first ``count`` medicines, and a text about the others, by band.

    Medicines up to the place ``named`` are named there; those behind it are counted.
    """
    lines = "\n".join(f"- {name}: {line}" for name, line, _ in said[:count])
    rest: list[str] = []
    for band in BANDS:
        names = [name for name, _, of in said[count:named] if of == band]
        if names:
            rest.append(f"{REST_IS[band]}: {', '.join(names)}.")
    others = [band for *_, band in said[named:]]
    counts = [f"{others.count(band)} {COUNTED_AS[band]}" for band in BANDS if band in others]
    if counts:
        rest.append(f"Others: {', '.join(counts)}.")
    return lines, " ".join(rest)


def _warn(card: Card, medicines: list[tuple[TakenMedicine, Band, Reading]]) -> str:
    """The summary of the card about medicines: the first medicine of each warning, as far as fits.

    Each medicine is named once. "Compatible" is said only if all medicines are.
    """
    warning = ""
    left = [(taken, band) for taken, band, _ in medicines]
    for kind, says in card.warnings.items():
        own = [(taken, band) for taken, band in left if kind == band or taken.has(kind)]
        if not own or (kind == "compatible" and len(own) < len(medicines)):
            continue
        left = [(taken, band) for taken, band in left if kind != band and not taken.has(kind)]
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        joined = "" if says.startswith(":") else " "
        longer = f"{warning}{'; ' if warning else ''}{own[0][0].name}{more}{joined}{says}"
        if warning and len(longer) > LONGEST_SUMMARY:
            break
        warning = longer
    return warning
