"""What a request may bring to the API server, who may bring it, and what is not done for a form of another site."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from trialflow.config.source import MAX_FILE_BYTES
from trialflow.errors import ConflictError
from trialflow.records import ExperimentStatus
from trialflow.testing import make_spec
from trialflow_airflow.web.turns import Turns

from .conftest import DAG_ID, Lab, wait_until

ID = "limaaaaa"
BASE = f"/experiments/{ID}"
LIMIT = 2 << 20
# Every route that takes a body.
WRITING = [
    ("POST", "/experiment"),
    ("POST", "/uploads/known"),
    ("PUT", f"{BASE}/experiment?update_type=SEARCH_SPACE"),
    ("POST", f"{BASE}/trial-jobs"),
    ("POST", f"{BASE}/experiment/import-data"),
    ("POST", f"{BASE}/stop"),
    ("POST", f"{BASE}/resume"),
    ("DELETE", f"{BASE}/trial-jobs/abcde"),
    ("DELETE", "/experiments/uploads"),
]


@pytest.fixture(scope="module", autouse=True)
def experiment(lab: Lab) -> None:
    """An experiment that no run carries."""
    lab.store.create_experiment(ID, make_spec(), "/nowhere", DAG_ID)
    lab.store.change_status(ID, ExperimentStatus.RUNNING, from_=[ExperimentStatus.INITIALIZED])


@pytest.fixture(scope="module")
def web(lab: Lab) -> Iterator[httpx.Client]:
    with lab.web("user") as client:
        yield client


@pytest.fixture
def send_head(lab: Lab) -> Callable[..., tuple[int, str]]:
    """Sends a request without the body that it announces; gives status and answer."""

    def send(method: str, path: str, length: str, token: str = "") -> tuple[int, str]:
        address = httpx.URL(lab.installation.url)
        with socket.create_connection((address.host, address.port), timeout=20) as connection:
            head = f"{method} /api/v1/nni{path} HTTP/1.1\r\nHost: {address.host}\r\nContent-Length: {length}\r\n"
            authorization = f"Authorization: {token}\r\n" if token else ""
            connection.sendall(f"{head}{authorization}Content-Type: application/json\r\n\r\n".encode())
            answer = connection.recv(1 << 16).decode()
            while "\r\n\r\n{" not in answer:
                answer += connection.recv(1 << 16).decode()
        return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]

    return send


@pytest.mark.parametrize(("method", "path"), [*WRITING, ("POST", "/uploads")])
def test_who_has_not_logged_in_is_refused_before_the_body_comes(
    send_head: Callable[..., tuple[int, str]], method: str, path: str
) -> None:
    assert send_head(method, path, "1000000")[0] == 401
    assert send_head(method, path, "1000000000000")[0] == 401
    assert send_head(method, path, "1000000", "Bearer forged")[0] == 403


@pytest.mark.parametrize(("method", "path"), WRITING)
def test_a_body_that_is_too_large_is_refused_by_its_length_or_where_it_ends(
    web: httpx.Client, send_head: Callable[..., tuple[int, str]], method: str, path: str
) -> None:
    status, said = send_head(method, path, str(LIMIT + 1), web.headers["Authorization"])
    assert (status, f"a request may bring {LIMIT} bytes at most" in said) == (413, True)

    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b" " * (1 << 20)

    json_type = {"Content-Type": "application/json"}
    chunked = web.request(method, path, content=chunks(), headers=json_type)
    takes_none = method == "DELETE" or path.endswith(("stop", "resume"))
    assert takes_none or (chunked.status_code, "bytes at most" in chunked.text) == (413, True)


def test_an_archive_has_a_limit_of_its_own(web: httpx.Client, send_head: Callable[..., tuple[int, str]]) -> None:
    token = web.headers["Authorization"]
    assert send_head("POST", "/uploads", "10000000000", token)[0] == 413
    assert web.post("/uploads", content=b"x" * (LIMIT + 1)).status_code == 422
    assert web.request("DELETE", "/experiments/uploads", content=b"x" * (LIMIT + 1)).status_code == 413


def test_nobody_sends_more_than_two_experiments_at_a_time(lab: Lab, web: httpx.Client) -> None:
    address = httpx.URL(lab.installation.url)
    head = (
        f"POST /api/v1/nni/uploads HTTP/1.1\r\nHost: {address.host}\r\nContent-Length: 9\r\n"
        f"Authorization: {web.headers['Authorization']}\r\n\r\n"
    )

    def post(client: httpx.Client) -> tuple[int, bool]:
        answer = client.post("/uploads", content=b"x")
        return answer.status_code, "you are sending 2 experiments already" in answer.text

    with lab.web("op") as other, ExitStack() as slow:
        for _ in range(2):
            connection = socket.create_connection((address.host, address.port), timeout=20)
            slow.enter_context(connection).sendall(head.encode())
        time.sleep(1)  # They have their turns.
        wait_until(lambda: post(web) == (507, True), "a refusal", 20)
        assert post(other) == (422, False)
    wait_until(lambda: post(web) == (422, False), "room", 20)


def test_one_has_its_turn_a_few_wait_and_the_others_are_told_at_once() -> None:
    """Each who waits holds one of the forty threads that answer everybody."""
    turns = Turns("this is done", may_wait=2, patience_seconds=1.0)

    def ask() -> str:
        try:
            with turns.take():
                return "done"
        except ConflictError as error:
            return str(error)

    with turns.take(), ThreadPoolExecutor() as pool:
        waiting = [pool.submit(ask) for _ in range(2)]
        time.sleep(0.2)
        begun = time.monotonic()
        assert [ask(), ask()] == ["this is done already; try again in a moment"] * 2
        assert time.monotonic() - begun < 0.5
        assert [one.result() for one in waiting] == ["this is done already; try again in a moment"] * 2
    assert ask() == "done"
    turns = Turns("this is done", may_wait=2, patience_seconds=10.0)
    with ThreadPoolExecutor() as pool:
        with turns.take():
            waiting = [pool.submit(ask) for _ in range(2)]
            time.sleep(0.1)
        assert [one.result() for one in waiting] == ["done", "done"]


def test_airflow_itself_takes_no_longer_text_than_a_file(lab: Lab) -> None:
    conf = {"config": "a: 1\n" + "#" * MAX_FILE_BYTES}
    with pytest.raises(httpx.HTTPStatusError) as refused:
        lab.trigger(conf)
    assert refused.value.response.status_code == 400
    assert len(refused.value.response.content) < 5 * MAX_FILE_BYTES


def test_of_many_things_that_are_wrong_the_first_are_told(web: httpx.Client) -> None:
    begun = time.monotonic()
    answer = web.post("/experiment", json={"config": "/x", **{f"unknown{n}": 1 for n in range(20_000)}})
    told = answer.json()["detail"]
    assert (answer.status_code, len(told), told[-1]["msg"]) == (422, 51, "and 19950 more: correct these first")
    assert told[0]["loc"] == ["body", "unknown0"]
    assert time.monotonic() - begun < 10


NESTED = '{"a":' * 5000 + "1" + "}" * 5000
FAULTS: list[tuple[str, str, str]] = [
    ("POST", "/experiment", '{"config": "' + "x" * (1 << 20) + 'x"}'),
    ("POST", "/experiment", '{"config": "/x", "folder": "' + "x" * 5000 + '"}'),
    ("POST", "/experiment", '{"config": "/x", "dag_id": "' + "x" * 300 + '"}'),
    ("POST", "/experiment", '{"config": "/x", "environment": {"PATH": "' + "x" * 40000 + '"}}'),
    ("POST", "/experiment", '{"config": "/x", "k' + "k" * 1_000_000 + '": 1}'),
    ("POST", "/experiment", '{"config": NaN}'),
    ("POST", "/experiment", '{"config": 1e999}'),
    ("POST", "/experiment", '{"config": ' + "9" * 5000 + "}"),
    ("POST", "/experiment", f'{{"config": {NESTED}, "x": 1}}'),
    ("POST", f"{BASE}/trial-jobs", NESTED),
    ("POST", f"{BASE}/trial-jobs", '{"a":' * 900 + "1" + "}" * 900),
    ("POST", f"{BASE}/trial-jobs", '{"x": NaN}'),
    ("POST", f"{BASE}/trial-jobs", '{"x": ' + "9" * 4400 + "}"),
    ("POST", f"{BASE}/experiment/import-data", '[{"parameter": ' + '{"a":' * 900 + "1" + "}" * 900 + ', "value": 1}]'),
    ("POST", f"{BASE}/experiment/import-data", '[{"parameter": {"x": 1}, "value": 1e999}]'),
    ("POST", f"{BASE}/experiment/import-data", '[{"parameter": {"x": 1}, "value": ' + "9" * 4000 + "}]"),
    ("PUT", f"{BASE}/experiment?update_type=MAX_EXEC_DURATION", '{"params": {"maxExecDuration": "' + "1" * 100 + '"}}'),
    ("PUT", f"{BASE}/experiment?update_type=MAX_EXEC_DURATION", '{"params": {"maxExecDuration": 1e999}}'),
    ("PUT", f"{BASE}/experiment?update_type=MAX_TRIAL_NUM", '{"params": {"maxTrialNum": ' + "9" * 4000 + "}}"),
    ("PUT", f"{BASE}/experiment?update_type=SEARCH_SPACE", f'{{"params": {{"searchSpace": {NESTED}}}}}'),
    (
        "PUT",
        f"{BASE}/experiment?update_type=SEARCH_SPACE",
        '{"params": {"searchSpace": ' + '{"a":' * 900 + "1" + "}" * 900 + "}}",
    ),
    (
        "PUT",
        f"{BASE}/experiment?update_type=SEARCH_SPACE",
        json.dumps({"params": {"searchSpace": "a: 0x" + "f" * 5000}}),
    ),
    (
        "PUT",
        f"{BASE}/experiment?update_type=SEARCH_SPACE",
        '{"params": {"searchSpace": {"x": {"_type": "uniform", "_value": [0, ' + "9" * 400 + "]}}}}",
    ),
]


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_hostile_body_gets_an_answer_and_does_not_come_back_in_it(web: httpx.Client, number: int) -> None:
    method, path, body = FAULTS[number]
    answer = web.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code in (400, 422), len(answer.content) < 10_000) == (True, True), answer.text[:300]


# ── by cookie ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def browser(lab: Lab, web: httpx.Client) -> Iterator[httpx.Client]:
    """A client that has Airflow's cookie, and no token."""
    token = web.headers["Authorization"].removeprefix("Bearer ")
    with httpx.Client(base_url=web.base_url, timeout=60, cookies={"_token": token}) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), [*WRITING, ("POST", "/uploads"), ("DELETE", BASE)])
