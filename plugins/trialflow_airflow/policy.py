"""Cluster policy: routes the tasks that hold a trial's job into the pool of their experiment.

Found by Airflow through the entry point group ``airflow.policy``, in the scheduler and the API server alike. The
hook must not touch a database; all it needs is the run's id.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from airflow.policies import hookimpl

from trialflow_airflow.identity import identify, pool_name

if TYPE_CHECKING:
    from trialflow_airflow.airflow_internals import DagRun, TaskInstance

_POOLED_OPERATORS = ("TrialSubmitOperator", "TrialAwaitOperator")


@hookimpl
def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None) -> None:
    """Set the pool; a run that is cleared after its end, when the pool is gone, keeps Airflow's default pool."""
    if task_instance.operator in _POOLED_OPERATORS and not _was_cleared(dag_run):
        task_instance.pool = pool_name(identify(task_instance.dag_id, task_instance.run_id).experiment_id)


def _was_cleared(dag_run: DagRun | None) -> bool:
    return dag_run is not None and (bool(dag_run.clear_number) or dag_run.state in ("success", "failed"))


if sys.argv[1:2] in (["scheduler"], ["celery"], ["triggerer"]):
    # This process forks the tasks: what it has loaded, none of them loads again. The triggerer forks one that has a
    # loop, which a late import would hold up, for seconds or, on a machine that is busy, until it is taken for dead.
    for module in ("trialflow_airflow.dag_factory", "airflow.dag_processing.bundles.local", "jinja2.ext"):
        import_module(module)
    import_module("trialflow.experiment.running.preload").preload()
    if import_module("trialflow.settings").get_settings().storage_mounts:
        import_module("trialflow_airflow.cluster").preload()
