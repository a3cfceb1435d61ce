"""The database: what must be known to all workers and machines alike.

Which tokens were seen, and what became of cards. SQLite is enough for one machine; several share a
PostgreSQL. No patient is named in it.
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
BUSY_MS = 2000  # of SQLite
# Of PostgreSQL: for a connection, for a lock, for a statement, for a report and the like.
CONNECT_SECONDS, LOCK_MS, STATEMENT_MS, LONG_MS = 2, 1000, 1500, 30_000
CUT_AFTER = 2.0  # seconds without any answer: a statement that its server does not end
PING_SECONDS = 0.5  # for a connection that was idle to answer
READY_FOR = 1.0  # seconds: it is asked no more often whether it is ready
CACHE_KB = 256  # of SQLite, a connection
CONNECTIONS = 4  # a process
PURGE_EVERY = 256  # tokens
HELD = 3780.0  # seconds that a used token is held at least: none lives longer, see ``caller``
LOOK_EVERY = 60.0  # seconds
ONLY_OWNER = 0o600
IDLE = 1.0  # seconds without use, after which a connection may have been cut

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
    """What is stored of the feedback on one card; times are in milliseconds since 1970."""

    key: str  # the same for what replaces it
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
    """What is stored of one card that was shown; times are in milliseconds since 1970.

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


_FIRST_IN_LINE = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(20260001)",
}
_upgrading = threading.Lock()  # Alembic knows one upgrade a process
# What was shown is kept by batches. PostgreSQL copies them, and only if one card is kept already
# takes them one by one: copying takes less than half of the time. SQLite takes several rows a
# statement: between two of them other threads have their turn, and one for each row would hold all
# up. What it has seen of statements it keeps in memory, so there are two only.
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
_SEE_TOKEN = sa.insert(_seen_tokens)  # made once: it is asked for at every call
_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class DatabaseError(CannotStart):
    """The database cannot be used; the message says why, without its address."""


