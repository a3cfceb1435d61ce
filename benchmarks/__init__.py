"""How fast the service is, beside the floor under it, in one run."""

from pathlib import Path

LAST = Path(__file__).parent / "last"


def leave(name: str, text: str, kept: Path | None) -> None:
    """Write what a run has found to ``benchmarks/last`` and, if it is ``kept``, there too."""
    LAST.mkdir(exist_ok=True)
    for path in filter(None, (LAST / name, kept)):
        path.write_text(text)
