"""Reading what a trial has written, for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trialflow.errors import NotFoundError
from trialflow.experiment.showing.folders import output_folder
from trialflow.records import StrEnum
from trialflow.training import get_training_service
from trialflow.trial_files import read_stretch

if TYPE_CHECKING:
    from trialflow.records import Experiment, Trial


class LogName(StrEnum):
    """The outputs of a trial."""

    STDOUT = "stdout"
    STDERR = "stderr"


class LogPart(NamedTuple):
    """A part of an output.

    Attributes:
        content: What to show of it.
        length: How many bytes of the output it stands for; 0 at the end.
    """

    content: bytes
    length: int


def read_trial_log(experiment: Experiment, trial: Trial, name: LogName, offset: int, max_bytes: int) -> LogPart:
    """A part of an output of the trial's present attempt; from the end when ``offset`` is negative.

    Where the middle of it was not kept, a line says how many bytes that were.

    Raises:
        NotFoundError: There is no such output, or not yet.
    """
    root = Path(experiment.folder)
    path = output_folder(experiment, trial, get_training_service(experiment.spec.platform)) / name.value
    try:
        content, left_out = read_stretch(root, path, offset, max_bytes)
    except OSError as error:
        missing = f"trial {trial.label} has no {name} in {path}, or it cannot be seen from here"
        raise NotFoundError(missing) from error
    if left_out:
        return LogPart(f"\n[{left_out} bytes were left out here]\n".encode(), left_out)
    return LogPart(content, len(content))
