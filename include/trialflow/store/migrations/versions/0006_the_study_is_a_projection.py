"""A trial no longer knows its number in the Optuna study, and a user's own class has a name of its own."""

import sqlite3

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_experiments = sa.table("trialflow_experiments", sa.column("id", sa.String), sa.column("spec", sa.JSON))


def upgrade() -> None:
    """Drop the number, and rename the key ``own`` of tuners and assessors to ``user_class``."""
    connection = op.get_bind()
    # An older SQLite drops no column; there it stays, and nobody reads it.
    if connection.dialect.name != "sqlite" or sqlite3.sqlite_version_info >= (3, 35):
        op.drop_column("trialflow_trials", "sampler_number")
    for identifier, spec in connection.execute(sa.select(_experiments)).all():
        for kind in ("tuner", "assessor"):
            if spec.get(kind) and "own" in spec[kind]:
                spec[kind]["user_class"] = spec[kind].pop("own")
        connection.execute(_experiments.update().where(_experiments.c.id == identifier).values(spec=spec))
