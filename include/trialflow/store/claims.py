"""The claim: the one transaction that decides whether another trial may live.

Nothing else in Trialflow decides how many trials are alive. The transaction holds the experiment's row (PostgreSQL)
or the database (SQLite, BEGIN IMMEDIATE) from its first read to its commit, so that what it has read stays true.
"""

from __future__ import annotations

import secrets
import string
import time

import sqlalchemy as sa
from pydantic import TypeAdapter

from trialflow.errors import NotFoundError
from trialflow.records import CUSTOMIZED, ExperimentSpec, ExperimentStatus, Slot, StrEnum, Trial, TrialStatus
from trialflow.store.limits import find_limit
from trialflow.store.tables import experiments, trials
from trialflow.store.user_points import take_point

# Reads a specification from its column, and writes it there.
SPEC: TypeAdapter[ExperimentSpec] = TypeAdapter(ExperimentSpec)
_ID_ALPHABET = string.ascii_letters + string.digits


class ClaimRefusal(StrEnum):
    """Why there is no trial to be had."""

    NO_ROOM = "NO_ROOM"
    NO_TRIALS_LEFT = "NO_TRIALS_LEFT"
    DURATION_OVER = "DURATION_OVER"
    LIMIT_REACHED = "LIMIT_REACHED"
    NOT_RUNNING = "NOT_RUNNING"
    # The tuner waits for the result of another trial, or has nothing to suggest any more.
    NO_SUGGESTION = "NO_SUGGESTION"
    TUNER_EXHAUSTED = "TUNER_EXHAUSTED"

    @property
    def may_change(self) -> bool:
        """Whether another answer may come by itself."""
        return self in (ClaimRefusal.NO_ROOM, ClaimRefusal.NO_SUGGESTION)


class Refused(Exception):  # noqa: N818  # an answer, not an error; never leaves this package
    """Rolls a claim's transaction back."""

    def __init__(self, refusal: ClaimRefusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


def claim_trial(connection: sa.Connection, experiment_id: str, slot: Slot, run_id: str) -> str:
    """Claim a trial for a slot, or find the one that was claimed for it.

    Args:
        connection: Inside a transaction of its own; commits when this returns, rolls back when it raises.
        experiment_id: The experiment.
        slot: The planned place; a slot that was claimed before gives the same trial again, whatever the limits say.
        run_id: The DAG run that does the claiming.

    Returns:
        The id of the trial.

    Raises:
        Refused: There is no room now, or there will be none.
        NotFoundError: There is no such experiment.
    """
    row = connection.execute(
        sa.select(experiments).where(experiments.c.id == experiment_id).with_for_update()
    ).mappings().one_or_none()  # fmt: skip
    if row is None:
        raise NotFoundError(f"no experiment {experiment_id!r} in the store; was it deleted?")
    earlier = connection.execute(
        sa.select(trials.c.id).where(
            trials.c.experiment_id == experiment_id, trials.c.batch == slot.batch, trials.c.slot == slot.index
        )
    ).scalar()
    if earlier is not None:
        return str(earlier)
    created, live = _count(connection, experiment_id)
    refusal = _refusal(row, created, live, time.time())
    if refusal is None and find_limit(connection, experiment_id, SPEC.validate_python(row["spec"])) is not None:
        refusal = ClaimRefusal.LIMIT_REACHED
    if refusal is not None:
        raise Refused(refusal)
    return _insert(connection, experiment_id, slot, run_id)


def release_trial(connection: sa.Connection, trial: Trial) -> None:
    """Undo a claim for which the tuner had no suggestion; a trial that has parameters or has ended stays."""
    connection.execute(
        trials.delete().where(
            trials.c.experiment_id == trial.experiment_id,
            trials.c.id == trial.id,
            trials.c.parameters.is_(None),
            trials.c.ended_at.is_(None),
        )
    )


def count_live(connection: sa.Connection, experiment_id: str) -> int:
    """Trials that hold a place under the cap: claimed, and not yet told to the tuner."""
    return _count(connection, experiment_id)[1]


def _count(connection: sa.Connection, experiment_id: str) -> tuple[int, int]:
    live = sa.func.count().filter(trials.c.reported_at.is_(None))
    row = connection.execute(
        sa.select(sa.func.count(), live).where(trials.c.experiment_id == experiment_id)
    ).one()
    return int(row[0]), int(row[1])


def _refusal(row: sa.RowMapping, created: int, live: int, now: float) -> ClaimRefusal | None:
    """The first rule that forbids another trial; the order decides which reason people read."""
    if row["status"] == ExperimentStatus.TUNER_NO_MORE_TRIAL:
        return ClaimRefusal.TUNER_EXHAUSTED
    if row["status"] != ExperimentStatus.RUNNING:
        return ClaimRefusal.NOT_RUNNING
    if created >= row["max_trial_number"]:
        return ClaimRefusal.NO_TRIALS_LEFT
    if row["started_at"] is not None and now - row["started_at"] - row["idle_seconds"] >= row["max_duration_seconds"]:
        return ClaimRefusal.DURATION_OVER
    if live >= row["trial_concurrency"]:
        return ClaimRefusal.NO_ROOM
    return None


def _insert(connection: sa.Connection, experiment_id: str, slot: Slot, run_id: str) -> str:
    newest = connection.execute(
        sa.select(sa.func.max(trials.c.number)).where(trials.c.experiment_id == experiment_id)
    ).scalar()
    trial_id = _new_trial_id(connection, experiment_id)
    # What a person wants to be tried comes before what the tuner would suggest.
    given = take_point(connection, experiment_id, trial_id)
    now = time.time()
    connection.execute(
        trials.insert().values(
            experiment_id=experiment_id,
            id=trial_id,
            number=0 if newest is None else newest + 1,
            batch=slot.batch,
            slot=slot.index,
            run_id=run_id,
            status=TrialStatus.WAITING,
            attempt=1,
            claimed_at=now,
            parameters=given,
            note=None if given is None else CUSTOMIZED,
            reason="",
        )
    )
    connection.execute(
        experiments.update()
        .where(experiments.c.id == experiment_id, experiments.c.started_at.is_(None))
        .values(started_at=now)
    )
    return trial_id


def _new_trial_id(connection: sa.Connection, experiment_id: str) -> str:
    """Five letters and digits, as NNI's are, and none twice in an experiment."""
    while True:
        candidate = "".join(secrets.choice(_ID_ALPHABET) for _ in range(5))
        taken = sa.select(trials.c.id).where(
            trials.c.experiment_id == experiment_id, sa.func.lower(trials.c.id) == candidate.lower()
        )
        if connection.execute(taken).first() is None:
            return candidate
