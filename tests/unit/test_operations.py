"""What people do to an experiment from outside, and what becomes of its trials."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from trialflow.errors import ConfigError, ConflictError, NotFoundError
from trialflow.experiment import ExperimentManager, TrialWatch
from trialflow.experiment.logs import LogName, read_trial_log
from trialflow.experiment.operations import Operator
from trialflow.records import ExperimentStatus, Slot, Trial, TrialStatus
from trialflow.store import Adjustable, ClaimRefusal

from .test_manager import RUN, follow, live, make_manager, suggest, told
from .test_once_only import _processes_of as processes_of

SLEEP = "import time\ntime.sleep(60)"
SPACE = {"x": {"_type": "uniform", "_value": [0.25, 0.5]}}


def run_id(batch: int) -> str:
    return f"run-{batch}"


def nobody(_: str) -> bool:
    return False


def operate(manager: ExperimentManager) -> Operator:
    return Operator(manager.id, "ann", manager.settings)


def test_every_change_is_noted_with_who_when_and_what(tmp_path: Path) -> None:
    manager = make_manager(tmp_path)
    before = time.time()
    operator = operate(manager)

    operator.change(Adjustable.CONCURRENCY, 7)
    operator.change(Adjustable.TRIAL_NUMBER, 70)
    operator.change(Adjustable.DURATION, 700.5)
    operator.change(Adjustable.SEARCH_SPACE, SPACE)
    operator.stop()

    noted = manager.store.list_changes(manager.id)
    assert [(change.revision, change.who, change.what, change.value) for change in noted] == [
        (1, "ann", "concurrency", 7),
        (2, "ann", "trialnum", 70),
        (3, "ann", "duration", 700.5),
        (4, "ann", "searchspace", SPACE),
        (5, "ann", "stop", None),
    ]
    assert all(before <= change.at <= time.time() for change in noted)
    experiment = manager.refresh()
    limits = (experiment.trial_concurrency, experiment.max_trial_number, experiment.max_duration_seconds)
    assert limits == (7, 70, 700.5)


@pytest.mark.parametrize(
    ("limit", "value", "rule"),
    [
        (Adjustable.CONCURRENCY, 0, "concurrency: must be a whole number"),
        (Adjustable.CONCURRENCY, 1.5, "concurrency: must be a whole number"),
        (Adjustable.TRIAL_NUMBER, True, "trialnum: must be a whole number"),
        (Adjustable.TRIAL_NUMBER, "9", "trialnum: must be a whole number"),
        (Adjustable.DURATION, float("nan"), "duration: must be a number of seconds"),
        (Adjustable.SEARCH_SPACE, {"x": {"_type": "uniform", "_value": [1]}}, "uniform needs 2 finite numbers"),
        (Adjustable.SEARCH_SPACE, {"x": {"_type": "choice", "_value": [1, 2]}}, "x: must keep its kind"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_nothing_is_noted(
    tmp_path: Path, limit: Adjustable, value: Any, rule: str
) -> None:
    manager = make_manager(tmp_path)
    with pytest.raises(ConfigError, match=rule):
        operate(manager).change(limit, value)
    assert manager.store.list_changes(manager.id) == []


def test_concurrency_goes_up_at_once_and_going_down_kills_nothing(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, SLEEP, trial_concurrency=1, max_trial_number=9)
    suggest(manager, 0)
    assert manager.suggest(Slot(1, 1), RUN) is ClaimRefusal.NO_ROOM

    operate(manager).change(Adjustable.CONCURRENCY, 2)
    assert manager.has_news()
    suggest(manager, 1)
    operate(manager).change(Adjustable.CONCURRENCY, 1)

    assert manager.suggest(Slot(1, 2), RUN) is ClaimRefusal.NO_ROOM
    assert manager.store.count_live(manager.id) == 2
    operate(manager).kill(manager.store.list_trials(manager.id)[0].id)
    assert manager.suggest(Slot(1, 2), RUN) is ClaimRefusal.NO_ROOM
    manager.close_run(1, RUN)


def test_the_next_suggestion_comes_from_the_new_search_space(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, trial_concurrency=9, max_trial_number=9)
    suggest(manager, 0)

    operate(manager).change(Adjustable.SEARCH_SPACE, {**SPACE, "y": {"_type": "choice", "_value": ["a", "b"]}})

    later = [suggest(manager, index).parameters or {} for index in range(1, 5)]
    assert all(0.25 <= parameters["x"] <= 0.5 and parameters["y"] in "ab" for parameters in later)
    manager.close_run(1, RUN)


def test_a_stop_ends_every_live_trial_and_a_later_claim_is_refused(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, SLEEP, trial_concurrency=3, max_trial_number=9)
    running, other = suggest(manager, 0), suggest(manager, 1)
    watch = TrialWatch(ExperimentManager(manager.id, manager.settings), running)

    assert operate(manager).stop().status is ExperimentStatus.STOPPED

    assert manager.suggest(Slot(1, 2), RUN) is ClaimRefusal.NOT_RUNNING
    deadline = time.monotonic() + 5
    while (ended := watch.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (ended.status, ended.reason) == (TrialStatus.USER_CANCELED, "stopped by ann")
    assert manager.is_idle()
    assert processes_of(manager) == []
    assert told(manager) == ["FAIL", "FAIL"]
    assert manager.store.get_trial(manager.id, other.id).status is TrialStatus.USER_CANCELED
    operate(manager).stop()
    assert [change.what for change in manager.store.list_changes(manager.id)] == ["stop"]


def test_one_trial_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, SLEEP, trial_concurrency=2)
    victim, other = suggest(manager, 0), suggest(manager, 1)

    killed = operate(manager).kill(victim.id)
    manager.settle()

    assert (killed.status, killed.reason) == (TrialStatus.USER_CANCELED, "killed by ann")
    assert [trial.id for trial in manager.store.list_unreported(manager.id)] == [other.id]
    with pytest.raises(ConflictError, match="has ended already: USER_CANCELED"):
        operate(manager).kill(victim.id)
    with pytest.raises(NotFoundError):
        operate(manager).kill("nosuch")
    manager.close_run(1, RUN)


def test_a_stopped_experiment_is_resumed_with_what_is_left(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, trial_concurrency=1, max_trial_number=3)
    manager.plan_batch(1, RUN)
    manager.report(follow(manager, suggest(manager, 0)))
    operate(manager).stop()
    manager.conclude()
    manager.close_run(1, RUN)
    time.sleep(0.2)

    batch = operate(manager).resume(run_id, nobody)

    assert batch == 2
    assert manager.refresh().status is ExperimentStatus.RUNNING
    assert manager.experiment.idle_seconds >= 0.2
    assert manager.plan_batch(2, "run-2") == [Slot(2, 0), Slot(2, 1)]
    manager.stage_code()
    for slot in manager.plan_batch(2, "run-2"):
        trial = manager.suggest(slot, "run-2")
        assert isinstance(trial, Trial)
        manager.report(follow(manager, trial))
    assert manager.plan_next_batch(2, "run-3") is None
    assert manager.is_idle()
    assert manager.conclude().experiment.status is ExperimentStatus.DONE
    assert manager.close_run(2, "run-2") is True
    assert told(manager) == ["COMPLETE"] * 3


def test_trials_that_a_crash_left_running_are_taken_up_by_the_resumed_run(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)\nimport nni\n"
    manager = make_manager(tmp_path, code + "nni.report_final_result(1.0)", trial_concurrency=2, max_trial_number=2)
    manager.plan_batch(1, RUN)
    left = [suggest(manager, index) for index in range(2)]
    before = processes_of(manager)

    batch = operate(manager).resume(run_id, nobody)

    later = ExperimentManager(manager.id, manager.settings)
    slots = later.plan_batch(batch, run_id(batch))
    assert len(slots) == 2
    taken = [later.suggest(slot, run_id(batch)) for slot in slots]
    assert [trial.id for trial in taken if isinstance(trial, Trial)] == [trial.id for trial in left]
    assert set(before) & set(processes_of(manager))
    gate.touch()
    for trial in taken:
        assert isinstance(trial, Trial)
        assert later.report(follow(later, trial)).attempt == 1
    assert told(manager) == ["COMPLETE"] * 2
    assert later.conclude().experiment.status is ExperimentStatus.DONE
    assert later.close_run(batch, run_id(batch)) is True


def test_an_experiment_that_had_all_its_trials_is_resumed_after_their_number_was_raised(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, trial_concurrency=2, max_trial_number=2)
    live(manager)
    manager.conclude()
    manager.close_run(1, RUN)

    with pytest.raises(ConflictError, match="nnictl update trialnum expaaaaa --value 4"):
        operate(manager).resume(run_id, nobody)
    operate(manager).change(Adjustable.TRIAL_NUMBER, 5)

    assert operate(manager).resume(run_id, nobody) == 2
    assert len(manager.plan_batch(2, "run-2")) == 3


def test_an_experiment_whose_run_goes_on_is_not_resumed(tmp_path: Path) -> None:
    manager = make_manager(tmp_path)
    manager.plan_batch(1, RUN)
    with pytest.raises(ConflictError, match="its run run-1 goes on"):
        operate(manager).resume(run_id, lambda name: name == RUN)


def test_trials_that_are_added_after_the_last_batch_get_a_batch_of_their_own(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, SLEEP, trial_concurrency=2, max_trial_number=2)
    manager.plan_batch(1, RUN)
    suggest(manager, 0)
    assert operate(manager).plan_on(run_id) is None, "the run's own next_batch comes to it yet"
    suggest(manager, 1)
    assert manager.plan_next_batch(1, "run-2") is None

    operate(manager).change(Adjustable.TRIAL_NUMBER, 3)

    assert operate(manager).plan_on(run_id) == 2
    assert manager.plan_batch(2, "run-2") == [Slot(2, 0)]
    manager.close_run(1, RUN)
    manager.close_run(2, "run-2")


def test_a_trial_s_output_is_read_in_parts(tmp_path: Path) -> None:
    manager = make_manager(tmp_path, "print('one')\nprint('two')")
    ended = follow(manager, suggest(manager, 0))

    def read(offset: int, most: int = 100) -> bytes:
        return read_trial_log(manager.experiment, ended, LogName.STDOUT, offset, most)

    assert (read(0), read(4), read(-4), read(0, 3)) == (b"one\ntwo\n", b"two\n", b"two\n", b"one")


@pytest.mark.parametrize("trick", ["link", "folder link", "pipe", "missing"])
def test_a_trial_cannot_show_its_readers_another_file_or_hold_them_up(tmp_path: Path, trick: str) -> None:
    manager = make_manager(tmp_path, "pass")
    ended = follow(manager, suggest(manager, 0))
    folder = Path(manager.experiment.folder) / "trials" / ended.id / "1"
    (tmp_path / "stderr").write_text("secret")
    (folder / "stderr").unlink()
    if trick == "link":
        (folder / "stderr").symlink_to(tmp_path / "stderr")
    elif trick == "pipe":
        os.mkfifo(folder / "stderr")
    elif trick == "folder link":
        folder.rename(tmp_path / "moved")
        folder.symlink_to(tmp_path)

    with pytest.raises(NotFoundError, match="has no stderr"):
        read_trial_log(manager.experiment, ended, LogName.STDERR, 0, 100)
