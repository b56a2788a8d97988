"""The part of the ledger that holds what trials reported."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from trialflow.records import Metric, MetricType, Trial, TrialStatus
from trialflow.store.queries import METRICS_OF_TRIALS, MetricQuery
from trialflow.store.tables import metrics, trials

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReportedMetric(NamedTuple):
    """A metric, and the id and number of the trial that reported it."""

    trial_id: str
    number: int
    metric: Metric


class ReportedMetrics:
    """Reads and writes the metrics of trials; of a trial's attempts the present one counts."""

    _engine: sa.Engine

    def _reading(self) -> sa.Connection:
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def add_metrics(self, trial: Trial, new: Sequence[Metric]) -> None:
        """Append what a trial reported; records that are there already are left alone."""
        if not new:
            return
        with self._engine.begin() as connection:
            known = {
                (row.type, row.sequence)
                for row in connection.execute(
                    sa.select(metrics.c.type, metrics.c.sequence).where(*_metrics_of(trial))
                )
            }
            rows = [
                {"experiment_id": trial.experiment_id, "trial_id": trial.id, "attempt": trial.attempt, **asdict(metric)}
                for metric in new
                if (metric.type, metric.sequence) not in known
            ]
            if rows:
                connection.execute(metrics.insert(), rows)

    def list_metrics(self, trial: Trial) -> list[Metric]:
        """What the trial's present attempt reported, in order."""
        query = sa.select(metrics).where(*_metrics_of(trial)).order_by(metrics.c.type, metrics.c.sequence)
        with self._reading() as connection:
            return [_metric(row) for row in connection.execute(query)]

    def page_metrics(
        self, experiment_id: str, query: MetricQuery, limit: int, offset: int
    ) -> tuple[list[ReportedMetric], int]:
        """Some of what trials reported, by trial, and how many records there are in all."""
        conditions = (trials.c.experiment_id == experiment_id, *query.conditions())
        rows = sa.select(metrics, trials.c.number).select_from(METRICS_OF_TRIALS).where(*conditions)
        count = sa.select(sa.func.count()).select_from(METRICS_OF_TRIALS).where(*conditions)
        order = (trials.c.number, metrics.c.type, metrics.c.sequence)
        with self._reading() as connection:
            total = connection.execute(count).scalar_one()
            found = connection.execute(rows.order_by(*order).limit(limit).offset(offset)).all()
        return [ReportedMetric(row.trial_id, row.number, _metric(row)) for row in found], int(total)

    def list_finals(self, experiment_id: str) -> dict[str, Metric]:
        """The first final metric of each trial that has one, by trial id."""
        query = (
            sa.select(metrics)
            .select_from(METRICS_OF_TRIALS)
            .where(
                trials.c.experiment_id == experiment_id,
                metrics.c.type == MetricType.FINAL,
                metrics.c.sequence == 0,
            )
        )
        with self._reading() as connection:
            return {row.trial_id: _metric(row) for row in connection.execute(query)}

    def list_intermediate_metrics(self, experiment_id: str, *statuses: TrialStatus) -> dict[str, list[Metric]]:
        """The intermediate metrics of each trial that has one of these statuses, by the trial's id."""
        query = (
            sa.select(metrics)
            .select_from(METRICS_OF_TRIALS)
            .where(
                trials.c.experiment_id == experiment_id,
                trials.c.status.in_(statuses),
                metrics.c.type == MetricType.PERIODICAL,
            )
            .order_by(metrics.c.trial_id, metrics.c.sequence)
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        groups = groupby(rows, key=lambda row: row.trial_id)
        return {trial_id: [_metric(row) for row in group] for trial_id, group in groups}

    def list_last_metrics(self, experiment_id: str, status: TrialStatus) -> dict[str, Metric]:
        """The last intermediate metric of each trial that has this status, by the trial's id."""
        periodical = sa.and_(metrics.c.experiment_id == experiment_id, metrics.c.type == MetricType.PERIODICAL)
        keys = (metrics.c.trial_id, metrics.c.attempt)
        newest = sa.select(*keys, sa.func.max(metrics.c.sequence).label("sequence")).where(periodical).group_by(*keys)
        last = newest.subquery()
        query = (
            sa.select(metrics)
            .select_from(METRICS_OF_TRIALS.join(last, sa.and_(
                *(metrics.c[name] == last.c[name] for name in ("trial_id", "attempt", "sequence"))
            )))
            .where(periodical, trials.c.status == status)
        )  # fmt: skip
        with self._reading() as connection:
            return {row.trial_id: _metric(row) for row in connection.execute(query)}


def _metrics_of(trial: Trial) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        metrics.c.experiment_id == trial.experiment_id,
        metrics.c.trial_id == trial.id,
        metrics.c.attempt == trial.attempt,
    )


def _metric(row: sa.Row[Any]) -> Metric:
    return Metric(MetricType(row.type), row.sequence, row.value, row.at)
