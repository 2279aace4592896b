"""The database of blind tests and votes: its tables, and one transaction per event.

store = open_store(workspace)          # FTLAB_DATABASE_URL, else SQLite in the workspace
with store.writing() as connection:    # all of it, or nothing
    connection.execute(...)

Times are UTC seconds. Ids are random, so that they reveal nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.schema import CreateColumn

from ftlab.core.files import is_full, locked, room_left, says_disk_full
from ftlab.core.words import install
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError, MissingPackage, shorten

DATABASE_VARIABLE = "FTLAB_DATABASE_URL"
BUSY_SECONDS = 30
_SCHEMA_LOCK = 7_150_716  # any number that no other user of the same PostgreSQL database takes

metadata = MetaData()


def _id() -> Column[str]:
    return Column("id", String(40), primary_key=True)


def _of(table: str, name: str, **options: Any) -> Column[str]:
    """A reference to a row of `table`, with cascading deletes."""
    return Column(
        name, String(40), ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=False, **{"index": True} | options
    )


def _of_test(name: str, *parts: Column[Any] | UniqueConstraint) -> Table:
    """A table whose rows each belong to one blind test."""
    return Table(name, metadata, _id(), _of("blind_tests", "test_id"), *parts)


blind_tests = Table(
    "blind_tests",
    metadata,
    _id(),
    Column("title", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("state", String(20), nullable=False),  # draft, generating, ready, open, closed
    Column("settings", JSON, nullable=False),
    Column("planned_votes", Integer, nullable=False),
    Column("plan", JSON),  # see handing_out.make_plan; null until the test is open
    Column("opened_at", Float),
    Column("closed_at", Float),
    Column("evidence_at", Float),  # when the anytime-valid criterion ended the wait for the planned number
    Column("opened_early_at", Float),
    Column("opened_early_votes", Integer),
    Column("open_link_key", String(40)),  # null: no open link
    # The source of sides and orders. Whoever has it knows which answer is whose, so it never leaves the database, and
    # an imported test gets its own. Null: created before there were secrets, see `draw_key`.
    Column("secret", String(64), default=lambda: new_secret()),
)

# The public columns of a test.
PUBLIC = [column for column in blind_tests.columns if column.name != "secret"]

contestants = _of_test(
    "contestants",
    Column("position", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("spec", JSON, nullable=False),
    UniqueConstraint("test_id", "position"),
)

prompts = _of_test(
    "prompts",
    Column("number", Integer, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("topic", Text),
    Column("fingerprint", String(16), nullable=False, index=True),
    Column("reference", Text),
    UniqueConstraint("test_id", "number"),
)

answers = Table(
    "answers",
    metadata,
    _id(),
    _of("prompts", "prompt_id"),
    _of("contestants", "contestant_id"),
    Column("text", Text, nullable=False),
    Column("tokens", Integer),
    Column("cut", Boolean, nullable=False),
    Column("seconds", Float),
    Column("flags", JSON, nullable=False),
    Column("turns", JSON(none_as_null=True)),  # of a conversation: [{"text", "tokens", "cut"}]; null: one answer
    UniqueConstraint("prompt_id", "contestant_id"),
)

raters = _of_test(
    "raters",
    Column("number", Integer, nullable=False),
    Column("pseudonym", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("revoked_at", Float),
    Column("open_link", Boolean, nullable=False),
    Column("came_from", String(16)),  # a keyed hash of the address that joined by the open link; null: unknown
    Column("voided_at", Float),  # when the owner excluded the votes; null: they count
    Column("group_name", String(40)),  # null: none
    Column("agreed_at", Float),  # when they agreed to the test's text of consent
    UniqueConstraint("test_id", "number"),
)

trials = _of_test(
    "trials",
    _of("raters", "rater_id"),
    _of("prompts", "prompt_id"),
    Column(
        "pair", String(20), nullable=False
    ),  # positions of the two contestants, the lower first: "0-1"; "0-1 repeat" if it is one
    _of("answers", "left_answer_id"),
    _of("answers", "right_answer_id"),
    Column("swapped", Boolean, nullable=False),  # whether the contestant with the lower position is on the right
    Column("place", Integer, nullable=False),  # its number for its rater, from 1; 0 if nobody was asked
    Column("created", Float, nullable=False),
    Column("control", String(20)),  # repeat or attention, see `controls`; null: its vote counts
    UniqueConstraint("rater_id", "prompt_id", "pair"),
)

votes = Table(
    "votes",
    metadata,
    _id(),
    _of("trials", "trial_id", unique=True, index=False),
    _of("raters", "rater_id"),
    Column("choice", String(20), nullable=False),  # left, right, both_good, both_bad, skip; tie if automatic
    Column("ratings", JSON, nullable=False),
    Column("comment", Text, nullable=False),
    Column("seconds", Float),
    Column("created", Float, nullable=False),
    Column("automatic", Boolean, nullable=False),
)

guesses = _of_test(
    "guesses",
    _of("raters", "rater_id"),
    _of("trials", "trial_id", unique=True, index=False),
    Column("side", String(20), nullable=False),
    Column("created", Float, nullable=False),
)

audit = _of_test(
    "audit",
    Column("at", Float, nullable=False),
    Column("what", Text, nullable=False),
    Column("detail", JSON, nullable=False),
)


class Turns:
    """A fair lock: first come, first served. Python's own makes no such promise, and a thread can starve under load."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()  # it stays locked, now by the next one
            else:
                self._taken = False


