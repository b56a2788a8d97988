"""Airflow's own ways to stop a run, while trials run: nothing is left running, and what is left is taken up again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from trialflow.records import ExperimentStatus, TrialStatus
from trialflow.store import Adjustable
from trialflow_airflow.identity import following_run_id, pool_name

from .conftest import DAG_ID, SLOW, Lab, Run, trial_processes, wait_until

# Ten are promised, and one or two measured on a calm machine; a busy one takes its time until it starts the clean-up.
STOP_SECONDS = 20.0


def start_slow(lab: Lab, folder: Path, seconds: int = 300, **changes: int) -> Run:
    """An experiment with two running trials."""
    run = lab.start(folder, SLOW.format(seconds=seconds), **{"trialConcurrency": 2, "maxTrialNum": 6, **changes})
    wait_until(lambda: lab.pools().get(pool_name(run.experiment_id)), "the pool")
    wait_until(lambda: sum(trial.started_at is not None for trial in run.trials) == 2, "two running trials")
    return run


def mark(state: str) -> Callable[[Run], None]:
    def act(run: Run) -> None:
        run.lab.client.call("PATCH", f"dags/{DAG_ID}/dagRuns/{run.run_id}", json={"state": state})

    return act


def delete(run: Run) -> int:
    """Delete the run; gives Airflow's answer."""
    try:
        run.lab.client.call("DELETE", f"dags/{DAG_ID}/dagRuns/{run.run_id}")
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    return 204


def delete_as_soon_as_possible(run: Run) -> None:
    """Airflow deletes no run that goes on, and one that was marked goes on until its clean-up is through."""
    assert delete(run) == 409
    mark("failed")(run)
    wait_until(lambda: delete(run) in (204, 404), "the run to be deleted", 60)


def lose_and_delete(run: Run) -> None:
    """Delete a run whose clean-up never came."""
    _lose(run)
    assert delete(run) in (204, 404)


WAYS = {
    "failed": mark("failed"),
    "success": mark("success"),
    "deleted": delete_as_soon_as_possible,
    "lost": lose_and_delete,
}


@pytest.mark.parametrize("way", list(WAYS))
def test_however_a_run_is_stopped_nothing_is_left(lab: Lab, tmp_path: Path, way: str) -> None:
    run = start_slow(lab, tmp_path / way)
    folder = run.experiment.folder
    assert trial_processes(folder)

    stopped_at = time.monotonic()
    WAYS[way](run)
    wait_until(lambda: not trial_processes(folder), "the trials to be gone", STOP_SECONDS)
    taken = time.monotonic() - stopped_at

    wait_until(lambda: all(trial.reported_at for trial in run.trials), "the ledger", 60)
    wait_until(lambda: pool_name(run.experiment_id) not in lab.pools(), "the pool to go", 60)
    print(f"{way}: nothing is left after {taken:.1f} s")
    assert run.experiment.status is ExperimentStatus.STOPPED
    assert {trial.status for trial in run.trials} == {TrialStatus.USER_CANCELED}
    assert set(run.told()) == {"FAIL"}


def test_a_cleared_task_goes_on_with_the_job_that_runs(lab: Lab, tmp_path: Path) -> None:
    run = start_slow(lab, tmp_path / "cleared", seconds=20, maxTrialNum=2)
    before = trial_processes(run.experiment.folder)

    body = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": ["trial.await"], "only_running": True}
    lab.client.call("POST", f"dags/{DAG_ID}/clearTaskInstances", json=body)

    assert run.wait() == "success"
    assert before
    assert [(trial.status, trial.attempt) for trial in run.trials] == [(TrialStatus.SUCCEEDED, 1)] * 2
    assert trial_processes(run.experiment.folder) == []


def test_a_lost_run_is_resumed_and_its_trials_are_taken_up(lab: Lab, tmp_path: Path) -> None:
    run = start_slow(lab, tmp_path / "lost", seconds=40, maxTrialNum=2)
    before = trial_processes(run.experiment.folder)
    _lose(run)
    with lab.web("user") as web:
        resumed = web.post(f"/experiments/{run.experiment_id}/resume")
    assert resumed.status_code == 200, resumed.text

    assert set(trial_processes(run.experiment.folder)) & set(before)
    assert run.wait(resumed.json()["run_id"]) == "success"
    assert [(trial.status, trial.attempt) for trial in run.trials] == [(TrialStatus.SUCCEEDED, 1)] * 2
    assert run.told() == ["COMPLETE"] * 2


def test_a_stop_clears_away_what_a_lost_run_has_left(lab: Lab, tmp_path: Path) -> None:
    run = start_slow(lab, tmp_path / "orphaned")
    _lose(run)
    assert trial_processes(run.experiment.folder)
    with lab.web("user") as web:
        assert web.post(f"/experiments/{run.experiment_id}/stop").json()["status"] == "STOPPED"
    wait_until(lambda: not trial_processes(run.experiment.folder), "the trials to be gone", 60)
    wait_until(lambda: pool_name(run.experiment_id) not in lab.pools(), "the pool to go", 60)


def test_an_experiment_that_is_done_goes_on_when_it_may_have_more_trials(lab: Lab, tmp_path: Path) -> None:
    run = lab.start(tmp_path / "more", maxTrialNum=2)
    assert run.wait() == "success"
    with lab.web("user") as web:
        base = f"/experiments/{run.experiment_id}"
        refused = web.post(f"{base}/resume")
        assert (refused.status_code, "nnictl update trialnum" in refused.json()["detail"]) == (409, True)
        profile = web.put(
            f"{base}/experiment", params={"update_type": "MAX_TRIAL_NUM"}, json={"params": {"maxTrialNum": 3}}
        )
        assert profile.status_code == 200, profile.text
        assert run.wait(web.post(f"{base}/resume").json()["run_id"]) == "success"
    assert [trial.status for trial in run.trials] == [TrialStatus.SUCCEEDED] * 3
    assert run.experiment.status is ExperimentStatus.DONE


def test_an_experiment_whose_next_run_was_never_made_goes_on(lab: Lab, tmp_path: Path) -> None:
    run = start_slow(lab, tmp_path / "handless", seconds=10, maxTrialNum=2)
    second = following_run_id(run.experiment_id, 2)
    wait_until(lambda: lab.store.is_passed(run.experiment_id, 1), "the claims to be through")
    with lab.store.open_change(run.experiment_id, "ann") as change:
        change.change(Adjustable.TRIAL_NUMBER, 3)
    assert lab.store.plan_batch(run.experiment_id, 2, second, 20) == 1  # Whoever planned it died here.

    assert run.wait() == "success"
    assert run.wait(second) == "success"
    assert [trial.status for trial in run.trials] == [TrialStatus.SUCCEEDED] * 3
    assert run.experiment.status is ExperimentStatus.DONE


def _lose(run: Run) -> None:
    """Let Airflow take the run for failed, with all that was to come: as after a database that was set back."""
    with sqlite3.connect(run.lab.installation.home / "airflow" / "airflow.db", timeout=60) as database:
        database.execute("UPDATE dag_run SET state = 'failed' WHERE run_id = ?", [run.run_id])
        database.execute(
            "UPDATE task_instance SET state = 'failed' WHERE run_id = ? AND state IS NOT 'success'", [run.run_id]
        )
    database.close()
