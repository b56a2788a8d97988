"""The claim: the one transaction that makes a trial, where `trialflow.claim_rules` allow it.

The transaction holds the experiment's row (PostgreSQL) or the database (SQLite, BEGIN IMMEDIATE) from its first read
to its commit, so that what it has read stays true.
"""

from __future__ import annotations

import secrets
import string
import time
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from trialflow.claim_rules import ClaimRefusal, ClaimState, find_refusal
from trialflow.errors import NotFoundError
from trialflow.records import CUSTOMIZED, ExperimentSpec, ExperimentStatus, JsonObject, Slot, Trial, TrialStatus
from trialflow.store.limits import find_limit
from trialflow.store.tables import experiments, trials
from trialflow.store.user_points import has_waiting, take_point

# Reads a specification from its column, and writes it there.
SPEC: TypeAdapter[ExperimentSpec] = TypeAdapter(ExperimentSpec)
_ID_ALPHABET = string.ascii_letters + string.digits


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
        slot: The planned slot; one that was claimed before gives the same trial again, whatever the limits say.
        run_id: The DAG run that does the claiming.

    Returns:
        The id of the trial.

    Raises:
        Refused: There is no room now, or there will be none.
        NotFoundError: There is no such experiment.
    """
    # From here to the commit nobody else claims a trial, or changes a limit or the status.
    connection.execute(sa.select(experiments.c.id).where(experiments.c.id == experiment_id).with_for_update())
    earlier = connection.execute(
        sa.select(trials.c.id).where(
            trials.c.experiment_id == experiment_id, trials.c.batch == slot.batch, trials.c.slot == slot.index
        )
    ).scalar()
    if earlier is not None:
        return str(earlier)
    if refusal := find_refusal(read_state(connection, experiment_id)):
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


def read_state(
    connection: sa.Connection, experiment_id: str, *, waits: bool = False, asked_in_vain_after: int | None = None
) -> ClaimState:
    """What the ledger says about an experiment's claims, read at once.

    Args:
        connection: Inside the claim's transaction, or anywhere for somebody who waits.
        experiment_id: The experiment.
        waits: Whether it is for somebody who waits, and reports what has ended before the next claim.
        asked_in_vain_after: See `ClaimState`.

    Raises:
        NotFoundError: There is no such experiment.
    """
    row = connection.execute(_state_query(experiment_id)).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"no experiment {experiment_id!r} in the store; was it deleted?")
    now = time.time()
    return ClaimState(
        now=now,
        status=ExperimentStatus(row["status"]),
        is_overdue=_is_overdue(row, now),
        has_reached_limit=_has_reached_limit(connection, experiment_id, row["spec"]),
        max_trial_number=row["max_trial_number"],
        trial_concurrency=row["trial_concurrency"],
        created=row["created"],
        taken=row["unended"] if waits else row["live"],
        ended=row["created"] - row["unended"],
        has_waiting_point=bool(row["has_waiting_point"]),
        oldest_unsubmitted=row["oldest_unsubmitted"],
        oldest_unfollowed=row["oldest_unfollowed"],
        asked_in_vain_after=asked_in_vain_after,
    )


def _state_query(experiment_id: str) -> sa.Select[Any]:
    """An experiment's row with what there is to count of its trials."""
    goes_on, is_live = trials.c.ended_at.is_(None), trials.c.reported_at.is_(None)
    is_unfollowed = sa.and_(goes_on, trials.c.followed_at.is_(None))
    is_unsubmitted = sa.and_(is_unfollowed, trials.c.job.is_(None))
    count, oldest = sa.func.count(trials.c.id), sa.func.min(trials.c.claimed_at)
    return (
        sa.select(
            experiments,
            count.label("created"),
            count.filter(goes_on).label("unended"),
            count.filter(is_live).label("live"),
            oldest.filter(is_unsubmitted).label("oldest_unsubmitted"),
            oldest.filter(is_unfollowed).label("oldest_unfollowed"),
            has_waiting(experiment_id).label("has_waiting_point"),
        )
        .select_from(experiments.outerjoin(trials, trials.c.experiment_id == experiments.c.id))
        .where(experiments.c.id == experiment_id)
        .group_by(experiments.c.id)
    )


def _is_overdue(row: sa.RowMapping, now: float) -> bool:
    if row["started_at"] is None:
        return False
    return bool(now - row["started_at"] - row["idle_seconds"] >= row["max_duration_seconds"])


def _has_reached_limit(connection: sa.Connection, experiment_id: str, spec: JsonObject) -> bool:
    if spec.get("goal") is None and spec.get("max_failed_trial_number") is None:
        return False  # Reading a specification takes its time, and those who wait ask often.
    return find_limit(connection, experiment_id, SPEC.validate_python(spec)) is not None


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
