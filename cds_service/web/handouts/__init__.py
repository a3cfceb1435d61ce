"""Handouts: what the cards teach, as pages to be printed for the mother.

They contain texts of the content and no data of patients. So they need no token, and browsers may
cache them. Like all pages that are not hooks, they are logged and counted only if they are refused.
Only the path is read: a query is ignored, no cookie is set, and no script runs. The style sheet is
within the page, so that a saved copy looks the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Response, render_template
from markupsafe import Markup

from ...content.compiled import Content
from ...content.schema import Intervention
from ...errors import Refusal
from ..pages import protect

MOST_ON_ONE_PAGE = 20  # interventions on one handout
_STYLE = Path(__file__).with_name("handouts.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Content-Language": "en",
}
_STEP = re.compile(r"(?:^|(?<=[.!?])\s+)\d+\.\s+")  # "1. " at the start of a sentence


@dataclass(frozen=True, slots=True)
class Section:
    """The text of one intervention for the mother; with ``steps`` if the text is numbered."""

    id: str
    title: str
    text: str
    steps: list[str]


def handout_path(interventions: Sequence[str]) -> str:
    """The path of one page with these interventions, each once; each must have a handout.

    Raises ``ValueError`` if there are none, or more than ``MOST_ON_ONE_PAGE``.
    """
    if not 0 < len(interventions) <= MOST_ON_ONE_PAGE:
        raise ValueError(
            f"a handout has 1 to {MOST_ON_ONE_PAGE} interventions, not {len(interventions)}"
        )
    return f"/handouts/{'+'.join(dict.fromkeys(interventions))}"


def handouts(content: Content) -> Blueprint:
    """The pages under ``/handouts``, for anyone."""
    pages = Blueprint("handouts", __name__, url_prefix="/handouts", template_folder="templates")
    sections = {
        each.id: _section(each) for each in content.interventions.values() if each.has_handout
    }
    common = {"style": Markup(_STYLE), "version": content.version}

    protect(pages, f"style-src 'sha256-{_STYLE_HASH}'", "img-src data:", "form-action 'none'")

    @pages.after_request
    def allow_caching(response: Response) -> Response:
        if response.status_code == 200:  # a refusal has other headers
            response.headers.update(HEADERS)
        return response

    @pages.get("/", strict_slashes=False)
    def show_all() -> str:
        links = {handout_path([name]): section for name, section in sections.items()}
        return render_template("handouts.html", links=links, most=MOST_ON_ONE_PAGE, **common)

    @pages.get("/<names>")
    def show(names: str) -> str:
        wanted = names.split("+")
        if len(wanted) > MOST_ON_ONE_PAGE or not sections.keys() >= set(wanted):
            raise Refusal(404, "There is no such handout.", "not-found")
        return render_template(
            "handout.html", sections=[sections[name] for name in dict.fromkeys(wanted)], **common
        )

    return pages


def _section(intervention: Intervention) -> Section:
    text = " ".join(intervention.how.split())
    before, *steps = _STEP.split(text)
    title = intervention.title_for_mother or intervention.label
    return Section(intervention.id, title, text, [] if before else steps)
