"""Locks between processes, known by name, that the death of the holder releases."""

from __future__ import annotations

import fcntl
import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def named_lock(engine: sa.Engine, name: str) -> Iterator[None]:
    """Hold a lock.

    Blocks while another process holds it. On PostgreSQL this is an advisory lock of the session; on SQLite, whose
    processes share a machine, a lock on a file beside the database. Both end with the process that holds them, and
    neither is inherited by the processes that it starts.
    """
    if engine.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": key})
            yield
        return
    folder = Path(f"{engine.url.database}.locks")
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
