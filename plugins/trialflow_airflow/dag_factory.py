"""Makes the DAG of an experiment; the files in dags/ call it.

load_experiment → stage_code → plan_batch → trial[ suggest → submit → await → report ] → finish    cleanup
                                                     └→ next_batch ─────────────────────↗
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, TriggerRule, task_group

from trialflow.claim_rules import SUGGESTIONS_AT_A_TIME
from trialflow_airflow.operators import (
    CleanupOperator,
    FinishOperator,
    LoadExperimentOperator,
    NextBatchOperator,
    PlanBatchOperator,
    StageCodeOperator,
    TrialAwaitOperator,
    TrialReportOperator,
    TrialSubmitOperator,
    TrialSuggestOperator,
    trial_label,
)
from trialflow_airflow.retries import CLEANUP_RETRIES, OUTLASTS_AN_OUTAGE, RefusalRetryPolicy

if TYPE_CHECKING:
    from datetime import datetime

_DEFAULT_ARGUMENTS = {
    "owner": "trialflow",
    **OUTLASTS_AN_OUTAGE,
    "retry_policy": RefusalRetryPolicy(),
    "weight_rule": "absolute",
}
# The order in which Airflow starts tasks that are ready, over all experiments. It looks at 16 at a time, and most
# suggestions only wait for room: with Airflow's own weights, they kept reports from slots that were free.
_WEIGHTS = {
    "suggest": 1,
    "load_experiment": 2,
    "stage_code": 3,
    "plan_batch": 4,
    "submit": 5,
    "await": 6,
    "next_batch": 7,
    "report": 8,
    "finish": 9,
    "cleanup": 10,
}
# As long as a file may be; `trialflow.config.source`, which says so, is not loaded where DAGs are parsed.
_LONGEST_TEXT = 1 << 20
_CONFIG_DESCRIPTION = """The experiment: the **path of an NNI YAML file** as the worker sees it, or the file's whole
**text**, pasted. A text needs absolute paths, or the folder below. Over the API also an object: as `config`, or as the
whole configuration of the run, `--conf '{"trialConcurrency": 2, …}'`."""
_FOLDER_DESCRIPTION = "Only for a pasted experiment: where its relative paths (codeDir, searchSpacePath) start."


def make_experiment_dag(
    dag_id: str,
    *,
    config: str | None = None,
    schedule: str | None = None,
    start_date: datetime | None = None,
    description: str = "Runs an NNI experiment: one mapped chain of tasks per trial.",
    tags: tuple[str, ...] = (),
) -> DAG:
    """Make a DAG that runs experiments.

    Args:
        dag_id: The DAG's id.
        config: Path of the experiment that is run when the trigger names none.
        schedule: A cron expression, for a sweep that repeats.
        start_date: Of the schedule.
        description: Shown in Airflow's UI.
        tags: Besides ``trialflow``.
    """
    with DAG(
        dag_id,
        description=description,
        doc_md=__doc__,
        schedule=schedule,
        start_date=start_date,
        catchup=False,
        # Without a schedule it runs only when somebody says so; paused, it would queue what they trigger for ever.
        is_paused_upon_creation=False if schedule is None else None,
        # Every run of an experiment stays open while a trial of its batch lives.
        max_active_runs=256,
        max_active_tasks=4096,
        default_args=_DEFAULT_ARGUMENTS,
        params=_params(config),
        render_template_as_native_obj=False,
        user_defined_macros={"trial_label": trial_label},
        tags=["trialflow", *tags],
    ) as dag:
        _add_tasks()
    return dag


def _params(config: str | None) -> dict[str, Param]:
    return {
        "config": Param(
            config,
            type=["null", "string", "object"],
            format="multiline",
            maxLength=_LONGEST_TEXT,
            title="Experiment",
            description_md=_CONFIG_DESCRIPTION,
        ),
        "folder": Param(None, type=["null", "string"], title="Folder", description_md=_FOLDER_DESCRIPTION),
    }


def _add_tasks() -> None:
    plan = PlanBatchOperator(**_named("plan_batch"))
    LoadExperimentOperator(**_named("load_experiment")) >> StageCodeOperator(**_named("stage_code")) >> plan
    common = {"map_index_template": "{{ trial_label(ti) }}", "do_xcom_push": False}

    @task_group(group_id="trial")
    def trial(slot: int) -> None:  # noqa: ARG001  # a task knows its slot by its map index, without an XCom
        suggest = TrialSuggestOperator(max_active_tis_per_dagrun=SUGGESTIONS_AT_A_TIME, **_named("suggest"), **common)
        submit = TrialSubmitOperator(**_named("submit"), **common)
        wait = TrialAwaitOperator(**_named("await"), **common)
        # Runs also when the task before it failed or was stopped: then it clears the trial away.
        report = TrialReportOperator(trigger_rule=TriggerRule.NONE_SKIPPED, **_named("report"), **common)
        suggest >> submit >> wait >> report

    trials = trial.expand(slot=plan.output)
    next_batch = NextBatchOperator(trigger_rule=TriggerRule.ALL_DONE, **_named("next_batch"))
    finish = FinishOperator(trigger_rule=TriggerRule.ALL_DONE, **_named("finish"))
    cleanup = CleanupOperator(retries=CLEANUP_RETRIES, retry_policy=None, **_named("cleanup")).as_teardown()
    trials.dag.get_task("trial.suggest") >> next_batch
    [trials, next_batch] >> finish >> cleanup


def _named(task_id: str) -> dict[str, Any]:
    return {"task_id": task_id, "priority_weight": _WEIGHTS[task_id]}
