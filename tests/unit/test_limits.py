"""What ends an experiment or a trial before its time: a goal, failures, the duration of one trial."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from trialflow.experiment.running import ExperimentSteps, TrialWatch
from trialflow.records import AlgorithmSpec, ExperimentStatus, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.store import ClaimRefusal, Store

from .lab import RUN, again, follow, make_steps, suggest

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


def make_experiment(home: Path, behaviour: str, **changes: Any) -> ExperimentSteps:
    """An experiment whose trials do one word of ``behaviour`` each: a value, ``fail`` or ``hang``."""
    changes = {"tuner": AlgorithmSpec("Random"), "max_trial_number": 9, **changes}
    settings = Settings(home=home, trial_sdk="own")
    steps = make_steps(home, TRIAL, files={"behaviour": behaviour}, settings=settings, **changes)
    steps.plan_batch(1, RUN)
    return steps


def start(steps: ExperimentSteps, index: int) -> Trial:
    return steps.context.submit(suggest(steps, index))


def statuses(steps: ExperimentSteps) -> list[str]:
    return [trial.status.value for trial in steps.context.store.list_trials(steps.context.id)]


@pytest.mark.parametrize(
    ("mode", "goal", "values"),
    [("maximize", 0.9, "0.5 0.9 hang"), ("minimize", -1.0, "0.0 -1.5 hang"), ("maximize", -5.0, "-6 -5 hang")],
)
def test_the_experiment_is_done_with_the_first_value_that_reaches_the_goal(
    tmp_path: Path, mode: str, goal: float, values: str
) -> None:
    tuner = AlgorithmSpec("TPE", {"optimize_mode": mode})
    steps = make_experiment(tmp_path, values, goal=goal, tuner=tuner)
    for index in (0, 1):
        steps.trials.report(follow(steps, start(steps, index)))
        assert steps.context.refresh().status is (ExperimentStatus.DONE if index else ExperimentStatus.RUNNING)

    reached = steps.context.store.list_trials(steps.context.id)[1]
    assert steps.context.experiment.status_reason == (
        f"trial #1 {reached.id} reached the goal of {goal:g} with {reached.value:g}"
    )
    assert steps.trials.suggest(Slot(1, 2), RUN) is ClaimRefusal.NOT_RUNNING
    assert steps.plan_next_batch(1, "run-2") is None


def test_trials_that_still_run_are_cancelled_when_the_goal_is_reached(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, "hang 1.0", goal=1.0)
    running, good = start(steps, 0), start(steps, 1)
    follow(steps, good)
    steps.trials.report_ended()

    assert statuses(steps) == ["SYS_CANCELED", "SUCCEEDED"]
    cancelled = steps.context.store.get_trial(steps.context.id, running.id)
    assert cancelled.reason.endswith("reached the goal of 1 with 1")
    assert steps.trials.is_idle()
    ended = follow(steps, running)  # The task that follows it comes to its end, too.
    assert steps.trials.report(ended).status is TrialStatus.SYS_CANCELED
    result = steps.conclude().to_json()
    assert (result["status"], result["status_reason"]) == ("DONE", steps.context.experiment.status_reason)
    assert result["best"]["id"] == good.id


def test_without_a_goal_no_value_ends_the_experiment(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, "1e9 1")
    steps.trials.report(follow(steps, start(steps, 0)))

    assert steps.context.refresh().status is ExperimentStatus.RUNNING
    start(steps, 1)
    steps.close_run(1, RUN)


def test_a_failed_trial_does_not_reach_the_goal(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, "fail hang", goal=-1e9)
    steps.trials.report(follow(steps, start(steps, 0)))

    assert steps.context.refresh().status is ExperimentStatus.RUNNING


@pytest.mark.parametrize("most", [0, 1])
def test_one_failed_trial_too_many_ends_the_experiment_with_an_error(tmp_path: Path, most: int) -> None:
    steps = make_experiment(tmp_path, "hang fail fail", max_failed_trial_number=most)
    start(steps, 0)
    for index in range(1, most + 2):
        assert steps.context.refresh().status is ExperimentStatus.RUNNING
        steps.trials.report(follow(steps, start(steps, index)))

    assert steps.context.refresh().status is ExperimentStatus.ERROR
    assert steps.context.experiment.status_reason == f"{most + 1} trials failed, and the experiment puts up with {most}"
    assert statuses(steps) == ["SYS_CANCELED", *["FAILED"] * (most + 1)]
    assert steps.conclude().to_json()["status"] == "ERROR"


def test_a_trial_that_runs_too_long_is_stopped_early(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, "hang 0.5", max_trial_duration_seconds=0.5, max_failed_trial_number=0)
    ended = follow(steps, start(steps, 0))
    steps.trials.report(ended)

    assert (ended.status, ended.reason) == (
        TrialStatus.EARLY_STOPPED,
        "it ran longer than maxTrialDuration, 0.5 s",
    )
    assert steps.trials.is_idle()
    assert steps.context.refresh().status is ExperimentStatus.RUNNING


def test_the_duration_of_a_trial_counts_from_its_start_whoever_follows_it(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, "hang", max_trial_duration_seconds=1.0)
    trial = start(steps, 0)
    time.sleep(1.1)

    assert TrialWatch(again(steps).context, trial).poll() is not None
    steps.close_run(1, RUN)


def test_a_trial_within_its_duration_goes_on(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, "0.5", max_trial_duration_seconds=30.0)

    assert follow(steps, start(steps, 0)).status is TrialStatus.SUCCEEDED


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
    steps = make_experiment(tmp_path, behaviour, **limit)
    start(steps, 0)
    ended = follow(steps, start(steps, 1))

    def die(*_: object, **__: object) -> None:
        raise _DeathError

    with monkeypatch.context() as patch:
        patch.setattr(Store, moment, die)
        with pytest.raises(_DeathError):
            steps.trials.report(ended)
    # Not a single trial more, whether the end was noted or not.
    refusal = steps.context.store.claim(steps.context.id, Slot(1, 2), RUN)
    assert refusal in (ClaimRefusal.LIMIT_REACHED, ClaimRefusal.NOT_RUNNING, ClaimRefusal.NO_ROOM)
    assert len(statuses(steps)) == 2

    another = again(steps)
    assert another.trials.suggest(Slot(1, 2), RUN) is ClaimRefusal.NOT_RUNNING
    assert another.context.refresh().status.value == status
    assert another.trials.is_idle()
    assert statuses(steps) == ["SYS_CANCELED", ended.status.value]
