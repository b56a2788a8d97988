"""Reading what a trial has written, for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.errors import NotFoundError
from trialflow.experiment.showing.folders import output_folder
from trialflow.records import StrEnum
from trialflow.training import get_training_service
from trialflow.trial_files import read_part

if TYPE_CHECKING:
    from trialflow.records import Experiment, Trial


class LogName(StrEnum):
    """The outputs of a trial."""

    STDOUT = "stdout"
    STDERR = "stderr"


def read_trial_log(experiment: Experiment, trial: Trial, name: LogName, offset: int, max_bytes: int) -> bytes:
    """A part of an output of the trial's present attempt; from the end when ``offset`` is negative.

    Raises:
        NotFoundError: There is no such output, or not yet.
    """
    root = Path(experiment.folder)
    path = output_folder(experiment, trial, get_training_service(experiment.spec.platform)) / name.value
    try:
        return read_part(root, path, offset, max_bytes).content
    except OSError as error:
        missing = f"trial {trial.label} has no {name} in {path}, or it cannot be seen from here"
        raise NotFoundError(missing) from error
