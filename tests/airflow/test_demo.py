from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from private_airflow.installation import Installation
from private_airflow.lifecycle import find_keeper
from trialflow.records import Experiment, ExperimentStatus, Trial, TrialStatus
from trialflow.store import Store

from .conftest import Lab, processes_of, trial_processes, wait_until


def test_the_demo_tunes_the_digits_and_leaves_nothing_running(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    of_another = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{foreign}"}
    environment = {**os.environ, **of_another, "TRIALFLOW_PRIVATE_HOME": str(tmp_path), "COLUMNS": "200"}
    command = [sys.executable, "-m", "private_airflow", "demo"]
    shell = {**os.environ, **Installation.open(tmp_path).settings()}  # After: eval "$(make env)"
    with subprocess.Popen(["sleep", "420"], env=shell) as bystander:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=420, check=False)
        assert bystander.poll() is None
        bystander.kill()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 of 10 trials done" in done.stdout
    (result_file,) = re.findall(r"\S+/result\.json", done.stdout)
    result = json.loads(Path(result_file).read_text())
    assert result["trials"] == {"SUCCEEDED": 10}
    assert 0.9 < result["best"]["value"] <= 1.0
    assert f"Best: {result['best']['value']:.4f}" in done.stdout
    assert {path.name for path in Path(result["folder"]).glob("*.png")} == {"history.png", "importance.png"}
    assert trial_processes(result["folder"]) == []
    assert processes_of(tmp_path) == []
    assert not foreign.exists()


def start_demo(home: Path) -> subprocess.Popen[str]:
    """A demo in a session of its own, as in a terminal."""
    # A shell lets what it starts in the background ignore Ctrl-C, and so everything below; a handler is not inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "private_airflow", "demo"],
            env={**os.environ, "TRIALFLOW_PRIVATE_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def newest_experiment(home: Path) -> tuple[Experiment, list[Trial]] | None:
    store = Store(f"sqlite:///{home / 'trialflow.db'}")
    return next(((made, store.list_trials(made.id)) for made in store.list_experiments()), None)


def wait_for_a_running_trial(home: Path, demo: subprocess.Popen[str]) -> None:
    def runs() -> bool:
        found = newest_experiment(home)
        return found is not None and any(trial.status is TrialStatus.RUNNING for trial in found[1])

    wait_until(lambda: demo.poll() is not None or runs(), "a running trial")


def assert_stopped(home: Path) -> None:
    """The newest experiment is stopped and cleared away, and nothing of it is left to be carried on."""
    found = newest_experiment(home)
    assert found is not None
    experiment, trials = found
    assert (experiment.status, experiment.status_reason) == (ExperimentStatus.STOPPED, "stopped by admin")
    assert TrialStatus.USER_CANCELED in {trial.status for trial in trials}
    assert all(trial.reported_at for trial in trials)
    assert trial_processes(experiment.folder) == []
    with closing(sqlite3.connect(home / "airflow" / "airflow.db", timeout=60)) as database:
        rows = database.execute("SELECT state FROM dag_run WHERE run_id LIKE 'manual__%'").fetchall()
    assert {state for (state,) in rows} <= {"success", "failed"}


def test_a_demo_that_is_interrupted_stops_its_experiment_and_leaves_nothing_running(tmp_path: Path) -> None:
    with start_demo(tmp_path) as demo:
        wait_for_a_running_trial(tmp_path, demo)
        os.killpg(demo.pid, signal.SIGINT)  # Ctrl-C
        said, _ = demo.communicate(timeout=150)

    assert demo.returncode == 130, said
    assert re.search(r"Experiment \w{8} is STOPPED with \d+ of \d+ trials done; nothing of it runs", said), said
    assert processes_of(tmp_path) == []
    assert_stopped(tmp_path)


def test_a_demo_that_is_told_to_end_leaves_the_airflow_that_ran_before(lab: Lab) -> None:
    keeper = find_keeper(lab.installation)
    with start_demo(lab.installation.home) as demo:
        wait_for_a_running_trial(lab.installation.home, demo)
        demo.terminate()
        said, _ = demo.communicate(timeout=150)

    assert demo.returncode == 128 + signal.SIGTERM, said
    assert_stopped(lab.installation.home)
    assert keeper is not None
    assert find_keeper(lab.installation) == keeper


def test_a_terminal_that_is_closed_while_airflow_starts_leaves_nothing_running(tmp_path: Path) -> None:
    terminal, inside = os.openpty()
    command = [sys.executable, "-m", "private_airflow", "demo"]
    environment = {**os.environ, "TRIALFLOW_PRIVATE_HOME": str(tmp_path)}
    # Below nohup it would be ignored, here and in what is started from here.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        demo = subprocess.Popen(command, env=environment, stdout=inside, stderr=inside, start_new_session=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    with demo:
        os.close(inside)
        wait_until(lambda: demo.poll() is not None or (tmp_path / "triggerer.log").exists(), "Airflow to start")
        os.close(terminal)
        demo.send_signal(signal.SIGHUP)
        assert demo.wait(60) == 128 + signal.SIGHUP
    assert processes_of(tmp_path) == []
