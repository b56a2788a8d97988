"""Everything that keeps an experiment from running is found before its first pod, and listed at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from trialflow.errors import TrainingError
from trialflow.messages import Problem
from trialflow.records import JsonObject
from trialflow.testing.fake_cluster import Collection
from trialflow.training import Preflight
from trialflow.training.kubeflow.api import ClusterApi, UnreachableError
from trialflow.training.kubeflow.preflight import required_rights
from trialflow.training.kubeflow.section import OPERATORS, Cluster, KubeflowSection

from .kubeflow_lab import EXPORT, SERVER, Lab, make_lab, make_role, make_section, make_training, problem_at

ROLE_FILE = Path(__file__).parents[2] / "deploy" / "role.yaml"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with make_lab(tmp_path) as lab:
        set_operator(lab, 1)
        yield lab


def set_operator(lab: Lab, ready: int, name: str = "training-operator") -> None:
    deployment = {"metadata": {"name": name}, "status": {"readyReplicas": ready}}
    lab.cluster.put(Collection("apps", "v1", "kubeflow", "deployments"), deployment)


def preflight(lab: Lab, training: JsonObject | None = None, **config: Any) -> Preflight[KubeflowSection]:
    training = training or make_training(None, worker=make_role())
    training["kubeflowConfig"].update(config)
    return lab.service.preflight(lab.service.read_section(training), problem_at)


def problems_of(lab: Lab, training: JsonObject | None = None, **config: Any) -> dict[str, Problem]:
    problems = preflight(lab, training, **config).problems
    assert all(problem.remedy for problem in problems)
    return {problem.field: problem for problem in problems}


def test_what_was_found_out_is_kept_for_the_steps_that_follow(lab: Lab) -> None:
    found = preflight(lab)
    assert (found.problems, found.warnings) == ((), ())
    assert found.section.cluster == Cluster("v1", "default", str(lab.storage))
    assert lab.cluster.all("tfjobs") == []
    assert list(lab.storage.rglob("*")) == [lab.storage / "nni"]


def test_the_file_s_namespace_comes_before_the_connection_s(lab: Lab) -> None:
    assert preflight(lab, namespace="team").section.facts.namespace == "team"


@pytest.mark.parametrize("version", ["v1alpha2", "v1beta1", "v1beta2"])
def test_an_old_version_runs_as_the_one_that_is_served_with_a_warning(lab: Lab, version: str) -> None:
    found = preflight(lab, apiVersion=version)
    assert found.section.facts.version == "v1"
    assert found.warnings == (
        f"kubeflowConfig.apiVersion {version} is not served by the cluster; jobs are made as v1",
    )


def test_an_old_cluster_is_served_in_its_own_version(lab: Lab) -> None:
    lab.cluster.served["kubeflow.org"] = {"v1": ["pytorchjobs"], "v1beta2": ["tfjobs"]}
    assert preflight(lab, apiVersion="v1beta2").section.facts.version == "v1beta2"
    assert preflight(lab, apiVersion="v1").section.facts.version == "v1beta2"


@pytest.mark.parametrize("served", [None, {"v1": ["pytorchjobs"]}])
def test_a_cluster_without_the_kind_is_refused(lab: Lab, served: dict[str, list[str]] | None) -> None:
    lab.cluster.served.pop("kubeflow.org")
    if served:
        lab.cluster.served["kubeflow.org"] = served
    problem = problems_of(lab)["kubeflowConfig.operator"]
    assert "needs the kind TFJob of kubeflow.org" in problem.rule
    assert "training operator" in problem.remedy


def test_every_right_is_asked_for_and_all_that_are_missing_are_named(lab: Lab) -> None:
    lab.cluster.denied |= {("tfjobs", "delete"), ("pods/log", "get")}
    problem = problems_of(lab)["kubeflowConfig"]
    assert "delete tfjobs.kubeflow.org, get pods/log in namespace default" in problem.rule
    assert "deploy/role.yaml" in problem.remedy
    assert lab.cluster.count()["create selfsubjectaccessreviews"] == 8


def test_rights_on_secrets_are_needed_for_a_private_registry_alone() -> None:
    plain = make_section(None, worker=make_role())
    private = make_section(None, worker=make_role(privateRegistryAuthPath="/x"))
    assert set(required_rights(private)) - set(required_rights(plain)) == {
        ("", "secrets", "create"),
        ("", "secrets", "delete"),
    }


def test_the_role_of_an_installation_grants_what_is_asked_for_and_nothing_else() -> None:
    asked = {
        right
        for name, operator in OPERATORS.items()
        for login in (None, "/home/me/config.json")
        for right in required_rights(
            make_section(None, name, **{operator.chief: make_role(privateRegistryAuthPath=login)})
        )
    }
    granted = [
        (group, resource, verb)
        for rule in yaml.safe_load(ROLE_FILE.read_text())["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert sorted(granted) == sorted(asked)


def test_the_rights_that_are_asked_for_are_those_that_are_used(lab: Lab, tmp_path: Path) -> None:
    login = tmp_path / "login.json"
    login.write_text('{"auths": {"r": {}}}')
    section = make_section(lab.storage, worker=make_role(privateRegistryAuthPath=str(login)))
    granted = {f"{verb} {resource}" for _, resource, verb in required_rights(section)}
    request = lab.request(section=section)
    service, handle = lab.service, lab.service.handle(request)
    service.submit(request)
    service.submit(request)
    service.poll(handle)
    service.cancel(handle)
    service.poll(handle)
    service.close_experiment(request.experiment_id, section)
    assert set(lab.cluster.count()) <= granted


def test_a_storage_that_is_not_mounted_here_is_refused_with_the_command_that_mounts_it(tmp_path: Path) -> None:
    with make_lab(tmp_path, storage_mounts="other:/x=/y") as lab:
        set_operator(lab, 1)
        problem = problems_of(lab)["kubeflowConfig.nfs"]
    assert "TRIALFLOW_STORAGE_MOUNTS (other:/x=/y)" in problem.rule
    assert "the mount table" in problem.rule
    assert f"mount -t nfs {SERVER}:{EXPORT} /mnt/nni" in problem.remedy


def test_a_storage_that_cannot_be_written_is_refused(lab: Lab) -> None:
    (lab.storage / "nni").write_text("a file is in the way")
    assert "must be readable and writable" in problems_of(lab)["kubeflowConfig.nfs"].rule


def test_a_claim_is_used_in_the_folder_that_is_named(tmp_path: Path) -> None:
    claim = tmp_path / "claim"
    (claim / "team").mkdir(parents=True)
    with make_lab(tmp_path, storage_mounts=f"pvc:default/shared={claim}") as lab:
        set_operator(lab, 1)
        found = preflight(lab, storage="pvc", pvc={"claim": "shared", "path": "/team"})
        assert found.problems == ()
        assert found.section.facts.mount == str(claim / "team")
        problem = problems_of(lab, storage="pvc", pvc={"claim": "other", "path": None})["kubeflowConfig.pvc"]
    assert "TRIALFLOW_STORAGE_MOUNTS='pvc:default/other=/its/folder'" in problem.remedy


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "cannot be read: No such file or directory"),
        ("root:x:0:0", "is not a docker config.json"),
        ("[]", "is not a docker config.json"),
        ('{"auths": {}}', "has no login: its key 'auths' is missing or empty"),
        ('{"credsStore": "s3cr3t"}', "has no login: its key 'auths' is missing or empty"),
    ],
)
def test_a_registry_login_that_is_none_is_refused_without_showing_it(
    lab: Lab, tmp_path: Path, content: str | None, rule: str
) -> None:
    login = tmp_path / "login.json"
    if content is not None:
        login.write_text(content)
    training = make_training(None, worker=make_role(privateRegistryAuthPath=str(login)))
    problem = problems_of(lab, training)["trial.worker.privateRegistryAuthPath"]
    assert problem.rule == rule
    assert "s3cr3t" not in str(problem)


def test_a_job_that_the_api_server_would_refuse_is_refused_now(lab: Lab) -> None:
    role = make_role(podTemplate={"metadata": {}, "spec": {"nodeSelektor": {"gpu": "a100"}}})
    problem = problems_of(lab, make_training(None, worker=role))["trial"]
    assert 'unknown field "spec.tfReplicaSpecs.Worker.template.spec.nodeSelektor"' in problem.rule


def test_an_operator_that_is_down_is_refused(lab: Lab) -> None:
    set_operator(lab, 0)
    assert "has no ready replica" in problems_of(lab)["kubeflowConfig.operator"].rule


@pytest.mark.parametrize(
    ("is_hidden", "why"),
    [
        (True, "its deployment in kubeflow may not be read; see deploy/role.yaml"),
        (False, "namespace kubeflow has no deployment training-operator or tf-job-operator"),
    ],
)
def test_an_operator_of_which_nothing_is_seen_is_a_warning(lab: Lab, is_hidden: bool, why: str) -> None:
    lab.cluster.remove("deployments", "training-operator")
    if is_hidden:
        lab.cluster.denied.add(("deployments", "get"))
    found = preflight(lab)
    assert found.problems == ()
    (warning,) = found.warnings
    assert warning == f"whether the training operator runs is not known: no webhook of it was heard, and {why}"


def test_an_operator_that_judges_jobs_runs_and_no_right_is_needed_to_know_it(lab: Lab) -> None:
    lab.cluster.remove("deployments", "training-operator")
    lab.cluster.denied.add(("deployments", "get"))
    lab.cluster.has_webhook = True
    found = preflight(lab)
    assert (found.problems, found.warnings) == ((), ())
    assert lab.cluster.count()["get deployments"] == 0
    assert lab.cluster.all("tfjobs") == []


def test_an_operator_that_does_not_answer_when_a_job_is_tried_is_named(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ClusterApi.create

    def refuse(api: ClusterApi, path: str, body: JsonObject, **query: str) -> JsonObject:
        if "dryRun" in query:
            raise UnreachableError('failed calling webhook "validator.tfjob": connection refused', 500)
        return create(api, path, body, **query)

    monkeypatch.setattr(ClusterApi, "create", refuse)
    set_operator(lab, 0)
    (problem,) = preflight(lab).problems
    assert "which does not answer: failed calling" in problem.rule


def test_an_old_operator_is_known_by_its_old_name(lab: Lab) -> None:
    lab.cluster.remove("deployments", "training-operator")
    set_operator(lab, 1, "tf-job-operator")
    assert preflight(lab).warnings == ()


def test_everything_that_is_wrong_is_listed_at_once(tmp_path: Path) -> None:
    with make_lab(tmp_path, storage_mounts="") as lab:
        set_operator(lab, 0)
        lab.cluster.denied.add(("tfjobs", "watch"))
        template = {"spec": {"nodeSelektor": {"gpu": "a100"}}}
        training = make_training(None, worker=make_role(privateRegistryAuthPath="/nowhere", podTemplate=template))
        problems = problems_of(lab, training)
        assert set(problems) == {
            "trial.worker.privateRegistryAuthPath",
            "kubeflowConfig.nfs",
            "kubeflowConfig",
            "trial",
            "kubeflowConfig.operator",
        }
        assert "nodeSelektor" in problems["trial"].rule


def test_a_job_is_not_tried_out_by_whoever_may_not_create_it(lab: Lab) -> None:
    lab.cluster.denied.add(("tfjobs", "create"))
    problems = problems_of(lab)
    assert list(problems) == ["kubeflowConfig"]
    assert lab.cluster.count()["create tfjobs"] == 0


def test_a_cluster_that_does_not_answer_is_asked_again_later(lab: Lab) -> None:
    lab.cluster.go_away()
    with pytest.raises(TrainingError, match="503"):
        preflight(lab)
