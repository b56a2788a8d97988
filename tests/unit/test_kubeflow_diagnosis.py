"""Conditions, pods and events in, verdicts for people out."""

from __future__ import annotations

from typing import Any

import pytest

from trialflow.records import JsonObject, TrialStatus
from trialflow.training.kubeflow.attempt_folder import Exit
from trialflow.training.kubeflow.conditions import JobStatus, Phase, read_status
from trialflow.training.kubeflow.diagnosis import explain_failure, explain_vanished, explain_waiting
from trialflow.training.kubeflow.run_script import LOST_EXIT_CODE

NAME = "nni-exp-a-trial-b-1"
FAILED = JobStatus(Phase.FAILED, 100.0, 110.0, 120.0, "TFJob has failed because 1 Worker replica(s) failed.")


def condition(kind: str, second: int, status: str = "True", message: str = "") -> JsonObject:
    at = f"2026-01-01T00:00:{second:02}Z"
    return {"type": kind, "status": status, "lastTransitionTime": at, "message": message}


def job(*conditions: JsonObject, **metadata: Any) -> JsonObject:
    created = {"name": NAME, "creationTimestamp": "2026-01-01T00:00:00Z", **metadata}
    return {"metadata": created, "status": {"conditions": list(conditions)}}


@pytest.mark.parametrize(
    ("conditions", "phase"),
    [
        ([], Phase.UNSEEN),
        ([condition("Created", 1)], Phase.WAITING),
        ([condition("Created", 1), condition("Suspended", 1)], Phase.SUSPENDED),
        ([condition("Created", 1), condition("Suspended", 2), condition("Running", 3)], Phase.RUNNING),
        ([condition("Created", 1), condition("Suspended", 2, "False"), condition("Created", 3)], Phase.WAITING),
        ([condition("Created", 1), condition("Running", 1)], Phase.RUNNING),
        ([condition("Running", 5), condition("Created", 1)], Phase.RUNNING),
        ([condition("Running", 2, "False"), condition("Restarting", 3)], Phase.RUNNING),
        ([condition("Created", 1), condition("Running", 2, "False"), condition("Succeeded", 9)], Phase.SUCCEEDED),
        ([condition("Created", 1), condition("Running", 1, "False"), condition("Failed", 1)], Phase.FAILED),
        ([condition("Unheard", 9)], Phase.UNSEEN),
    ],
)
def test_the_newest_condition_that_is_true_counts(conditions: list[JsonObject], phase: Phase) -> None:
    assert read_status(job(*conditions)).phase is phase


@pytest.mark.parametrize(
    ("counts", "phase"),
    [
        (None, Phase.RUNNING),
        ({}, Phase.RUNNING),
        ({"Worker": {"active": 2}, "PS": {"active": 1}}, Phase.RUNNING),
        ({"Worker": {"active": 1, "succeeded": 1}, "PS": {"failed": 1}}, Phase.RUNNING),
        ({"Worker": {"active": 1}, "PS": {"active": 1}}, Phase.STARTING),
        ({"Worker": {"active": 2}, "PS": {}}, Phase.STARTING),
        ({"Worker": {"active": 2}, "PS": None}, Phase.STARTING),
        ({"Worker": {"active": 2}}, Phase.STARTING),
    ],
)
def test_a_job_of_which_a_pod_has_not_started_does_not_run_yet(counts: JsonObject | None, phase: Phase) -> None:
    running = job(condition("Created", 1), condition("Running", 2))
    running["spec"] = {"runPolicy": {}, "tfReplicaSpecs": {"Worker": {"replicas": 2}, "PS": {"replicas": 1}}}
    running["status"]["replicaStatuses"] = counts
    assert read_status(running).phase is phase
    running["status"]["conditions"].append(condition("Failed", 3))
    assert read_status(running).phase is Phase.FAILED


def test_a_job_without_a_status_is_unseen() -> None:
    assert read_status({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}).phase is Phase.UNSEEN


def test_times_are_read_where_the_operator_wrote_them() -> None:
    ended = job(condition("Running", 5, "False"), condition("Succeeded", 9))
    status = read_status(ended)
    assert (status.started_at, status.ended_at) == (status.created_at + 5, status.created_at + 9)
    assert status.created_at == 1767225600.0


