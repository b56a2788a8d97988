"""The application: its routes, and what its errors are called in HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError

from trialflow import __version__
from trialflow.errors import MOST_PROBLEMS, ConfigError, ConflictError, NotFoundError, QuotaError, TrialflowError
from trialflow.messages import cut, printable
from trialflow_airflow.web.access import name_experiment
from trialflow_airflow.web.deletions import watch_deletions
from trialflow_airflow.web.experiments import router as experiments_router
from trialflow_airflow.web.gate import Gate
from trialflow_airflow.web.routes import router
from trialflow_airflow.web.runs import is_database_busy
from trialflow_airflow.web.uploads import router as uploads_router

_DESCRIPTION = """NNI's REST interface. The routes of one experiment exist below `/experiments/{experiment_id}`;
the same ones at the root mean the newest experiment that you may read. Every route needs Airflow's login
(`POST /auth/token`, then `Authorization: Bearer …`): reading needs the right to read the DAG that runs the experiment,
anything else the right to edit its runs. Lists come whole; those of experiments, trials and metrics also in pages,
`limit` and `offset`, with a header `X-Total-Count` that tells how many entries there are. Answers suit the client of
NNI 3.0; a request's header `NNI-Version: 1.3` or `2.10` asks for those that the client of that version reads."""
# Of a key or a message that is repeated in an answer.
_LONGEST_WORD = 500
_STATUSES = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    ConfigError: HTTPStatus.UNPROCESSABLE_ENTITY,
    QuotaError: HTTPStatus.INSUFFICIENT_STORAGE,
    TrialflowError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def make_app() -> FastAPI:
    """Make the application that Airflow mounts below ``/api/v1/nni``."""
    watch_deletions()
    # FastAPI's own routes for the documentation would ask for no login.
    app = FastAPI(title="Trialflow", version=__version__, description=_DESCRIPTION, openapi_url=None)
    app.add_middleware(Gate)
    app.include_router(experiments_router)
    app.include_router(uploads_router)
    app.include_router(router, tags=["The newest experiment"])
    named = [Depends(name_experiment)]
    app.include_router(
        router, prefix="/experiments/{experiment_id}", dependencies=named, tags=["One experiment"]
    )
    for error, status in _STATUSES.items():
        app.add_exception_handler(error, _answer_with(status))
    app.add_exception_handler(OperationalError, _answer_busy)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(RecursionError, _answer_nested)
    return app


def _answer_busy(_: Request, error: Exception) -> JSONResponse:
    """Say that the database is busy; what else is wrong with it goes on to the server's log."""
    if not is_database_busy(error):
        raise error
    detail = "the database is held by others for longer than a request waits; try again in a moment"
    return JSONResponse({"detail": detail}, HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "2"})


def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    """Say the first things that are wrong, without what somebody sent: it may be large, or no JSON at all."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    told = [
        {"type": item["type"], "loc": [_short(part) for part in item["loc"]], "msg": _short(item["msg"])}
        for item in found[:MOST_PROBLEMS]
    ]
    if len(found) > len(told):
        told.append({"type": "more", "loc": [], "msg": f"and {len(found) - len(told)} more: correct these first"})
    return JSONResponse({"detail": told}, HTTPStatus.UNPROCESSABLE_ENTITY)


def _short(part: Any) -> Any:
    return cut(printable(part[:_LONGEST_WORD]), _LONGEST_WORD) if isinstance(part, str) else part


def _answer_nested(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the request is nested too deeply"}, HTTPStatus.UNPROCESSABLE_ENTITY)


def _answer_with(status: HTTPStatus):  # type: ignore[no-untyped-def]  # the type is FastAPI's own
    def answer(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status)

    return answer
