"""The table of stop path and trial state: whatever ends a trial, in whatever state it is, nothing is left of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.running import ExperimentManager, TrialWatch
from trialflow.records import ExperimentStatus, Outcome, Slot, Trial, TrialStatus
from trialflow.training.local import LocalTrainingService

from .studies import states_of
from .test_manager import RUN, follow, make_manager
from .test_once_only import _processes_of as processes_of

SLEEP = "import time\ntime.sleep(60)"
RESULT = "import nni\nnni.report_final_result(0.25)"
CANCELED = {TrialStatus.USER_CANCELED, TrialStatus.SYS_CANCELED}


# ── bringing a trial into a state ────────────────────────────────────────────────────────────────────────────────


def claimed(manager: ExperimentManager) -> Trial:
    trial = manager.store.claim(manager.id, Slot(1, 0), RUN)
    assert isinstance(trial, Trial)
    return trial


def suggested(manager: ExperimentManager) -> Trial:
    """Not submitted, because the suggestion's process died before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExperimentManager, "submit", lambda _, trial: trial)
        trial = manager.suggest(Slot(1, 0), RUN)
    assert isinstance(trial, Trial)
    assert trial.job is None
    return trial


def submitted_but_not_noted(manager: ExperimentManager) -> Trial:
    trial = suggested(manager)
    manager.training.submit(manager.job_request(trial))
    return trial


def submitted(manager: ExperimentManager) -> Trial:
    return manager.submit(suggested(manager))


def running(manager: ExperimentManager) -> Trial:
    watch = TrialWatch(manager, submitted(manager))
    deadline = time.monotonic() + 30
    while watch.trial.status is not TrialStatus.RUNNING:
        assert time.monotonic() < deadline
        assert watch.poll() is None
        time.sleep(0.02)
    return watch.trial


def reporting(manager: ExperimentManager) -> Trial:
    return follow(manager, submitted(manager))


# ── ending it ────────────────────────────────────────────────────────────────────────────────────────────────────


def stop(manager: ExperimentManager, trial: Trial) -> None:
    Actions(manager.id, "ann", manager.settings).stop()


def kill(manager: ExperimentManager, trial: Trial) -> None:
    with manager.store.open_change(manager.id, "ann") as change:
        change.kill(trial)


def end_the_run(manager: ExperimentManager, trial: Trial) -> None:
    manager.close_run(1, RUN)


def reach_the_goal(manager: ExperimentManager, trial: Trial) -> None:
    _end_another(manager, Outcome(TrialStatus.SUCCEEDED, 0), 3.0)


def fail_too_often(manager: ExperimentManager, trial: Trial) -> None:
    _end_another(manager, Outcome(TrialStatus.FAILED, 1), None)


def reach_the_goal_while_planning(manager: ExperimentManager, trial: Trial) -> None:
    _end_another(manager, Outcome(TrialStatus.SUCCEEDED, 0), 3.0, settle=False)
    assert manager.plan_next_batch(1, "run-2") is None


def _end_another(manager: ExperimentManager, outcome: Outcome, value: float | None, settle: bool = True) -> None:
    other = manager.store.claim(manager.id, Slot(1, 1), RUN)
    assert isinstance(other, Trial)
    manager.store.set_ended(other, outcome, value)
    if settle:
        manager.settle()


STATES = [claimed, suggested, submitted_but_not_noted, submitted, running, reporting]
PATHS = [stop, kill, end_the_run, reach_the_goal, fail_too_often, reach_the_goal_while_planning]


@pytest.mark.parametrize("end", PATHS)
@pytest.mark.parametrize("bring", STATES)
def test_nothing_is_left_of_a_trial(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bring: Callable[[ExperimentManager], Trial],
    end: Callable[[ExperimentManager, Trial], None],
) -> None:
    # As on a cluster, where a suggestion does not follow other trials.
    monkeypatch.setattr(LocalTrainingService, "is_cheap", False)
    code = RESULT if bring is reporting else SLEEP
    manager = make_manager(tmp_path, code, max_failed_trial_number=0, goal=2.0)
    manager.plan_batch(1, RUN)
    trial = bring(manager)

    end(ExperimentManager(manager.id, manager.settings), trial)

    # What the trial's own tasks do that were under way, knowing only what they had read before.
    if trial.parameters is not None:
        manager.submit(trial)
    ended = manager.report(manager.store.get_trial(manager.id, trial.id))
    if end is not kill:
        assert manager.conclude().experiment.status in (ExperimentStatus.STOPPED, ExperimentStatus.DONE,
                                                        ExperimentStatus.ERROR)  # fmt: skip
    manager.close_run(1, RUN)

    orphans = processes_of(manager)
    assert orphans == []
    assert manager.store.count_live(manager.id) == 0
    assert "RUNNING" not in states_of(manager)
    if bring is reporting:
        assert (ended.status, ended.value, states_of(manager)[0]) == (TrialStatus.SUCCEEDED, 0.25, "COMPLETE")
    else:
        assert ended.status in CANCELED
        assert ended.reason
