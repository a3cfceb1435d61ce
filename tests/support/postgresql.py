"""A real PostgreSQL, started for the tests and ended with them."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import sqlalchemy

from tests.support.processes import free_port, lacking

NEEDED = "PostgreSQL's server is needed (Debian: postgresql)"


def programs() -> Path | None:
    """Where ``initdb`` and ``pg_ctl`` are, if they are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if on_path is not None:
        found.append(Path(on_path))
    return found[-1].parent if found else None


class Server(NamedTuple):
    """A server that runs: the address of its first database, and how to have it start again."""

    address: str
    restart: Callable[[], None]


@contextmanager
def postgresql_server(more: str = "", beside: Mapping[str, Path] = {}) -> Iterator[Server]:
    """A server with nothing in it.

    ``more`` are options, in which ``{home}`` is its own directory, and ``beside`` directories that
    are copied into that, for its user alone. Without the program, a test is skipped on a desk and
    fails in CI.
    """
    where = programs()
    if where is None:
        lacking(NEEDED)
    # It does not run as root; Debian's package brings a user for it.
    user = ["runuser", "-u", "postgres", "--"] if getpass.getuser() == "root" else []
    port, home = free_port(), Path(tempfile.mkdtemp(prefix="postgresql-"))
    if user:
        shutil.chown(home, "postgres")
    data = home / "data"

    def run(*command: str) -> None:
        subprocess.run([*user, *command], check=True, capture_output=True, cwd=home)

    for name, folder in beside.items():
        shutil.copytree(folder, home / name)
        if user:
            for each in (home / name, *(home / name).iterdir()):
                shutil.chown(each, "postgres")
    listen = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home}"
    options = f"{listen} {more.format(home=home)}"
    run(str(where / "initdb"), "-D", str(data), "-A", "trust", "-U", "cds", "--no-sync")
    control = (str(where / "pg_ctl"), "-D", str(data), "-w")
    begin = (*control, "-l", str(home / "log"), "-o", options)
    run(*begin, "start")
    address = f"postgresql+psycopg://cds@127.0.0.1:{port}/postgres"
    try:
        yield Server(address, lambda: run(*begin, "-m", "immediate", "restart"))
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


def new_database(server: str) -> str:
    """The address of a database that is new on this server."""
    name = f"test_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.rpartition("/")[0] + f"/{name}"


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """As a maintenance job would lock a table of PostgreSQL."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield
    engine.dispose()
