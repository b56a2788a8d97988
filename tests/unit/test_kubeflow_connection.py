from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from trialflow.errors import TrainingError
from trialflow.testing.fake_cluster import TOKEN, FakeCluster
from trialflow.training.kubeflow.api import (
    ApiConflictError,
    ApiNotFoundError,
    ClusterError,
    UnreachableError,
    resource_path,
)
from trialflow.training.kubeflow.connection import cluster_api, use_cluster

SECRETS = resource_path("v1", "default", "secrets")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    use_cluster(None)
    yield
    use_cluster(None)


def test_a_kubeconfig_leads_to_its_cluster_and_namespace(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(cluster.kubeconfig("team")))
    monkeypatch.setenv("KUBECONFIG", str(file))
    api = cluster_api()
    assert (api.address, api.namespace) == (cluster.url, "team")
    assert api.get(SECRETS)["items"] == []
    assert cluster_api() is api
    api.close()


def test_without_a_kubeconfig_the_message_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(TrainingError, match="set KUBECONFIG to a kubeconfig file"):
        cluster_api()


def test_the_api_s_answers_are_errors_of_our_own(cluster: FakeCluster) -> None:
    api = cluster.connect()
    body = {"metadata": {"name": "one"}}
    api.create(SECRETS, body)
    with pytest.raises(ApiConflictError) as conflict:
        api.create(SECRETS, body)
    assert conflict.value.status == 409
    with pytest.raises(ApiNotFoundError, match='secrets "two" not found'):
        api.get(f"{SECRETS}/two")
    cluster.denied.add(("secrets", "list"))
    with pytest.raises(ClusterError) as forbidden:
        api.get(SECRETS)
    assert forbidden.value.status == 403
    cluster.go_away()
    with pytest.raises(UnreachableError, match="answered 503"):
        api.get(SECRETS)
    api.close()


def test_deleting_twice_is_fine(cluster: FakeCluster) -> None:
    api = cluster.connect()
    api.create(SECRETS, {"metadata": {"name": "one"}})
    assert api.delete(f"{SECRETS}/one")
    assert not api.delete(f"{SECRETS}/one")
    api.close()


def test_a_server_that_is_gone_is_unreachable_and_its_token_stays_unsaid() -> None:
    with FakeCluster() as cluster:
        api = cluster.connect()
    with pytest.raises(UnreachableError, match="does not answer") as raised:
        api.get(SECRETS)
    assert TOKEN not in str(raised.value)
    api.close()


def test_an_unknown_token_is_refused(cluster: FakeCluster) -> None:
    api = cluster.connect()
    api._client.configuration.api_key = {"authorization": "Bearer s3cr3t"}
    with pytest.raises(ClusterError, match="401") as raised:
        api.get(SECRETS)
    assert "s3cr3t" not in str(raised.value)
    api.close()


def test_names_in_a_path_are_quoted() -> None:
    assert resource_path("v1", "a", "pods") == "/api/v1/namespaces/a/pods"
    path = resource_path("kubeflow.org/v1", "a/b", "tfjobs", "c?d")
    assert path == "/apis/kubeflow.org/v1/namespaces/a%2Fb/tfjobs/c%3Fd"
