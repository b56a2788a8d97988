"""The routes that are about no experiment in particular."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field

from trialflow import __version__
from trialflow.config.source import MAX_FILE_BYTES
from trialflow.experiment.loading.uploads import keep_upload
from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.showing.nni_views import show_metadata, show_summary
from trialflow.records import ExperimentStatus
from trialflow.settings import get_settings
from trialflow.training.local.interpreter import machine_id, read_environment
from trialflow_airflow.airflow_internals import GetUserDep
from trialflow_airflow.identity import DAG_ID
from trialflow_airflow.web import runs
from trialflow_airflow.web.access import Offset, Remover, list_readable, name_experiment, require

router = APIRouter(tags=["Experiments"])


class NewExperiment(BaseModel):
    """An experiment to be started."""

    model_config = ConfigDict(extra="forbid")

    config: Annotated[str, Field(max_length=MAX_FILE_BYTES)] | dict[str, Any] = Field(
        description="The path of an NNI file as the workers see it, the file's text, or the experiment as an object."
    )
    folder: str | None = Field(
        default=None, max_length=4096, description="Where relative paths start in an experiment that is not a file."
    )
    environment: dict[str, str] | None = Field(
        default=None, description="The PATH and the active Python environment of whoever starts it on this machine."
    )
    dag_id: str = Field(default=DAG_ID, max_length=250, pattern=r"^[\w.-]+$", description="The DAG that is to run it.")


class Started(BaseModel):
    """An experiment that was started; whether it can run is seen in its run."""

    experiment_id: str
    dag_id: str
    run_id: str


class Deleted(BaseModel):
    """An experiment that is no more; its folder may lie on a storage that this server does not see."""

    id: str
    folder: str
    folder_deleted: bool


@router.get("/version")
def get_version(_user: GetUserDep) -> str:
    """The version of Trialflow."""
    return __version__


@router.get("/machine")
def get_machine(_user: GetUserDep) -> str:
    """What only a client on the same machine can know: a digest of its name and of its start."""
    return machine_id()


@router.get("/openapi.json", include_in_schema=False)
def get_documentation(_user: GetUserDep, request: Request) -> dict[str, Any]:
    """The documentation of this interface."""
    return dict(request.app.openapi())


@router.get("/experiments")
def list_experiments(
    user: GetUserDep,
    response: Response,
    status_: Annotated[ExperimentStatus | None, Query(alias="status")] = None,
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
    offset: Offset = 0,
) -> list[dict[str, Any]]:
    """The experiments that you may read, the newest first."""
    found = [item for item in list_readable(user) if status_ is None or item.status is status_]
    response.headers["X-Total-Count"] = str(len(found))
    return [show_summary(experiment) for experiment in found[offset:][:limit]]


@router.get("/experiments-info")
def list_metadata(
    user: GetUserDep,
    response: Response,
    limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
    offset: Offset = 0,
) -> list[dict[str, Any]]:
    """The experiments that you may read, the newest first, as NNI 2.x and 3.x list them."""
    found = list_readable(user)
    response.headers["X-Total-Count"] = str(len(found))
    return [show_metadata(experiment) for experiment in found[offset:][:limit]]


@router.post("/experiment", status_code=status.HTTP_201_CREATED)
def create_experiment(user: GetUserDep, body: NewExperiment) -> Started:
    """Start an experiment. It is checked by the first task of its run."""
    require(user, body.dag_id, "POST")
    read_environment(body.environment)  # What is wrong with it is said at once.
    if isinstance(body.config, str):
        keep_upload(body.config, get_settings())
    conf = {"config": body.config, "folder": body.folder, "environment": body.environment}
    given = {name: value for name, value in conf.items() if value}
    experiment_id, run_id = runs.start_experiment(body.dag_id, given, user.get_name())
    return Started(experiment_id=experiment_id, dag_id=body.dag_id, run_id=run_id)


@router.delete("/experiments/{experiment_id}", dependencies=[Depends(name_experiment)])
def delete_experiment(visit: Remover) -> Deleted:
    """Delete an experiment that has ended, with its folder: trials, code and results. Its runs stay in Airflow."""
    removed = Actions(visit.experiment.id, visit.who).delete(partial(runs.is_alive, visit.experiment.owner))
    runs.delete_pool(visit.experiment)
    return Deleted(id=visit.experiment.id, folder=visit.experiment.folder, folder_deleted=removed)
