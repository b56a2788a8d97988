"""What trials on Kubeflow cost: requests to the cluster, the triggerer's time and memory, and time between trials.

    make bench-kubeflow                                 everything, about 25 minutes on 2 cores; as root
    python -m bench.kubeflow_cost --waiting 20          fewer trials that wait, to see that it works

Everything is real: a Kubernetes of its own with the training operator and pods (`tests/cluster`), and a private Airflow
for each of the two ways to wait. Requests are counted in the API server's audit log, between the first claim of an
experiment and its last report: what begins and ends an experiment is not a trial's. The time from one trial to the next
one is what a watch sees: from the event in which a job has succeeded to the one in which the next job is there. The
trials that wait ask for a GPU, of which the cluster has none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from bench.compare_with_nni import DAG_ID, write_code
from rich.console import Console
from rich.table import Table
from tests.cluster.cluster import TRIALFLOW_USER, NfsShare, wait_until
from tests.cluster.own import OwnCluster, Request

from private_airflow.client import Client
from private_airflow.installation import CHECKOUT, Installation
from private_airflow.lifecycle import find_keeper, start, stop
from private_airflow.processes import components
from trialflow.records import Trial
from trialflow.store import Store
from trialflow.training.kubeflow.api import ClusterApi, ClusterError, resource_path
from trialflow.training.kubeflow.conditions import Phase, read_status
from trialflow_airflow.identity import identify

FOLDER = CHECKOUT / ".trialflow" / "bench-kubeflow"
SHORT_SECONDS, LONG_SECONDS = 2, 20
PATIENCE_SECONDS = 1800.0
WAYS = {"worker": "3600", "triggerer": "0"}


@dataclass
class Observer:
    """Sees when jobs come and succeed, as any watch does.

    Attributes:
        created_at, succeeded_at: By the job's name, in the order of the events; on the monotonic clock.
    """

    api: ClusterApi
    namespace: str
    created_at: dict[str, float] = field(default_factory=dict)
    succeeded_at: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        path = resource_path("kubeflow.org/v1", self.namespace, "tfjobs")
        version = self.api.get(path)["metadata"]["resourceVersion"]
        threading.Thread(target=self._watch, args=(path, version), daemon=True).start()

    def _watch(self, path: str, version: str) -> None:
        while True:
            try:
                for event in self.api.watch(path, resourceVersion=version, allowWatchBookmarks="true"):
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._take(event)
            except ClusterError:
                return  # The cluster has ended.

    def _take(self, event: dict[str, Any]) -> None:
        name = event["object"]["metadata"].get("name", "")
        if event["type"] == "ADDED":
            self.created_at.setdefault(name, time.monotonic())
        elif event["type"] == "MODIFIED" and read_status(event["object"]).phase is Phase.SUCCEEDED:
            self.succeeded_at.setdefault(name, time.monotonic())

    def gaps(self, names: list[str]) -> list[float]:
        """From each of these jobs' success to the next one's creation, in seconds."""
        return [self.created_at[after] - self.succeeded_at[before] for before, after in pairwise(names)]


@dataclass
class Cell:
    """The cluster of the benchmark, with a namespace and a folder that pods mount."""

    cluster: OwnCluster
    namespace: str
    share: NfsShare
    observer: Observer

    def requests(self, since: float, until: float) -> list[Request]:
        """Trialflow's requests in a span of time."""
        return [one for one in self.cluster.requests(since, TRIALFLOW_USER) if one.at <= until]

    def open_watches(self) -> int:
        """Watches of Trialflow that go on."""
        requests = self.cluster.requests(user=TRIALFLOW_USER)
        return sum(1 for one in requests if one.verb == "watch" and one.status == 0)


@contextmanager
def running_cluster() -> Iterator[Cell]:
    shutil.rmtree(FOLDER / "cluster", ignore_errors=True)
    cluster = OwnCluster.make(FOLDER / "cluster")
    try:
        cluster.up(tied=True)
        namespace = cluster.make_namespace("bench")
        with cluster.client() as client:
            observer = Observer(ClusterApi(client), namespace)
            observer.start()
            yield Cell(cluster, namespace, cluster.nfs_share("/data"), observer)
    finally:
        cluster.down()


