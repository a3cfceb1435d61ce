"""The store, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import itertools
import os
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy

from cds_service.access.caller import LEEWAY, LONGEST_LIFE
from cds_service.errors import CannotStart
from cds_service.storage.database import HELD, STATEMENT_MS, Database, DatabaseError, _shown
from tests.storage.nothing_lost import lose_nothing
from tests.support.postgresql import locked, new_database, postgresql_server
from tests.support.waiting import at_once, soon

pytestmark = pytest.mark.slow

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    with postgresql_server() as running:
        yield running.address


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.sqlite3"
    return new_database(request.getfixturevalue("server"))


def upgraded(url: str) -> Database:
    database = Database(url)
    database.upgrade()
    return database


def rows(url: str, table: str) -> list[Any]:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        found = list(connection.execute(sqlalchemy.text(f"SELECT * FROM {table}")))
    engine.dispose()
    return found


def item(card: str, **members: Any) -> dict[str, Any]:
    return {
        "key": card,
        "client": "https://ehr.example.org",
        "service": "lactation-patient-view",
        "card": card,
        "outcome": "overridden",
        "occurred": 1_768_478_340_000,
        "suggestions": "",
        "reason_system": None,
        "reason_code": None,
        "commented": False,
        "comment": None,
    } | members


def test_a_new_database_is_made_ready_and_stays_so(url: str) -> None:
    assert not Database(url).is_ready()
    for _ in range(2):
        assert upgraded(url).is_ready()


@pytest.mark.parametrize("before", ["nothing", "a file that all can read"])
def test_a_file_of_sqlite_is_its_owners_alone(tmp_path: Path, before: str) -> None:
    file = tmp_path / "own.sqlite3"
    if before != "nothing":
        engine = sqlalchemy.create_engine(f"sqlite:///{file}")
        with engine.begin() as connection:  # and stays open, as in another worker
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE mine (x)")
        for each in tmp_path.iterdir():
            each.chmod(0o644)
    database = upgraded(f"sqlite:///{file}")
    database.sees_first("a", "1", 9e9, 1e9)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes.keys() == {"own.sqlite3", "own.sqlite3-wal", "own.sqlite3-shm"}
    assert set(modes.values()) == {0o600}


def test_several_can_make_it_ready_at_once(url: str) -> None:
    program = "import sys; from cds_service.storage.database import Database as D; "
    program += "D(sys.argv[1]).upgrade()"
    started = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(4)]
    assert [process.wait(30) for process in started] == [0, 0, 0, 0]
    assert Database(url).is_ready()


def test_one_token_sent_to_eight_machines_at_once_is_seen_first_by_one(url: str) -> None:
    machines = [upgraded(url) for _ in range(8)]
    for number in range(5):
        first = at_once(
            8, lambda n, jti=f"jti-{number}": machines[n].sees_first("i", jti, 9e9, 1e9)
        )
        assert sorted(first) == [False] * 7 + [True]


def test_tokens_of_others_are_others(url: str) -> None:
    database = upgraded(url)
    assert database.sees_first("a", "1", 9e9, 1e9)
    assert database.sees_first("b", "1", 9e9, 1e9)
    assert not database.sees_first("a", "1", 9e9, 1e9)


def test_what_has_expired_is_forgotten(url: str) -> None:
    ticks = itertools.count(0, 30)
    database = Database(url, lambda: next(ticks))
    database.upgrade()
    for number in range(600):
        database.sees_first("a", str(number), 1000, 1000 + number * 30)
    assert len(rows(url, "seen_tokens")) < 100


@pytest.mark.parametrize("jump", [7200, -7200])
def test_a_used_token_is_held_as_long_as_it_lives_whatever_the_clock_is_set_to(
    url: str, jump: float
) -> None:
    """By the clock that nobody sets, too: also where the one that was set is set back."""
    ticks = 0.0
    database = Database(url, lambda: ticks)
    database.upgrade()
    assert database.sees_first("a", "mine", 1e9 + 300, 1e9)
    for ticks in range(600):  # its ten minutes
        database.sees_first("a", f"{ticks}", 1e9 + jump + ticks + 300, 1e9 + jump + ticks)
    assert not database.sees_first("a", "mine", 1e9 + 300, 1e9 + 300)


def test_one_who_starts_while_the_clock_is_wrong_forgets_nothing(url: str) -> None:
    assert upgraded(url).sees_first("a", "mine", 1e9 + 300, 1e9)
    assert upgraded(url).sees_first("a", "other", 1e9 + 7500, 1e9 + 7200)
    assert not upgraded(url).sees_first("a", "mine", 1e9 + 300, 1e9 + 60)


def test_no_token_lives_longer_than_it_is_held() -> None:
    assert HELD > LONGEST_LIFE + 2 * LEEWAY + 1


def test_feedback_is_kept_once_and_the_last_word_counts(url: str) -> None:
    database = upgraded(url)
    database.keep_feedback([item("a"), item("b"), item("b", reason_code="later")], 1e9)
    database.keep_feedback([item("a", outcome="accepted", suggestions="s")], 2e9)
    kept = {row.card: row for row in rows(url, "feedback")}
    assert (kept["a"].outcome, kept["a"].received) == ("accepted", 2_000_000_000_000)
    assert kept["b"].reason_code == "later"


def test_many_cards_are_kept_as_they_were_shown_and_once(url: str) -> None:
    database = upgraded(url)
    names = [str(column.name) for column in _shown.columns]
    shown = [
        {**dict.fromkeys(names, f"it's {n}, ÿ"), "uuid": f"card-{n}", "shown": n}
        | {"about": "", "patient": "p" * 32, "indicator": "info"}
        for n in range(1203)
    ]
    database.keep_shown(orjson.dumps(shown[:700]))
    database.keep_shown(orjson.dumps([{**row, "shown": -1} for row in shown[:10]] + shown[690:]))
    kept = {row.uuid: row._asdict() for row in rows(url, "shown")}
    assert kept == {row["uuid"]: row for row in shown}


def test_many_can_send_the_same_feedback_at_once(url: str) -> None:
    machines = [upgraded(url) for _ in range(6)]
    items = [item(str(number)) for number in range(50)]
    orders = [items, items[::-1], items[25:] + items[:25]] * 2
    at_once(6, lambda n: machines[n].keep_feedback(orders[n], 1e9))
    assert len(rows(url, "feedback")) == 50


def test_one_that_is_gone_is_said_and_comes_back(server: str) -> None:
    url = new_database(server)
    database = upgraded(url)
    assert database.sees_first("a", "1", 9e9, 1e9)
    name = url.rpartition("/")[2]
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
        assert not database.is_ready()
        with pytest.raises(DatabaseError):
            database.sees_first("a", "2", 9e9, 1e9)
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    database.upgrade()
    assert database.is_ready()
    assert database.sees_first("a", "2", 9e9, 1e9)


def cut_connections(server: str, database: Database) -> None:
    """End those that a database has, at its server."""
    cut = sqlalchemy.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
    )
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        name = database.engine.url.database
        assert connection.execute(cut, {"name": name}).rowcount >= 1
    engine.dispose()


def test_a_connection_that_was_cut_while_idle_is_replaced(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_service.storage.database.IDLE", 0.0)
    database = upgraded(new_database(server))
    assert database.sees_first("a", "before", 9e9, 1e9)
    cut_connections(server, database)
    assert database.sees_first("a", "after", 9e9, 1e9)


def test_one_that_was_cut_in_use_tells_one_call_and_no_other(server: str) -> None:
    database = upgraded(new_database(server))
    assert database.sees_first("a", "before", 9e9, 1e9)
    cut_connections(server, database)
    with pytest.raises(DatabaseError):
        database.sees_first("a", "at once", 9e9, 1e9)
    assert database.sees_first("a", "after", 9e9, 1e9)


@pytest.mark.parametrize(
    "url", ["nonsense", "oracle://x", "postgresql+psycopg://cds:secret@127.0.0.1:1/x"]
)
def test_one_that_is_none_is_said_without_its_address(url: str) -> None:
    with pytest.raises(DatabaseError) as error:
        upgraded(url)
    assert "secret" not in str(error.value)


def test_a_call_that_fails_is_not_taken_for_a_start_that_does(url: str) -> None:
    database = upgraded(url)
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE seen_tokens"))
    with pytest.raises(DatabaseError) as error:
        database.sees_first("a", "1", 9e9, 1e9)
    assert not isinstance(error.value, CannotStart)
    with pytest.raises(CannotStart):
        upgraded("nonsense")


def test_one_of_a_newer_version_is_said_to_be_so(url: str) -> None:
    upgraded(url)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(DatabaseError, match="of another version"):
        upgraded(url)


def test_what_was_acknowledged_is_stored_once_whatever_dies() -> None:
    told = lose_nothing(1500)
    assert len(told.acknowledged) == 1500
    assert told.stored == Counter(told.acknowledged)
    assert told.killed >= 3
    assert told.restarted >= 1


# --- one that is there, and does not do what is asked ---------------------------------------------


def took(do: Callable[[], Any]) -> tuple[bool, float]:
    """Whether it could be done, and after how many seconds that was known."""
    began = time.monotonic()
    try:
        do()
    except DatabaseError:
        return False, time.monotonic() - began
    return True, time.monotonic() - began


@pytest.mark.parametrize("table", ["seen_tokens", "feedback"])
def test_who_wants_what_is_locked_is_told_in_time_and_the_next_at_once(
    server: str, table: str
) -> None:
    database, numbers = upgraded(new_database(server)), itertools.count()

    def write() -> None:
        if table == "feedback":
            database.keep_feedback([item(str(next(numbers)))], 1e9)
        else:
            database.sees_first("a", str(next(numbers)), 9e9, 1e9)

    write()
    with locked(str(database.engine.url), table):
        first = at_once(16, lambda _: took(write))
        assert not any(done for done, _ in first)
        assert max(seconds for _, seconds in first) < 3
        later = [took(write) for _ in range(20)]
        assert not any(done for done, _ in later)
        assert sum(seconds for _, seconds in later) < 3
    soon(lambda: took(write)[0], within=3)
    assert all(took(write)[0] for _ in range(5))


def test_a_server_that_stands_still_is_left(server: str) -> None:
    """As one whose disk hangs: it does not end what it was asked, whatever its time is."""
    url = new_database(server)
    database = upgraded(url)
    assert database.sees_first("a", "before", 9e9, 1e9)
    engine = sqlalchemy.create_engine(server)
    with engine.connect() as connection:
        wanted = sqlalchemy.text("SELECT pid FROM pg_stat_activity WHERE datname = :name")
        found = connection.execute(wanted, {"name": url.rpartition("/")[2]}).scalars().all()
    engine.dispose()
    assert found
    for process in found:
        os.kill(process, signal.SIGSTOP)
    try:
        done, seconds = took(lambda: database.sees_first("a", "meanwhile", 9e9, 1e9))
    finally:
        for process in found:
            os.kill(process, signal.SIGCONT)
    assert not done
    assert seconds < 3
    soon(lambda: took(lambda: database.sees_first("a", "after", 9e9, 1e9))[0], within=3)


def test_a_report_may_take_longer_than_a_call(server: str) -> None:
    database = upgraded(new_database(server))
    rows = database._all(sqlalchemy.select(sqlalchemy.func.pg_sleep(STATEMENT_MS / 1000 + 0.3)))
    assert len(rows) == 1


def test_one_that_takes_no_writes_is_not_ready(server: str) -> None:
    """As a replica: what is kept there can be read, and no call be answered."""
    url = new_database(server)
    database = upgraded(url)
    assert database.is_ready()
    only_read = f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only"
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"{only_read} = on"))
        cut_connections(server, database)
        soon(lambda: not database.is_ready())
        with pytest.raises(DatabaseError):
            database.sees_first("a", "1", 9e9, 1e9)
        connection.execute(sqlalchemy.text(f"{only_read} = off"))
        cut_connections(server, database)
    engine.dispose()
    soon(database.is_ready)
    assert database.sees_first("a", "1", 9e9, 1e9)
