"""Where an experiment's code runs, and where each attempt of a trial keeps its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trialflow.records import Experiment, Trial
    from trialflow.training import TrainingService


def attempt_folder(experiment: Experiment, trial: Trial, service: TrainingService) -> Path:
    """The folder of the trial's present attempt; the one that its job was submitted with, if it was."""
    given = (trial.job or {}).get("folder")
    if isinstance(given, str):
        return Path(given)
    return service.attempt_folder(Path(experiment.folder), trial.id, trial.attempt)


def output_folder(experiment: Experiment, trial: Trial, service: TrainingService) -> Path:
    """Where the trial's present attempt writes: its stdout and stderr, and what its code leaves."""
    return attempt_folder(experiment, trial, service) if trial.job is None else service.output_folder(trial.job)


def code_places(experiment: Experiment, service: TrainingService) -> tuple[str, str]:
    """Where trials run, and the copy that was kept of it; empty where they run in the copy.

    Annotated code runs as it was rewritten, and code whose folder is gone as it was copied.
    """
    spec, copy = experiment.spec, experiment.code_folder or ""
    is_here = service.runs_in_place(spec.training) and not spec.use_annotation and Path(spec.code_directory).is_dir()
    return (spec.code_directory, copy) if is_here else (copy, "")
