"""Experiments from `airflow dags trigger` to the best trial, by pods of the real operator."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CoreV1Api, RbacAuthorizationV1Api

from tests.airflow.conftest import DAG_ID, Run, most_alive
from tests.cluster.cluster import read_role
from tests.cluster.dag.lab import ClusterLab, task_log
from tests.unit.kubeflow_lab import CONFIG, EXPORT, SERVER
from trialflow.records import ExperimentStatus, MetricType, Trial, TrialStatus

EXAMPLE = Path(__file__).parents[3] / "examples" / "02-kubeflow-tensorflow"
# Each replica says who it is; only the first one's result is the trial's.
DISTRIBUTED = """
import json, os
import nni
params = nni.get_next_parameter()
role = os.path.basename(os.environ["NNI_OUTPUT_DIR"])
print("cluster", os.environ.get("TF_CONFIG") or os.environ["WORLD_SIZE"])
for step in range(3):
    nni.report_intermediate_result(params["x"] * step)
nni.report_final_result(params["x"] if role in ("worker-0", "master-0") else -1.0)
"""
# Serves until the job ends, as a parameter server does.
SERVING = "sleep 600"


@pytest.fixture(scope="module")
def runs(lab: ClusterLab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Experiments that run side by side, which saves minutes."""
    folder = tmp_path_factory.mktemp("experiments")
    for node in lab.get("api/v1/nodes")["items"]:  # Of whose GPU no driver knows; the scheduler does.
        _offer_gpu(lab, node["metadata"]["name"])
    two = {"maxTrialNum": 2, "trialConcurrency": 2}
    parameter_server = {"codeDir": ".", "ps": lab.role(SERVING), "worker": lab.role(replicas=2)}
    master = {"codeDir": ".", "master": lab.role(), "worker": lab.role()}
    pytorch = lab.storage("pytorch-operator")
    return {
        "seed": _trigger_by_command(lab, _write_seed(lab, folder / "seed")),
        "ps": lab.start(folder / "ps", DISTRIBUTED, trial=parameter_server, **two),
        "master": lab.start(folder / "master", DISTRIBUTED, cluster=pytorch, trial=master, **two),
        "rights": lab.start(folder / "rights", cluster=lab.storage(namespace=_namespace_without(lab, "watch"))),
    }


def _namespace_without(lab: ClusterLab, verb: str) -> str:
    """A namespace in which the Role lacks a verb for jobs."""
    namespace, role = lab.cluster.make_namespace("poor"), read_role()
    for rule in role["rules"]:
        if "tfjobs" in rule["resources"]:
            rule["verbs"].remove(verb)
    RbacAuthorizationV1Api(lab.client).replace_namespaced_role(role["metadata"]["name"], namespace, role)
    return namespace


def _offer_gpu(lab: ClusterLab, node: str) -> None:
    CoreV1Api(lab.client).patch_node_status(node, {"status": {"capacity": {"nvidia.com/gpu": "1"}}})


def _write_seed(lab: ClusterLab, folder: Path) -> Path:
    """An NNI user's experiment with only server, path and image changed, and a training that is small but real."""
    folder.mkdir()
    config = CONFIG.replace(SERVER, lab.share.server).replace(EXPORT, lab.share.path)
    (folder / "config.yml").write_text(config.replace("image: python:3", f"image: {lab.cluster.image}"))
    shutil.copy(EXAMPLE / "spirals_tf.py", folder / "mnist_tf.py")
    shutil.copy(EXAMPLE / "search_space.json", folder / "search_space_tf.json")
    return folder / "config.yml"


def _trigger_by_command(lab: ClusterLab, config: Path) -> Run:
    run_id = f"by-command-{config.parent.name}"
    command = [sys.executable, "-m", "airflow", "dags", "trigger", DAG_ID, "--run-id", run_id]
    environment = lab.airflow.installation.environment()
    subprocess.run([*command, "--conf", json.dumps({"config": str(config)})], env=environment, check=True)
    return Run(lab.airflow, run_id)


def test_the_user_s_experiment_runs_to_its_best_trial(lab: ClusterLab, runs: dict[str, Run]) -> None:
    run = runs["seed"]
    assert run.wait() == "success"

    trials = run.trials
    assert [(trial.status, trial.reason, trial.attempt) for trial in trials] == [(TrialStatus.SUCCEEDED, "", 1)] * 5
    assert most_alive(trials) == 1
    for trial in trials:
        computed = _printed_accuracies(run, trial)
        assert len(computed) == 25
        reported = _reported(run, trial, MetricType.PERIODICAL)
        assert [round(value, 3) for value in reported] == computed
        assert _reported(run, trial, MetricType.FINAL) == [trial.value] == reported[-1:]
    assert run.told() == ["COMPLETE"] * 5

    best = max(trials, key=lambda trial: trial.value or 0.0)
    result = json.loads((Path(run.experiment.folder) / "result.json").read_text())
    assert (result["best"]["id"], result["best"]["value"]) == (best.id, best.value)
    assert run.experiment.status is ExperimentStatus.DONE
    assert lab.objects(run) == {}


def _printed_accuracies(run: Run, trial: Trial) -> list[float]:
    """What the trial itself said on the way."""
    return [float(value) for value in re.findall(r"accuracy ([0-9.]+)", _output(run, trial, "worker-0"))]


def _output(run: Run, trial: Trial, replica: str) -> str:
    folder = Path(run.experiment.folder) / "trials" / trial.id / str(trial.attempt)
    return (folder / "output" / replica / "stdout").read_text()


def _reported(run: Run, trial: Trial, kind: MetricType) -> list[float]:
    return [float(metric.value) for metric in run.lab.store.list_metrics(trial) if metric.type is kind]


@pytest.mark.parametrize(
    ("name", "replicas", "chief"),
    [("ps", {"ps-0", "worker-0", "worker-1"}, "worker-0"), ("master", {"master-0", "worker-0"}, "master-0")],
)
def test_a_distributed_trial_counts_by_its_chief(
    lab: ClusterLab, runs: dict[str, Run], name: str, replicas: set[str], chief: str
) -> None:
    run = runs[name]
    assert run.wait() == "success"
    assert len(run.trials) == 2
    for trial in run.trials:
        assert (trial.status, trial.reason, trial.attempt) == (TrialStatus.SUCCEEDED, "", 1)
        assert trial.value == (trial.parameters or {})["x"]
        assert _reported(run, trial, MetricType.PERIODICAL) == [trial.value * step for step in range(3)]
        folder = Path(run.experiment.folder) / "trials" / trial.id / "1" / "output"
        assert {path.name for path in folder.iterdir()} == replicas
        assert _knows_the_others(_output(run, trial, chief), name)
    assert run.told() == ["COMPLETE"] * 2
    assert lab.objects(run) == {}


def _knows_the_others(output: str, name: str) -> bool:
    """Whether the operator has told the replica of its peers."""
    told = output.partition("cluster ")[2].splitlines()[0]
    if name == "master":
        return told == "2"
    cluster: dict[str, Any] = json.loads(told)["cluster"]
    return {role: len(peers) for role, peers in cluster.items()} == {"ps": 1, "worker": 2}


def test_a_right_that_is_missing_is_named_before_the_first_pod(lab: ClusterLab, runs: dict[str, Run]) -> None:
    run = runs["rights"]
    assert run.wait() == "failed"
    load = next(item for item in run.task_instances() if item["task_id"] == "load_experiment")
    assert (load["state"], load["try_number"]) == ("failed", 1)
    assert "must be allowed to its user: watch tfjobs.kubeflow.org in namespace poor-" in task_log(
        run, "load_experiment"
    )
