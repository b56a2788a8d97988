"""Why a job waits, and why it failed: told from its pods and events. Pure functions, one table each.

The rule for a failed job: what the trial did (it ended with an exit code, or was killed for its memory) is the trial's
failure. What was done to it (evicted, preempted, its node lost, its pod deleted) is the infrastructure's, and so is
whatever left no exit code.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

from trialflow.records import Outcome, TrialStatus
from trialflow.training.exits import describe_exit
from trialflow.training.kubeflow.conditions import JobStatus, Phase
from trialflow.training.kubeflow.run_script import LOST_EXIT_CODE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trialflow.records import JsonObject
    from trialflow.training.kubeflow.attempt_folder import Exit

# A pod's status.reason when it did not end by itself.
_LOST_PODS = {
    "Evicted": "evicted from its node",
    "Preempted": "preempted by a pod of higher priority",
    "Preempting": "preempted by a pod of higher priority",
    "NodeLost": "its node was lost",
    "NodeShutdown": "its node was shut down",
    "Shutdown": "its node was shut down",
    "Terminated": "its node was shut down",
    "DeadlineExceeded": "its time on the node was over",
    "NodeAffinity": "its node does not accept it any more",
    "UnexpectedAdmissionError": "its node did not admit it",
}
# A terminated container's reason when the runtime lost it.
_LOST_CONTAINERS = {"ContainerStatusUnknown": "its node was lost"}
# Exit codes of a command that was ended together with its job.
_KILLED = (128 + signal.SIGKILL, 128 + signal.SIGTERM)
# What an event says before it says why; a task's label has no room for it.
_UNMADE_POD = re.compile(r'^Error creating: pods "[^"]*" is forbidden: ')
# A waiting container's reasons that are no reason: it is on its way.
_ON_ITS_WAY = frozenset({"ContainerCreating", "PodInitializing"})
_HINTS = {
    "ImagePullBackOff": "check the image's name and, for a private registry, privateRegistryAuthPath",
    "ErrImagePull": "check the image's name and, for a private registry, privateRegistryAuthPath",
    "InvalidImageName": "correct the role's image",
    "CreateContainerConfigError": "check what the role's podTemplate refers to",
    "Unschedulable": "ask for less, or wait until there is room",
    "FailedMount": "check that every node can mount the storage",
}


# ── why it waits ─────────────────────────────────────────────────────────────────────────────────────────────────


def explain_waiting(status: JobStatus, pods: Sequence[JsonObject], events: Sequence[JsonObject]) -> str:
    """One sentence for people, or nothing when the job is merely on its way.

    Args:
        status: The job's.
        pods: The job's.
        events: The warnings about the job and its pods that have not started, in any order.
    """
    if status.phase is Phase.SUSPENDED:
        return f"the job is suspended: {status.message}".rstrip(": ")
    for pod in pods:
        reason = _why_pod_waits(pod)
        if reason:
            return reason
    if events:
        newest = max(events, key=_event_time)
        return _sentence(str(newest.get("reason", "")), str(newest.get("message", "")))
    if pods:
        return ""
    if status.phase is Phase.UNSEEN:
        return "the operator has not taken the job up; check that the training operator runs and serves this namespace"
    return "the operator has made no pods yet"


def has_started(pod: JsonObject) -> bool:
    """Whether a pod runs, or has run."""
    return pod.get("status", {}).get("phase") in ("Running", "Succeeded", "Failed")


def _why_pod_waits(pod: JsonObject) -> str:
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _sentence(str(condition.get("reason", "")), str(condition.get("message", "")))
    for container in _containers(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        reason = str(waiting.get("reason", ""))
        if reason and reason not in _ON_ITS_WAY:
            return _sentence(reason, str(waiting.get("message", "")))
    return ""


def _sentence(reason: str, message: str) -> str:
    message = _UNMADE_POD.sub("", message)
    hint = f" ({_HINTS[reason]})" if reason in _HINTS else ""
    return f"{reason}: {message}".strip(": ") + hint


def _event_time(event: JsonObject) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


# ── why it failed ────────────────────────────────────────────────────────────────────────────────────────────────


def explain_failure(
    status: JobStatus, pods: Sequence[JsonObject], exits: Sequence[Exit], chief: str, memory_mb: int
) -> Outcome:
    """Whether the trial failed or was lost.

    Args:
        status: Of the failed job.
        pods: The job's.
        exits: How its replicas ended, the first one first.
        chief: The replica that stands for the trial; others are named.
        memory_mb: What a replica was given, for the advice after a kill for memory; 0 if it had no limit.
    """
    lost = next(filter(None, map(_why_pod_was_lost, pods)), "")
    if lost:
        return _failed(status, reason=lost, lost=True)
    for pod in pods:
        for container in _containers(pod):
            ended = container.get("state", {}).get("terminated") or {}
            if ended.get("reason") == "OOMKilled":
                limit = f" of {memory_mb} MB; raise memoryMB" if memory_mb else ""
                return _failed(status, ended.get("exitCode", 137), f"OOMKilled: it used more than its memory{limit}")
    first = next((end for end in exits if end.code != 0), None)
    if first is not None:
        where = "" if first.replica == chief else f" ({first.replica})"
        return _failed(status, first.code, describe_exit(first.code) + where)
    return _judge_containers(status, pods)


def explain_vanished(exits: Sequence[Exit], chief: str, reason: str) -> Outcome:
    """What became of a job that is gone: as its chief replica noted, or it was lost."""
    end = next((end for end in exits if end.replica == chief), None)
    if end is None or end.code in _KILLED:
        return Outcome(TrialStatus.FAILED, reason=reason, lost=True)
    status = TrialStatus.SUCCEEDED if end.code == 0 else TrialStatus.FAILED
    return Outcome(status, end.code, "" if end.code == 0 else describe_exit(end.code), ended_at=end.at)


def _why_pod_was_lost(pod: JsonObject) -> str:
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    reason = str(status.get("reason", ""))
    if reason in _LOST_PODS or reason.startswith("OutOf"):
        what = _LOST_PODS.get(reason, f"there was no room for it on its node ({reason})")
        return f"the pod {name} was lost: {what}: {status.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            detail = condition.get("message") or condition.get("reason")
            return f"the pod {name} was lost: {detail}"
    for container in _containers(pod):
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("reason") in _LOST_CONTAINERS:
            return f"the pod {name} was lost: {_LOST_CONTAINERS[ended['reason']]}"
    return ""


def _judge_containers(status: JobStatus, pods: Sequence[JsonObject]) -> Outcome:
    """A failure of which no run script has left an exit code."""
    for pod in pods:
        for container in _containers(pod):
            ended = container.get("state", {}).get("terminated") or {}
            code = ended.get("exitCode", 0)
            if code == LOST_EXIT_CODE:
                return _failed(status, reason="its pod was ended from outside while it ran", lost=True)
            if code:
                detail = ended.get("message") or ended.get("reason") or "see the pod's log"
                return _failed(status, code, f"exit code {code}: {detail}")
    return _failed(status, reason=f"no pod tells why it failed: {status.message}".rstrip(": "), lost=True)


def _failed(status: JobStatus, exit_code: int | None = None, reason: str = "", *, lost: bool = False) -> Outcome:
    return Outcome(TrialStatus.FAILED, exit_code, reason, status.started_at, status.ended_at, lost)


def _containers(pod: JsonObject) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