def test_a_job_that_ended_before_it_was_seen_to_run_began_when_it_was_taken_up() -> None:
    short = job(condition("Created", 1), condition("Succeeded", 3))
    short["status"]["startTime"] = "2026-01-01T00:00:02Z"
    assert read_status(short).started_at == 1767225602.0


def test_a_job_that_is_being_deleted_is_as_good_as_gone_unless_it_has_ended() -> None:
    stamp = "2026-01-01T00:00:30Z"
    assert read_status(job(condition("Running", 5), deletionTimestamp=stamp)).phase is Phase.DELETED
    assert read_status(job(condition("Succeeded", 5), deletionTimestamp=stamp)).phase is Phase.SUCCEEDED


def pod(replica: str = "worker-0", container: JsonObject | None = None, **status: Any) -> JsonObject:
    labels = {"training.kubeflow.org/job-name": NAME}
    if container is not None:
        status["containerStatuses"] = [{"name": "tensorflow", "state": container}]
    return {"metadata": {"name": f"{NAME}-{replica}", "labels": labels}, "status": status}


def ended(code: int, reason: str = "Error", **more: Any) -> JsonObject:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def disrupted(reason: str, message: str = "") -> list[JsonObject]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]


@pytest.mark.parametrize(
    ("pods", "text"),
    [
        ([pod(reason="Evicted", message="The node was low on resource: memory.")], "low on resource: memory"),
        ([pod(reason="Preempting")], "higher priority"),
        ([pod(reason="NodeLost")], "its node was lost"),
        ([pod(reason="DeadlineExceeded")], "its time on the node was over"),
        ([pod(reason="Terminated", message="imminent node shutdown")], "node was shut down: imminent"),
        ([pod(reason="OutOfcpu")], "no room for it on its node (OutOfcpu)"),
        ([pod(container=ended(143), conditions=disrupted("EvictionByEvictionAPI", "Eviction API: evicting"))], "Evict"),
        ([pod(container=ended(137), conditions=disrupted("PreemptionByScheduler"))], "PreemptionByScheduler"),
        ([pod(container=ended(137, "ContainerStatusUnknown"))], "its node was lost"),
        ([pod(container=ended(1)), pod("worker-1", reason="Evicted")], "worker-1 was lost"),
        ([pod(container=ended(LOST_EXIT_CODE))], "ended from outside while it ran"),
        ([], "no pod tells why it failed: TFJob has failed"),
        ([pod(container={"running": {}})], "no pod tells why"),
    ],
)
def test_what_was_done_to_a_trial_is_the_infrastructure_s_failure(pods: list[JsonObject], text: str) -> None:
    outcome = explain_failure(FAILED, pods, [], "worker-0", 128)
    assert (outcome.status, outcome.lost, outcome.exit_code) == (TrialStatus.FAILED, True, None)
    assert text in outcome.reason
    assert (outcome.started_at, outcome.ended_at) == (110.0, 120.0)


def test_an_evicted_pod_is_lost_whatever_its_trial_said_when_it_was_ended() -> None:
    evicted = pod(container=ended(143), conditions=disrupted("EvictionByEvictionAPI"))
    assert explain_failure(FAILED, [evicted], [Exit("worker-0", 143, 1.0)], "worker-0", 128).lost


@pytest.mark.parametrize(
    ("pods", "exits", "code", "text"),
    [
        ([pod(container=ended(1))], [Exit("worker-0", 1, 1.0)], 1, "exit code 1"),
        ([], [Exit("worker-0", 127, 1.0)], 127, "command was not found"),
        ([], [Exit("ps-0", 4, 1.0)], 4, "exit code 4 (ps-0)"),
        ([pod(container=ended(137, "OOMKilled"))], [], 137, "OOMKilled: it used more than its memory of 128 MB; raise"),
        ([pod(container=ended(137, "OOMKilled"))], [Exit("worker-0", 137, 1.0)], 137, "OOMKilled"),
        ([pod(container=ended(128, "StartError", message='exec: "sh": not found'))], [], 128, 'exec: "sh": not found'),
        ([pod(container=ended(LOST_EXIT_CODE))], [Exit("worker-0", LOST_EXIT_CODE, 1.0)], 75, "exit code 75"),
        (
            [pod(container=ended(0))],
            [Exit("ps-0", 0, 0.5), Exit("worker-1", 3, 1.0), Exit("worker-0", 143, 2.0)],
            3,
            "exit code 3 (worker-1)",
        ),
    ],
)
def test_what_a_trial_did_is_its_own_failure(
    pods: list[JsonObject], exits: list[Exit], code: int, text: str
) -> None:
    outcome = explain_failure(FAILED, pods, exits, "worker-0", 128)
    assert (outcome.status, outcome.lost, outcome.exit_code) == (TrialStatus.FAILED, False, code)
    assert text in outcome.reason


