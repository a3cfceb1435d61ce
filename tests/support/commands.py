"""The commands, as they are called in a terminal."""

from __future__ import annotations

from click.testing import CliRunner

from cds_service.cli.__main__ import main


def run(*arguments: str, code: int = 0, **environment: str) -> str:
    result = CliRunner().invoke(main, arguments, env={"COLUMNS": "120", **environment})
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return str(result.output)
