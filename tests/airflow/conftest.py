"""A real Airflow of the tests' own: its own database, scheduler, triggerer and API server, on 127.0.0.1."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from private_airflow.client import Client
from private_airflow.installation import CHECKOUT, Installation
from private_airflow.lifecycle import find_keeper, start, stop
from private_airflow.processes import components
from trialflow.records import Experiment, Trial
from trialflow.store import Store
from trialflow_airflow.identity import identify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DAG_ID = "nni_experiment"
# What a test waits for at most; nothing here takes half of it.
PATIENCE_SECONDS = 300.0
# A trial that takes its time.
SLOW = """
import time
import nni
nni.get_next_parameter()
time.sleep({seconds})
nni.report_final_result(1.0)
"""
# Recover from killed processes sooner than an installation, which takes minutes; a machine that is busy must not
# take a slow task for a dead one.
QUICK_RECOVERY = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
    # Three schedulers that look for work ten times a second would keep a processor busy.
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
}
# A user per role of Airflow's simple auth manager; their passwords are made when the API server starts.
ROLES = ("viewer", "user", "op", "admin")
USERS = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES)}
# A notifier that writes a line per notice to this file of the Airflow's folder.
NOTICES = "notices"
# Where the DAG of README writes what it was told, for the tests.
RETRAINED = "retrained"
# How tasks wait for a trial: all the time in the worker, or deferred to the triggerer at once.
WAYS = {"in-worker": "3600", "deferred": "0"}

NOOP = """
import nni
params = nni.get_next_parameter()
nni.report_final_result((params["x"] - 0.3) ** 2)
"""


@dataclass
class Run:
    """A triggered run and the experiment that it started."""

    lab: Lab
    run_id: str

    @property
    def experiment_id(self) -> str:
        return identify(DAG_ID, self.run_id).experiment_id

    @property
    def experiment(self) -> Experiment:
        return self.lab.store.get_experiment(self.experiment_id)

    @property
    def trials(self) -> list[Trial]:
        return self.lab.store.list_trials(self.experiment_id)

    def state(self, run_id: str | None = None) -> str:
        return str(self.lab.client.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id or self.run_id}")["state"])

    def task_instances(self, run_id: str | None = None) -> list[dict[str, Any]]:
        path = f"dags/{DAG_ID}/dagRuns/{run_id or self.run_id}/taskInstances"
        return list(self.lab.client.call("GET", path, params={"limit": 500})["task_instances"])

    def wait(self, run_id: str | None = None) -> str:
        """Wait until the run, or another one of the experiment, has ended; gives its state."""
        wait_until(lambda: self.state(run_id) in ("success", "failed"), f"run {run_id or self.run_id} to end")
        return self.state(run_id)

    def told(self) -> list[str]:
        """The state of every trial in the Optuna study."""
        import optuna

        study = optuna.load_study(study_name=self.experiment_id, storage=self.lab.store.url)
        return [trial.state.name for trial in study.get_trials(deepcopy=False)]


@dataclass
class Lab:
    """The Airflow, and what a test does with it."""

    installation: Installation
    client: Client
    store: Store

    def start(self, folder: Path, code: str = NOOP, **changes: Any) -> Run:
        """Write an experiment into ``folder`` and trigger it."""
        return self.trigger({"config": str(write_experiment(folder, code, **changes))})

    def trigger(self, conf: dict[str, Any]) -> Run:
        return Run(self, self.client.trigger(DAG_ID, conf))

    def web(self, role: str | None) -> httpx.Client:
        """A client of NNI's REST interface, logged in as the user of a role, or not at all."""
        client = httpx.Client(base_url=f"{self.installation.url}/api/v1/nni", timeout=60)
        if role is not None:
            passwords = json.loads((self.installation.home / "airflow" / "passwords.json").read_text())
            login = {"username": role, "password": passwords[role]}
            answer = httpx.post(f"{self.installation.url}/auth/token", json=login).raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    def dag_runs(self, dag_id: str, state: str) -> list[dict[str, Any]]:
        return list(self.client.call("GET", f"dags/{dag_id}/dagRuns", params={"state": state})["dag_runs"])

    def pools(self) -> dict[str, dict[str, Any]]:
        pools = self.client.call("GET", "pools", params={"limit": 100})["pools"]
        return {pool["name"]: pool for pool in pools}


