"""NNI's REST interface in a real API server: who may do what, what it answers, and what becomes of it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from trialflow.experiment.loading.bundle import Bundle
from trialflow.records import ExperimentStatus, Metric, MetricType, Slot, Trial, TrialStatus
from trialflow.settings import get_settings
from trialflow.staging.files import digest_file
from trialflow.testing import make_spec
from trialflow.training.local.interpreter import machine_id
from trialflow_airflow.identity import following_run_id, pool_name

from .conftest import DAG_ID, ROLES, SLOW, Lab, Run, trial_processes, wait_until, write_experiment

ID = "webaaaaa"
# method, path below the interface, body, what the roles get; without a login each gets 401
READ = {"viewer": 200, "user": 200, "op": 200, "admin": 200}
ROUTES: list[tuple[str, str, Any, dict[str, int]]] = [
    ("GET", "/version", None, READ),
    ("GET", "/openapi.json", None, READ),
    ("GET", "/machine", None, READ),
    ("GET", "/experiments", None, READ),
    ("POST", "/experiment", {"config": 7}, dict.fromkeys(ROLES, 422)),
    ("POST", "/experiment", {"config": "/none"}, {"viewer": 403, "user": 201, "op": 201, "admin": 201}),
    ("POST", "/uploads", None, {"viewer": 403, "user": 422, "op": 422, "admin": 422}),
    (
        "POST",
        "/uploads/known",
        {"config": "/etc/passwd", "digest": "0" * 64},
        {"viewer": 403, "user": 200, "op": 200, "admin": 200},
    ),
    ("GET", "/experiments-info", None, READ),
    ("GET", "{}/check-status", None, READ),
    ("GET", "{}/experiment-metadata", None, READ),
    ("GET", "{}/experiment/imported-data", None, READ),
    ("GET", "{}/trial-file/THIS/trial.log", None, dict.fromkeys(ROLES, 404)),
    ("GET", "{}/trial-file/THIS/nosuch", None, dict.fromkeys(ROLES, 422)),
    ("GET", "{}/experiment", None, READ),
    ("GET", "{}/job-statistics", None, READ),
    ("GET", "{}/trial-jobs", None, READ),
    ("GET", "{}/trial-jobs?status=WAITING", None, READ),
    ("GET", "{}/trial-jobs?status=NONE", None, dict.fromkeys(ROLES, 422)),
    ("GET", "{}/trial-jobs?limit=0", None, dict.fromkeys(ROLES, 422)),
    ("GET", "{}/trial-jobs/THIS", None, READ),
    ("GET", "{}/trial-jobs?offset=1" + 30 * "0", None, dict.fromkeys(ROLES, 422)),
    ("GET", "{}/trial-jobs/nosuch", None, dict.fromkeys(ROLES, 404)),
    ("GET", "{}/trial-jobs/nosuch%00", None, dict.fromkeys(ROLES, 422)),
    ("GET", "{}/trial-jobs/THIS/log?offset=1" + 30 * "0", None, dict.fromkeys(ROLES, 404)),
    ("GET", "/experiments/nosuch%00/check-status", None, dict.fromkeys(ROLES, 404)),
    ("GET", "{}/trial-jobs/THIS/log", None, dict.fromkeys(ROLES, 404)),
    ("GET", "{}/metric-data", None, READ),
    ("GET", "{}/metric-data?limit=1000000", None, dict.fromkeys(ROLES, 422)),
    ("GET", "{}/metric-data/THIS", None, READ),
    ("GET", "{}/metric-data-range/0/3", None, READ),
    ("GET", "{}/metric-data-latest", None, READ),
    ("GET", "{}/export-data", None, READ),
    ("GET", "{}/export-study", None, READ),
    ("GET", "{}/changes", None, READ),
    ("GET", "{}/runs", None, READ),
    (
        "PUT",
        "{}/experiment?update_type=TRIAL_CONCURRENCY",
        {"params": {"trialConcurrency": 3}},
        {"viewer": 403, "user": 200, "op": 200, "admin": 200},
    ),
    (
        "PUT",
        "{}/experiment?update_type=MAX_TRIAL_NUM",
        {"params": {"maxTrialNum": 0}},
        {"viewer": 403, "user": 422, "op": 422, "admin": 422},
    ),
    ("POST", "{}/trial-jobs", {"x": 0.75}, {"viewer": 403, "user": 200, "op": 200, "admin": 200}),
    ("POST", "{}/trial-jobs", {"y": 0.75}, {"viewer": 403, "user": 422, "op": 422, "admin": 422}),
    (
        "POST",
        "{}/experiment/import-data",
        [{"parameter": {"x": 0.25}, "value": 1}],
        {"viewer": 403, "user": 200, "op": 200, "admin": 200},
    ),
    ("POST", "{}/experiment/import-data", [{"x": 1}], {"viewer": 403, "user": 422, "op": 422, "admin": 422}),
    ("DELETE", "{}", None, {"viewer": 403, "user": 409, "op": 409, "admin": 409}),
    ("DELETE", "{}/experiment", None, {"viewer": 403, "user": 200, "op": 200, "admin": 200}),
    ("POST", "{}/stop", None, {"viewer": 403, "user": 200, "op": 200, "admin": 200}),
    ("DELETE", "{}/trial-jobs/THIS", None, {"viewer": 403, "user": 409, "op": 409, "admin": 409}),
    ("POST", "{}/resume", None, {"viewer": 403, "user": 409, "op": 409, "admin": 409}),
]


@pytest.fixture(scope="module")
def experiment(lab: Lab) -> str:
    """An experiment with a trial and metrics that no run carries; gives the trial's id."""
    lab.store.create_experiment(ID, make_spec(trial_concurrency=3, max_trial_number=9), "/nowhere", DAG_ID)
    lab.store.change_status(ID, ExperimentStatus.RUNNING, from_=[ExperimentStatus.INITIALIZED])
    trial = lab.store.claim(ID, Slot(1, 0), "run")
    assert isinstance(trial, Trial)
    lab.store.set_parameters(trial, {"x": 0.5}, 0)
    lab.store.add_metrics(trial, [Metric(MetricType.PERIODICAL, n, n / 2, 1.5) for n in range(3)])
    lab.store.add_metrics(trial, [Metric(MetricType.FINAL, 0, 0.25, 2.5)])
    return trial.id


