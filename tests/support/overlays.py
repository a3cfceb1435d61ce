"""A hospital's own content, changed while the service runs."""

from __future__ import annotations

import json
from pathlib import Path

import requests

from cds_service.content.compiled import Content
from cds_service.content.loader import load_content


def change(overlay: Path, title: str) -> str:
    """Another title of a card; the version of the content with it."""
    card = {"id": "inhibited-letdown", "title": title}
    (overlay / "own.yaml").write_text(json.dumps({"cards": [card]}))
    return load_content(overlay).version


def version_of(answer: requests.Response, first: Content) -> str:
    """The one version that made an answer: all its cards name it, and their words are its own."""
    cards = answer.json()["cards"]
    (version,) = {card["extension"]["org.lactation-cds"]["content"] for card in cards}
    titles = {card["source"]["topic"]["display"] for card in cards}
    assert ("Our own title" in titles) == (version != first.version)
    return str(version)
