"""The Optuna study, a projection of the ledger that may be repeated, cut short, and written by several at once."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.storages import RDBStorage

from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.running import ExperimentContext, ExperimentSteps
from trialflow.experiment.running import experiment as running
from trialflow.experiment.showing.study import MOST_STEPS, StudySource, delete_study, write_study
from trialflow.records import ExperimentStatus, KnownPoint, Metric, MetricType, Outcome, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.store import Adjustable, open_store
from trialflow.testing import make_spec

from .lab import states_of, study_of

if TYPE_CHECKING:
    from trialflow.store import Store

ID = "expaaaaa"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An experiment with five trials: three with a value, one that failed, one that runs; and two known points."""
    found = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    space = {"x": {"_type": "uniform", "_value": [0, 1]}}
    found.create_experiment(ID, make_spec(search_space=space, max_trial_number=9, trial_concurrency=9), str(tmp_path))
    found.change_status(ID, ExperimentStatus.RUNNING, from_=[ExperimentStatus.INITIALIZED])
    found.plan_batch(ID, 1, "run", 9)
    for index in range(5):
        trial = found.claim(ID, Slot(1, index), "run")
        assert isinstance(trial, Trial)
        found.set_parameters(trial, {"x": index / 10}, {})
        if index < 4:
            end(found, trial, TrialStatus.FAILED if index == 3 else TrialStatus.SUCCEEDED)
    with found.open_change(ID, "ann") as change:
        change.import_points([KnownPoint({"x": x}, x) for x in (0.5, 0.25)])
    return found


def open_steps(store: Store, home: Path) -> ExperimentSteps:
    return ExperimentSteps(ExperimentContext(ID, Settings(home=home, store=store.url)))


def end(store: Store, trial: Trial, status: TrialStatus = TrialStatus.SUCCEEDED) -> None:
    value = float(trial.number)
    store.add_metrics(trial, [Metric(MetricType.PERIODICAL, step, value + step, time.time()) for step in range(3)])
    store.set_ended(trial, Outcome(status, 0), value if status is TrialStatus.SUCCEEDED else None)
    store.set_reported(trial)


def project(store: Store, *, with_steps: bool = False) -> list[tuple[Any, ...]]:
    """Write the study, and give everything that it holds of its trials."""
    write_study(StudySource.read(store, ID, with_steps=with_steps), store.url)
    return read(store)


def read(store: Store) -> list[tuple[Any, ...]]:
    study = optuna.load_study(study_name=ID, storage=store.url)
    return [
        (trial.number, trial.state.name, trial.params, trial.values, trial.user_attrs, trial.intermediate_values)
        for trial in study.get_trials(deepcopy=False)
    ]


def test_a_study_that_is_written_again_stays_the_same(store: Store) -> None:
    once = project(store)
    assert [row[1] for row in once] == [*["COMPLETE"] * 3, "FAIL", "RUNNING", *["COMPLETE"] * 2]
    assert project(store) == once


def test_results_from_elsewhere_stand_in_the_study(store: Store) -> None:
    found = project(store)[5:]
    assert [(row[2], row[3]) for row in found] == [({"x": 0.5}, [0.5]), ({"x": 0.25}, [0.25])]


def test_a_trial_that_has_ended_since_is_finished_in_the_study(store: Store) -> None:
    project(store)
    (live,) = store.list_unreported(ID)
    end(store, live)
    assert project(store)[4][1:4] == ("COMPLETE", {"x": 0.4}, [4.0])