@dataclass
class Airflow:
    """A private Airflow whose trials run in the cluster."""

    installation: Installation
    client: Client
    cell: Cell

    @property
    def store(self) -> Store:
        return Store(f"sqlite:///{self.installation.home / 'trialflow.db'}")

    def trigger(self, trials: int, concurrency: int, command: str, gpus: int = 0) -> str:
        """Start an experiment; gives its id."""
        folder = FOLDER / "code"
        write_code(folder)
        config = self._config(trials, concurrency, command, gpus)
        run_id = self.client.trigger(DAG_ID, {"config": config, "folder": str(folder)})
        return identify(DAG_ID, run_id).experiment_id

    def _config(self, trials: int, concurrency: int, command: str, gpus: int) -> dict[str, Any]:
        share = self.cell.share
        worker = {"replicas": 1, "command": command, "gpuNum": gpus, "cpuNum": 0, "memoryMB": 64}
        return {
            "authorName": "bench",
            "experimentName": "cost",
            "trialConcurrency": concurrency,
            "maxTrialNum": trials,
            "trainingServicePlatform": "kubeflow",
            "searchSpacePath": "search_space.json",
            "useAnnotation": False,
            "tuner": {"builtinTunerName": "TPE", "classArgs": {"optimize_mode": "minimize"}},
            "trial": {"codeDir": ".", "worker": {**worker, "image": self.cell.cluster.image}},
            "kubeflowConfig": {
                "operator": "tf-operator",
                "apiVersion": "v1",
                "namespace": self.cell.namespace,
                "storage": "nfs",
                "nfs": {"server": share.server, "path": share.path},
            },
        }

    def run(self, trials: int, seconds: int) -> Experiment:
        """Run trials of a duration one after the other."""
        experiment_id = self.trigger(trials, 1, f"sleep {seconds} && python3 trial.py")
        store = self.store
        wait_until(
            lambda: any(one.id == experiment_id and one.status.is_final for one in store.list_experiments()),
            f"experiment {experiment_id} to end",
            PATIENCE_SECONDS,
        )
        return Experiment(self.cell, store.get_experiment(experiment_id).folder, store.list_trials(experiment_id))

    def triggerer(self) -> list[psutil.Process]:
        """The triggerer's processes."""
        keeper = find_keeper(self.installation)
        assert keeper is not None
        parent = components(keeper)["triggerer"]
        return [parent, *parent.children(recursive=True)]

    def count_waiting(self) -> int:
        """Tasks that wait in the triggerer."""
        database = f"file:{self.installation.home / 'airflow' / 'airflow.db'}?mode=ro"
        with sqlite3.connect(database, uri=True, timeout=60) as connection:
            query = "SELECT count(*) FROM trigger WHERE classpath LIKE '%TrialTrigger'"
            return int(connection.execute(query).fetchone()[0])


@contextmanager
def running_airflow(cell: Cell, way: str) -> Iterator[Airflow]:
    home = FOLDER / f"airflow-{way}"
    shutil.rmtree(home, ignore_errors=True)
    os.environ |= {
        "KUBECONFIG": str(cell.cluster.user_kubeconfig(cell.namespace)),
        "TRIALFLOW_STORAGE_MOUNTS": f"{cell.share.server}:{cell.share.path}={cell.share.folder}",
        "TRIALFLOW_TRIAL_SDK": "own",
        "TRIALFLOW_WAIT_IN_WORKER_SECONDS": WAYS[way],
    }
    installation = Installation.open(home)
    try:
        start(installation)
        client = Client(installation)
        client.wait_for_dag(DAG_ID)
        time.sleep(5)
        yield Airflow(installation, client, cell)
        client.close()
    finally:
        stop(installation)


# ── the figures ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Experiment:
    """An experiment that has ended."""

    cell: Cell
    folder: str
    trials: list[Trial]

    @property
    def requests_per_trial(self) -> float:
        """Between the first claim and the last report."""
        return len(self._requests()) / len(self.trials)

    @property
    def kinds(self) -> str:
        """The same by verb and kind, for people."""
        counts = Counter(f"{one.verb} {one.resource}" for one in self._requests())
        return ", ".join(f"{kind} {count / len(self.trials):.2g}" for kind, count in counts.most_common())

    def _requests(self) -> list[Request]:
        until = max(trial.reported_at or 0.0 for trial in self.trials)
        return self.cell.requests(min(trial.claimed_at for trial in self.trials), until)

    @property
    def gaps(self) -> list[float]:
        """From one job's success to the next one's creation."""
        return self.cell.observer.gaps([str(trial.job["name"]) for trial in self.trials if trial.job])

    @property
    def copies_of_code(self) -> float:
        """What lies in the experiment's folder of the code's files, in copies of the code."""
        sizes = {path.name: path.stat().st_size for path in (FOLDER / "code").iterdir()}
        found = [path for path in Path(self.folder).rglob("*") if path.name in sizes]
        return sum(path.stat().st_size for path in found) / sum(sizes.values())


@dataclass(frozen=True)
class Waiting:
    """What it costs that trials wait.

    Attributes:
        idle_cpu, cpu: Of the triggerer, as a share of a core, without any trial and with all of them.
        bytes_per_trial: What the triggerer's memory grows by with each.
        watches: Of jobs, that are open.
        requests: In the time of the measurement, by verb and kind.
    """

    trials: int
    idle_cpu: float
    cpu: float
    bytes_per_trial: float
    watches: int
    requests: Counter[str]


