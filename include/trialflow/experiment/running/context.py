"""What whoever acts on an experiment needs: its row, the ledger, its jobs' service and its own classes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from trialflow.errors import StagingError, TrainingError
from trialflow.experiment.running.looks import SharedLooks
from trialflow.experiment.running.user_classes import ACTIVE, UserClasses
from trialflow.experiment.showing.folders import attempt_folder, code_folders
from trialflow.records import Experiment, ExperimentStatus, Outcome, Trial, TrialStatus
from trialflow.settings import Settings, get_settings
from trialflow.store import open_store
from trialflow.training import JobRequest, TrainingService, get_training_service

if TYPE_CHECKING:
    from collections.abc import Sequence


class ExperimentContext:
    """One experiment, open for any number of those who act on it in this process.

    Args:
        experiment_id: The experiment; it is looked up when it is first needed.
        settings: Of this installation.
    """

    def __init__(self, experiment_id: str, settings: Settings | None = None) -> None:
        self.id = experiment_id
        self.settings = settings or get_settings()
        self.store = open_store(self.settings.store_url)
        self.looks = SharedLooks(self.store, experiment_id)

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment as it was at the first look; `refresh` looks again."""
        return self.store.get_experiment(self.id)

    def refresh(self) -> Experiment:
        """Read the experiment anew; what was made for another search space is made again."""
        before = self.__dict__.pop("experiment", None)
        self.__dict__.pop("section", None)
        if before is not None and before.spec != self.experiment.spec:
            self.__dict__.pop("user_classes", None)
        return self.experiment

    @cached_property
    def training(self) -> TrainingService[Any, Any]:
        """Where the experiment's jobs run."""
        return get_training_service(self.experiment.spec.platform, self.settings)

    @cached_property
    def section(self) -> Any:
        """What the experiment says to its training service, in the service's own type."""
        return self.training.read_section(self.experiment.spec.training)

    @cached_property
    def user_classes(self) -> UserClasses | None:
        """The experiment's tuner, assessor or advisor, if a class of the user's own is one."""
        has_some = bool(self.experiment.spec.user_classes)
        return UserClasses(self.experiment, self.store, self.settings) if has_some else None

    def job_request(self, trial: Trial) -> JobRequest[Any]:
        """What the training service needs for the trial's present attempt."""
        experiment = self.experiment
        if experiment.code_folder is None:
            raise StagingError(f"the code of experiment {self.id} was not staged; run stage_code first")
        code, copy = code_folders(experiment, self.section, self.training)
        return JobRequest(
            experiment_id=self.id,
            trial_id=trial.id,
            number=trial.number,
            attempt=trial.attempt,
            parameters={} if trial.parameters is None else trial.parameters,
            section=self.section,
            code_folder=code,
            code_copy=copy,
            folder=str(attempt_folder(experiment, trial, self.training)),
            is_customized=trial.is_customized,
        )

    def submit(self, trial: Trial) -> Trial:
        """Start the job of the trial's present attempt, unless it was started or the trial has ended.

        Whoever dies between the submission and its note is followed by one who submits again, and finds the job.

        Raises:
            UnavailableError: Nobody takes jobs for the time being.
            TrainingError: The job is not accepted; in both cases the trial's row says why.
        """
        if trial.ended_at is not None or trial.job is not None:
            return trial
        request = self.job_request(trial)
        try:
            self.training.submit(request)
        except TrainingError as error:
            self.store.set_reason(trial, str(error))
            raise
        self.store.set_job(trial, self.training.write_handle(self.training.handle(request)))
        return self.store.get_trial(self.id, trial.id)

    def end(self, status: ExperimentStatus, reason: str) -> Sequence[Trial]:
        """End the experiment and its trials in the ledger; touches no job. Gives the trials that are to be reported.

        The experiment first: then no trial is claimed any more that would be left out here. Whoever dies in between
        leaves trials that the next report, or the end of their run, ends as well.
        """
        self.store.change_status(self.id, status, from_=ACTIVE, reason=reason)
        for trial in self.store.list_unreported(self.id):
            self.store.set_ended(trial, Outcome(TrialStatus.SYS_CANCELED, reason=reason.partition("\n")[0]), None)
        return self.store.list_unreported(self.id)
