"""What many who follow trials ask the ledger, asked once for all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trialflow.experiment.showing.study import intermediate_values
from trialflow.records import Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trialflow.assessors import Assessor
    from trialflow.store import Store

# How often the ledger is asked which trials go on.
_LOOK_SECONDS = 0.5


class SharedLooks:
    """The looks of one process at one experiment."""

    def __init__(self, store: Store, experiment_id: str) -> None:
        self._store = store
        self._id = experiment_id
        # Of the trials that succeeded, and so will never report again.
        self._histories: dict[str, list[float]] = {}
        self._unended: frozenset[str] = frozenset()
        self._look_again_at = 0.0

    def has_ended(self, trial: Trial) -> bool:
        """Whether the trial has ended in the ledger as of half a second ago.

        A trial that is younger than the look counts as ended, too: look it up.
        """
        now = time.monotonic()
        if now >= self._look_again_at:
            self._unended, self._look_again_at = self._store.list_unended(self._id), now + _LOOK_SECONDS
        return trial.id not in self._unended

    def histories(self, assessor: Assessor, trial: Trial) -> Sequence[Sequence[float]]:
        """The intermediate metrics of the trials with which an assessor compares this one."""
        self._histories |= self._read_histories(TrialStatus.SUCCEEDED, but=self._histories)
        others = set(TrialStatus) - {TrialStatus.SUCCEEDED} if assessor.compares_with_all else ()
        by_trial = {**self._histories, **(self._read_histories(*others) if others else {})}
        return [history for trial_id, history in by_trial.items() if trial_id != trial.id]

    def _read_histories(self, *statuses: TrialStatus, but: Collection[str] = ()) -> dict[str, list[float]]:
        by_trial = self._store.list_intermediate_metrics(self._id, *statuses, but=but)
        return {trial_id: intermediate_values(metrics) for trial_id, metrics in by_trial.items()}
