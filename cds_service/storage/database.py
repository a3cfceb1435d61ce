"""The database: data that all workers and machines share.

It stores which tokens were used, which cards were shown, and the feedback on them. SQLite is enough
for one machine; several machines share a PostgreSQL. No patient is named in it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, TypedDict

import orjson
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DisconnectionError, IntegrityError, SQLAlchemyError

from ..errors import CannotStart
from ..limits.circuit import Circuit, CircuitOpenError
from ..limits.deadlines import until

MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_MS = 2000  # SQLite: how long to wait for a lock
# PostgreSQL: limits for a connection, for a lock, for a statement, and for a report.
CONNECT_SECONDS, LOCK_MS, STATEMENT_MS, LONG_MS = 2, 1000, 1500, 30_000
CUT_AFTER = 2.0  # seconds; a connection is cut if its server has not ended a statement by then
PING_SECONDS = 0.5  # for the answer of a connection that was idle
READY_FOR = 1.0  # seconds for which a positive readiness check is kept
CACHE_KB = 256  # SQLite: the cache of each connection
CONNECTIONS = 4  # per process
PURGE_EVERY = 256  # used tokens
HELD = 3780.0  # seconds that a used token is stored at least: no token is valid longer (``caller``)
INTERVAL = 60.0  # seconds, of ``LastingTime``
ONLY_OWNER = 0o600
IDLE = 1.0  # seconds without use after which a connection is checked, as it may have been cut

log = logging.getLogger("cds_service.database")

_tables = sa.MetaData()
_seen_tokens = sa.Table(
    "seen_tokens",
    _tables,
    sa.Column("token", sa.String(64), primary_key=True),
    sa.Column("expires", sa.BigInteger, nullable=False),
)
_feedback = sa.Table(
    "feedback",
    _tables,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("card", sa.Text, nullable=False),
    sa.Column("outcome", sa.String(10), nullable=False),
    sa.Column("occurred", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("suggestions", sa.Text, nullable=False),
    sa.Column("reason_system", sa.Text),
    sa.Column("reason_code", sa.Text),
    sa.Column("commented", sa.Boolean, nullable=False),
    sa.Column("comment", sa.Text),
)
_shown = sa.Table(
    "shown",
    _tables,
    sa.Column("uuid", sa.String(64), primary_key=True),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("card", sa.Text, nullable=False),
    sa.Column("about", sa.String(32), nullable=False),
    sa.Column("patient", sa.String(32), nullable=False),
    sa.Column("counts_for", sa.String(32), nullable=False),
    sa.Column("indicator", sa.String(8), nullable=False),
    sa.Column("interventions", sa.Text, nullable=False),
    sa.Column("offered", sa.Text, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("shown", sa.BigInteger, nullable=False),
)


class FeedbackRow(TypedDict):
    """The stored feedback on one card; times are in milliseconds since 1970."""

    key: str  # a later row with the same key replaces this one
    client: str
    tenant: str
    service: str
    card: str
    outcome: str
    occurred: int
    suggestions: str  # uuids, with a space between two
    reason_system: str | None
    reason_code: str | None
    commented: bool
    comment: str | None


class ShownRow(TypedDict):
    """The stored data of one shown card; times are in milliseconds since 1970.

    ``about``, ``patient``, ``counts_for`` and ``reasons`` are digests, or empty without a secret.
    """

    uuid: str
    client: str
    tenant: str
    service: str
    card: str
    about: str
    patient: str
    counts_for: str
    indicator: str
    interventions: str  # ids, with a space between two
    offered: str  # suggestions as uuid=interventions, with a space between two
    reasons: str  # with a space between two
    content: str
    shown: int


_TAKE_UPGRADE_LOCK = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(20260001)",
}
_upgrading = threading.Lock()  # Alembic can run only one upgrade at a time in a process
# Shown cards are stored in batches. PostgreSQL uses COPY, which takes less than half of the time of
# INSERT, unless a card of the batch is stored already. SQLite inserts several rows per statement:
# other threads can run between two statements, and one statement per row would take too long.
# SQLite caches statements in memory, so there are only two of them.
_COLUMNS = ", ".join(column.name for column in _shown.columns)
_values_of = itemgetter(*(column.name for column in _shown.columns))
_COPY_SHOWN = f"COPY shown ({_COLUMNS}) FROM STDIN"
_SHOWN_AS_JSON = sa.text(
    f"INSERT INTO shown ({_COLUMNS}) SELECT {_COLUMNS} "
    "FROM json_populate_recordset(CAST(NULL AS shown), CAST(:rows AS json)) "
    "ON CONFLICT DO NOTHING"
)
SEVERAL = 50  # rows
_PLACES = f"({', '.join('?' * len(_shown.columns))})"
_INSERT_ONE, _INSERT_SEVERAL = (
    f"INSERT INTO shown ({_COLUMNS}) VALUES {', '.join([_PLACES] * rows)} ON CONFLICT DO NOTHING"
    for rows in (1, SEVERAL)
)
_INSERT_TOKEN = sa.insert(_seen_tokens)  # made once, because every call uses it
_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class DatabaseError(Exception):
    """The database cannot be used; the message says why, without its address."""


class NoDatabaseError(DatabaseError, CannotStart):
    """There is no database to start with."""


class LastingTime:
    """The lowest time that the wall clock showed within the last ``HELD`` seconds.

    These seconds are counted by a monotonic ``clock``. The wall clock may be set forward and back:
    a token that had expired for a moment may be valid again. Only a token that expired before the
    lowest time can be deleted.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Of each interval of ``INTERVAL`` seconds: its start, and the lowest time within it.
        self._lowest: deque[tuple[float, float]] = deque()

    def see(self, now: float) -> None:
        """Note the time of the wall clock (seconds since 1970)."""
        ticks = self._clock()
        with self._lock:
            lowest = self._lowest
            if lowest and ticks - lowest[-1][0] < INTERVAL:
                start, low = lowest.pop()
                lowest.append((start, min(low, now)))
            else:
                lowest.append((ticks, now))
            while len(lowest) > 1 and ticks - lowest[1][0] >= HELD:
                lowest.popleft()

    @property
    def moment(self) -> float:
        """The lowest time (seconds since 1970); minus infinity until ``HELD`` seconds were seen."""
        with self._lock:
            if not self._lowest or self._clock() - self._lowest[0][0] < HELD:
                return float("-inf")
            return min(low for _, low in self._lowest)


