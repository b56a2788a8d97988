"""The folder of a private Airflow: its ports, its secrets, and the environment that makes a process belong to it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from private_airflow.processes import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
USER = "admin"
_STATE = "installation.json"
_PORTS = ("port", "task_port")


@dataclass(frozen=True)
class Installation:
    """One private Airflow; it may or may not be running.

    Args:
        home: Its folder.
        changes: Environment variables in which it differs from other private ones.
    """

    home: Path
    changes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, home: Path | None = None, changes: Mapping[str, str] | None = None) -> Installation:
        """The Airflow of a folder; the first call makes its keys and chooses free ports."""
        home = (home or Path(os.environ.get("TRIALFLOW_PRIVATE_HOME") or CHECKOUT / ".trialflow")).absolute()
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        installation = cls(home, changes or {})
        if not (home / _STATE).exists():
            made = {
                "password": secrets.token_urlsafe(12),
                "fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "jwt_secret": secrets.token_urlsafe(48),
                "api_secret": secrets.token_urlsafe(32),
            }
            installation._write({**{name: _free_port() for name in _PORTS}, "secrets": made})
        return installation

    @property
    def _state(self) -> dict[str, Any]:
        """Read each time, for a port may be chosen anew while this object lives."""
        state: dict[str, Any] = json.loads((self.home / _STATE).read_text(encoding="utf-8"))
        return state

    def _write(self, state: dict[str, Any]) -> None:
        partial = self.home / f"{_STATE}.{os.getpid()}"
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(state), encoding="utf-8")
        partial.replace(self.home / _STATE)

    @property
    def port(self) -> int:
        """Where the API server listens on 127.0.0.1."""
        return int(self._state["port"])

    @property
    def task_port(self) -> int:
        """Where the API server of the tasks listens."""
        return int(self._state["task_port"])

    @property
    def secrets(self) -> dict[str, str]:
        """Password and keys, made once per folder."""
        return dict(self._state["secrets"])

    def taken_ports(self) -> list[int]:
        """Those of its ports on which some process listens."""
        return [port for port in (self.port, self.task_port) if not _is_free(port)]

    def choose_other_ports(self) -> None:
        """Choose a free port for each that is taken; the rest of the folder stays as it is."""
        state = self._state
        others = {name: _free_port() for name in _PORTS if not _is_free(state[name])}
        self._write({**state, **others})

    def log(self, name: str) -> Path:
        """What a component, the keeper or the migration has written."""
        return self.home / f"{name}.log"

    @property
    def url(self) -> str:
        """Address of the UI and the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def task_url(self) -> str:
        """Address of what the tasks talk to."""
        return f"http://127.0.0.1:{self.task_port}/execution/"

    @property
    def store_url(self) -> str:
        """Address of Trialflow's store."""
        return f"sqlite:///{self.home / 'trialflow.db'}"

    @property
    def components(self) -> dict[str, list[str]]:
        """The ``airflow`` commands that run all the time.

        The API server has two processes. Where it logs who did what, it writes in its event loop; if a request of a
        task then holds SQLite's lock in the same process, that request cannot end, and both wait for the timeout.
        """
        return {
            "api-server": ["api-server", "--apps", "core"],
            "task-server": ["api-server", "--apps", "execution", "--port", str(self.task_port)],
            "scheduler": ["scheduler", "--skip-serve-logs"],
            "dag-processor": ["dag-processor"],
            "triggerer": ["triggerer", "--skip-serve-logs"],
        }

    @property
    def password(self) -> str:
        """Of the user ``admin``."""
        return self.secrets["password"]

    def settings(self) -> dict[str, str]:
        """The environment variables that make an ``airflow`` command belong to this Airflow."""
        home = self.home / "airflow"
        connection = {
            "conn_type": "http",
            "host": "127.0.0.1",
            "port": self.port,
            "login": USER,
            "password": self.password,
        }
        return {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "24",
            "AIRFLOW__CORE__FERNET_KEY": self.secrets["fernet_key"],
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": self.task_url,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            # More than the API server's 40 threads: it looks a token up in its event loop, and when that has to wait
            # for a connection, the requests that hold the connections cannot end (30 s of silence, then errors 500).
            "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "64",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": self.secrets["api_secret"],
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": self.secrets["jwt_secret"],
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            # So late may a supervisor notice the end of its task, which keeps a process busy and delays what waits.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW_CONN_TRIALFLOW_API": json.dumps(connection),
            "TRIALFLOW_HOME": str(self.home),
            "TRIALFLOW_STORE": self.store_url,
            "TRIALFLOW_API_CONNECTION": "trialflow_api",
        }

    def environment(self) -> dict[str, str]:
        """The whole environment for its processes.

        Nothing that is set for another Airflow counts, whose database, DAGs or logs it would touch; of what is set for
        Trialflow, all but what makes this installation.
        """
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
        # Airflow names its processes with setproctitle, which would overwrite the environment by which we know them.
        mark = {MARK: str(self.home), "SPT_NOENV": "1"}
        return {**outer, **self.settings(), **self.changes, "PATH": path, **mark}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
