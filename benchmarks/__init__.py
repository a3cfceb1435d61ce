"""How fast the service is, beside the floor under it, in one run."""

from pathlib import Path

LAST = Path(__file__).parent / "last"  # what the last run has written, kept or not