class Database:
    """One database. Each process makes its own connections: a fork does not use its parent's.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._lasting = LastingTime(clock)
        self._engine: sa.Engine | None = None
        self._process = 0
        self._seen = 0
        self._token_circuit, self._feedback_circuit = Circuit(), Circuit()
        self._asking, self._ready_until = threading.Lock(), float("-inf")

    @property
    def engine(self) -> sa.Engine:
        """The connections of this process."""
        if self._engine is None or self._process != os.getpid():
            self._engine, self._process = _engine_of(self._url), os.getpid()
        return self._engine

    def upgrade(self) -> None:
        """Bring the tables to the state that this version needs. Raises ``NoDatabaseError``."""
        try:
            with _upgrading, self.engine.begin() as connection:
                # Several processes may start at once: one upgrades, and the others wait for it.
                _set_time_limit(connection, None)
                connection.execute(sa.text(_TAKE_UPGRADE_LOCK[connection.dialect.name]))
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError:
            raise NoDatabaseError("the database is of another version of this service") from None
        except (SQLAlchemyError, OSError, KeyError) as error:
            reason = f"the database of CDS_DATABASE_URL cannot be used ({type(error).__name__})"
            raise NoDatabaseError(reason) from None

    def is_ready(self) -> bool:
        """Whether the database has the tables of this version, and a token can be written.

        A positive result is kept for ``READY_FOR`` seconds.
        """
        with self._asking:
            if time.monotonic() >= self._ready_until and self._is_ready():
                self._ready_until = time.monotonic() + READY_FOR
            return time.monotonic() < self._ready_until

    def _is_ready(self) -> bool:
        token = {"token": uuid.uuid4().hex, "expires": 0}
        try:
            with (
                self._token_circuit.trying(),
                self.engine.begin() as connection,
                _cut_connection_after(connection),
            ):
                current = MigrationContext.configure(connection).get_current_revision()
                if current != ScriptDirectory.from_config(_config()).get_current_head():
                    return False
                connection.execute(_INSERT_TOKEN, token)
                connection.execute(
                    sa.delete(_seen_tokens).where(_seen_tokens.c.token == token["token"])
                )
        except (SQLAlchemyError, CircuitOpenError):
            return False
        return True

    def sees_first(self, issuer: str, jti: str, expires: float, now: float) -> bool:
        """Note that a token was used; whether no worker or machine has seen it before.

        ``expires`` and ``now`` are in seconds since 1970. The token is stored until it has expired,
        and at least for ``HELD`` seconds by the monotonic clock, even if the wall clock is set.
        Raises ``DatabaseError`` if the database cannot tell.
        """
        self._lasting.see(now)
        token = hashlib.sha256(f"{issuer}\0{jti}".encode()).hexdigest()
        try:
            # With autocommit, there is one round trip to the database instead of three.
            with (
                self._token_circuit.trying(),
                self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as alone,
                _cut_connection_after(alone),
            ):
                self._seen += 1
                if self._seen % PURGE_EVERY == 1:
                    past = self._lasting.moment
                    alone.execute(sa.delete(_seen_tokens).where(_seen_tokens.c.expires < past))
                try:
                    alone.execute(_INSERT_TOKEN, {"token": token, "expires": int(expires) + 1})
                except IntegrityError:
                    return False
        except (SQLAlchemyError, CircuitOpenError) as error:
            raise _failed(error) from None
        return True

    def keep_feedback(self, rows: Sequence[FeedbackRow], received: float) -> None:
        """Store rows of feedback, all or none; a row replaces an earlier one with the same key.

        There must be at least one row. ``received`` is in seconds since 1970. The rows are
        committed when this returns. Raises ``DatabaseError`` if they are not.
        """
        latest = {row["key"]: {**row, "received": int(received * 1000)} for row in rows}
        # Always in the same order, so that two calls cannot deadlock.
        values = [latest[key] for key in sorted(latest)]
        try:
            with (
                self._feedback_circuit.trying(),
                self.engine.begin() as connection,
                _cut_connection_after(connection),
            ):
                insert: Any = _INSERTS[connection.dialect.name](_feedback)
                new = {name: insert.excluded[name] for name in values[0] if name != "key"}
                connection.execute(
                    insert.on_conflict_do_update(index_elements=["key"], set_=new), values
                )
        except (SQLAlchemyError, CircuitOpenError, KeyError) as error:
            raise _failed(error) from None

    def keep_shown(self, document: bytes) -> None:
        """Store shown cards, a JSON array of ``ShownRow``. A card that is stored stays unchanged.

        The cards are committed when this returns. Raises ``DatabaseError`` if they are not.
        """
        try:
            _KEEPERS[self.engine.dialect.name](self.engine, document)
        except (SQLAlchemyError, KeyError, self.engine.dialect.loaded_dbapi.Error) as error:
            raise _failed(error) from None

    def feedback_since(self, moment: float) -> Sequence[Any]:
        """Feedback received since ``moment`` (seconds since 1970), with its card; oldest first.

        Only on cards with a digest of the patient, and only from the client and tenant to which
        the card was shown. Raises ``DatabaseError``.
        """
        wanted = (
            sa.select(
                _shown.c.patient,
                _shown.c.card,
                _shown.c.about,
                _shown.c.counts_for,
                _shown.c.uuid,
                _shown.c.indicator,
                _shown.c.reasons,
                _feedback.c.outcome,
                _feedback.c.occurred,
                _feedback.c.received,
                _feedback.c.reason_system,
                _feedback.c.reason_code,
            )
            .join(_feedback, _same_card(_feedback))
            .where(_feedback.c.received >= int(moment * 1000), _shown.c.patient != "")
            .order_by(_feedback.c.occurred)
        )
        return self._all(wanted)

    def what_came_of_cards(self, since: float) -> Sequence[Any]:
        """Counts of the cards shown since a moment (seconds since 1970), by their last feedback.

        Rows of ``card``, ``content``, ``client``, ``week`` (since 1970), ``outcome`` and
        ``reason_code`` (both ``None`` without feedback), and the count as ``cards``. Raises
        ``DatabaseError``.
        """
        last = _latest_feedback()
        week = (_shown.c.shown // (7 * 24 * 3600 * 1000)).label("week")
        of = (_shown.c.card, _shown.c.content, _shown.c.client, week)
        told = (last.c.outcome, last.c.reason_code)
        wanted = (
            sa.select(*of, *told, sa.func.count().label("cards"))
            .select_from(sa.outerjoin(_shown, last, _same_card(last)))
            .where(_shown.c.shown >= int(since * 1000))
            .group_by(*of, *told)
        )
        return self._all(wanted)

    def reasons_of_cards(self, cards: Iterable[str], since: float) -> Sequence[Any]:
        """The reasons of shown cards, as digests: of ``cards`` (ids) shown since a moment.

        ``since`` is in seconds since 1970. Rows of ``uuid`` and ``reasons``. Raises
        ``DatabaseError``.
        """
        wanted = sa.select(_shown.c.uuid, _shown.c.reasons).where(
            _shown.c.shown >= int(since * 1000), _shown.c.card.in_(list(cards))
        )
        return self._all(wanted)

    def what_came_of_interventions(self, since: float) -> Sequence[Any]:
        """Counts of the cards with interventions shown since a moment, by accepted suggestions.

        ``since`` is in seconds since 1970. Rows of ``interventions``, ``offered``, ``suggestions``
        (``None`` if none was accepted), and ``cards``, the number of cards for which these three
        are the same. Raises ``DatabaseError``.
        """
        last = _latest_feedback()
        same = sa.and_(_same_card(last), last.c.outcome == "accepted")
        taken = sa.case((last.c.suggestions.is_(None), ""), else_=_shown.c.offered)
        of = (_shown.c.interventions, taken.label("offered"), last.c.suggestions)
        wanted = (
            sa.select(*of, sa.func.count().label("cards"))
            .select_from(sa.outerjoin(_shown, last, same))
            .where(_shown.c.shown >= int(since * 1000), _shown.c.interventions != "")
            .group_by(*of)
        )
        return self._all(wanted)

    def _all(self, wanted: sa.Select[Any]) -> Sequence[Any]:
        try:
            with (
                self.engine.connect() as connection,
                _cut_connection_after(connection, LONG_MS / 1000 + 1),
            ):
                _set_time_limit(connection, LONG_MS)
                return connection.execute(wanted).all()
        except SQLAlchemyError as error:
            raise _failed(error) from None

    def forget_before(self, moment: float) -> dict[str, int]:
        """Delete cards shown and feedback received before ``moment`` (seconds since 1970).

        Returns the number of deleted rows by table. Raises ``DatabaseError``.
        """
        earlier = int(moment * 1000)
        try:
            with self.engine.begin() as connection:
                _set_time_limit(connection, None)
                return {
                    table.name: connection.execute(sa.delete(table).where(when < earlier)).rowcount
                    for table, when in ((_shown, _shown.c.shown), (_feedback, _feedback.c.received))
                }
        except SQLAlchemyError as error:
            raise _failed(error) from None


def _keep_in_postgresql(engine: sa.Engine, document: bytes) -> None:
    rows = orjson.loads(document)
    try:
        with engine.begin() as connection, _cut_connection_after(connection):
            cursor: Any = connection.connection.cursor()
            with cursor.copy(_COPY_SHOWN) as copy:
                for row in rows:
                    copy.write_row(_values_of(row))
    except engine.dialect.loaded_dbapi.IntegrityError:
        with engine.begin() as connection, _cut_connection_after(connection):
            connection.execute(_SHOWN_AS_JSON, {"rows": document.decode()})


def _keep_in_sqlite(engine: sa.Engine, document: bytes) -> None:
    values = [_values_of(row) for row in orjson.loads(document)]
    with engine.begin() as connection:
        while len(values) >= SEVERAL:
            several, values = values[:SEVERAL], values[SEVERAL:]
            connection.exec_driver_sql(_INSERT_SEVERAL, tuple(chain.from_iterable(several)))
        if values:
            connection.exec_driver_sql(_INSERT_ONE, values)


_KEEPERS = {"sqlite": _keep_in_sqlite, "postgresql": _keep_in_postgresql}


def _same_card(feedback: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether feedback is on a shown card, from the client and tenant to which it was shown."""
    return sa.and_(
        feedback.c.card == _shown.c.uuid,
        feedback.c.client == _shown.c.client,
        feedback.c.tenant == _shown.c.tenant,
    )


