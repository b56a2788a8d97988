"""The cluster itself: that it is a real one, that its parts can be killed, and that nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from kubernetes.client import (
    AuthorizationV1Api,
    CoreV1Api,
    CustomObjectsApi,
    VersionApi,
)
from kubernetes.client.exceptions import ApiException

from tests.cluster.cluster import Cluster, NfsShare, read_role, wait_until
from tests.cluster.own import OwnCluster

PATIENCE_SECONDS = 90.0
KINDS = {"TFJob": ("tfjobs", "tfReplicaSpecs", "tensorflow"), "PyTorchJob": ("pytorchjobs", "pytorchReplicaSpecs", "pytorch")}
# Container ports that the operator expects have names of theirs.
PORT = {"TFJob": "tfjob-port", "PyTorchJob": "pytorchjob-port"}


@pytest.fixture
def core(cluster: Cluster) -> Iterator[CoreV1Api]:
    with cluster.client() as client:
        yield CoreV1Api(client)


@pytest.fixture
def jobs(cluster: Cluster) -> Iterator[CustomObjectsApi]:
    with cluster.client() as client:
        yield CustomObjectsApi(client)


def pod_spec(cluster: Cluster, *command: str, name: str = "main", **more: Any) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "containers": [{"name": name, "image": cluster.image, "command": list(command)}],
        **more,
    }


def run_pod(core: CoreV1Api, namespace: str, spec: dict[str, Any]) -> tuple[str, str]:
    """Run a pod to its end; gives its phase and what it printed."""
    name = f"pod-{token_hex(3)}"
    core.create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": spec})
    pod = wait_until(
        lambda: ended if (ended := core.read_namespaced_pod(name, namespace)).status.phase in ENDED else None,
        f"pod {name} to end",
        PATIENCE_SECONDS,
    )
    # Decoded here: the client takes output that looks like JSON or a number for just that.
    output = core.read_namespaced_pod_log(name, namespace, _preload_content=False)
    return pod.status.phase, output.data.decode()


ENDED = ("Succeeded", "Failed")


def make_job(
    jobs: CustomObjectsApi, cluster: Cluster, namespace: str, kind: str, replicas: dict[str, int], *command: str
) -> str:
    plural, section, container = KINDS[kind]
    name = f"job-{token_hex(3)}"
    template = {"spec": pod_spec(cluster, *command, name=container)}
    specs = {
        role: {"replicas": count, "restartPolicy": "Never", "template": template} for role, count in replicas.items()
    }
    body = {"apiVersion": "kubeflow.org/v1", "kind": kind, "metadata": {"name": name}, "spec": {section: specs}}
    jobs.create_namespaced_custom_object("kubeflow.org", "v1", namespace, plural, body)
    return name


def read_job(jobs: CustomObjectsApi, namespace: str, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = jobs.get_namespaced_custom_object("kubeflow.org", "v1", namespace, KINDS[kind][0], name)
    return found


def conditions(job: dict[str, Any]) -> set[str]:
    found = job.get("status", {}).get("conditions", [])
    return {condition["type"] for condition in found if condition["status"] == "True"}


def wait_for_job(jobs: CustomObjectsApi, namespace: str, kind: str, name: str, condition: str) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        job = read_job(jobs, namespace, kind, name)
        return job if condition in conditions(job) else None

    job: dict[str, Any] = wait_until(reached, f"{kind} {name} to be {condition}", PATIENCE_SECONDS)
    return job


# ── what it runs ─────────────────────────────────────────────────────────────────────────────────────────────────


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
    name = f"pod-{token_hex(3)}"
    core.create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": spec})

    def ended() -> Any:
        statuses = core.read_namespaced_pod(name, namespace).status.container_statuses or []
        return statuses[0].state.terminated if statuses else None

    state = wait_until(ended, f"pod {name} to end", PATIENCE_SECONDS)
    assert (state.reason, state.exit_code) == ("OOMKilled", 137)


@pytest.mark.parametrize(
    ("kind", "replicas"),
    [
        ("TFJob", {"Worker": 1}),
        ("TFJob", {"PS": 1, "Worker": 2}),
        ("PyTorchJob", {"Master": 1}),
        ("PyTorchJob", {"Master": 1, "Worker": 1}),
    ],
)
def test_the_operator_runs_a_job_to_success(
    cluster: Cluster, jobs: CustomObjectsApi, namespace: str, kind: str, replicas: dict[str, int]
) -> None:
    name = make_job(jobs, cluster, namespace, kind, replicas, "python3", "-c", "print('trained')")
    job = wait_for_job(jobs, namespace, kind, name, "Succeeded")
    assert {role: status.get("succeeded") for role, status in job["status"]["replicaStatuses"].items()}


@pytest.mark.parametrize("kind", ["TFJob", "PyTorchJob"])
def test_the_operator_tells_that_a_job_failed(
    cluster: Cluster, jobs: CustomObjectsApi, namespace: str, kind: str
) -> None:
    role = "Worker" if kind == "TFJob" else "Master"
    name = make_job(jobs, cluster, namespace, kind, {role: 1}, "python3", "-c", "raise SystemExit(3)")
    job = wait_for_job(jobs, namespace, kind, name, "Failed")
    assert job["status"]["replicaStatuses"][role]["failed"] == 1


def test_the_operator_refuses_a_job_that_it_could_not_run(
    cluster: Cluster, jobs: CustomObjectsApi, namespace: str
) -> None:
    body = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": {"name": "named-amiss"},
        "spec": {"tfReplicaSpecs": {"Worker": {"template": {"spec": pod_spec(cluster, "true", name="main")}}}},
    }
    with pytest.raises(ApiException, match="tensorflow") as refused:
        jobs.create_namespaced_custom_object("kubeflow.org", "v1", namespace, "tfjobs", body)
    assert refused.value.status == 403


# ── rights ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_user_has_the_rights_of_the_role_and_no_others(
    cluster: Cluster, namespace: str, user_kubeconfig: Path
) -> None:
    granted = {
        (group, resource, verb)
        for rule in read_role()["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    verbs = ("create", "get", "list", "watch", "update", "patch", "delete", "deletecollection")
    resources = {(group, resource) for group, resource, _ in granted} | {("", "pods/exec"), ("", "configmaps"), ("apps", "deployments")}
    asked = {(group, resource, verb) for group, resource in resources for verb in verbs}
    with cluster.client(user_kubeconfig) as client:
        rights = AuthorizationV1Api(client)
        allowed = {item for item in asked if _may(rights, namespace, *item)}
        elsewhere = {item for item in granted if _may(rights, "default", *item)}
    assert allowed == granted
    assert elsewhere == set()


def _may(rights: AuthorizationV1Api, namespace: str, group: str, resource: str, verb: str) -> bool:
    resource, _, part = resource.partition("/")
    question = {"namespace": namespace, "group": group, "resource": resource, "subresource": part, "verb": verb}
    answer = rights.create_self_subject_access_review({"spec": {"resourceAttributes": question}})
    return bool(answer.status.allowed)


def test_the_user_is_refused_what_the_role_lacks(cluster: Cluster, namespace: str, user_kubeconfig: Path) -> None:
    with cluster.client(user_kubeconfig) as client:
        with pytest.raises(ApiException) as refused:
            CoreV1Api(client).list_namespaced_secret(namespace)
        assert refused.value.status == 403
        with pytest.raises(ApiException) as refused:
            CoreV1Api(client).list_node()
        assert refused.value.status == 403


def test_requests_are_counted_by_user_and_object(
    cluster: Cluster, breakable: OwnCluster, namespace: str, user_kubeconfig: Path
) -> None:
    began = time.time()
    with cluster.client(user_kubeconfig) as client:
        jobs = CustomObjectsApi(client)
        name = make_job(jobs, cluster, namespace, "TFJob", {"Worker": 1}, "true")
        for _ in range(3):
            read_job(jobs, namespace, "TFJob", name)
        jobs.list_namespaced_custom_object("kubeflow.org", "v1", namespace, "tfjobs", label_selector="trial=t1")

    def seen() -> list[tuple[str, str, str, str, int]]:
        found = [item for item in breakable.requests(began, "trialflow") if item.namespace == namespace]
        return [(item.verb, item.resource, item.name, item.label_selector, item.status) for item in found]

    wait_until(lambda: len(seen()) >= 5, "the audit log", PATIENCE_SECONDS)
    assert seen() == [
        ("create", "tfjobs", name, "", 201),
        *[("get", "tfjobs", name, "", 200)] * 3,
        ("list", "tfjobs", "", "trial=t1", 200),
    ]


# ── storage ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def share(cluster: Cluster) -> NfsShare:
    share = cluster.nfs_share(f"/data/{token_hex(3)}")
    (share.folder / "code").mkdir()
    (share.folder / "code" / "trial.py").write_text("print('staged')")
    (share.folder / "trial").mkdir()
    (share.folder / "trial").chmod(0o777)
    return share


def storage_spec(cluster: Cluster, share: NfsShare, command: str) -> dict[str, Any]:
    """A pod that is not root, with the code to read and its own folder to write, both from one NFS volume."""
    mounts = [
        {"name": "storage", "mountPath": "/code", "subPath": "code", "readOnly": True},
        {"name": "storage", "mountPath": "/trial", "subPath": "trial"},
    ]
    spec = pod_spec(cluster, "sh", "-c", command)
    spec["securityContext"] = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000}
    spec["volumes"] = [{"name": "storage", "nfs": {"server": share.server, "path": share.path}}]
    spec["containers"][0]["volumeMounts"] = mounts
    spec["containers"][0]["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return spec


def test_a_pod_without_root_reads_code_and_writes_its_folder_over_nfs(
    cluster: Cluster, core: CoreV1Api, namespace: str, share: NfsShare
) -> None:
    command = "id -u; python3 /code/trial.py; echo 0.9 > /trial/metrics; touch /code/x || echo refused"
    phase, output = run_pod(core, namespace, storage_spec(cluster, share, command))
    assert phase == "Succeeded"
    lines = output.splitlines()
    assert (lines[:2], lines[-1]) == (["1000", "staged"], "refused")
    assert "Read-only file system" in lines[2]
    assert (share.folder / "trial" / "metrics").read_text() == "0.9\n"
    assert (share.folder / "trial" / "metrics").stat().st_uid == 1000
    assert not (share.folder / "code" / "x").exists()


def test_a_pod_waits_with_a_reason_when_its_nfs_server_is_unknown(
    cluster: Cluster, core: CoreV1Api, namespace: str, share: NfsShare
) -> None:
    spec = pod_spec(cluster, "true", volumes=[{"name": "storage", "nfs": {"server": "nobody.test", "path": "/x"}}])
    spec["containers"][0]["volumeMounts"] = [{"name": "storage", "mountPath": "/storage"}]
    name = f"pod-{token_hex(3)}"
    core.create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": spec})

    def reasons() -> list[str]:
        events = core.list_namespaced_event(namespace, field_selector=f"involvedObject.name={name}").items
        return [event.message for event in events if event.reason == "FailedMount"]

    messages = wait_until(reasons, "the mount to fail", PATIENCE_SECONDS)
    assert "nobody.test" in messages[0]
    core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
