from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from trialflow.records import ExperimentStatus, TrialStatus
from trialflow_airflow.identity import following_run_id, pool_name

from .conftest import DAG_ID, RETRAINED, SLOW, Lab, Run, most_alive, trial_processes, wait_until, write_experiment

if TYPE_CHECKING:
    pass

# One trial per way to go wrong, chosen by the trial's number.
WAYS_TO_FAIL = """
import os, sys
import nni
nni.get_next_parameter()
number = nni.get_sequence_id()
if number == 0:
    nni.report_final_result(0.5)
elif number == 1:
    print("this is the last line", file=sys.stderr); sys.exit(1)
elif number == 2:
    sys.stdout.buffer.write(bytes(range(256)) * 40); nni.report_final_result(0.25)
elif number == 3:
    nni.report_final_result(float("nan"))
elif number == 4:
    nni.report_final_result("good")
elif number == 5:
    nni.report_final_result({"accuracy": 0.9})
elif number == 6:
    nni.report_final_result(0.1); nni.report_final_result(0.2)
elif number == 8:
    nni.report_final_result(0.75)
    with open(os.path.join(os.environ["NNI_SYS_DIR"], ".nni", "metrics"), "ab") as file:
        file.write(b'ME000098{"parameter_id": 8, "trial_jo')
"""
EXPECTED: list[tuple[str, float | None, str]] = [
    ("SUCCEEDED", 0.5, ""),
    ("FAILED", None, "exit code 1"),
    ("SUCCEEDED", 0.25, ""),
    ("SUCCEEDED", None, "nan"),
    ("SUCCEEDED", None, "text"),
    ("SUCCEEDED", None, "'default'"),
    ("SUCCEEDED", 0.1, "first counts"),
    ("SUCCEEDED", None, "no final metric"),
    ("SUCCEEDED", 0.75, "cut off"),
]
# In NNI's v2 format, with annotations: the first trial never ends, the second one reaches the goal.
ANNOTATED = """
import time
import nni
'@nni.variable(nni.uniform(2, 3), name=x)'
x = 0
if nni.get_sequence_id() == 0:
    time.sleep(600)
'@nni.report_final_result(x)'
"""
WITH_A_GOAL = {
    "experimentName": "goal",
    "trialCommand": "python3 trial.py",
    "trialConcurrency": 2,
    "maxTrialNumber": 20,
    "useAnnotation": True,
    "goal": 2.0,
    "tuner": {"name": "TPE", "classArgs": {"optimize_mode": "maximize"}},
    "trainingService": {"platform": "local"},
}