def _latest_feedback() -> sa.Subquery:
    """The latest feedback of each client and tenant on each card."""
    latest = (
        sa.func.row_number()
        .over(
            partition_by=(_feedback.c.client, _feedback.c.tenant, _feedback.c.card),
            order_by=_feedback.c.occurred.desc(),
        )
        .label("back")
    )
    told = sa.select(_feedback, latest).subquery()
    return sa.select(told).where(told.c.back == 1).subquery()


def _failed(error: Exception) -> DatabaseError:
    log.error("the database failed with %s", type(error).__name__)
    return DatabaseError("the database failed")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _set_time_limit(connection: sa.Connection, ms: int | None) -> None:
    """Set the time limit for the statements of a transaction; ``None`` is no limit."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SET LOCAL statement_timeout = {ms or 0}"))
        if ms is None:
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))


def _cut_connection_after(connection: sa.Connection, seconds: float = CUT_AFTER) -> Any:
    """Within the block, cut the connection after ``seconds``.

    A server that does not answer at all cannot end a statement at its own limit.
    """
    if connection.dialect.name != "postgresql":
        return nullcontext()
    return _cut_after(seconds, connection.connection.dbapi_connection)


@contextmanager
def _cut_after(seconds: float, driver: Any) -> Iterator[None]:
    with until(time.monotonic() + seconds) as asked:
        asked.cut = partial(_cut, driver)
        yield


def _cut(driver: Any) -> None:
    if not driver.closed:
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


def _engine_of(url: str) -> sa.Engine:
    try:
        is_sqlite = sa.make_url(url).get_backend_name() == "sqlite"
        # A few connections are enough for all threads: a call uses one for under a millisecond.
        engine = sa.create_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=(BUSY_MS if is_sqlite else LOCK_MS) / 1000,
            connect_args={} if is_sqlite else {"connect_timeout": CONNECT_SECONDS},
        )
    except (SQLAlchemyError, ImportError, TypeError) as error:
        reason = f"CDS_DATABASE_URL names no database ({type(error).__name__})"
        raise NoDatabaseError(reason) from None
    if engine.dialect.name == "sqlite":
        _restrict_to_owner(engine.url)
        _prepare_sqlite(engine)
    else:
        _limit_statements(engine)
        _check_idle_connections(engine)
    return engine


def _restrict_to_owner(url: sa.URL) -> None:
    """Let only the owner read and write a SQLite file and the files that SQLite makes beside it."""
    name = url.database or ""
    if name in ("", ":memory:") or name.startswith("file:"):
        return
    with suppress(OSError):  # SQLite will report the error
        os.close(os.open(name, os.O_RDWR | os.O_CREAT, ONLY_OWNER))
    for each in (name, f"{name}-wal", f"{name}-shm"):
        try:
            os.chmod(each, ONLY_OWNER)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("other users may be able to read the database: %s", error.strerror)


def _prepare_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()


def _limit_statements(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def bound(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {LOCK_MS}; SET statement_timeout = {STATEMENT_MS}")
        connection.commit()  # otherwise a rollback would undo the settings


def _check_idle_connections(engine: sa.Engine) -> None:
    """Check a connection before use if it was idle, and replace it if it was cut.

    A connection that was used a moment ago is not checked: a check takes as long as noting a token.
    """

    @sa.event.listens_for(engine, "checkin")
    def lay_down(_: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def take_up(connection: Any, record: Any, _: Any) -> None:
        used = record.info.get("used")
        if used is None or time.monotonic() - used < IDLE:
            return
        try:
            with _cut_after(PING_SECONDS, connection):
                engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            raise DisconnectionError from None  # the pool makes a new connection
