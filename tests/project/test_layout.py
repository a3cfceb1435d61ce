"""How the tests stand: a folder for each package, and nothing taken from another test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.repository import ROOT

TESTS = ROOT / "tests"
OTHERS = {"benchmarks", "project", "support"}  # of no package


def imported(path: Path) -> Iterator[str]:
    """The full names of the modules, and of what is taken from them, that a file imports."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{name.name}" for name in node.names)


def test_nothing_is_imported_from_a_test() -> None:
    """What two tests need stands in ``tests/support``."""
    found = [
        (path.relative_to(ROOT).as_posix(), name)
        for folder in ("tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imported(path)
        if re.match(r"tests\.([a-z_]+\.)*(test_|conftest)", name)
    ]
    assert found == []


def test_each_folder_is_that_of_a_package() -> None:
    packages = {path.parent.name for path in (ROOT / "cds_service").glob("*/__init__.py")}
    folders = {path.parent.name for path in TESTS.glob("*/__init__.py")}
    assert folders - OTHERS <= packages
    assert folders >= OTHERS


def test_only_the_tests_of_single_modules_stand_beside_the_folders() -> None:
    modules = {path.stem for path in (ROOT / "cds_service").glob("*.py")}
    assert {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")} <= modules


def test_no_test_stands_where_it_is_not_looked_for() -> None:
    """A folder without ``__init__.py`` would let two files of one name hide each other."""
    for path in TESTS.rglob("test_*.py"):
        assert (path.parent / "__init__.py").exists(), path
