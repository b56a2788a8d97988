"""What an experiment says to Kubeflow, and what a job is known by there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from trialflow.records import JsonObject
from trialflow.training.base import JobHandle

GROUP = "kubeflow.org"
ROLES = ("master", "worker", "ps")


@dataclass(frozen=True)
class Operator:
    """A kind of job, and what its operator expects of it.

    Attributes:
        replica_specs: The key of ``spec`` under which the replicas stand.
        container: The name that the operator knows the main container by.
        replica_types: NNI's role → the operator's replica type.
        chief: The role whose first replica stands for the trial: its end is the job's, its metrics count.
    """

    kind: str
    plural: str
    replica_specs: str
    container: str
    replica_types: dict[str, str]
    chief: str


OPERATORS = {
    "tf-operator": Operator(
        "TFJob", "tfjobs", "tfReplicaSpecs", "tensorflow", {"worker": "Worker", "ps": "PS"}, chief="worker"
    ),
    "pytorch-operator": Operator(
        "PyTorchJob",
        "pytorchjobs",
        "pytorchReplicaSpecs",
        "pytorch",
        {"master": "Master", "worker": "Worker"},
        chief="master",
    ),
}


@dataclass(frozen=True)
class Role:
    """One role of a job; amounts of 0 ask for nothing.

    Attributes:
        name: ``worker``, ``ps`` or ``master``; the file writes it as the key of the others.
        registry_auth_path: A docker ``config.json`` with the login to the image's registry.
        pod_template: Laid over the role's pods.
    """

    name: Annotated[str, Field(exclude=True)]
    replicas: int
    command: str
    image: str
    gpus: Annotated[int, Field(alias="gpuNum")]
    cpus: Annotated[int, Field(alias="cpuNum")]
    memory_mb: Annotated[int, Field(alias="memoryMB")]
    registry_auth_path: Annotated[str | None, Field(alias="privateRegistryAuthPath")] = None
    pod_template: Annotated[JsonObject | None, Field(alias="podTemplate")] = None


@dataclass(frozen=True)
class NfsExport:
    """A folder that a server exports."""

    server: str
    path: str


@dataclass(frozen=True)
class VolumeClaim:
    """A claim, and the folder in it that is used; empty for all of it."""

    claim: str
    path: str | None = None


@dataclass(frozen=True)
class ClusterConfig:
    """The file's ``kubeflowConfig``; the rules make sure that the storage which it names is there."""

    operator: str
    storage: str
    api_version: Annotated[str, Field(alias="apiVersion")]
    namespace: str | None = None
    service_account: Annotated[str | None, Field(alias="serviceAccountName")] = None
    nfs: NfsExport | None = None
    pvc: VolumeClaim | None = None


@dataclass(frozen=True)
class Volume:
    """The storage, as a pod mounts it.

    Attributes:
        key: As it stands in TRIALFLOW_STORAGE_MOUNTS: ``server:/path`` or ``pvc:namespace/claim``.
        source: The volume's source in a pod.
        path: The folder in the volume that is used; empty for all of it.
    """

    key: str
    source: JsonObject
    path: str = ""


@dataclass(frozen=True)
class Cluster:
    """What the preflight found out, so that no later step has to.

    Attributes:
        version: The served version of the group, ``v1``.
        mount: Where the worker sees the storage (of a claim: the folder on it that is used).
    """

    version: str
    namespace: str
    mount: str


def _with_names(kept: Any) -> Any:
    """A section whose roles say what they are called."""
    if not isinstance(kept, dict):
        return kept
    named = {name: {**kept[name], "name": name} for name in ROLES if isinstance(kept.get(name), dict)}
    return {**kept, **named}


@dataclass(frozen=True)
class KubeflowSection:
    """The file's ``kubeflowConfig`` and ``trial``.

    Attributes:
        cluster: ``None`` before the preflight.
    """

    config: Annotated[ClusterConfig, Field(alias="kubeflowConfig")]
    master: Role | None = None
    worker: Role | None = None
    ps: Role | None = None
    cluster: Cluster | None = None

    @property
    def roles(self) -> tuple[Role, ...]:
        """Those that the file describes."""
        return tuple(role for role in (self.master, self.worker, self.ps) if role is not None)

    @property
    def operator(self) -> Operator:
        """The kind of job."""
        return OPERATORS[self.config.operator]

    @property
    def facts(self) -> Cluster:
        """What the preflight found out."""
        assert self.cluster is not None, "the experiment was loaded without its preflight"
        return self.cluster

    def with_facts(self, cluster: Cluster) -> KubeflowSection:
        """The same after the preflight."""
        return replace(self, cluster=cluster)

    def volume(self, namespace: str) -> Volume:
        """The storage, for pods of a namespace."""
        if self.config.pvc is not None and self.config.storage == "pvc":
            claim, path = self.config.pvc.claim, self.config.pvc.path or ""
            source: JsonObject = {"persistentVolumeClaim": {"claimName": claim}}
            return Volume(f"pvc:{namespace}/{claim}", source, path.strip("/"))
        assert self.config.nfs is not None, "the experiment was loaded without its rules"
        server, path = self.config.nfs.server, self.config.nfs.path
        return Volume(f"{server}:{path}", {"nfs": {"server": server, "path": path}})


# As the ledger keeps it.
KEPT_SECTION = Annotated[KubeflowSection, BeforeValidator(_with_names)]


@dataclass(frozen=True)
class KubeflowHandle(JobHandle):
    """A job in the cluster.

    Attributes:
        collection: The path of the API below which it stands.
        chief: The replica that stands for the trial, ``worker-0``.
        container: The name of its main container.
        memory_mb: What the role with the most asks for.
    """

    collection: str
    name: str
    namespace: str
    chief: str
    container: str
    memory_mb: int

    @property
    def path(self) -> str:
        """The path of the API at which it stands."""
        return f"{self.collection}/{self.name}"
