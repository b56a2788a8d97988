"""Trials as jobs of the real operator, submitted with the rights of deploy/role.yaml and no others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml
from kubernetes.client import CoreV1Api, CustomObjectsApi

from tests.cluster.cluster import TRIALFLOW_USER, Cluster, NfsShare, wait_until
from tests.cluster.own import OwnCluster
from tests.cluster.workloads import wait_for_job
from tests.unit.kubeflow_lab import CODE, CONFIG, EXPORT, SERVER, problem_at
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.running import ExperimentSteps, TrialWatch
from trialflow.records import JsonObject, Outcome, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.testing import TrainingServiceContract
from trialflow.testing.contracts import run_to_end
from trialflow.training import JobRequest, TrainingService
from trialflow.training.kubeflow import KubeflowTrainingService, waiting_pods
from trialflow.training.kubeflow.api import DEFAULT_NAMESPACE, ClusterApi, resource_path
from trialflow.training.kubeflow.connection import cluster_api, use_cluster
from trialflow.training.kubeflow.informer import informers
from trialflow.training.kubeflow.section import KubeflowSection

EXAMPLES = Path(__file__).parents[2] / "examples"
# What the unit tests say that each shape of an experiment becomes.
GOLDEN = Path(__file__).parents[1] / "unit" / "golden"
PATIENCE_SECONDS = 90.0


@dataclass
class Lab:
    """The cluster as Trialflow sees it, and the tests as its administrator."""

    cluster: Cluster
    namespace: str
    share: NfsShare
    settings: Settings
    core: CoreV1Api
    experiment_id: str = field(default_factory=lambda: f"e{token_hex(3)}")
    numbers: Iterator[int] = field(default_factory=count)
    made: list[JobRequest] = field(default_factory=list)

    @property
    def service(self) -> KubeflowTrainingService:
        return KubeflowTrainingService(self.settings)

    def role(self, command: str, **changes: Any) -> JsonObject:
        return {
            "replicas": 1,
            "command": command,
            "gpuNum": 0,
            "cpuNum": 0,
            "memoryMB": 64,
            "image": self.cluster.image,
            **changes,
        }

    def section(self, operator: str = "tf-operator", claim: str = "", **roles: JsonObject) -> KubeflowSection:
        """A section as the preflight leaves it; on the share, or on a folder of a claim."""
        config = {
            "operator": operator,
            "apiVersion": "v1",
            "namespace": self.namespace,
            "storage": "pvc" if claim else "nfs",
            "nfs": {"server": self.share.server, "path": self.share.path},
            "pvc": {"claim": claim, "path": "team/nni"},
        }
        found = self.service.preflight(self.service.read_section({**roles, "kubeflowConfig": config}), problem_at)
        assert not found.problems, [str(problem) for problem in found.problems]
        return found.section

    def change_settings(self, **changes: Any) -> None:
        self.settings = self.settings.model_copy(update=changes)

    def request(self, command: str, section: KubeflowSection | None = None) -> JobRequest[KubeflowSection]:
        section = section or self.section(worker=self.role(command))
        folder = self.service.experiment_folder(self.experiment_id, section)
        code = folder / "code-1"
        code.mkdir(parents=True, exist_ok=True)
        self.service.open_experiment(self.experiment_id, section)
        trial_id = f"T{next(self.numbers):04}"
        self.made.append(
            JobRequest(
                experiment_id=self.experiment_id,
                trial_id=trial_id,
                number=0,
                attempt=1,
                parameters={"x": 0.5},
                section=section,
                code_folder=str(code),
                folder=str(folder / "trials" / trial_id / "1"),
            )
        )
        return self.made[-1]

    def run(self, request: JobRequest) -> Outcome:
        return run_to_end(self.service, request)

    def pods(self, experiment_id: str | None = None) -> list[Any]:
        selector = f"expId={experiment_id or self.experiment_id}"
        return list(self.core.list_namespaced_pod(self.namespace, label_selector=selector).items)

    def wait_for_outcome(self, request: JobRequest) -> Outcome:
        handle = self.service.handle(request)
        outcome = wait_until(lambda: self.service.poll(handle).outcome, "the job to end", PATIENCE_SECONDS)
        assert isinstance(outcome, Outcome)
        return outcome

    def wait_for_running(self, request: JobRequest) -> None:
        handle = self.service.handle(request)
        wait_until(lambda: self.service.poll(handle).started_at, "the job to run", PATIENCE_SECONDS)

    def wait_for_reason(self, request: JobRequest, text: str) -> str:
        handle = self.service.handle(request)

        def reason() -> str:
            found = self.service.poll(handle).reason
            return found if text in found else ""

        return str(wait_until(reason, f"a reason with {text!r}", PATIENCE_SECONDS))


@pytest.fixture
def lab(
    cluster: Cluster, namespace: str, user_kubeconfig: Path, core: CoreV1Api, tmp_path: Path
) -> Iterator[Lab]:
    """Clears up behind a test, and sees that nothing is left."""
    share = cluster.nfs_share(f"/data/{token_hex(3)}")
    mounts = f"{share.server}:{share.path}={share.folder}"
    settings = Settings(home=tmp_path / "home", storage_mounts=mounts, trial_sdk="own", trial_attempts=2)
    with cluster.client(user_kubeconfig) as client:
        api = ClusterApi(client, namespace)
        use_cluster(lambda: api)
        lab = Lab(cluster, namespace, share, settings, core)
        yield lab
        if lab.made:
            lab.service.close_experiment(lab.experiment_id, lab.made[0].section)
            assert lab.pods() == []
        informers.close()
        use_cluster(None)
        api.close()


@pytest.fixture
def service(lab: Lab) -> TrainingService:
    return lab.service


@pytest.fixture
def make_request(lab: Lab) -> Callable[[str], JobRequest]:
    return lab.request


class TestKubeflowTrainingService(TrainingServiceContract):
    """The contract, on a real cluster."""


def test_a_pod_without_root_and_with_a_read_only_root_file_system_runs_a_trial(lab: Lab) -> None:
    template = {
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 4711, "runAsGroup": 4711},
            "containers": [{"securityContext": {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}}],
        }
    }
    code = (
        "import nni, os, tempfile; nni.report_final_result(nni.get_next_parameter()['x']); "
        "open('checkpoint', 'w').close(); tempfile.TemporaryFile().close(); "
        "open(os.path.join(os.environ['NNI_OUTPUT_DIR'], 'kept'), 'w').close(); "
        "print(os.getuid(), os.listdir('/tmp/mount'), os.access('/trialflow/code', os.W_OK))"
    )
    section = lab.section(worker=lab.role(f'python3 -c "{code}"', podTemplate=template))
    request = lab.request("", section)
    outcome = lab.run(request)
    output = lab.service.last_output(lab.service.handle(request))
    assert (outcome.status, outcome.reason) == (TrialStatus.SUCCEEDED, ""), output
    assert output == "4711 ['nni'] False"
    folder = Path(request.folder) / "output" / "worker-0"
    assert (folder / "kept").exists()
    assert b'"value": "0.5"' in (folder / ".nni" / "metrics").read_bytes()
    assert outcome.started_at is not None
    assert outcome.ended_at is not None
    assert time.time() - 120 < outcome.started_at <= outcome.ended_at < time.time() + 5


def test_a_trial_on_a_claim_runs_to_its_end(lab: Lab) -> None:
    if not isinstance(lab.cluster, OwnCluster):
        pytest.skip("only on the tests' own cluster, a node's folder is a folder of this machine")
    folder = lab.share.folder / "volume"
    (folder / "team" / "nni").mkdir(parents=True)
    name, size = f"{lab.namespace}-shared", {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {**common, "capacity": size, "hostPath": {"path": str(folder), "type": "Directory"}}
    lab.core.create_persistent_volume({"metadata": {"name": name}, "spec": volume})
    claim = {**common, "volumeName": name, "resources": {"requests": size}}
    lab.core.create_namespaced_persistent_volume_claim(lab.namespace, {"metadata": {"name": "shared"}, "spec": claim})
    wait_until(
        lambda: lab.core.read_namespaced_persistent_volume_claim("shared", lab.namespace).status.phase == "Bound",
        "the claim to be bound",
        PATIENCE_SECONDS,
    )
    lab.change_settings(storage_mounts=f"pvc:{lab.namespace}/shared={folder}")
    try:
        code = "import nni; nni.report_final_result(nni.get_next_parameter()['x']); print(open('data').read())"
        section = lab.section(claim="shared", worker=lab.role(f'python3 -c "{code}"'))
        request = lab.request("", section)
        (Path(request.code_folder) / "data").write_text("staged")
        lab.service.submit(request)
        outcome = lab.wait_for_outcome(request)
        output = lab.service.last_output(lab.service.handle(request))
        assert (outcome.status, outcome.reason, output) == (TrialStatus.SUCCEEDED, "", "staged")
        assert Path(request.folder).is_relative_to(folder / "team" / "nni" / "nni")
        assert b'"value": "0.5"' in (Path(request.folder) / "output" / "worker-0" / ".nni" / "metrics").read_bytes()
        lab.service.close_experiment(lab.experiment_id, section)
    finally:
        lab.core.delete_namespaced_persistent_volume_claim("shared", lab.namespace)
        lab.core.delete_persistent_volume(name)


def test_replicas_of_all_roles_have_files_of_their_own(lab: Lab) -> None:
    command = 'python3 -c "import nni; nni.report_final_result(1.5)"; echo $NNI_OUTPUT_DIR'
    section = lab.section(worker=lab.role(command, replicas=2), ps=lab.role("sleep 600"))
    request = lab.request("", section)
    assert lab.run(request).status is TrialStatus.SUCCEEDED
    output = Path(request.folder) / "output"
    assert {path.name for path in output.iterdir()} == {"worker-0", "worker-1", "ps-0"}
    for name in ("worker-0", "worker-1"):
        wait_until(lambda name=name: (output / name / "exit").read_text() == "0\n", name, PATIENCE_SECONDS)
        assert (output / name / "stdout").read_text() == f"/trialflow/trial/output/{name}\n"
        assert (output / name / ".nni" / "metrics").stat().st_size > 0


def test_a_pytorch_job_with_master_and_worker_runs(lab: Lab) -> None:
    command = "echo rank $RANK of $WORLD_SIZE"
    section = lab.section("pytorch-operator", master=lab.role(command), worker=lab.role(command))
    request = lab.request("", section)
    assert lab.run(request).status is TrialStatus.SUCCEEDED
    assert lab.service.last_output(lab.service.handle(request)) == "rank 0 of 2"


def test_too_much_memory_is_the_trial_s_failure(lab: Lab) -> None:
    outcome = lab.run(lab.request("python3 -c 'print(len(bytearray(1 << 28)))'"))
    assert (outcome.status, outcome.exit_code, outcome.lost) == (TrialStatus.FAILED, 137, False)
    assert "OOMKilled: it used more than its memory of 64 MB; raise memoryMB" in outcome.reason


def test_an_image_without_what_is_needed_is_the_trial_s_failure(lab: Lab) -> None:
    template = {"spec": {"containers": [{"command": ["/no/such/entrypoint"]}]}}
    section = lab.section(worker=lab.role("true", podTemplate=template))
    outcome = lab.run(lab.request("", section))
    assert (outcome.status, outcome.lost) == (TrialStatus.FAILED, False)
    assert "/no/such/entrypoint" in outcome.reason


@pytest.mark.parametrize("how", ["evicted", "deleted"])
def test_a_trial_whose_pod_is_taken_away_is_lost(lab: Lab, how: str) -> None:
    request = lab.request("sleep 600")
    lab.service.submit(request)
    lab.wait_for_running(request)
    (pod,) = lab.pods()
    if how == "evicted":
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.metadata.name}}
        lab.core.create_namespaced_pod_eviction(pod.metadata.name, lab.namespace, eviction)
    else:
        lab.core.delete_namespaced_pod(pod.metadata.name, lab.namespace, grace_period_seconds=1)
    outcome = lab.wait_for_outcome(request)
    assert (outcome.status, outcome.lost) == (TrialStatus.FAILED, True), outcome


def test_a_job_that_is_deleted_is_lost(lab: Lab, jobs: CustomObjectsApi) -> None:
    request = lab.request("sleep 600")
    lab.service.submit(request)
    lab.wait_for_running(request)
    name = lab.service.handle(request).name
    jobs.delete_namespaced_custom_object("kubeflow.org", "v1", lab.namespace, "tfjobs", name)
    assert lab.wait_for_outcome(request).lost


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gpuNum": 99}, "Insufficient nvidia.com/gpu"),
        ({"image": "trialflow.test/nowhere:1"}, "check the image's name"),
        ({"podTemplate": {"spec": {"containers": [{"envFrom": [{"secretRef": {"name": "gone"}}]}]}}}, '"gone" not'),
    ],
    ids=["no room", "no image", "no secret"],
)
def test_a_job_that_cannot_start_says_why_within_half_a_minute(
    lab: Lab, changes: JsonObject, reason: str
) -> None:
    request = lab.request("", lab.section(worker=lab.role("true", **changes)))
    began = time.monotonic()
    lab.service.submit(request)
    assert reason in lab.wait_for_reason(request, reason)
    assert time.monotonic() - began < 30


def test_a_job_of_which_one_pod_finds_no_node_says_why_and_is_given_up(lab: Lab, jobs: CustomObjectsApi) -> None:
    roles = {"worker": lab.role("sleep 600"), "ps": lab.role("sleep 600", gpuNum=99)}
    request = lab.request("", lab.section(**roles))
    lab.service.submit(request)
    handle = lab.service.handle(request)
    wait_for_job(jobs, lab.namespace, "TFJob", handle.name, "Running")
    assert "Insufficient nvidia.com/gpu" in lab.wait_for_reason(request, "Insufficient")
    state = lab.service.poll(handle)
    assert (state.outcome, state.started_at) == (None, None)
    lab.change_settings(waiting_limit_seconds=1.0)
    outcome = lab.wait_for_outcome(request)
    assert outcome.lost
    assert outcome.reason.startswith("it waited longer than 1 s: Unschedulable")


@pytest.mark.parametrize("operator", ["tf-operator", "pytorch-operator"])
def test_a_job_all_of_whose_pods_have_started_has_no_limit_and_costs_no_requests(lab: Lab, operator: str) -> None:
    roles = {"worker": lab.role("sleep 600", replicas=2)}
    roles |= {"ps" if operator == "tf-operator" else "master": lab.role("sleep 600")}
    request = lab.request("", lab.section(operator, **roles))
    lab.service.submit(request)
    lab.wait_for_running(request)
    lab.change_settings(waiting_limit_seconds=0.001)
    began = time.time()
    for _ in range(10):
        state = lab.service.poll(lab.service.handle(request))
        assert (state.outcome, state.reason) == (None, "")
        assert state.started_at is not None
        time.sleep(0.1)
    if isinstance(lab.cluster, OwnCluster):
        assert lab.cluster.requests(began, TRIALFLOW_USER) == []


def test_a_quota_is_named(lab: Lab) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    lab.core.create_namespaced_resource_quota(lab.namespace, quota)
    try:
        request = lab.request("true")
        lab.service.submit(request)
        assert "exceeded quota: none" in lab.wait_for_reason(request, "quota")
    finally:
        lab.core.delete_namespaced_resource_quota("none", lab.namespace)


def test_a_role_s_template_is_judged_before_the_first_pod(lab: Lab) -> None:
    section = lab.section(worker=lab.role("true"))
    assert section.worker is not None
    worker = replace(section.worker, pod_template={"spec": {"nodeSelektor": {"gpu": "a100"}}})
    section = replace(section, worker=worker)
    (problem,) = lab.service.preflight(section, problem_at).problems
    assert "nodeSelektor" in problem.rule


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_golden_manifest_is_accepted(lab: Lab, file: Path) -> None:
    manifest = yaml.safe_load(file.read_text())
    manifest["metadata"]["namespace"] = lab.namespace
    path = resource_path(manifest["apiVersion"], lab.namespace, f"{manifest['kind'].lower()}s")
    accepted = cluster_api().create(path, manifest, dryRun="All", fieldValidation="Strict")
    assert accepted["metadata"]["uid"]
    assert cluster_api().get(path)["items"] == []


def test_the_operator_is_known_to_run_by_who_has_the_rights_of_the_role(lab: Lab, breakable: OwnCluster) -> None:
    section = lab.section(worker=lab.role("true"))
    found = lab.service.preflight(section, problem_at)
    assert (found.problems, found.warnings) == ((), ())
    breakable.kill("operator")
    (problem,) = lab.service.preflight(section, problem_at).problems
    assert "needs its operator, which does not answer" in problem.rule


def test_a_registry_s_login_is_a_secret_that_goes_with_the_experiment(lab: Lab, tmp_path: Path) -> None:
    login = tmp_path / "config.json"
    login.write_text('{"auths": {"registry.test": {"auth": "dTpw"}}}')
    section = lab.section(worker=lab.role("echo pulled", privateRegistryAuthPath=str(login)))
    assert lab.run(lab.request("", section)).status is TrialStatus.SUCCEEDED
    selector = f"expId={lab.experiment_id}"
    assert len(lab.core.list_namespaced_secret(lab.namespace, label_selector=selector).items) == 1
    lab.service.close_experiment(lab.experiment_id, section)
    assert lab.core.list_namespaced_secret(lab.namespace, label_selector=selector).items == []


def suggest(steps: ExperimentSteps, index: int) -> Trial:
    trial = steps.trials.suggest(Slot(1, index), "run")
    assert isinstance(trial, Trial)
    return trial


@pytest.mark.parametrize("name", ["02-kubeflow-tensorflow", "03-kubeflow-pytorch"])
def test_an_example_runs_with_only_server_path_and_image_changed(lab: Lab, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "user"
    shutil.copytree(EXAMPLES / name, folder)
    config = yaml.safe_load((folder / "config.yml").read_text())
    config["kubeflowConfig"]["nfs"] = {"server": lab.share.server, "path": lab.share.path}
    for role in ("master", "worker"):
        if role in config["trial"]:
            config["trial"][role]["image"] = lab.cluster.image
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    spec = load_experiment(str(folder / "config.yml"), lab.settings)
    assert spec.training["cluster"]["namespace"] == lab.namespace != DEFAULT_NAMESPACE
    steps = ExperimentSteps.create(lab.experiment_id, spec, lab.settings)
    steps.stage_code()
    steps.start()
    steps.plan_batch(1, "run")
    for index in range(2):
        watch = TrialWatch(steps.context, suggest(steps, index))
        trial = wait_until(watch.poll, "the trial to end", PATIENCE_SECONDS, 0.2)
        assert (trial.status, trial.reason) == (TrialStatus.SUCCEEDED, "")
        assert trial.value is not None
        assert len(steps.context.store.list_metrics(trial)) > 5
        steps.trials.report(trial)
    running = steps.context.submit(suggest(steps, 2))
    assert steps.close_run(1, "run")
    assert lab.pods(steps.context.id) == []
    assert steps.context.store.get_trial(steps.context.id, running.id).status is TrialStatus.USER_CANCELED


def test_an_nni_user_s_experiment_with_gpus_runs_with_only_server_path_and_image_changed(
    lab: Lab, tmp_path: Path
) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    config = CONFIG.replace(SERVER, lab.share.server).replace(EXPORT, lab.share.path)
    (folder / "config.yml").write_text(config.replace("image: python:3", f"image: {lab.cluster.image}"))
    (folder / "mnist_tf.py").write_text(CODE)
    (folder / "search_space_tf.json").write_text('{"x": {"_type": "uniform", "_value": [0, 1]}}')
    for node in lab.core.list_node().items:  # Of which no driver knows; the scheduler does.
        lab.core.patch_node_status(node.metadata.name, {"status": {"capacity": {"nvidia.com/gpu": "1"}}})
    steps = ExperimentSteps.create(
        lab.experiment_id, load_experiment(str(folder / "config.yml"), lab.settings), lab.settings
    )
    steps.stage_code()
    steps.start()
    steps.plan_batch(1, "run")
    for index in range(5):
        watch = TrialWatch(steps.context, suggest(steps, index))
        trial = wait_until(watch.poll, "the trial to end", PATIENCE_SECONDS, 0.2)
        assert (trial.status, trial.reason) == (TrialStatus.SUCCEEDED, "")
        steps.trials.report(trial)
    assert steps.conclude().to_json()["trials"] == {"SUCCEEDED": 5}
    assert steps.close_run(1, "run")
    assert lab.pods(steps.context.id) == []


@pytest.fixture(autouse=True)
def _ask_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_pods, "PATIENCE_SECONDS", 5.0)
    monkeypatch.setattr(waiting_pods, "_RENEWAL_SECONDS", 2.0)