@pytest.fixture(scope="module")
def clients(lab: Lab) -> Iterator[dict[str, httpx.Client]]:
    made = {role: lab.web(role) for role in ROLES}
    yield made
    for client in made.values():
        client.close()


def ask(client: httpx.Client, method: str, path: str, body: Any = None) -> httpx.Response:
    return client.request(method, path, json=body) if body is not None else client.request(method, path)


def test_every_route_gives_every_role_what_it_may_have(
    lab: Lab, experiment: str, clients: dict[str, httpx.Client]
) -> None:
    table: list[tuple[str, str, Any, dict[str, int]]] = [
        (method, path.format(f"/experiments/{ID}").replace("THIS", experiment), body, expected)
        for method, path, body, expected in ROUTES
    ]
    with lab.web(None) as stranger, lab.web(None) as forger:
        forger.headers["Authorization"] = "Bearer forged"
        for method, path, body, expected in table:
            assert ask(stranger, method, path, body).status_code == 401, (method, path)
            assert ask(forger, method, path, body).status_code == 403, (method, path)
            for role, status in expected.items():
                answer = ask(clients[role], method, path, body)
                assert answer.status_code == status, (method, path, role, answer.text)


def test_the_table_has_every_route_and_the_newest_experiment_has_the_same_ones(
    clients: dict[str, httpx.Client],
) -> None:
    paths = clients["viewer"].get("/openapi.json").json()["paths"]
    prefix = "/experiments/{experiment_id}"
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    covered = {
        (method, path.partition("?")[0].format(prefix).replace("THIS", "{trial_id}").replace("0/3", "{first}/{last}")
         .replace("trial.log", "{name}"))
        for method, path, _, expected in ROUTES
        if "nosuch" not in path and "openapi" not in path
    }
    named = {(method, path) for method, path in documented if path.startswith(f"{prefix}/")}
    bare = {(method, path.removeprefix(prefix)) for method, path in named}
    assert bare <= documented
    assert covered == (documented - bare) | {("POST", "/experiment")}
    assert all(operation.get("description") for methods in paths.values() for operation in methods.values())