@dataclass(frozen=True)
class Store:
    """An open database of blind tests."""

    engine: Engine
    workspace: Workspace
    turn: contextlib.AbstractContextManager[None]

    @contextlib.contextmanager
    def writing(
        self, *, on_disk: bool = True, kept: Callable[[Connection], bool] | None = None
    ) -> Iterator[Connection]:
        """A transaction: committed when the block ends, rolled back if it raises.

        Without `on_disk`, SQLite does not wait for the disk: a power cut may lose the transaction, a killed app never
        does. The next transaction that waits also flushes it. `kept` checks whether it was stored if the database
        cannot tell; if so, this ends normally. Raises FtlabError, which says whether anything was changed.
        """
        with self.turn, self._connected() as connection:
            connection.execution_options(ftlab_on_disk=on_disk)
            with self._told():
                transaction = connection.begin()
            try:
                with self._told():
                    yield connection
            except BaseException:
                with contextlib.suppress(DBAPIError):
                    transaction.rollback()
                raise
            try:
                transaction.commit()
                if _in_place(connection):
                    return
                error: Exception = FtlabError("The blind test database was moved or deleted")
                undone = False
            except DBAPIError as failed:
                # SQLite still has it open, so it is not committed.
                error, undone = failed, bool(getattr(connection.connection, "in_transaction", False))
            with contextlib.suppress(DBAPIError):
                transaction.rollback()
            with contextlib.suppress(DBAPIError):
                connection.invalidate()
            if undone:
                raise _refusal(error, self._folder) from None
            self._look_after(error, kept)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view of the data, which blocks no writer."""
        with self._connected() as connection, self._told():
            yield connection.execution_options(ftlab_reads=True)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection to the current file of that name: a deleted file still accepts writes that nobody can read."""
        with self._told():
            _check_there(self.engine)
            connection = self.engine.connect()
            if not _in_place(connection):  # the file was replaced, for example from a backup
                connection.close()
                self.engine.dispose()
                connection = self.engine.connect()
        with connection:
            yield connection

    def _look_after(self, error: Exception, kept: Callable[[Connection], bool] | None) -> None:
        """Raise an error for a transaction whose commit failed with `error`; return if it was stored anyway."""
        there = None
        if kept is not None:
            with contextlib.suppress(FtlabError), self.reading() as connection:
                there = kept(connection)
        if there:
            return
        refusal = _refusal(error, self._folder)
        if there is None:
            what = refusal.what.replace(NOTHING_CHANGED, "") + "; this may or may not have been stored"
            raise FtlabError(what, why=refusal.why, try_="reload the page to see what is stored") from None
        raise refusal from None

    @property
    def _folder(self) -> Path:
        file = _file_of(self.engine)
        return file.parent if file else self.workspace.root

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Convert database errors to one clear message."""
        try:
            yield
        except IntegrityError:
            raise
        except (DatabaseError, NoConnection) as error:
            raise _refusal(error, self._folder) from None


NOTHING_CHANGED = "; nothing was changed"


def _refusal(error: Exception, folder: Path) -> FtlabError:
    """The message for an `error` that changed nothing. Raters see `what` and `try_`, the host sees everything."""
    if isinstance(error, FtlabError):
        return FtlabError(error.what + NOTHING_CHANGED, why=error.why, try_=error.try_ or "tell whoever runs this test")
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = str(cause).lower()
    if says_disk_full(cause) or ("disk i/o error" in text and is_full(folder)):
        return FtlabError(
            f"The disk with the blind tests is full{NOTHING_CHANGED}",
            why=room_left(folder),
            try_="tell the owner of this test. Once space is free, continue where you left off",
        )
    if "malformed" in text or "not a database" in text:
        return FtlabError(
            f"The blind test database is damaged{NOTHING_CHANGED}",
            why=f"{shorten(cause, 100)}; it is in {folder}",
            try_="restore it from a backup, or move it away: on the next start, the app creates an empty one",
        )
    return FtlabError(
        f"The blind test database does not respond{NOTHING_CHANGED}",
        why=shorten(cause, 200),
        try_="try again in a moment",
    )


def _file_of(engine: Engine) -> Path | None:
    """The file of a file-based database."""
    name = engine.url.database if engine.dialect.name == "sqlite" else None
    return Path(name) if name and not name.startswith((":memory:", "file:")) else None


def _check_there(engine: Engine) -> None:
    file = _file_of(engine)
    if file is not None and not file.exists():
        raise FtlabError(
            f"The blind test database is gone{NOTHING_CHANGED}",
            why=f"{file} no longer exists",
            try_="put the file back, or restart the app, which creates an empty one",
        )


def _in_place(connection: Connection) -> bool:
    """Whether the open files of `connection` still have their names: writes to other files are lost. Always true for a
    database server."""
    file = _file_of(connection.engine)
    if file is None:
        return True
    opened = connection.info.get("ftlab_files", {})
    return all(_identity(path) == known for path, known in opened.items())


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def open_store(workspace: Workspace, url: str | None = None) -> Store:
    """The database of `workspace`: `url`, else FTLAB_DATABASE_URL, else SQLite in the workspace. Created if missing.

    Raises InputError for an invalid URL, MissingPackage without its driver, FtlabError if it does not answer.
    """
    url = url or os.environ.get(DATABASE_VARIABLE) or f"sqlite:///{workspace.arena_database}"
    engine, turn = _engine(url, workspace.root, os.getpid())
    return Store(engine, workspace, turn)


def new_id() -> str:
    return secrets.token_urlsafe(12)


def new_secret() -> str:
    return secrets.token_hex(32)


def draw_key(secret: str | None, settings: Mapping[str, Any]) -> str | int:
    """The key for `handing_out.draw`, from `secret` and `settings` of a test. A test opened before secrets existed
    keeps its public seed."""
    return secret or int(settings.get("seed", 0))


def now() -> float:
    return time.time()


def storable(text: str) -> str:
    """`text` without what databases reject: NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def note(connection: Connection, test_id: str, what: str, /, **detail: Any) -> None:
    """Record an event of a test in the audit log."""
    connection.execute(audit.insert().values(id=new_id(), test_id=test_id, at=now(), what=what, detail=detail))