def test_what_a_form_of_another_site_can_send_changes_nothing(
    browser: httpx.Client, method: str, path: str
) -> None:
    before = browser.get(f"{BASE}/experiment").json()
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        answer = browser.request(method, path, headers=headers)
        assert (answer.status_code, "X-Requested-With" in answer.text) == (403, True), answer.text
    after = browser.get(f"{BASE}/experiment").json()
    assert [after[key] for key in ("status", "revision")] == [before[key] for key in ("status", "revision")]


def test_a_password_that_a_browser_sends_by_itself_is_no_token(browser: httpx.Client) -> None:
    answer = browser.post(f"{BASE}/stop", headers={"Authorization": "Basic YTpi"})
    assert (answer.status_code, "X-Requested-With" in answer.text) == (403, True)


@pytest.mark.parametrize("headers", [{"X-Requested-With": "x"}, {"Content-Type": "application/json; charset=utf-8"}])
def test_a_script_of_the_same_site_acts_by_the_cookie(browser: httpx.Client, headers: dict[str, Any]) -> None:
    assert browser.post("/uploads/known", headers=headers).status_code == 422
    assert browser.get("/version").status_code == 200


def test_an_experiment_that_is_not_there_is_called_as_one_that_is_not_yours(
    lab: Lab, web: httpx.Client
) -> None:
    lab.store.create_experiment("hiddenaa", make_spec(), "/nowhere", "no_such_dag")
    said = {name: web.get(f"/experiments/{name}/check-status").json()["detail"] for name in ("nosuchaa", "a%00")}
    assert said["nosuchaa"] == "there is no experiment 'nosuchaa' that you may read"
    assert not any("sqlite" in text for text in said.values())
