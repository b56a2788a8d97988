"""How long a task tries again, and in which order tasks that are ready are started."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.serialization.serialized_objects import DagSerialization

from trialflow.errors import ConflictError, TrainingError, UnavailableError
from trialflow_airflow.dag_factory import make_experiment_dag
from trialflow_airflow.retries import RefusalRetryPolicy


def tasks() -> dict[str, Any]:
    """The tasks of the DAG as Airflow's scheduler knows them."""
    dag = make_experiment_dag("experiment")
    return dict(DagSerialization.from_dict(DagSerialization.to_dict(dag)).task_dict)


def shortest_wait(task: Any) -> timedelta:
    """How long a task goes on trying when every wait is as short as Airflow makes it."""
    waits = (task.retry_delay * task.retry_exponential_backoff**number for number in range(task.retries))
    return sum((min(wait, task.max_retry_delay) for wait in waits), timedelta())


def test_every_task_outlasts_an_outage_of_a_quarter_of_an_hour() -> None:
    assert min(map(shortest_wait, tasks().values())) >= timedelta(minutes=15)


def test_the_task_that_clears_up_tries_for_hours() -> None:
    assert shortest_wait(tasks()["cleanup"]) >= timedelta(hours=3)


def test_a_task_that_was_killed_is_run_again_within_seconds() -> None:
    assert {task.retry_delay for task in tasks().values()} == {timedelta(seconds=2)}


@pytest.mark.parametrize("error", [TrainingError("forbidden"), ConflictError("it has ended")])
def test_what_was_refused_is_not_tried_for_long(error: Exception) -> None:
    actions = [RefusalRetryPolicy().evaluate(error, try_number, 10).action for try_number in (1, 3, 4)]
    assert actions == [RetryAction.DEFAULT, RetryAction.DEFAULT, RetryAction.FAIL]


@pytest.mark.parametrize("error", [UnavailableError("it restarts"), OSError("no space"), RuntimeError("no answer")])
def test_an_outage_is_waited_for(error: Exception) -> None:
    assert RefusalRetryPolicy().evaluate(error, 9, 10).action is RetryAction.DEFAULT


def test_what_waits_for_a_suggestion_never_stands_before_what_frees_a_place() -> None:
    weights = {name: task.weight_rule.get_weight(task_instance(task)) for name, task in tasks().items()}
    order = ["trial.suggest", "trial.submit", "trial.await", "trial.report", "finish", "cleanup"]
    assert sorted(order, key=weights.__getitem__) == order
    assert len(set(weights.values())) == len(weights)


def task_instance(task: Any) -> Any:
    """What a weight rule asks of a task instance."""
    return type("TaskInstance", (), {"task": task})()