class LastingTime:
    """The moment after which the wall clock has been for all of the last ``HELD`` seconds.

    Those seconds are by a monotonic ``clock``. A wall clock may jump: what had expired for a moment
    has not expired for good.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lowest: deque[tuple[float, float]] = deque()  # of each ``LOOK_EVERY``, by its start

    def see(self, now: float) -> None:
        """Note what the wall clock says."""
        ticks = self._clock()
        with self._lock:
            lowest = self._lowest
            if lowest and ticks - lowest[-1][0] < LOOK_EVERY:
                start, low = lowest.pop()
                lowest.append((start, min(low, now)))
            else:
                lowest.append((ticks, now))
            while len(lowest) > 1 and ticks - lowest[1][0] >= HELD:
                lowest.popleft()

    @property
    def moment(self) -> float:
        """The moment; without end in the past, until the clock was seen for so long."""
        with self._lock:
            if not self._lowest or self._clock() - self._lowest[0][0] < HELD:
                return float("-inf")
            return min(low for _, low in self._lowest)


class Database:
    """One database. Connections are made in the process that uses them: none outlives a fork.

    ``clock`` counts seconds, and is never set back.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._lasting = LastingTime(clock)
        self._engine: sa.Engine | None = None
        self._process = 0
        self._seen = 0
        self._tokens, self._told = Circuit(), Circuit()
        self._asking, self._ready_until = threading.Lock(), float("-inf")

    @property
    def engine(self) -> sa.Engine:
        """The connections of this process."""
        if self._engine is None or self._process != os.getpid():
            self._engine, self._process = _engine_of(self._url), os.getpid()
        return self._engine

    def upgrade(self) -> None:
        """Bring its tables to what this version needs. Raises ``DatabaseError``."""
        try:
            with _upgrading, self.engine.begin() as connection:
                # Several may start at once: one goes first, and the others find it done.
                _may_take(connection, None)
                connection.execute(sa.text(_FIRST_IN_LINE[connection.dialect.name]))
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError:
            raise DatabaseError("the database is of another version of this service") from None
        except (SQLAlchemyError, OSError, KeyError) as error:
            reason = f"the database of CDS_DATABASE_URL cannot be used ({type(error).__name__})"
            raise DatabaseError(reason) from None

    def is_ready(self) -> bool:
        """Whether it has the tables that this version needs, and takes what each call writes.

        If it does, it is not asked again for ``READY_FOR`` seconds.
        """
        with self._asking:
            if time.monotonic() >= self._ready_until and self._is_ready():
                self._ready_until = time.monotonic() + READY_FOR
            return time.monotonic() < self._ready_until

    def _is_ready(self) -> bool:
        token = {"token": uuid.uuid4().hex, "expires": 0}
        try:
            with self._tokens.trying(), self.engine.begin() as connection, _cut_late(connection):
                current = MigrationContext.configure(connection).get_current_revision()
                if current != ScriptDirectory.from_config(_config()).get_current_head():
                    return False
                connection.execute(_SEE_TOKEN, token)
                connection.execute(
                    sa.delete(_seen_tokens).where(_seen_tokens.c.token == token["token"])
                )
        except (SQLAlchemyError, CircuitOpenError):
            return False
        return True

    def sees_first(self, issuer: str, jti: str, expires: float, now: float) -> bool:
        """Note a token; whether it was seen for the first time, by any worker or machine.

        ``expires`` and ``now`` are in seconds since 1970. It is held until it has expired, and
        for ``HELD`` seconds by the monotonic clock at least, whatever is set meanwhile. Raises
        ``DatabaseError`` if that cannot be known.
        """
        self._lasting.see(now)
        token = hashlib.sha256(f"{issuer}\0{jti}".encode()).hexdigest()
        try:
            # A statement alone is its own transaction, and asks the database once, not three times.
            with (
                self._tokens.trying(),
                self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as alone,
                _cut_late(alone),
            ):
                self._seen += 1
                if self._seen % PURGE_EVERY == 1:
                    past = self._lasting.moment
                    alone.execute(sa.delete(_seen_tokens).where(_seen_tokens.c.expires < past))
                try:
                    alone.execute(_SEE_TOKEN, {"token": token, "expires": int(expires) + 1})
                except IntegrityError:
                    return False
        except (SQLAlchemyError, CircuitOpenError) as error:
            raise _failed(error) from None
        return True

    def keep_feedback(self, rows: Sequence[FeedbackRow], received: float) -> None:
        """Keep rows of feedback, all or none; one of the same key replaces what was told before.

        ``received`` is in seconds since 1970. When this returns, they are committed. Raises
        ``DatabaseError`` if they are not.
        """
        latest = {row["key"]: {**row, "received": int(received * 1000)} for row in rows}
        # Always in one order, so that two calls cannot wait for each other.
        values = [latest[key] for key in sorted(latest)]
        try:
            with (
                self._told.trying(),
                self.engine.begin() as connection,
                _cut_late(connection),
            ):
                insert: Any = _INSERTS[connection.dialect.name](_feedback)
                new = {name: insert.excluded[name] for name in values[0] if name != "key"}
                connection.execute(
                    insert.on_conflict_do_update(index_elements=["key"], set_=new), values
                )
        except (SQLAlchemyError, CircuitOpenError, KeyError) as error:
            raise _failed(error) from None

    def keep_shown(self, document: bytes) -> None:
        """Keep cards that were shown, a JSON array of ``ShownRow``; what is kept is not changed.

        When this returns, they are committed. Raises ``DatabaseError`` if they are not.
        """
        try:
            _KEEPERS[self.engine.dialect.name](self.engine, document)
        except (SQLAlchemyError, KeyError, self.engine.dialect.loaded_dbapi.Error) as error:
            raise _failed(error) from None

    def feedback_since(self, moment: float) -> Sequence[Any]:
        """Feedback received since ``moment`` (seconds since 1970), with the card that it is on.

        Only of cards with a digest of the patient, and only by the client and tenant to which the
        card was shown. The earliest first. Raises ``DatabaseError``.
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
        """What was shown since a moment (seconds since 1970), and the last word on it, counted.

        Rows of ``card``, ``content``, ``client``, ``week`` (since 1970), ``outcome`` and
        ``reason_code`` (none if nothing was told), and ``cards``. Raises ``DatabaseError``.
        """
        last = _last_words()
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
        """What stood behind some cards, by id, that were shown since a moment, in digests.

        Rows of ``uuid`` and ``reasons``. Raises ``DatabaseError``.
        """
        wanted = sa.select(_shown.c.uuid, _shown.c.reasons).where(
            _shown.c.shown >= int(since * 1000), _shown.c.card.in_(list(cards))
        )
        return self._all(wanted)

    def what_came_of_interventions(self, since: float) -> Sequence[Any]:
        """The interventions that were shown since a moment, with those taken, by card.

        Rows of ``interventions``, ``offered``, ``suggestions`` (none if none was accepted) and
        ``cards``, how many are alike. Raises ``DatabaseError``.
        """
        last = _last_words()
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
            with self.engine.connect() as connection, _cut_late(connection, LONG_MS / 1000 + 1):
                _may_take(connection, LONG_MS)
                return connection.execute(wanted).all()
        except SQLAlchemyError as error:
            raise _failed(error) from None

    def forget_before(self, moment: float) -> dict[str, int]:
        """Delete what was shown or told before ``moment``; how many of each.

        Raises ``DatabaseError``.
        """
        earlier = int(moment * 1000)
        try:
            with self.engine.begin() as connection:
                _may_take(connection, None)
                return {
                    table.name: connection.execute(sa.delete(table).where(when < earlier)).rowcount
                    for table, when in ((_shown, _shown.c.shown), (_feedback, _feedback.c.received))
                }
        except SQLAlchemyError as error:
            raise _failed(error) from None


def _keep_in_postgresql(engine: sa.Engine, document: bytes) -> None:
    rows = orjson.loads(document)
    try:
        with engine.begin() as connection, _cut_late(connection):
            cursor: Any = connection.connection.cursor()
            with cursor.copy(_COPY_SHOWN) as copy:
                for row in rows:
                    copy.write_row(_values_of(row))
    except engine.dialect.loaded_dbapi.IntegrityError:
        with engine.begin() as connection, _cut_late(connection):
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
    """Whether feedback is of a card that was shown, by the client and tenant it was shown to."""
    return sa.and_(
        feedback.c.card == _shown.c.uuid,
        feedback.c.client == _shown.c.client,
        feedback.c.tenant == _shown.c.tenant,
    )


def _last_words() -> sa.Subquery:
    """The last that each client and tenant told of each card."""
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


def _may_take(connection: sa.Connection, ms: int | None) -> None:
    """Let the statements of a transaction take longer than others; for as long as they want."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SET LOCAL statement_timeout = {ms or 0}"))
        if ms is None:
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))