def _only_mine(file: str | None) -> None:
    """A new database is readable only by its owner: it holds the secrets that sides are drawn from. SQLite gives the
    accompanying files the same rights."""
    if file and not Path(file).exists() and Path(file).parent.is_dir():
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))


# Each process has its own connections. The key includes the process, because of forks.
@functools.lru_cache(maxsize=64)
def _engine(url: str, root: Path, process: int) -> tuple[Engine, contextlib.AbstractContextManager[None]]:
    named = "the database"
    try:
        # Hosting providers give postgres:// and postgresql:// URLs, for which libraries assume different drivers.
        address = make_url(url.replace("postgres://", "postgresql://", 1))
        named = address.render_as_string(hide_password=True)
        if address.drivername == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() == "sqlite":
            _only_mine(address.database)
            engine = create_engine(
                address,
                connect_args={"timeout": BUSY_SECONDS},
                pool_size=10,
                max_overflow=40,
                hide_parameters=True,
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            # Error texts may be logged: keep the written values out of them.
            engine = create_engine(address, pool_size=10, max_overflow=20, pool_pre_ping=True, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError):
        raise InputError(
            "The database address is not valid",
            given=named,
            allowed="postgresql://user:password@host/name, or sqlite:////folder/file.sqlite",
            try_=f"correct {DATABASE_VARIABLE}, or unset it to keep votes in the workspace",
        ) from None
    except ImportError as error:
        raise MissingPackage(
            f"This database needs a driver that is not installed ({shorten(error, 80)})",
            try_=install("postgres"),
        ) from None
    try:
        if not _is_current(engine):
            with locked(Workspace(root).arena_lock):
                if not _is_current(engine):  # nobody created them in the meantime
                    _make_tables(engine)
    except (DBAPIError, sqlite3.Error) as error:
        engine.dispose()
        raise FtlabError(
            f"The blind test database cannot be opened ({named})",
            why=shorten(error.orig if isinstance(error, DBAPIError) else error, 200),
            try_=f"check that it exists and is writable, or set {DATABASE_VARIABLE} to another one",
        ) from None
    # SQLite allows one write at a time, and polling can starve. So the threads of a process queue up instead.
    return engine, Turns() if engine.dialect.name == "sqlite" else contextlib.nullcontext()


def _is_current(engine: Engine) -> bool:
    with engine.connect() as connection:
        connection.execution_options(ftlab_reads=True)  # and does not wait for writers
        return set(metadata.tables) <= set(inspect(connection).get_table_names()) and not _later_columns(connection)


def _later_columns(connection: Connection) -> list[Column[Any]]:
    """The columns missing from tables of an older ftlab. All of them are nullable."""
    columns = []
    for table in metadata.sorted_tables:
        known = {column["name"] for column in inspect(connection).get_columns(table.name)}
        columns += [column for column in table.columns if column.name not in known]
    return columns


def _make_tables(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            # Stored in the file. If WAL is unavailable (some network drives), SQLite stays with its journal.
            driver = connection.connection.driver_connection
            assert driver is not None  # only None once the connection is closed
            driver.execute("PRAGMA journal_mode=WAL")
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
        metadata.create_all(connection)
        for column in _later_columns(connection):
            described = CreateColumn(column).compile(dialect=engine.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {described}")


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin in _begin_sqlite, not where the driver guesses
    connection.execute("PRAGMA foreign_keys=ON")
    file = Path(connection.execute("PRAGMA database_list").fetchone()[2])
    if file.name:
        record.info["ftlab_files"] = {file: _identity(file)}


def _begin_sqlite(connection: Connection) -> None:
    # A writer queues immediately: one that reads first may find that it can no longer write.
    options = connection.get_execution_options()
    if not options.get("ftlab_reads"):
        # An acknowledged vote survives even a power cut.
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get('ftlab_on_disk', True) else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN" if options.get("ftlab_reads") else "BEGIN IMMEDIATE")
    file = _file_of(connection.engine)
    if file is not None and not options.get("ftlab_reads"):
        # Writes go to this file first; it is open by now.
        wal = file.with_name(f"{file.name}-wal")
        if (opened := _identity(wal)) is not None:
            connection.info["ftlab_files"].setdefault(wal, opened)
