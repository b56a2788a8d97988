"""That parts of the cluster can be killed at any time, and what becomes of a running job then."""

from __future__ import annotations

import time

import pytest
from kubernetes.client import CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException

from tests.cluster.cluster import ClusterError, wait_until
from tests.cluster.own import OwnCluster
from tests.cluster.workloads import PATIENCE_SECONDS, make_job, pods_of_job, read_job, read_output, wait_for_job

# Ends when its own minute is over or, sooner, when the test makes the file.
WAITS = """
import pathlib, time
print("begun", flush=True)
deadline = time.time() + 60
while time.time() < deadline and not pathlib.Path("/storage/go").exists():
    time.sleep(0.1)
"""


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


def test_without_the_operator_jobs_are_refused(
    breakable: OwnCluster, jobs: CustomObjectsApi, namespace: str
) -> None:
    breakable.kill("operator")
    with pytest.raises(ApiException, match="failed calling webhook") as refused:
        start_job(breakable, jobs, namespace)
    assert refused.value.status == 500


def test_a_pod_waits_with_a_reason_when_no_node_has_room(
    breakable: OwnCluster, jobs: CustomObjectsApi, core: CoreV1Api, namespace: str
) -> None:
    spec = {"containers": [{"name": "main", "image": breakable.image, "resources": {"requests": {"cpu": "1000"}}}]}
    core.create_namespaced_pod(namespace, {"metadata": {"name": "huge"}, "spec": spec})

    def reason() -> str:
        conditions = core.read_namespaced_pod("huge", namespace).status.conditions or []
        return next((item.message for item in conditions if item.reason == "Unschedulable"), "")

    assert "Insufficient cpu" in wait_until(reason, "the scheduler's answer", PATIENCE_SECONDS)
    core.delete_namespaced_pod("huge", namespace)


def test_the_pod_of_a_lost_node_is_deleted(
    breakable: OwnCluster, jobs: CustomObjectsApi, core: CoreV1Api, namespace: str
) -> None:
    node = breakable.add_node()
    spec = {
        "nodeName": node,
        "containers": [{"name": "main", "image": breakable.image, "command": ["sleep", "300"]}],
    }
    core.create_namespaced_pod(namespace, {"metadata": {"name": "lost"}, "spec": spec})
    wait_until(
        lambda: core.read_namespaced_pod("lost", namespace).status.phase == "Running", "the pod to run", PATIENCE_SECONDS
    )
    began = time.monotonic()
    breakable.lose_node(node)

    def deleted() -> bool:
        return core.read_namespaced_pod("lost", namespace).metadata.deletion_timestamp is not None

    wait_until(deleted, "the pod to be deleted", PATIENCE_SECONDS)
    assert time.monotonic() - began < 60
    breakable.start_node(node)
    breakable.wait_ready()
