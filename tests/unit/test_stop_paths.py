"""The table of stop path and trial state: whatever ends a trial, in whatever state it is, nothing is left of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.running import ExperimentContext, ExperimentSteps, TrialWatch
from trialflow.records import ExperimentStatus, Outcome, Slot, Trial, TrialStatus
from trialflow.training.local import LocalTrainingService

from .lab import RUN, again, follow, make_steps, processes_of, states_of

SLEEP = "import time\ntime.sleep(60)"
RESULT = "import nni\nnni.report_final_result(0.25)"
CANCELED = {TrialStatus.USER_CANCELED, TrialStatus.SYS_CANCELED}


# ── bringing a trial into a state ────────────────────────────────────────────────────────────────────────────────


def claimed(steps: ExperimentSteps) -> Trial:
    trial = steps.context.store.claim(steps.context.id, Slot(1, 0), RUN)
    assert isinstance(trial, Trial)
    return trial


def suggested(steps: ExperimentSteps) -> Trial:
    """Not submitted, because the suggestion's process died before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExperimentContext, "submit", lambda _, trial: trial)
        trial = steps.trials.suggest(Slot(1, 0), RUN)
    assert isinstance(trial, Trial)
    assert trial.job is None
    return trial


def submitted_but_not_noted(steps: ExperimentSteps) -> Trial:
    trial = suggested(steps)
    steps.context.training.submit(steps.context.job_request(trial))
    return trial


def submitted(steps: ExperimentSteps) -> Trial:
    return steps.context.submit(suggested(steps))


def running(steps: ExperimentSteps) -> Trial:
    watch = TrialWatch(steps.context, submitted(steps))
    deadline = time.monotonic() + 30
    while watch.trial.status is not TrialStatus.RUNNING:
        assert time.monotonic() < deadline
        assert watch.poll() is None
        time.sleep(0.02)
    return watch.trial


def reporting(steps: ExperimentSteps) -> Trial:
    return follow(steps, submitted(steps))


# ── ending it ────────────────────────────────────────────────────────────────────────────────────────────────────


def stop(steps: ExperimentSteps, trial: Trial) -> None:
    Actions(steps.context.id, "ann", steps.context.settings).stop()


def kill(steps: ExperimentSteps, trial: Trial) -> None:
    with steps.context.store.open_change(steps.context.id, "ann") as change:
        change.kill(trial)


def end_the_run(steps: ExperimentSteps, trial: Trial) -> None:
    steps.close_run(1, RUN)


def reach_the_goal(steps: ExperimentSteps, trial: Trial) -> None:
    _end_another(steps, Outcome(TrialStatus.SUCCEEDED, 0), 3.0)


def fail_too_often(steps: ExperimentSteps, trial: Trial) -> None:
    _end_another(steps, Outcome(TrialStatus.FAILED, 1), None)


def reach_the_goal_while_planning(steps: ExperimentSteps, trial: Trial) -> None:
    _end_another(steps, Outcome(TrialStatus.SUCCEEDED, 0), 3.0, settle=False)
    assert steps.plan_next_batch(1, "run-2") is None


def _end_another(steps: ExperimentSteps, outcome: Outcome, value: float | None, settle: bool = True) -> None:
    other = steps.context.store.claim(steps.context.id, Slot(1, 1), RUN)
    assert isinstance(other, Trial)
    steps.context.store.set_ended(other, outcome, value)
    if settle:
        steps.trials.report_ended()


STATES = [claimed, suggested, submitted_but_not_noted, submitted, running, reporting]
PATHS = [stop, kill, end_the_run, reach_the_goal, fail_too_often, reach_the_goal_while_planning]


@pytest.mark.parametrize("end", PATHS)
@pytest.mark.parametrize("bring", STATES)
def test_nothing_is_left_of_a_trial(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bring: Callable[[ExperimentSteps], Trial],
    end: Callable[[ExperimentSteps, Trial], None],
) -> None:
    # As on a cluster, where a suggestion does not follow other trials.
    monkeypatch.setattr(LocalTrainingService, "is_cheap", False)
    code = RESULT if bring is reporting else SLEEP
    steps = make_steps(tmp_path, code, max_failed_trial_number=0, goal=2.0)
    steps.plan_batch(1, RUN)
    trial = bring(steps)

    end(again(steps), trial)

    # What the trial's own tasks do that were under way, knowing only what they had read before.
    if trial.parameters is not None:
        steps.context.submit(trial)
    ended = steps.trials.report(steps.context.store.get_trial(steps.context.id, trial.id))
    if end is not kill:
        assert steps.conclude().experiment.status in (ExperimentStatus.STOPPED, ExperimentStatus.DONE,
                                                        ExperimentStatus.ERROR)  # fmt: skip
    steps.close_run(1, RUN)

    orphans = processes_of(steps)
    assert orphans == []
    assert steps.context.store.count_live(steps.context.id) == 0
    assert "RUNNING" not in states_of(steps)
    if bring is reporting:
        assert (ended.status, ended.value, states_of(steps)[0]) == (TrialStatus.SUCCEEDED, 0.25, "COMPLETE")
    else:
        assert ended.status in CANCELED
        assert ended.reason
