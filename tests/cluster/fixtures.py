"""A cluster for tests. A test folder gets these by importing them into its conftest.

``cluster`` is one for the whole test session: a cluster of the tests' own, ended with the session, or the one that
TRIALFLOW_TEST_KUBECONFIG names: that of ``make cluster``, which makes repeated runs shorter, or anybody's (`given.py`).
``breakable`` is the same for tests that kill parts of it, and whole again afterwards; these are skipped on anybody's.
``namespace`` and ``user_kubeconfig`` belong to the test module: the namespace is new, and the user has there the rights
of ``deploy/role.yaml``, and no others anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.given import GivenCluster
from tests.cluster.own import OwnCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    given = os.environ.get("TRIALFLOW_TEST_KUBECONFIG")
    if given:
        made_here = OwnCluster.open(Path(given).resolve().parents[1])
        yield made_here or GivenCluster(Path(given), tmp_path_factory.mktemp("users"))
        return
    own = OwnCluster.make(tmp_path_factory.mktemp("cluster"))
    try:
        own.up(tied=True)
        yield own
    finally:
        own.down()


@pytest.fixture
def breakable(cluster: Cluster) -> Iterator[OwnCluster]:
    """The cluster, whole again after the test."""
    if not isinstance(cluster, OwnCluster):
        pytest.skip("a cluster that was given to the tests is not broken by them")
    yield cluster
    for part in cluster.parts:
        cluster.start(part)
    cluster.wait_ready()


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    name = cluster.make_namespace()
    yield name
    cluster.delete_namespace(name)


@pytest.fixture(scope="module")
def user_kubeconfig(cluster: Cluster, namespace: str) -> Path:
    return cluster.user_kubeconfig(namespace)
