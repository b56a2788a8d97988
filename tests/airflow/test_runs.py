"""Which runs an experiment's tasks act for: their ids may have been given by anybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DagRunTriggerException
from airflow.sdk.execution_time.context import OutletEventAccessors

from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.running import ExperimentSteps
from trialflow.records import ExperimentStatus, Outcome, Slot, Trial, TrialStatus
from trialflow.settings import Settings, get_settings
from trialflow.testing import make_spec
from trialflow_airflow import operators
from trialflow_airflow.identity import following_run_id, identify

from .conftest import write_experiment

OWNER = "nni_experiment"
FIRST_RUN = "manual__1"
ID = identify(OWNER, FIRST_RUN).experiment_id
TASKS: list[type[Any]] = [
    operators.LoadExperimentOperator,
    operators.StageCodeOperator,
    operators.PlanBatchOperator,
    operators.TrialSuggestOperator,
    operators.TrialSubmitOperator,
    operators.TrialAwaitOperator,
    operators.TrialReportOperator,
    operators.NextBatchOperator,
    operators.FinishOperator,
    operators.CleanupOperator,
]
# What tasks have noted for their outlets, as Airflow hands it to them.
OUTLETS = OutletEventAccessors()


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExperimentSteps]:
    """An experiment whose first run carries a trial that was claimed."""
    monkeypatch.setenv("TRIALFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(operators, "connect", MagicMock())
    get_settings.cache_clear()
    code = write_experiment(tmp_path / "code").parent
    spec = make_spec(code_directory=str(code), code_root=str(code), training={"command": "true"}, max_trial_number=9)
    made = ExperimentSteps.create(ID, spec, Settings(home=tmp_path, batch_size=1), OWNER)
    made.stage_code()
    made.start()
    made.plan_batch(1, FIRST_RUN)
    assert isinstance(made.context.store.claim(ID, Slot(1, 0), FIRST_RUN), Trial)
    yield made
    get_settings.cache_clear()


def run(task: type[Any], dag_id: str, run_id: str, *there: str) -> Any:
    """Execute a task of a run, in an Airflow that has these other runs."""
    conf = {"config": "not read"}

    def get_dr_count(dag_id: str, run_ids: list[str]) -> int:
        return sum(name in there for name in run_ids) if dag_id == OWNER else 0

    ti = SimpleNamespace(dag_id=dag_id, run_id=run_id, map_index=0, get_dr_count=get_dr_count)
    context = {"ti": ti, "params": conf, "dag_run": SimpleNamespace(conf=conf), "outlet_events": OUTLETS}
    return task(task_id="task").execute(context)


def state(steps: ExperimentSteps) -> list[Any]:
    """All that a run may have done to an experiment."""
    store = steps.context.store
    return [steps.context.refresh(), store.list_trials(ID), store.list_runs(ID, only_open=True)]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("dag_id", "run_id"),
    [
        ("nni_sweep__x", following_run_id(ID, 999_999)),
        ("nni_sweep__x", following_run_id(ID, 2)),
        (OWNER, following_run_id(ID, 999_999)),
    ],
)
def test_a_run_that_was_not_planned_can_do_nothing_to_the_experiment_that_its_id_names(
    steps: ExperimentSteps, task: type[Any], dag_id: str, run_id: str
) -> None:
    steps.plan_next_batch(1, following_run_id(ID, 2))
    before = state(steps)

    with pytest.raises(AirflowFailException, match=f"was not planned to carry batch .* of experiment {ID}; trigger"):
        run(task, dag_id, run_id)

    assert state(steps) == before


def test_a_run_that_was_planned_clears_up_and_so_does_one_that_never_came_to_plan(
    steps: ExperimentSteps,
) -> None:
    steps.plan_next_batch(1, following_run_id(ID, 2))
    run(operators.CleanupOperator, OWNER, following_run_id(ID, 2))
    assert steps.context.refresh().status is ExperimentStatus.STOPPED

    other = identify(OWNER, "manual__2").experiment_id
    ExperimentSteps.create(other, steps.context.experiment.spec, steps.context.settings, OWNER)
    run(operators.CleanupOperator, OWNER, "manual__2")
    assert steps.context.store.get_experiment(other).status is ExperimentStatus.STOPPED


@pytest.mark.parametrize("task", TASKS[1:])
def test_without_the_experiment_no_task_is_tried_again_and_the_log_that_says_why_is_named(
    steps: ExperimentSteps, task: type[Any]
) -> None:
    has_nothing_to_do = task in (operators.NextBatchOperator, operators.CleanupOperator)
    expected = AirflowSkipException if has_nothing_to_do else AirflowFailException

    with pytest.raises(expected, match=r"no experiment \w{8}: it was never made, and the log of load_experiment says"):
        run(task, OWNER, "manual__3")


def test_the_last_task_of_a_run_makes_the_next_run_if_nobody_has(steps: ExperimentSteps) -> None:
    second = following_run_id(ID, 2)
    steps.plan_next_batch(1, second)
    run(operators.CleanupOperator, OWNER, FIRST_RUN, second)
    with pytest.raises(DagRunTriggerException) as raised:
        run(operators.CleanupOperator, OWNER, FIRST_RUN)

    made = raised.value
    assert (made.trigger_dag_id, made.dag_run_id, made.skip_when_already_exists) == (OWNER, second, True)
    assert made.conf == {"config": f"the experiment {ID} in the store", "experiment_id": ID, "batch": 2}
    assert steps.context.refresh().status is ExperimentStatus.RUNNING
    Actions(ID, "ann", steps.context.settings).stop()
    run(operators.CleanupOperator, OWNER, FIRST_RUN)


@pytest.mark.parametrize("value", [0.5, None])
def test_the_asset_is_updated_if_there_is_a_best_trial(steps: ExperimentSteps, value: float | None) -> None:
    trial = steps.trials.suggest(Slot(1, 0), FIRST_RUN)
    assert isinstance(trial, Trial)
    status = TrialStatus.FAILED if value is None else TrialStatus.SUCCEEDED
    steps.context.store.set_ended(trial, Outcome(status, 0 if value else 1), value)
    OUTLETS[operators.RESULT_ALIAS].asset_alias_events.clear()

    result = run(operators.FinishOperator, OWNER, FIRST_RUN)

    noted = [event.extra for event in OUTLETS[operators.RESULT_ALIAS].asset_alias_events]
    assert (result["status"], noted) == ("DONE", [result] if value else [])


def test_no_id_of_a_run_makes_an_experiment_under_an_id_that_was_chosen() -> None:
    assert identify("dag", "trialflow__abcdefgh__batch_2") == ("abcdefgh", 2)
    assert identify("dag", "trialflow__abcdefgh__batch_10") == ("abcdefgh", 10)
    experiment_id, batch = identify("dag", "trialflow__abcdefgh__batch_1")
    assert (experiment_id != "abcdefgh", batch) == (True, 1)
