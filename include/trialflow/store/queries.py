"""Asking for metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from trialflow.store.tables import metrics, trials

if TYPE_CHECKING:
    from trialflow.records import MetricType

# What the present attempt of each trial reported.
METRICS_OF_TRIALS = metrics.join(
    trials,
    sa.and_(
        metrics.c.experiment_id == trials.c.experiment_id,
        metrics.c.trial_id == trials.c.id,
        metrics.c.attempt == trials.c.attempt,
    ),
)


@dataclass(frozen=True)
class MetricQuery:
    """Which metrics are asked for; without anything, all.

    Attributes:
        trial_id: Of this trial alone.
        type: Of this type alone.
        numbers: Of trials from the first number to the second, both included.
        latest: Of each trial and type the last one alone.
    """

    trial_id: str | None = None
    type: MetricType | None = None
    numbers: tuple[int, int] | None = None
    latest: bool = False

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """As the database reads it."""
        found: list[sa.ColumnElement[bool]] = []
        if self.trial_id is not None:
            found.append(trials.c.id == self.trial_id)
        if self.type is not None:
            found.append(metrics.c.type == self.type)
        if self.numbers is not None:
            found.append(trials.c.number.between(*self.numbers))
        if self.latest:
            found.append(metrics.c.sequence == _last_sequence())
        return found


def _last_sequence() -> sa.ScalarSelect[int]:
    """The sequence number of the last record beside this one."""
    other = metrics.alias("other")
    same = [other.c[name] == metrics.c[name] for name in ("experiment_id", "trial_id", "attempt", "type")]
    return sa.select(sa.func.max(other.c.sequence)).where(*same).scalar_subquery()
