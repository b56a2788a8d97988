"""What people do to an experiment from outside, and what becomes of its trials."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from trialflow.errors import ConfigError, ConflictError, NotFoundError, StoreError
from trialflow.experiment.operating import actions as operations
from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.operating.folders import remove_folder
from trialflow.experiment.running import ExperimentContext, ExperimentSteps, TrialWatch
from trialflow.experiment.running.ask import read_history, read_past
from trialflow.experiment.showing.logs import LogName, read_trial_log
from trialflow.experiment.showing.nni_views import NniClient, show_imported, show_results
from trialflow.records import AlgorithmSpec, Experiment, ExperimentStatus, Slot, Trial, TrialStatus
from trialflow.store import Adjustable, ClaimRefusal, ExperimentChange, changes

from .lab import RUN, again, follow, live, make_steps, processes_of, states_of, study_of, suggest, waiting_for

SLEEP = "import time\ntime.sleep(60)"
SPACE = {"x": {"_type": "uniform", "_value": [0.25, 0.5]}}


def run_id(batch: int) -> str:
    return f"run-{batch}"


def nobody(_: str) -> bool:
    return False


def operate(steps: ExperimentSteps) -> Actions:
    return Actions(steps.context.id, "ann", steps.context.settings)


def test_every_change_is_noted_with_who_when_and_what(tmp_path: Path) -> None:
    steps = make_steps(tmp_path)
    before = time.time()
    actions = operate(steps)

    actions.change(Adjustable.CONCURRENCY, 7)
    actions.change(Adjustable.TRIAL_NUMBER, 70)
    actions.change(Adjustable.DURATION, 700.5)
    actions.change(Adjustable.SEARCH_SPACE, SPACE)
    actions.stop()

    noted = steps.context.store.list_changes(steps.context.id)
    assert [(change.revision, change.who, change.what, change.value) for change in noted] == [
        (1, "ann", "concurrency", 7),
        (2, "ann", "trialnum", 70),
        (3, "ann", "duration", 700.5),
        (4, "ann", "searchspace", SPACE),
        (5, "ann", "stop", None),
    ]
    assert all(before <= change.at <= time.time() for change in noted)
    experiment = steps.context.refresh()
    limits = (experiment.trial_concurrency, experiment.max_trial_number, experiment.max_duration_seconds)
    assert limits == (7, 70, 700.5)


@pytest.mark.parametrize(
    ("limit", "value", "rule"),
    [
        (Adjustable.CONCURRENCY, 0, "concurrency: must be a whole number"),
        (Adjustable.CONCURRENCY, 1.5, "concurrency: must be a whole number"),
        (Adjustable.CONCURRENCY, 100_000, "concurrency: must be a whole number from 1 to 99999; got 100000"),
        (Adjustable.TRIAL_NUMBER, True, "trialnum: must be a whole number"),
        (Adjustable.TRIAL_NUMBER, 100_000, "trialnum: must be a whole number from 1 to 99999; got 100000"),
        (Adjustable.DURATION, "2 weeks", "got '2 weeks'. Write seconds, or a number with a unit: 90s, 30m, 2h, 1d"),
        (Adjustable.TRIAL_NUMBER, "9", "trialnum: must be a whole number"),
        (Adjustable.DURATION, float("nan"), "duration: must be a number of seconds"),
        (Adjustable.SEARCH_SPACE, {"x": {"_type": "uniform", "_value": [1]}}, "uniform needs 2 finite numbers"),
        (Adjustable.SEARCH_SPACE, [1], "must be an object of parameters"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_nothing_is_noted(
    tmp_path: Path, limit: Adjustable, value: Any, rule: str
) -> None:
    steps = make_steps(tmp_path)
    with pytest.raises(ConfigError, match=rule):
        operate(steps).change(limit, value)
    assert steps.context.store.list_changes(steps.context.id) == []


def test_concurrency_goes_up_at_once_and_going_down_kills_nothing(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, SLEEP, trial_concurrency=1, max_trial_number=9)
    suggest(steps, 0)
    assert steps.trials.suggest(Slot(1, 1), RUN) is ClaimRefusal.NO_ROOM

    operate(steps).change(Adjustable.CONCURRENCY, 2)
    assert steps.trials.has_news()
    suggest(steps, 1)
    operate(steps).change(Adjustable.CONCURRENCY, 1)

    assert steps.trials.suggest(Slot(1, 2), RUN) is ClaimRefusal.NO_ROOM
    assert steps.context.store.count_live(steps.context.id) == 2
    operate(steps).kill(steps.context.store.list_trials(steps.context.id)[0].id)
    assert steps.trials.suggest(Slot(1, 2), RUN) is ClaimRefusal.NO_ROOM
    steps.close_run(1, RUN)


def test_the_next_suggestion_comes_from_the_new_search_space(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, trial_concurrency=9, max_trial_number=9)
    suggest(steps, 0)

    operate(steps).change(Adjustable.SEARCH_SPACE, {**SPACE, "y": {"_type": "choice", "_value": ["a", "b"]}})

    later = [suggest(steps, index).parameters or {} for index in range(1, 5)]
    assert all(0.25 <= parameters["x"] <= 0.5 and parameters["y"] in "ab" for parameters in later)
    steps.close_run(1, RUN)


def test_a_choice_gets_other_options_and_what_fits_them_is_still_known(tmp_path: Path) -> None:
    def space(*options: str) -> dict[str, Any]:
        return {"x": {"_type": "choice", "_value": list(options)}, "n": {"_type": "randint", "_value": [0, 9]}}

    code = "import nni\nnni.report_final_result('abc'.index(nni.get_next_parameter()['x']))"
    steps = make_steps(tmp_path, code, trial_concurrency=1, max_trial_number=30, search_space=space("a", "b"))
    for index in range(4):
        steps.trials.report(follow(steps, suggest(steps, index)))

    operate(steps).change(Adjustable.SEARCH_SPACE, space("b", "c"))

    history = read_history(steps.context.refresh(), steps.context.store)
    values = [(trial.parameters or {})["x"] for trial in steps.context.store.list_trials(steps.context.id)]
    assert [result.latents["x"] for result in history.results] == [value for value in values if value == "b"]
    assert 0 < len(history.results) < 4
    asked = []
    for index in range(4, 12):
        trial = steps.trials.report(follow(steps, suggest(steps, index)))
        asked.append((trial.parameters or {})["x"])
    assert set(asked) == {"b", "c"}
    operate(steps).change(Adjustable.SEARCH_SPACE, space("a", "b"))
    suggest(steps, 12)
    names = [sorted(trial.params) for trial in study_of(steps).get_trials()]
    assert names == [["n", "x"]] * 4 + [["n", "x (2)"]] * 8 + [["n", "x"]]
    steps.close_run(1, RUN)
    steps.conclude()
    assert states_of(steps)[:12] == ["COMPLETE"] * 12


def test_a_parameter_of_another_kind_goes_on_under_another_name_in_the_study(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, trial_concurrency=9, max_trial_number=30)
    kinds: list[dict[str, Any]] = [
        {"_type": "loguniform", "_value": [0.1, 1]},
        {"_type": "choice", "_value": [0.5, 2, 3]},
        {"_type": "uniform", "_value": [0.2, 0.8]},
    ]
    suggest(steps, 0)
    for index, kind in enumerate(kinds, start=1):
        names = {"x": kind, "x (2)": {"_type": "uniform", "_value": [0, 1]}}
        operate(steps).change(Adjustable.SEARCH_SPACE, names if index == 1 else {"x": kind})
        suggest(steps, index)
    names_of_trials = [sorted(trial.params) for trial in study_of(steps).get_trials()]
    assert names_of_trials == [["x"], ["x (2)", "x (3)"], ["x (4)"], ["x"]]
    steps.close_run(1, RUN)


def test_a_search_space_that_the_tuner_does_not_take_is_refused(tmp_path: Path) -> None:
    space = {"combine_params": {"_type": "choice", "_value": [1, 2]}}
    steps = make_steps(tmp_path, search_space=space, tuner=AlgorithmSpec("BatchTuner"))
    with pytest.raises(ConfigError, match="BatchTuner"):
        operate(steps).change(Adjustable.SEARCH_SPACE, SPACE)


def test_a_stop_ends_every_live_trial_and_a_later_claim_is_refused(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, SLEEP, trial_concurrency=3, max_trial_number=9)
    running, other = suggest(steps, 0), suggest(steps, 1)
    watch = TrialWatch(again(steps).context, running)

    assert operate(steps).stop().status is ExperimentStatus.STOPPED

    assert steps.trials.suggest(Slot(1, 2), RUN) is ClaimRefusal.NOT_RUNNING
    deadline = time.monotonic() + 5
    while (ended := watch.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (ended.status, ended.reason) == (TrialStatus.USER_CANCELED, "stopped by ann")
    assert steps.trials.is_idle()
    assert processes_of(steps) == []
    assert states_of(steps) == ["FAIL", "FAIL"]
    assert steps.context.store.get_trial(steps.context.id, other.id).status is TrialStatus.USER_CANCELED
    operate(steps).stop()
    assert [change.what for change in steps.context.store.list_changes(steps.context.id)] == ["stop"]


def test_one_trial_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, SLEEP, trial_concurrency=2)
    victim, other = suggest(steps, 0), suggest(steps, 1)

    killed = operate(steps).kill(victim.id)
    steps.trials.report_ended()

    assert (killed.status, killed.reason) == (TrialStatus.USER_CANCELED, "killed by ann")
    assert [trial.id for trial in steps.context.store.list_unreported(steps.context.id)] == [other.id]
    with pytest.raises(ConflictError, match="has ended already: USER_CANCELED"):
        operate(steps).kill(victim.id)
    with pytest.raises(NotFoundError):
        operate(steps).kill("nosuch")
    steps.close_run(1, RUN)


def test_a_stopped_experiment_is_resumed_with_what_is_left(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, trial_concurrency=1, max_trial_number=3)
    steps.plan_batch(1, RUN)
    steps.trials.report(follow(steps, suggest(steps, 0)))
    operate(steps).stop()
    steps.conclude()
    steps.close_run(1, RUN)
    time.sleep(0.2)

    batch = operate(steps).resume(run_id, nobody)

    assert batch == 2
    assert steps.context.refresh().status is ExperimentStatus.RUNNING
    assert steps.context.experiment.idle_seconds >= 0.2
    assert steps.plan_batch(2, "run-2") == [Slot(2, 0), Slot(2, 1)]
    steps.stage_code()
    for slot in steps.plan_batch(2, "run-2"):
        trial = steps.trials.suggest(slot, "run-2")
        assert isinstance(trial, Trial)
        steps.trials.report(follow(steps, trial))
    assert steps.plan_next_batch(2, "run-3") is None
    assert steps.trials.is_idle()
    assert steps.conclude().experiment.status is ExperimentStatus.DONE
    assert steps.close_run(2, "run-2") is True
    assert states_of(steps) == ["COMPLETE"] * 3


def test_an_experiment_whose_first_run_never_planned_its_batch_is_resumed_in_the_second(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, max_trial_number=3)
    assert operate(steps).resume(run_id, nobody) == 2
    assert len(steps.plan_batch(2, run_id(2))) == 3


def test_trials_that_a_crash_left_running_are_taken_up_by_the_resumed_run(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)\nimport nni\n"
    steps = make_steps(tmp_path, code + "nni.report_final_result(1.0)", trial_concurrency=2, max_trial_number=2)
    steps.plan_batch(1, RUN)
    left = [suggest(steps, index) for index in range(2)]
    before = processes_of(steps)

    batch = operate(steps).resume(run_id, nobody)

    later = again(steps)
    slots = later.plan_batch(batch, run_id(batch))
    assert len(slots) == 2
    taken = [later.trials.suggest(slot, run_id(batch)) for slot in slots]
    assert [trial.id for trial in taken if isinstance(trial, Trial)] == [trial.id for trial in left]
    assert set(before) & set(processes_of(steps))
    gate.touch()
    for trial in taken:
        assert isinstance(trial, Trial)
        assert later.trials.report(follow(later, trial)).attempt == 1
    assert states_of(steps) == ["COMPLETE"] * 2
    assert later.conclude().experiment.status is ExperimentStatus.DONE
    assert later.close_run(batch, run_id(batch)) is True


def test_an_experiment_that_had_all_its_trials_is_resumed_after_their_number_was_raised(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, trial_concurrency=2, max_trial_number=2)
    live(steps)
    steps.conclude()
    steps.close_run(1, RUN)

    with pytest.raises(ConflictError, match="nnictl update trialnum expaaaaa --value 4"):
        operate(steps).resume(run_id, nobody)
    operate(steps).change(Adjustable.TRIAL_NUMBER, 5)

    assert operate(steps).resume(run_id, nobody) == 2
    assert len(steps.plan_batch(2, "run-2")) == 3


def test_an_experiment_is_not_resumed_again_before_its_run_was_made_and_is_when_that_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = make_steps(tmp_path, max_trial_number=3)
    steps.plan_batch(1, RUN)
    end(steps)

    assert operate(steps).resume(run_id, nobody) == 2
    with pytest.raises(ConflictError, match="expaaaaa was resumed or cleared away by somebody else a moment ago"):
        operate(steps).resume(run_id, nobody)

    assert steps.context.store.list_runs(steps.context.id) == [RUN, "run-2"]
    monkeypatch.setattr(changes, "_START_SECONDS", 0.0)
    assert operate(steps).resume(run_id, nobody) == 3


@pytest.mark.parametrize("first", ["resume", "plan_clearing"])
@pytest.mark.parametrize("second", ["resume", "plan_clearing"])
def test_of_two_who_see_at_once_that_no_run_goes_on_only_one_opens_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    monkeypatch.setattr(changes, "_START_SECONDS", 0.0)
    steps = make_steps(tmp_path, SLEEP, max_trial_number=3)
    steps.plan_batch(1, RUN)
    suggest(steps, 0)
    operate(steps).stop()
    opened = []

    def is_alive(_: str) -> bool:
        """Not, but before the second one can act, the first one has."""
        opened.append(getattr(operate(steps), first)(run_id, nobody))
        return False

    if second == "resume":
        with pytest.raises(ConflictError, match="by somebody else a moment ago"):
            operate(steps).resume(run_id, is_alive)
    else:
        assert operate(steps).plan_clearing(run_id, is_alive) is None

    assert opened == [2]
    assert steps.context.store.list_runs(steps.context.id, only_open=True) == ["run-2"]
    assert steps.context.refresh().status.is_final is (first == "plan_clearing")
    steps.close_run(2, "run-2")


def test_an_experiment_whose_run_goes_on_is_not_resumed(tmp_path: Path) -> None:
    steps = make_steps(tmp_path)
    steps.plan_batch(1, RUN)
    with pytest.raises(ConflictError, match="its run run-1 goes on"):
        operate(steps).resume(run_id, lambda name: name == RUN)


def test_trials_that_are_added_after_the_last_batch_get_a_batch_of_their_own(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, SLEEP, trial_concurrency=2, max_trial_number=2)
    steps.plan_batch(1, RUN)
    suggest(steps, 0)
    assert operate(steps).plan_on(run_id) is None, "the run's own next_batch comes to it yet"
    suggest(steps, 1)
    assert steps.plan_next_batch(1, "run-2") is None

    operate(steps).change(Adjustable.TRIAL_NUMBER, 3)

    assert operate(steps).plan_on(run_id) == 2
    assert steps.plan_batch(2, "run-2") == [Slot(2, 0)]
    steps.close_run(1, RUN)
    steps.close_run(2, "run-2")


def test_a_limit_that_is_raised_after_it_was_reached_gives_the_experiment_one_more_batch(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, SLEEP, trial_concurrency=9, max_trial_number=9)
    steps.plan_batch(1, RUN)
    suggest(steps, 0)
    operate(steps).change(Adjustable.DURATION, 1)
    time.sleep(1.1)
    assert steps.trials.suggest(Slot(1, 1), RUN) is ClaimRefusal.DURATION_OVER
    assert operate(steps).plan_on(run_id) is None, "the run's own next_batch comes to it yet"
    assert steps.plan_next_batch(1, "run-2") is None
    assert operate(steps).plan_on(run_id) is None, "the limit is as it was"

    operate(steps).change(Adjustable.DURATION, 3600)

    assert operate(steps).plan_on(run_id) == 2
    assert operate(steps).plan_on(run_id) is None, "the second batch comes to it yet"
    assert steps.plan_next_batch(1, "run-2") == 2
    assert steps.plan_batch(2, "run-2") == [Slot(2, index) for index in range(4)]

    operate(steps).change(Adjustable.TRIAL_NUMBER, 1)
    assert steps.trials.suggest(Slot(2, 0), "run-2") is ClaimRefusal.NO_TRIALS_LEFT
    assert steps.plan_next_batch(2, "run-3") is None
    operate(steps).change(Adjustable.TRIAL_NUMBER, 3)

    assert operate(steps).plan_on(run_id) == 3, "no trial of the second batch was claimed, but nothing is wrong"
    assert steps.context.refresh().status is ExperimentStatus.RUNNING
    assert steps.plan_batch(3, "run-3") == [Slot(3, 0), Slot(3, 1)]
    for batch in (1, 2, 3):
        steps.close_run(batch, run_id(batch))


def test_a_limit_that_is_raised_while_the_next_batch_is_looked_for_is_not_overlooked(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, SLEEP, trial_concurrency=2, max_trial_number=2)
    steps.plan_batch(1, RUN)
    for index in range(2):
        suggest(steps, index)
    planned = []

    class Looking(ExperimentContext):
        def refresh(self) -> Experiment:
            before = super().refresh()
            operate(steps).change(Adjustable.TRIAL_NUMBER, 3)
            planned.append(operate(steps).plan_on(run_id))
            return before

    assert ExperimentSteps(Looking(steps.context.id, steps.context.settings)).plan_next_batch(1, "run-2") == 2
    assert planned == [2]
    for batch in (1, 2):
        steps.close_run(batch, run_id(batch))


def test_a_hand_made_trial_has_the_next_place_under_the_cap_and_the_number_that_was_told(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    steps = make_steps(tmp_path, waiting_for(gate), trial_concurrency=1, max_trial_number=4)
    first = suggest(steps, 0)

    numbers = [operate(steps).add({"x": value}) for value in (0.25, 7)]

    assert numbers == [1, 2]
    assert steps.trials.suggest(Slot(1, 1), RUN) is ClaimRefusal.NO_ROOM
    assert len(steps.context.store.list_trials(steps.context.id)) == 1
    gate.touch()
    steps.trials.report(follow(steps, first))
    for slot, value in ((1, 0.25), (2, 7)):
        trial = suggest(steps, slot)
        assert (trial.number, trial.parameters, trial.is_customized) == (slot, {"x": value}, True)
        assert steps.trials.report(follow(steps, trial)).value == value
    assert suggest(steps, 3).is_customized is False
    assert states_of(steps) == ["COMPLETE"] * 3 + ["RUNNING"]
    seen = [(trial.value, trial.given) for trial in read_past(steps.context.experiment, steps.context.store)]
    assert seen[1:3] == [(0.25, True), (7.0, True)]
    steps.close_run(1, RUN)


def test_a_hand_made_trial_needs_a_trial_that_is_left_and_the_names_of_the_search_space(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, max_trial_number=1)
    for wrong in ({"y": 1}, {"x": 1, "y": 1}, {"x": float("nan")}, [1], {}):
        with pytest.raises(ConfigError, match="parameters: must"):
            operate(steps).add(wrong)
    operate(steps).add({"x": 0.5})
    with pytest.raises(ConflictError, match="nnictl update trialnum expaaaaa --value 2"):
        operate(steps).add({"x": 0.5})
    assert [change.what for change in steps.context.store.list_changes(steps.context.id)] == ["add"]


def test_whoever_dies_between_claim_and_job_leaves_a_hand_made_trial_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = make_steps(tmp_path)
    operate(steps).add({"x": 0.125})
    with monkeypatch.context() as patched:
        patched.setattr(ExperimentContext, "submit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            steps.trials.suggest(Slot(1, 0), RUN)

    trial = suggest(again(steps), 0)

    assert (trial.number, trial.parameters) == (0, {"x": 0.125})
    assert steps.trials.report(follow(steps, trial)).value == 0.125
    assert states_of(steps) == ["COMPLETE"]


def test_a_tuner_that_waits_or_has_nothing_left_does_not_keep_a_hand_made_trial_from_its_place(tmp_path: Path) -> None:
    space = {"x": {"_type": "choice", "_value": [1, 2]}}
    grid = AlgorithmSpec("GridSearch")
    steps = make_steps(tmp_path, trial_concurrency=4, max_trial_number=9, search_space=space, tuner=grid)
    for index in range(2):
        steps.trials.report(follow(steps, suggest(steps, index)))
    claimed = steps.context.store.claim(steps.context.id, Slot(1, 2), RUN)
    assert isinstance(claimed, Trial)
    operate(steps).add({"x": 9})  # While the tuner is asked on behalf of a claim.

    assert steps.trials.suggest(Slot(1, 2), RUN) is ClaimRefusal.NO_SUGGESTION
    assert steps.trials.has_news(steps.trials.asked_in_vain_after)
    assert suggest(steps, 2).parameters == {"x": 9}
    assert steps.trials.suggest(Slot(1, 3), RUN) is ClaimRefusal.TUNER_EXHAUSTED
    steps.close_run(1, RUN)


def test_imported_results_stand_in_the_tuner_s_history_once(tmp_path: Path) -> None:
    steps = make_steps(tmp_path)
    data = [{"parameter": {"x": 0.5}, "value": 1}, {"parameter": {"x": 9}, "value": {"default": 2.5}, "id": "abcde"}]

    answers = [operate(steps).import_data(part) for part in (data[:1], data, data)]

    assert answers == [
        {"imported": 1, "known": 0, "fit": 1},
        {"imported": 1, "known": 1, "fit": 1},
        {"imported": 0, "known": 2, "fit": 1},
    ]
    past = read_past(steps.context.experiment, steps.context.store)
    assert [(trial.number, trial.parameters, trial.value, trial.given, trial.live) for trial in past] == [
        (-2, {"x": 0.5}, 1.0, True, False),
        (-1, {"x": 9}, 2.5, True, False),
    ]
    assert [change.value for change in steps.context.store.list_changes(steps.context.id)] == [1, 1]
    suggest(steps, 0)
    assert len(read_past(steps.context.experiment, steps.context.store)) == 3
    steps.close_run(1, RUN)


def test_imported_results_warm_the_tuner_up(tmp_path: Path) -> None:
    """With 40 results around the maximum, TPE looks there at once; without them it draws from the prior."""
    steps = make_steps(tmp_path, trial_concurrency=9, max_trial_number=9)
    near = [{"parameter": {"x": 0.9 + step / 1000}, "value": 100 + step} for step in range(20)]
    far = [{"parameter": {"x": step / 50}, "value": step} for step in range(20)]
    operate(steps).import_data(near + far)
    asked = [(suggest(steps, index).parameters or {})["x"] for index in range(6)]
    steps.close_run(1, RUN)
    assert min(asked) > 0.6


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        ({}, "data: must be a list"),
        ([], "data: must be a list"),
        ([{"parameter": {"x": 1}}], r"\[0\]: needs the keys parameter and value"),
        ([{"parameter": {}, "value": 1}], r"\[0\].parameter: must be an object of parameters"),
        ([{"parameter": {"x": 1}, "value": "one"}], r"\[0\].value: the metric is text"),
        ([{"parameter": {"x": 1}, "value": "true"}], r"\[0\].value: the metric is a truth value"),
        ([{"parameter": {"x": 1}, "value": "[" * 100_000}], r"\[0\].value: the metric is text"),
        ([{"parameter": {"x": 1}, "value": float("nan")}], r"\[0\].value: must be finite"),
        ([{"parameter": {"x": "a" * 70_000}, "value": 1}], "must not be larger than"),
    ],
)
def test_data_that_is_no_export_is_refused_as_a_whole(tmp_path: Path, data: Any, rule: str) -> None:
    steps = make_steps(tmp_path)
    good = [{"parameter": {"x": 0.5}, "value": 1}] if isinstance(data, list) and data else []
    with pytest.raises(ConfigError, match=rule):
        operate(steps).import_data(data + good if good else data)
    assert steps.context.store.list_known_points(steps.context.id) == []


@pytest.mark.parametrize("parameter", [{"x": 10**300}, json.loads('{"x":' * 150 + "1" + "}" * 150)])
def test_parameters_have_the_limits_of_a_document(tmp_path: Path, parameter: dict[str, Any]) -> None:
    steps = make_steps(tmp_path)
    assert operate(steps).import_data([{"parameter": {"x": [[[0.5]]]}, "value": 1}])["imported"] == 1
    with pytest.raises(ConfigError, match="cannot be taken: "):
        operate(steps).import_data([{"parameter": parameter, "value": 1}])
    with pytest.raises(ConfigError, match="cannot be taken: "):
        operate(steps).add(parameter)


def test_of_many_wrong_results_the_first_are_told_and_how_many_more_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        operate(make_steps(tmp_path)).import_data([{"x": 1}] * 10_000)
    assert str(refused.value).splitlines()[-1] == "  - and 9950 more: correct these first"


def test_what_one_experiment_exports_another_one_imports(tmp_path: Path) -> None:
    first, second = make_steps(tmp_path / "a", max_trial_number=3), make_steps(tmp_path / "b")
    live(first)
    trials = first.context.store.list_trials(first.context.id)
    finals = first.context.store.list_finals(first.context.id)
    exported = show_results(trials, finals)
    assert operate(second).import_data(exported) == {"imported": 3, "known": 0, "fit": 3}
    assert operate(second).import_data(show_results(trials, finals, NniClient.V1)) == {
        "imported": 0, "known": 3, "fit": 3
    }  # fmt: skip
    known, total = second.context.store.page_known_points(second.context.id, 2, 1)
    assert ([point.value for point in known], total) == ([trial.value for trial in trials[1:]], 3)
    assert [json.loads(show_imported(point)) for point in known] == [
        [{"parameter": trial.parameters, "value": trial.value}] for trial in trials[1:]
    ]
    first.close_run(1, RUN)


def end(steps: ExperimentSteps) -> None:
    operate(steps).stop()
    steps.trials.report_ended()
    steps.close_run(1, RUN)


def test_a_deleted_run_ends_its_trials_and_the_experiment_whose_newest_batch_it_carried(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, SLEEP, trial_concurrency=5, max_trial_number=5)
    steps.plan_batch(1, RUN)
    first = suggest(steps, 0)
    steps.plan_batch(2, "run-2")
    second = steps.trials.suggest(Slot(2, 0), "run-2")
    assert isinstance(second, Trial)

    operate(steps).end_run(RUN)

    statuses = [trial.status for trial in steps.context.store.list_trials(steps.context.id)]
    assert (steps.context.refresh().status, statuses[1].is_final) == (ExperimentStatus.RUNNING, False)
    assert steps.context.store.get_trial(steps.context.id, first.id).reason == "the run run-1 was deleted"
    assert operate(steps).plan_clearing(run_id, nobody) is None, "the experiment goes on in another run"
    operate(steps).end_run("run-2")
    operate(steps).end_run("run-2")
    assert steps.context.refresh().status is ExperimentStatus.STOPPED
    assert all(trial.ended_at for trial in steps.context.store.list_trials(steps.context.id))
    assert [change.what for change in steps.context.store.list_changes(steps.context.id)] == ["stop"]
    end(steps)


def test_a_run_that_clears_away_is_planned_once_and_does_nothing_else(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, SLEEP, trial_concurrency=2, max_trial_number=5)
    steps.plan_batch(1, RUN)
    suggest(steps, 0)
    assert operate(steps).plan_clearing(run_id, nobody) is None
    operate(steps).stop()
    assert operate(steps).plan_clearing(run_id, lambda name: name == RUN) is None, "its own run comes to it"

    assert operate(steps).plan_clearing(run_id, nobody) == 2
    assert operate(steps).plan_clearing(run_id, lambda name: name == "run-2") is None

    assert steps.plan_batch(2, "run-2") == []
    steps.trials.report_ended()
    assert processes_of(steps) == []
    assert steps.trials.is_idle()
    assert steps.plan_next_batch(2, "run-3") is None
    assert steps.conclude().experiment.status is ExperimentStatus.STOPPED
    assert steps.close_run(2, "run-2") is True
    assert operate(steps).plan_clearing(run_id, nobody) is None


def test_an_experiment_that_ended_is_deleted_with_everything_and_its_neighbour_stays(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, max_trial_number=2)
    neighbour = ExperimentSteps.create("expbbbbb", steps.context.experiment.spec, steps.context.settings)
    live(steps)
    operate(steps).import_data([{"parameter": {"x": 0.5}, "value": 1}])
    end(steps)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (Path(steps.context.experiment.folder) / "link").symlink_to(outside)

    assert operate(steps).delete(nobody) is True

    assert not Path(steps.context.experiment.folder).exists()
    assert (outside / "file").exists()
    assert Path(neighbour.context.experiment.folder).exists()
    assert steps.context.id not in optuna.get_all_study_names(steps.context.store.url)
    assert states_of(neighbour) == []
    with sqlite3.connect(tmp_path / "trialflow.db") as rows:
        tables = [name for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE name LIKE 'trialflow_%'")]
        for table in set(tables) - {"trialflow_schema", "trialflow_alembic", "trialflow_experiments"}:
            column = "experiment_id" if "lock" not in table else "*"
            assert rows.execute(f"SELECT count(*) FROM {table} WHERE {column} = 'expaaaaa'").fetchone() == (0,), table
    with pytest.raises(NotFoundError):
        operate(steps)
    rows.close()


def test_an_experiment_that_goes_on_is_not_deleted(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, SLEEP)
    steps.plan_batch(1, RUN)
    suggest(steps, 0)
    with pytest.raises(ConflictError, match="is RUNNING; end it first: nnictl stop expaaaaa"):
        operate(steps).delete(nobody)
    operate(steps).stop()
    with pytest.raises(ConflictError, match="its run run-1 still clears up after it; try again"):
        operate(steps).delete(lambda _: True)
    with pytest.raises(ConflictError, match="1 trials of experiment expaaaaa were not cleared away"):
        operate(steps).delete(nobody)
    end(steps)
    assert Path(steps.context.experiment.folder).exists()


@pytest.mark.parametrize("step", ["folder", "study", "rows"])
def test_a_delete_that_died_is_done_by_the_next_one_and_nothing_resumes_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    steps = make_steps(tmp_path, max_trial_number=9)
    steps.trials.report(follow(steps, suggest(steps, 0)))
    end(steps)
    victims = {
        "folder": (operations, "remove_folder"),
        "study": (operations, "delete_study"),
        "rows": (ExperimentChange, "delete"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*victims[step], lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            operate(steps).delete(nobody)

    with pytest.raises(ConflictError, match="never came to run"):
        operate(steps).resume(run_id, nobody)
    operate(steps).delete(nobody)

    assert steps.context.store.list_experiments() == []
    assert not Path(steps.context.experiment.folder).exists()


@pytest.mark.parametrize("folder", ["/", "relative/expaaaaa", "{}/other", "{}/x/../expaaaaa", "{}/link/expaaaaa"])
def test_only_the_experiment_s_own_folder_is_ever_deleted(tmp_path: Path, folder: str) -> None:
    steps = make_steps(tmp_path)
    for name in ("other", "x", "expaaaaa", "link"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / "expaaaaa").symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="delete"):
        remove_folder(replace(steps.context.experiment, folder=folder.format(tmp_path)))
    assert (tmp_path / "other").exists()
    assert (tmp_path / "expaaaaa").exists()


def test_a_trial_s_output_is_read_in_parts(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, "print('one')\nprint('two')")
    ended = follow(steps, suggest(steps, 0))

    def read(offset: int, most: int = 100) -> bytes:
        return read_trial_log(steps.context.experiment, ended, LogName.STDOUT, offset, most).content

    assert (read(0), read(4), read(-4), read(0, 3)) == (b"one\ntwo\n", b"two\n", b"two\n", b"one")


@pytest.mark.parametrize("trick", ["link", "folder link", "pipe", "missing"])
def test_a_trial_cannot_show_its_readers_another_file_or_hold_them_up(tmp_path: Path, trick: str) -> None:
    steps = make_steps(tmp_path, "pass")
    ended = follow(steps, suggest(steps, 0))
    folder = Path(steps.context.experiment.folder) / "trials" / ended.id
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
        read_trial_log(steps.context.experiment, ended, LogName.STDERR, 0, 100)
