"""Where the connection to the cluster comes from: a kubeconfig, the pod we run in, or whatever was put in its place."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.errors import TrainingError
from trialflow.settings import get_settings
from trialflow.training.kubeflow.api import DEFAULT_NAMESPACE, ClusterApi

if TYPE_CHECKING:
    from collections.abc import Callable

    ClusterFactory = Callable[[], ClusterApi]

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def cluster_from_environment() -> ClusterApi:
    """The cluster of KUBECONFIG or ~/.kube/config, or, inside a pod without KUBECONFIG, the pod's own.

    Raises:
        TrainingError: There is none of them.
    """
    from kubernetes import config
    from kubernetes.client import ApiClient, Configuration

    settings = Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=settings)
            namespace = _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
        else:
            context = get_settings().kubernetes_context
            file = os.environ.get("KUBECONFIG")
            config.load_kube_config(config_file=file, context=context, client_configuration=settings)
            namespace = _namespace_of(file, context)
    except (config.ConfigException, OSError) as error:
        raise TrainingError(
            f"there is no way to the cluster: {error}; set KUBECONFIG to a kubeconfig file, or run inside the cluster"
        ) from error
    return ClusterApi(ApiClient(settings), namespace)


def _namespace_of(file: str | None, context: str | None) -> str:
    """The namespace that a context of the kubeconfig names, or the default one."""
    from kubernetes import config

    contexts, active = config.list_kube_config_contexts(file)
    chosen = next((entry for entry in contexts if entry["name"] == context), active)
    return str(chosen["context"].get("namespace") or DEFAULT_NAMESPACE)


class _Connection:
    """The one connection of this process, made when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._factory: ClusterFactory = cluster_from_environment
        self._api: ClusterApi | None = None

    def use(self, factory: ClusterFactory | None) -> None:
        """Make the connection in another way from now on; ``None`` goes back to the environment."""
        with self._lock:
            self._factory, self._api = factory or cluster_from_environment, None

    def api(self) -> ClusterApi:
        with self._lock:
            if self._api is None:
                self._api = self._factory()
            return self._api


_connection = _Connection()
use_cluster = _connection.use
cluster_api = _connection.api
