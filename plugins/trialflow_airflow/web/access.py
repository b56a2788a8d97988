"""Who may do what: Airflow's own rights to the DAG that runs an experiment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Depends, Header, HTTPException, Path, Query, Request, status

from trialflow.errors import NotFoundError
from trialflow.records import Experiment
from trialflow.settings import get_settings
from trialflow.store import Store, open_store
from trialflow_airflow.airflow_internals import DagAccessEntity, DagDetails, DagModel, GetUserDep, get_auth_manager

if TYPE_CHECKING:
    from collections.abc import Callable

Method = Literal["GET", "POST", "PUT", "DELETE"]
# How far into a list a page may begin; a database counts with 64 bits.
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]
# Of which version of NNI the client is; without it, the answer suits NNI 3.0's.
NniVersion = Annotated[
    str | None,
    Header(alias="NNI-Version", pattern=r"^[123](\.\d{1,3}){0,2}$", description="1.3, 2.10 or 3.0, for example."),
]
# No id holds anything else, such as a NUL, of which PostgreSQL makes an error.
_EXPERIMENT_ID = re.compile(r"[\w-]{1,16}")


@dataclass(frozen=True)
class Visit:
    """A request that may do what it asks for.

    Attributes:
        experiment: The experiment that it is about.
        who: The user's name.
    """

    experiment: Experiment
    who: str
    store: Store


def name_experiment(experiment_id: Annotated[str, Path(description="The experiment's id.", max_length=16)]) -> str:
    """Puts the parameter of the path into the documentation; `visit` reads it."""
    return experiment_id


def get_store() -> Store:
    """The store that the tasks use, too."""
    return open_store(get_settings().store_url)


def is_allowed(user: GetUserDep, dag_id: str, method: Method, entity: DagAccessEntity = DagAccessEntity.RUN) -> bool:
    """Whether a user may do something with the runs of a DAG, or another part of it."""
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    allowed = get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=user)
    return bool(allowed)


def require(user: GetUserDep, dag_id: str, method: Method, entity: DagAccessEntity = DagAccessEntity.RUN) -> None:
    """Refuse with 403 what a user may not do."""
    if not is_allowed(user, dag_id, method, entity):
        raise HTTPException(status.HTTP_403_FORBIDDEN, f"you may not do that with the DAG {dag_id}; ask for the right")


def list_readable(user: GetUserDep) -> list[Experiment]:
    """Every experiment that a user may read, the newest first."""
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    return [experiment for experiment in get_store().list_experiments() if experiment.owner in readable]


def visit(method: Method, entity: DagAccessEntity = DagAccessEntity.RUN) -> Callable[[Request, GetUserDep], Visit]:
    """A dependency: the experiment of the request, for a user who may do this with it.

    One that the user may not read answers as if it were not there.
    """

    def resolve(request: Request, user: GetUserDep) -> Visit:
        experiment = _find(request.path_params.get("experiment_id"), user)
        require(user, experiment.owner, method, entity)
        return Visit(experiment, user.get_name(), get_store())

    return resolve


def _find(experiment_id: str | None, user: GetUserDep) -> Experiment:
    if experiment_id is None:
        readable = list_readable(user)
        if not readable:
            raise NotFoundError("there is no experiment yet that you may read; start one: nnictl create --config FILE")
        return readable[0]
    # In the same words, whether it is not there or is none of theirs.
    missing = NotFoundError(f"there is no experiment {experiment_id!r} that you may read")
    if _EXPERIMENT_ID.fullmatch(experiment_id) is None:
        raise missing
    try:
        experiment = get_store().get_experiment(experiment_id)
    except NotFoundError:
        raise missing from None
    if not is_allowed(user, experiment.owner, "GET"):
        raise missing
    return experiment


Reader = Annotated[Visit, Depends(visit("GET"))]
LogReader = Annotated[Visit, Depends(visit("GET", DagAccessEntity.TASK_LOGS))]
Editor = Annotated[Visit, Depends(visit("PUT"))]
Remover = Annotated[Visit, Depends(visit("DELETE"))]
Starter = Annotated[Visit, Depends(visit("POST"))]
