"""What the tests of the DAG share: experiments for the cluster, and a look at what is there of them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.airflow.conftest import DAG_ID, Lab, Run, wait_until
from trialflow.records import JsonObject, Trial, TrialStatus
from trialflow.training.kubeflow.names import EXPERIMENT

if TYPE_CHECKING:
    from collections.abc import Collection

    from kubernetes.client import ApiClient

    from tests.cluster.cluster import Cluster, NfsShare

# Shortens what a trial waits for; nothing that goes well takes half of it.
WAITING_LIMIT_SECONDS = 75.0
# A trial that runs until the test lets it go, and then reports what it drew.
HELD = """
import os, time
import nni
params = nni.get_next_parameter()
number = nni.get_sequence_id()
while not os.path.exists("/tmp/mount/gates/%s-%d" % (os.environ["NNI_EXP_ID"], number)):
    time.sleep(0.2)
nni.report_final_result(params["x"])
"""
_JSON = {"accept": "application/json"}
_JOBS = "apis/kubeflow.org/v1/namespaces/{}"
# Everything that an experiment could leave in a cluster: path of the collection → kind.
_KINDS = {
    f"{_JOBS}/tfjobs": "TFJob",
    f"{_JOBS}/pytorchjobs": "PyTorchJob",
    "api/v1/namespaces/{}/pods": "Pod",
    "api/v1/namespaces/{}/secrets": "Secret",
    "api/v1/namespaces/{}/persistentvolumeclaims": "PersistentVolumeClaim",
}


@dataclass
class ClusterLab:
    """An Airflow, a cluster, and the storage that both see.

    Attributes:
        client: Of the cluster's administrator.
        namespace: Where Airflow's connection makes jobs.
    """

    airflow: Lab
    cluster: Cluster
    client: ApiClient
    share: NfsShare
    namespace: str

    # ── experiments ──────────────────────────────────────────────────────────────────────────────────────────

    def role(self, command: str = "python3 trial.py", **changes: Any) -> JsonObject:
        """A role of a trial that fits on the node many times."""
        small = {"replicas": 1, "gpuNum": 0, "cpuNum": 0, "memoryMB": 64, "image": self.cluster.image}
        return {**small, "command": command, **changes}

    def storage(self, operator: str = "tf-operator", **changes: Any) -> JsonObject:
        """The section kubeflowConfig."""
        nfs = {"server": self.share.server, "path": self.share.path}
        return {"operator": operator, "apiVersion": "v1", "storage": "nfs", "nfs": nfs, **changes}

    def start(self, folder: Path, code: str = HELD, *, cluster: JsonObject | None = None, **changes: Any) -> Run:
        """Trigger an experiment whose trials run ``code`` in one worker; ``changes`` replace keys of its file."""
        kubeflow = {
            "trainingServicePlatform": "kubeflow",
            "trial": {"codeDir": ".", "worker": self.role()},
            "kubeflowConfig": cluster or self.storage(),
        }
        return self.airflow.start(folder, code, **{**kubeflow, **changes})

    def release(self, run: Run, *numbers: int) -> None:
        """Let trials of `HELD` go on to their end."""
        gates = self.share.folder / "gates"
        gates.mkdir(exist_ok=True)
        for number in numbers:
            (gates / f"{run.experiment_id}-{number}").touch()

    def wait_for_running(self, run: Run, count: int, timeout_seconds: float = 120) -> list[Trial]:
        """Wait until so many trials run; gives them."""

        def running() -> list[Trial]:
            found = [trial for trial in trials(run) if trial.status is TrialStatus.RUNNING]
            return found if len(found) == count else []

        found: list[Trial] = wait_until(running, f"{count} running trials", timeout_seconds)
        return found

    # ── the cluster ──────────────────────────────────────────────────────────────────────────────────────────

    def get(self, path: str, **query: str) -> JsonObject:
        """Ask the API server for an object or a list."""
        answer = self.client.call_api(
            f"/{path}",
            "GET",
            query_params=list(query.items()),
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
        )
        found: JsonObject = json.loads(answer.data)
        return found

    def objects(self, run: Run) -> dict[str, str]:
        """What there is of an experiment in the cluster: ``kind/name`` → uid."""
        return {name: metadata["uid"] for name, metadata in self._metadata(run).items()}

    def jobs(self, run: Run) -> dict[str, str]:
        """The experiment's jobs: ``kind/name`` → uid.

        Not those that are being deleted. They stay until the garbage collector has deleted their pods, which after a
        death of the API server comes to it late.
        """
        return {
            name: metadata["uid"]
            for name, metadata in self._metadata(run, ("TFJob", "PyTorchJob")).items()
            if "deletionTimestamp" not in metadata
        }

    def _metadata(self, run: Run, kinds: Collection[str] = tuple(_KINDS.values())) -> dict[str, JsonObject]:
        return {
            f"{kind}/{item['metadata']['name']}": item["metadata"]
            for path, kind in _KINDS.items()
            if kind in kinds
            for item in self.get(
                path.format(self.namespace), labelSelector=f"{EXPERIMENT}={run.experiment_id}"
            )["items"]
        }


def trials(run: Run) -> list[Trial]:
    """The run's trials; none while its experiment is not made."""
    known = any(experiment.id == run.experiment_id for experiment in run.lab.store.list_experiments())
    return run.trials if known else []


def task_log(run: Run, task_id: str, map_index: int = -1, run_id: str = "") -> str:
    """Everything that a task has said, in all its tries."""
    path = f"dags/{DAG_ID}/dagRuns/{run_id or run.run_id}/taskInstances/{task_id}"
    named = [item for item in run.task_instances() if item["task_id"] == task_id and item["map_index"] == map_index]
    tries = range(1, 1 + max((item["try_number"] for item in named), default=0))
    query = {"map_index": map_index, "full_content": True}
    logs = []
    for number in tries:
        with suppress(httpx.HTTPStatusError):  # Airflow forgets a try that it took for dead.
            logs.append(run.lab.client.call("GET", f"{path}/logs/{number}", params=query, headers=_JSON))
    return json.dumps(logs, ensure_ascii=False)
