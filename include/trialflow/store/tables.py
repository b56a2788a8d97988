"""The tables of the ledger; all times are seconds since the epoch."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

# The newest migration. Whoever changes a table adds one in `trialflow.store.migrations`, and names it here.
HEAD = "0006"

metadata = sa.MetaData()
# What a trial may print and no database takes everywhere: PostgreSQL has no NUL, and UTF-8 no half of a character.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class _Words(sa.TypeDecorator[str]):
    """Text for people, of whatever origin; what cannot be stored of it is replaced. JSON escapes it by itself."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:  # noqa: ARG002
        return None if value is None else _UNSTORABLE.sub("\ufffd", value)


# By this table, versions of Trialflow from before migrations see that a store is too new for them.
schema_version = sa.Table(
    "trialflow_schema",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)

experiments = sa.Table(
    "trialflow_experiments",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("status_reason", _Words, nullable=False, default=""),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("code_folder", sa.Text),
    sa.Column("trial_concurrency", sa.Integer, nullable=False),
    sa.Column("max_trial_number", sa.Integer, nullable=False),
    sa.Column("max_duration_seconds", sa.Float, nullable=False),
    sa.Column("idle_seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("owner", sa.String(250), nullable=False, default=""),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
)

# What people changed while the experiment was there; never altered, only added to.
changes = sa.Table(
    "trialflow_changes",
    metadata,
    sa.Column("experiment_id", sa.ForeignKey("trialflow_experiments.id"), primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("who", sa.String(250), nullable=False),
    sa.Column("what", sa.String(40), nullable=False),
    sa.Column("value", sa.JSON(none_as_null=True)),
)

batches = sa.Table(
    "trialflow_batches",
    metadata,
    sa.Column("experiment_id", sa.ForeignKey("trialflow_experiments.id"), primary_key=True),
    sa.Column("batch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("run_id", sa.String(250), nullable=False),
    # When its claims were through, and its run was about to look whether another batch follows.
    sa.Column("passed_at", sa.Float),
    sa.Column("closed_at", sa.Float),
)

trials = sa.Table(
    "trialflow_trials",
    metadata,
    sa.Column("experiment_id", sa.ForeignKey("trialflow_experiments.id"), primary_key=True),
    sa.Column("id", sa.String(8), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("run_id", sa.String(250), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("claimed_at", sa.Float, nullable=False),
    sa.Column("parameters", sa.JSON(none_as_null=True)),
    sa.Column("note", sa.JSON(none_as_null=True)),
    sa.Column("job", sa.JSON(none_as_null=True)),
    sa.Column("followed_at", sa.Float),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("reported_at", sa.Float),
    sa.Column("exit_code", sa.Integer),
    sa.Column("value", sa.Float),
    sa.Column("reason", _Words, nullable=False, default=""),
    # What makes a claim happen once, whoever tries: one trial per planned slot, one per number.
    sa.UniqueConstraint("experiment_id", "batch", "slot"),
    sa.UniqueConstraint("experiment_id", "number"),
)

# What people gave: parameters that wait for a trial of their own, or, with a value, a result from elsewhere.
points = sa.Table(
    "trialflow_points",
    metadata,
    sa.Column("experiment_id", sa.ForeignKey("trialflow_experiments.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("trial_id", sa.String(8)),
)

metrics = sa.Table(
    "trialflow_metrics",
    metadata,
    sa.Column("experiment_id", sa.String(16), primary_key=True),
    sa.Column("trial_id", sa.String(8), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("type", sa.String(20), primary_key=True),
    # Position among the records of this type in the trial's file, not the trial's own claim.
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.ForeignKeyConstraint(
        ["experiment_id", "trial_id"], ["trialflow_trials.experiment_id", "trialflow_trials.id"]
    ),
)
