"""Asking Airflow's API server, and finding the experiment that a person means."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from trialflow.cli.http_client import Answer, NoAnswerError, request
from trialflow.errors import TrialflowError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trialflow.cli.target import Target

NNI = "/api/v1/nni"
_PAGE = 1000
# Statuses of experiments that have ended.
ENDED = ("STOPPED", "DONE", "ERROR")
# How long whoever starts an experiment waits until it runs.
START_TIMEOUT_SECONDS = 300.0


class ApiError(TrialflowError):
    """The API server refused, or could not be reached.

    Attributes:
        status: Its answer; ``None`` when there was none.
        detail: What it says, without the status.
    """

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail if status is None else f"{detail} ({status})")
        self.status = status
        self.detail = detail


class NothingRunsError(ApiError):
    """No experiment that runs is meant."""


@dataclass(frozen=True)
class Api:
    """An API server with a login."""

    target: Target

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **arguments: Any) -> Answer:
        """Make a request; see `trialflow.cli.http_client.request`.

        Raises:
            ApiError: With what the server says about it.
        """
        headers = {"Authorization": f"Bearer {self.target.token}", **(headers or {})}
        try:
            answer = request(method, self.target.url + path, headers=headers, **arguments)
        except NoAnswerError as error:
            raise ApiError(f"{self.target.url} does not answer ({error}); is Airflow's API server running?") from error
        if answer.is_error:
            raise ApiError(self._explain(answer), answer.status)
        return answer

    def get(self, path: str, **params: Any) -> Any:
        """Read something of NNI's interface."""
        return self.ask("GET", NNI + path, params=params).json()

    def get_all(self, path: str, **params: Any) -> list[Any]:
        """Read all pages of a list."""
        found: list[Any] = []
        while True:
            response = self.ask("GET", NNI + path, params={**params, "limit": _PAGE, "offset": len(found)})
            page = response.json()
            found += page
            if not page or len(found) >= int(response.headers["X-Total-Count"]):
                return found

    def find(self, wanted: str | None) -> dict[str, Any]:
        """The one experiment that is meant: by its id, by the beginning of it, or as the only one that runs.

        Raises:
            ApiError: There is none, or there are more.
        """
        (found,) = self._match(wanted, any_status=True, one=True)
        return found

    def find_all(self, wanted: str | None, *, any_status: bool = True) -> list[dict[str, Any]]:
        """The experiments that are meant: with ``ID*`` all whose ids begin like that, else one, as in `find`.

        Raises:
            ApiError: There is none, or the person has to say it more precisely.
        """
        return self._match(wanted, any_status=any_status, one=wanted is None or not wanted.endswith("*"))

    def _match(self, wanted: str | None, *, any_status: bool, one: bool) -> list[dict[str, Any]]:
        known = self.get_all("/experiments")
        pool = known if any_status and wanted is not None else [item for item in known if item["status"] not in ENDED]
        exact = [item for item in pool if item["id"] == wanted]
        found = exact or [item for item in pool if item["id"].startswith((wanted or "").rstrip("*"))]
        if not found or (one and len(found) > 1):
            names = ", ".join(f"{item['id']} ({item['status']})" for item in (found or known)[:20])
            is_idle = not found and not (any_status and wanted is not None)
            refusal = NothingRunsError if is_idle else ApiError
            raise refusal(f"{_rule(wanted, found, any_status=any_status, one=one)}; there is: {names or 'none'}")
        return found

    def _explain(self, answer: Answer) -> str:
        if answer.status == HTTPStatus.UNAUTHORIZED:
            return f"the login at {self.target.url} has expired; run: nnictl login {self.target.url}"
        try:
            detail = answer.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = answer.text[:300]
        return str(detail)


def _rule(wanted: str | None, found: list[dict[str, Any]], *, any_status: bool, one: bool) -> str:
    if wanted is None and not found:
        return "no experiment runs; name one that has ended by its id"
    if wanted is None:
        return "name the experiment, for there is not exactly one that runs"
    if one:
        return f"{wanted!r} must be the beginning of exactly one experiment's id"
    return f"no experiment{'' if any_status else ' that runs'} has an id like {wanted!r}"


def is_on_this_machine(api: Api) -> bool:
    """Whether the server runs on this machine; one that cannot tell does not."""
    from trialflow.training.local.interpreter import machine_id

    try:
        return bool(api.get("/machine") == machine_id())
    except ApiError:
        return False


def log_in(url: str, user: str, password: str) -> str:
    """Get a token.

    Raises:
        ApiError: The server does not give one.
    """
    body = {"username": user, "password": password}
    try:
        answer = request("POST", f"{url.rstrip('/')}/auth/token", json=body)
    except NoAnswerError as error:
        raise ApiError(f"{url} does not answer ({error}); is this the address of Airflow's API server?") from error
    if answer.is_error:
        raise ApiError(f"{url} does not accept this login for {user}", answer.status)
    return str(answer.json()["access_token"])


def wait_for_start(api: Api, started: dict[str, str], timeout_seconds: float) -> str | None:
    """Wait until an experiment runs.

    Returns:
        ``None`` when it does, else why not.
    """
    run = f"/api/v2/dags/{started['dag_id']}/dagRuns/{started['run_id']}"
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        state = api.ask("GET", run).json()["state"]
        status = _status_of(api, started["experiment_id"])
        if status is not None and status["status"] not in ("INITIALIZED", "ERROR"):
            return None
        if state == "failed" or (status is not None and status["status"] == "ERROR"):
            return explain_failure(api, run) or (status or {}).get("reason") or f"its run {started['run_id']} failed"
        time.sleep(0.5)
    return f"it has not come to run within {timeout_seconds:.0f} s; is Airflow's scheduler running?"


def _status_of(api: Api, experiment_id: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = api.get(f"/experiments/{experiment_id}/check-status")
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    return found


def explain_failure(api: Api, run: str) -> str:
    """The errors in the log of a run's first failed task; what fails after it, fails because of it."""
    tasks = api.ask("GET", f"{run}/taskInstances", params={"limit": 500}).json()["task_instances"]
    failed = [task for task in tasks if task["state"] == "failed" and task["map_index"] < 0]
    if not failed:
        return ""
    first = min(failed, key=lambda task: task["end_date"] or "")
    return "\n".join(read_task_errors(api, f"{run}/taskInstances/{first['task_id']}/logs/{first['try_number']}"))


def read_task_errors(api: Api, path: str) -> list[str]:
    """The messages of the errors in a task's log."""
    content = api.ask("GET", path, headers={"accept": "application/json"}).json()["content"]
    found = []
    for entry in content:
        if isinstance(entry, dict) and entry.get("level") in ("error", "critical"):
            details = entry.get("error_detail") or []
            found += [str(detail.get("exc_value") or entry["event"]) for detail in details[:1]] or [str(entry["event"])]
    return found
