"""The cluster's fixtures, and the official clients as its administrator."""

from collections.abc import Iterator

import pytest
from kubernetes.client import CoreV1Api, CustomObjectsApi

from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import breakable, cluster, namespace, user_kubeconfig

__all__ = ["breakable", "cluster", "core", "jobs", "namespace", "user_kubeconfig"]


@pytest.fixture(scope="session")
def core(cluster: Cluster) -> Iterator[CoreV1Api]:
    with cluster.client() as client:
        yield CoreV1Api(client)


@pytest.fixture(scope="session")
def jobs(cluster: Cluster) -> Iterator[CustomObjectsApi]:
    with cluster.client() as client:
        yield CustomObjectsApi(client)
