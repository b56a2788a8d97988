"""Migrations: how a store that another version of Trialflow has made becomes one that this version reads.

`bring_up_to_date` runs whenever a process opens a store. One query tells it that nothing is to be done. Otherwise it
takes a lock that lasts as long as its transaction, so that a second process waits and then finds the work done; who
dies in between leaves the store as it was. Each file of ``versions`` is one step, in Alembic's form.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from trialflow.errors import StoreError
from trialflow.store.tables import HEAD, metadata, schema_version

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "trialflow_alembic"
# The first version that is kept up: stores that are older never left a developer's machine.
_OLDEST = "0005"
_LOCK_KEY = 7421
_version = sa.table(VERSION_TABLE, sa.column("version_num"))


def bring_up_to_date(engine: sa.Engine) -> None:
    """Make or migrate the tables of a store; costs one query when there is nothing to be done.

    Raises:
        StoreError: Another version of Trialflow made the store, from which no way leads to this one.
    """
    if _is_up_to_date(engine):
        return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
        version = _read_version(connection)
        if version is None:
            _make_tables(connection)
        elif version != HEAD:
            _migrate(connection, version)


def _is_up_to_date(engine: sa.Engine) -> bool:
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            return connection.execute(sa.select(_version.c.version_num)).scalar() == HEAD
    except DBAPIError as error:
        if "file is not a database" in str(error):
            raise StoreError(
                f"{engine.url.database} is no SQLite database; point TRIALFLOW_STORE at a new file, or restore a backup"
            ) from error
        return False  # It has no such table yet; what else is wrong shows again.


def _read_version(connection: sa.Connection) -> str | None:
    """The version of the store's tables; ``None`` for a database without any."""
    there = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE in there:
        found = connection.execute(sa.select(_version.c.version_num)).scalar()
    elif schema_version.name in there:
        number = connection.execute(sa.select(schema_version.c.version)).scalar()
        found = None if number is None else f"{number:04}"
    elif there.isdisjoint(metadata.tables):
        return None
    else:
        found = None
    if found is None:
        raise StoreError(
            "the database has tables of Trialflow and no word of their version, so it is no whole store; "
            "restore a backup, or point TRIALFLOW_STORE at a new database"
        )
    return str(found)


def _make_tables(connection: sa.Connection) -> None:
    from alembic import command

    metadata.create_all(connection)
    connection.execute(schema_version.insert().values(version=int(HEAD)))
    command.stamp(_config(connection), HEAD)


def _migrate(connection: sa.Connection, version: str) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version > HEAD:
        raise StoreError(
            f"the store has version {version}, and this Trialflow knows those up to {HEAD}; "
            "upgrade Trialflow here to the version that the other processes run"
        )
    if version not in known:
        raise StoreError(
            f"the store has version {version}, and migrations begin at {_OLDEST}; "
            "point TRIALFLOW_STORE at a new database"
        )
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        command.stamp(config, version)
    command.upgrade(config, HEAD)
    connection.execute(schema_version.update().values(version=int(HEAD)))


def _config(connection: sa.Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
