"""The steps of an experiment, each of which may be killed anywhere and taken again."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trialflow.errors import ConfigError, ConflictError
from trialflow.experiment.loading.annotated import carry_out_annotations
from trialflow.experiment.running.context import ExperimentContext
from trialflow.experiment.running.trials import TrialSteps
from trialflow.experiment.running.user_classes import ACTIVE
from trialflow.experiment.showing.results import Summary, has_results, write_results
from trialflow.experiment.showing.study import StudySource, find_importances, write_study
from trialflow.records import ExperimentSpec, ExperimentStatus, Slot, TrialStatus
from trialflow.staging import FolderStorage, scan_code
from trialflow.training import get_training_service

if TYPE_CHECKING:

    from trialflow.settings import Settings

logger = logging.getLogger(__name__)

# Beside the results: when the study was last written while the experiment ran.
_STUDY_STAMP = ".study"


class ExperimentSteps:
    """Takes one experiment through its life.

    Order of calls: `create` once, then any number of these in any number of processes. For the first batch:
    `stage_code` → `start` → `plan_batch`; for every slot the steps of a trial; when the last slot of a batch was
    claimed, `plan_next_batch`; when the last batch is through, `conclude`; at the end of every run, `close_run`.

    Attributes:
        context: The experiment.
        trials: The steps of its trials.
    """

    def __init__(self, context: ExperimentContext) -> None:
        self.context = context
        self.trials = TrialSteps(context)
        self._store, self._id = context.store, context.id

    @classmethod
    def create(
        cls, experiment_id: str, spec: ExperimentSpec, settings: Settings | None = None, owner: str = ""
    ) -> ExperimentSteps:
        """Create the experiment in the store, unless it is there."""
        context = ExperimentContext(experiment_id, settings)
        service = get_training_service(spec.platform, context.settings)
        folder = service.experiment_folder(experiment_id, service.read_section(spec.training))
        folder.mkdir(parents=True, exist_ok=True)
        context.store.create_experiment(experiment_id, spec, str(folder), owner)
        return cls(context)

    def stage_code(self) -> str:
        """Copy the code to the experiment's folder, and make what its jobs share; tells where the code lies.

        Done once, however often it is called.

        Raises:
            ConfigError: The code folder is not as it should be.
            StagingError: The copy could not be completed.
            TrainingError: What the jobs share could not be made.
        """
        context, experiment = self.context, self.context.experiment
        spec, settings = experiment.spec, context.settings
        if experiment.code_folder is not None:
            context.training.open_experiment(self._id, context.section)  # It was closed if the experiment had ended.
            return experiment.code_folder
        limits = (settings.max_code_bytes, settings.max_code_files, settings.private_folders)
        files, problems = scan_code(Path(spec.code_directory), Path(spec.code_root), *limits)
        if problems:
            raise ConfigError(problems)
        if spec.use_annotation:
            files = carry_out_annotations(files, spec.search_space)
        folder = FolderStorage(Path(experiment.folder)).stage(files)
        if context.user_classes is not None and (problems := context.user_classes.stage()):
            raise ConfigError(problems)
        context.training.open_experiment(self._id, context.section)
        # Noted last: whoever died before does all of it again, and finds what is complete.
        self._store.set_code_folder(self._id, folder)
        context.refresh()
        return folder

    def start(self) -> None:
        """Let trials be claimed; an experiment that has ended stays as it is."""
        self._store.change_status(self._id, ExperimentStatus.RUNNING, from_=[ExperimentStatus.INITIALIZED])

    def require_run(self, batch: int, run_id: str, owner: str) -> None:
        """Refuse to act for a run that was never planned: who may trigger some DAG may give its run any id.

        Raises:
            ConflictError: The experiment belongs to another DAG, or the batch to another run or to none.
        """
        if self.context.experiment.owner != owner:
            self._refuse_run(batch, run_id)
        self._require_carrier(batch, run_id)

    def _require_carrier(self, batch: int, run_id: str) -> None:
        """The first batch is planned by its own run, to which the experiment's id leads; others before their run."""
        carrier = self._store.find_run(self._id, batch)
        if carrier != run_id and (batch > 1 or carrier is not None):
            self._refuse_run(batch, run_id)

    def _refuse_run(self, batch: int, run_id: str) -> NoReturn:
        raise ConflictError(
            f"the run {run_id!r} was not planned to carry batch {batch} of experiment {self._id}; trigger a run "
            f"without an id of your own to start an experiment, or let one go on with: nnictl resume ID"
        )

    def plan_batch(self, batch: int, run_id: str) -> list[Slot]:
        """The slots of a batch; the same again for the same run."""
        size = self._store.plan_batch(self._id, batch, run_id, self.context.settings.batch_size)
        return [Slot(batch, index) for index in range(size)]

    def plan_next_batch(self, batch: int, next_run_id: str) -> int | None:
        """Hand over to the next batch when there are trials left to create; ``None`` when this is the last.

        An experiment whose batch could not claim a single trial although it was free to ends with an error: the next
        batch would do no better. Called again, when a limit was raised, it only plans. It touches no job: at a limit it
        ends the experiment in the ledger, and whoever follows a trial reports it.
        """
        if limit := self._store.find_limit(self._id, self.context.experiment.spec):
            self.context.end(limit.status, limit.reason)
        was_passed = self._store.is_passed(self._id, batch)
        # Noted before looking: whoever raises a limit afterwards knows that nobody may look any more but they.
        self._store.set_passed(self._id, batch)
        experiment = self.context.refresh()
        trials = self._store.list_trials(self._id)
        if experiment.status is not ExperimentStatus.RUNNING:
            return None
        if self._store.newest_batch(self._id) > batch:
            return batch + 1
        if len(trials) >= experiment.max_trial_number or experiment.is_overdue(time.time()):
            return None
        if not was_passed and not any(trial.slot.batch == batch for trial in trials):
            reason = f"no trial of batch {batch} could be claimed; see the log of its suggest tasks"
            self._store.change_status(self._id, ExperimentStatus.ERROR, from_=ACTIVE, reason=reason)
            return None
        self._store.plan_batch(self._id, batch + 1, next_run_id, self.context.settings.batch_size)
        return batch + 1

    def conclude(self) -> Summary:
        """End an experiment that has no live trial left, and write its results; may be repeated."""
        reason = "it never came to its first trial; see the logs of load_experiment and stage_code"
        self._store.change_status(
            self._id, ExperimentStatus.ERROR, from_=[ExperimentStatus.INITIALIZED], reason=reason
        )
        self.trials.catch_up(at_last=True)
        through = [ExperimentStatus.RUNNING, ExperimentStatus.TUNER_NO_MORE_TRIAL]
        reason = self.context.refresh().status_reason
        self._store.change_status(self._id, ExperimentStatus.DONE, from_=through, reason=reason)
        self.trials.close_user_classes()
        self.context.refresh()
        return self._write_results()

    def refresh_study(self) -> None:
        """Bring the Optuna study up to date for those who watch it, as often as the installation asks for."""
        interval = self.context.settings.study_interval_seconds
        stamp = Path(self.context.experiment.folder) / _STUDY_STAMP
        with suppress(OSError):  # The storage may be away.
            if interval and not (stamp.exists() and time.time() - stamp.stat().st_mtime < interval):
                stamp.touch()
                self._write_study()

    def _write_results(self) -> Summary:
        source = StudySource.read(self._store, self._id)
        result = write_results(source.experiment, source.trials, find_importances(source), source.objectives)
        self._write_study()
        return result

    def _write_study(self) -> None:
        """Write the study; nothing depends on it, so that a failure is only told."""
        try:
            with self._store.projection_lock():
                write_study(StudySource.read(self._store, self._id), self._store.url)
        except Exception:
            logger.exception("%s: the Optuna study could not be written", self._id)

    def _require_results(self) -> None:
        """Write the results of an experiment that ended in another way than by its last task."""
        experiment = self.context.experiment
        if Path(experiment.folder).is_dir() and not has_results(experiment):
            self._write_results()

    def close_run(self, batch: int, run_id: str) -> bool:
        """Close a run: whatever it claimed and did not bring to its end is ended and reported.

        A run that ends although it carries the newest batch and the experiment goes on was stopped by somebody: then
        the experiment is stopped, with the trials of all its runs.

        Returns:
            Whether this was the last open run of an experiment that has ended.

        Raises:
            ConflictError: The batch is not the run's.
        """
        self._require_carrier(batch, run_id)
        reason = f"the run {run_id} was stopped"
        if self._store.newest_batch(self._id) <= batch:
            self._store.change_status(self._id, ExperimentStatus.STOPPED, from_=ACTIVE, reason=reason)
        ended = self.context.refresh().status.is_final
        for trial in self._store.list_unreported(self._id, None if ended else run_id):
            self.trials.end(trial, TrialStatus.USER_CANCELED, reason)
        if ended:
            self.trials.close_user_classes()
        # Behind the trials: as long as the batch is open, the run is not known to have left nothing running.
        is_last = self._store.close_batch(self._id, batch) == 0 and ended
        if is_last:
            self._require_results()
            self.context.training.close_experiment(self._id, self.context.section)
        return is_last
