"""What a process is and holds, from /proc."""

from __future__ import annotations

from pathlib import Path


def children(process: int) -> list[int]:
    """The processes that one has started: the workers of a gunicorn."""
    return [
        int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


def resident(process: int) -> float:
    """Resident memory in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
