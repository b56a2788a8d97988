"""What ends an experiment or a trial before its time: a goal, failures, the duration of one trial."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trialflow.experiment.running import ExperimentManager, TrialWatch
from trialflow.records import AlgorithmSpec, ExperimentSpec, ExperimentStatus, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.store import ClaimRefusal, Store

# Each trial does its own word of the file `behaviour`.
TRIAL = """import os, sys, time
import nni
nni.get_next_parameter()
behaviour = open("behaviour").read().split()[nni.get_sequence_id()]
if behaviour == "fail":
    sys.exit(3)
if behaviour == "hang":
    time.sleep(60)
nni.report_final_result(float(behaviour))
"""


def make_manager(home: Path, behaviour: str, **changes: Any) -> ExperimentManager:
    """An experiment whose trials do one word of ``behaviour`` each: a value, ``fail`` or ``hang``."""
    folder = home / "code"
    folder.mkdir(parents=True)
    (folder / "trial.py").write_text(TRIAL)
    (folder / "behaviour").write_text(behaviour)
    spec = ExperimentSpec(
        name="limits",
        author="tests",
        trial_concurrency=2,
        max_trial_number=9,
        max_duration_seconds=3600.0,
        platform="local",
        search_space={"x": {"_type": "uniform", "_value": [0, 1]}},
        tuner=AlgorithmSpec("Random"),
        code_directory=str(folder),
        code_root=str(folder),
        training={"command": f"{sys.executable} trial.py"},
    )
    manager = ExperimentManager.create("explimit", replace(spec, **changes), Settings(home=home, trial_sdk="own"))
    manager.stage_code()
    manager.start()
    manager.plan_batch(1, "run")
    return manager


def start(manager: ExperimentManager, index: int) -> Trial:
    trial = manager.suggest(Slot(1, index), "run")
    assert isinstance(trial, Trial), trial
    return manager.submit(trial)


def follow(manager: ExperimentManager, trial: Trial) -> Trial:
    """Follow a trial to its end, without reporting it."""
    watch = TrialWatch(manager, trial)
    deadline = time.monotonic() + 30
    while (ended := watch.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return ended


def statuses(manager: ExperimentManager) -> list[str]:
    return [trial.status.value for trial in manager.store.list_trials(manager.id)]


@pytest.mark.parametrize(
    ("mode", "goal", "values"),
    [("maximize", 0.9, "0.5 0.9 hang"), ("minimize", -1.0, "0.0 -1.5 hang"), ("maximize", -5.0, "-6 -5 hang")],
)
def test_the_experiment_is_done_with_the_first_value_that_reaches_the_goal(
    tmp_path: Path, mode: str, goal: float, values: str
) -> None:
    tuner = AlgorithmSpec("TPE", {"optimize_mode": mode})
    manager = make_manager(tmp_path, values, goal=goal, tuner=tuner)
    for index in (0, 1):
        manager.report(follow(manager, start(manager, index)))
        assert manager.refresh().status is (ExperimentStatus.DONE if index else ExperimentStatus.RUNNING)

    reached = manager.store.list_trials(manager.id)[1]
    assert manager.experiment.status_reason == (
        f"trial #1 {reached.id} reached the goal of {goal:g} with {reached.value:g}"
    )
    assert manager.suggest(Slot(1, 2), "run") is ClaimRefusal.NOT_RUNNING
    assert manager.plan_next_batch(1, "run-2") is None


def test_trials_that_still_run_are_cancelled_when_the_goal_is_reached(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "hang 1.0", goal=1.0)
    running, good = start(manager, 0), start(manager, 1)
    follow(manager, good)
    manager.settle()

    assert statuses(manager) == ["SYS_CANCELED", "SUCCEEDED"]
    cancelled = manager.store.get_trial(manager.id, running.id)
    assert cancelled.reason.endswith("reached the goal of 1 with 1")
    assert manager.is_idle()
    ended = follow(manager, running)  # The task that follows it comes to its end, too.
    assert manager.report(ended).status is TrialStatus.SYS_CANCELED
    result = manager.conclude().to_json()
    assert (result["status"], result["status_reason"]) == ("DONE", manager.experiment.status_reason)
    assert result["best"]["id"] == good.id


def test_without_a_goal_no_value_ends_the_experiment(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "1e9 1")
    manager.report(follow(manager, start(manager, 0)))

    assert manager.refresh().status is ExperimentStatus.RUNNING
    start(manager, 1)
    manager.close_run(1, "run")


def test_a_failed_trial_does_not_reach_the_goal(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "fail hang", goal=-1e9)
    manager.report(follow(manager, start(manager, 0)))

    assert manager.refresh().status is ExperimentStatus.RUNNING


@pytest.mark.parametrize("most", [0, 1])
def test_one_failed_trial_too_many_ends_the_experiment_with_an_error(tmp_path: Path, most: int) -> None:
    manager = make_manager(tmp_path, "hang fail fail", max_failed_trial_number=most)
    start(manager, 0)
    for index in range(1, most + 2):
        assert manager.refresh().status is ExperimentStatus.RUNNING
        manager.report(follow(manager, start(manager, index)))

    assert manager.refresh().status is ExperimentStatus.ERROR
    assert manager.experiment.status_reason == f"{most + 1} trials failed, and the experiment puts up with {most}"
    assert statuses(manager) == ["SYS_CANCELED", *["FAILED"] * (most + 1)]
    assert manager.conclude().to_json()["status"] == "ERROR"


def test_a_trial_that_runs_too_long_is_stopped_early(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "hang 0.5", max_trial_duration_seconds=0.5, max_failed_trial_number=0)
    ended = follow(manager, start(manager, 0))
    manager.report(ended)

    assert (ended.status, ended.reason) == (
        TrialStatus.EARLY_STOPPED,
        "it ran longer than maxTrialDuration, 0.5 s",
    )
    assert manager.is_idle()
    assert manager.refresh().status is ExperimentStatus.RUNNING


def test_the_duration_of_a_trial_counts_from_its_start_whoever_follows_it(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "hang", max_trial_duration_seconds=1.0)
    trial = start(manager, 0)
    time.sleep(1.1)

    assert TrialWatch(ExperimentManager(manager.id, manager.settings), trial).poll() is not None
    manager.close_run(1, "run")


def test_a_trial_within_its_duration_goes_on(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "0.5", max_trial_duration_seconds=30.0)

    assert follow(manager, start(manager, 0)).status is TrialStatus.SUCCEEDED


class _DeathError(BaseException):
    pass


@pytest.mark.parametrize("moment", ["set_reported", "find_limit", "change_status", "set_ended", "list_unreported"])
@pytest.mark.parametrize(
    ("behaviour", "limit", "status"),
    [("hang 1.0 hang", {"goal": 1.0}, "DONE"), ("hang fail hang", {"max_failed_trial_number": 0}, "ERROR")],
)
def test_a_death_at_any_point_leaves_the_same_end_to_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, behaviour: str, limit: dict[str, Any], status: str
) -> None:
    manager = make_manager(tmp_path, behaviour, **limit)
    start(manager, 0)
    ended = follow(manager, start(manager, 1))

    def die(*_: object, **__: object) -> None:
        raise _DeathError

    with monkeypatch.context() as patch:
        patch.setattr(Store, moment, die)
        with pytest.raises(_DeathError):
            manager.report(ended)
    # Not a single trial more, whether the end was noted or not.
    refusal = manager.store.claim(manager.id, Slot(1, 2), "run")
    assert refusal in (ClaimRefusal.LIMIT_REACHED, ClaimRefusal.NOT_RUNNING, ClaimRefusal.NO_ROOM)
    assert len(statuses(manager)) == 2

    another = ExperimentManager(manager.id, manager.settings)
    assert another.suggest(Slot(1, 2), "run") is ClaimRefusal.NOT_RUNNING
    assert another.refresh().status.value == status
    assert another.is_idle()
    assert statuses(manager) == ["SYS_CANCELED", ended.status.value]
