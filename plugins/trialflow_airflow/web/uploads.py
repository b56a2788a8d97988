"""The routes by which an experiment's files come to this machine, and the limit on what a request may bring."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request, status
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from trialflow.experiment.loading.bundle import is_here, prune_uploads, unpack
from trialflow.settings import get_settings
from trialflow_airflow.airflow_internals import GetUserDep
from trialflow_airflow.identity import DAG_ID
from trialflow_airflow.web.access import get_store, require

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_BODY_BYTES = 16 << 20
# What an archive needs besides the files in it.
_MOST_ARCHIVE_EXTRA_BYTES = 16 << 20
_PATH = "/uploads"
router = APIRouter(prefix=_PATH, tags=["Experiments"])


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


class BodyLimit:
    """Ends a request with 413 once it has brought more than its route takes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = _most_bytes(str(scope.get("path", "")))
        brought = 0

        async def receive_within_limit() -> Message:
            nonlocal brought
            message = await receive()
            brought += len(message.get("body", b""))
            if brought > most:
                raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, f"a request may bring {most} bytes at most")
            return message

        await self._app(scope, receive_within_limit, send)


def _most_bytes(path: str) -> int:
    return get_settings().max_code_bytes + _MOST_ARCHIVE_EXTRA_BYTES if path.endswith(_PATH) else _MOST_BODY_BYTES
