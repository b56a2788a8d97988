"""The same no-op trial through Trialflow and through NNI 3.0, interleaved in one run, as ratios.

    make bench                                          everything, about 15 minutes on 2 cores
    python bench/compare_with_nni.py --quick            fewer trials, to see that it works

NNI is installed into an environment of its own below .trialflow/bench. Both sides get the same trial file; in
Trialflow it imports Trialflow's `nni`, in NNI the real one, whose import is most of a trial's time. The gap from one
trial's end to the next one's start is the orchestrator's alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa
import yaml
from rich.console import Console
from rich.table import Table

from private_airflow.client import Client
from private_airflow.installation import CHECKOUT, Installation
from private_airflow.lifecycle import find_keeper, start, stop
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.running import ExperimentSteps, TrialWatch
from trialflow.records import Trial
from trialflow.settings import Settings
from trialflow.store import Store
from trialflow_airflow.identity import identify

FOLDER = CHECKOUT / ".trialflow" / "bench"
DAG_ID = "nni_experiment"
TRIAL = """import nni

params = nni.get_next_parameter()
nni.report_final_result((params["x"] - 0.3) ** 2)
"""


@dataclass(frozen=True)
class Timing:
    """One experiment's trials: (start, end) in seconds, in order of their start."""

    spans: list[tuple[float, float]]

    @property
    def seconds_per_trial(self) -> float:
        return (max(end for _, end in self.spans) - self.spans[0][0]) / len(self.spans)

    @property
    def trials_per_minute(self) -> float:
        return 60 / self.seconds_per_trial

    @property
    def end_to_start_seconds(self) -> float:
        return statistics.median(b[0] - a[1] for a, b in zip(self.spans, self.spans[1:], strict=False))

    @property
    def most_alive(self) -> int:
        events = sorted([(start, 1) for start, _ in self.spans] + [(end, -1) for _, end in self.spans])
        alive = most = 0
        for _, change in events:
            alive += change
            most = max(most, alive)
        return most


