"""Names and labels in the cluster: what is ours, and which trial it belongs to.

Ids come from outside and mix upper and lower case; names in a cluster are lower case and at most 63 characters, with
the operator's ``-worker-0`` still to be added. Lower-casing is safe, because the ledger gives no two trials of an
experiment ids that differ in case alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trialflow.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "trialflow"
APP, EXPERIMENT, TRIAL, ATTEMPT = "app", "expId", "trialId", "attempt"
OWN_LABELS = frozenset({MANAGED_BY, APP, EXPERIMENT, TRIAL, ATTEMPT})
# Set by the operator on every pod; old operators leave the prefix out.
REPLICA_INDEX_LABEL = "training.kubeflow.org/replica-index"
JOB_NAME_LABEL = "training.kubeflow.org/job-name"

MAX_JOB_NAME = 50
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ID = re.compile(r"[A-Za-z0-9]{1,16}")


def job_name(experiment_id: str, trial_id: str, attempt: int) -> str:
    """The name of an attempt's job, as NNI called it, and the attempt.

    Raises:
        TrainingError: An id is none that Trialflow gives.
    """
    for identifier in (experiment_id, trial_id):
        if not _ID.fullmatch(identifier):
            raise TrainingError(
                f"ids of experiments and trials are 1 to 16 letters and digits; got {identifier!r}; "
                "was the store written by another program?"
            )
    name = f"nni-exp-{experiment_id}-trial-{trial_id}-{attempt}".lower()
    if len(name) > MAX_JOB_NAME:
        raise TrainingError(
            f"a job's name has at most {MAX_JOB_NAME} characters, so that its pods' names fit; got {name}; "
            "use a shorter experiment id"
        )
    return name


def job_labels(experiment_id: str, trial_id: str, attempt: int) -> dict[str, str]:
    """The labels of a job and its pods."""
    return {**experiment_labels(experiment_id), TRIAL: trial_id, ATTEMPT: str(attempt)}


def experiment_labels(experiment_id: str) -> dict[str, str]:
    """The labels of everything that belongs to an experiment."""
    return {MANAGED_BY: MANAGER, APP: "nni", EXPERIMENT: experiment_id}


def selector(labels: Mapping[str, str]) -> str:
    """The label selector that finds what carries these labels."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def secret_name(experiment_id: str, role: str) -> str:
    """The name of the image pull secret of a role."""
    return f"nni-exp-{experiment_id}-registry-{role}".lower()
