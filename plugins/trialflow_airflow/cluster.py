"""The connection to the cluster of kubeflow trials, from Airflow's connections instead of a kubeconfig.

It is an ordinary connection of the Kubernetes provider, whose hook makes the client. In a worker it is fetched when it
is first needed. In the triggerer, where a thread that asks Airflow's supervisor may meet its loop in a deadlock,
`aconnect` fetches it before a trial is followed; a connection that was edited is used from the next trial on.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from trialflow.errors import TrainingError
from trialflow.training.kubeflow.api import DEFAULT_NAMESPACE, ClusterApi
from trialflow.training.kubeflow.connection import use_cluster

if TYPE_CHECKING:
    from airflow.sdk import Connection

# The provider's hook does without this connection: in a pod it uses the pod's account, else the default kubeconfig.
_OPTIONAL_CONNECTION = "kubernetes_default"
_HOOK_MODULE = "airflow.providers.cncf.kubernetes.hooks.kubernetes"


def connect(connection_id: str) -> None:
    """Use an Airflow connection from now on; it is fetched when a request is made."""
    use_cluster(lambda: _make_cluster(connection_id, _fetch(connection_id)))


class _Triggerer:
    """What the triggerer's threads use now."""

    extras: dict[str, Any] | None = None


async def aconnect(connection_id: str) -> None:
    """Fetch an Airflow connection and use it from now on, unless it is the one in use."""
    extras = await _afetch(connection_id)
    if extras != _Triggerer.extras:
        _Triggerer.extras = extras
        use_cluster(partial(_make_cluster, connection_id, extras))


def preload() -> None:
    """Import the provider's hook, which takes seconds, in a process that forks others."""
    import_module(_HOOK_MODULE)


def _fetch(connection_id: str) -> dict[str, Any]:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return _extras(BaseHook.get_connection(connection_id))
    except AirflowNotFoundException as error:
        return _without(connection_id, error)


async def _afetch(connection_id: str) -> dict[str, Any]:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return _extras(await BaseHook.aget_connection(connection_id))
    except AirflowNotFoundException as error:
        return _without(connection_id, error)


def _extras(connection: Connection) -> dict[str, Any]:
    """The extras; read from their text, for the decoding property speaks to the supervisor."""
    import json

    extras = json.loads(connection.extra or "{}")
    return extras if isinstance(extras, dict) else {}


def _without(connection_id: str, error: Exception) -> dict[str, Any]:
    if connection_id == _OPTIONAL_CONNECTION:
        return {}
    raise TrainingError(
        f"there is no Airflow connection {connection_id!r}, which TRIALFLOW_KUBERNETES_CONNECTION names; add it: "
        f"airflow connections add {connection_id} --conn-type kubernetes --conn-extra "
        """'{"kube_config_path": "/path/to/kubeconfig", "namespace": "NAMESPACE"}'"""
    ) from error


def _make_cluster(connection_id: str, extras: dict[str, Any]) -> ClusterApi:
    hook = import_module(_HOOK_MODULE).KubernetesHook(kubernetes_conn_id=None)
    hook.conn_extras = extras
    namespace = extras.get("namespace") or extras.get("extra__kubernetes__namespace")
    try:
        return ClusterApi(hook.get_conn(), namespace or DEFAULT_NAMESPACE)
    except Exception as error:
        # The hook lets through whatever the client's configuration raises; its message may quote a credential.
        raise TrainingError(
            f"the Airflow connection {connection_id!r} leads to no cluster ({type(error).__name__}); "
            "give it a kubeconfig that exists, or set in_cluster where Airflow runs in the cluster"
        ) from error
