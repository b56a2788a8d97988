"""A cluster that somebody else runs, for the tests that break nothing.

TRIALFLOW_TEST_KUBECONFIG is an administrator's kubeconfig; TRIALFLOW_TEST_IMAGE an image with Python 3;
TRIALFLOW_TEST_NFS, as ``SERVER:PATH=FOLDER``, an NFS export and the folder of this machine where it is mounted.
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from tests.cluster.cluster import TRIALFLOW_USER, Cluster, ClusterError, NfsShare

_TOKEN_LIFETIME_SECONDS = 6 * 3600


class GivenCluster(Cluster):
    """A cluster with a training operator, known by its kubeconfig.

    Args:
        kubeconfig: Of an administrator.
        folder: For the kubeconfigs of its users.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.kubeconfig = kubeconfig
        self.image = os.environ.get("TRIALFLOW_TEST_IMAGE", "python:3.11-slim")
        self._folder = folder

    def nfs_share(self, path: str) -> NfsShare:
        """See the base class."""
        export, _, mounted_at = os.environ.get("TRIALFLOW_TEST_NFS", "").partition("=")
        server, _, root = export.partition(":")
        if not mounted_at:
            raise ClusterError("a given cluster needs TRIALFLOW_TEST_NFS, as SERVER:PATH=FOLDER, for tests of storage")
        folder = Path(mounted_at) / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return NfsShare(server, f"{root.rstrip('/')}/{path.strip('/')}", folder)

    def subject(self, namespace: str) -> dict[str, str]:
        """See the base class: a service account, which every cluster can make."""
        return {"kind": "ServiceAccount", "name": TRIALFLOW_USER, "namespace": namespace}

    def user_kubeconfig(self, namespace: str) -> Path:
        """See the base class."""
        from kubernetes.client import CoreV1Api
        from kubernetes.client.exceptions import ApiException

        with self.client() as client:
            core = CoreV1Api(client)
            try:
                core.create_namespaced_service_account(namespace, {"metadata": {"name": TRIALFLOW_USER}})
            except ApiException as error:
                if error.status != 409:
                    raise
            wanted = {"spec": {"audiences": [], "expirationSeconds": _TOKEN_LIFETIME_SECONDS}}
            answer = core.create_namespaced_service_account_token(TRIALFLOW_USER, namespace, wanted)
        file = self._folder / f"{TRIALFLOW_USER}-{namespace}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(self._as_user(namespace, answer.status.token)))
        return file

    def _as_user(self, namespace: str, token: str) -> dict[str, object]:
        """The administrator's kubeconfig with another user."""
        config: dict[str, list[dict[str, object]]] = yaml.safe_load(self.kubeconfig.read_text())
        current = next(item for item in config["contexts"] if item["name"] == config["current-context"])
        context = {**current["context"], "user": TRIALFLOW_USER, "namespace": namespace}  # type: ignore[dict-item]
        users = [{"name": TRIALFLOW_USER, "user": {"token": token}}]
        return {**config, "users": users, "contexts": [{**current, "context": context}]}
