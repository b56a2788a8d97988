"""The routes by which an experiment's files come to this machine."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query, Request, status
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from trialflow.errors import QuotaError
from trialflow.experiment.loading.bundle import is_here, is_same_file
from trialflow.experiment.loading.uploads import find_upload, prune_uploads, require_room, unpack
from trialflow.settings import get_settings
from trialflow.training.local.interpreter import machine_id
from trialflow_airflow.airflow_internals import GetUserDep
from trialflow_airflow.identity import DAG_ID
from trialflow_airflow.web.access import get_store, require
from trialflow_airflow.web.gate import UPLOADS_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

router = APIRouter(prefix=UPLOADS_PATH, tags=["Experiments"])
# What one user may send at a time; each takes room on the disk that nobody counts before it is unpacked.
_MOST_AT_A_TIME = 2
_CHECK_BYTES = 16 << 20
_sending: Counter[str] = Counter()
_counting = Lock()


def _may_start(user: GetUserDep, dag_id: Annotated[str, Query(max_length=250)] = DAG_ID) -> str:
    """The name of a user who may send files, for they may start an experiment."""
    require(user, dag_id, "POST")
    return str(user.get_name())


Sender = Annotated[str, Depends(_may_start)]


class Known(BaseModel):
    """Whether an experiment's files are here already.

    Attributes:
        known: They lie under the same path.
        folder: They were sent before and lie here, if they do.
    """

    known: bool
    folder: str | None = None


class Question(BaseModel):
    """What tells an experiment's files from others.

    Attributes:
        config: The experiment file's path.
        digest: Of all its files.
        file_digest: SHA-256 of the experiment file alone.
        machine: Of the one who asks, as `GET /machine` tells it.
    """

    model_config = ConfigDict(extra="forbid")

    config: str = Field(max_length=4096)
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    file_digest: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    machine: str = Field(default="", max_length=64)


class Uploaded(BaseModel):
    """Where the files of an archive lie now."""

    folder: str


@router.post("/known")
def ask_for_files(who: Sender, body: Question) -> Known:
    """Whether this machine has an experiment with these very files: under the same path, or sent before."""
    settings = get_settings()
    # On one machine, the same file under the same path means that all of them are the same.
    is_theirs = body.machine == machine_id() and is_same_file(body.config, body.file_digest)
    if is_theirs or is_here(body.config, body.digest, settings):
        return Known(known=True)
    sent = find_upload(who, body.digest, settings)
    return Known(known=False, folder=str(sent) if sent else None)


@router.post("", status_code=status.HTTP_201_CREATED)
async def upload(who: Sender, request: Request) -> Uploaded:
    """Unpack an experiment's files, a ZIP archive as the body; kept while an experiment uses them, else for a day."""
    settings = get_settings()
    length = int(request.headers.get("content-length") or 0)
    with _turn_of(who):
        await run_in_threadpool(require_room, settings, who, length)
        with tempfile.NamedTemporaryFile(dir=settings.uploads, prefix=".", suffix=".zip") as archive:
            unchecked = 0
            async for chunk in request.stream():
                archive.write(chunk)
                unchecked += len(chunk)
                if unchecked > _CHECK_BYTES:
                    await run_in_threadpool(require_room, settings, who)
                    unchecked = 0
            archive.flush()
            folder = await run_in_threadpool(unpack, Path(archive.name), who, settings)
    await run_in_threadpool(_prune)
    return Uploaded(folder=str(folder))


@contextmanager
def _turn_of(who: str) -> Iterator[None]:
    with _counting:
        if _sending[who] >= _MOST_AT_A_TIME:
            raise QuotaError(f"you are sending {_MOST_AT_A_TIME} experiments already; send the next one after them")
        _sending[who] += 1
    try:
        yield
    finally:
        with _counting:
            _sending[who] -= 1


def _prune() -> None:
    prune_uploads(get_settings(), [item.spec.code_directory for item in get_store().list_experiments()])
