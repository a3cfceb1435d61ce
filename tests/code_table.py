"""What is read from which codes, as a table made from the content.

``python -m tests.code_table`` writes it into ``docs/connect.md``, between its two marks.
"""

from __future__ import annotations

from pathlib import Path

from cds_service.codes import CodeSet
from cds_service.content import VALUE_SET, Content
from cds_service.content_loader import load_content

PAGE = Path(__file__).parent.parent / "docs" / "connect.md"
BEGIN, END = "<!-- codes: made by `make docs` -->\n", "<!-- end of codes -->\n"
MOST = 6  # codes of one system that are listed


def write_page(page: str, content: Content) -> str:
    """The page with the table of today's content."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + table(content) + END + after


def table(content: Content) -> str:
    """Facts, orders and feeds with their standard codes; then the facts that have none."""
    names = {fact.id: fact.label for fact in content.facts.values()}
    names |= {f"activity-{name}": a.label for name, a in content.interventions.items()}
    names |= {f"feed-{name}": f"{feed.name}, ordered" for name, feed in content.feeds.items()}
    lines = ["| what is read | standard codes |", "|---|---|"]
    without = []
    for name, label in names.items():
        codes = content.codes.get(VALUE_SET + name)
        if codes is not None:
            lines.append(f"| {label} (`{name}`) | {_in_words(codes, content)} |")
        elif name in content.facts:
            without.append(label)
    none = f"No standard code is read for: {', '.join(without)}."
    return "\n".join([*lines, "", none, ""])


def _in_words(codes: CodeSet, content: Content) -> str:
    ids = {system.url: system.id for system in content.systems.values()}
    systems = dict.fromkeys(url for url, _ in (*codes.concepts, *codes.families))
    said = []
    for url in systems:
        listed = [code for of, code in codes if of == url]
        more = f" and {len(listed) - MOST} more" if len(listed) > MOST else ""
        parts = [", ".join(listed[:MOST]) + more] if listed else []
        families = [
            f"{code}*" for (of, code), counts in codes.families.items() if of == url and counts
        ]
        parts += [", ".join(families)] if families else []
        out = [
            f"{code}*" for (of, code), counts in codes.families.items() if of == url and not counts
        ]
        without = f" without {', '.join(out)}" if out else ""
        said.append(f"{ids.get(url, url)}: {', '.join(parts)}{without}")
    return "<br>".join(said)


if __name__ == "__main__":
    PAGE.write_text(write_page(PAGE.read_text(), load_content()))
