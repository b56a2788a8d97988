"""What a test may ask of a cluster, whoever runs it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

ROLE_FILE = Path(__file__).resolve().parents[2] / "deploy" / "role.yaml"
# The one who submits trials: no rights but those of the Role of deploy/role.yaml.
TRIALFLOW_USER = "trialflow"
_NAMESPACE_TIMEOUT_SECONDS = 60.0


class ClusterError(Exception):
    """The cluster does not do what was asked; the message says where to look."""


@dataclass(frozen=True)
class NfsShare:
    """A folder that pods can mount.

    Attributes:
        server: For ``nfs.server`` of a volume.
        path: For ``nfs.path`` of a volume.
        folder: The same folder on this machine.
    """

    server: str
    path: str
    folder: Path


class Cluster(ABC):
    """A Kubernetes with a training operator.

    Attributes:
        kubeconfig: Of an administrator.
        image: An image with Python 3 that runs as any user.
    """

    kubeconfig: Path
    image: str

    @abstractmethod
    def nfs_share(self, path: str) -> NfsShare:
        """A folder that the cluster's nodes mount over NFS; made when it is missing."""

    @abstractmethod
    def subject(self, namespace: str) -> dict[str, str]:
        """Who submits trials in a namespace, in the words of a RoleBinding."""

    @abstractmethod
    def user_kubeconfig(self, namespace: str) -> Path:
        """How that one reaches the cluster; its context names the namespace."""

    def client(self, kubeconfig: Path | None = None) -> ApiClient:
        """The official client; the administrator's unless told otherwise. Close it."""
        from kubernetes.config import new_client_from_config

        client: ApiClient = new_client_from_config(str(kubeconfig or self.kubeconfig))
        return client

    def make_namespace(self, prefix: str = "test") -> str:
        """A new namespace, ready for pods, with the Role for trials and the one who has it; gives its name."""
        from kubernetes.client import CoreV1Api, RbacAuthorizationV1Api

        name = f"{prefix}-{token_hex(3)}"
        with self.client() as client:
            core, rbac = CoreV1Api(client), RbacAuthorizationV1Api(client)
            core.create_namespace({"metadata": {"name": name}})
            rbac.create_namespaced_role(name, read_role())
            rbac.create_namespaced_role_binding(name, self._binding(name))
            # Pods are refused before these two are there.
            wait_until(
                lambda: (
                    core.list_namespaced_service_account(name).items and core.list_namespaced_config_map(name).items
                ),
                f"namespace {name} to get its service account",
                _NAMESPACE_TIMEOUT_SECONDS,
            )
        return name

    def delete_namespace(self, name: str) -> None:
        """Begin to delete a namespace with everything in it."""
        from kubernetes.client import CoreV1Api

        with self.client() as client:
            CoreV1Api(client).delete_namespace(name)

    def _binding(self, namespace: str) -> dict[str, Any]:
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": read_role()["metadata"]["name"]}
        return {"metadata": {"name": TRIALFLOW_USER}, "roleRef": role, "subjects": [self.subject(namespace)]}


def read_role() -> dict[str, Any]:
    """The Role that an installation of Trialflow gets."""
    role: dict[str, Any] = yaml.safe_load(ROLE_FILE.read_text(encoding="utf-8"))
    return role


def wait_until(condition: Callable[[], Any], what: str, timeout_seconds: float, pause_seconds: float = 0.1) -> Any:
    """Wait until a condition is true; gives its value.

    Raises:
        ClusterError: It did not become true in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {timeout_seconds:.0f} s in vain for {what}")
        time.sleep(pause_seconds)
    return value
