"""What many of the unit tests share."""

from __future__ import annotations

import signal
import tempfile
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

_database_numbers = count()


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fails a test that is held up, instead of waiting for it."""

    def fail(*_signal: object) -> None:
        raise TimeoutError("it was held up")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The socket folder of a server of our own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It may not like the machine's XDG_RUNTIME_DIR.
        import pgserver
    # A short path, for a socket's name is limited; as root the server runs as a user of its own, who has to get there.
    with tempfile.TemporaryDirectory(prefix="trialflow-pg-") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder) / "data"
        server = pgserver.get_server(data, cleanup_mode=None)
        socket_folder = str(server.get_postmaster_info().socket_dir)
        with admin_engine(socket_folder).connect() as connection:
            # No test cuts the power.
            connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        yield socket_folder
        # At once, for nobody will read what it keeps; an orderly end takes it up to 20 seconds.
        postmaster = server.get_postmaster_info().process
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(30)
        server.cleanup()


def admin_engine(socket_folder: str) -> sa.Engine:
    url = f"postgresql+psycopg://postgres@/postgres?host={socket_folder}"
    return sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    folder = request.getfixturevalue("postgresql")
    name = f"test_{next(_database_numbers)}"
    with admin_engine(folder).connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    return f"postgresql+psycopg://postgres@/{name}?host={folder}"
