"""Submitting, cancelling, waiting and clearing up: each may come twice, late, or in the middle of the other."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from trialflow.errors import TrainingError
from trialflow.metrics import MetricsTail
from trialflow.records import JsonObject, TrialStatus
from trialflow.testing.fake_operator import add_pod, add_warning, set_condition
from trialflow.training import JobRequest
from trialflow.training.kubeflow import service as service_module
from trialflow.training.kubeflow import waiting_pods
from trialflow.training.kubeflow.api import ClusterApi
from trialflow.training.kubeflow.section import KubeflowSection

from .kubeflow_lab import EXPERIMENT, Lab, make_lab, make_role, make_running_lab, make_section, wait_for


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with make_lab(tmp_path) as lab:
        yield lab


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask at once why a job waits, each time."""
    monkeypatch.setattr(waiting_pods, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(waiting_pods, "_RENEWAL_SECONDS", -1.0)


def submit(lab: Lab, *conditions: str) -> JobRequest:
    request = lab.request()
    lab.service.submit(request)
    for condition in conditions:
        set_condition(lab.cluster, lab.job(request), condition)
    return request


# ── submit and cancel ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_files_are_there_before_the_job_is(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    create = ClusterApi.create
    request = lab.request()

    def look(api: ClusterApi, path: str, body: JsonObject, **query: str) -> JsonObject:
        seen.extend(sorted(file.name for file in Path(request.folder).iterdir()))
        return create(api, path, body, **query)

    monkeypatch.setattr(ClusterApi, "create", look)
    lab.service.submit(request)
    assert seen == ["output", "parameter.cfg", "run-worker.sh"]


def test_a_job_that_exists_is_adopted(lab: Lab) -> None:
    request = submit(lab)
    before = lab.job(request)
    lab.service.submit(request)
    assert lab.job(request) == before


@pytest.mark.parametrize("label", ["expId", "trialId", "attempt", "app.kubernetes.io/managed-by"])
def test_a_job_of_somebody_else_is_left_alone(lab: Lab, label: str) -> None:
    request = submit(lab)
    name = lab.service.handle(request).name
    lab.cluster.change("tfjobs", name, lambda job: job["metadata"]["labels"].update({label: "other"}))
    with pytest.raises(TrainingError, match="must be free or taken by the same trial"):
        lab.service.submit(request)
    assert lab.cluster.find("tfjobs", name) is not None


def test_a_cancel_in_the_middle_of_a_submit_leaves_no_job(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    request = lab.request()
    create = ClusterApi.create

    def cancel_first(api: ClusterApi, path: str, body: JsonObject, **query: str) -> JsonObject:
        lab.service.cancel(lab.service.handle(request))
        return create(api, path, body, **query)

    monkeypatch.setattr(ClusterApi, "create", cancel_first)
    lab.service.submit(request)
    assert lab.cluster.all("tfjobs") == []


def test_a_submit_that_died_before_it_saw_the_cancel_is_mended_by_its_repetition(lab: Lab) -> None:
    request = submit(lab)
    Path(f"{request.folder}.cancelled").write_text("cancelled\n")
    lab.service.submit(request)
    assert lab.cluster.all("tfjobs") == []


def test_a_cancel_without_the_storage_still_deletes_the_job(lab: Lab) -> None:
    request = submit(lab, "Running")
    handle = replace(lab.service.handle(request), folder="/proc/nowhere/trials/T/1")
    lab.service.cancel(handle)
    assert lab.cluster.all("tfjobs") == []


def test_a_cancel_asks_for_the_pods_to_go_before_the_job(lab: Lab) -> None:
    request = submit(lab, "Running")
    add_pod(lab.cluster, lab.job(request), {"phase": "Running"})
    lab.service.cancel(lab.service.handle(request))
    assert lab.cluster.all("pods") == []
    assert lab.cluster.all("tfjobs") == []


def test_a_storage_that_is_full_is_a_training_error(lab: Lab) -> None:
    request = lab.request()
    Path(request.folder).parent.mkdir(parents=True)
    Path(request.folder).write_text("a file is in the way")
    with pytest.raises(TrainingError, match="must be writable from here"):
        lab.service.submit(request)
    assert lab.cluster.all("tfjobs") == []


@pytest.mark.parametrize(("policy", "left"), [("never", 0), ("failed", 1)])
def test_a_failed_job_is_kept_where_the_operator_wants_that(tmp_path: Path, policy: str, left: int) -> None:
    with make_lab(tmp_path, keep_jobs=policy) as lab:
        failed, running, succeeded = (
            submit(lab, "Running", *end) for end in (["Failed"], [], ["Succeeded"])
        )
        add_pod(lab.cluster, lab.job(failed), {"phase": "Failed"})
        for request in (failed, running, succeeded):
            lab.service.cancel(lab.service.handle(request))
        lab.service.close_experiment(EXPERIMENT, failed.section)
        assert len(lab.cluster.all("tfjobs")) == left
        assert len(lab.cluster.all("pods")) == left


# ── the end of a job ─────────────────────────────────────────────────────────────────────────────────────────────


def test_an_oom_kill_is_the_trial_s_failure_and_an_eviction_is_not(lab: Lab) -> None:
    killed, evicted = submit(lab, "Running"), submit(lab, "Running")
    oom = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    add_pod(lab.cluster, lab.job(killed), {"phase": "Failed", "containerStatuses": [{"state": oom}]})
    add_pod(lab.cluster, lab.job(evicted), {"phase": "Failed", "reason": "Evicted", "message": "low on disk"})
    for request in (killed, evicted):
        set_condition(lab.cluster, lab.job(request), "Failed")
    outcomes = [lab.service.poll(lab.service.handle(request)).outcome for request in (killed, evicted)]
    assert [(end.exit_code, end.lost) for end in outcomes if end] == [(137, False), (None, True)]
    assert lab.cluster.count()["list pods"] == 2


def test_the_error_output_of_the_replica_that_failed_first_is_shown(tmp_path: Path) -> None:
    with make_running_lab(tmp_path) as lab:
        section = make_section(
            lab.storage,
            worker=make_role("sleep 600"),
            ps=make_role("echo no such parameter >&2; exit 4"),
        )
        request = lab.request(section=section)
        handle = lab.service.handle(request)
        lab.service.submit(request)
        outcome = wait_for(lambda: lab.service.poll(handle).outcome)
        assert (outcome.exit_code, outcome.lost) == (4, False)
        assert "ps-0" in outcome.reason
        assert lab.service.last_output(handle) == "no such parameter"


def test_a_distributed_trial_ends_with_its_chief(tmp_path: Path) -> None:
    code = "import nni, time; nni.report_final_result(1.5)"
    with make_running_lab(tmp_path) as lab:
        worker = make_role(f"python3 -c '{code}'", replicas=2)
        section = make_section(lab.storage, worker=worker, ps=make_role("sleep 600"))
        request = lab.request(section=section)
        handle = lab.service.handle(request)
        lab.service.submit(request)
        outcome = wait_for(lambda: lab.service.poll(handle).outcome, 20)
        assert outcome.status is TrialStatus.SUCCEEDED
        (final,) = MetricsTail(lab.storage, lab.service.metrics_file(handle)).read()
        assert final.value == 1.5
        wait_for(lambda: not any(pod["metadata"]["name"].endswith("ps-0") for pod in lab.cluster.all("pods")))


def test_a_pytorch_job_runs_too(tmp_path: Path) -> None:
    with make_running_lab(tmp_path) as lab:
        roles = {"master": make_role("echo master"), "worker": make_role("sleep 600", replicas=2)}
        request = lab.request(section=make_section(lab.storage, "pytorch-operator", **roles))
        lab.service.submit(request)
        handle = lab.service.handle(request)
        outcome = wait_for(lambda: lab.service.poll(handle).outcome)
        assert outcome.status is TrialStatus.SUCCEEDED
        assert lab.service.last_output(handle) == "master"
        assert lab.cluster.all("pytorchjobs")[0]["kind"] == "PyTorchJob"


PRINTED = b"""step 1NNISDK_MEb'{"type": "PERIODICAL", "sequence": 0, "value": "0.5"}'
NNISDK_MEb'{"type": "FINAL", "sequence": 0, "value": 0.75}'
"""


@pytest.mark.parametrize("where", ["storage", "pod's log"])
def test_metrics_that_were_only_printed_count(lab: Lab, where: str) -> None:
    request = submit(lab, "Running")
    if where == "storage":
        (lab.chief_folder(request) / "stdout").write_bytes(PRINTED)
    else:
        lab.cluster.logs[f"{lab.service.handle(request).name}-worker-0"] = PRINTED
    set_condition(lab.cluster, lab.job(request), "Succeeded")
    handle = lab.service.handle(request)
    assert lab.service.poll(handle).outcome is not None
    assert lab.service.poll(handle).outcome is not None
    assert [metric.value for metric in MetricsTail(lab.storage, lab.service.metrics_file(handle)).read()] == [0.5, 0.75]


# ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────────


def reason_of(lab: Lab, request: JobRequest) -> str:
    state = lab.service.poll(lab.service.handle(request))
    assert (state.outcome, state.started_at) == (None, None)
    return state.reason


@pytest.mark.usefixtures("impatient")
def test_a_waiting_job_says_why(lab: Lab) -> None:
    request = submit(lab)
    assert "the operator has not taken the job up" in reason_of(lab, request)
    set_condition(lab.cluster, lab.job(request), "Created")
    wait_for(lambda: reason_of(lab, request) == "the operator has made no pods yet")
    name = lab.service.handle(request).name
    add_warning(lab.cluster, "default", name, "FailedCreatePod", "exceeded quota: gpus")
    assert reason_of(lab, request) == "FailedCreatePod: exceeded quota: gpus"
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    pod = add_pod(lab.cluster, lab.job(request), {"phase": "Pending", "conditions": [unschedulable]})
    assert reason_of(lab, request).startswith("Unschedulable: no node")
    lab.cluster.change("pods", pod, lambda item: item["status"].pop("conditions"))
    set_condition(lab.cluster, lab.job(request), "Running")
    wait_for(lambda: lab.service.poll(lab.service.handle(request)).started_at)
    assert lab.service.poll(lab.service.handle(request)).reason == ""


@pytest.mark.usefixtures("impatient")
def test_what_is_known_of_other_jobs_and_of_pods_that_run_explains_nothing(lab: Lab) -> None:
    request, other = submit(lab, "Created"), submit(lab, "Created")
    pending = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "too large"}
    blocked = add_pod(lab.cluster, lab.job(other), {"phase": "Pending", "conditions": [pending]})
    add_warning(lab.cluster, "default", blocked, "FailedScheduling", "too large")
    add_pod(lab.cluster, lab.job(request), {"phase": "Pending"}, "ps-0")
    runs = add_pod(lab.cluster, lab.job(request), {"phase": "Running"})
    add_warning(lab.cluster, "default", runs, "FailedMount", "not yet exported")
    assert reason_of(lab, request) == ""
    assert "too large" in reason_of(lab, other)


@pytest.mark.usefixtures("impatient")
def test_a_job_of_which_one_pod_cannot_start_says_why_and_is_given_up(tmp_path: Path) -> None:
    with make_running_lab(tmp_path) as lab:
        roles = {"worker": make_role("sleep 600"), "ps": make_role("sleep 600", image="missing")}
        request = lab.request(section=make_section(lab.storage, **roles))
        lab.service.submit(request)
        wait_for(lambda: "'Running'" in str(lab.job(request).get("status")))
        wait_for(lambda: "ImagePullBackOff" in reason_of(lab, request))
        lab.settings = lab.settings.model_copy(update={"waiting_limit_seconds": 0.01})
        outcome = wait_for(lambda: lab.service.poll(lab.service.handle(request)).outcome)
        assert outcome.lost
        assert outcome.reason.startswith("it waited longer than 0 s: ImagePullBackOff")


@pytest.mark.usefixtures("impatient")
def test_a_job_all_of_whose_pods_have_started_runs_without_limit_and_without_requests(tmp_path: Path) -> None:
    with make_running_lab(tmp_path, waiting_limit_seconds=0.01) as lab:
        roles = {"worker": make_role("sleep 600", replicas=2), "ps": make_role("sleep 600")}
        request = lab.request(section=make_section(lab.storage, **roles))
        lab.service.submit(request)
        handle = lab.service.handle(request)
        wait_for(lambda: lab.job(request).get("status", {}).get("replicaStatuses", {}).get("Worker") == {"active": 2})
        wait_for(lambda: lab.service.poll(handle).started_at)
        wait_for(lambda: lab.cluster.count()["watch tfjobs"])  # it begins after the list that answers the poll
        lab.cluster.requests.clear()
        for _ in range(20):
            assert lab.service.poll(handle).started_at
        assert lab.cluster.requests == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("pod_at", "is_given_up"), [("2026-01-01T00:00:00Z", True), ("2999-01-01T00:00:00Z", False), (None, False)]
)
def test_a_pod_that_takes_another_s_place_waits_from_then_on(lab: Lab, pod_at: str | None, is_given_up: bool) -> None:
    request = submit(lab, "Running")

    def age(job: JsonObject) -> None:
        job["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        job["spec"]["tfReplicaSpecs"]["Worker"]["replicas"] = 2
        job["status"]["replicaStatuses"] = {"Worker": {"active": 1}}

    lab.cluster.change("tfjobs", lab.service.handle(request).name, age)
    add_pod(lab.cluster, lab.job(request), {"phase": "Running"})
    if pod_at:
        name = add_pod(lab.cluster, lab.job(request), {"phase": "Pending"}, "worker-1")
        lab.cluster.change("pods", name, lambda pod: pod["metadata"].update(creationTimestamp=pod_at))
    outcome = lab.service.poll(lab.service.handle(request)).outcome
    assert (outcome is not None) is is_given_up
    if outcome is not None:
        assert outcome.reason == "it waited longer than 3600 s: not all of its pods have started"


def test_a_pod_that_cannot_be_made_beside_one_that_runs_is_waited_for_as_long(tmp_path: Path) -> None:
    with make_lab(tmp_path, waiting_limit_seconds=0.5) as lab:
        request = submit(lab, "Running")

        def age(job: JsonObject) -> None:
            job["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
            job["spec"]["tfReplicaSpecs"]["PS"] = job["spec"]["tfReplicaSpecs"]["Worker"]
            job["status"]["replicaStatuses"] = {"Worker": {"active": 1}, "PS": {}}

        handle = lab.service.handle(request)
        lab.cluster.change("tfjobs", handle.name, age)
        add_pod(lab.cluster, lab.job(request), {"phase": "Running"})
        add_warning(lab.cluster, "default", handle.name, "FailedCreatePod", "exceeded quota: gpus")
        outcome = lab.service.poll(handle).outcome
        assert outcome is not None
        assert outcome.reason == "it waited longer than 0 s: FailedCreatePod: exceeded quota: gpus"


def test_a_job_is_not_asked_why_it_waits_before_it_waits_long(lab: Lab) -> None:
    request = submit(lab)
    assert reason_of(lab, request) == ""
    assert lab.cluster.count()["list pods"] == 0


def test_all_waiting_jobs_are_explained_by_one_look(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_pods, "PATIENCE_SECONDS", -1.0)
    requests = [submit(lab) for _ in range(10)]
    for _ in range(3):
        assert all(reason_of(lab, request) for request in requests)
    counts = lab.cluster.count()
    assert (counts["list pods"], counts["list events"]) == (1, 1)


def test_a_job_that_begins_to_wait_is_not_kept_waiting_for_the_next_look(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_pods, "_NEWCOMER_SECONDS", 0.0)
    monkeypatch.setattr(waiting_pods, "PATIENCE_SECONDS", 1.0)
    first = submit(lab)
    wait_for(lambda: reason_of(lab, first))
    time.sleep(1.1)
    second = submit(lab)
    wait_for(lambda: reason_of(lab, second))
    assert lab.cluster.count()["list pods"] == 2
    assert reason_of(lab, first)
    assert lab.cluster.count()["list pods"] == 2


@pytest.mark.usefixtures("impatient")
def test_an_image_that_cannot_be_pulled_is_a_reason_to_wait(tmp_path: Path) -> None:
    with make_running_lab(tmp_path) as lab:
        request = lab.request(section=make_section(lab.storage, worker=make_role(image="missing")))
        lab.service.submit(request)
        wait_for(lambda: "ImagePullBackOff" in reason_of(lab, request))


@pytest.mark.usefixtures("impatient")
def test_rights_that_are_missing_to_see_pods_are_the_reason(lab: Lab) -> None:
    request = submit(lab)
    lab.cluster.denied.add(("pods", "list"))
    assert "cannot list" in reason_of(lab, request)


def test_a_job_that_waits_too_long_is_lost(tmp_path: Path) -> None:
    with make_lab(tmp_path, waiting_limit_seconds=0.5) as lab:
        request = submit(lab, "Created")
        running = submit(lab, "Running")
        aged = "2026-01-01T00:00:00Z"
        for made in (request, running):
            name = lab.service.handle(made).name
            lab.cluster.change("tfjobs", name, lambda job: job["metadata"].update({"creationTimestamp": aged}))
        outcome = lab.service.poll(lab.service.handle(request)).outcome
        assert outcome is not None
        assert outcome.lost
        assert outcome.reason == "it waited longer than 0 s: the operator has made no pods yet"
        assert lab.service.poll(lab.service.handle(running)).outcome is None


# ── the experiment ───────────────────────────────────────────────────────────────────────────────────────────────


def test_opening_an_experiment_lays_out_what_pods_need_once(lab: Lab) -> None:
    request = lab.request()
    folder = lab.storage / "nni" / EXPERIMENT
    sdk = folder / "sdk" / "nni" / "__init__.py"
    before = sdk.stat().st_ino
    lab.service.open_experiment(EXPERIMENT, request.section)
    assert sdk.stat().st_ino == before
    assert [path.name for path in sorted(folder.iterdir())] == ["code-1", "sdk", "trials"]
    assert all(path.stat().st_mode & 0o055 == 0o055 for path in (folder, folder / "sdk", folder / "sdk" / "nni"))
    assert lab.cluster.requests == []


def registry_section(lab: Lab, tmp_path: Path) -> KubeflowSection:
    login = tmp_path / "config.json"
    login.write_text('{"auths": {"registry": {"auth": "czNjcjN0"}}}')
    return make_section(lab.storage, worker=make_role(privateRegistryAuthPath=str(login)))


def test_a_private_registry_s_login_becomes_a_secret_that_goes_with_the_experiment(lab: Lab, tmp_path: Path) -> None:
    section = registry_section(lab, tmp_path)
    request = lab.request(section=section)
    lab.service.open_experiment(EXPERIMENT, section)
    (secret,) = lab.cluster.all("secrets")
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    assert json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"] == {
        "registry": {"auth": "czNjcjN0"}
    }
    assert secret["metadata"]["labels"]["expId"] == EXPERIMENT
    spec = lab.service.plan(request)["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]
    assert spec["imagePullSecrets"] == [{"name": secret["metadata"]["name"]}]
    lab.service.close_experiment(EXPERIMENT, section)
    lab.service.close_experiment(EXPERIMENT, section)
    assert lab.cluster.all("secrets") == []


def test_nothing_of_an_experiment_is_left_and_everything_of_others(tmp_path: Path) -> None:
    with make_running_lab(tmp_path) as lab:
        requests = [lab.request("sleep 600") for _ in range(3)]
        for request in requests:
            lab.service.submit(request)
        other = lab.request("sleep 600")
        lab.service.submit(replace(other, experiment_id="another1"))
        wait_for(lambda: len(lab.cluster.all("pods")) == 4)
        lab.service.close_experiment(EXPERIMENT, requests[0].section)
        for plural in ("tfjobs", "pods"):
            assert [item["metadata"]["labels"]["expId"] for item in lab.cluster.all(plural)] == ["another1"]


def test_pods_that_do_not_end_keep_an_experiment_open(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_CLOSING_SECONDS", 0.2)
    request = submit(lab, "Running")
    orphan = {**lab.job(request), "metadata": {**lab.job(request)["metadata"], "name": "gone"}}
    add_pod(lab.cluster, orphan, {"phase": "Running"})
    started = time.monotonic()
    with pytest.raises(TrainingError, match="gone-worker-0"):
        lab.service.close_experiment(EXPERIMENT, request.section)
    assert time.monotonic() - started < 5
    assert lab.cluster.all("tfjobs") == []
