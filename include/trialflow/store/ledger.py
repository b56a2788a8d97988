"""The ledger: every experiment, trial and metric, in rows that survive kill -9 of any process at any point.

Order of calls for a trial: `claim` → `set_parameters` (or `release`) → `set_job` → `set_followed` →
(`set_reason`, `set_running`, `add_metrics`)* → `set_ended` → `set_reported`. Each may be repeated: a repetition finds
what the first call wrote and changes nothing.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from trialflow.claim_rules import ClaimRefusal, ClaimState
from trialflow.errors import NotFoundError, StoreError
from trialflow.records import (
    Change,
    Experiment,
    ExperimentSpec,
    ExperimentStatus,
    JsonObject,
    KnownPoint,
    OptimizeMode,
    Outcome,
    Slot,
    Trial,
    TrialStatus,
)
from trialflow.store.changes import ExperimentChange, list_changes
from trialflow.store.claims import SPEC, Refused, claim_trial, read_state, release_trial
from trialflow.store.engine import get_engine
from trialflow.store.limits import Limit, find_limit
from trialflow.store.locks import named_lock
from trialflow.store.metrics import MetricStore
from trialflow.store.migrations import bring_up_to_date
from trialflow.store.tables import batches, experiments, trials
from trialflow.store.user_points import list_known_points, page_known_points

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

_TRIAL_FIELDS = [column.name for column in trials.columns if column.name not in ("batch", "slot", "status")]

@lru_cache(maxsize=8)
def open_store(url: str) -> Store:
    """The store at a database URL, opened once per process and its forks."""
    return Store(url)


class Store(MetricStore):
    """One database with the ledger in it.

    Args:
        url: SQLAlchemy URL, ``sqlite:////…`` or ``postgresql+psycopg://…``. The tables are made when they are
            missing, and migrated when an older version of Trialflow has made them.

    Raises:
        StoreError: The database holds tables of a version of Trialflow from which no way leads to this one.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = get_engine(url)
        bring_up_to_date(self._engine)

    def experiment_lock(self, experiment_id: str) -> AbstractContextManager[None]:
        """Hold the experiment while its tuner is asked, so that one asks at a time."""
        return named_lock(self._engine, experiment_id)

    def projection_lock(self) -> AbstractContextManager[None]:
        """Hold all Optuna studies while writing one: the first makes Optuna's tables. No trial waits for this lock."""
        return named_lock(self._engine, "studies")

    def notices_lock(self) -> AbstractContextManager[None]:
        """Hold all notices, so that each is sent by one process."""
        return named_lock(self._engine, "notices")

    # ── experiments ──────────────────────────────────────────────────────────────────────────────────────────

    def create_experiment(
        self, experiment_id: str, spec: ExperimentSpec, folder: str, owner: str = ""
    ) -> Experiment:
        """Create an experiment; one that exists under this id is returned as it is."""
        row = {
            "id": experiment_id,
            "spec": SPEC.dump_python(spec, mode="json"),
            "status": ExperimentStatus.INITIALIZED,
            "status_reason": "",
            "folder": folder,
            "trial_concurrency": spec.trial_concurrency,
            "max_trial_number": spec.max_trial_number,
            "max_duration_seconds": spec.max_duration_seconds,
            "owner": owner,
            "created_at": time.time(),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(experiments.insert().values(row))
        except IntegrityError:
            pass  # A retry, or a second creator: theirs stands.
        return self.get_experiment(experiment_id)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Read an experiment.

        Raises:
            NotFoundError: There is none with this id.
        """
        with self._reading() as connection:
            row = connection.execute(
                sa.select(experiments).where(experiments.c.id == experiment_id)
            ).mappings().one_or_none()  # fmt: skip
        if row is None:
            raise NotFoundError(f"no experiment {experiment_id!r} in the store {self._safe_url()}")
        return _experiment(row)

    def list_experiments(self) -> list[Experiment]:
        """Every experiment, the newest first."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(experiments).order_by(experiments.c.created_at.desc())).mappings()
            return [_experiment(row) for row in rows]

    @contextmanager
    def open_change(self, experiment_id: str, who: str) -> Iterator[ExperimentChange]:
        """Act on an experiment for a person, in one transaction; see `trialflow.store.changes`."""
        with self._engine.begin() as connection:
            yield ExperimentChange(connection, experiment_id, who)

    def list_changes(self, experiment_id: str) -> list[Change]:
        """Everything that people did to an experiment, in order."""
        with self._reading() as connection:
            return list_changes(connection, experiment_id)

    def list_known_points(self, experiment_id: str) -> list[KnownPoint]:
        """The results that people brought from elsewhere."""
        with self._reading() as connection:
            return list_known_points(connection, experiment_id)

    def page_known_points(self, experiment_id: str, limit: int, offset: int) -> tuple[list[KnownPoint], int]:
        """Some of these results, and how many there are in all."""
        with self._reading() as connection:
            return page_known_points(connection, experiment_id, limit, offset)

    def set_code_folder(self, experiment_id: str, code_folder: str) -> None:
        """Note where the complete copy of the code lies."""
        self._update_experiment(experiment_id, code_folder=code_folder)

    def change_status(
        self, experiment_id: str, status: ExperimentStatus, *, from_: Sequence[ExperimentStatus], reason: str = ""
    ) -> bool:
        """Move the experiment on, unless its status is none of ``from_``; tells whether it moved."""
        ended = {"ended_at": time.time()} if status.is_final else {}
        condition = sa.and_(experiments.c.id == experiment_id, experiments.c.status.in_(from_))
        with self._engine.begin() as connection:
            result = connection.execute(
                experiments.update().where(condition).values(status=status, status_reason=reason, **ended)
            )
        return bool(result.rowcount)

    def _update_experiment(self, experiment_id: str, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(experiments.update().where(experiments.c.id == experiment_id).values(values))

    # ── batches ──────────────────────────────────────────────────────────────────────────────────────────────

    def plan_batch(self, experiment_id: str, batch: int, run_id: str, max_size: int) -> int:
        """Fix the size of a batch; a batch that was planned before keeps its size.

        Returns:
            How many trials are left to create, at most ``max_size``.

        Raises:
            StoreError: The batch belongs to another run.
        """
        with self._engine.begin() as connection:
            limit = connection.execute(
                sa.select(experiments.c.max_trial_number).where(experiments.c.id == experiment_id).with_for_update()
            ).scalar_one()
            planned = connection.execute(
                sa.select(batches.c.size, batches.c.run_id).where(
                    batches.c.experiment_id == experiment_id, batches.c.batch == batch
                )
            ).one_or_none()
            if planned is not None:
                if planned.run_id != run_id:
                    raise StoreError(
                        f"batch {batch} of experiment {experiment_id} belongs to run {planned.run_id!r}, not to "
                        f"{run_id!r}; trigger an experiment without experiment_id and batch to start a new one"
                    )
                return int(planned.size)
            created = connection.execute(
                sa.select(sa.func.count()).where(trials.c.experiment_id == experiment_id)
            ).scalar_one()
            size = max(0, min(max_size, int(limit) - int(created)))
            connection.execute(
                batches.insert().values(experiment_id=experiment_id, batch=batch, size=size, run_id=run_id)
            )
            return size

    def newest_batch(self, experiment_id: str) -> int:
        """The number of the newest batch that was planned; 0 when there is none."""
        with self._reading() as connection:
            query = sa.select(sa.func.max(batches.c.batch)).where(batches.c.experiment_id == experiment_id)
            return int(connection.execute(query).scalar() or 0)

    def find_run(self, experiment_id: str, batch: int) -> str | None:
        """The id of the run that carries a batch; ``None`` when the batch was not planned."""
        query = sa.select(batches.c.run_id).where(batches.c.experiment_id == experiment_id, batches.c.batch == batch)
        with self._reading() as connection:
            return connection.execute(query).scalar()

    def list_runs(self, experiment_id: str, *, only_open: bool = False) -> list[str]:
        """The ids of the runs that carry the experiment's batches, or of those that have not come to their end."""
        query = sa.select(batches.c.run_id).where(batches.c.experiment_id == experiment_id)
        if only_open:
            query = query.where(batches.c.closed_at.is_(None))
        with self._reading() as connection:
            return list(connection.execute(query.order_by(batches.c.batch)).scalars())

    def set_passed(self, experiment_id: str, batch: int) -> None:
        """Note that the batch's claims are through."""
        is_it = sa.and_(batches.c.experiment_id == experiment_id, batches.c.batch == batch)
        with self._engine.begin() as connection:
            connection.execute(batches.update().where(is_it).values(passed_at=time.time()))

    def is_passed(self, experiment_id: str, batch: int) -> bool:
        """Whether the batch's claims are through, so that its run plans no other batch any more."""
        query = sa.select(batches.c.passed_at).where(
            batches.c.experiment_id == experiment_id, batches.c.batch == batch
        )
        with self._reading() as connection:
            return connection.execute(query).scalar() is not None

    def close_batch(self, experiment_id: str, batch: int) -> int:
        """Note that the batch's run has come to its end; tells how many batches are still open."""
        of_experiment = batches.c.experiment_id == experiment_id
        still_open = sa.and_(of_experiment, batches.c.closed_at.is_(None))
        with self._engine.begin() as connection:
            connection.execute(
                batches.update().where(still_open, batches.c.batch == batch).values(closed_at=time.time())
            )
            return int(connection.execute(sa.select(sa.func.count()).where(still_open)).scalar_one())

    # ── trials ───────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, experiment_id: str, slot: Slot, run_id: str) -> Trial | ClaimRefusal:
        """Claim the trial of a slot; see `trialflow.store.claims`."""
        try:
            with self._engine.begin() as connection:
                trial_id = claim_trial(connection, experiment_id, slot, run_id)
        except Refused as answer:
            return answer.refusal
        return self.get_trial(experiment_id, trial_id)

    def read_claim_state(self, experiment_id: str, asked_in_vain_after: int | None = None) -> ClaimState:
        """What those who wait for a claim go by; see `trialflow.claim_rules`."""
        with self._reading() as connection:
            return read_state(connection, experiment_id, waits=True, asked_in_vain_after=asked_in_vain_after)

    def release(self, trial: Trial) -> None:
        """Undo a claim for which the tuner had no suggestion; see `trialflow.store.claims`."""
        with self._engine.begin() as connection:
            release_trial(connection, trial)

    def count_reported(self, experiment_id: str) -> int:
        """Trials whose results the tuner knows."""
        query = sa.select(sa.func.count()).where(
            trials.c.experiment_id == experiment_id, trials.c.reported_at.is_not(None)
        )
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def list_unended(self, experiment_id: str) -> frozenset[str]:
        """The ids of the trials that go on."""
        query = sa.select(trials.c.id).where(trials.c.experiment_id == experiment_id, trials.c.ended_at.is_(None))
        with self._reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def renew_claim(self, trial: Trial) -> None:
        """Show that whoever claimed a trial is alive, and still asks for its parameters."""
        self._update_trial(trial, trials.c.parameters.is_(None), claimed_at=time.time())

    def count_live(self, experiment_id: str) -> int:
        """Trials that hold a place under the cap."""
        query = sa.select(sa.func.count()).where(
            trials.c.experiment_id == experiment_id, trials.c.reported_at.is_(None)
        )
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def find_limit(self, experiment_id: str, spec: ExperimentSpec) -> Limit | None:
        """The limit that ends the experiment now, if it has reached one; see `trialflow.store.limits`."""
        if spec.goal is None and spec.max_failed_trial_number is None:
            return None
        with self._reading() as connection:
            return find_limit(connection, experiment_id, spec)

    def get_trial(self, experiment_id: str, trial_id: str) -> Trial:
        """Read a trial.

        Raises:
            NotFoundError: There is none with this id.
        """
        found = self._select_trials(experiment_id, trials.c.id == trial_id)
        if not found:
            raise NotFoundError(f"no trial {trial_id!r} in experiment {experiment_id!r}")
        return found[0]

    def find_trial(self, experiment_id: str, slot: Slot) -> Trial | None:
        """The trial that was claimed for a slot, or ``None``."""
        found = self._select_trials(experiment_id, trials.c.batch == slot.batch, trials.c.slot == slot.index)
        return found[0] if found else None

    def list_trials(self, experiment_id: str) -> list[Trial]:
        """Every trial, in the order in which they were claimed."""
        return self._select_trials(experiment_id)

    def find_best(self, experiment_id: str, mode: OptimizeMode) -> Trial | None:
        """The trial with the best value; of equal ones the earlier."""
        order = trials.c.value.desc() if mode is OptimizeMode.MAXIMIZE else trials.c.value
        query = (
            sa.select(trials)
            .where(trials.c.experiment_id == experiment_id, trials.c.value.is_not(None))
            .order_by(order, trials.c.number)
            .limit(1)
        )
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else _trial(row)

    def list_asked(self, experiment_id: str) -> Sequence[sa.Row[Any]]:
        """What a tuner reads of every trial with parameters, in order; thousands of whole trials take their time."""
        names = ("number", "id", "parameters", "note", "value", "reported_at")
        query = (
            sa.select(*(trials.c[name] for name in names))
            .where(trials.c.experiment_id == experiment_id, trials.c.parameters.is_not(None))
            .order_by(trials.c.number)
        )
        with self._reading() as connection:
            return connection.execute(query).all()

    def list_unreported(self, experiment_id: str, run_id: str | None = None) -> list[Trial]:
        """Trials that hold a place under the cap; with ``run_id`` only those that this run claimed."""
        conditions: list[sa.ColumnElement[bool]] = [trials.c.reported_at.is_(None)]
        if run_id is not None:
            conditions.append(trials.c.run_id == run_id)
        return self._select_trials(experiment_id, *conditions)

    def set_parameters(self, trial: Trial, parameters: JsonObject, note: JsonObject) -> None:
        """Note what the tuner suggested, and what it wants to remember of it; the first note stands."""
        self._update_trial(trial, trials.c.parameters.is_(None), parameters=parameters, note=note)

    def set_job(self, trial: Trial, job: JsonObject) -> None:
        """Note the handle of the attempt's job; the first note of an attempt stands."""
        self._update_trial(trial, trials.c.job.is_(None), job=job)

    def set_followed(self, trial: Trial) -> None:
        """Note that whoever claimed the trial has handed it over to those who follow its job."""
        self._update_trial(trial, trials.c.followed_at.is_(None), followed_at=time.time())

    def set_running(self, trial: Trial, started_at: float) -> None:
        """Note that the job runs, and waits for nothing any more."""
        values = {"status": TrialStatus.RUNNING, "started_at": started_at, "reason": ""}
        self._update_trial(trial, trials.c.status == TrialStatus.WAITING, **values)

    def set_reason(self, trial: Trial, reason: str) -> None:
        """Note why a trial waits; nothing is noted of one that runs or has ended."""
        self._update_trial(trial, trials.c.status == TrialStatus.WAITING, reason=reason)

    def set_ended(self, trial: Trial, outcome: Outcome, value: float | None) -> None:
        """Note how the attempt's job ended; the first note stands."""
        values = {
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "reason": outcome.reason,
            "started_at": outcome.started_at or trials.c.started_at,
            "ended_at": outcome.ended_at or time.time(),
            "value": value,
        }
        self._update_trial(trial, trials.c.ended_at.is_(None), **values)

    def start_next_attempt(self, trial: Trial, reason: str) -> None:
        """Go back to before the submission, with the same parameters, because the job was lost."""
        values = {
            "attempt": trial.attempt + 1,
            "job": None,
            "status": TrialStatus.WAITING,
            "started_at": None,
            "reason": reason,
        }
        self._update_trial(trial, trials.c.ended_at.is_(None), **values)

    def set_reported(self, trial: Trial) -> bool:
        """Note that the tuner knows the result, which frees the trial's place; tells whether it was the first note."""
        return self._update_trial(trial, trials.c.reported_at.is_(None), reported_at=time.time())

    def _update_trial(self, trial: Trial, condition: sa.ColumnElement[bool], **values: Any) -> bool:
        """Change the row if it still is at the same attempt and the condition holds."""
        same = (
            trials.c.experiment_id == trial.experiment_id,
            trials.c.id == trial.id,
            trials.c.attempt == trial.attempt,
        )
        with self._engine.begin() as connection:
            result = connection.execute(trials.update().where(*same, condition).values(values))
        return bool(result.rowcount)

    def _select_trials(self, experiment_id: str, *conditions: sa.ColumnElement[bool]) -> list[Trial]:
        query = (
            sa.select(trials)
            .where(trials.c.experiment_id == experiment_id, *conditions)
            .order_by(trials.c.number)
        )
        with self._reading() as connection:
            return [_trial(row) for row in connection.execute(query).mappings()]

    def count_trials(self, experiment_id: str) -> dict[TrialStatus, int]:
        """How many trials are in each status that occurs."""
        query = (
            sa.select(trials.c.status, sa.func.count())
            .where(trials.c.experiment_id == experiment_id)
            .group_by(trials.c.status)
        )
        with self._reading() as connection:
            return {TrialStatus(status): int(count) for status, count in connection.execute(query)}

    def page_trials(
        self, experiment_id: str, status: TrialStatus | None, limit: int, offset: int
    ) -> tuple[list[Trial], int]:
        """Some trials in the order in which they were claimed, and how many there are in all."""
        conditions = [trials.c.experiment_id == experiment_id]
        if status is not None:
            conditions.append(trials.c.status == status)
        query = sa.select(trials).where(*conditions).order_by(trials.c.number).limit(limit).offset(offset)
        with self._reading() as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(trials).where(*conditions)).scalar_one()
            return [_trial(row) for row in connection.execute(query).mappings()], int(total)

    def _safe_url(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)


def _experiment(row: sa.RowMapping) -> Experiment:
    values = dict(row)
    spec, status = SPEC.validate_python(values.pop("spec")), ExperimentStatus(values.pop("status"))
    return Experiment(spec=spec, status=status, **values)


def _trial(row: sa.RowMapping) -> Trial:
    values = {name: row[name] for name in _TRIAL_FIELDS}
    return Trial(slot=Slot(row["batch"], row["slot"]), status=TrialStatus(row["status"]), **values)
