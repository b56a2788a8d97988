"""kill -9 in each of the four steps, and of Airflow as a whole."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from private_airflow.lifecycle import find_keeper, start
from trialflow.records import Trial, TrialStatus

from .conftest import Lab, Run, kill_component, locked_store, trial_processes, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from private_airflow.installation import Installation

# Each start of a trial's code leaves a line behind.
COUNTED = """
import os, time
import nni
params = nni.get_next_parameter()
with open(os.path.join({folder!r}, "starts"), "a") as file:
    file.write(nni.get_trial_id() + "\\n")
time.sleep({seconds})
nni.report_final_result(params["x"])
"""


def _suggesting(run: Run) -> bool:
    return run.lab.store.newest_batch(run.experiment_id) > 0


def _any_trial(condition: Callable[[Trial], bool]) -> Callable[[Run], bool]:
    return lambda run: any(condition(trial) for trial in run.trials)


def _last_trial(condition: Callable[[Trial], bool]) -> Callable[[Run], bool]:
    """Of any other one, a suggestion that waits for room notes the start and the end, and reports it."""
    return lambda run: len(trials := run.trials) == TRIALS and condition(trials[-1])


TRIALS = 3
# Shortly before the step's task begins. When the store is locked then, the task blocks in its first write: after it has
# acted, before it has noted that.
MOMENTS: dict[str, Callable[[Run], bool]] = {
    "suggest": _suggesting,
    "submit": _any_trial(lambda trial: trial.job is not None and trial.followed_at is None),
    "await": _last_trial(lambda trial: trial.followed_at is not None),
    "report": _last_trial(lambda trial: trial.ended_at is not None),
}


def _processes_of_step(run: Run, step: str) -> dict[int, int]:
    """The processes that carry out a step of the run's trials at this moment, each with its task's map index."""
    tasks = {
        f"airflow worker -- {item['id']}": item["map_index"]
        for item in run.task_instances()
        if item["task_id"] == f"trial.{step}" and item["start_date"] and not item["end_date"]
    }
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # It ends at this moment.
            title = " ".join(process.cmdline()).rstrip("\0 ")
            if title in tasks:
                found[process.pid] = tasks[title]
    return found


def _kill_at_work(run: Run, step: str) -> list[int]:
    """Kill the tasks of a step while they wait for the store; gives their map indexes, none if the moment passed."""
    moment = MOMENTS[step]
    wait_until(lambda: _exists(run) and (moment(run) or run.experiment.status.is_final), f"the moment of {step}")
    with closing(locked_store(run.lab)):
        deadline = time.monotonic() + 20
        while not _processes_of_step(run, step) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.0)
        found = _processes_of_step(run, step)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
    return list(found.values())


def _assert_nothing_lost_or_done_twice(run: Run, folder: Path) -> None:
    trials = run.trials
    assert {trial.status for trial in trials} == {TrialStatus.SUCCEEDED}
    assert [trial.attempt for trial in trials] == [1] * len(trials)
    assert sorted((folder / "starts").read_text().split()) == sorted(trial.id for trial in trials)
    assert run.told() == ["COMPLETE"] * len(trials)
    assert trial_processes(run.experiment.folder) == []


@pytest.mark.parametrize("step", list(MOMENTS))
def test_a_killed_step_is_run_again_and_nothing_happens_twice(lab: Lab, tmp_path: Path, step: str) -> None:
    """Kill the task of each step while it works.

    `suggest` claims the trial, asks the tuner and submits the job; `submit` takes the trial over, and finds the job or
    submits it; `await` follows the job, to its end or until it defers; `report` tells the tuner, unless a suggestion
    that waits for room came to it first: so of the last trial.
    """
    for attempt in "abc":  # A moment is short, and a busy machine may let it pass.
        folder = tmp_path / f"{step}-{attempt}"
        code = COUNTED.format(folder=str(folder), seconds=3 if step == "await" else 0.2)
        run = lab.start(folder, code, trialConcurrency=1, maxTrialNum=TRIALS)
        killed = _kill_at_work(run, step)
        assert run.wait() == "success"
        _assert_nothing_lost_or_done_twice(run, folder)
        if killed:
            break
    assert killed
    again = {(item["task_id"], item["map_index"]) for item in run.task_instances() if item["try_number"] > 1}
    assert again >= {(f"trial.{step}", index) for index in killed}


@pytest.mark.parametrize("victim", ["scheduler", "triggerer", "keeper", "everything"])
def test_trials_survive_a_crash_and_are_found_again(lab: Lab, tmp_path: Path, victim: str) -> None:
    folder = tmp_path / victim
    run = lab.start(folder, COUNTED.format(folder=str(folder), seconds=25), trialConcurrency=2, maxTrialNum=2)
    wait_until(lambda: _exists(run) and sum(t.started_at is not None for t in run.trials) == 2, "two running trials")
    before = trial_processes(run.experiment.folder)

    _crash(lab.installation, victim)
    assert set(trial_processes(run.experiment.folder)) & set(before)
    start(lab.installation)

    assert run.wait() == "success"
    _assert_nothing_lost_or_done_twice(run, folder)


def _crash(installation: Installation, victim: str) -> None:
    """Kill a component with everything below it, the keeper alone, or all; the keeper starts a component again."""
    keeper = find_keeper(installation)
    assert keeper is not None
    if victim == "keeper":
        keeper.kill()
        wait_until(lambda: find_keeper(installation) is None, "the keeper to be gone", 20)
        return
    if victim == "everything":
        os.killpg(keeper.pid, signal.SIGKILL)
        wait_until(lambda: find_keeper(installation) is None, "Airflow to be gone", 20)
        return
    kill_component(installation, victim)


def _exists(run: Run) -> bool:
    return any(experiment.id == run.experiment_id for experiment in run.lab.store.list_experiments())