def _cut_late(connection: sa.Connection, seconds: float = CUT_AFTER) -> Any:
    """Within it, a server that does not answer at all is left: it cannot end what it was asked."""
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
        # A few connections serve all threads: a call takes the database less than a millisecond.
        engine = sa.create_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=(BUSY_MS if is_sqlite else LOCK_MS) / 1000,
            connect_args={} if is_sqlite else {"connect_timeout": CONNECT_SECONDS},
        )
    except (SQLAlchemyError, ImportError, TypeError) as error:
        reason = f"CDS_DATABASE_URL names no database ({type(error).__name__})"
        raise DatabaseError(reason) from None
    if engine.dialect.name == "sqlite":
        _keep_to_owner(engine.url)
        _prepare_sqlite(engine)
    else:
        _bound_statements(engine)
        _look_at_idle_connections(engine)
    return engine


def _keep_to_owner(url: sa.URL) -> None:
    """Let only the owner read and write a file of SQLite; those beside it are made alike."""
    name = url.database or ""
    if name in ("", ":memory:") or name.startswith("file:"):
        return
    with suppress(OSError):  # SQLite will say so
        os.close(os.open(name, os.O_RDWR | os.O_CREAT, ONLY_OWNER))
    for each in (name, f"{name}-wal", f"{name}-shm"):
        try:
            os.chmod(each, ONLY_OWNER)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("others may read the database: %s", error.strerror)


def _prepare_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()


def _bound_statements(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def bound(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {LOCK_MS}; SET statement_timeout = {STATEMENT_MS}")
        connection.commit()  # else they hold until a rollback


def _look_at_idle_connections(engine: sa.Engine) -> None:
    """One that was idle is asked whether it is still there, and replaced if not.

    One in use is not: to ask it each time takes as long as to note a token.
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
            raise DisconnectionError from None  # it makes a new one
