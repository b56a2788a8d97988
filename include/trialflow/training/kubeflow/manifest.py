"""From experiment, trial and cluster to the job's manifest: a pure function, which most tests check."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from trialflow.training.kubeflow.names import REPLICA_INDEX_LABEL, job_labels, job_name, secret_name
from trialflow.training.kubeflow.overlay import STORAGE_VOLUME, WORK_VOLUME, merge, with_container_names
from trialflow.training.kubeflow.section import GROUP, Role, Volume

if TYPE_CHECKING:
    from trialflow.records import JsonObject
    from trialflow.training.base import JobRequest
    from trialflow.training.kubeflow.section import KubeflowSection

# What a pod sees. The code and the module `nni` are read-only, the attempt's folder is for what is handed back, and
# the work folder, which ends with the pod, is where the command runs in a copy of the code.
POD_ROOT = "/trialflow"
CODE, SDK, TRIAL, WORK = (f"{POD_ROOT}/{name}" for name in ("code", "sdk", "trial", "work"))
# The whole storage, where NNI mounted it, for data sets that lie there.
WHOLE_STORAGE = "/tmp/mount"  # noqa: S108  # the name that NNI's users have in their code
INDEX_VARIABLE = "TRIALFLOW_REPLICA_INDEX"
SDK_FOLDER_NAME = "sdk"
# A replica that is told to end has this long to write its last words; a cancelled trial holds its place until then.
_GRACE_SECONDS = 10


def make_manifest(request: JobRequest[KubeflowSection]) -> JsonObject:
    """The job of an attempt.

    Args:
        request: Its folders lie on the storage; its section has what the preflight found out.
    """
    section = request.section
    facts, operator = section.facts, section.operator
    labels = job_labels(request.experiment_id, request.trial_id, request.attempt)
    return {
        "apiVersion": f"{GROUP}/{facts.version}",
        "kind": operator.kind,
        "metadata": {
            "name": job_name(request.experiment_id, request.trial_id, request.attempt),
            "namespace": facts.namespace,
            "labels": labels,
        },
        "spec": {
            # Pods that have ended stay until the job is deleted: they tell why it failed.
            "runPolicy": {"cleanPodPolicy": "Running"},
            operator.replica_specs: {
                operator.replica_types[role.name]: _replicas(role, request, labels) for role in section.roles
            },
        },
    }


def _replicas(role: Role, request: JobRequest[KubeflowSection], labels: dict[str, str]) -> JsonObject:
    planned = _pod_template(role, request, labels)
    template = with_container_names(role.pod_template or {}, request.section.operator.container)
    return {
        "replicas": role.replicas,
        # Here, not in the pod template, where the operator overwrites it. A second run would report twice.
        "restartPolicy": "Never",
        "template": merge(planned, template),
    }


def _pod_template(role: Role, request: JobRequest[KubeflowSection], labels: dict[str, str]) -> JsonObject:
    section = request.section
    volume = section.volume(section.facts.namespace)
    spec: JsonObject = {
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "containers": [_container(role, request, volume)],
        "volumes": [{"name": STORAGE_VOLUME, **volume.source}, {"name": WORK_VOLUME, "emptyDir": {}}],
    }
    if section.config.service_account:
        spec["serviceAccountName"] = section.config.service_account
    else:
        spec["automountServiceAccountToken"] = False
    if role.registry_auth_path:
        spec["imagePullSecrets"] = [{"name": secret_name(request.experiment_id, role.name)}]
    # A mesh's proxy would outlive the trial, and the pod would never end.
    return {"metadata": {"labels": labels, "annotations": {"sidecar.istio.io/inject": "false"}}, "spec": spec}


def _container(role: Role, request: JobRequest[KubeflowSection], volume: Volume) -> JsonObject:
    index = {"fieldRef": {"fieldPath": f"metadata.labels['{REPLICA_INDEX_LABEL}']"}}
    resources = _resources(role)
    return {
        "name": request.section.operator.container,
        "image": role.image,
        # As NNI did: an entry point of the image runs first.
        "args": ["sh", f"{TRIAL}/{run_script_name(role.name)}"],
        "env": [{"name": INDEX_VARIABLE, "valueFrom": index}],
        **({"resources": {"requests": resources, "limits": resources}} if resources else {}),
        "volumeMounts": _mounts(request, volume),
    }


def run_script_name(role: str) -> str:
    """The file in the attempt's folder that a role's replicas run."""
    return f"run-{role}.sh"


def _resources(role: Role) -> dict[str, str]:
    amounts = {"cpu": role.cpus, "memory": role.memory_mb, "nvidia.com/gpu": role.gpus}
    return {name: f"{amount}Mi" if name == "memory" else str(amount) for name, amount in amounts.items() if amount > 0}


def _mounts(request: JobRequest[KubeflowSection], volume: Volume) -> list[JsonObject]:
    def sub_path(folder: PurePosixPath) -> str:
        return str(PurePosixPath(volume.path) / folder.relative_to(request.section.facts.mount))

    code = PurePosixPath(request.code_folder)
    whole: JsonObject = {"name": STORAGE_VOLUME, "mountPath": WHOLE_STORAGE, "readOnly": True}
    if volume.path:
        whole["subPath"] = volume.path
    return [
        {"name": STORAGE_VOLUME, "mountPath": CODE, "subPath": sub_path(code), "readOnly": True},
        {
            "name": STORAGE_VOLUME,
            "mountPath": SDK,
            "subPath": sub_path(code.parent / SDK_FOLDER_NAME),
            "readOnly": True,
        },
        {"name": STORAGE_VOLUME, "mountPath": TRIAL, "subPath": sub_path(PurePosixPath(request.folder))},
        whole,
        {"name": WORK_VOLUME, "mountPath": WORK},
    ]