@pytest.fixture(scope="session")
def runs(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Experiments that run side by side, which saves minutes."""
    folder = tmp_path_factory.mktemp("experiments")
    no_command = {"command": "no-such-program --fast", "codeDir": ".", "gpuNum": 0}
    overdue = {"maxExecDuration": "4s", "trialConcurrency": 2, "maxTrialNum": 10}
    write_experiment(folder / "goal", ANNOTATED)
    lab.client.wait_for_dag("retrain")
    wrong = {"trialConcurrency": 0, "maxTrialNum": "many", "tuner": {"builtinTunerName": "Tea"}}
    return {
        "whole": lab.start(folder / "whole", trialConcurrency=3, maxTrialNum=6),
        "sequential": lab.start(folder / "sequential", trialConcurrency=1, maxTrialNum=4),
        "failing": lab.start(folder / "failing", WAYS_TO_FAIL, trialConcurrency=3, maxTrialNum=len(EXPECTED)),
        "not found": lab.start(folder / "not-found", trial=no_command, maxTrialNum=2),
        "overdue": lab.start(folder / "overdue", SLOW.format(seconds=6), **overdue),
        "goal": lab.trigger({"config": WITH_A_GOAL, "folder": str(folder / "goal")}),
        "bad": lab.start(folder / "bad", **wrong),
    }


def test_an_experiment_runs_to_its_results(lab: Lab, runs: dict[str, Run]) -> None:
    run = runs["whole"]
    name = pool_name(run.experiment_id)

    pool = wait_until(lambda: lab.pools().get(name), "the pool")
    assert (pool["slots"], pool["include_deferred"]) == (3, True)
    assert run.wait() == "success"

    trials = run.trials
    assert [trial.status for trial in trials] == [TrialStatus.SUCCEEDED] * 6
    assert most_alive(trials) <= 3
    assert run.told() == ["COMPLETE"] * 6
    assert run.experiment.status is ExperimentStatus.DONE
    assert name not in lab.pools()

    folder = Path(run.experiment.folder)
    best = min(trials, key=lambda trial: trial.value or 0.0)
    result = json.loads((folder / "result.json").read_text())
    assert result["best"]["id"] == best.id
    with (folder / "trials.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == [trial.id for trial in trials]
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")
    assert trial_processes(str(folder)) == []

    path = f"dags/nni_experiment/dagRuns/{run.run_id}/taskInstances/finish/xcomEntries/return_value"
    assert lab.client.call("GET", path, params={"deserialize": True})["value"]["best"]["id"] == best.id
    events = lab.client.call("GET", "assets/events", params={"order_by": "-timestamp", "limit": 50})["asset_events"]
    mine = [event for event in events if event["uri"] == "trialflow://experiment/whole"]
    assert mine[0]["extra"]["best"]["id"] == best.id
    wait_until(lambda: lab.dag_runs("retrain", "success"), "the DAG that waits for the asset")
    assert (lab.installation.home / RETRAINED).read_text() == repr(best.parameters)

    instances = run.task_instances()
    labels = {item["rendered_map_index"] for item in instances if item["task_id"] == "trial.report"}
    assert labels == {f"{trial.label} → {trial.value:.6g}" for trial in trials}
    pools = {item["task_id"]: item["pool"] for item in instances}
    assert (pools["trial.submit"], pools["trial.await"], pools["trial.suggest"]) == (name, name, "default_pool")


def test_with_concurrency_1_every_suggestion_knows_every_result(runs: dict[str, Run]) -> None:
    run = runs["sequential"]
    assert run.wait() == "success"
    trials = run.trials
    for earlier, later in itertools.pairwise(trials):
        assert earlier.reported_at is not None
        assert earlier.reported_at <= later.claimed_at


def test_what_trials_do_wrong_is_named_and_the_experiment_goes_on(runs: dict[str, Run]) -> None:
    run = runs["failing"]
    assert run.wait() == "success"
    for trial, (status, value, reason) in zip(run.trials, EXPECTED, strict=True):
        assert (trial.status.value, trial.value) == (status, value), trial
        assert reason in trial.reason
    assert "this is the last line" in run.trials[1].reason
    assert sorted(run.told()) == ["COMPLETE"] * 4 + ["FAIL"] * 5
    states = {item["map_index"]: item["state"] for item in run.task_instances() if item["task_id"] == "trial.report"}
    assert [index for index, state in states.items() if state == "failed"] == [run.trials[1].slot.index]


def test_a_command_that_is_not_found_fails_its_trials(lab: Lab, runs: dict[str, Run]) -> None:
    run = runs["not found"]
    assert run.wait() == "success"
    assert [trial.exit_code for trial in run.trials] == [127, 127]
    assert all("not found" in trial.reason for trial in run.trials)
    assert run.experiment.status is ExperimentStatus.DONE
    events = lab.client.call("GET", "assets/events", params={"limit": 50})["asset_events"]
    assert [event for event in events if event["uri"] == "trialflow://experiment/not-found"] == []


def test_no_trial_starts_after_the_duration_and_running_ones_finish(runs: dict[str, Run]) -> None:
    run = runs["overdue"]
    assert run.wait() == "success"
    experiment, trials = run.experiment, run.trials
    assert 1 <= len(trials) < 10
    assert {trial.status for trial in trials} == {TrialStatus.SUCCEEDED}
    assert experiment.started_at is not None
    deadline = experiment.started_at + 4
    assert all(trial.claimed_at < deadline < (trial.ended_at or 0) for trial in trials)
    assert experiment.status is ExperimentStatus.DONE


def test_a_bad_experiment_is_refused_at_once_with_everything_that_is_wrong(lab: Lab, runs: dict[str, Run]) -> None:
    run = runs["bad"]
    assert run.wait() == "failed"
    tasks = {item["task_id"]: (item["state"], item["try_number"]) for item in run.task_instances()}
    assert (tasks["load_experiment"], tasks["finish"]) == (("failed", 1), ("failed", 1))
    assert (tasks["next_batch"], tasks["cleanup"]) == (("skipped", 1), ("skipped", 1))
    assert {task for task, (state, _) in tasks.items() if state == "failed"} == {"load_experiment", "finish"}
    path = f"dags/nni_experiment/dagRuns/{run.run_id}/taskInstances/load_experiment/logs/1"
    log = json.dumps(lab.client.call("GET", path, headers={"accept": "application/json"}))
    for field in ("trialConcurrency", "maxTrialNum", "builtinTunerName"):
        assert field in log
    assert pool_name(run.experiment_id) not in lab.pools()


def test_a_run_that_is_marked_failed_leaves_nothing_running(lab: Lab, tmp_path: Path) -> None:
    run = lab.start(tmp_path / "stopped", SLOW.format(seconds=120), trialConcurrency=2, maxTrialNum=6)
    wait_until(lambda: lab.pools().get(pool_name(run.experiment_id)), "the pool")
    folder = run.experiment.folder
    wait_until(lambda: len({trial.started_at for trial in run.trials} - {None}) == 2, "two running trials")

    lab.client.call("PATCH", f"dags/nni_experiment/dagRuns/{run.run_id}", json={"state": "failed"})
    wait_until(lambda: pool_name(run.experiment_id) not in lab.pools(), "the clean-up", 60)

    assert trial_processes(folder) == []
    assert run.experiment.status is ExperimentStatus.STOPPED
    assert {trial.status for trial in run.trials} == {TrialStatus.USER_CANCELED}
    assert set(run.told()) == {"FAIL"}


def test_batches_roll_on_while_a_slow_trial_of_the_first_one_runs(lab: Lab, tmp_path: Path) -> None:
    gate = tmp_path / "open"
    code = f"""
import os, time
import nni
params = nni.get_next_parameter()
while nni.get_sequence_id() == 3 and not os.path.exists({str(gate)!r}):
    time.sleep(0.1)
nni.report_final_result(params["x"])
"""
    run = lab.start(tmp_path / "rolling", code, trialConcurrency=8, maxTrialNum=60)
    third = following_run_id(run.experiment_id, 3)
    wait_until(lambda: sum(t.slot.batch == 3 and t.reported_at is not None for t in run.trials) >= 5, "batch 3", 240)
    slow = run.trials[3]
    assert slow.slot.batch == 1
    assert slow.ended_at is None
    gate.touch()
    wait_until(lambda: run.experiment.status.is_final, "the experiment to end")
    wait_until(lambda: run.state(third) == "success" and run.state() == "success", "both runs to end")

    trials = run.trials
    assert [trial.number for trial in trials] == list(range(60))
    assert {trial.status for trial in trials} == {TrialStatus.SUCCEEDED}
    assert {trial.slot.batch for trial in trials} == {1, 2, 3}
    assert most_alive(trials) <= 8
    assert run.told() == ["COMPLETE"] * 60
    wait_until(lambda: pool_name(run.experiment_id) not in lab.pools(), "the pool to go", 60)


def test_what_is_no_experiment_is_refused_when_it_is_triggered(lab: Lab) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        lab.trigger({"config": 7})
    assert caught.value.response.status_code == httpx.codes.BAD_REQUEST


def test_a_run_without_an_experiment_fails_and_says_what_to_write(lab: Lab) -> None:
    run = lab.trigger({})
    assert run.wait() == "failed"
    (task,) = [task for task in run.task_instances() if task["task_id"] == "load_experiment"]
    path = f"dags/{DAG_ID}/dagRuns/{run.run_id}/taskInstances/load_experiment/logs/{task['try_number']}"
    assert (task["state"], task["try_number"]) == ("failed", 1)
    assert "must be the path of an experiment file, its text, or an object" in str(lab.client.call("GET", path))


def test_the_form_takes_a_path_or_a_pasted_file_in_a_field_of_several_lines_and_explains_it(lab: Lab) -> None:
    params = lab.client.call("GET", f"dags/{DAG_ID}/details")["params"]

    assert list(params) == ["config", "folder"]
    assert params["config"]["schema"]["format"] == "multiline"
    assert params["config"]["schema"]["type"] == ["null", "string", "object"]
    assert all(param["schema"]["title"] and param["schema"]["description_md"] for param in params.values())


def test_the_configuration_of_a_run_may_be_the_bare_experiment(lab: Lab, tmp_path: Path) -> None:
    file = write_experiment(tmp_path / "bare", maxTrialNum=1)
    experiment = json.loads(file.read_text())
    experiment["searchSpacePath"] = str(file.with_name("search_space.json"))
    experiment["trial"]["codeDir"] = str(file.parent)
    run = lab.trigger(experiment)
    assert run.wait() == "success"
    assert (run.experiment.spec.name, len(run.trials)) == ("bare", 1)


def test_a_sweep_is_a_scheduled_dag_that_starts_paused(lab: Lab) -> None:
    wait_until(lambda: lab.client.call("GET", "dags", params={"tags": "sweep"})["dags"], "the sweep's DAG", 90)
    (sweep,) = lab.client.call("GET", "dags", params={"tags": "sweep"})["dags"]
    assert (sweep["dag_id"], sweep["is_paused"]) == ("nni_sweep__digits_nightly", True)
    assert sweep["timetable_summary"] == "30 2 * * *"


def test_the_airflow_command_triggers_an_experiment_given_as_an_object(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "command"
    config = json.loads(write_experiment(folder, maxTrialNum=1).read_text())
    conf = {"config": config, "folder": str(folder)}
    run_id = f"by-command-{time.time_ns()}"
    command = [sys.executable, "-m", "airflow", "dags", "trigger", "nni_experiment", "--run-id", run_id]
    done = subprocess.run(
        [*command, "--conf", json.dumps(conf)],
        env=lab.installation.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    run = Run(lab, run_id)
    assert run.wait() == "success"
    assert [trial.status for trial in run.trials] == [TrialStatus.SUCCEEDED]


def test_an_annotated_v2_experiment_ends_at_its_goal(runs: dict[str, Run]) -> None:
    run = runs["goal"]

    assert run.wait() == "success"

    hanging, good, *more = run.trials
    assert [trial.status for trial in more] in ([], [TrialStatus.SYS_CANCELED])
    assert (hanging.status, good.status) == (TrialStatus.SYS_CANCELED, TrialStatus.SUCCEEDED)
    assert good.value == (good.parameters or {})["trial/x/uniform"]
    assert run.experiment.status is ExperimentStatus.DONE
    assert run.experiment.status_reason.startswith(f"trial #1 {good.id} reached the goal of 2 with 2.")
    assert trial_processes(run.experiment.folder) == []
