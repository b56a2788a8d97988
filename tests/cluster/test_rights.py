"""That the user who submits trials has the rights of the Role, and that what is asked of the API is on record."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kubernetes.client import AuthorizationV1Api, CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException

from tests.cluster.cluster import TRIALFLOW_USER, Cluster, read_role, wait_until
from tests.cluster.own import OwnCluster
from tests.cluster.workloads import PATIENCE_SECONDS, make_job, read_job

VERBS = ("create", "get", "list", "watch", "update", "patch", "delete", "deletecollection")
NEVER_GRANTED = {("", "configmaps"), ("", "pods/exec"), ("apps", "deployments"), ("kubeflow.org", "tfjobs/status")}


def test_the_user_has_the_rights_of_the_role_and_no_others(
    cluster: Cluster, namespace: str, user_kubeconfig: Path
) -> None:
    granted = {
        (group, resource, verb)
        for rule in read_role()["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    resources = {(group, resource) for group, resource, _ in granted} | NEVER_GRANTED
    asked = {(group, resource, verb) for group, resource in resources for verb in VERBS}
    with cluster.client(user_kubeconfig) as client:
        rights = AuthorizationV1Api(client)
        allowed = {item for item in asked if _may(rights, namespace, *item)}
        elsewhere = {item for item in granted if _may(rights, "default", *item)}
    assert allowed == granted
    assert elsewhere == set()


def _may(rights: AuthorizationV1Api, namespace: str, group: str, resource: str, verb: str) -> bool:
    resource, _, part = resource.partition("/")
    question = {"namespace": namespace, "group": group, "resource": resource, "subresource": part, "verb": verb}
    answer = rights.create_self_subject_access_review({"spec": {"resourceAttributes": question}})
    return bool(answer.status.allowed)


def test_the_user_is_refused_what_the_role_lacks(cluster: Cluster, namespace: str, user_kubeconfig: Path) -> None:
    with cluster.client(user_kubeconfig) as client:
        core = CoreV1Api(client)
        for refused in (lambda: core.list_namespaced_secret(namespace), lambda: core.list_namespaced_pod("default")):
            with pytest.raises(ApiException) as caught:
                refused()
            assert caught.value.status == 403


def test_requests_are_counted_by_user_and_object(
    cluster: Cluster, breakable: OwnCluster, namespace: str, user_kubeconfig: Path
) -> None:
    began = time.time()
    with cluster.client(user_kubeconfig) as client:
        jobs = CustomObjectsApi(client)
        name = make_job(jobs, cluster, namespace, "TFJob", {"Worker": 1}, "true")
        for _ in range(3):
            read_job(jobs, namespace, "TFJob", name)
        jobs.list_namespaced_custom_object("kubeflow.org", "v1", namespace, "tfjobs", label_selector="trial=t1")

    def seen() -> list[tuple[str, str, str, str, int]]:
        found = breakable.requests(since=began, user=TRIALFLOW_USER)
        return [(item.verb, item.resource, item.name, item.label_selector, item.status) for item in found]

    wait_until(lambda: len(seen()) >= 5, "the audit log", PATIENCE_SECONDS)
    assert seen() == [
        ("create", "tfjobs", name, "", 201),
        *[("get", "tfjobs", name, "", 200)] * 3,
        ("list", "tfjobs", "", "trial=t1", 200),
    ]
