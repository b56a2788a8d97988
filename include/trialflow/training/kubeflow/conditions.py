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
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    DELETED = "DELETED"


# Type of the newest condition that is "True" → what the job is doing.
_PHASES = {
    "Created": Phase.WAITING,  # The operator has taken it up; no pod runs yet.
    "Queuing": Phase.WAITING,  # A queue in front of the operator holds it.
    "Suspended": Phase.SUSPENDED,  # Somebody, or a queue, has told the operator to make no pods.
    "Running": Phase.RUNNING,  # The replica that stands for the job runs.
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
        started_at: When it was first seen to run; of an ended job that never was, when the operator took it up.
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
    if metadata.get("deletionTimestamp") and not ended:
        phase = Phase.DELETED
    running = next((item for item in conditions if item["type"] == "Running"), None)
    return JobStatus(
        phase=phase,
        created_at=_seconds(metadata.get("creationTimestamp")) or 0.0,
        # A short job ends before the operator has seen it run.
        started_at=_time_of(running) or (_seconds(status.get("startTime")) if ended else None),
        ended_at=(_seconds(status.get("completionTime")) or _time_of(newest)) if ended else None,
        message=(newest or {}).get("message") or "",
    )


def _age(condition: JsonObject) -> tuple[float, int]:
    return _time_of(condition) or 0.0, _ORDER.index(condition["type"])


def _time_of(condition: JsonObject | None) -> float | None:
    condition = condition or {}
    return _seconds(condition.get("lastTransitionTime")) or _seconds(condition.get("lastUpdateTime"))


def _seconds(timestamp: str | None) -> float | None:
    """Seconds since the epoch of a Kubernetes time, which always ends in Z."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp() if timestamp else None
