"""The tasks of the experiment's DAG, one operator each; what they do is in `trialflow.experiment`.

No task hands anything to another one: each finds its experiment by the run's id and its trial by its map index, in
the store. So each can be killed, retried or cleared by itself.
"""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, AssetAlias, BaseOperator
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    DagRunTriggerException,
)
from airflow.sdk.timezone import utcnow

from trialflow.claim_rules import ClaimRefusal
from trialflow.errors import ConfigError, ConflictError, NotFoundError, TrainingError, UnavailableError
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.running import ExperimentContext, ExperimentSteps, TrialWatch
from trialflow.experiment.showing.labels import task_label
from trialflow.records import ExperimentStatus, Slot, Trial, TrialStatus
from trialflow.settings import Settings, get_settings
from trialflow_airflow import cluster
from trialflow_airflow.airflow_api import connect
from trialflow_airflow.identity import RunIdentity, following_conf, following_run_id, identify, pool_name
from trialflow_airflow.triggers import ExperimentTrigger, TrialTrigger, recovery_seconds
from trialflow_airflow.waiting import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

# How often a task tries again while what runs the jobs is away.
_UNAVAILABLE_SECONDS = 5.0
RESULT_ALIAS = AssetAlias("trialflow-results", group="trialflow")


class _MissingError(AirflowFailException):
    """There is no such experiment, and no retry will bring it."""


class _ExperimentOperator(BaseOperator):
    """A task of an experiment's run."""

    @cached_property
    def settings(self) -> Settings:
        """Of this installation; whoever acts on an experiment reads them first."""
        settings = get_settings()
        cluster.connect(settings.kubernetes_connection)
        return settings

    def identity(self, context: Context) -> RunIdentity:
        """The run's experiment and batch."""
        return identify(context["ti"].dag_id, context["ti"].run_id)

    def steps(self, context: Context) -> ExperimentSteps:
        """The steps of the run's experiment; fails for good without it, or if the run was not planned for it."""
        steps = ExperimentSteps(ExperimentContext(self.identity(context).experiment_id, self.settings))
        _require_own(steps, context)
        return steps

    def wait_in_worker(self) -> Patience:
        """A wait of this task in the worker."""
        return Patience(self.settings.wait_in_worker_seconds)


class LoadExperimentOperator(_ExperimentOperator):
    """Read and check the experiment, make it in the store, and make its pool."""

    def execute(self, context: Context) -> dict[str, Any]:
        identity = self.identity(context)
        steps = self._create(context, identity) if identity.batch == 1 else self.steps(context)
        experiment = steps.context.experiment
        if experiment.status.is_final:
            steps.trials.report_ended()  # This run is there to clear away what others have left behind.
        for warning in experiment.spec.warnings:
            self.log.warning("%s: %s", experiment.id, warning)
        connect(self.settings.api_connection).ensure_pool(
            pool_name(experiment.id), experiment.trial_concurrency, f"Trialflow experiment {experiment.spec.name}"
        )
        self.log.info("Experiment %s (%s) lies in %s", experiment.id, experiment.spec.name, experiment.folder)
        return {"experiment_id": experiment.id, "name": experiment.spec.name, "folder": experiment.folder}

    def _create(self, context: Context, identity: RunIdentity) -> ExperimentSteps:
        params, environment = context["params"], (context["dag_run"].conf or {}).get("environment")
        try:
            folder = params.get("folder") or ""
            spec = load_experiment(_find_config(params), self.settings, folder, environment=environment)
        except UnavailableError:
            raise
        except (ConfigError, TrainingError) as error:
            raise AirflowFailException(str(error)) from error
        steps = ExperimentSteps.create(identity.experiment_id, spec, self.settings, context["ti"].dag_id)
        _require_own(steps, context)
        return steps


class StageCodeOperator(_ExperimentOperator):
    """Copy the code to the experiment's folder, and let trials be claimed."""

    def execute(self, context: Context) -> None:
        steps = self.steps(context)
        try:
            folder = steps.stage_code()
        except ConfigError as error:
            raise AirflowFailException(str(error)) from error
        steps.start()
        self.log.info("The code lies in %s", folder)


class PlanBatchOperator(_ExperimentOperator):
    """Give the slots of this run's trial batch, over which the trials are mapped."""

    def execute(self, context: Context) -> list[int]:
        slots = self.steps(context).plan_batch(self.identity(context).batch, context["ti"].run_id)
        return [slot.index for slot in slots]


class _TrialOperator(_ExperimentOperator):
    """A task of one trial, found by the run's batch and the task's map index."""

    def find_trial(self, context: Context, steps: ExperimentSteps) -> Trial:
        """The trial of this task's slot.

        Raises:
            AirflowSkipException: None was claimed for it.
        """
        trial = steps.context.store.find_trial(steps.context.id, _slot(context["ti"]))
        if trial is None:
            raise AirflowSkipException("no trial was claimed for this slot")
        return trial


