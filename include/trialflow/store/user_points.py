"""Points of the search space that people gave: hand-made trials that wait for a place, and results from elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from trialflow.records import KnownPoint
from trialflow.store.tables import points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trialflow.records import JsonObject


def queue_point(connection: sa.Connection, experiment_id: str, parameters: JsonObject) -> None:
    """Let the next free place go to these parameters; those that wait already come first."""
    _insert(connection, experiment_id, [{"parameters": parameters, "value": None}])


def take_point(connection: sa.Connection, experiment_id: str, trial_id: str) -> JsonObject | None:
    """Give the parameters that have waited longest to a trial, inside its claim; ``None`` when none wait."""
    first = connection.execute(
        sa.select(points.c.position, points.c.parameters).where(*_waiting(experiment_id)).order_by(points.c.position)
    ).first()
    if first is None:
        return None
    this = sa.and_(points.c.experiment_id == experiment_id, points.c.position == first.position)
    connection.execute(points.update().where(this).values(trial_id=trial_id))
    parameters: JsonObject = first.parameters
    return parameters


def count_waiting(connection: sa.Connection, experiment_id: str) -> int:
    """How many hand-made trials wait for a place."""
    query = sa.select(sa.func.count()).select_from(points).where(*_waiting(experiment_id))
    return int(connection.execute(query).scalar_one())


def has_waiting(experiment_id: str) -> sa.Exists:
    """For a query: whether a hand-made trial waits for a place."""
    return sa.exists().where(*_waiting(experiment_id))


def add_known_points(connection: sa.Connection, experiment_id: str, new: Sequence[KnownPoint]) -> int:
    """Add results from elsewhere; one that is there already is left alone. Tells how many were new."""
    seen = {_key(point) for point in list_known_points(connection, experiment_id)}
    rows: list[JsonObject] = []
    for point in new:
        if _key(point) not in seen:
            seen.add(_key(point))
            rows.append({"parameters": point.parameters, "value": point.value})
    _insert(connection, experiment_id, rows)
    return len(rows)


def list_known_points(connection: sa.Connection, experiment_id: str) -> list[KnownPoint]:
    """The results from elsewhere, in the order in which they came."""
    return _read_known(connection, _known(experiment_id))


def page_known_points(
    connection: sa.Connection, experiment_id: str, limit: int, offset: int
) -> tuple[list[KnownPoint], int]:
    """Some of them, and how many there are in all."""
    query = _known(experiment_id)
    total = connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()
    return _read_known(connection, query.limit(limit).offset(offset)), int(total)


def _known(experiment_id: str) -> sa.Select[tuple[JsonObject, float]]:
    return (
        sa.select(points.c.parameters, points.c.value)
        .where(points.c.experiment_id == experiment_id, points.c.value.is_not(None))
        .order_by(points.c.position)
    )


def _read_known(connection: sa.Connection, query: sa.Select[tuple[JsonObject, float]]) -> list[KnownPoint]:
    return [KnownPoint(row.parameters, row.value) for row in connection.execute(query)]


def _insert(connection: sa.Connection, experiment_id: str, rows: list[JsonObject]) -> None:
    newest = sa.select(sa.func.max(points.c.position)).where(points.c.experiment_id == experiment_id)
    first = (connection.execute(newest).scalar() or 0) + 1
    numbered: list[dict[str, Any]] = [
        {"experiment_id": experiment_id, "position": first + index, "trial_id": None, **row}
        for index, row in enumerate(rows)
    ]
    if numbered:
        connection.execute(points.insert(), numbered)


def _waiting(experiment_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return points.c.experiment_id == experiment_id, points.c.value.is_(None), points.c.trial_id.is_(None)


def _key(point: KnownPoint) -> str:
    return json.dumps([point.parameters, point.value], sort_keys=True)
