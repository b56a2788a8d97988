"""Start the private Airflow, end it, and look at it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import psutil

from private_airflow import keeper, processes
from private_airflow.installation import USER, Installation
from private_airflow.reporting import Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_TIMEOUT_SECONDS = 600.0
_STOP_TIMEOUT_SECONDS = 20.0
_POLL_SECONDS = 0.2
_HEALTH_TIMEOUT_SECONDS = 5


@dataclass(frozen=True)
class Component:
    """One of the components, as it is now."""

    name: str
    is_up: bool


def find_keeper(installation: Installation) -> psutil.Process | None:
    """The process that keeps the components running; ``None`` when Airflow does not run."""
    for process in processes.of_airflow(installation.home):
        with suppress(psutil.Error, OSError):
            # A session of its own: what it starts looks like it for the moment before its program begins.
            if process.cmdline()[-1:] == [keeper.COMMAND] and os.getsid(process.pid) == process.pid:
                return process
    return None


def list_components(installation: Installation) -> list[Component]:
    """Every component: whether it answers or, if it has no address, has told the database that it lives."""
    with httpx.Client(timeout=_HEALTH_TIMEOUT_SECONDS) as http:
        health = _ask(http, f"{installation.url}/api/v2/monitor/health")
        up = {"api-server": health is not None}
        up["task-server"] = _ask(http, f"{installation.task_url}health") is not None
    found = find_keeper(installation)
    running = processes.components(found) if found else {}
    for name in ("scheduler", "dag-processor", "triggerer"):
        up[name] = (health or {}).get(name.replace("-", "_"), {}).get("status") == "healthy"
    return [Component(name, is_up and name in running) for name, is_up in up.items()]


def _ask(http: httpx.Client, url: str) -> dict[str, dict[str, str]] | None:
    try:
        answer = http.get(url).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


# ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────


def start(installation: Installation, report: Reporter | None = None) -> None:
    """Start what does not run yet, and wait until all components are healthy.

    Raises:
        SystemExit: When they do not come.
    """
    report = report or Reporter()
    with _alone(installation, report):
        if find_keeper(installation) is None:
            report.has_come(f"starting the private Airflow of {installation.home}")
            _end_leftovers(installation, report)
            _free_ports(installation, report)
            _make_database(installation, report)
            _start_keeper(installation)
    _wait_until_healthy(installation, report)


@contextmanager
def _alone(installation: Installation, report: Reporter) -> Iterator[None]:
    """Let nobody else start or end this Airflow meanwhile; the lock goes with the process that has it."""
    with (installation.home / "lock").open("a") as file:
        report.waits_for("another command that starts or ends this Airflow")
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            report.is_late()
            time.sleep(_POLL_SECONDS)
        yield


def _end_leftovers(installation: Installation, report: Reporter) -> None:
    """End components and tasks whose keeper was killed; trials go on, and are found again."""
    ended = processes.end(lambda: processes.of_airflow(installation.home))
    if ended:
        report.has_come(f"ended {ended} processes of this Airflow that had lost their keeper")


def _free_ports(installation: Installation, report: Reporter) -> None:
    deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS  # The connections of one that was killed may linger.
    while (taken := installation.taken_ports()) and time.monotonic() < deadline:
        report.waits_for(f"port {taken[0]}, which another program has")
        report.is_late()
        time.sleep(_POLL_SECONDS)
    if taken:
        installation.choose_other_ports()
        names = " and ".join(map(str, taken))
        report.has_come(f"another program has port {names}; from now on this Airflow is at {installation.url}")


def _make_database(installation: Installation, report: Reporter) -> None:
    home, log = installation.home / "airflow", installation.log("migrate")
    home.mkdir(exist_ok=True)
    passwords = home / "passwords.json"
    passwords.touch(mode=0o600)
    passwords.write_text(json.dumps({USER: installation.password}), encoding="utf-8")
    report.waits_for("the database", log)
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    with log.open("wb") as file, subprocess.Popen(
        command, env=installation.environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file
    ) as migration:  # fmt: skip
        try:
            while migration.poll() is None:
                report.is_late()
                time.sleep(_POLL_SECONDS)
        except BaseException:
            migration.kill()
            raise
    if migration.returncode != 0:
        raise SystemExit(f"Airflow's database could not be made: {keeper.last_line(log)}\nSee {log}")
    report.has_come("the database is ready")


def _start_keeper(installation: Installation) -> None:
    """Start the process that starts the rest, and wait until it can be found."""
    log = installation.log("keeper")
    log.write_bytes(b"")
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "private_airflow", keeper.COMMAND],
            env={**installation.environment(), "TRIALFLOW_PRIVATE_HOME": str(installation.home)},
            cwd=installation.home,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    while find_keeper(installation) is None and process.poll() is None:
        time.sleep(0.01)
    process.returncode = 0  # It lives on without us; nobody here waits for it.


def _wait_until_healthy(installation: Installation, report: Reporter) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    told, up = 0, set[str]()
    while time.monotonic() < deadline:
        told = _tell_of_failures(installation, report, told)
        components = list_components(installation)
        for component in components:
            if component.is_up and component.name not in up:
                report.has_come(f"{component.name} is up")
                up.add(component.name)
        missing = [component.name for component in components if not component.is_up]
        if not missing:
            _tell_of_failures(installation, report, told)  # One may have failed and come again since.
            return
        if find_keeper(installation) is None:
            raise SystemExit(f"Airflow was ended while it started; see {installation.log('keeper')}")
        report.waits_for(", ".join(missing), installation.log(missing[0]))
        report.is_late()
        time.sleep(_POLL_SECONDS)
    raise SystemExit(
        f"{', '.join(missing)} did not come within {_START_TIMEOUT_SECONDS:.0f} s, and will be tried further; "
        f"see {installation.log(missing[0])}; to end all: make down"
    )


def _tell_of_failures(installation: Installation, report: Reporter, told: int) -> int:
    """Repeat what the keeper has written since; gives how many of its lines were told by now."""
    with suppress(OSError):
        lines = installation.log("keeper").read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines[told:]:
            report.has_come(line)
        return len(lines)
    return told


# ── ending ───────────────────────────────────────────────────────────────────────────────────────────────────────


def stop(installation: Installation, report: Reporter | None = None) -> None:
    """End the components, every task of theirs, and every local trial; no effect while none runs."""
    report = report or Reporter()
    with _alone(installation, report):
        process = find_keeper(installation)
        if process is not None:
            report.has_come(f"ending the private Airflow of {installation.home}")
            _end_keeper(installation, process, report)
        killed = processes.end(lambda: processes.of_airflow(installation.home))
        trials = processes.end(lambda: processes.of_experiments(installation.home))
        if killed or trials:
            report.has_come(f"killed {killed} processes of Airflow and {trials} of experiments that were left")
        report.has_come("nothing of it runs" if process or killed or trials else "no private Airflow runs")


def _end_keeper(installation: Installation, process: psutil.Process, report: Reporter) -> None:
    """Let the keeper end its components; kill its process group when that takes too long."""
    running = processes.components(process)
    with suppress(psutil.Error):
        process.terminate()
    deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
    while _lives(process) and time.monotonic() < deadline:
        for name in [name for name, component in running.items() if not _lives(component)]:
            report.has_come(f"{name} has ended")
            del running[name]
        report.waits_for(", ".join(running) or "the keeper", installation.log(next(iter(running), "keeper")))
        report.is_late()
        time.sleep(_POLL_SECONDS)
    if _lives(process):  # While it lives, nobody else has its group's number.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for name in running:
        report.has_come(f"{name} has ended")


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