class TrialSuggestOperator(_TrialOperator):
    """Claim a trial as soon as the cap allows one, and ask the tuner for its parameters."""

    def execute(self, context: Context) -> None:
        steps, slot = self.steps(context), _slot(context["ti"])
        patience = self.wait_in_worker()
        while isinstance(answer := steps.trials.suggest(slot, context["ti"].run_id), ClaimRefusal) and answer.waits:
            if patience.is_over:
                trigger = ExperimentTrigger(steps.context.id, "room", after=steps.trials.asked_in_vain_after)
                self.defer(trigger=trigger, method_name="resume")
            time.sleep(patience.pause_seconds)
        if answer is ClaimRefusal.GIVE_WAY:
            self.log.info("Making way for a suggestion that was interrupted")
            raise AirflowRescheduleException(utcnow() + timedelta(seconds=recovery_seconds()))
        if isinstance(answer, ClaimRefusal):
            raise AirflowSkipException(f"no more trials for experiment {steps.context.id}: {answer}")
        self.log.info("Trial %s", answer.label)

    def resume(self, context: Context, event: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Try again after the triggerer saw room."""
        self.execute(context)


class TrialSubmitOperator(_TrialOperator):
    """Start the trial's job; one that nobody takes for the time being is submitted by whoever waits for it."""

    def execute(self, context: Context) -> None:
        steps = self.steps(context)
        trial = self.find_trial(context, steps)
        try:
            trial = steps.trials.hand_over(trial)
        except UnavailableError as error:
            self.log.warning("Trial %s waits: %s", trial.label, error)
        else:
            self.log.info("Trial %s: job %s", trial.label, trial.job)


class TrialAwaitOperator(_TrialOperator):
    """Wait until the trial's job has ended, in the worker for a while, then in the triggerer."""

    def execute(self, context: Context) -> None:
        steps = self.steps(context)
        trial = self.find_trial(context, steps)
        shown, watch = trial.reason, TrialWatch(steps.context, trial)
        patience = self.wait_in_worker()
        while (ended := watch.poll()) is None:
            # What waits for something waits long; and only a task that begins is given another label. The way leads
            # over the triggerer: a task that is rescheduled at once may be taken for one that has died.
            if patience.is_over or watch.trial.reason:
                self.defer(trigger=TrialTrigger(steps.context.id, trial.id, shown), method_name="resume")
            time.sleep(patience.pause_seconds)
        self.log.info("Trial %s: %s %s", ended.label, ended.status, ended.reason)

    def resume(self, context: Context, event: dict[str, Any] | None = None) -> None:
        """Look again after the triggerer let go of the trial, because it waits for something else than before."""
        if event and event.get("reason"):  # Each trigger overwrites the log of the one before.
            self.log.warning("The trial waits: %s", event["reason"])
        self.execute(context)


class TrialReportOperator(_TrialOperator):
    """Let the result count; the task of a trial that failed fails as well, so that it is seen."""

    def execute(self, context: Context) -> None:
        steps = self.steps(context)
        trial = self.find_trial(context, steps)
        try:
            trial = steps.trials.report(trial)
        except UnavailableError as error:
            self.log.warning("Trial %s is reported later, its job cannot be cancelled: %s", trial.label, error)
            raise AirflowRescheduleException(utcnow() + timedelta(seconds=recovery_seconds())) from error
        steps.refresh_study()
        if trial.status is TrialStatus.FAILED:
            raise AirflowFailException(f"trial {trial.label} failed: {trial.reason}")
        self.log.info("Trial %s: %s, value %s %s", trial.label, trial.status, trial.value, trial.reason)


class NextBatchOperator(TriggerDagRunOperator):
    """Trigger the run of the next batch, when there are trials left to create."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trigger_dag_id="{{ dag.dag_id }}", skip_when_already_exists=True, **kwargs)

    def execute(self, context: Context) -> None:
        experiment_id, batch = identify(context["ti"].dag_id, context["ti"].run_id)
        run_id = following_run_id(experiment_id, batch + 1)
        steps = ExperimentSteps(ExperimentContext(experiment_id))
        try:
            _require_own(steps, context)
        except _MissingError as error:  # It is `finish` that fails.
            raise AirflowSkipException(str(error)) from error
        following = steps.plan_next_batch(batch, run_id)
        if following is None:
            raise AirflowSkipException(f"batch {batch} is the last of experiment {experiment_id}")
        self.trigger_run_id = run_id
        self.conf = following_conf(experiment_id, following)
        super().execute(context)


class FinishOperator(_ExperimentOperator):
    """In the experiment's last run: wait until no trial is live, write the results, update the asset if one is best."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(outlets=[RESULT_ALIAS], **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        steps = self.steps(context)
        batch = self.identity(context).batch
        patience = self.wait_in_worker()
        while not self._is_over(steps, batch):
            if patience.is_over:
                self.defer(trigger=ExperimentTrigger(steps.context.id, waits_for="idle"), method_name="resume")
            time.sleep(patience.pause_seconds)
        result = steps.conclude().to_json()
        if result["status"] == ExperimentStatus.ERROR:
            raise AirflowFailException(f"experiment {steps.context.id}: {steps.context.experiment.status_reason}")
        if result["best"] is not None:
            name = result["experiment_name"]
            asset = Asset(name=f"trialflow-{name}", uri=result_asset_uri(name))
            context["outlet_events"][RESULT_ALIAS].add(asset, extra=result)
        self.log.info("Best of experiment %s: %s", steps.context.id, result["best"])
        return result

    def _is_over(self, steps: ExperimentSteps, batch: int) -> bool:
        """Whether no trial is live; skips this task when another batch was planned, also while it waited."""
        idle = steps.trials.is_idle()
        if steps.context.store.newest_batch(steps.context.id) > batch:
            raise AirflowSkipException(f"experiment {steps.context.id} goes on in batch {batch + 1}")
        return idle

    def resume(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Look again after the triggerer saw the last trial end."""
        return self.execute(context)


class CleanupOperator(_ExperimentOperator):
    """Whatever became of the run: leave no job of it running, no pool behind an end, no experiment without a run."""

    def execute(self, context: Context) -> None:
        try:
            steps = self.steps(context)
            was_last = self._close_run(steps, context)
        except (_MissingError, NotFoundError) as error:
            raise AirflowSkipException(str(error)) from error
        if was_last:
            connect(self.settings.api_connection).delete_pool(pool_name(steps.context.id))
        elif not steps.context.experiment.status.is_final:
            self._require_following(steps, context["ti"])

    def _require_following(self, steps: ExperimentSteps, ti: Any) -> None:
        """Trigger the run of the newest batch if whoever planned it did not come to that, for good."""
        newest = steps.context.store.newest_batch(steps.context.id)
        run_id = following_run_id(steps.context.id, newest)
        if ti.get_dr_count(dag_id=ti.dag_id, run_ids=[run_id]):
            return
        self.log.warning("Batch %d of experiment %s was planned, but its run was never made", newest, steps.context.id)
        raise DagRunTriggerException(
            trigger_dag_id=ti.dag_id,
            dag_run_id=run_id,
            conf=following_conf(steps.context.id, newest),
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=0,
            deferrable=False,
        )

    def _close_run(self, steps: ExperimentSteps, context: Context) -> bool:
        """Close the run, as soon as what runs the jobs is there; nobody else would do it."""
        deadline = time.monotonic() + self.settings.waiting_limit_seconds
        while True:
            try:
                return steps.close_run(self.identity(context).batch, context["ti"].run_id)
            except UnavailableError as error:
                if time.monotonic() >= deadline:
                    raise
                self.log.warning("The run's jobs cannot be cancelled: %s", error)
                time.sleep(_UNAVAILABLE_SECONDS)


def _find_config(params: Mapping[str, Any]) -> Any:
    """The experiment of a run: its parameter ``config``, or all of its configuration, as people send it."""
    given = {name: value for name, value in params.items() if name not in ("config", "folder")}
    return given if params["config"] is None and given else params["config"]


def result_asset_uri(experiment_name: str) -> str:
    """The asset that is updated with the best trial when an experiment of this name has ended."""
    from urllib.parse import quote

    return f"trialflow://experiment/{quote(experiment_name)}"


def trial_label(ti: Any) -> str:
    """How a mapped task instance is called in Airflow's UI: trial, parameters and, where it is known, the result."""
    context = ExperimentContext(identify(ti.dag_id, ti.run_id).experiment_id)
    trial = context.store.find_trial(context.id, _slot(ti))
    if trial is None or trial.parameters is None:
        return ""
    if trial.job is None and ti.task_id.endswith("submit"):
        return ""  # Asked for before the task has run: the label can wait, the trial should not.
    return task_label(trial)


def _require_own(steps: ExperimentSteps, context: Context) -> None:
    """Fail for good without the experiment, or if the run only pretends to carry it: anybody may give it such an id."""
    ti = context["ti"]
    try:
        steps.require_run(identify(ti.dag_id, ti.run_id).batch, ti.run_id, ti.dag_id)
    except ConflictError as error:
        raise AirflowFailException(str(error)) from error
    except NotFoundError as error:
        raise _MissingError(
            f"there is no experiment {steps.context.id}: it was never made, and the log of load_experiment says why, "
            "or it was deleted"
        ) from error


def _slot(ti: Any) -> Slot:
    return Slot(identify(ti.dag_id, ti.run_id).batch, ti.map_index)
