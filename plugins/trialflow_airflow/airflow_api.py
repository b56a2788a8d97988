"""Airflow's REST API, for what a task can reach in no other way: pools."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_exponential

from trialflow.errors import TrialflowError

if TYPE_CHECKING:
    from typing import Any

    from tenacity import RetryCallState

_TIMEOUT_SECONDS = 30.0


class AirflowApiError(TrialflowError):
    """Airflow's API refused a request, or could not be reached."""


def _last_outcome(state: RetryCallState) -> httpx.Response:
    assert state.outcome is not None
    try:
        response: httpx.Response = state.outcome.result()
    except httpx.TransportError as error:
        raise AirflowApiError(
            f"Airflow's API at {state.args[0].url} could not be reached: {error}; check that the API server runs, and "
            "host and port in the connection that TRIALFLOW_API_CONNECTION names"
        ) from error
    return response


@dataclass
class AirflowApi:
    """A client with a login.

    Args:
        url: Address of the API server, ``http://host:port``.
        user: With the right to edit pools.
        password: Of the user.
    """

    url: str
    user: str
    password: str

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Create a pool whose deferred tasks keep their slots, or give the one that is there this size."""
        body = {"name": name, "slots": slots, "include_deferred": True, "description": description}
        response = self._request("POST", "/api/v2/pools", json=body)
        if response.status_code == HTTPStatus.CONFLICT:
            # Airflow's API calls the pool's name `pool` when it is changed.
            body["pool"] = body.pop("name")
            response = self._request("PATCH", f"/api/v2/pools/{quote(name)}", json=body)
        _require_success(response, f"create the pool {name}")

    def delete_pool(self, name: str) -> None:
        """Delete a pool; one that is gone is fine."""
        response = self._request("DELETE", f"/api/v2/pools/{quote(name)}")
        if response.status_code != HTTPStatus.NOT_FOUND:
            _require_success(response, f"delete the pool {name}")

    @retry(
        retry=retry_if_exception_type(httpx.TransportError) | retry_if_result(lambda answer: answer.is_server_error),
        stop=stop_after_delay(20),
        wait=wait_exponential(0.2, max=3),
        retry_error_callback=_last_outcome,
    )
    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        with httpx.Client(base_url=self.url, timeout=_TIMEOUT_SECONDS) as client:
            login = client.post("/auth/token", json={"username": self.user, "password": self.password})
            if login.is_server_error:
                return login
            _require_success(login, f"log in as {self.user}")
            headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
            return client.request(method, path, headers=headers, **arguments)


def connect(connection_id: str) -> AirflowApi:
    """The client for an Airflow connection of type http: host, port, schema, login and password.

    Raises:
        AirflowApiError: There is no such connection.
    """
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = BaseHook.get_connection(connection_id)
    except AirflowNotFoundException as error:
        raise AirflowApiError(
            f"there is no Airflow connection {connection_id!r}, which Trialflow needs to make the experiment's pool; "
            f"add it: airflow connections add {connection_id} --conn-type http --conn-host HOST --conn-port 8080 "
            "--conn-login USER --conn-password PASSWORD (a user who may edit pools)"
        ) from error
    port = f":{connection.port}" if connection.port else ""
    url = f"{connection.schema or 'http'}://{connection.host}{port}"
    return AirflowApi(url, connection.login or "", connection.password or "")


def _require_success(response: httpx.Response, purpose: str) -> None:
    if response.is_error:
        remedy = "check the login and its rights in the connection that TRIALFLOW_API_CONNECTION names"
        if response.is_server_error:
            remedy = "see the log of the API server"
        raise AirflowApiError(
            f"Airflow's API did not {purpose}: {response.status_code} {response.text[:300]}; {remedy}"
        )
