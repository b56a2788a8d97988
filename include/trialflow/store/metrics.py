"""The part of the ledger that holds what trials reported."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from dataclasses import asdict
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from trialflow.records import Metric, MetricType, Trial, TrialStatus
from trialflow.store.queries import METRICS_OF_TRIALS, MetricQuery
from trialflow.store.tables import metrics, trials

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class ReportedMetric(NamedTuple):
    """A metric as it is shown: of the trial with this id and number, its value as JSON text."""

    trial_id: str
    number: int
    type: str
    sequence: int
    data: str
    at: float

    @classmethod
    def of(cls, trial: Trial, metric: Metric) -> ReportedMetric:
        return cls(trial.id, trial.number, metric.type, metric.sequence, json.dumps(metric.value), metric.at)


class MetricStore:
    """Reads and writes the metrics of trials; of a trial's attempts the present one counts."""

    _engine: sa.Engine

    def _reading(self) -> sa.Connection:
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def add_metrics(self, trial: Trial, new: Sequence[Metric]) -> None:
        """Append what a trial reported; records that are there already are left alone."""
        if not new:
            return
        with self._engine.begin() as connection:
            # Several may follow one trial: on PostgreSQL, two that read the same record would both insert it.
            row = sa.and_(trials.c.experiment_id == trial.experiment_id, trials.c.id == trial.id)
            connection.execute(sa.select(trials.c.id).where(row).with_for_update())
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
        # As text, for nobody here looks into it. SQLite would give no more than 15 digits of a bare number as text.
        is_sqlite = self._engine.dialect.name == "sqlite"
        data = sa.type_coerce(metrics.c.value, sa.types.NULLTYPE) if is_sqlite else sa.cast(metrics.c.value, sa.Text)
        shown = (metrics.c.trial_id, trials.c.number, metrics.c.type, metrics.c.sequence, data, metrics.c.at)
        counts = (
            sa.select(trials.c.number, sa.func.count())
            .select_from(METRICS_OF_TRIALS)
            .where(*conditions)
            .group_by(trials.c.number)
            .order_by(trials.c.number)
        )
        with self._reading() as connection:
            page = _find_page([(row[0], row[1]) for row in connection.execute(counts)], limit, offset)
            rows = connection.execute(
                sa.select(*shown)
                .select_from(METRICS_OF_TRIALS)
                .where(*conditions, trials.c.number.between(page.first, page.last))
                .order_by(trials.c.number, metrics.c.type, metrics.c.sequence)
                .limit(limit)
                .offset(page.offset)
            )
            return [
                ReportedMetric(trial_id, number, type_, sequence, _text(value), at)
                for trial_id, number, type_, sequence, value, at in rows
            ], page.total

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

    def list_intermediate_metrics(
        self, experiment_id: str, *statuses: TrialStatus, but: Collection[str] = ()
    ) -> dict[str, list[Metric]]:
        """The intermediate metrics of each trial that has one of these statuses, by the trial's id.

        Args:
            experiment_id: The experiment.
            statuses: The statuses.
            but: The ids of trials that are left out.
        """
        # Written out, for PostgreSQL takes no more than 65 535 parameters, and there may be more trials.
        known: sa.BindParameter[Any] = sa.bindparam("known", list(but), expanding=True, literal_execute=True)
        query = (
            sa.select(metrics)
            .select_from(METRICS_OF_TRIALS)
            .where(
                trials.c.experiment_id == experiment_id,
                trials.c.status.in_(statuses),
                trials.c.id.not_in(known),
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


class _Page(NamedTuple):
    """Where a page lies: in trials from a first number to a last one, from an offset on."""

    first: int
    last: int
    offset: int
    total: int


def _find_page(counts: list[tuple[int, int]], limit: int, offset: int) -> _Page:
    """Find the trials of a page, so that the database need not sort what stands on the others.

    Args:
        counts: Number of each trial and of its records, in order.
        limit: Most records of the page.
        offset: Records before the page.
    """
    ends = list(accumulate(count for _, count in counts))
    total = ends[-1] if ends else 0
    if offset >= total:
        return _Page(0, -1, 0, total)
    first = bisect_right(ends, offset)
    last = min(bisect_left(ends, offset + limit), len(ends) - 1)
    before = ends[first - 1] if first else 0
    return _Page(counts[first][0], counts[last][0], offset - before, total)


def _metrics_of(trial: Trial) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        metrics.c.experiment_id == trial.experiment_id,
        metrics.c.trial_id == trial.id,
        metrics.c.attempt == trial.attempt,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _metric(row: sa.Row[Any]) -> Metric:
    return Metric(MetricType(row.type), row.sequence, row.value, row.at)
