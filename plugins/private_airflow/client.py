"""The REST API of the private Airflow, for the programs that drive it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from private_airflow.installation import USER, Installation

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_SECONDS = 20.0
_DAG_TIMEOUT_SECONDS = 300.0


class Client:
    """The private Airflow's REST API, logged in."""

    def __init__(self, installation: Installation) -> None:
        self._http = httpx.Client(base_url=installation.url, timeout=60)
        login = self._http.post("/auth/token", json={"username": USER, "password": installation.password})
        login.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {login.json()['access_token']}"

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the API below ``/api/v2``; gives the decoded answer.

        Except for a POST, an error of the server is waited out: on SQLite, what Airflow notes of a request in its event
        loop may wait for the lock of another one until it fails.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        response = self._http.request(method, f"/api/v2/{path}", **arguments)
        while response.is_server_error and method != "POST" and time.monotonic() < deadline:
            time.sleep(0.5)
            response = self._http.request(method, f"/api/v2/{path}", **arguments)
        response.raise_for_status()
        return response.json() if response.content else None

    def wait_for_dag(self, dag_id: str, waiting: Callable[[], None] = lambda: None) -> None:
        """Wait until the DAG was parsed, and unpause it; ``waiting`` is called meanwhile."""
        deadline = time.monotonic() + _DAG_TIMEOUT_SECONDS
        while True:
            try:
                self.call("PATCH", f"dags/{dag_id}", params={"update_mask": "is_paused"}, json={"is_paused": False})
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND or time.monotonic() > deadline:
                    raise
                waiting()
                time.sleep(0.5)
            else:
                return

    def trigger(self, dag_id: str, conf: dict[str, Any], run_id: str | None = None) -> str:
        """Trigger a run; gives its id."""
        body = {"conf": conf, "logical_date": None, **({"dag_run_id": run_id} if run_id else {})}
        return str(self.call("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])
