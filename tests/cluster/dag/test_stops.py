"""However an experiment or a trial is stopped, nothing of it stays in the cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.airflow.conftest import DAG_ID, Run, wait_until
from tests.cluster.dag.lab import ClusterLab
from trialflow.records import ExperimentStatus, TrialStatus

ALIVE = 2
CLEAN_SECONDS = 60.0
# The first trial is good; the second one is not, and would go on for ever.
ONE_GOOD_ONE_BAD = """
import time
import nni
nni.get_next_parameter()
number = nni.get_sequence_id()
for _ in range(3):
    nni.report_intermediate_result(1.0 - number)
while number:
    time.sleep(1)
nni.report_final_result(1.0)
"""
MEDIANSTOP = {"builtinAssessorName": "Medianstop", "classArgs": {"optimize_mode": "maximize"}}


def mark(state: str) -> Callable[[Run], None]:
    """Mark a run, as people do in Airflow's UI."""
    return lambda run: run.lab.client.call("PATCH", f"dags/{DAG_ID}/dagRuns/{run.run_id}", json={"state": state})


def delete(run: Run) -> None:
    """Delete a run; Airflow lets nobody delete one that goes on, so it is marked before."""
    path = f"dags/{DAG_ID}/dagRuns/{run.run_id}"
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        run.lab.client.call("DELETE", path)
    mark("failed")(run)

    def deleted() -> bool:
        try:
            run.lab.client.call("DELETE", path)
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in (httpx.codes.CONFLICT, httpx.codes.NOT_FOUND):
                raise
            return error.response.status_code == httpx.codes.NOT_FOUND
        return True

    wait_until(deleted, "the run to be deleted", CLEAN_SECONDS)


def stop(run: Run) -> None:
    """What `nnictl stop` asks for."""
    with run.lab.web("admin") as client:
        client.post(f"/experiments/{run.experiment_id}/stop").raise_for_status()


STOPS: dict[str, Callable[[Run], None]] = {
    "run marked failed": mark("failed"),
    "run marked success": mark("success"),
    "run deleted": delete,
    "nnictl stop": stop,
}
TASKS = ["task marked failed", "task cleared"]


@pytest.fixture(scope="module")
def runs(lab: ClusterLab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Experiments with two running trials each and a login for a registry, which is a secret in the cluster."""
    folder = tmp_path_factory.mktemp("stops")
    started = {name: _start(lab, folder / name.replace(" ", "-")) for name in (*STOPS, *TASKS)}
    for run in started.values():
        lab.wait_for_running(run, ALIVE, 300)
    return started


def _start(lab: ClusterLab, folder: Path) -> Run:
    folder.mkdir()
    login = folder / "login.json"
    login.write_text(json.dumps({"auths": {"registry.test": {"auth": "dTpw"}}}))
    worker = lab.role(privateRegistryAuthPath=str(login))
    return lab.start(folder, trial={"codeDir": ".", "worker": worker}, trialConcurrency=ALIVE, maxTrialNum=ALIVE)


@pytest.mark.parametrize("path", list(STOPS))
def test_a_stopped_experiment_leaves_nothing_in_the_cluster(lab: ClusterLab, runs: dict[str, Run], path: str) -> None:
    run = runs[path]
    kinds = [name.partition("/")[0] for name in lab.objects(run)]
    assert sorted(kinds) == ["Pod", "Pod", "Secret", "TFJob", "TFJob"]

    STOPS[path](run)

    wait_until(lambda: not lab.objects(run), "the experiment's objects to be gone", CLEAN_SECONDS)
    wait_until(lambda: run.experiment.status is ExperimentStatus.STOPPED, "the experiment to be stopped", CLEAN_SECONDS)
    assert [trial.status for trial in run.trials] == [TrialStatus.USER_CANCELED] * ALIVE
    assert run.told() == ["FAIL"] * ALIVE
    assert lab.objects(run) == {}


def test_the_trial_of_a_task_that_is_marked_failed_ends_and_the_others_go_on(
    lab: ClusterLab, runs: dict[str, Run]
) -> None:
    run = runs["task marked failed"]
    before = lab.jobs(run)
    first, second = run.trials
    path = f"dags/{DAG_ID}/dagRuns/{run.run_id}/taskInstances/trial.await/{first.slot.index}"

    run.lab.client.call("PATCH", path, params={"update_mask": "new_state"}, json={"new_state": "failed"})

    wait_until(lambda: len(lab.jobs(run)) == 1, "its job to be gone", CLEAN_SECONDS)
    assert lab.jobs(run).items() < before.items()
    lab.release(run, second.number)
    run.wait()
    assert [trial.status for trial in run.trials] == [TrialStatus.USER_CANCELED, TrialStatus.SUCCEEDED]
    assert lab.objects(run) == {}


def test_a_task_that_is_cleared_goes_on_with_the_same_job(lab: ClusterLab, runs: dict[str, Run]) -> None:
    run = runs["task cleared"]
    before = lab.jobs(run)
    tasks = [["trial.await", trial.slot.index] for trial in run.trials]
    body = {"dry_run": False, "only_failed": False, "dag_run_id": run.run_id, "task_ids": tasks}

    run.lab.client.call("POST", f"dags/{DAG_ID}/clearTaskInstances", json=body)

    def began_again() -> bool:
        waits = [item for item in run.task_instances() if item["task_id"] == "trial.await"]
        return all(item["try_number"] > 1 and item["state"] == "deferred" for item in waits)

    wait_until(began_again, "the tasks to wait again", CLEAN_SECONDS)
    assert lab.jobs(run) == before
    lab.release(run, *range(ALIVE))
    assert run.wait() == "success"
    assert [(trial.status, trial.attempt) for trial in run.trials] == [(TrialStatus.SUCCEEDED, 1)] * ALIVE
    assert lab.objects(run) == {}


def test_a_trial_that_the_assessor_stops_leaves_nothing(lab: ClusterLab, tmp_path: Path) -> None:
    run = lab.start(tmp_path / "bad", ONE_GOOD_ONE_BAD, assessor=MEDIANSTOP, trialConcurrency=1, maxTrialNum=2)
    assert run.wait() == "success"
    assert [trial.status for trial in run.trials] == [TrialStatus.SUCCEEDED, TrialStatus.EARLY_STOPPED]
    assert "Medianstop stopped it" in run.trials[1].reason
    assert run.told() == ["COMPLETE", "PRUNED"]
    assert lab.objects(run) == {}
