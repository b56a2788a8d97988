"""The routes by which an experiment's files come to this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, status
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from trialflow.experiment.loading.bundle import is_here, prune_uploads, unpack
from trialflow.settings import get_settings
from trialflow_airflow.airflow_internals import GetUserDep
from trialflow_airflow.identity import DAG_ID
from trialflow_airflow.web.access import get_store, require
from trialflow_airflow.web.gate import UPLOADS_PATH

router = APIRouter(prefix=UPLOADS_PATH, tags=["Experiments"])


def _may_start(user: GetUserDep, dag_id: Annotated[str, Query(max_length=250)] = DAG_ID) -> None:
    require(user, dag_id, "POST")


class Known(BaseModel):
    """Whether an experiment's files are here already."""

    known: bool


class Question(BaseModel):
    """The experiment file's path, and the digest of the experiment's files."""

    model_config = ConfigDict(extra="forbid")

    config: str = Field(max_length=4096)
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class Uploaded(BaseModel):
    """Where the files of an archive lie now."""

    folder: str


@router.post("/known", dependencies=[Depends(_may_start)])
def ask_for_files(body: Question) -> Known:
    """Whether this machine has an experiment with these very files under the same path."""
    return Known(known=is_here(body.config, body.digest, get_settings()))


@router.post("", dependencies=[Depends(_may_start)], status_code=status.HTTP_201_CREATED)
async def upload(request: Request) -> Uploaded:
    """Unpack an experiment's files, a ZIP archive as the body; kept while an experiment uses them, else for a day."""
    settings = get_settings()
    settings.uploads.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=settings.uploads, prefix=".", suffix=".zip") as archive:
        async for chunk in request.stream():
            archive.write(chunk)
        archive.flush()
        folder = await run_in_threadpool(unpack, Path(archive.name), settings)
    await run_in_threadpool(_prune)
    return Uploaded(folder=str(folder))


def _prune() -> None:
    prune_uploads(get_settings(), [item.spec.code_directory for item in get_store().list_experiments()])

