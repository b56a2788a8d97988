"""Database engines whose transactions are safe against other processes on SQLite and PostgreSQL alike."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool
from sqlalchemy.util import LRUCache
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_random

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

# Longer than any other process is expected to hold the database; what waits longer fails and is retried by Airflow.
BUSY_TIMEOUT_SECONDS = 60


class _CompiledStatements(LRUCache[Any, Any]):
    """Compiled statements, shared by all engines of a process and by the processes that it forks.

    SQLAlchemy's keys begin with the engine's own dialect object. Here its name stands for it: what was compiled for one
    SQLite database fits every other one, so that a process forked after `preload` compiles almost nothing.
    """

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return super().get((key[0].name, *key[1:]), default)

    def __setitem__(self, key: tuple[Any, ...], value: Any) -> None:
        super().__setitem__((key[0].name, *key[1:]), value)


_COMPILED: dict[str, Any] = {"compiled_cache": _CompiledStatements(1000)}


@lru_cache(maxsize=8)
def get_engine(url: str) -> sa.Engine:
    """The engine for a database URL.

    On SQLite every transaction begins IMMEDIATE, so that a read inside it cannot be outdated by the write that
    follows, and readers never block (WAL). Connections are not pooled: Airflow forks, and a connection must not
    be shared across a fork.
    """
    if not url.startswith("sqlite"):
        return sa.create_engine(url, poolclass=NullPool, execution_options=_COMPILED)
    database = sa.engine.make_url(url).database
    if database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_SECONDS}, execution_options=_COMPILED
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def optuna_engine_arguments(url: str) -> dict[str, Any]:
    """Engine arguments with which Optuna's storage shares the database peacefully."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}, "execution_options": _COMPILED}
    return {"poolclass": NullPool, "execution_options": _COMPILED}


def commit_quickly(engine: sa.Engine) -> None:
    """Let an engine of Optuna's not wait for the disk at each commit, as ours do not; see `_configure_sqlite`."""
    if engine.dialect.name == "sqlite":
        engine.dispose()
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=NORMAL"))


def _configure_sqlite(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    # Of two processes that switch a new database at the same moment, SQLite refuses one at once: it does not wait here.
    retry(
        retry=retry_if_exception_message(message="database is locked"),
        wait=wait_random(0.005, 0.05),
        stop=stop_after_delay(BUSY_TIMEOUT_SECONDS),
        reraise=True,
    )(cursor.execute)("PRAGMA journal_mode=WAL")
    # A commit survives the death of any process; only a power cut may lose the last ones, never corrupt them.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
