"""Warming up a process that forks others: they inherit its modules, mapped classes and compiled statements."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from trialflow.records import AlgorithmSpec, ExperimentSpec, Metric, MetricType, Outcome, Trial, TrialStatus
from trialflow.settings import Settings, get_settings
from trialflow.training import JobRequest
from trialflow.training.local import LocalTrainingService
from trialflow.training.local.section import LocalSection

logger = logging.getLogger(__name__)


def preload() -> None:
    """Take one experiment without a job through its life in a throwaway store, and open the real store.

    A suggestion in a process forked afterwards costs a quarter of what it costs in a fresh one (see bench/). What
    fails here fails again, and better explained, in the task that needs it.
    """
    from trialflow.store import open_store

    try:
        with tempfile.TemporaryDirectory(prefix="trialflow-preload-") as folder:
            _rehearse(Settings(home=Path(folder), store=""))
        open_store(get_settings().store_url)
    except Exception:
        logger.exception("Trialflow could not warm this process up; tasks start slower")


class _NoJobs(LocalTrainingService):
    """Starts nothing: a process that forks others should have no other children."""

    def submit(self, request: JobRequest[LocalSection]) -> None:
        pass


def _rehearse(settings: Settings) -> None:
    from trialflow.experiment.running.experiment import ExperimentSteps

    spec = ExperimentSpec(
        name="preload",
        author="trialflow",
        trial_concurrency=1,
        max_trial_number=12,
        max_duration_seconds=60.0,
        platform="local",
        search_space={"x": {"_type": "uniform", "_value": [0, 1]}, "y": {"_type": "choice", "_value": ["a", "b"]}},
        tuner=AlgorithmSpec("TPE"),
        code_directory=str(settings.home),
        code_root=str(settings.home),
        training={"command": "true"},
    )
    steps = ExperimentSteps.create("preload", spec, settings)
    context = steps.context
    context.training = _NoJobs()
    context.store.set_code_folder("preload", str(settings.home))
    context.refresh()
    steps.start()
    for slot in steps.plan_batch(1, "preload"):
        trial = steps.trials.suggest(slot, "preload")
        assert isinstance(trial, Trial)
        context.store.set_running(trial, trial.claimed_at)
        context.store.add_metrics(trial, [Metric(MetricType.FINAL, 0, 1.0, trial.claimed_at)])
        context.store.set_ended(trial, Outcome(TrialStatus.SUCCEEDED, 0), 1.0)
    steps.trials.report_ended()
