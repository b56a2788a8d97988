"""A fake of the training operator and of the nodes: it makes pods of jobs, and runs them as processes of this machine.

The pods' run scripts are the real ones. A pod's mounts become links below a folder of its own, whose name takes the
place of ``/trialflow`` in the script.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.testing.fake_cluster import JOB_NAME_LABEL, Collection, FakeCluster, now
from trialflow.training.kubeflow.manifest import POD_ROOT
from trialflow.training.kubeflow.names import REPLICA_INDEX_LABEL

if TYPE_CHECKING:
    from trialflow.records import JsonObject

_REPLICA_SPECS = {"TFJob": "tfReplicaSpecs", "PyTorchJob": "pytorchReplicaSpecs"}
_PLURALS = {"TFJob": "tfjobs", "PyTorchJob": "pytorchjobs"}
# Type of the replica that stands for the job, the first that is there.
_CHIEFS = ("Master", "Worker")
# An image of this name cannot be pulled.
MISSING_IMAGE = "missing"
_TERMINATION_SECONDS = 2.0


@dataclass
class _Pod:
    name: str
    replica_type: str
    process: subprocess.Popen[bytes] | None
    log: Path


class FakeOperator:
    """Takes up the jobs of a cluster and runs them; a context manager.

    Args:
        cluster: Its API.
        storage: The folder that stands for every NFS export and every claim.
        scratch: A folder for what belongs to pods alone.
    """

    def __init__(self, cluster: FakeCluster, storage: Path, scratch: Path) -> None:
        self._cluster = cluster
        self._storage = storage
        self._scratch = scratch
        self._pods: dict[str, list[_Pod]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        cluster.end_pod = self._end_pod

    def __enter__(self) -> FakeOperator:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()
        self._thread.join()
        for pod in [pod for pods in self._pods.values() for pod in pods]:
            _end(pod)

    def _run(self) -> None:
        while not self._stopped.is_set():
            for plural in _PLURALS.values():
                for job in self._cluster.all(plural):
                    if not job["metadata"].get("deletionTimestamp"):
                        self._reconcile(job)
            self._collect_garbage()
            with self._cluster.changed:
                self._cluster.changed.wait(0.02)

    def _collect_garbage(self) -> None:
        """Remove the pods of a job that was deleted while they were made, and end what was started for them."""
        jobs = {job["metadata"]["name"] for plural in _PLURALS.values() for job in self._cluster.all(plural)}
        for name in self._pods.keys() - jobs:
            for pod in self._pods.pop(name):
                self._cluster.remove("pods", pod.name)
                _end(pod)

    def _reconcile(self, job: JsonObject) -> None:
        name = job["metadata"]["name"]
        if not job.get("status", {}).get("conditions"):
            set_condition(self._cluster, job, "Created")
            self._pods[name] = [
                self._make_pod(job, replica_type, index)
                for replica_type, spec in job["spec"][_REPLICA_SPECS[job["kind"]]].items()
                for index in range(spec["replicas"])
            ]
            self._count(job, self._pods[name])
            if any(pod.process for pod in self._pods[name] if pod.replica_type == _chief_type(self._pods[name])):
                set_condition(self._cluster, job, "Running")
        elif not is_ended(job) and name in self._pods:
            self._judge(job, self._pods[name])

    def _judge(self, job: JsonObject, pods: list[_Pod]) -> None:
        codes = {pod.name: pod.process.poll() if pod.process else None for pod in pods}
        for pod in pods:
            code = codes[pod.name]
            if code is not None:
                self._note_exit(pod, code)
        self._count(job, pods)
        chief = next(pod for pod in pods if pod.replica_type == _chief_type(pods))
        if codes[chief.name] == 0 or any(codes.values()):
            set_condition(self._cluster, job, "Succeeded" if codes[chief.name] == 0 else "Failed")
            for pod in pods:
                if codes[pod.name] is None:
                    self._cluster.remove("pods", pod.name)

    def _count(self, job: JsonObject, pods: list[_Pod]) -> None:
        """Note in the job's status how many of its pods run and have ended."""
        counts: JsonObject = {pod.replica_type: {} for pod in pods}
        for pod in pods:
            if pod.process is not None:
                code = pod.process.poll()
                state = "active" if code is None else "succeeded" if code == 0 else "failed"
                counts[pod.replica_type][state] = counts[pod.replica_type].get(state, 0) + 1
        if job.get("status", {}).get("replicaStatuses") != counts:
            name = job["metadata"]["name"]
            self._cluster.change(
                _PLURALS[job["kind"]], name, lambda item: item["status"].update(replicaStatuses=counts)
            )

    def _note_exit(self, pod: _Pod, code: int) -> None:
        self._cluster.logs[pod.name] = pod.log.read_bytes()
        ended = {"exitCode": code if code >= 0 else 128 - code, "reason": "Completed" if code == 0 else "Error"}

        def note(item: JsonObject) -> None:
            item["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
            item["status"]["containerStatuses"][0]["state"] = {"terminated": ended}

        self._cluster.change("pods", pod.name, note)

    # ── pods ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_pod(self, job: JsonObject, replica_type: str, index: int) -> _Pod:
        template = job["spec"][_REPLICA_SPECS[job["kind"]]][replica_type]["template"]
        name = f"{job['metadata']['name']}-{replica_type.lower()}-{index}"
        labels = {
            **template["metadata"]["labels"],
            JOB_NAME_LABEL: job["metadata"]["name"],
            "training.kubeflow.org/replica-type": replica_type.lower(),
            REPLICA_INDEX_LABEL: str(index),
        }
        container = template["spec"]["containers"][0]
        root = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._scratch))
        waiting = _why_not(container, self._mount(root, template["spec"]))
        process = None if waiting else self._start(root, container, name, labels)
        state = {"waiting": waiting} if waiting else {"running": {"startedAt": now()}}
        pod = {
            "metadata": {"name": name, "labels": labels},
            "spec": template["spec"],
            "status": {
                "phase": "Pending" if waiting else "Running",
                "containerStatuses": [{"name": container["name"], "state": state}],
            },
        }
        self._cluster.put(Collection("", "v1", job["metadata"]["namespace"], "pods"), pod)
        return _Pod(name, replica_type, process, root / "log")

    def _mount(self, root: Path, spec: JsonObject) -> str:
        """Link a pod's mounts below its root; tells which one cannot be mounted."""
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in spec["containers"][0]["volumeMounts"]:
            target, source = root / mount["mountPath"].lstrip("/"), self._storage / mount.get("subPath", "")
            target.parent.mkdir(parents=True, exist_ok=True)
            if "emptyDir" in volumes[mount["name"]]:
                target.mkdir()
            elif not source.is_dir():
                return f"failed to prepare subPath for volumeMount {mount['mountPath']}"
            else:
                target.symlink_to(source)
        return ""

    def _start(
        self, root: Path, container: JsonObject, name: str, labels: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        shell, script = container["args"]
        text = (root / script.lstrip("/")).read_text().replace(POD_ROOT, f"{root}{POD_ROOT}")
        (root / "script").write_text(text)
        environment = {"PATH": os.environ["PATH"], "HOSTNAME": name, "HOME": "/nonexistent"}
        for variable in container["env"]:
            path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
            label = path.removeprefix("metadata.labels['").removesuffix("']")
            environment[variable["name"]] = labels.get(label, "") if path else variable["value"]
        with (root / "log").open("wb") as log:
            return subprocess.Popen(
                [shell, str(root / "script")],
                env=environment,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end_pod(self, pod: JsonObject) -> None:
        for known in [pod for pods in list(self._pods.values()) for pod in pods]:
            if known.name == pod["metadata"]["name"]:
                _end(known)


def _chief_type(pods: list[_Pod]) -> str:
    return next(kind for kind in _CHIEFS if any(pod.replica_type == kind for pod in pods))


def _why_not(container: JsonObject, unmounted: str) -> JsonObject:
    if container["image"] == MISSING_IMAGE:
        return {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{MISSING_IMAGE}"'}
    return {"reason": "CreateContainerConfigError", "message": unmounted} if unmounted else {}


def _end(pod: _Pod) -> None:
    """End a pod's processes as a node does: a word of warning, then by force."""
    if pod.process is None:
        return
    with suppress(ProcessLookupError):
        pod.process.terminate()
    with suppress(subprocess.TimeoutExpired):
        pod.process.wait(_TERMINATION_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(pod.process.pid, signal.SIGKILL)
    pod.process.wait()


# ── what a test scripts instead of running an operator ───────────────────────────────────────────────────────────


def set_condition(cluster: FakeCluster, job: JsonObject, kind: str, message: str = "") -> None:
    """Add a condition as the operator does; the end of a job makes ``Running`` false."""

    def change(item: JsonObject) -> None:
        conditions = item.setdefault("status", {}).setdefault("conditions", [])
        for condition in conditions:
            if condition["type"] == "Running" and kind in ("Succeeded", "Failed", "Restarting"):
                condition["status"] = "False"
        conditions[:] = [condition for condition in conditions if condition["type"] != kind]
        conditions.append({"type": kind, "status": "True", "lastTransitionTime": now(), "message": message})

    cluster.change(_PLURALS[job["kind"]], job["metadata"]["name"], change)


def is_ended(job: JsonObject) -> bool:
    """Whether a job has succeeded or failed."""
    ends = ("Succeeded", "Failed")
    return any(item["type"] in ends and item["status"] == "True" for item in job["status"]["conditions"])


def add_pod(cluster: FakeCluster, job: JsonObject, status: JsonObject, replica: str = "worker-0") -> str:
    """Add a pod of a job with a status of the test's own; gives its name."""
    name = f"{job['metadata']['name']}-{replica}"
    labels = {**job["metadata"]["labels"], JOB_NAME_LABEL: job["metadata"]["name"]}
    collection = Collection("", "v1", job["metadata"]["namespace"], "pods")
    cluster.put(collection, {"metadata": {"name": name, "labels": labels}, "status": status})
    return name


def add_warning(cluster: FakeCluster, namespace: str, involved: str, reason: str, message: str) -> None:
    """Add a warning event about an object."""
    event = {
        "metadata": {"name": f"{involved}.{time.monotonic_ns():x}"},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": now(),
        "involvedObject": {"name": involved},
    }
    cluster.put(Collection("", "v1", namespace, "events"), event)
