"""Reading what a trial has written, for people; the trial may have put anything in its place."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.errors import NotFoundError
from trialflow.records import StrEnum

if TYPE_CHECKING:
    from trialflow.records import Experiment, Trial


class LogName(StrEnum):
    """The outputs of a trial."""

    STDOUT = "stdout"
    STDERR = "stderr"


def read_trial_log(experiment: Experiment, trial: Trial, name: LogName, offset: int, max_bytes: int) -> bytes:
    """A part of an output of the trial's present attempt; from the end when ``offset`` is negative.

    A trial writes its own folder. So no link in it is followed, and only plain files are read: it must not be able to
    show its readers a file that is not its own, nor to hold them up.

    Raises:
        NotFoundError: There is no such output, or not yet.
    """
    root = Path(experiment.folder).resolve()
    folder = root / "trials" / trial.id / str(trial.attempt)
    chief = (trial.job or {}).get("chief")  # In a job of several replicas, this one stands for the trial.
    path = (folder / "output" / chief if chief else folder) / name.value
    missing = f"trial {trial.label} has no {name} in {path}, or it cannot be seen from here"
    if path.parent.resolve() != path.parent:
        raise NotFoundError(missing)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise NotFoundError(missing) from error
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise NotFoundError(missing)
        file.seek(offset if offset >= 0 else max(0, facts.st_size + offset))
        return file.read(max_bytes)
