"""The ``training`` section of a kubeflow experiment, read back from the store into types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trialflow.records import JsonObject

GROUP = "kubeflow.org"
# Where `Cluster` stands in the section; put there by the preflight.
CLUSTER_KEY = "cluster"


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
        name: ``worker``, ``ps`` or ``master``.
        registry_auth_path: A docker ``config.json`` with the login to the image's registry.
        pod_template: Laid over the role's pods.
    """

    name: str
    replicas: int
    command: str
    image: str
    gpus: int
    cpus: int
    memory_mb: int
    registry_auth_path: str | None = None
    pod_template: JsonObject = field(default_factory=dict)


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


@dataclass(frozen=True)
class Section:
    """The whole section.

    Attributes:
        cluster: ``None`` before the preflight.
    """

    operator: Operator
    roles: tuple[Role, ...]
    namespace: str | None
    service_account: str | None
    config: JsonObject
    cluster: Cluster | None

    @property
    def facts(self) -> Cluster:
        """What the preflight found out."""
        assert self.cluster is not None, "the experiment was loaded without its preflight"
        return self.cluster

    def volume(self, namespace: str) -> Volume:
        """The storage, for pods of a namespace."""
        if self.config.get("storage") == "pvc":
            claim, path = self.config["pvc"]["claim"], self.config["pvc"].get("path") or ""
            source = {"persistentVolumeClaim": {"claimName": claim}}
            return Volume(f"pvc:{namespace}/{claim}", source, path.strip("/"))
        server, path = self.config["nfs"]["server"], self.config["nfs"]["path"]
        return Volume(f"{server}:{path}", {"nfs": {"server": server, "path": path}})


def read_section(training: JsonObject) -> Section:
    """Read a section that has passed its check."""
    config = training["kubeflowConfig"]
    cluster = training.get(CLUSTER_KEY)
    return Section(
        operator=OPERATORS[config["operator"]],
        roles=tuple(_read_role(name, training[name]) for name in ("master", "worker", "ps") if training.get(name)),
        namespace=config.get("namespace"),
        service_account=config.get("serviceAccountName"),
        config=config,
        cluster=Cluster(**cluster) if cluster else None,
    )


def _read_role(name: str, role: dict[str, Any]) -> Role:
    return Role(
        name=name,
        replicas=role["replicas"],
        command=role["command"],
        image=role["image"],
        gpus=role["gpuNum"],
        cpus=role["cpuNum"],
        memory_mb=role["memoryMB"],
        registry_auth_path=role.get("privateRegistryAuthPath"),
        pod_template=role.get("podTemplate") or {},
    )
