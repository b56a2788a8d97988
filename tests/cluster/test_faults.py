"""That parts of the cluster can be killed at any time, and what becomes of a running job then."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException

from tests.cluster.cluster import ClusterError, wait_until
from tests.cluster.own import OwnCluster
from tests.cluster.workloads import (
    PATIENCE_SECONDS,
    make_job,
    make_pod,
    pod_spec,
    pods_of_job,
    read_job,
    run_pod,
    wait_for_job,
)


def start_job(cluster: OwnCluster, jobs: CustomObjectsApi, namespace: str) -> str:
    return make_job(jobs, cluster, namespace, "TFJob", {"Worker": 1}, "python3", "-c", "import time; time.sleep(6)")


@pytest.mark.parametrize(
    "part", ["apiserver", "operator", "controller-manager", "scheduler", "etcd", "kubelet-node1", "containerd-node1"]
)
def test_a_running_job_survives_the_death_of_a_part(
    breakable: OwnCluster, jobs: CustomObjectsApi, core: CoreV1Api, namespace: str, part: str
) -> None:
    name = start_job(breakable, jobs, namespace)
    before = wait_for_job(jobs, namespace, "TFJob", name, "Running")
    (pod,) = pods_of_job(core, namespace, name)

    breakable.kill(part)
    breakable.start(part)
    breakable.wait_ready()

    assert read_job(jobs, namespace, "TFJob", name)["metadata"]["uid"] == before["metadata"]["uid"]
    wait_for_job(jobs, namespace, "TFJob", name, "Succeeded")
    (after,) = pods_of_job(core, namespace, name)
    assert after.metadata.uid == pod.metadata.uid


def test_a_part_that_is_dead_is_told_by_its_name(breakable: OwnCluster) -> None:
    breakable.kill("scheduler")
    with pytest.raises(ClusterError, match="scheduler must run"):
        breakable.wait_ready()


def test_without_the_operator_jobs_are_refused(breakable: OwnCluster, jobs: CustomObjectsApi, namespace: str) -> None:
    breakable.kill("operator")
    with pytest.raises(ApiException, match="failed calling webhook") as refused:
        start_job(breakable, jobs, namespace)
    assert refused.value.status == 500


def test_a_job_that_is_older_than_the_operator_is_picked_up(
    breakable: OwnCluster, jobs: CustomObjectsApi, namespace: str
) -> None:
    name = start_job(breakable, jobs, namespace)
    breakable.kill("operator")
    breakable.start("operator")
    wait_for_job(jobs, namespace, "TFJob", name, "Succeeded")


def test_a_pod_waits_with_a_reason_when_no_node_has_room(
    breakable: OwnCluster, core: CoreV1Api, namespace: str
) -> None:
    spec = pod_spec(breakable, "true")
    spec["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}
    name = make_pod(core, namespace, spec)

    assert "Insufficient cpu" in wait_until(
        lambda: unschedulable(core, namespace, name), "the scheduler's answer", PATIENCE_SECONDS
    )
    core.delete_namespaced_pod(name, namespace)


def test_a_pod_that_needs_a_gpu_waits_until_a_node_offers_one(
    breakable: OwnCluster, core: CoreV1Api, namespace: str
) -> None:
    spec = pod_spec(breakable, "true")
    spec["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    name = make_pod(core, namespace, spec)
    assert "Insufficient nvidia.com/gpu" in wait_until(
        lambda: unschedulable(core, namespace, name), "the scheduler's answer", PATIENCE_SECONDS
    )
    breakable.offer("nvidia.com/gpu", 1)
    wait_until(
        lambda: core.read_namespaced_pod(name, namespace).status.phase == "Succeeded",
        "the pod to run",
        PATIENCE_SECONDS,
    )
    breakable.offer("nvidia.com/gpu", 0)


def unschedulable(core: CoreV1Api, namespace: str, name: str) -> str:
    """Why the scheduler finds no node for a pod; empty while it has not said so."""
    conditions = core.read_namespaced_pod(name, namespace).status.conditions or []
    return next((item.message for item in conditions if item.reason == "Unschedulable"), "")


def test_the_pod_of_a_lost_node_is_given_up(breakable: OwnCluster, core: CoreV1Api, namespace: str) -> None:
    node = breakable.second_node()
    name = make_pod(core, namespace, pod_spec(breakable, "sleep", "300", nodeName=node))

    def pod() -> Any:
        return core.read_namespaced_pod(name, namespace)

    wait_until(lambda: pod().status.phase == "Running", "the pod to run", PATIENCE_SECONDS)
    breakable.lose_node(node)
    lost = wait_until(lambda: given_up(pod()), "the pod to be given up", PATIENCE_SECONDS)
    assert lost.status.phase == "Running"  # Nobody is there to say otherwise.

    breakable.start_node(node)
    breakable.wait_ready()
    wait_until(
        lambda: not core.list_namespaced_pod(namespace, field_selector=f"metadata.name={name}").items,
        "the pod to be gone",
        PATIENCE_SECONDS,
    )


def given_up(pod: Any) -> Any:
    """The pod, when it is being deleted because its node does not answer."""
    reasons = {item.reason for item in pod.status.conditions}
    return pod if pod.metadata.deletion_timestamp and "DeletionByTaintManager" in reasons else None


def test_a_second_node_runs_pods_that_reach_those_of_the_first(
    breakable: OwnCluster, core: CoreV1Api, namespace: str
) -> None:
    second = breakable.second_node()
    serve = "import socket; socket.create_server(('0.0.0.0', 2222)).accept()[0].sendall(b'weights')"
    server = make_pod(core, namespace, pod_spec(breakable, "python3", "-c", serve, nodeName="node1"))
    address = wait_until(
        lambda: core.read_namespaced_pod(server, namespace).status.pod_ip, "the pod's address", PATIENCE_SECONDS
    )
    ask = f"import socket; print(socket.create_connection(('{address}', 2222), 10).recv(99).decode())"
    assert run_pod(core, namespace, pod_spec(breakable, "python3", "-c", ask, nodeName=second)) == (
        "Succeeded",
        "weights\n",
    )
