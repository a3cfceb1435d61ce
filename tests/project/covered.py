"""Whether each line of what was measured is run by a test: ``make coverage``.

``python -m tests.project.covered FILE`` reads the JSON of pytest-cov. It prints each line that no
test runs, and fails if there is one; what is left of branches stands in the table of pytest-cov.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def lines_without_a_test(measured: Path) -> list[str]:
    """Each line that was not run, as ``file:line``."""
    files = json.loads(measured.read_text())["files"]
    return [f"{file}:{line}" for file, its in files.items() for line in its["missing_lines"]]


if __name__ == "__main__":
    left = lines_without_a_test(Path(sys.argv[1]))
    if left:
        sys.exit("No test runs\n" + "\n".join(left))