def measure_waiting(airflow: Airflow, trials: int, seconds: float) -> Waiting:
    """Let trials wait for a GPU, and one suggestion more for room.

    Raises:
        SystemExit: The triggerer was restarted meanwhile, so that its figures say nothing.
    """
    idle = cpu_share(airflow, seconds / 2)
    airflow.trigger(trials + 20, trials, "true", gpus=1)
    few = trials // 10
    wait_until(lambda: airflow.count_waiting() >= few, f"{few} trials to wait", PATIENCE_SECONDS)
    time.sleep(5)
    triggerer, first, memory = airflow.triggerer(), airflow.count_waiting(), resident_bytes(airflow)
    wait_until(lambda: airflow.count_waiting() >= trials, f"{trials} trials to wait", PATIENCE_SECONDS, 1.0)
    time.sleep(30)  # Until every one of them has been asked for its reason.
    since = time.time()
    cpu = cpu_share(airflow, seconds)
    requests = airflow.cell.requests(since, time.time())
    if airflow.triggerer() != triggerer:
        raise SystemExit(f"the triggerer was restarted; see {airflow.installation.log('triggerer')}, and try again")
    return Waiting(
        trials=trials,
        idle_cpu=idle,
        cpu=cpu,
        bytes_per_trial=(resident_bytes(airflow) - memory) / (trials - first),
        watches=airflow.cell.open_watches(),
        requests=Counter(f"{one.verb} {one.resource}" for one in requests),
    )


def cpu_share(airflow: Airflow, seconds: float) -> float:
    """The triggerer's CPU time per time."""

    def spent() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in airflow.triggerer())

    began, before = time.monotonic(), spent()
    time.sleep(seconds)
    return (spent() - before) / (time.monotonic() - began)


def resident_bytes(airflow: Airflow) -> int:
    """The memory that the triggerer's processes have for themselves."""
    return sum(process.memory_full_info().uss for process in airflow.triggerer())


def report(console: Console, experiments: dict[tuple[str, int], Experiment], waiting: Waiting) -> None:
    table = Table("figure", "measured", "aim", title="Trials on Kubeflow")
    for (way, seconds), experiment in experiments.items():
        table.add_row(
            f"requests per trial of {seconds} s, waited for in the {way}", f"{experiment.requests_per_trial:.1f}", "≤ 6"
        )
    for way, aim in (("worker", "≤ 1.5"), ("triggerer", "≤ 4")):
        gaps = [gap for (one, _), experiment in experiments.items() if one == way for gap in experiment.gaps]
        figure = f"{statistics.median(gaps):.2f} ({min(gaps):.2f} to {max(gaps):.2f}, {len(gaps)} of them)"
        table.add_row(f"success to next creation through the {way}, median, s", figure, aim)
    copies = max(experiment.copies_of_code for experiment in experiments.values())
    table.add_row("copies of the code per experiment", f"{copies:g}", "1")
    table.add_row(f"watches for {waiting.trials} waiting trials", str(waiting.watches), "1")
    cpu = f"{waiting.cpu:.1%} ({waiting.idle_cpu:.1%} without any)"
    table.add_row("triggerer, share of a core, with them", cpu, "< 10%")
    table.add_row("triggerer, MB more per trial", f"{waiting.bytes_per_trial / 1e6:.2f}", "< 1")
    console.print(table)
    for (way, seconds), experiment in experiments.items():
        console.print(f"per trial of {seconds} s through the {way}: {experiment.kinds}")
    console.print(f"requests while {waiting.trials} wait: {dict(waiting.requests)}")
    console.print(f"load of the machine now: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="that run for 2 s, and half as many for 20 s")
    parser.add_argument("--waiting", type=int, default=200, help="trials that wait")
    parser.add_argument("--seconds", type=float, default=60, help="for which the triggerer is measured")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    console = Console(width=110)
    experiments: dict[tuple[str, int], Experiment] = {}
    with running_cluster() as cell:
        for way in WAYS:
            with running_airflow(cell, way) as airflow:
                for seconds, trials in ((SHORT_SECONDS, arguments.trials), (LONG_SECONDS, arguments.trials // 2)):
                    experiments[way, seconds] = airflow.run(trials, seconds)
                    gaps = " ".join(f"{gap:.2f}" for gap in experiments[way, seconds].gaps)
                    console.print(f"{trials} trials of {seconds} s through the {way}: from one to the next {gaps} s")
                if way == "triggerer":
                    waiting = measure_waiting(airflow, arguments.waiting, arguments.seconds)
    report(console, experiments, waiting)


if __name__ == "__main__":
    main()
