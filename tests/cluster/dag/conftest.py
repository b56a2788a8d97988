"""One Airflow beside the cluster, for all tests of the DAG."""

from __future__ import annotations

import json
from collections.abc import Iterator
from secrets import token_hex

import pytest

from tests.airflow.conftest import running_airflow
from tests.cluster.cluster import Cluster
from tests.cluster.dag.lab import WAITING_LIMIT_SECONDS, ClusterLab

CONNECTION = "kubernetes_default"


@pytest.fixture(scope="package")
def lab(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterLab]:
    """An Airflow with a connection to the cluster, as the user with the rights of deploy/role.yaml.

    Its tasks wait for a trial in the worker for a moment, then in the triggerer: both are on the way of each trial.
    """
    namespace = cluster.make_namespace("dag")
    share = cluster.nfs_share(f"/data/{token_hex(3)}")
    settings = {
        "TRIALFLOW_STORAGE_MOUNTS": f"{share.server}:{share.path}={share.folder}",
        "TRIALFLOW_TRIAL_SDK": "own",
        "TRIALFLOW_TRIAL_ATTEMPTS": "2",
        "TRIALFLOW_WAITING_LIMIT_SECONDS": str(WAITING_LIMIT_SECONDS),
        "TRIALFLOW_WAIT_IN_WORKER_SECONDS": "3",
    }
    with running_airflow(tmp_path_factory.mktemp("airflow"), **settings) as airflow, cluster.client() as client:
        extra = {"kube_config_path": str(cluster.user_kubeconfig(namespace)), "namespace": namespace}
        connection = {"connection_id": CONNECTION, "conn_type": "kubernetes", "extra": json.dumps(extra)}
        airflow.client.call("POST", "connections", json=connection)
        yield ClusterLab(airflow, cluster, client, share, namespace)
    cluster.delete_namespace(namespace)
