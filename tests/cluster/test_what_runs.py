"""That the cluster is a real one: pods, limits, names, and the jobs of the real operator."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException

from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.workloads import (
    PATIENCE_SECONDS,
    make_job,
    make_pod,
    pod_spec,
    read_output,
    run_pod,
    wait_for_job,
)

# Each asks the other role's pod, by the address that the operator gave it, for a word.
TALKS = {
    "TFJob": """
import json, os
config = json.loads(os.environ["TF_CONFIG"])
serves, (host, port) = config["task"]["type"] == "ps", config["cluster"]["ps"][0].split(":")
""",
    "PyTorchJob": """
import os
serves, host, port = os.environ["RANK"] == "0", os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
""",
}
TALK = """
import socket, time
if serves:
    listener = socket.create_server(("0.0.0.0", int(port)))
    for _ in range({clients}):
        listener.accept()[0].sendall(b"weights")
else:
    for _ in range(200):
        try:
            print(socket.create_connection((host, int(port)), 5).recv(99).decode())
            break
        except OSError:
            time.sleep(0.1)
    else:
        raise SystemExit("nobody answered")
"""


def test_a_node_is_ready(core: CoreV1Api) -> None:
    ready = {
        node.metadata.name: condition.status
        for node in core.list_node().items
        for condition in node.status.conditions
        if condition.type == "Ready"
    }
    assert ready
    assert set(ready.values()) == {"True"}


def test_a_pod_runs_to_its_end_and_its_output_can_be_read(cluster: Cluster, core: CoreV1Api, namespace: str) -> None:
    phase, output = run_pod(core, namespace, pod_spec(cluster, "python3", "-c", "print(6 * 7)"))
    assert (phase, output) == ("Succeeded", "42\n")


def test_a_container_that_takes_too_much_memory_is_killed(cluster: Cluster, core: CoreV1Api, namespace: str) -> None:
    spec = pod_spec(cluster, "python3", "-c", "x = bytearray(1 << 28); print(len(x))")
    spec["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    state = _wait_for_state(core, namespace, make_pod(core, namespace, spec), "terminated")
    assert (state.reason, state.exit_code) == ("OOMKilled", 137)


def test_a_pod_waits_with_a_reason_when_its_image_is_nowhere(cluster: Cluster, core: CoreV1Api, namespace: str) -> None:
    spec = pod_spec(cluster, "true")
    spec["containers"][0]["image"] = "trialflow.test/nowhere:1"
    name = make_pod(core, namespace, spec)
    assert _wait_for_state(core, namespace, name, "waiting", "ErrImagePull").message
    core.delete_namespaced_pod(name, namespace)


def _wait_for_state(core: CoreV1Api, namespace: str, name: str, state: str, reason: str = "") -> Any:
    def reached() -> Any:
        statuses = core.read_namespaced_pod(name, namespace).status.container_statuses or []
        found = getattr(statuses[0].state, state) if statuses else None
        return found if found and reason in ("", found.reason) else None

    return wait_until(reached, f"pod {name} to be {state} {reason}", PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("kind", "role", "replicas"),
    [
        ("TFJob", "Worker", {"Worker": 1}),
        ("PyTorchJob", "Master", {"Master": 1}),
    ],
)
def test_the_operator_runs_a_job_to_success(
    cluster: Cluster, jobs: CustomObjectsApi, namespace: str, kind: str, role: str, replicas: dict[str, int]
) -> None:
    name = make_job(jobs, cluster, namespace, kind, replicas, "python3", "-c", "print('trained')")
    job = wait_for_job(jobs, namespace, kind, name, "Succeeded")
    assert job["status"]["replicaStatuses"][role]["succeeded"] == 1


@pytest.mark.parametrize(
    ("kind", "replicas", "listener"),
    [
        ("TFJob", {"PS": 1, "Worker": 2}, "worker-1"),
        ("PyTorchJob", {"Master": 1, "Worker": 1}, "worker-0"),
    ],
)
def test_the_pods_of_a_job_find_each_other_by_name(
    cluster: Cluster,
    jobs: CustomObjectsApi,
    core: CoreV1Api,
    namespace: str,
    kind: str,
    replicas: dict[str, int],
    listener: str,
) -> None:
    code = TALKS[kind] + TALK.format(clients=replicas["Worker"])
    name = make_job(jobs, cluster, namespace, kind, replicas, "python3", "-c", code)
    wait_for_job(jobs, namespace, kind, name, "Succeeded")

    def output() -> str:
        return read_output(core, namespace, f"{name}-{listener}")

    assert wait_until(output, "the pod's output", PATIENCE_SECONDS) == "weights\n"


@pytest.mark.parametrize(("kind", "role"), [("TFJob", "Worker"), ("PyTorchJob", "Master")])
def test_the_operator_tells_that_a_job_has_failed(
    cluster: Cluster, jobs: CustomObjectsApi, namespace: str, kind: str, role: str
) -> None:
    name = make_job(jobs, cluster, namespace, kind, {role: 1}, "python3", "-c", "raise SystemExit(3)")
    job = wait_for_job(jobs, namespace, kind, name, "Failed")
    assert job["status"]["replicaStatuses"][role]["failed"] == 1


def test_the_operator_refuses_a_job_that_it_could_not_run(
    cluster: Cluster, jobs: CustomObjectsApi, namespace: str
) -> None:
    worker = {"template": {"spec": pod_spec(cluster, "true", container="misnamed")}}
    body = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": {"name": "refused"},
        "spec": {"tfReplicaSpecs": {"Worker": worker}},
    }
    with pytest.raises(ApiException, match="tensorflow") as refused:
        jobs.create_namespaced_custom_object("kubeflow.org", "v1", namespace, "tfjobs", body)
    assert refused.value.status == 403
