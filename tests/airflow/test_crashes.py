"""kill -9 in each of the four steps, and of Airflow as a whole."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trialflow.records import Trial, TrialStatus

from .conftest import Lab, Run, kill_component, locked_store, trial_processes, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from trialflow_airflow.embedded import Embedded

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


# When the store is locked, the step blocks in its first write: after it has acted, before it has noted that.
MOMENTS: dict[str, Callable[[Run], bool]] = {
    "suggest": _suggesting,
    "submit": _any_trial(lambda trial: trial.parameters is not None),
    "await": _any_trial(lambda trial: trial.job is not None),
    "report": _any_trial(lambda trial: trial.ended_at is not None),
}


def _running_task_processes(run: Run) -> list[int]:
    """The processes that carry out the run's tasks of trials at this moment."""
    ids = {item["id"] for item in run.task_instances() if item["task_id"].startswith("trial.") and item["start_date"]}
    found = []
    for entry in Path("/proc").iterdir():
        try:
            title = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
        except OSError:
            continue
        if title.startswith("airflow worker -- ") and any(title.startswith(f"airflow worker -- {i}") for i in ids):
            found.append(int(entry.name))
    return found


def _assert_nothing_lost_or_done_twice(run: Run, folder: Path) -> None:
    trials = run.trials
    assert {trial.status for trial in trials} == {TrialStatus.SUCCEEDED}
    assert [trial.attempt for trial in trials] == [1] * len(trials)
    assert sorted((folder / "starts").read_text().split()) == sorted(trial.id for trial in trials)
    assert run.told() == ["COMPLETE"] * len(trials)
    assert trial_processes(run.experiment.folder) == []


@pytest.mark.parametrize("step", list(MOMENTS))
def test_a_killed_step_is_run_again_and_nothing_happens_twice(lab: Lab, tmp_path: Path, step: str) -> None:
    folder = tmp_path / step
    code = COUNTED.format(folder=str(folder), seconds=0.2)
    run = lab.start(folder, code, trialConcurrency=1, maxTrialNum=3)
    wait_until(lambda: _exists(run) and MOMENTS[step](run), f"the moment of {step}")
    lock = locked_store(lab)
    try:
        killed = wait_until(lambda: _running_task_processes(run), "a task that waits for the store", 60)
        time.sleep(1.0)
        killed = _running_task_processes(run) or killed
        for pid in killed:
            with suppress(ProcessLookupError):  # One of several may have ended at this moment.
                os.kill(pid, signal.SIGKILL)
    finally:
        lock.close()
    assert run.wait() == "success"
    assert any(item["try_number"] > 1 for item in run.task_instances())
    _assert_nothing_lost_or_done_twice(run, folder)


@pytest.mark.parametrize("victim", ["scheduler", "triggerer", "everything"])
def test_trials_survive_a_crash_and_are_found_again(lab: Lab, tmp_path: Path, victim: str) -> None:
    folder = tmp_path / victim
    run = lab.start(folder, COUNTED.format(folder=str(folder), seconds=25), trialConcurrency=2, maxTrialNum=2)
    wait_until(lambda: _exists(run) and sum(t.started_at is not None for t in run.trials) == 2, "two running trials")
    before = trial_processes(run.experiment.folder)

    _crash(lab.embedded, victim)
    assert set(trial_processes(run.experiment.folder)) & set(before)
    lab.embedded.start()

    assert run.wait() == "success"
    _assert_nothing_lost_or_done_twice(run, folder)


def _crash(embedded: Embedded, victim: str) -> None:
    """Kill a component with everything below it, or all of them; a component is started again by its keeper."""
    group = embedded.group
    assert group is not None
    if victim == "everything":
        os.killpg(group, signal.SIGKILL)
        wait_until(lambda: embedded.group is None, "Airflow to be gone", 20)
        return
    kill_component(embedded, victim)


def _exists(run: Run) -> bool:
    return any(experiment.id == run.experiment_id for experiment in run.lab.store.list_experiments())