def write_code(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trial.py").write_text(TRIAL)
    (folder / "search_space.json").write_text('{"x": {"_type": "uniform", "_value": [0, 1]}}')


# ── NNI ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def install_nni() -> Path:
    """NNI 3.0 in an environment of its own; gives its folder of programs."""
    environment = FOLDER / "nni"
    if not (environment / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "nni==3.0", "setuptools<81"]
        subprocess.run(pip, check=True)
        (environment / ".ready").touch()
    return environment / "bin"


def run_nni(programs: Path, concurrency: int, trials: int) -> Timing:
    folder = FOLDER / "nni-experiment"
    write_code(folder)
    config = {
        "experimentName": "noop",
        "trialConcurrency": concurrency,
        "maxTrialNumber": trials,
        "searchSpaceFile": "search_space.json",
        "trialCommand": "python3 trial.py",
        "trialCodeDirectory": ".",
        "experimentWorkingDirectory": str(FOLDER / "nni-home"),
        "tuner": {"name": "TPE", "classArgs": {"optimize_mode": "minimize"}},
        "trainingService": {"platform": "local"},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(FOLDER / "nni-home"),
    }
    (FOLDER / "nni-home").mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nnictl = [str(programs / "nnictl")]
    log = (FOLDER / "nni.log").open("ab")
    try:
        create = [*nnictl, "create", "-c", str(folder / "config.yml"), "-p", str(port)]
        subprocess.run(create, env=environment, stdout=log, stderr=log, check=True)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1/nni", trust_env=False) as client:
            while client.get("/check-status").json()["status"] not in ("DONE", "ERROR"):
                time.sleep(0.5)
            jobs = client.get("/trial-jobs").json()
    finally:
        subprocess.run([*nnictl, "stop", "--all"], env=environment, stdout=log, stderr=log, check=False)
        log.close()
    return Timing(sorted((job["startTime"] / 1e3, job["endTime"] / 1e3) for job in jobs))


# ── Trialflow ────────────────────────────────────────────────────────────────────────────────────────────────────────


def experiment_config(concurrency: int, trials: int) -> dict[str, Any]:
    return {
        "authorName": "bench",
        "experimentName": "noop",
        "trialConcurrency": concurrency,
        "maxTrialNum": trials,
        "trainingServicePlatform": "local",
        "searchSpacePath": "search_space.json",
        "useAnnotation": False,
        "tuner": {"builtinTunerName": "TPE", "classArgs": {"optimize_mode": "minimize"}},
        "trial": {"command": "python3 trial.py", "codeDir": ".", "gpuNum": 0},
    }


@dataclass
class Trialflow:
    """The private Airflow of the benchmark."""

    installation: Installation
    client: Client

    def run(self, concurrency: int, trials: int) -> tuple[Timing, str]:
        folder = FOLDER / "code"
        write_code(folder)
        config = experiment_config(concurrency, trials)
        run_id = self.client.trigger(DAG_ID, {"config": config, "folder": str(folder)})
        experiment_id = identify(DAG_ID, run_id).experiment_id
        store = Store(f"sqlite:///{self.installation.home / 'trialflow.db'}")
        while not any(e.id == experiment_id and e.status.is_final for e in store.list_experiments()):
            time.sleep(0.5)
        time.sleep(3)  # The last run ends, so that the next measurement starts from rest.
        spans = [(t.started_at or 0.0, t.ended_at or 0.0) for t in store.list_trials(experiment_id)]
        return Timing(sorted(spans)), experiment_id

    def command_lines(self) -> dict[psutil.Process, list[str]]:
        """Of its processes, those that have just ended left out."""
        found = {}
        keeper = find_keeper(self.installation)
        for process in keeper.children(recursive=True) if keeper else []:
            with suppress(psutil.Error):
                found[process] = process.cmdline()
        return found


@contextmanager
def running_trialflow() -> Iterator[Trialflow]:
    shutil.rmtree(FOLDER / "airflow-home", ignore_errors=True)
    os.environ["TRIALFLOW_TRIAL_SDK"] = "own"
    installation = Installation.open(FOLDER / "airflow-home")
    try:
        start(installation)
        client = Client(installation)
        client.wait_for_dag(DAG_ID)
        time.sleep(5)
        yield Trialflow(installation, client)
        client.close()
    finally:
        stop(installation)


def scheduler_cpu_seconds(trialflow: Trialflow) -> float:
    schedulers = [p for p, line in trialflow.command_lines().items() if line[-2:-1] == ["scheduler"]]
    return sum(sum(p.cpu_times()[:2]) for p in schedulers)


def bytes_staged(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("code-*/**/*") if path.is_file())


def count_files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())


def store_statements_per_trial(trials: int = 10) -> float:
    """SQL statements of one trial's life, from claim to report, without those of waiting; without Airflow."""
    shutil.rmtree(FOLDER / "statements", ignore_errors=True)
    write_code(FOLDER / "statements" / "code")
    config = {"config": experiment_config(1, trials), "folder": str(FOLDER / "statements" / "code")}
    settings = Settings(home=FOLDER / "statements" / "home")
    steps = ExperimentSteps.create("statements", load_experiment(settings=settings, **config), settings)
    steps.stage_code()
    steps.start()
    slots = steps.plan_batch(1, "bench")
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        for slot in slots:
            trial = steps.trials.suggest(slot, "bench")
            assert isinstance(trial, Trial)
            service, request = steps.context.training, steps.context.job_request(trial)
            while service.poll(service.handle(request)).outcome is None:
                time.sleep(0.02)
            ended = TrialWatch(steps.context, trial).poll()
            assert ended is not None
            steps.trials.report(ended)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)
    return counted / trials


# ── the comparison ───────────────────────────────────────────────────────────────────────────────────────────────────