@pytest.mark.parametrize(
    ("exits", "status", "lost"),
    [
        ([], TrialStatus.FAILED, True),
        ([Exit("worker-0", 143, 1.0)], TrialStatus.FAILED, True),
        ([Exit("worker-0", 137, 1.0)], TrialStatus.FAILED, True),
        ([Exit("worker-1", 0, 1.0)], TrialStatus.FAILED, True),
        ([Exit("worker-0", 0, 1.0)], TrialStatus.SUCCEEDED, False),
        ([Exit("worker-0", 139, 1.0)], TrialStatus.FAILED, False),
    ],
)
def test_a_job_that_is_gone_ended_as_its_chief_noted_or_was_lost(
    exits: list[Exit], status: TrialStatus, lost: bool
) -> None:
    outcome = explain_vanished(exits, "worker-0", "gone")
    assert (outcome.status, outcome.lost) == (status, lost)


def scheduled(message: str, reason: str = "Unschedulable") -> list[JsonObject]:
    return [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]


def event(involved: str, reason: str, message: str, at: str = "2026-01-01T00:00:10Z") -> JsonObject:
    return {"involvedObject": {"name": involved}, "reason": reason, "message": message, "lastTimestamp": at}


def waiting(reason: str, message: str = "") -> JsonObject:
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("phase", "pods", "events", "text"),
    [
        (Phase.UNSEEN, [], [], "the operator has not taken the job up; check that the training operator runs"),
        (Phase.WAITING, [], [], "the operator has made no pods yet"),
        (
            Phase.WAITING,
            [],
            [event(NAME, "FailedCreatePod", 'Error creating: pods "x-worker-0" is forbidden: exceeded quota: gpu')],
            "FailedCreatePod: exceeded quota: gpu",
        ),
        (Phase.WAITING, [pod(conditions=scheduled("0/3 nodes: Insufficient nvidia.com/gpu."))], [], "Insufficient nv"),
        (Phase.WAITING, [pod(conditions=scheduled("", "SchedulingGated"))], [], "SchedulingGated"),
        (Phase.WAITING, [pod(container=waiting("ImagePullBackOff", 'Back-off "x"'))], [], "privateRegistryAuthPath"),
        (Phase.WAITING, [pod(container=waiting("CreateContainerConfigError", "secret missing"))], [], "secret missing"),
        (Phase.WAITING, [pod(container=waiting("ContainerCreating"))], [], ""),
        (
            Phase.WAITING,
            [pod(container=waiting("ContainerCreating"))],
            [
                event(f"{NAME}-worker-0", "FailedScheduling", "old", "2026-01-01T00:00:01Z"),
                event(f"{NAME}-worker-0", "FailedMount", "mount.nfs: access denied"),
            ],
            "FailedMount: mount.nfs: access denied (check that every node can mount the storage)",
        ),
        (Phase.WAITING, [pod(container={"running": {}}), pod("ps-0", waiting("ErrImagePull"))], [], "ErrImagePull"),
        (Phase.STARTING, [pod(phase="Running"), pod("ps-0", conditions=scheduled("no node fits"))], [], "no node fits"),
        (Phase.STARTING, [pod(phase="Running"), pod("ps-0", waiting("ContainerCreating"))], [], ""),
        (Phase.SUSPENDED, [], [], "the job is suspended: by a queue"),
    ],
)
def test_a_waiting_job_has_a_reason(
    phase: Phase, pods: list[JsonObject], events: list[JsonObject], text: str
) -> None:
    reason = explain_waiting(JobStatus(phase, 0.0, message="by a queue"), pods, events)
    assert text in reason
    assert bool(text) is bool(reason)
