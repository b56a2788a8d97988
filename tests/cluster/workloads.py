"""Pods and jobs as tests write them by hand, without Trialflow."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Any

from tests.cluster.cluster import Cluster, wait_until

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, CustomObjectsApi

PATIENCE_SECONDS = 90.0
# kind → plural, the section of its spec, the name that the operator wants for the container
_KINDS = {
    "TFJob": ("tfjobs", "tfReplicaSpecs", "tensorflow"),
    "PyTorchJob": ("pytorchjobs", "pytorchReplicaSpecs", "pytorch"),
}


def pod_spec(cluster: Cluster, *command: str, container: str = "main", **more: Any) -> dict[str, Any]:
    """A pod that runs one command once."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": container, "image": cluster.image, "command": list(command)}],
        **more,
    }


def make_pod(core: CoreV1Api, namespace: str, spec: dict[str, Any]) -> str:
    """Create a pod; gives its name."""
    name = f"pod-{token_hex(3)}"
    core.create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": spec})
    return name


def run_pod(core: CoreV1Api, namespace: str, spec: dict[str, Any]) -> tuple[str, str]:
    """Run a pod to its end; gives its phase and what it printed."""
    name = make_pod(core, namespace, spec)

    def ended() -> str:
        phase: str = core.read_namespaced_pod(name, namespace).status.phase
        return phase if phase in ("Succeeded", "Failed") else ""

    phase = wait_until(ended, f"pod {name} to end", PATIENCE_SECONDS)
    return phase, read_output(core, namespace, name)


def read_output(core: CoreV1Api, namespace: str, name: str) -> str:
    """What a pod has printed; decoded here, as the client takes output that looks like JSON for just that."""
    output: str = core.read_namespaced_pod_log(name, namespace, _preload_content=False).data.decode()
    return output


def make_job(
    jobs: CustomObjectsApi, cluster: Cluster, namespace: str, kind: str, replicas: dict[str, int], *command: str
) -> str:
    """Create a job whose pods all run one command; gives its name."""
    plural, section, container = _KINDS[kind]
    name = f"job-{token_hex(3)}"
    template = {"spec": pod_spec(cluster, *command, container=container)}
    specs = {
        role: {"replicas": count, "restartPolicy": "Never", "template": template} for role, count in replicas.items()
    }
    body = {"apiVersion": "kubeflow.org/v1", "kind": kind, "metadata": {"name": name}, "spec": {section: specs}}
    jobs.create_namespaced_custom_object("kubeflow.org", "v1", namespace, plural, body)
    return name


def read_job(jobs: CustomObjectsApi, namespace: str, kind: str, name: str) -> dict[str, Any]:
    """A job as it is now."""
    plural = _KINDS[kind][0]
    job: dict[str, Any] = jobs.get_namespaced_custom_object("kubeflow.org", "v1", namespace, plural, name)
    return job


def wait_for_job(jobs: CustomObjectsApi, namespace: str, kind: str, name: str, condition: str) -> dict[str, Any]:
    """Wait until a condition of a job is true; gives the job."""

    def reached() -> dict[str, Any] | None:
        job = read_job(jobs, namespace, kind, name)
        conditions = job.get("status", {}).get("conditions", [])
        return job if (condition, "True") in {(item["type"], item["status"]) for item in conditions} else None

    job: dict[str, Any] = wait_until(reached, f"{kind} {name} to be {condition}", PATIENCE_SECONDS)
    return job


def pods_of_job(core: CoreV1Api, namespace: str, name: str) -> list[Any]:
    """The pods that the operator has made for a job."""
    label = f"training.kubeflow.org/job-name={name}"
    pods: list[Any] = core.list_namespaced_pod(namespace, label_selector=label).items
    return pods