def write_experiment(folder: Path, code: str = NOOP, **changes: Any) -> Path:
    """An experiment with one float to tune; ``changes`` replace keys of its file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trial.py").write_text(code)
    (folder / "search_space.json").write_text('{"x": {"_type": "uniform", "_value": [0, 1]}}')
    config = {
        "authorName": "tests",
        "experimentName": folder.name,
        "trialConcurrency": 2,
        "maxTrialNum": 4,
        "trainingServicePlatform": "local",
        "searchSpacePath": "search_space.json",
        "useAnnotation": False,
        "tuner": {"builtinTunerName": "TPE", "classArgs": {"optimize_mode": "minimize"}},
        "trial": {"command": "python3 trial.py", "codeDir": ".", "gpuNum": 0},
        **changes,
    }
    (folder / "config.yml").write_text(json.dumps(config))
    return folder / "config.yml"


def notifier(home: Path) -> dict[str, str]:
    """The settings by which an Airflow tells of experiments in its file."""
    head = "{{ notice.event }} {{ notice.experiment_id }} {{ notice.experiment_name }}"
    text = head + ": {{ notice.best and notice.best.value }}"
    kwargs = {"file": str(home / NOTICES), "text": text}
    notifiers = [{"path": "tests.airflow.file_notifier.FileNotifier", "kwargs": kwargs, "on": ["done"]}]
    return {"TRIALFLOW_NOTIFIERS": json.dumps(notifiers), "PYTHONPATH": str(CHECKOUT)}


def retrainer(home: Path) -> dict[str, str]:
    """The settings of an Airflow that also has README's DAG, which waits for the experiment `whole`."""
    text = (CHECKOUT / "README.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0].replace("digits", "whole")
    folder = home / "users-dags"
    folder.mkdir()
    (folder / "retrain.py").write_text(
        "from pathlib import Path\nfrom airflow.sdk import Asset, dag, task\n"
        f"def fit(**parameters): Path({str(home / RETRAINED)!r}).write_text(repr(parameters))\n{example}"
    )
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    folders = {"dags-folder": CHECKOUT / "dags", "users-dags": folder}
    bundles = [{"name": name, "classpath": local, "kwargs": {"path": str(path)}} for name, path in folders.items()]
    return {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles)}


def wait_until(condition: Callable[[], Any], what: str, timeout_seconds: float = PATIENCE_SECONDS) -> Any:
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_seconds:.0f} s in vain for {what}")
        time.sleep(0.1)
    return value


def trial_processes(folder: str) -> list[int]:
    """The living processes of an experiment's trials."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if f"{process.environ().get('NNI_SYS_DIR', '')}/".startswith(f"{folder}/"):
                found.append(process.pid)
    return found


def most_alive(trials: list[Trial]) -> int:
    """The largest number of jobs that were alive at one time."""
    events = [(trial.started_at, 1) for trial in trials] + [(trial.ended_at, -1) for trial in trials]
    alive = most = 0
    for _, change in sorted((at, change) for at, change in events if at is not None):
        alive += change
        most = max(most, alive)
    return most


def locked_store(lab: Lab) -> sqlite3.Connection:
    """Hold the store's write lock until the connection is closed."""
    connection = sqlite3.connect(lab.installation.home / "trialflow.db", timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def kill_component(installation: Installation, name: str) -> None:
    """Kill a component with everything below it, and wait until its keeper has started another one."""
    keeper = find_keeper(installation)
    assert keeper is not None
    component = components(keeper)[name]
    component.kill()
    wait_until(lambda: components(keeper).get(name) not in (None, component), f"another {name}", 20)


@contextmanager
def running_airflow(home: Path, **settings: str) -> Iterator[Lab]:
    """An Airflow with these settings; afterwards nothing of it is left."""
    installation = Installation.open(home, {**QUICK_RECOVERY, **USERS, **settings})
    try:
        start(installation)
        client = Client(installation)
        client.wait_for_dag(DAG_ID)
        yield Lab(installation, client, Store(f"sqlite:///{installation.home / 'trialflow.db'}"))
        client.close()
    finally:
        keeper = find_keeper(installation)
        stop(installation)
    assert processes_of(home, keeper and keeper.pid) == []


def processes_of(home: Path, session: int | None = None) -> list[int]:
    """The living processes that have to do with the Airflow of a folder, by their environment or their session."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            has_mark = any(value.startswith(str(home)) for value in process.environ().values())
            found += [process.pid] * (has_mark or os.getsid(process.pid) == session)
    return found


@pytest.fixture(scope="session", params=list(WAYS))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An Airflow whose tasks wait for trials in one of the two ways."""
    home = tmp_path_factory.mktemp("airflow")
    settings = {**notifier(home), **retrainer(home), "TRIALFLOW_WAIT_IN_WORKER_SECONDS": WAYS[request.param]}
    with running_airflow(home, **settings) as lab:
        yield lab
