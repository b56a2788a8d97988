"""The steps of a trial, each of which may be killed anywhere and taken again.

`suggest` (claim a place, ask the tuner, start the job) → `hand_over` (start the job if that has not happened) →
`TrialWatch.poll` (until it has ended) → `report` (cancel what is left of the job, count the result, free the place).
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from trialflow.claim_rules import ClaimRefusal, find_refusal
from trialflow.errors import ClassBusyError, UnavailableError, UserClassError
from trialflow.experiment.running.ask import ask
from trialflow.experiment.running.watch import TrialWatch
from trialflow.records import ExperimentStatus, Outcome, Slot, Trial, TrialStatus
from trialflow.tuners import NoSuggestion

if TYPE_CHECKING:
    from trialflow.experiment.running.context import ExperimentContext

logger = logging.getLogger(__name__)

# How often a class of the user's own that still looks for parameters is asked again.
_BUSY_SECONDS = 0.2


class TrialSteps:
    """Takes the trials of one experiment through their lives.

    Any number of these may act on an experiment, in any number of processes.

    Attributes:
        asked_in_vain_after: How many trials were reported when the tuner last had nothing to suggest for the time
            being; ``None`` when it was not asked, or had something.
    """

    def __init__(self, context: ExperimentContext) -> None:
        self.context = context
        self.asked_in_vain_after: int | None = None
        self._store, self._id = context.store, context.id
        self._watches: dict[str, TrialWatch] = {}

    def suggest(self, slot: Slot, run_id: str) -> Trial | ClaimRefusal:
        """Claim a trial and ask the tuner for its parameters; the same trial again for the same slot.

        What has ended by now is reported first, so that the suggestion knows every result there is; the job is
        submitted at once.
        """
        self.report_ended()
        if self.asked_in_vain_after is not None and (refusal := self._find_pause()):
            return refusal
        self.asked_in_vain_after = None
        try:
            while (answer := self._suggest(slot, run_id)) is None:
                time.sleep(_BUSY_SECONDS)
                self.report_ended()  # The class may wait for the end of another trial.
            return answer
        except UserClassError as error:
            self._end_because(error)
            return ClaimRefusal.NOT_RUNNING

    def _suggest(self, slot: Slot, run_id: str) -> Trial | ClaimRefusal | None:
        """One attempt; ``None`` while a class of the user's own looks for parameters."""
        # One asks at a time, from the claim to the note of the parameters: whoever dies in here leaves a claimed trial
        # without parameters, and whoever comes next for the slot asks for them. Nobody asks twice for the same trial.
        with self._store.experiment_lock(self._id):
            trial = self._store.claim(self._id, slot, run_id)
            if isinstance(trial, ClaimRefusal):
                return trial
            # Parameters are there when a person gave them, or whoever asked for them died here.
            if trial.parameters is None and trial.ended_at is None:
                self.context.refresh()  # The search space may have been changed while there was no room.
                reported = self._store.count_reported(self._id)
                user_classes = self.context.user_classes
                if user_classes is not None and user_classes.suggests:
                    try:
                        answer = user_classes.suggest(trial)
                    except ClassBusyError:
                        return self._wait_for_class(trial, run_id)
                else:
                    answer = ask(self.context.experiment, self._store)
                if isinstance(answer, NoSuggestion):
                    return self._take_back(trial, answer, reported)
                self._store.set_parameters(trial, answer.parameters, answer.note)
        trial = self._store.get_trial(self._id, trial.id)
        with suppress(UnavailableError):  # Its own task tries again, and says why.
            trial = self.context.submit(trial)
        return trial

    def _wait_for_class(self, trial: Trial, run_id: str) -> ClaimRefusal | None:
        """Keep the claim of a trial whose parameters are being looked for, unless there is no use in them any more."""
        experiment = self.context.experiment
        if experiment.status is ExperimentStatus.RUNNING and not experiment.is_overdue(time.time()):
            self._store.renew_claim(trial)
            return None
        self._store.release(trial)
        refusal = self._store.claim(self._id, trial.slot, run_id)
        return refusal if isinstance(refusal, ClaimRefusal) else None

    def _take_back(self, trial: Trial, answer: NoSuggestion, reported: int) -> ClaimRefusal:
        """Undo the claim of a trial for which the tuner has nothing; whoever dies before leaves one to be asked for.

        Args:
            trial: The trial.
            answer: What the tuner said.
            reported: How many trials were reported before it was asked; the result that it waits for may have come
                since.
        """
        self._store.release(trial)
        state = self._store.read_claim_state(self._id)
        if state.has_waiting_point or (answer is NoSuggestion.WAIT and state.created > reported):
            self.asked_in_vain_after = reported
            return self._find_pause() or ClaimRefusal.NO_SUGGESTION
        reason = f"{self.context.experiment.spec.tuner.name} has suggested everything that it has to suggest"
        status = ExperimentStatus.TUNER_NO_MORE_TRIAL
        self._store.change_status(self._id, status, from_=[ExperimentStatus.RUNNING], reason=reason)
        return ClaimRefusal.TUNER_EXHAUSTED

    def find_refusal(self, asked_in_vain_after: int | None = None) -> ClaimRefusal | None:
        """Why a claim would be refused now; ``None`` when it would not, or is to be made to learn the reason."""
        return find_refusal(self._store.read_claim_state(self._id, asked_in_vain_after))

    def _find_pause(self) -> ClaimRefusal | None:
        """A refusal that is to be waited out; a last one is the claim's to say, which sees no claim half undone."""
        refusal = self.find_refusal(self.asked_in_vain_after)
        return refusal if refusal is not None and not refusal.is_last else None

    def has_news(self, asked_in_vain_after: int | None = None) -> bool:
        """Whether whoever waits for a claim would be answered otherwise now than that it has to wait.

        Args:
            asked_in_vain_after: As `TrialSteps` had it when the wait began.
        """
        refusal = self.find_refusal(asked_in_vain_after)
        return refusal is None or not refusal.waits

    def hand_over(self, trial: Trial) -> Trial:
        """Take a trial over from whoever claimed it, and submit it if that has not happened.

        Raises:
            UnavailableError: Nobody takes jobs for the time being.
            TrainingError: The job is not accepted.
        """
        self._store.set_followed(trial)
        return self.context.submit(trial)

    def report(self, trial: Trial) -> Trial:
        """Report a trial, and end the experiment at a limit; a trial that has not ended is ended.

        That is one whose follower was stopped.
        """
        reported = self._report(trial)
        self.catch_up()
        self._end_at_limit()
        return reported

    def report_ended(self) -> None:
        """Report every trial that has ended and whose own tasks have not come to it yet."""
        has_news = False
        for trial in self._store.list_unreported(self._id):
            ended = trial if trial.ended_at is not None else self._look_at(trial)
            if ended is not None:
                with suppress(UnavailableError):  # Its own task tries again, and says why.
                    self._report(ended)
                has_news = True
        if has_news:
            self.catch_up()
        self._end_at_limit()

    def end(self, trial: Trial, status: TrialStatus, reason: str) -> Trial:
        """End a trial from outside, and report it; one that has ended by itself keeps its result."""
        self._store.set_ended(trial, Outcome(status, reason=reason), None)
        return self._report(self._store.get_trial(self._id, trial.id))

    def is_idle(self) -> bool:
        """Whether no trial holds a place any more; reports what has ended on the way."""
        self.report_ended()
        return self._store.count_live(self._id) == 0

    def catch_up(self, *, at_last: bool = False) -> None:
        """Let the experiment's own classes know of every trial that was reported; if one fails, the experiment ends.

        Args:
            at_last: Nobody comes after this, so that a class that is busy is waited for.
        """
        user_classes = self.context.user_classes
        if user_classes is None:
            return
        try:
            user_classes.catch_up_at_last() if at_last else user_classes.catch_up()
        except UserClassError as error:
            self._end_because(error)

    def close_user_classes(self) -> None:
        """Leave nothing running of the own classes of an experiment that has ended."""
        if self.context.user_classes is not None:
            self.context.user_classes.close()

    def _report(self, trial: Trial) -> Trial:
        self._watches.pop(trial.id, None)
        if trial.reported_at is not None:
            return trial
        if trial.ended_at is None:
            reason = trial.reason or "the task that followed it was stopped"
            self._store.set_ended(trial, Outcome(TrialStatus.USER_CANCELED, reason=reason), None)
            trial = self._store.get_trial(self._id, trial.id)
        # Only now, behind the note of the end: a job that is gone before it would be taken for a lost one.
        self.context.training.cancel(self.context.training.handle(self.context.job_request(trial)))
        # Only now, behind the job: its place must not be free while it is alive.
        self._store.set_reported(trial)
        return self._store.get_trial(self._id, trial.id)

    def _end_at_limit(self) -> None:
        """End the experiment whose goal is reached or of which too many trials failed, and report what still runs.

        Whoever dies in here leaves a ledger from which the next one comes to the same end.
        """
        if limit := self._store.find_limit(self._id, self.context.experiment.spec):
            self._end_experiment(limit.status, limit.reason)

    def _end_because(self, error: UserClassError) -> None:
        """End the experiment whose own class has failed, and report what still runs."""
        logger.error("%s: %s", self._id, error)
        self._end_experiment(ExperimentStatus.ERROR, str(error))
        self.close_user_classes()

    def _end_experiment(self, status: ExperimentStatus, reason: str) -> None:
        for trial in self.context.end(status, reason):
            with suppress(UnavailableError):  # Its end is noted; its own tasks report it.
                self._report(trial)

    def _look_at(self, trial: Trial) -> Trial | None:
        """Poll a live trial once, where that is cheap; gives it when it has ended."""
        if trial.job is None or not self.context.training.is_cheap:
            return None
        if trial.id not in self._watches:
            self._watches[trial.id] = TrialWatch(self.context, trial)
        return self._watches[trial.id].poll()
