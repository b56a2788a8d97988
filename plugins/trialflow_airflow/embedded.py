"""A private Airflow for one person on one machine: SQLite, LocalExecutor, 127.0.0.1 only.

    python -m trialflow_airflow.embedded up | down | env

Everything it writes lies in one folder (TRIALFLOW_EMBEDDED_HOME, by default ``.trialflow`` in the checkout). Its
components run in one process group, which is ended as a whole: Airflow's own ``standalone`` leaves some behind. What
has left the group is known by a variable that these processes alone have: those of ``env`` are in people's shells, too.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from trialflow_airflow.identity import DAG_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
USER = "admin"
_START_TIMEOUT_SECONDS = 300.0
_PATIENCE_SECONDS = 20.0
_STOP_TIMEOUT_SECONDS = 20.0
_SHORTEST_LIFE_SECONDS = 10.0
# In the environment of its processes, and of no others: the folder of the Airflow that they belong to.
_MARK = "TRIALFLOW_KEEPER"


@dataclass(frozen=True)
class Embedded:
    """One private Airflow; it may or may not be running.

    Args:
        home: Its folder.
        port: Where its API server listens on 127.0.0.1.
        task_port: Where the API server of the tasks listens.
        secrets: Password and keys, made once per folder.
        changes: Environment variables in which it differs from other private ones.
    """

    home: Path
    port: int
    task_port: int
    secrets: Mapping[str, str]
    changes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, home: Path | None = None, changes: Mapping[str, str] | None = None) -> Embedded:
        """The Airflow of a folder; the first call makes its keys and chooses a free port."""
        home = home or Path(os.environ.get("TRIALFLOW_EMBEDDED_HOME", CHECKOUT / ".trialflow")).absolute()
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        file = home / "embedded.json"
        if not file.exists():
            state = {
                "port": _free_port(),
                "task_port": _free_port(),
                "secrets": {
                    "password": secrets.token_urlsafe(12),
                    "fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                    "jwt_secret": secrets.token_urlsafe(48),
                    "api_secret": secrets.token_urlsafe(32),
                },
            }
            partial = file.with_suffix(".new")
            partial.write_text(json.dumps(state), encoding="utf-8")
            partial.chmod(0o600)
            partial.replace(file)
        state = json.loads(file.read_text(encoding="utf-8"))
        return cls(home, state["port"], state["task_port"], state["secrets"], changes or {})

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
    def mark(self) -> str:
        """What stands in the environment of the processes of this Airflow, and of no others."""
        return f"{_MARK}={self.home}"

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
        mark = {_MARK: str(self.home), "SPT_NOENV": "1"}
        return {**outer, **self.settings(), **self.changes, "PATH": path, **mark}

    # ── starting and ending ──────────────────────────────────────────────────────────────────────────────────

    @property
    def group(self) -> int | None:
        """The process group of the running components; ``None`` when none runs."""
        try:
            group = int((self.home / "group").read_text())
            return group if self.mark.encode() in Path(f"/proc/{group}/environ").read_bytes().split(b"\0") else None
        except (OSError, ValueError):
            return None

    def start(self) -> None:
        """Make the database, start the components, and wait until they are healthy; no effect while they run."""
        if self.group is None:
            self._prepare()
            with (self.home / "keeper.log").open("wb") as log:
                keeper = subprocess.Popen(
                    [sys.executable, "-m", "trialflow_airflow.embedded", "keep"],
                    env=self.environment(),
                    cwd=self.home,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,
                )
            (self.home / "group").write_text(str(keeper.pid))
            while self.group is None and keeper.poll() is None:  # Its environment shows a moment after its start.
                time.sleep(0.01)
            keeper.returncode = 0  # It lives on without us; nobody here waits for it.
        self._wait_until_healthy()

    def _prepare(self) -> None:
        home = self.home / "airflow"
        home.mkdir(exist_ok=True)
        passwords = home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}), encoding="utf-8")
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS  # An API server that was killed may still be dying.
        while (taken := [port for port in (self.port, self.task_port) if not _port_is_free(port)]) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.2)
        if taken:
            raise SystemExit(f"port {taken[0]} is taken by another program; remove {self.home} to choose another")
        with (self.home / "migrate.log").open("wb") as log:
            done = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=self.environment(),
                stdout=log,
                stderr=log,
                check=False,
            )
        if done.returncode != 0:
            raise SystemExit(f"Airflow's database could not be made; see {self.home / 'migrate.log'}")

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self.group is None:
                raise SystemExit(f"Airflow ended while it started; see the logs in {self.home}")
            if self._is_healthy():
                return
            time.sleep(0.3)
        raise SystemExit(f"Airflow was not healthy after {_START_TIMEOUT_SECONDS:.0f} s; see the logs in {self.home}")

    def _is_healthy(self) -> bool:
        try:
            httpx.get(f"{self.task_url}health", timeout=5).raise_for_status()
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return False
        parts = ("scheduler", "dag_processor", "triggerer")
        return all(health.get(part, {}).get("status") == "healthy" for part in parts)

    def stop(self) -> None:
        """End the components, every task of theirs, and every local trial; no effect while none runs."""
        group = self.group
        if group is not None:
            _signal_group(group, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
            while _parents(group) and time.monotonic() < deadline:
                time.sleep(0.1)
            _signal_group(group, signal.SIGKILL)
        self._end_strays()
        (self.home / "group").unlink(missing_ok=True)

    def _end_strays(self) -> None:
        """Kill what has left the process group, as tasks, trials and hosts of own classes do."""
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while (strays := self._strays()) and time.monotonic() < deadline:
            for pid in strays:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def _strays(self) -> list[int]:
        """The living processes of this Airflow, known by their environment."""
        experiments = f"{self.home / 'experiments'}/"
        starts = (f"NNI_SYS_DIR={experiments}".encode(), f"TRIALFLOW_HOST={experiments}".encode())
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    environment = (entry / "environ").read_bytes().split(b"\0")
                    if self.mark.encode() in environment or any(item.startswith(starts) for item in environment):
                        found.append(int(entry.name))
        return found


def keep() -> None:
    """Run the components until this process is told to end; then end them all.

    A component that was killed is started again. One that ends soon after its start will do so again: then all end.
    """
    embedded = Embedded.open(Path(os.environ["TRIALFLOW_HOME"]))
    processes = {name: _start_component(embedded, name) for name in embedded.components}
    started = dict.fromkeys(processes, time.monotonic())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            time.sleep(0.5)
            for name in [name for name, process in processes.items() if process.poll() is not None]:
                if time.monotonic() - started[name] < _SHORTEST_LIFE_SECONDS:
                    return
                _end_orphans()
                processes[name], started[name] = _start_component(embedded, name), time.monotonic()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for process in processes.values():
            process.terminate()
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS / 2
        for process in processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        _signal_group(os.getpgrp(), signal.SIGKILL)


def _start_component(embedded: Embedded, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "airflow", *embedded.components[name]]
    with (embedded.home / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _end_orphans() -> None:
    """Kill what a killed component has left in our process group: its workers would wait for it for ever."""
    group = os.getpgrp()
    while True:
        parents = _parents(group)
        orphans = [pid for pid, parent in parents.items() if pid != group and parent not in parents]
        if not orphans:
            return
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _parents(group: int) -> dict[int, int]:
    """The living processes of a process group, each with its parent."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state != "Z":
                    parents[int(entry.name)] = int(parent)
    return parents


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Client:
    """The embedded Airflow's REST API, logged in."""

    def __init__(self, embedded: Embedded) -> None:
        self._http = httpx.Client(base_url=embedded.url, timeout=60)
        login = self._http.post("/auth/token", json={"username": USER, "password": embedded.password})
        login.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {login.json()['access_token']}"

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the API below ``/api/v2``; gives the decoded answer.

        Except for a POST, an error of the server is waited out: on SQLite, what Airflow notes of a request in its event
        loop may wait for the lock of another one until it fails.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        response = self._http.request(method, f"/api/v2/{path}", **arguments)
        while response.is_server_error and method != "POST" and time.monotonic() < deadline:
            time.sleep(0.5)
            response = self._http.request(method, f"/api/v2/{path}", **arguments)
        response.raise_for_status()
        return response.json() if response.content else None

    def wait_for_dag(self, dag_id: str, timeout_seconds: float = 90.0) -> None:
        """Wait until the DAG was parsed, and unpause it."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                self.call("PATCH", f"dags/{dag_id}", params={"update_mask": "is_paused"}, json={"is_paused": False})
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def trigger(self, dag_id: str, conf: dict[str, Any], run_id: str | None = None) -> str:
        """Trigger a run; gives its id."""
        body = {"conf": conf, "logical_date": None, **({"dag_run_id": run_id} if run_id else {})}
        return str(self.call("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])


def main() -> None:
    """The command line of this module."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command == "keep":
        keep()
        return
    embedded = Embedded.open()
    if command == "up":
        embedded.start()
        client = Client(embedded)
        client.wait_for_dag(DAG_ID)
        client.close()
        _print_access(embedded)
    elif command == "down":
        embedded.stop()
    elif command == "env":
        for name, value in embedded.settings().items():
            print(f"export {name}={shlex.quote(value)}")
    else:
        raise SystemExit(__doc__)


def _print_access(embedded: Embedded) -> None:
    print(f"Airflow runs at {embedded.url}; log in as {USER} with the password {embedded.password}")
    print(f"For nnictl: nnictl login {embedded.url} --user {USER}")
    print('For the airflow command: eval "$(make env)"; to end it: make down')


if __name__ == "__main__":
    main()
