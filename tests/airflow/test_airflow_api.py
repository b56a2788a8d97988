"""The client of Airflow's REST API, and a server that is away for a while or for good."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tenacity import stop_after_delay

from trialflow_airflow.airflow_api import AirflowApi, AirflowApiError


class FakeAirflow(ThreadingHTTPServer):
    """Answers with the next of its statuses for a path, then with what Airflow says to a login and a new pool."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[int]] = {}
        self.asked: list[str] = []

    @property
    def api(self) -> AirflowApi:
        return AirflowApi(f"http://127.0.0.1:{self.server_port}", "ann", "secret")


class _Handler(BaseHTTPRequestHandler):
    server: FakeAirflow

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.path)
        planned = self.server.answers.get(self.path)
        body = json.dumps({"access_token": "token"}).encode()
        self.send_response(planned.pop(0) if planned else 201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    with FakeAirflow() as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        yield server
        server.shutdown()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AirflowApi._request.retry, "stop", stop_after_delay(0.3))  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/auth/token", "/api/v2/pools"])
def test_an_error_of_the_server_is_waited_out(airflow: FakeAirflow, path: str) -> None:
    airflow.answers[path] = [503, 500]
    airflow.api.ensure_pool("trialflow-x", 2, "x")
    assert (airflow.asked.count(path), airflow.asked[-1]) == (3, "/api/v2/pools")


@pytest.mark.parametrize("path", ["/auth/token", "/api/v2/pools"])
def test_one_that_lasts_is_not_blamed_on_the_login(airflow: FakeAirflow, path: str, impatient: None) -> None:
    airflow.answers[path] = [503] * 100
    with pytest.raises(AirflowApiError, match=r"did not create the pool .*: 503 .*; see the log of the API server"):
        airflow.api.ensure_pool("trialflow-x", 2, "x")


def test_a_login_that_is_refused_is_not_tried_again(airflow: FakeAirflow) -> None:
    airflow.answers["/auth/token"] = [401]
    with pytest.raises(AirflowApiError, match=r"did not log in as ann: 401 .*; check the login"):
        airflow.api.ensure_pool("trialflow-x", 2, "x")
    assert airflow.asked == ["/auth/token"]


def test_a_server_that_cannot_be_reached_is_named(airflow: FakeAirflow, impatient: None) -> None:
    api = airflow.api
    airflow.server_close()
    with pytest.raises(AirflowApiError, match=f"at {api.url} could not be reached: .*refused"):
        api.ensure_pool("trialflow-x", 2, "x")