def test_reading_answers_in_nni_s_own_words(experiment: str, clients: dict[str, httpx.Client]) -> None:
    web, base = clients["viewer"], f"/experiments/{ID}"
    assert web.get("/check-status").json()["status"] in set(ExperimentStatus)
    profile = web.get(f"{base}/experiment").json()
    assert (profile["id"], profile["nextSequenceId"]) == (ID, 1)
    assert json.loads(profile["params"]["searchSpace"]) == {"x": {"_type": "uniform", "_value": [0, 1]}}
    (job,) = web.get(f"{base}/trial-jobs").json()
    assert (job["id"], job["sequenceId"]) == (experiment, 0)
    assert json.loads(job["hyperParameters"][0])["parameters"] == {"x": 0.5}
    assert json.loads(json.loads(job["finalMetricData"][0]["data"])) == 0.25
    old = web.get(f"{base}/trial-jobs", headers={"NNI-Version": "1.3"}).json()
    assert json.loads(old[0]["finalMetricData"][0]["data"]) == 0.25
    assert web.get(f"{base}/trial-jobs", headers={"NNI-Version": "4"}).status_code == 422
    assert ID in [item["id"] for item in web.get("/experiments-info").json()]
    assert web.get(f"{base}/experiment-metadata").json()["id"] == ID
    page = web.get(f"{base}/metric-data", params={"type": "PERIODICAL", "limit": 2, "offset": 1})
    assert ([item["sequence"] for item in page.json()], page.headers["X-Total-Count"]) == ([1, 2], "3")
    latest = web.get(f"{base}/metric-data-latest").json()
    data = [(item["type"], json.loads(json.loads(item["data"]))) for item in latest]
    assert data == [("FINAL", 0.25), ("PERIODICAL", 1.0)]
    assert web.get(f"{base}/metric-data-range/1/9").json() == []
    unknown = web.get("/experiments/unknown0/check-status")
    assert (unknown.status_code, "no experiment 'unknown0'" in unknown.json()["detail"]) == (404, True)


def test_an_experiment_that_is_sent_runs_from_where_it_was_unpacked(
    lab: Lab, tmp_path: Path, clients: dict[str, httpx.Client]
) -> None:
    web = clients["user"]
    config = write_experiment(tmp_path / "sent", maxTrialNum=1)
    bundle = Bundle.of(config, get_settings())
    with io.BytesIO() as stream:
        bundle.write_to(stream)
        archive = stream.getvalue()
    body = {"config": str(config), "digest": bundle.digest}
    assert web.post("/uploads/known", json=body).json() == {"known": True, "folder": None}
    (config.parent / "trial.py").unlink()
    assert web.post("/uploads/known", json=body).json() == {"known": False, "folder": None}

    folders = {web.post("/uploads", content=archive).json()["folder"] for _ in range(2)}
    (folder,) = folders
    assert web.post("/uploads/known", json=body).json() == {"known": False, "folder": folder}
    assert clients["op"].post("/uploads/known", json=body).json() == {"known": False, "folder": None}
    on_it = {**body, "file_digest": digest_file(config, 1 << 20), "machine": machine_id()}
    assert web.post("/uploads/known", json=on_it).json()["known"]
    assert not web.post("/uploads/known", json={**on_it, "machine": "another"}).json()["known"]
    started = web.post("/experiment", json={"config": f"{folder}/config.yml"}).json()

    run = Run(lab, started["run_id"])
    assert run.wait() == "success"
    assert [trial.status for trial in run.trials] == [TrialStatus.SUCCEEDED]
    assert run.experiment.spec.code_directory == folder


