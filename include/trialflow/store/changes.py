"""What people do to an experiment while it is there: each a transaction that notes who did it, when and what.

Every one holds the experiment's row, as a claim does: a claim comes wholly before it or wholly after it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from trialflow.errors import ConflictError, NotFoundError
from trialflow.records import Change, ExperimentStatus, KnownPoint, StrEnum, Trial, TrialStatus
from trialflow.store.tables import batches, changes, experiments, metrics, points, trials
from trialflow.store.user_points import add_known_points, count_waiting, queue_point

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trialflow.records import JsonObject


# Within this time after an experiment was resumed its run is made; if none goes on then, that was lost.
_START_SECONDS = 30.0


class Adjustable(StrEnum):
    """What may be changed of an experiment, by the name under which the change is noted."""

    CONCURRENCY = "concurrency"
    TRIAL_NUMBER = "trialnum"
    DURATION = "duration"
    SEARCH_SPACE = "searchspace"


_COLUMNS = {
    Adjustable.CONCURRENCY: "trial_concurrency",
    Adjustable.TRIAL_NUMBER: "max_trial_number",
    Adjustable.DURATION: "max_duration_seconds",
}


@dataclass(frozen=True)
class ExperimentChange:
    """One experiment under a person's hands, inside a transaction that commits when all went well.

    Args:
        connection: In a transaction.
        experiment_id: The experiment.
        who: The person's name.
    """

    connection: sa.Connection
    experiment_id: str
    who: str

    def change(self, limit: Adjustable, value: Any) -> None:
        """Change a limit or the search space; what was claimed before stays as it is."""
        row = self._lock()
        if limit is Adjustable.SEARCH_SPACE:
            spec = {**row["spec"], "search_space": value}
            if spec.get("first_search_space") is None:  # An empty one is one, too.
                spec["first_search_space"] = row["spec"]["search_space"]
            self._update(spec=spec)
        else:
            self._update(**{_COLUMNS[limit]: value})
        self._note(limit.value, value)

    def stop(self) -> bool:
        """End the experiment and all its live trials in the ledger; tells whether it had not ended before.

        Whoever follows a trial sees its end there, and reports it.
        """
        row = self._lock()
        if ExperimentStatus(row["status"]).is_final:
            return False
        reason = f"stopped by {self.who}"
        now = time.time()
        self._update(status=ExperimentStatus.STOPPED, status_reason=reason, ended_at=now)
        self._end_trials(trials.c.ended_at.is_(None), reason, now)
        self._note("stop", None)
        return True

    def end_run(self, run_id: str) -> None:
        """End in the ledger what a run carried that is no more; when it carried the newest batch, the experiment ends.

        A run that had come to its end changes nothing.
        """
        row = self._lock()
        of_experiment = batches.c.experiment_id == self.experiment_id
        is_it = sa.and_(of_experiment, batches.c.run_id == run_id, batches.c.closed_at.is_(None))
        batch = self._scalar(sa.select(batches.c.batch).where(is_it))
        if batch is None:
            return
        now, reason = time.time(), f"the run {run_id} was deleted"
        self.connection.execute(batches.update().where(is_it).values(closed_at=now))
        ends = batch == self._newest_batch() and not ExperimentStatus(row["status"]).is_final
        if ends:
            self._update(status=ExperimentStatus.STOPPED, status_reason=reason, ended_at=now)
            self._note("stop", None)
        carried = sa.true() if ends else trials.c.run_id == run_id
        self._end_trials(sa.and_(trials.c.ended_at.is_(None), carried), reason, now)

    def open_clearing(self, run_id_of: Callable[[int], str], newest: int) -> int | None:
        """Open a batch without a trial, whose run clears away what other runs have left behind; gives its number.

        Args:
            run_id_of: Gives the id of the run that will carry a batch from the batch's number.
            newest: The newest batch when it was seen that no run goes on.

        Returns:
            ``None`` when the experiment goes on, or somebody else has opened a batch since.
        """
        row = self._lock()
        if not ExperimentStatus(row["status"]).is_final or self._newest_batch() != newest:
            return None
        self._open_batch(newest + 1, run_id_of(newest + 1), 0)
        return newest + 1

    def kill(self, trial: Trial) -> bool:
        """End one trial in the ledger; tells whether it had not ended yet."""
        self._lock()
        condition = sa.and_(trials.c.id == trial.id, trials.c.ended_at.is_(None))
        killed = self._end_trials(condition, f"killed by {self.who}", time.time())
        if killed:
            self._note("kill", trial.id)
        return killed

    def add(self, parameters: JsonObject) -> int:
        """Let a trial with these parameters have the next free place; gives the number that it will have.

        Raises:
            ConflictError: All trials that the experiment may have are made, or wait for a place.
        """
        row = self._lock()
        number = self._count_trials() + count_waiting(self.connection, self.experiment_id)
        if number >= row["max_trial_number"]:
            raise ConflictError(
                f"experiment {self.experiment_id} has or awaits all its {row['max_trial_number']} trials; "
                f"raise the number first: nnictl update trialnum {self.experiment_id} --value {number + 1}"
            )
        queue_point(self.connection, self.experiment_id, parameters)
        self.note("add", parameters)
        return number

    def import_points(self, new: Sequence[KnownPoint]) -> int:
        """Add results from elsewhere; tells how many were not there yet."""
        self._lock()
        count = add_known_points(self.connection, self.experiment_id, new)
        if count:
            self.note("import", count)
        return count

    def close(self) -> None:
        """Close an ended experiment for good: from now on it can only be deleted.

        Raises:
            ConflictError: It has not ended, or a trial of it was never reported.
        """
        row = self._lock()
        if not ExperimentStatus(row["status"]).is_final:
            raise ConflictError(
                f"experiment {self.experiment_id} is {row['status']}; end it first: nnictl stop {self.experiment_id}"
            )
        left = self._scalar(
            sa.select(sa.func.count()).where(
                trials.c.experiment_id == self.experiment_id, trials.c.reported_at.is_(None)
            )
        )
        if left:
            raise ConflictError(
                f"{left} trials of experiment {self.experiment_id} were not cleared away yet; "
                f"try again, or let a run do it: nnictl resume {self.experiment_id}"
            )
        self._update(code_folder=None)

    def delete(self) -> None:
        """Delete every row of a closed experiment."""
        self.close()
        for table in (metrics, points, trials, batches, changes):
            self.connection.execute(table.delete().where(table.c.experiment_id == self.experiment_id))
        self.connection.execute(experiments.delete().where(experiments.c.id == self.experiment_id))

    def resume(self, run_id_of: Callable[[int], str], max_size: int, newest: int) -> int:
        """Let trials be claimed again, in a new batch to which every trial that was left behind is moved.

        The new batch's run finds the job of such a trial, if it still runs, and goes on following it.

        Args:
            run_id_of: Gives the id of the run that will carry a batch from the batch's number.
            max_size: New trials that the batch has room for.
            newest: The newest batch when it was seen that no run goes on.

        Returns:
            The number of the new batch.

        Raises:
            ConflictError: Nothing is left to be done, or its code is not there, or somebody else was faster.
        """
        row = self._lock()
        self._require_untouched(row, newest)
        if row["code_folder"] is None:
            raise ConflictError(f"experiment {self.experiment_id} never came to run; create it again")
        of_experiment = trials.c.experiment_id == self.experiment_id
        created = self._count_trials()
        left = row["max_trial_number"] - created
        behind = self.connection.execute(
            sa.select(trials.c.id).where(of_experiment, trials.c.reported_at.is_(None)).order_by(trials.c.number)
        )
        behind_ids = list(behind.scalars())
        if left <= 0 and not behind_ids:
            raise ConflictError(
                f"experiment {self.experiment_id} has had all its {created} trials; "
                f"raise the number first: nnictl update trialnum {self.experiment_id} --value {created * 2}"
            )
        batch = max(newest, 1) + 1  # The first one is its own run's, also when that did not come to plan it.
        self._open_batch(batch, run_id_of(batch), len(behind_ids) + min(max(0, left), max_size))
        for index, trial_id in enumerate(behind_ids):
            self.connection.execute(
                trials.update().where(of_experiment, trials.c.id == trial_id).values(
                    batch=batch, slot=index, run_id=run_id_of(batch), followed_at=None
                )
            )  # fmt: skip
        idle = time.time() - row["ended_at"] if row["ended_at"] else 0.0
        self._update(
            status=ExperimentStatus.RUNNING, status_reason="", ended_at=None, idle_seconds=row["idle_seconds"] + idle
        )
        self._note("resume", None)
        return batch

    def note(self, what: str, value: Any) -> None:
        """Note something that was done elsewhere."""
        self._lock()
        self._note(what, value)

    def _require_untouched(self, row: sa.RowMapping, newest: int) -> None:
        """Refuse the second of two who resume an experiment: the run of the first may not have been made yet."""
        of_experiment = changes.c.experiment_id == self.experiment_id
        resumed = sa.select(sa.func.max(changes.c.at)).where(of_experiment, changes.c.what == "resume")
        is_about_to_start = (
            not ExperimentStatus(row["status"]).is_final
            and (self._scalar(resumed) or 0.0) > time.time() - _START_SECONDS
        )
        if is_about_to_start or self._newest_batch() != newest:
            raise ConflictError(
                f"experiment {self.experiment_id} was resumed or cleared away by somebody else a moment ago; look at "
                f"it in {_START_SECONDS:.0f} s: nnictl experiment show {self.experiment_id}"
            )

    def _newest_batch(self) -> int:
        of_experiment = batches.c.experiment_id == self.experiment_id
        return int(self._scalar(sa.select(sa.func.max(batches.c.batch)).where(of_experiment)) or 0)

    def _open_batch(self, batch: int, run_id: str, size: int) -> None:
        """Open a batch; those before it count as closed, for nobody carries them any more."""
        in_experiment = batches.c.experiment_id == self.experiment_id
        self.connection.execute(
            batches.update().where(in_experiment, batches.c.closed_at.is_(None)).values(closed_at=time.time())
        )
        self.connection.execute(
            batches.insert().values(experiment_id=self.experiment_id, batch=batch, size=size, run_id=run_id)
        )

    def _lock(self) -> sa.RowMapping:
        row = self.connection.execute(
            sa.select(experiments).where(experiments.c.id == self.experiment_id).with_for_update()
        ).mappings().one_or_none()  # fmt: skip
        if row is None:
            raise NotFoundError(f"no experiment {self.experiment_id!r} in the store; was it deleted?")
        return row

    def _count_trials(self) -> int:
        of_experiment = trials.c.experiment_id == self.experiment_id
        return int(self._scalar(sa.select(sa.func.count()).where(of_experiment)))

    def _update(self, **values: Any) -> None:
        self.connection.execute(
            experiments.update().where(experiments.c.id == self.experiment_id).values(values)
        )

    def _end_trials(self, condition: sa.ColumnElement[bool], reason: str, now: float) -> bool:
        values: JsonObject = {"status": TrialStatus.USER_CANCELED, "reason": reason, "ended_at": now}
        result = self.connection.execute(
            trials.update().where(trials.c.experiment_id == self.experiment_id, condition).values(values)
        )
        return bool(result.rowcount)

    def _note(self, what: str, value: Any) -> None:
        newest = sa.select(sa.func.max(changes.c.revision)).where(changes.c.experiment_id == self.experiment_id)
        self.connection.execute(
            changes.insert().values(
                experiment_id=self.experiment_id,
                revision=(self._scalar(newest) or 0) + 1,
                at=time.time(),
                who=self.who,
                what=what,
                value=value,
            )
        )

    def _scalar(self, query: sa.Select[Any]) -> Any:
        return self.connection.execute(query).scalar()


def list_changes(connection: sa.Connection, experiment_id: str) -> list[Change]:
    """Everything that people did to an experiment, in order."""
    query = sa.select(changes).where(changes.c.experiment_id == experiment_id).order_by(changes.c.revision)
    return [Change(row.revision, row.at, row.who, row.what, row.value) for row in connection.execute(query)]
