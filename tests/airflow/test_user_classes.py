"""Experiments with a tuner and an assessor of the user's own, run by a real Airflow."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from trialflow.processes import find_processes
from trialflow.records import ExperimentStatus, TrialStatus

from .conftest import Lab, Run, trial_processes, wait_until

TUNER = """
from nni.tuner import Tuner

file = open("told.txt", "a")


class Counting(Tuner):
    def __init__(self, step):
        self.step, self.told = step, []

    def update_search_space(self, search_space):
        self.low = search_space["x"]["_value"][0]

    def generate_parameters(self, parameter_id, **kwargs):
        return {"x": self.low + self.step * parameter_id, "told": list(self.told)}

    def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
        self.told.append(value)

    def trial_end(self, parameter_id, success, **kwargs):
        file.write(f"{parameter_id} {success}\\n")
        file.flush()
"""
ASSESSOR = """
from nni.assessor import Assessor


class Failing(Assessor):
    def __init__(self):
        self.seen = 0

    def assess_trial(self, trial_job_id, trial_history):
        raise LookupError(f"nothing is known of {trial_history}")
"""
TRIAL = """
import time
import nni
nni.report_intermediate_result(0.5)
time.sleep({seconds})
nni.report_final_result(nni.get_next_parameter()["x"])
"""
OWN_TUNER: dict[str, Any] = {
    "codeDir": "own",
    "classFileName": "counting.py",
    "className": "Counting",
    "classArgs": {"step": 2},
}


def start(lab: Lab, folder: Path, seconds: float, **changes: Any) -> Run:
    (folder / "own").mkdir(parents=True)
    (folder / "own" / "counting.py").write_text(TUNER)
    (folder / "own" / "failing.py").write_text(ASSESSOR)
    return lab.start(folder, TRIAL.format(seconds=seconds), tuner=OWN_TUNER, **changes)


def hosts(run: Run) -> list[int]:
    return find_processes(f"TRIALFLOW_HOST={run.experiment.folder}/algorithm")


def logs(lab: Lab, run: Run) -> str:
    folder = lab.installation.home / "airflow" / "logs"
    return "".join(path.read_text(errors="replace") for path in folder.rglob(f"*{run.run_id}*/**/*.log"))


def test_a_tuner_of_its_own_carries_an_experiment_through_the_death_of_its_host(lab: Lab, tmp_path: Path) -> None:
    run = start(lab, tmp_path / "counting", 0.2, trialConcurrency=1, maxTrialNum=4)
    wait_until(lambda: sum(trial.reported_at is not None for trial in run.trials) == 2, "two trials")
    for pid in hosts(run):
        os.kill(pid, signal.SIGKILL)

    assert run.wait() == "success"

    trials = run.trials
    assert [trial.value for trial in trials] == [0, 2, 4, 6]
    assert [(trial.parameters or {})["told"] for trial in trials] == [[], [0], [0, 2], [0, 2, 4]]
    assert run.experiment.status is ExperimentStatus.DONE
    assert hosts(run) == []
    told = (Path(run.experiment.folder) / "algorithm" / "told.txt").read_text().splitlines()
    assert told[-1] == "3 True"


def test_an_assessor_that_raises_ends_its_experiment_and_says_why(lab: Lab, tmp_path: Path) -> None:
    assessor = {"codeDir": "own", "classFileName": "failing.py", "className": "Failing"}
    run = start(lab, tmp_path / "failing", 600, assessor=assessor)

    assert run.wait() == "failed"

    assert run.experiment.status is ExperimentStatus.ERROR
    assert "LookupError: nothing is known of [0.5]" in run.experiment.status_reason
    assert {trial.status for trial in run.trials} == {TrialStatus.SYS_CANCELED}
    assert "in assess_trial" in logs(lab, run)
    assert trial_processes(run.experiment.folder) == []
    assert hosts(run) == []
