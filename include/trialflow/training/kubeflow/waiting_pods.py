"""What is known of the pods of waiting jobs: one list for all of them, renewed every ten seconds while one waits.

A job that has become one of them since the last look is not kept waiting for the next one.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialflow.training.kubeflow.api import ClusterError, resource_path
from trialflow.training.kubeflow.conditions import JobStatus, Phase, read_time
from trialflow.training.kubeflow.diagnosis import explain_waiting, has_started
from trialflow.training.kubeflow.names import JOB_NAME_LABEL, MANAGED_BY, MANAGER, selector

if TYPE_CHECKING:
    from collections.abc import Callable

    from trialflow.records import JsonObject
    from trialflow.training.kubeflow.api import ClusterApi

# A pod that starts as it should is running by then; only who waits longer is asked why.
PATIENCE_SECONDS = 5.0
_RENEWAL_SECONDS = 10.0
_NEWCOMER_SECONDS = 2.0
_SELECTOR = selector({MANAGED_BY: MANAGER})


@dataclass(frozen=True)
class Wait:
    """What a job waits for.

    Attributes:
        reason: For people; empty while it is on its way.
        since: In seconds since the epoch; of a job that runs in part, since when one of its pods has not started.
    """

    reason: str
    since: float


class WaitingPods:
    """The pods of ours in one namespace, and the warnings about them.

    Args:
        api: The cluster.
        namespace: Of the jobs.
    """

    def __init__(self, api: ClusterApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        # By the name of their job, and of what they are about.
        self._pods: dict[str, list[JsonObject]] = {}
        self._events: dict[str, list[JsonObject]] = {}
        self._trouble = ""

    def explain(self, name: str, status: JobStatus) -> Wait:
        """Why a job waits."""
        waits_for = time.time() - status.created_at - PATIENCE_SECONDS
        if waits_for < 0:
            return Wait("", status.created_at)
        with self._lock:
            age = time.monotonic() - self._looked_at
            if age > _RENEWAL_SECONDS or age > max(waits_for, _NEWCOMER_SECONDS):
                self._look()
            if self._trouble:
                return Wait(self._trouble, _since(status, [], ""))
            pods = self._pods.get(name, [])
            waiting = [pod["metadata"] for pod in pods if not has_started(pod)]
            about = [name, *(metadata["name"] for metadata in waiting)]
            events = [event for what in about for event in self._events.get(what, [])]
        reason = explain_waiting(status, pods, events)
        return Wait(reason, _since(status, waiting, reason))

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        try:
            pods = self._api.get(resource_path("v1", self._namespace, "pods"), labelSelector=_SELECTOR)
            events = self._api.get(resource_path("v1", self._namespace, "events"), fieldSelector="type=Warning")
        except ClusterError as error:
            self._trouble = f"it waits, and why cannot be seen: {error}"
            return
        self._trouble = ""
        self._pods = _group(pods, lambda pod: pod["metadata"].get("labels", {}).get(JOB_NAME_LABEL, ""))
        self._events = _group(events, lambda event: event.get("involvedObject", {}).get("name", ""))


def _since(status: JobStatus, waiting: list[JsonObject], reason: str) -> float:
    """Since when a job waits, told from the metadata of its pods that have not started."""
    if status.phase is not Phase.STARTING:
        return status.created_at
    if waiting:  # One may have taken the place of a pod that ran for long.
        return min(read_time(metadata["creationTimestamp"]) or status.created_at for metadata in waiting)
    # Without a reason, its status and our last look at its pods were not taken at the same moment.
    return status.created_at if reason else time.time()


def _group(found: JsonObject, key: Callable[[JsonObject], str]) -> dict[str, list[JsonObject]]:
    groups: dict[str, list[JsonObject]] = {}
    for item in found.get("items", []):
        groups.setdefault(key(item), []).append(item)
    return groups


# Of this process, by cluster and namespace; the cluster is kept with them, so that its number stays its own.
_known: dict[tuple[int, str], tuple[ClusterApi, WaitingPods]] = {}
_known_lock = threading.Lock()


def waiting_pods_of(api: ClusterApi, namespace: str) -> WaitingPods:
    """The waiting pods of a namespace, which all jobs of this process share."""
    with _known_lock:
        return _known.setdefault((id(api), namespace), (api, WaitingPods(api, namespace)))[1]
