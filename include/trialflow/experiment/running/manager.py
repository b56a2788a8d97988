"""The life of an experiment and of each of its trials, one idempotent verb per step.

A trial's steps: `suggest` (claim a place, ask the tuner) → `submit` (start the job) → `TrialWatch.poll` (until it
has ended) → `report` (clear the job away, tell the tuner, free the place). Each may be killed anywhere and run again.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trialflow.errors import (
    ClassBusyError,
    ConfigError,
    ConflictError,
    StagingError,
    TrainingError,
    UnavailableError,
    UserClassError,
)
from trialflow.experiment.loading.annotated import carry_out_annotations
from trialflow.experiment.running.ask import ask
from trialflow.experiment.running.user_classes import ACTIVE, UserClasses
from trialflow.experiment.showing.results import Result, write_results
from trialflow.experiment.showing.study import ExperimentStudy, intermediate_values
from trialflow.metrics import read_objectives
from trialflow.records import (
    Experiment,
    ExperimentSpec,
    ExperimentStatus,
    Outcome,
    Slot,
    Trial,
    TrialStatus,
)
from trialflow.settings import Settings, get_settings
from trialflow.staging import FolderStorage, scan_code
from trialflow.store import ClaimRefusal, open_store
from trialflow.training import JobRequest, TrainingService, get_training_service
from trialflow.tuners import NoSuggestion

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trialflow.assessors import Assessor
    from trialflow.experiment.running.watch import TrialWatch
    from trialflow.store.limits import Limit

logger = logging.getLogger(__name__)

# From claim to submission it takes a second, and on a busy machine some more until the trial's next task begins; then
# whoever claimed the trial is taken for dead.
_SUBMISSION_SECONDS = 5.0
_HANDOVER_SECONDS = 30.0
# How often the ledger is asked which trials go on.
_LOOK_SECONDS = 0.5
# How often a class of the user's own that still looks for parameters is asked again.
_BUSY_SECONDS = 0.2


class ExperimentManager:
    """Acts on one experiment.

    Order of calls: `create` once, then any number of managers in any number of processes. For the first batch:
    `stage_code` → `start` → `plan_batch`; for every slot the four steps of a trial; when the last slot of a batch was
    claimed, `plan_next_batch`; when the last batch is through, `conclude`; at the end of every run, `close_run`.
    """

    def __init__(self, experiment_id: str, settings: Settings | None = None) -> None:
        self.id = experiment_id
        self.settings = settings or get_settings()
        self.store = open_store(self.settings.store_url)
        # How many trials were reported when the tuner last had nothing to suggest for the time being.
        self.asked_in_vain_after: int | None = None
        self._watches: dict[str, TrialWatch] = {}
        # Of the trials that succeeded, and so will never report again.
        self._histories: dict[str, list[float]] = {}
        self._unended: frozenset[str] = frozenset()
        self._look_again_at = 0.0

    @classmethod
    def create(
        cls, experiment_id: str, spec: ExperimentSpec, settings: Settings | None = None, owner: str = ""
    ) -> ExperimentManager:
        """Create the experiment in the store, unless it is there."""
        manager = cls(experiment_id, settings)
        service = get_training_service(spec.platform, manager.settings)
        folder = service.experiment_folder(experiment_id, spec.training)
        folder.mkdir(parents=True, exist_ok=True)
        manager.store.create_experiment(experiment_id, spec, str(folder), owner)
        manager._study.create()
        return manager

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment as it was when this manager first looked; `refresh` looks again."""
        return self.store.get_experiment(self.id)

    def refresh(self) -> Experiment:
        """Read the experiment anew; what was made for another search space is made again."""
        before = self.__dict__.pop("experiment", None)
        if before is not None and before.spec != self.experiment.spec:
            self.__dict__.pop("_study", None)
            self.__dict__.pop("user_classes", None)
        return self.experiment

    @cached_property
    def training(self) -> TrainingService:
        """Where the experiment's jobs run."""
        return get_training_service(self.experiment.spec.platform, self.settings)

    @cached_property
    def _study(self) -> ExperimentStudy:
        return ExperimentStudy(self.experiment, self.store.url)

    @cached_property
    def user_classes(self) -> UserClasses | None:
        """The experiment's tuner, assessor or advisor, if a class of the user's own is one."""
        has_some = bool(self.experiment.spec.user_classes)
        return UserClasses(self.experiment, self.store, self.settings) if has_some else None

    # ── the experiment ───────────────────────────────────────────────────────────────────────────────────────

    def stage_code(self) -> str:
        """Copy the code to the experiment's folder, and make what its jobs share; tells where the code lies.

        Done once, however often it is called.

        Raises:
            ConfigError: The code folder is not as it should be.
            StagingError: The copy could not be completed.
            TrainingError: What the jobs share could not be made.
        """
        spec = self.experiment.spec
        if self.experiment.code_folder is not None:
            self.training.open_experiment(self.id, spec.training)  # It was closed if the experiment had ended.
            return self.experiment.code_folder
        files, problems = scan_code(
            Path(spec.code_directory), Path(spec.code_root), self.settings.max_code_bytes, self.settings.max_code_files
        )
        if problems:
            raise ConfigError(problems)
        if spec.use_annotation:
            files = carry_out_annotations(files, spec.search_space)
        place = FolderStorage(Path(self.experiment.folder)).stage(files)
        if self.user_classes is not None and (problems := self.user_classes.stage()):
            raise ConfigError(problems)
        self.training.open_experiment(self.id, spec.training)
        self.store.set_code_folder(self.id, place)
        self.refresh()
        return place

    def start(self) -> None:
        """Let trials be claimed; an experiment that has ended stays as it is."""
        self.store.change_status(self.id, ExperimentStatus.RUNNING, from_=[ExperimentStatus.INITIALIZED])

    def require_run(self, batch: int, run_id: str, owner: str) -> None:
        """Refuse to act for a run that was never planned: who may trigger some DAG may give its run any id.

        Raises:
            ConflictError: The experiment belongs to another DAG, or the batch to another run or to none.
        """
        if self.experiment.owner != owner:
            self._refuse_run(batch, run_id)
        self._require_carrier(batch, run_id)

    def _require_carrier(self, batch: int, run_id: str) -> None:
        """The first batch is planned by its own run, to which the experiment's id leads; others before their run."""
        carrier = self.store.find_run(self.id, batch)
        if carrier != run_id and (batch > 1 or carrier is not None):
            self._refuse_run(batch, run_id)

    def _refuse_run(self, batch: int, run_id: str) -> NoReturn:
        raise ConflictError(
            f"the run {run_id!r} was not planned to carry batch {batch} of experiment {self.id}; trigger a run without "
            f"an id of your own to start an experiment, or let one go on with: nnictl resume ID"
        )

    def plan_batch(self, batch: int, run_id: str) -> list[Slot]:
        """The slots of a batch; the same again for the same run."""
        size = self.store.plan_batch(self.id, batch, run_id, self.settings.batch_size)
        return [Slot(batch, index) for index in range(size)]

    def plan_next_batch(self, batch: int, next_run_id: str) -> int | None:
        """Hand over to the next batch when there are trials left to create; ``None`` when this is the last.

        An experiment whose batch could not claim a single trial although it was free to ends with an error: the next
        batch would do no better. Called again, when a limit was raised, it only plans. It touches no job: at a limit it
        notes the end, and whoever follows a trial clears it away.
        """
        if limit := self._find_limit():
            self._note_end(limit.status, limit.reason)
        was_passed = self.store.is_passed(self.id, batch)
        # Noted before looking: whoever raises a limit afterwards knows that nobody may look any more but they.
        self.store.set_passed(self.id, batch)
        experiment = self.refresh()
        trials = self.store.list_trials(self.id)
        if experiment.status is not ExperimentStatus.RUNNING:
            return None
        if self.store.newest_batch(self.id) > batch:
            return batch + 1
        if len(trials) >= experiment.max_trial_number or self.is_overdue():
            return None
        if not was_passed and not any(trial.slot.batch == batch for trial in trials):
            reason = f"no trial of batch {batch} could be claimed; see the log of its suggest tasks"
            self.store.change_status(self.id, ExperimentStatus.ERROR, from_=ACTIVE, reason=reason)
            return None
        self.store.plan_batch(self.id, batch + 1, next_run_id, self.settings.batch_size)
        return batch + 1

    def is_overdue(self) -> bool:
        """Whether maxExecDuration is over."""
        experiment = self.experiment
        return experiment.started_at is not None and (
            experiment.duration_seconds(time.time()) >= experiment.max_duration_seconds
        )

    def is_idle(self) -> bool:
        """Whether no trial holds a place any more; reports what has ended on the way."""
        self.settle()
        return self.store.count_live(self.id) == 0

    def has_news(self, after: int | None = None) -> bool:
        """Whether a claim that was refused for the time being may be answered otherwise now, or has to give way.

        Args:
            after: How many trials were reported when the tuner was asked in vain; ``None`` when it was not asked.
        """
        experiment = self.refresh()
        if experiment.status is not ExperimentStatus.RUNNING or self.is_overdue() or self.must_give_way():
            return True
        # A trial that has ended and was not reported counts as if it were: the claim reports it first.
        is_in_vain = after is not None and self.store.count_ended(self.id) <= after
        if is_in_vain and not self.store.has_waiting_point(self.id):
            return False
        return len(self.store.list_unended(self.id)) < experiment.trial_concurrency

    def has_ended(self, trial: Trial) -> bool:
        """Whether the trial has ended in the ledger as of half a second ago; one look serves all that are asked for.

        A trial that is younger than the look counts as ended, too: look it up.
        """
        now = time.monotonic()
        if now >= self._look_again_at:
            self._unended, self._look_again_at = self.store.list_unended(self.id), now + _LOOK_SECONDS
        return trial.id not in self._unended

    def must_give_way(self) -> bool:
        """Whether a trial holds a place and waits to be submitted, or to be followed, longer than that takes.

        The task that claimed it was killed, and can only be run again when no other one waits for room in its place.
        """
        now = time.time()
        return self.store.has_abandoned(self.id, now - _SUBMISSION_SECONDS, now - _HANDOVER_SECONDS)

    def conclude(self) -> Result:
        """End an experiment that has no live trial left, and write its results; may be repeated."""
        reason = "it never came to its first trial; see the logs of load_experiment and stage_code"
        self.store.change_status(
            self.id, ExperimentStatus.ERROR, from_=[ExperimentStatus.INITIALIZED], reason=reason
        )
        self._catch_up(at_last=True)
        through = [ExperimentStatus.RUNNING, ExperimentStatus.TUNER_NO_MORE_TRIAL]
        self.store.change_status(self.id, ExperimentStatus.DONE, from_=through, reason=self.refresh().status_reason)
        self._close_user_classes()
        experiment, trials = self.refresh(), self.store.list_trials(self.id)
        return write_results(experiment, trials, self._study.importances(), self._objectives(trials))

    def _objectives(self, trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
        """With several objectives, what each trial with a value reached in all of them, by its id."""
        keys = self.experiment.spec.objectives
        if len(keys) == 1:
            return {}
        finals = self.store.list_finals(self.id)
        return {trial.id: read_objectives(finals[trial.id].value, keys) for trial in trials if trial.value is not None}

    def close_run(self, batch: int, run_id: str) -> bool:
        """Clear up behind a run: whatever it claimed and did not bring to its end is cancelled.

        A run that ends although it carries the newest batch and the experiment goes on was stopped by somebody: then
        the experiment is stopped, with the trials of all its runs.

        Returns:
            Whether this was the last open run of an experiment that has ended.

        Raises:
            ConflictError: The batch is not the run's.
        """
        self._require_carrier(batch, run_id)
        reason = f"the run {run_id} was stopped"
        if self.store.newest_batch(self.id) <= batch:
            self.store.change_status(self.id, ExperimentStatus.STOPPED, from_=ACTIVE, reason=reason)
        ended = self.refresh().status.is_final
        for trial in self.store.list_unreported(self.id, None if ended else run_id):
            self.cancel(trial, TrialStatus.USER_CANCELED, reason)
        if ended:
            self._close_user_classes()
        is_last = self.store.close_batch(self.id, batch) == 0 and ended
        if is_last:
            self.training.close_experiment(self.id, self.experiment.spec.training)
        return is_last

    # ── the steps of a trial ─────────────────────────────────────────────────────────────────────────────────

    def suggest(self, slot: Slot, run_id: str) -> Trial | ClaimRefusal:
        """Claim a trial and ask the tuner for its parameters; the same trial again for the same slot.

        What has ended by now is reported first, so that the suggestion knows every result there is; the job is
        submitted at once.
        """
        self.settle()
        if self.asked_in_vain_after is not None and not self.has_news(self.asked_in_vain_after):
            return ClaimRefusal.NO_SUGGESTION
        self.asked_in_vain_after = None
        try:
            while (answer := self._suggest(slot, run_id)) is None:
                time.sleep(_BUSY_SECONDS)
                self.settle()  # The class may wait for the end of another trial.
            return answer
        except UserClassError as error:
            self.fail(error)
            return ClaimRefusal.NOT_RUNNING

    def _suggest(self, slot: Slot, run_id: str) -> Trial | ClaimRefusal | None:
        """One attempt; ``None`` while a class of the user's own looks for parameters."""
        with self.store.study_lock(self.id):
            trial = self.store.claim(self.id, slot, run_id)
            if isinstance(trial, ClaimRefusal) or trial.sampler_number is not None or trial.ended_at is not None:
                return trial
            self.refresh()  # The search space may have been changed while there was no room.
            if trial.parameters is None:
                user_classes = self.user_classes
                if user_classes is not None and user_classes.suggests:
                    try:
                        answer = user_classes.suggest(trial)
                    except ClassBusyError:
                        return self._wait_for_class(trial, run_id)
                else:
                    answer = ask(self.experiment, self.store)
                if isinstance(answer, NoSuggestion):
                    return self._take_back(trial, answer)
                self.store.set_parameters(trial, answer.parameters, answer.note)
                trial = self.store.get_trial(self.id, trial.id)
                number = self._study.add(trial)
            else:  # A person gave them, or whoever asked for them died here.
                number = self._study.find(trial)
            self.store.set_sampler_number(trial, number)
        trial = self.store.get_trial(self.id, trial.id)
        with suppress(UnavailableError):  # Its own task tries again, and says why.
            trial = self.submit(trial)
        return trial

    def _wait_for_class(self, trial: Trial, run_id: str) -> ClaimRefusal | None:
        """Keep the claim of a trial whose parameters are being looked for, unless there is no use in them any more."""
        if self.experiment.status is ExperimentStatus.RUNNING and not self.is_overdue():
            self.store.renew_claim(trial)
            return None
        self.store.release(trial)
        refusal = self.store.claim(self.id, trial.slot, run_id)
        return refusal if isinstance(refusal, ClaimRefusal) else None

    def _take_back(self, trial: Trial, answer: NoSuggestion) -> ClaimRefusal:
        """Undo the claim of a trial for which the tuner has nothing."""
        self.store.release(trial)
        tuner = self.experiment.spec.tuner.name
        waits = answer is NoSuggestion.WAIT and self.store.count_live(self.id)
        if waits or self.store.has_waiting_point(self.id):
            self.asked_in_vain_after = self.store.count_reported(self.id)
            return ClaimRefusal.NO_SUGGESTION
        reason = f"{tuner} has suggested everything that it has to suggest"
        status = ExperimentStatus.TUNER_NO_MORE_TRIAL
        self.store.change_status(self.id, status, from_=[ExperimentStatus.RUNNING], reason=reason)
        return ClaimRefusal.TUNER_EXHAUSTED

    def submit(self, trial: Trial) -> Trial:
        """Start the job of the trial's present attempt, unless it was started or the trial has ended.

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
        self.store.set_job(trial, self.training.handle(request))
        return self.store.get_trial(self.id, trial.id)

    def hand_over(self, trial: Trial) -> Trial:
        """Take a trial over from whoever claimed it, and submit it if that has not happened; raises as `submit`."""
        self.store.set_followed(trial)
        return self.submit(trial)

    def report(self, trial: Trial) -> Trial:
        """Clear the ended trial's job away, tell the tuner and free the place, once; end the experiment at a limit.

        A trial that has not ended, because whoever followed it was stopped, is cancelled.
        """
        reported = self._clear_away(trial)
        self._catch_up()
        self._end_at_limit()
        return reported

    def cancel(self, trial: Trial, status: TrialStatus, reason: str) -> Trial:
        """End a trial from outside; one that has ended by itself keeps its result."""
        self.store.set_ended(trial, Outcome(status, reason=reason), None)
        return self._clear_away(self.store.get_trial(self.id, trial.id))

    def settle(self) -> None:
        """Report every trial that has ended and whose own tasks have not come to it yet."""
        has_news = False
        for trial in self.store.list_unreported(self.id):
            ended = trial if trial.ended_at is not None else self._look_at(trial)
            if ended is not None:
                self._watches.pop(trial.id, None)
                with suppress(UnavailableError):  # Its own task tries again, and says why.
                    self._clear_away(ended)
                has_news = True
        if has_news:
            self._catch_up()
        self._end_at_limit()

    def _clear_away(self, trial: Trial) -> Trial:
        if trial.reported_at is not None:
            return trial
        if trial.ended_at is None:
            outcome = Outcome(TrialStatus.USER_CANCELED, reason=trial.reason or "the task that followed it was stopped")
            self.store.set_ended(trial, outcome, None)
            trial = self.store.get_trial(self.id, trial.id)
        self.training.cancel(self.training.handle(self.job_request(trial)))
        with self.store.study_lock(self.id):
            if trial.parameters is not None:
                self._study.tell(trial, self.store.list_metrics(trial))
            self.store.set_reported(trial)
        return self.store.get_trial(self.id, trial.id)

    def _end_at_limit(self) -> None:
        """End the experiment whose goal is reached or of which too many trials failed, and the trials that still run.

        Whoever dies in here leaves a ledger from which the next one comes to the same end.
        """
        if limit := self._find_limit():
            self._end(limit.status, limit.reason)

    def _find_limit(self) -> Limit | None:
        return self.store.find_limit(self.id, self.experiment.spec)

    def fail(self, error: UserClassError) -> None:
        """End the experiment whose own class has failed, and the trials that still run."""
        logger.error("%s: %s", self.id, error)
        self._end(ExperimentStatus.ERROR, str(error))
        self._close_user_classes()

    def _end(self, status: ExperimentStatus, reason: str) -> None:
        for trial in self._note_end(status, reason):
            self._watches.pop(trial.id, None)
            with suppress(UnavailableError):  # Its end is noted; its own tasks clear it away.
                self._clear_away(trial)

    def _note_end(self, status: ExperimentStatus, reason: str) -> list[Trial]:
        """Note the end of the experiment and of its trials; gives those whose jobs are to be cleared away."""
        self.store.change_status(self.id, status, from_=ACTIVE, reason=reason)
        for trial in self.store.list_unreported(self.id):
            self.store.set_ended(trial, Outcome(TrialStatus.SYS_CANCELED, reason=reason.partition("\n")[0]), None)
        return self.store.list_unreported(self.id)

    def _catch_up(self, *, at_last: bool = False) -> None:
        """Let the experiment's own classes know of every trial that was reported."""
        if self.user_classes is None:
            return
        try:
            self.user_classes.catch_up_at_last() if at_last else self.user_classes.catch_up()
        except UserClassError as error:
            self.fail(error)

    def _close_user_classes(self) -> None:
        if self.user_classes is not None:
            self.user_classes.close()

    def _look_at(self, trial: Trial) -> Trial | None:
        """Poll a live trial once, where that is cheap; gives it when it has ended."""
        from trialflow.experiment.running.watch import TrialWatch

        if trial.job is None or not self.training.is_cheap:
            return None
        if trial.id not in self._watches:
            self._watches[trial.id] = TrialWatch(self, trial)
        return self._watches[trial.id].poll()

    def job_request(self, trial: Trial) -> JobRequest:
        """What the training service needs for the trial's present attempt."""
        experiment = self.experiment
        if experiment.code_folder is None:
            raise StagingError(f"the code of experiment {self.id} was not staged; run stage_code first")
        folder = Path(experiment.folder) / "trials" / trial.id / str(trial.attempt)
        return JobRequest(
            experiment_id=self.id,
            trial_id=trial.id,
            number=trial.number,
            attempt=trial.attempt,
            parameters={} if trial.parameters is None else trial.parameters,
            training=experiment.spec.training,
            code_folder=experiment.code_folder,
            folder=str(folder),
        )

    def histories(self, assessor: Assessor, trial: Trial) -> Sequence[Sequence[float]]:
        """The intermediate metrics of the trials with which an assessor compares this one."""
        self._histories |= self._read_histories(TrialStatus.SUCCEEDED, but=self._histories)
        others = set(TrialStatus) - {TrialStatus.SUCCEEDED} if assessor.compares_with_all else ()
        by_trial = {**self._histories, **(self._read_histories(*others) if others else {})}
        return [history for trial_id, history in by_trial.items() if trial_id != trial.id]

    def _read_histories(self, *statuses: TrialStatus, but: Collection[str] = ()) -> dict[str, list[float]]:
        by_trial = self.store.list_intermediate_metrics(self.id, *statuses, but=but)
        return {trial_id: intermediate_values(metrics) for trial_id, metrics in by_trial.items()}
