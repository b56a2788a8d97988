"""What an NNI user types, as programs of their own, at a real Airflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from trialflow.records import ExperimentStatus

from .conftest import DAG_ID, Lab, Run, trial_processes, wait_until, write_experiment

NNICTL = Path(sys.executable).with_name("nnictl")
# The first trial has a result, the second runs until it is stopped.
CODE = """
import time
import nni
x = nni.get_next_parameter()["x"]
print("tried", x, flush=True)
time.sleep(300 * nni.get_sequence_id())
nni.report_final_result(x)
"""
Nnictl = Callable[..., str]


@pytest.fixture
def nnictl(lab: Lab, tmp_path: Path) -> Nnictl:
    """Types a command on a machine that knows nothing of this Airflow but a login; gives what it prints."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "TRIALFLOW"))}
    passwords = json.loads((lab.installation.home / "airflow" / "passwords.json").read_text())
    own.update(TRIALFLOW_CLI_CONFIG=str(tmp_path / "nnictl.json"), TRIALFLOW_PASSWORD=passwords["user"])

    def type_in(*arguments: str, exit_code: int = 0) -> str:
        begun = time.monotonic()
        done = subprocess.run(
            [NNICTL, *arguments], env=own, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        said = done.stdout.decode() + done.stderr.decode()
        print(f"{time.monotonic() - begun:.1f} s: nnictl {' '.join(arguments)}")
        assert done.returncode == exit_code, (arguments, said)
        return said

    assert "Logged in" in type_in("login", lab.installation.url, "--user", "user")
    return type_in


def test_an_experiment_is_created_looked_at_changed_and_stopped_from_a_shell(
    lab: Lab, tmp_path: Path, nnictl: Nnictl
) -> None:
    write_experiment(tmp_path / "typed", CODE, maxTrialNum=3, trialConcurrency=1)
    created = nnictl("create", "-c", "typed/config.yml")
    page = re.escape(f"{lab.installation.url}/dags/{DAG_ID}/runs/")
    found = re.search(rf"^The experiment id is (\w+)\nThe Web UI urls are: {page}(\S+)$", created, re.MULTILINE)
    assert found is not None, created
    name, run = found[1], Run(lab, found[2])
    assert run.experiment_id == name
    assert f"\nnnictl top {name}\t" in created

    assert [line.split("\t")[1:4] for line in nnictl("experiment", "list").splitlines() if name in line] == [
        ["typed", "RUNNING", "local"]
    ]
    assert nnictl("experiment", "status", name) == f"{name}\tRUNNING\t\n"
    ended = re.compile(r"^0\t\w+\tSUCCEEDED\t.*$", re.MULTILINE)
    line = wait_until(lambda: ended.search(nnictl("trial", "ls", name)), "a trial with a result")
    _, trial, _, value, _, parameters, _ = line[0].split("\t")
    assert float(parameters.removeprefix("x=")) == pytest.approx(float(value), rel=1e-3)
    assert f"id\t{name}" in nnictl("top").splitlines()
    (look,) = json.loads(nnictl("top", name, "--output", "json"))
    assert (look["id"], look["status"], look["trialJobs"][-1]["trialJobId"]) == (name, "RUNNING", trial)

    assert nnictl("update", "trialnum", name, "--value", "4") == f"{name}\tmaxTrialNum\t4\t1\n"
    (tmp_path / "space.yml").write_text("x: {_type: uniform, _value: [0, 0.5]}")
    assert nnictl("update", "searchspace", name, "-f", "space.yml").endswith("\t2\n")
    assert "must be a whole number from 1 to 99999; got 0" in nnictl(
        "update", "concurrency", name, "-v", "0", exit_code=1
    )
    assert nnictl("log", "trial", name, "-T", trial).startswith("tried 0.")
    nnictl("experiment", "export", name, "-f", "study.db", "-t", "optuna")
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path / 'study.db'}")
    exported = json.loads(nnictl("experiment", "export", name, "-f", "results.json", "--output", "json"))
    results = json.loads((tmp_path / "results.json").read_text())
    assert (exported["trials"], [(result["id"], result["value"]) for result in results]) == (
        1, [(trial, results[0]["parameter"]["x"])]
    )  # fmt: skip
    assert study.best_value == results[0]["value"]

    assert nnictl("stop", name) == f"{name}\tSTOPPED\tstopped by user\n"
    wait_until(lambda: not trial_processes(run.experiment.folder), "every trial to be gone", 30)
    assert name not in nnictl("experiment", "list")
    assert run.wait() in ("success", "failed")
    assert (run.experiment.status, run.experiment.max_trial_number) == (ExperimentStatus.STOPPED, 4)
