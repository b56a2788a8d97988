"""The cluster's fixtures."""

from tests.cluster.fixtures import breakable, cluster, namespace, user_kubeconfig

__all__ = ["breakable", "cluster", "namespace", "user_kubeconfig"]
