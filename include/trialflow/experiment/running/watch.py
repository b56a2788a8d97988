"""Following one trial's job to its end: the loop body that worker and triggerer share."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialflow.assessors import Assessor, get_assessor
from trialflow.errors import BusyError, ClassBusyError, TrainingError, UnavailableError, UserClassError
from trialflow.experiment.showing.study import intermediate_values
from trialflow.metrics import MetricsTail, judge_final
from trialflow.records import ExperimentStatus, Metric, MetricType, Outcome, Trial, TrialStatus
from trialflow.training import TrainingService

if TYPE_CHECKING:
    from trialflow.experiment.running.context import ExperimentContext
    from trialflow.experiment.running.user_classes import UserClasses

logger = logging.getLogger(__name__)

# How often a job of which nothing was heard is asked for nevertheless, and its metrics are read.
_UNHEARD_SECONDS = 3.0
# How often a job is submitted again that nobody takes for the time being.
_RESUBMIT_SECONDS = 5.0


class TrialWatch:
    """Follows a submitted trial.

    Order of calls: `poll` again and again until it gives the ended trial; who follows many asks `is_due` before.
    Another process may follow the same trial, or go on where this one died.

    Args:
        context: The trial's experiment.
        trial: The trial; it is submitted if that has not happened yet.
    """

    def __init__(self, context: ExperimentContext, trial: Trial) -> None:
        self._context = context
        self._store = context.store
        self._service: TrainingService[Any, Any] = context.training
        spec = context.experiment.spec
        builtin = spec.assessor if spec.assessor is not None and spec.assessor.user_class is None else None
        self._assessor: Assessor | None = get_assessor(builtin) if builtin else None
        self._follow(trial)

    def _follow(self, trial: Trial) -> None:
        self.trial = trial
        # A trial is claimed a moment before its first attempt; of a later one only who follows it knows the beginning.
        self._waits_since = trial.claimed_at if trial.attempt == 1 else time.time()
        self._submit_at = float("-inf")
        self._said: set[str] = set()
        self._handle = self._service.handle(self._context.job_request(self.trial))
        self._tail = MetricsTail(Path(self._context.experiment.folder), self._service.metrics_file(self._handle))
        self._metrics: list[Metric] = []
        self._seen: str | None = None
        self._due_at = 0.0
        # Whoever followed the trial before has had these judged.
        self._judged = self._count_judged()
        self._owes_judgement = False

    def _count_judged(self) -> int:
        if self._assessor is not None:
            return len(intermediate_values(self._store.list_metrics(self.trial)))
        # A class of the user's own remembers by itself what it has judged.
        return 0

    def is_due(self) -> bool:
        """Whether `poll` may find something new; costs next to nothing."""
        if time.monotonic() >= self._due_at or self._context.looks.has_ended(self.trial):
            return True
        seen = self._service.glance(self._handle)
        return seen is None or seen != self._seen

    def poll(self) -> Trial | None:
        """Look once: note what is new in the ledger, and give the trial if it has ended.

        A job that the infrastructure lost is submitted anew with the same parameters, as often as the settings allow.
        While what runs the jobs is away, the trial waits for it, up to a limit if it has no job yet.
        """
        if self.trial.ended_at is not None or self._was_ended():
            return self.trial
        self._due_at = time.monotonic() + _UNHEARD_SECONDS
        self._seen = self._service.glance(self._handle)
        try:
            return self._look() if self._is_submitted() else None
        except UnavailableError as error:
            self._note_reason(str(error))
            return self._end_unsubmitted(error)
        except TrainingError as error:
            self._note_reason(str(error))  # Whoever reports the trial can then say why it was not followed.
            raise

    def _is_submitted(self) -> bool:
        """Whether there is a job to look at; submits it when it is time to."""
        if self.trial.job is None and time.monotonic() >= self._submit_at:
            self._submit_at = time.monotonic() + _RESUBMIT_SECONDS
            self.trial = self._context.submit(self.trial)
        return self.trial.job is not None

    def _end_unsubmitted(self, error: UnavailableError) -> Trial | None:
        """End a trial that nobody has taken for too long."""
        limit = self._context.settings.waiting_limit_seconds
        if isinstance(error, BusyError) or self.trial.job is not None or time.time() - self._waits_since <= limit:
            return None
        reason = f"it could not be submitted for more than {limit:.0f} s: {error}"
        self._end(Outcome(TrialStatus.FAILED, reason=reason, lost=True))
        return self.trial

    def _look(self) -> Trial | None:
        state = self._service.poll(self._handle)
        if state.started_at is not None and self.trial.status is TrialStatus.WAITING:
            self._store.set_running(self.trial, state.started_at)
            self.trial = replace(self.trial, status=TrialStatus.RUNNING, started_at=state.started_at, reason="")
        elif state.reason:
            self._note_reason(state.reason)
        stop = self._read_metrics()
        outcome = state.outcome or stop or self._overdue(state.started_at)
        if outcome is None:
            return None
        if outcome is state.outcome and self._tail.has_more:
            self._due_at = 0.0  # The final metric may stand in what was not read yet.
            return None
        if outcome.lost and self.trial.attempt < self._context.settings.trial_attempts:
            logger.warning("%s: attempt %d lost: %s", self.trial.label, self.trial.attempt, outcome.reason)
            # First what is left of it: a job that only waits too long might still start beside the next one.
            self._service.cancel(self._handle)
            self._store.start_next_attempt(self.trial, outcome.reason)
            self._follow(self._store.get_trial(self.trial.experiment_id, self.trial.id))
            self._is_submitted()
            return None
        self._end(outcome)
        return self.trial

    def _was_ended(self) -> bool:
        """Whether somebody has ended the trial in the ledger, where a person may do so."""
        if not self._context.looks.has_ended(self.trial):
            return False
        trial = self._store.get_trial(self.trial.experiment_id, self.trial.id)
        if trial.ended_at is None:
            return False
        self.trial = trial
        return True

    def _note_reason(self, reason: str) -> None:
        """Say each reason once, for some take turns; the row, of a trial that waits, may know it from somebody else."""
        if reason not in self._said:
            logger.warning("%s waits: %s", self.trial.label, reason)
            self._said.add(reason)
        if reason != self.trial.reason and self.trial.status is TrialStatus.WAITING:
            self._store.set_reason(self.trial, reason)
            self.trial = replace(self.trial, reason=reason)

    def _overdue(self, started_at: float | None) -> Outcome | None:
        """The end of a job that runs longer than maxTrialDuration; NNI calls it stopped early, too."""
        limit = self._context.experiment.spec.max_trial_duration_seconds
        if limit is None or started_at is None or time.time() - started_at <= limit:
            return None
        return Outcome(TrialStatus.EARLY_STOPPED, reason=f"it ran longer than maxTrialDuration, {limit:g} s")

    def _read_metrics(self) -> Outcome | None:
        """Take in what the trial has reported; an outcome means that the assessor wants it stopped."""
        new = self._tail.read()
        if not new and not self._owes_judgement:
            return None
        if new:
            self._store.add_metrics(self.trial, new)
        self._metrics += new
        user_classes = self._context.user_classes
        if user_classes is not None and user_classes.assesses:
            return self._ask_user_classes(user_classes)
        return self._assess(self._assessor) if self._assessor else None

    def _ask_user_classes(self, user_classes: UserClasses) -> Outcome | None:
        """Have each new intermediate metric judged by a class of the user's own."""
        history = [metric.value for metric in self._metrics if metric.type is MetricType.PERIODICAL]
        try:
            for step in range(self._judged + 1, len(history) + 1):
                self._owes_judgement = True
                is_good = user_classes.assess(self.trial, step, history[step - 1])
                self._judged, self._owes_judgement = step, False
                if not is_good:
                    reason = f"{user_classes.assessor_name} stopped it at step {step}"
                    return Outcome(TrialStatus.EARLY_STOPPED, reason=reason)
        except ClassBusyError:
            return None  # It is asked again at the next look.
        except UserClassError as error:
            logger.error("%s: %s", self._context.id, error)
            # In the ledger alone: each of the trials has its own follower, and that one's report cancels its job.
            self._context.end(ExperimentStatus.ERROR, str(error))
            user_classes.close()
            self.trial = self._store.get_trial(self.trial.experiment_id, self.trial.id)
        return None

    def _assess(self, assessor: Assessor) -> Outcome | None:
        """Have each new intermediate metric judged."""
        history = intermediate_values(self._metrics)
        steps = range(self._judged + 1, len(history) + 1)
        if not steps:
            return None
        self._judged = len(history)
        others = self._context.looks.histories(assessor, self.trial)
        bad = next((step for step in steps if not assessor.is_good(history[:step], others)), None)
        if bad is None:
            return None
        return Outcome(TrialStatus.EARLY_STOPPED, reason=f"{assessor.spec.name} stopped it at step {bad}")

    def _end(self, outcome: Outcome) -> None:
        """Note the end; only then the job may be cancelled, or somebody would take it for a lost one."""
        value, remark = judge_final(self._metrics, self._context.experiment.spec.objectives)
        if outcome.status is TrialStatus.SUCCEEDED:
            outcome = replace(outcome, reason=self._remarks(outcome.reason, remark))
        elif outcome.status is TrialStatus.FAILED:
            reported = "" if value is None else f"its final metric of {value:g} does not count, because it failed"
            output = self._service.last_output(self._handle)
            outcome = replace(outcome, reason="\n".join(filter(None, [outcome.reason, reported, output])))
        if outcome.status is not TrialStatus.SUCCEEDED:
            value = None
        self._store.set_ended(self.trial, outcome, value)
        self.trial = self._store.get_trial(self.trial.experiment_id, self.trial.id)

    def _remarks(self, *remarks: str) -> str:
        damage = [
            f"{count} bytes of the metrics file are {what}"
            for count, what in (
                (self._tail.skipped_bytes, "no records"),
                (self._tail.unfinished_bytes, "a record that was cut off"),
            )
            if count
        ]
        if self._tail.is_given_up:
            damage.append("the rest of it was not read, for it is too long or too much of it is broken")
        return "; ".join(filter(None, [*remarks, *damage]))