def test_an_experiment_is_started_changed_stopped_and_resumed(
    lab: Lab, tmp_path: Path, clients: dict[str, httpx.Client]
) -> None:
    web = clients["user"]
    config = write_experiment(tmp_path / "web", SLOW.format(seconds=300), trialConcurrency=1, maxTrialNum=4)
    started = web.post("/experiment", json={"config": str(config)})
    assert started.status_code == 201, started.text
    run = Run(lab, started.json()["run_id"])
    base = f"/experiments/{run.experiment_id}"
    assert run.experiment_id == started.json()["experiment_id"]
    wait_until(lambda: web.get(f"{base}/trial-jobs?status=RUNNING").status_code == 200, "the experiment")
    wait_until(lambda: web.get(f"{base}/trial-jobs?status=RUNNING").json(), "a running trial")

    update = {"params": {"trialConcurrency": 2}}
    profile = web.put(f"{base}/experiment", params={"update_type": "TRIAL_CONCURRENCY"}, json=update).json()
    assert profile["params"]["trialConcurrency"] == 2
    assert lab.pools()[pool_name(run.experiment_id)]["slots"] == 2
    wait_until(lambda: len(web.get(f"{base}/trial-jobs?status=RUNNING").json()) == 2, "a second trial")
    victim = run.trials[0]
    assert web.delete(f"{base}/trial-jobs/{victim.id}").status_code == 200
    folder = run.experiment.folder
    killed_at = time.monotonic()
    wait_until(lambda: not trial_processes(f"{folder}/trials/{victim.id}"), "the trial to be gone", 30)
    killed_after = time.monotonic() - killed_at
    wait_until(lambda: sum(trial.started_at is not None for trial in run.trials) == 3, "the next trial")

    stopped_at = time.monotonic()
    assert web.post(f"{base}/stop").json()["status"] == "STOPPED"
    wait_until(lambda: not trial_processes(folder), "every trial to be gone", 30)
    stopped_after = time.monotonic() - stopped_at
    print(f"killed after {killed_after:.1f} s, stopped after {stopped_after:.1f} s")
    assert max(killed_after, stopped_after) < 10
    run.wait()
    wait_until(lambda: pool_name(run.experiment_id) not in lab.pools(), "the pool to go", 60)
    assert {trial.status for trial in run.trials} == {TrialStatus.USER_CANCELED}
    assert run.experiment.status is ExperimentStatus.STOPPED

    resumed = web.post(f"{base}/resume")
    assert (resumed.status_code, resumed.json()["run_id"]) == (200, following_run_id(run.experiment_id, 2))
    again = web.post(f"{base}/resume")
    assert (again.status_code, "goes on" in again.json()["detail"]) == (409, True)
    wait_until(lambda: web.get(f"{base}/trial-jobs?status=RUNNING").json(), "a trial of the resumed run")
    assert web.post(f"{base}/stop").status_code == 200
    wait_until(lambda: not trial_processes(folder), "every trial to be gone", 30)
    assert run.wait(resumed.json()["run_id"]) in ("success", "failed")
    changes = web.get(f"{base}/changes").json()
    whats = ["concurrency", "kill", "stop", "resume", "stop"]
    assert [(change["who"], change["what"]) for change in changes] == [("user", what) for what in whats]
    assert [change["revision"] for change in changes] == [1, 2, 3, 4, 5]

    deleted = web.delete(base)
    assert (deleted.status_code, deleted.json()["folder_deleted"]) == (200, True), deleted.text
    assert not Path(folder).exists()
    assert web.get(f"{base}/check-status").status_code == 404
