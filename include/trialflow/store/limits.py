"""What ends an experiment before its trials are used up: a goal that is reached, or too many failed trials.

Both are read off the ledger, where they stay true: whoever looks next comes to the same end, also when the one who saw
it first died before noting it.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from trialflow.records import ExperimentSpec, ExperimentStatus, OptimizeMode, TrialStatus
from trialflow.store.tables import trials


@dataclass(frozen=True)
class Limit:
    """A limit that was reached: the status in which the experiment ends, and the reason for people."""

    status: ExperimentStatus
    reason: str


def find_limit(connection: sa.Connection, experiment_id: str, spec: ExperimentSpec) -> Limit | None:
    """The limit that an experiment has reached, if any; a goal that is reached counts before failures."""
    return _reached_goal(connection, experiment_id, spec) or _too_many_failed(connection, experiment_id, spec)


def _reached_goal(connection: sa.Connection, experiment_id: str, spec: ExperimentSpec) -> Limit | None:
    if spec.goal is None:
        return None
    value = trials.c.value
    reached = value >= spec.goal if spec.optimize_mode is OptimizeMode.MAXIMIZE else value <= spec.goal
    first = connection.execute(
        sa.select(trials.c.number, trials.c.id, value)
        .where(trials.c.experiment_id == experiment_id, reached)
        .order_by(trials.c.ended_at, trials.c.number)
        .limit(1)
    ).first()
    if first is None:
        return None
    reason = f"trial #{first.number} {first.id} reached the goal of {spec.goal:g} with {first.value:g}"
    return Limit(ExperimentStatus.DONE, reason)


def _too_many_failed(connection: sa.Connection, experiment_id: str, spec: ExperimentSpec) -> Limit | None:
    most = spec.max_failed_trial_number
    if most is None:
        return None
    failed = connection.execute(
        sa.select(sa.func.count()).where(
            trials.c.experiment_id == experiment_id, trials.c.status == TrialStatus.FAILED
        )
    ).scalar_one()
    if failed <= most:
        return None
    return Limit(ExperimentStatus.ERROR, f"{failed} trials failed, and the experiment puts up with {most}")