def compare(rounds: int, sequential: int, parallel: int, long: int) -> None:
    console = Console(width=110)
    programs = install_nni()
    ours: dict[int, list[Timing]] = {1: [], 8: []}
    nnis: dict[int, list[Timing]] = {1: [], 8: []}
    with running_trialflow() as trialflow:
        workers = sum("worker" in " ".join(line) for line in trialflow.command_lines().values())
        for _ in range(rounds):
            for concurrency, trials in ((1, sequential), (8, parallel)):
                cpu = scheduler_cpu_seconds(trialflow)
                timing, experiment_id = trialflow.run(concurrency, trials)
                cpu = scheduler_cpu_seconds(trialflow) - cpu
                folder = trialflow.installation.home / "experiments" / experiment_id
                console.print(
                    f"Trialflow {trials} trials at {concurrency}: {timing.seconds_per_trial:.2f} s per trial, "
                    f"scheduler {cpu / trials:.2f} CPU-s and {count_files(folder) / trials:.1f} files per trial"
                )
                ours[concurrency].append(timing)
                nnis[concurrency].append(run_nni(programs, concurrency, trials))
                console.print(
                    f"NNI       {trials} trials at {concurrency}: {nnis[concurrency][-1].seconds_per_trial:.2f} s"
                )
        console.print(_table(ours, nnis))
        console.print(f"worker processes: {workers}")
        console.print(f"store statements per trial, waiting aside: {store_statements_per_trial():.0f}")
        if long:
            timing, experiment_id = trialflow.run(8, long)
            _print_long(console, timing, trialflow.installation.home, experiment_id)


def _table(ours: dict[int, list[Timing]], nnis: dict[int, list[Timing]]) -> Table:
    table = Table("figure", "Trialflow", "NNI 3.0", "ratio", "aim", title="No-op trial, medians over the rounds")
    rows = [
        ("seconds per trial at 1", 1, "seconds_per_trial", "≤ 0.4"),
        ("end to next start at 1, s", 1, "end_to_start_seconds", "≤ 1.0"),
        ("trials per minute at 8", 8, "trials_per_minute", "≥ 2"),
    ]
    for name, concurrency, figure, aim in rows:
        our = statistics.median(getattr(timing, figure) for timing in ours[concurrency])
        nni = statistics.median(getattr(timing, figure) for timing in nnis[concurrency])
        table.add_row(name, f"{our:.2f}", f"{nni:.2f}", f"{our / nni:.2f}", aim)
    table.add_row(
        "most alive at 8", str(max(t.most_alive for t in ours[8])), str(max(t.most_alive for t in nnis[8])), "", "≤ 8"
    )
    return table


def _print_long(console: Console, timing: Timing, home: Path, experiment_id: str) -> None:
    first, last = timing.spans[:20], timing.spans[-20:]
    seconds = [(part[-1][0] - part[0][0]) / 19 for part in (first, last)]
    staged, code = bytes_staged(home / "experiments" / experiment_id), bytes_staged_once()
    console.print(
        f"{len(timing.spans)} trials at 8: first 20 {seconds[0]:.2f} s each, last 20 {seconds[1]:.2f} s each, "
        f"ratio {seconds[1] / seconds[0]:.2f} (aim ≤ 1.2); bytes staged {staged}, one copy is {code}"
    )
    with sqlite3.connect(home / "trialflow.db") as database:
        pages, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    console.print(f"store: {pages * size / 1e6:.1f} MB after all")


def bytes_staged_once() -> int:
    return sum(path.stat().st_size for path in (FOLDER / "code").iterdir() if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few trials")
    parser.add_argument("--rounds", type=int, default=2, help="how often each experiment runs on each side")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if arguments.quick:
        compare(rounds=1, sequential=6, parallel=10, long=0)
    else:
        compare(rounds=arguments.rounds, sequential=20, parallel=40, long=200)


if __name__ == "__main__":
    main()
