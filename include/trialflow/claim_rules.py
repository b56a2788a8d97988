"""Who may claim the next trial: every rule of the cap, of the limits and of those who wait, in one pure function.

Nothing else decides it. The claim's transaction asks `find_refusal` and so do those who wait for another answer; each
acts on what it is told, on a `ClaimState` that was read from the ledger at one moment.
"""

from __future__ import annotations

from dataclasses import dataclass

from trialflow.records import ExperimentStatus, StrEnum

# How many suggestions of a run are under way at a time: while one waits for room, the next ones are started. Then they
# are there when their turn comes.
SUGGESTIONS_AT_A_TIME = 3
# From claim to submission it takes a second, and on a busy machine some more until the trial's next task begins; then
# whoever claimed the trial is taken for dead.
SUBMISSION_SECONDS = 5.0
HANDOVER_SECONDS = 30.0


class ClaimRefusal(StrEnum):
    """Why there is no trial to be had."""

    NO_ROOM = "NO_ROOM"
    # The tuner waits for the result of another trial, or has nothing to suggest any more.
    NO_SUGGESTION = "NO_SUGGESTION"
    TUNER_EXHAUSTED = "TUNER_EXHAUSTED"
    # A suggestion was killed behind its claim, and can only run again in the place of one that waits.
    GIVE_WAY = "GIVE_WAY"
    NO_TRIALS_LEFT = "NO_TRIALS_LEFT"
    DURATION_OVER = "DURATION_OVER"
    LIMIT_REACHED = "LIMIT_REACHED"
    NOT_RUNNING = "NOT_RUNNING"

    @property
    def waits(self) -> bool:
        """Whether there is nothing to do but to look again later."""
        return self in (ClaimRefusal.NO_ROOM, ClaimRefusal.NO_SUGGESTION)

    @property
    def is_last(self) -> bool:
        """Whether no other answer will come by itself."""
        return not self.waits and self is not ClaimRefusal.GIVE_WAY


@dataclass(frozen=True)
class ClaimState:
    """What the ledger says about an experiment's claims at one moment.

    Attributes:
        now: When it was read, in seconds since the epoch, as all times here.
        is_overdue: Whether maxExecDuration is over.
        has_reached_limit: Whether the goal is reached, or too many trials failed.
        created: Trials that were claimed so far.
        taken: How many places under the cap are taken. To the claim, a trial holds its place until it was reported.
            To those who wait, until it has ended: before they claim, they report what has ended.
        ended: Trials that have ended, whether the tuner knows of them or not.
        has_waiting_point: Whether parameters that a person gave wait for a place.
        oldest_unfollowed: When the oldest trial was claimed that goes on and that nobody follows.
        oldest_unsubmitted: The same of those that have no job.
        asked_in_vain_after: How many trials were reported when the tuner last had nothing to suggest for the time
            being; ``None`` when it was not asked.
    """

    now: float
    status: ExperimentStatus
    is_overdue: bool
    has_reached_limit: bool
    max_trial_number: int
    trial_concurrency: int
    created: int
    taken: int
    ended: int
    has_waiting_point: bool = False
    oldest_unfollowed: float | None = None
    oldest_unsubmitted: float | None = None
    asked_in_vain_after: int | None = None

    @property
    def is_in_vain(self) -> bool:
        """Whether the tuner would say again that it has nothing to suggest, for no trial has ended since."""
        after = self.asked_in_vain_after
        return after is not None and self.ended <= after and not self.has_waiting_point

    @property
    def has_abandoned(self) -> bool:
        """Whether a trial holds a place and waits to be submitted, or to be followed, longer than that takes."""
        return _is_older(self.oldest_unsubmitted, self.now - SUBMISSION_SECONDS) or _is_older(
            self.oldest_unfollowed, self.now - HANDOVER_SECONDS
        )


def find_refusal(state: ClaimState) -> ClaimRefusal | None:
    """Why no trial may be claimed now; ``None`` when one may. The order decides which reason people read.

    A suggestion goes from state to state by the answers::

                  ┌───────────────── None ─────────────────┐
                  │                                        ▼
        start → [asks] ── NO_ROOM ───────────────────→ [claims] → asks the tuner ─ it suggests ──→ [has a trial]
                 ▲ │ │                                                 │
                 │ │ └─── TUNER_EXHAUSTED, NO_TRIALS_LEFT,             │ it has nothing: the claim is undone
                 │ │      DURATION_OVER, LIMIT_REACHED,                ▼
                 │ │      NOT_RUNNING ──→ [is skipped]        for the time being: NO_SUGGESTION, [waits]
                 │ ▼                                          for good: TUNER_EXHAUSTED, [is skipped]
              [waits] ── GIVE_WAY ──→ [steps aside, asks anew later]
    """
    if refusal := _find_end(state):
        return refusal
    if state.taken < state.trial_concurrency and not state.is_in_vain:
        return None
    # Only who would wait gives way: with three suggestions waiting, Airflow does not run the one that was killed.
    if state.has_abandoned:
        return ClaimRefusal.GIVE_WAY
    return ClaimRefusal.NO_SUGGESTION if state.is_in_vain else ClaimRefusal.NO_ROOM


def _find_end(state: ClaimState) -> ClaimRefusal | None:
    """The first rule by which no trial will be claimed any more, unless somebody raises a limit."""
    if state.status is ExperimentStatus.TUNER_NO_MORE_TRIAL:
        return ClaimRefusal.TUNER_EXHAUSTED
    if state.status is not ExperimentStatus.RUNNING:
        return ClaimRefusal.NOT_RUNNING
    if state.created >= state.max_trial_number:
        return ClaimRefusal.NO_TRIALS_LEFT
    if state.is_overdue:
        return ClaimRefusal.DURATION_OVER
    return ClaimRefusal.LIMIT_REACHED if state.has_reached_limit else None


def _is_older(moment: float | None, limit: float) -> bool:
    return moment is not None and moment < limit
