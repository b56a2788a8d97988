"""The runs and pools that carry experiments, in Airflow's own database."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

from trialflow.errors import ConfigError, ConflictError, NotFoundError
from trialflow.messages import Problem
from trialflow_airflow.airflow_internals import (
    DagModel,
    DagNotFound,
    DagRun,
    DagRunAlreadyExists,
    DagRunState,
    DagRunTriggeredByType,
    ParamValidationError,
    Pool,
    create_session,
    trigger_dag,
)
from trialflow_airflow.identity import following_conf, following_run_id, identify, pool_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from trialflow.experiment.operating.actions import Actions
    from trialflow.records import Experiment

_ALIVE = (DagRunState.QUEUED, DagRunState.RUNNING)
# How long a request waits for a database that others hold; a client waits longer than that.
_BUSY_SECONDS = 30.0


def is_database_busy(error: BaseException) -> bool:
    """Whether a database refused because others hold it, so that the same may succeed a moment later."""
    return isinstance(error, OperationalError) and "database is locked" in str(error)


def start_experiment(dag_id: str, conf: dict[str, Any], who: str) -> tuple[str, str]:
    """Trigger a run that starts an experiment, with the configuration that the DAG's form takes.

    Returns:
        The experiment's id, and the run's.

    Raises:
        NotFoundError: There is no such DAG.
        ConflictError: The DAG is paused.
        ConfigError: The DAG's form does not take that.
    """
    _require_unpaused(dag_id)
    # Chosen here: whoever tries again after a transaction that may have been lost starts nothing twice.
    run_id = f"manual__{datetime.now(timezone.utc).isoformat()}"
    try:
        _trigger(dag_id, run_id, conf, who)
    except ParamValidationError as error:
        raise ConfigError([Problem("config", str(error))]) from error
    return identify(dag_id, run_id).experiment_id, run_id


def start_batch(experiment: Experiment, batch: int, who: str) -> str:
    """Trigger the run that carries a later batch, unless it is there; gives its id."""
    run_id = following_run_id(experiment.id, batch)
    _trigger(experiment.owner, run_id, following_conf(experiment.id, batch), who)
    return run_id


def clear_away(actions: Actions) -> None:
    """Start a run that clears away what an ended experiment has left behind, when no other run is going to."""
    experiment = actions.experiment
    batch = actions.plan_clearing(namer(experiment), partial(is_alive, experiment.owner))
    if batch is not None:
        start_batch(experiment, batch, actions.who)


def namer(experiment: Experiment) -> Callable[[int], str]:
    """Gives the id of the run that carries a batch of the experiment."""
    return partial(following_run_id, experiment.id)


def is_alive(dag_id: str, run_id: str) -> bool:
    """Whether a run waits or goes on."""
    query = select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
    with create_session() as session:
        return session.scalar(query) in _ALIVE


def require_startable(experiment: Experiment) -> None:
    """Refuse what would make a run that never starts.

    Raises:
        NotFoundError: Its DAG is gone.
        ConflictError: Its DAG is paused.
    """
    _require_unpaused(experiment.owner)


def resize_pool(experiment: Experiment) -> None:
    """Give the experiment's pool, if it is there, a slot per trial that may live."""
    with create_session() as session:
        pool = session.scalar(select(Pool).where(Pool.pool == pool_name(experiment.id)))
        if pool is not None:
            pool.slots = experiment.trial_concurrency


def delete_pool(experiment: Experiment) -> None:
    """Delete the experiment's pool, if a crash has left it behind."""
    with create_session() as session:
        session.execute(delete(Pool).where(Pool.pool == pool_name(experiment.id)))


def _require_unpaused(dag_id: str) -> None:
    with create_session() as session:
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id, ~DagModel.is_stale))
    if paused is None:
        raise NotFoundError(f"Airflow has no DAG {dag_id!r}; is the folder dags/ where Airflow looks for it?")
    if paused:
        raise ConflictError(f"the DAG {dag_id} is paused, nothing would start; run: airflow dags unpause {dag_id}")


@retry(
    retry=retry_if_exception(is_database_busy),
    wait=wait_random_exponential(multiplier=0.1, max=2),
    stop=stop_after_delay(_BUSY_SECONDS),
    reraise=True,
)
def _trigger(dag_id: str, run_id: str, conf: dict[str, Any], who: str) -> None:
    """Make a run, unless it is there; waits while others hold the database."""
    try:
        trigger_dag(
            dag_id,
            run_id=run_id,
            conf=conf,
            triggered_by=DagRunTriggeredByType.REST_API,
            triggering_user_name=who,
        )
    except DagRunAlreadyExists:
        pass
    except DagNotFound as error:
        raise NotFoundError(f"Airflow has no DAG {dag_id!r}") from error