@pytest.mark.parametrize("verb", ["create_new_trial", "set_trial_state_values", "set_study_user_attr"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("death", range(4))
def test_a_death_at_any_write_leaves_a_study_that_the_next_one_completes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, after: bool, death: int
) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    write_study(StudySource.read(store, ID), store.url)
    (live,) = store.list_unreported(ID)
    end(store, live)
    real, left = getattr(RDBStorage, verb), [death]

    def die(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0 and not after:
            raise KeyboardInterrupt
        done = real(*arguments, **options)
        if left[0] < 0:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patched:
        patched.setattr(RDBStorage, verb, die)
        for url in (store.url, other):
            try:
                write_study(StudySource.read(store, ID), url)
            except KeyboardInterrupt:
                left[0] = death
    whole = project(store)
    write_study(StudySource.read(store, ID), other)
    study = optuna.load_study(study_name=ID, storage=other)
    assert [(trial.state.name, trial.params, trial.values) for trial in study.trials] == [row[1:4] for row in whole]
    assert len(whole) == 7


def test_intermediate_values_stand_in_the_study_on_demand(store: Store) -> None:
    other = StudySource.read(store, ID, with_steps=True)
    assert project(store)[2][5] == {}
    write_study(other, f"{store.url}.with-steps")
    study = optuna.load_study(study_name=ID, storage=f"{store.url}.with-steps")
    assert study.trials[2].intermediate_values == {0: 2.0, 1: 3.0, 2: 4.0}


def test_of_very_many_intermediate_values_some_stand_in_the_study(store: Store) -> None:
    (live,) = store.list_unreported(ID)
    steps = 10 * MOST_STEPS + 7
    store.add_metrics(live, [Metric(MetricType.PERIODICAL, step, float(step), 1.0) for step in range(steps)])
    end(store, live)
    found = project(store, with_steps=True)[4][5]
    assert MOST_STEPS / 2 < len(found) <= MOST_STEPS
    assert all(step == value for step, value in found.items())
    assert max(found) == steps - 1


def test_writers_at_the_same_time_write_each_trial_once(store: Store, tmp_path: Path) -> None:
    openers = [open_steps(store, tmp_path) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda steps: steps._write_study(), openers))
    assert len(read(store)) == 7


def test_a_study_that_cannot_be_written_leaves_the_results(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps = open_steps(store, tmp_path)
    monkeypatch.setattr(running, "write_study", lambda *_: 1 / 0)
    assert steps.conclude().best is not None
    assert "the Optuna study could not be written" in caplog.text
    assert (tmp_path / "result.json").exists()


@pytest.mark.parametrize(("interval", "states"), [(0.0, 0), (3600.0, 7)])
def test_who_watches_sees_a_running_experiment_as_often_as_the_installation_asks_for(
    store: Store, tmp_path: Path, interval: float, states: int
) -> None:
    settings = Settings(home=tmp_path, store=store.url, study_interval_seconds=interval)
    steps = ExperimentSteps(ExperimentContext(ID, settings))
    steps.refresh_study()
    with_tables = (tmp_path / ".study").exists()
    assert (len(read(store)) if with_tables else 0) == states
    if with_tables:
        end(store, store.list_unreported(ID)[0])
        steps.refresh_study()
        assert read(store)[4][1] == "RUNNING"
        long_ago = time.time() - interval - 1
        os.utime(tmp_path / ".study", (long_ago, long_ago))
        steps.refresh_study()
        assert read(store)[4][1] == "COMPLETE"


def test_an_experiment_that_was_stopped_leaves_results_and_a_study(store: Store, tmp_path: Path) -> None:
    steps = open_steps(store, tmp_path)
    store.set_code_folder(ID, str(tmp_path))
    Actions(ID, "ann", steps.context.settings).stop()
    steps.close_run(1, "run")
    assert "stopped by ann" in (tmp_path / "result.json").read_text()
    assert states_of(steps)[4] == "FAIL"


def test_results_that_are_there_are_not_written_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = open_steps(store, tmp_path)
    store.set_code_folder(ID, str(tmp_path))
    end(store, store.list_unreported(ID)[0])
    steps.conclude()
    monkeypatch.setattr(running, "write_results", lambda *_: 1 / 0)
    assert steps.close_run(1, "run")
    assert len(study_of(steps).trials) == 7


def test_the_first_studies_of_several_experiments_are_written_at_once(tmp_path: Path) -> None:
    found = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    names = [f"exp{number}" for number in range(6)]
    for name in names:
        found.create_experiment(name, make_spec(), str(tmp_path))
    settings = Settings(home=tmp_path, store=found.url)
    writers = [ExperimentSteps(ExperimentContext(name, settings)) for name in names]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda steps: steps._write_study(), writers))
    assert sorted(optuna.get_all_study_names(found.url)) == names


def test_a_trial_stands_in_the_study_with_its_own_times(store: Store) -> None:
    write_study(StudySource.read(store, ID), store.url)
    trials = store.list_trials(ID)
    for trial, frozen in zip(trials, optuna.load_study(study_name=ID, storage=store.url).trials, strict=False):
        assert frozen.datetime_start == datetime.fromtimestamp(trial.claimed_at)  # noqa: DTZ006  # as Optuna has it
        ended = None if trial.ended_at is None else datetime.fromtimestamp(trial.ended_at)  # noqa: DTZ006
        assert frozen.datetime_complete == ended


def test_no_parameter_passes_for_the_id_of_a_trial(store: Store) -> None:
    trial = store.claim(ID, Slot(1, 5), "run")
    assert isinstance(trial, Trial)
    store.set_parameters(trial, {"trialflow_trial": store.list_trials(ID)[0].id, "other": 1}, {})
    once = project(store)
    assert len(once) == 8
    assert project(store) == once


def test_the_search_space_of_the_beginning_is_kept_when_it_was_empty(store: Store) -> None:
    store.create_experiment("empty", make_spec(search_space={}), "/nowhere")
    for space in ({"x": {"_type": "uniform", "_value": [0, 1]}}, {"x": {"_type": "uniform", "_value": [0, 2]}}):
        with store.open_change("empty", "ann") as change:
            change.change(Adjustable.SEARCH_SPACE, space)
    assert store.get_experiment("empty").spec.first_search_space == {}


def test_nobody_writes_the_study_of_an_experiment_that_was_deleted(store: Store, tmp_path: Path) -> None:
    end(store, store.list_unreported(ID)[0])
    steps = open_steps(store, tmp_path)
    steps.conclude()
    store.close_batch(ID, 1)
    with store.open_change(ID, "ann") as change:
        change.delete()
    delete_study(ID, store.url)
    steps._write_study()
    assert optuna.get_all_study_names(store.url) == []
