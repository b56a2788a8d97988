"""What is asked of the cluster: a pure function, held against golden files that can be read and applied by hand."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from trialflow.errors import TrainingError
from trialflow.messages import Problem
from trialflow.records import JsonObject
from trialflow.settings import Settings
from trialflow.training import JobRequest
from trialflow.training.kubeflow import KubeflowTrainingService
from trialflow.training.kubeflow.manifest import make_manifest
from trialflow.training.kubeflow.names import MAX_JOB_NAME, job_labels, job_name
from trialflow.training.kubeflow.overlay import merge
from trialflow.training.kubeflow.section import KubeflowSection

GOLDEN = Path(__file__).with_name("golden")
MOUNT = "/mnt/nni"


def role(**changes: Any) -> JsonObject:
    return {
        "replicas": 1,
        "command": "python3 mnist_tf.py",
        "gpuNum": 1,
        "cpuNum": 1,
        "memoryMB": 8192,
        "image": "msranni/nni:latest",
        "privateRegistryAuthPath": None,
        "podTemplate": None,
        **changes,
    }


def section(operator: str = "tf-operator", config: JsonObject | None = None, **roles: JsonObject | None) -> JsonObject:
    return {
        "worker": None,
        "ps": None,
        "master": None,
        **roles,
        "kubeflowConfig": {
            "operator": operator,
            "apiVersion": "v1",
            "namespace": None,
            "serviceAccountName": None,
            "storage": "nfs",
            "nfs": {"server": "210.28.132.167", "path": "/data/nfs/nni_storage"},
            "pvc": None,
            **(config or {}),
        },
        "cluster": {"version": "v1", "namespace": "default", "mount": MOUNT},
    }


TEMPLATE: JsonObject = {
    "metadata": {"labels": {"team": "vision"}, "annotations": {"sidecar.istio.io/inject": "true"}},
    "spec": {
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "securityContext": {"runAsUser": 1000, "runAsNonRoot": True},
        "terminationGracePeriodSeconds": 60,
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "mnist"}}],
        "containers": [
            {
                "env": [{"name": "TF_CPP_MIN_LOG_LEVEL", "value": "2"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "securityContext": {"readOnlyRootFilesystem": True},
                "resources": {"limits": {"ephemeral-storage": "1Gi"}},
            }
        ],
    },
}
CASES: dict[str, JsonObject] = {
    "tfjob-seed": section(worker=role()),
    "tfjob-distributed": section(
        config={"namespace": "team", "serviceAccountName": "trainer"},
        worker=role(replicas=3, gpuNum=2, cpuNum=4, command="python3 dist.py --role worker"),
        ps=role(replicas=2, gpuNum=0, cpuNum=2, memoryMB=0, command="python3 dist.py --role ps"),
    ),
    "pytorchjob-private-image": section(
        "pytorch-operator",
        master=role(command="python3 main.py", privateRegistryAuthPath="/home/me/config.json"),
        worker=role(replicas=2, command="python3 main.py"),
    ),
    "tfjob-template": section(worker=role(gpuNum=0, podTemplate=TEMPLATE)),
    "tfjob-claim": section(
        config={"storage": "pvc", "nfs": None, "pvc": {"claim": "shared", "path": "/team/nni/"}},
        worker=role(gpuNum=0, cpuNum=0, memoryMB=0),
    ),
}


def read_section(training: JsonObject) -> KubeflowSection:
    return KubeflowTrainingService().read_section(training)


def request_for(training: JsonObject, **changes: Any) -> JobRequest[KubeflowSection]:
    folder = f"{MOUNT}/nni/xBAaCvDo"
    values: JsonObject = {
        "experiment_id": "xBAaCvDo",
        "trial_id": "irGdV",
        "number": 0,
        "attempt": 1,
        "parameters": {"lr": 0.1},
        "section": read_section(training),
        "code_folder": f"{folder}/code-0123456789abcdef",
        "folder": f"{folder}/trials/irGdV/1",
        **changes,
    }
    return JobRequest(**values)


@pytest.mark.parametrize("name", list(CASES))
def test_the_manifest_is_the_golden_one(name: str) -> None:
    training = CASES[name]
    before = copy.deepcopy(training)
    manifest = make_manifest(request_for(training))
    assert manifest == yaml.safe_load((GOLDEN / f"{name}.yaml").read_text())
    assert json.loads(json.dumps(manifest)) == manifest
    assert training == before


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(CASES)


def test_a_job_is_named_after_experiment_trial_and_attempt_in_lower_case() -> None:
    assert job_name("xBAaCvDo", "irGdV", 2) == "nni-exp-xbaacvdo-trial-irgdv-2"
    assert job_labels("xBAaCvDo", "irGdV", 2) == {
        "app.kubernetes.io/managed-by": "trialflow",
        "app": "nni",
        "expId": "xBAaCvDo",
        "trialId": "irGdV",
        "attempt": "2",
    }


@pytest.mark.parametrize(
    ("experiment_id", "trial_id"),
    [("", "abcde"), ("abc", ""), ("a b", "abcde"), ("a/b", "abcde"), ("abc", "a\nb"), ("abc", "ä"), ("a" * 17, "a"),
     ("abc,app=other", "abcde"), ("abc", "../..")],
)  # fmt: skip
def test_ids_that_are_not_ours_are_refused(experiment_id: str, trial_id: str) -> None:
    with pytest.raises(TrainingError, match="letters and digits"):
        job_name(experiment_id, trial_id, 1)


def test_the_names_of_a_job_s_pods_fit_into_a_cluster() -> None:
    name = job_name("a" * 16, "b" * 8, 999)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)
    assert len(f"{name}-worker-99999") <= 63
    with pytest.raises(TrainingError, match=f"at most {MAX_JOB_NAME}"):
        job_name("a" * 16, "b" * 16, 999)


def test_a_template_is_merged_item_by_item_where_items_have_names() -> None:
    planned = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["x"], "n": 1}
    template = {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}], "tolerations": [{}], "n": 2}
    assert merge(planned, template) == {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
        "args": ["x"],
        "tolerations": [{}],
        "n": 2,
    }


def problem_at(path: tuple[str, ...], rule: str, value: str | None = None, remedy: str = "") -> Problem:
    return Problem(".".join(path), rule, value, remedy, file="config.yml", line=7)


def problems_of(training: JsonObject, settings: Settings | None = None) -> dict[str, str]:
    found = KubeflowTrainingService(settings or Settings()).check(read_section(training), problem_at)
    assert all(problem.remedy for problem in found)
    return {problem.field: str(problem) for problem in found}


@pytest.mark.parametrize("name", list(CASES))
def test_a_section_that_can_work_has_no_problems(name: str) -> None:
    assert problems_of(CASES[name]) == {}


@pytest.mark.parametrize(
    ("training", "field", "text"),
    [
        (section(worker=role(), master=role()), "trial.master", "is no role of tf-operator, which has worker and ps"),
        (section(ps=role()), "trial.worker", "is required with tf-operator"),
        (section("pytorch-operator", worker=role()), "trial.master", "is required with pytorch-operator"),
        (section("pytorch-operator", master=role(), ps=role()), "trial.ps", "is no role of pytorch-operator"),
        (section("pytorch-operator", master=role(replicas=2)), "trial.master.replicas", "must be 1"),
        (section(worker=role(replicas=0)), "trial.worker.replicas", "must be at least 1; got 0"),
        (section(worker=role(replicas=-3)), "trial.worker.replicas", "must be at least 1; got -3"),
        (section(worker=role(command="a\0b")), "trial.worker.command", "NUL"),
        (section(config={"apiVersion": "v9"}, worker=role()), "kubeflowConfig.apiVersion", 'got "v9"'),
        (section(config={"namespace": "Team_A"}, worker=role()), "kubeflowConfig.namespace", "lower-case"),
        (section(config={"serviceAccountName": "a b"}, worker=role()), "kubeflowConfig.serviceAccountName", "a b"),
        (section(config={"storage": "azureStorage"}, worker=role()), "kubeflowConfig.storage", "not built yet"),
        (section(config={"nfs": None}, worker=role()), "kubeflowConfig.nfs", "is required with storage nfs"),
        (section(config={"storage": "pvc"}, worker=role()), "kubeflowConfig.pvc", "is required with storage pvc"),
        (section(config={"nfs": {"server": "s", "path": "data"}}, worker=role()), "kubeflowConfig.nfs.path", "absol"),
        (section(config={"nfs": {"server": "s", "path": "/a/../b"}}, worker=role()), "kubeflowConfig.nfs.path", "'..'"),
        (section(config={"nfs": {"server": "s:/x", "path": "/a"}}, worker=role()), "kubeflowConfig.nfs.server", "name"),
        (section(config={"storage": "pvc", "pvc": {"claim": "c", "path": "../x"}}, worker=role()),
         "kubeflowConfig.pvc.path", "inside the claim"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(training: JsonObject, field: str, text: str) -> None:
    problems = problems_of(training)
    assert list(problems) == [field]
    assert text in problems[field]
    assert problems[field].startswith("config.yml:7: ")


@pytest.mark.parametrize(
    ("server", "accepted"),
    [(server, True) for server in ("nfs", "nfs-1.team.example.org", "10.0.0.1", "fe80::1", "[fe80::1%eth0]")]
    + [(server, False) for server in ("{nfs_ip}", "<your_nfs_ip>", "${NFS}", "-o", "a b", "10.0.0.1:/data", "a;b")],
)
def test_a_server_is_a_name_or_an_address(server: str, accepted: bool) -> None:
    problems = problems_of(section(config={"nfs": {"server": server, "path": "/a"}}, worker=role()))
    assert list(problems) == ([] if accepted else ["kubeflowConfig.nfs.server"])


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ({"metadata": {"labels": {"expId": "other"}}}, "metadata.labels.expId"),
        ({"spec": {"restartPolicy": "Always"}}, "spec.restartPolicy"),
        ({"spec": {"volumes": [{"name": "nni-vol", "emptyDir": {}}]}}, "spec.volumes"),
        ({"spec": {"volumes": [{"emptyDir": {}}]}}, "spec.volumes.0"),
        ({"spec": {"volumes": "none"}}, "spec.volumes"),
        ({"spec": {"containers": {"name": "x"}}}, "spec.containers"),
        ({"spec": {"containers": [{"env": [{"value": "1"}]}]}}, "spec.containers.0.env.0"),
        ({"spec": {"containers": [{"name": "tensorflow", "args": ["sh"]}]}}, "spec.containers.args"),
        ({"spec": {"containers": [{"image": "other"}]}}, "spec.containers.image"),
    ],
)
def test_a_template_must_not_take_what_is_ours(template: JsonObject, field: str) -> None:
    problems = problems_of(section(worker=role(podTemplate=template)))
    assert list(problems) == [f"trial.worker.podTemplate.{field}"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"hostIPC": True}, "hostIPC"),
        ({"serviceAccountName": "admin"}, "serviceAccountName"),
        ({"automountServiceAccountToken": True}, "automountServiceAccountToken"),
        ({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}, "volumes.0.hostPath"),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "securityContext.sysctls.0"),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "securityContext.seccompProfile"),
        ({"securityContext": {"seLinuxOptions": {"user": "root"}}}, "securityContext.seLinuxOptions"),
        ({"containers": [{"securityContext": {"privileged": True}}]}, "containers.0.securityContext.privileged"),
        ({"containers": [{"securityContext": {"procMount": "Unmasked"}}]}, "containers.0.securityContext.procMount"),
        ({"containers": [{"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}]},
         "containers.0.securityContext.appArmorProfile"),
        ({"containers": [{"securityContext": {"windowsOptions": {"hostProcess": True}}}]},
         "containers.0.securityContext.windowsOptions"),
        ({"initContainers": [{"name": "a", "securityContext": {"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}}}]},
         "initContainers.0.securityContext.capabilities.add"),
        ({"containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}]}, "containers.0.ports.0.hostPort"),
        ({"containers": [{"volumeMounts": [{"name": "nni-vol", "mountPath": "/x"}]}]}, "containers.0.volumeMounts.0"),
        ({"containers": [{"volumeMounts": [{"mountPath": "//tmp/./mount", "readOnly": False}]}]},
         "containers.0.volumeMounts.0"),
        ({"containers": [{"volumeMounts": [{"name": "x", "mountPath": "/trialflow/code"}]}]},
         "containers.0.volumeMounts.0"),
    ],
)  # fmt: skip
def test_a_template_stays_within_the_baseline_unless_the_operator_allows_more(spec: JsonObject, field: str) -> None:
    training = section(worker=role(podTemplate={"spec": spec}))
    problems = problems_of(training)
    assert list(problems) == [f"trial.worker.podTemplate.spec.{field}"]
    assert "TRIALFLOW_POD_POLICY" in str(problems)
    assert problems_of(training, Settings(pod_policy="any")) == {}


def test_what_the_baseline_allows_is_no_problem() -> None:
    spec = {
        "nodeSelector": {"gpu": "a100"},
        "securityContext": {"runAsUser": 1000, "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}],
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
        "containers": [{"securityContext": {"capabilities": {"add": ["CHOWN"], "drop": ["ALL"]}},
                        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}], "ports": [{"containerPort": 1}]}],
    }  # fmt: skip
    assert problems_of(section(worker=role(podTemplate={"spec": spec}))) == {}


@pytest.mark.parametrize(
    ("key", "setting"), [("namespace", "namespaces"), ("serviceAccountName", "service_accounts")]
)
def test_names_that_the_operator_does_not_list_are_refused(key: str, setting: str) -> None:
    settings = Settings(**{setting: "team-a, team-b"})
    problems = problems_of(section(config={key: "kube-system"}, worker=role()), settings)
    assert list(problems) == [f"kubeflowConfig.{key}"]
    assert "Use one of: team-a, team-b" in problems[f"kubeflowConfig.{key}"]
    assert problems_of(section(config={key: "team-b"}, worker=role()), settings) == {}
    assert problems_of(section(config={key: "kube-system"}, worker=role())) == {}
