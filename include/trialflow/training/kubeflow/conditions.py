"""Reading a job's conditions: one table, by which the operators' words become ours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from trialflow.records import StrEnum

if TYPE_CHECKING:
    from trialflow.records import JsonObject


class Phase(StrEnum):
    """What a job is doing."""

    UNSEEN = "UNSEEN"
    WAITING = "WAITING"
    SUSPENDED = "SUSPENDED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    DELETED = "DELETED"


# Type of the newest condition that is "True" → what the job is doing.
_PHASES = {
    "Created": Phase.WAITING,  # The operator has taken it up; no pod runs yet.
    "Queuing": Phase.WAITING,  # A queue in front of the operator holds it.
    "Suspended": Phase.SUSPENDED,  # Somebody, or a queue, has told the operator to make no pods.
    "Running": Phase.RUNNING,  # The replica that stands for the job runs; others may not have started.
    "Restarting": Phase.RUNNING,  # A pod is replaced; a replica that is run twice gives up by itself.
    "Succeeded": Phase.SUCCEEDED,
    "Failed": Phase.FAILED,
}
# When two conditions bear the same second, the later stage is the newer one.
_ORDER = list(_PHASES)


@dataclass(frozen=True)
class JobStatus:
    """A job's status, in our words.

    Attributes:
        created_at: In seconds since the epoch, as all times here.
        started_at: When its first pod was seen to run; of an ended job of which none was, when the operator took it up.
        ended_at: When it ended; ``None`` while it has not.
        message: What the operator says about the newest condition.
    """

    phase: Phase
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    message: str = ""


def read_status(job: JsonObject) -> JobStatus:
    """Read a job as the API gives it; a kind without conditions yet is `Phase.UNSEEN`."""
    metadata, status = job["metadata"], job.get("status") or {}
    conditions = [item for item in status.get("conditions") or [] if item.get("type") in _PHASES]
    true = [item for item in conditions if item.get("status") == "True"]
    newest = max(true, key=_age, default=None)
    phase = _PHASES[newest["type"]] if newest else Phase.UNSEEN
    ended = phase in (Phase.SUCCEEDED, Phase.FAILED)
    if phase is Phase.RUNNING and _lacks_pods(job):
        phase = Phase.STARTING
    if metadata.get("deletionTimestamp") and not ended:
        phase = Phase.DELETED
    running = next((item for item in conditions if item["type"] == "Running"), None)
    return JobStatus(
        phase=phase,
        created_at=read_time(metadata.get("creationTimestamp")) or 0.0,
        # A short job ends before the operator has seen it run.
        started_at=_time_of(running) or (read_time(status.get("startTime")) if ended else None),
        ended_at=(read_time(status.get("completionTime")) or _time_of(newest)) if ended else None,
        message=(newest or {}).get("message") or "",
    )


def _lacks_pods(job: JsonObject) -> bool:
    """Whether a replica has no pod that has started; of an operator that does not count them, that none lacks one."""
    counts = job["status"].get("replicaStatuses")
    if not counts:
        return False
    planned: JsonObject = next((specs for key, specs in job["spec"].items() if key.endswith("ReplicaSpecs")), {})
    return any(
        sum((counts.get(kind) or {}).get(key, 0) for key in ("active", "succeeded", "failed")) < replicas["replicas"]
        for kind, replicas in planned.items()
    )


def _age(condition: JsonObject) -> tuple[float, int]:
    return _time_of(condition) or 0.0, _ORDER.index(condition["type"])


def _time_of(condition: JsonObject | None) -> float | None:
    condition = condition or {}
    return read_time(condition.get("lastTransitionTime")) or read_time(condition.get("lastUpdateTime"))


def read_time(timestamp: str | None) -> float | None:
    """Seconds since the epoch of a Kubernetes time, which always ends in Z."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp() if timestamp else None
