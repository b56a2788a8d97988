"""How long looking at a large experiment takes: 1000 trials with 100 intermediate metrics each, on a private Airflow.

    python bench/operating.py [ROUNDS]

Prints, for each thing that is looked at, the median and the worst of ROUNDS (10) tries in seconds, and for
commands the processor time as well: the clock also counts what else the machine does.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import sqlalchemy as sa

from private_airflow.client import Client
from private_airflow.installation import Installation
from private_airflow.lifecycle import start, stop
from trialflow.records import ExperimentStatus, MetricType, TrialStatus
from trialflow.store import Store
from trialflow.store.tables import metrics, trials
from trialflow.testing import make_spec

ID = "benchaaa"
DAG_ID = "nni_experiment"
TRIALS, METRICS = 1000, 100
AIMS = {"nnictl trial ls": 1.0, "metric-data": 0.5, "metric-data/TRIAL": 0.5, "metric-data-latest": 0.5}


def fill(store: Store) -> None:
    """Write a finished experiment, without running it."""
    store.create_experiment(ID, make_spec(max_trial_number=TRIALS), "/nowhere", DAG_ID)
    store.change_status(ID, ExperimentStatus.RUNNING, from_=[ExperimentStatus.INITIALIZED])
    now = time.time()
    rows = [
        {
            "experiment_id": ID, "id": f"t{number:04}", "number": number, "batch": 1, "slot": number, "run_id": "bench",
            "status": TrialStatus.SUCCEEDED, "attempt": 1, "claimed_at": now, "parameters": {"x": number / TRIALS},
            "job": {"folder": f"/nowhere/trials/t{number:04}/1"}, "started_at": now,
            "ended_at": now + 1, "reported_at": now + 1, "exit_code": 0, "value": number / TRIALS, "reason": "",
        }
        for number in range(TRIALS)
    ]  # fmt: skip
    reports = [
        {"experiment_id": ID, "trial_id": row["id"], "attempt": 1, "type": kind, "sequence": step, "value": step / 7,
         "at": now}
        for row in rows
        for kind, steps in ((MetricType.PERIODICAL, METRICS), (MetricType.FINAL, 1))
        for step in range(steps)
    ]  # fmt: skip
    engine = sa.create_engine(store.url)
    with engine.begin() as connection:
        connection.execute(trials.insert(), rows)
        connection.execute(metrics.insert(), reports)
    engine.dispose()


def measure(rounds: int, act: Callable[[], object]) -> list[float]:
    act()  # Once to warm up.
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        act()
        taken.append(time.perf_counter() - started)
    return taken


def report(name: str, taken: list[float], note: str = "") -> None:
    aim = f"aim {AIMS[name]:.1f}" if name in AIMS else ""
    print(f"{name:<32}{statistics.median(taken):8.3f}{max(taken):8.3f}   {aim:<9}{note}", flush=True)


def measure_commands(installation: Installation, rounds: int) -> None:
    nnictl = str(Path(sys.executable).with_name("nnictl"))
    environment = {**os.environ, "TRIALFLOW_CLI_CONFIG": str(installation.home / "nnictl.json")}
    login = [nnictl, "login", installation.url, "--user", "admin"]
    password = {"TRIALFLOW_PASSWORD": installation.password}
    subprocess.run(login, env={**environment, **password}, check=True, capture_output=True)
    for command in ("trial ls", "experiment list", "top", "--version"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        arguments = [nnictl, *command.split(), *([ID] if command in ("trial ls", "top") else [])]
        taken = measure(
            rounds, lambda given=arguments: subprocess.run(given, env=environment, check=True, capture_output=True)
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / (rounds + 1)
        report(f"nnictl {command}", taken, f"{seconds:.3f} CPU-s")


def measure_pages(installation: Installation, rounds: int) -> None:
    login = {"username": "admin", "password": installation.password}
    token = httpx.post(f"{installation.url}/auth/token", json=login).raise_for_status().json()["access_token"]
    web = httpx.Client(base_url=f"{installation.url}/api/v1/nni/experiments/{ID}", timeout=60)
    web.headers["Authorization"] = f"Bearer {token}"
    pages = {
        "metric-data": "metric-data?limit=10000&offset=50000",
        "metric-data/TRIAL": "metric-data/t0500",
        "metric-data-latest": "metric-data-latest",
        "metric-data-range": "metric-data-range/500/549",
        "trial-jobs": "trial-jobs",
        "experiment": "experiment",
    }
    for name, path in pages.items():
        size = len(web.get(path).raise_for_status().json())
        report(name, measure(rounds, lambda path=path: web.get(path).raise_for_status()), f"{size} entries")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory(prefix="trialflow-bench-") as folder:
        installation = Installation.open(Path(folder))
        try:
            start(installation)
            client = Client(installation)
            client.wait_for_dag(DAG_ID)
            client.close()
            fill(Store(f"sqlite:///{installation.home / 'trialflow.db'}"))
            print(f"{TRIALS} trials with {METRICS} intermediate metrics each; load {os.getloadavg()[0]:.1f}")
            print(f"{'':<32}{'median':>8}{'worst':>8}   seconds")
            measure_commands(installation, rounds)
            measure_pages(installation, rounds)
        finally:
            stop(installation)


if __name__ == "__main__":
    main()
