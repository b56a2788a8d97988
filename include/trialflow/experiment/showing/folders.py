"""Where an experiment's code runs, and where each attempt of a trial keeps its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trialflow.records import Experiment, Trial
    from trialflow.training import TrainingService


def attempt_folder(experiment: Experiment, trial: Trial, service: TrainingService[Any, Any]) -> Path:
    """The folder of the trial's present attempt; the one that its job was submitted with, if it was."""
    if trial.job is not None:
        return Path(service.read_handle(trial.job).folder)
    return service.attempt_folder(Path(experiment.folder), trial.id, trial.attempt)


def output_folder(experiment: Experiment, trial: Trial, service: TrainingService[Any, Any]) -> Path:
    """Where the trial's present attempt writes: its stdout and stderr, and what its code leaves."""
    if trial.job is not None:
        return service.output_folder(service.read_handle(trial.job))
    return attempt_folder(experiment, trial, service)


def code_folders(experiment: Experiment, section: Any, service: TrainingService[Any, Any]) -> tuple[str, str]:
    """Where trials run, and the copy that was kept of it; empty where they run in the copy.

    Annotated code runs as it was rewritten, and code whose folder is gone as it was copied.
    """
    spec, copy = experiment.spec, experiment.code_folder or ""
    runs_in_place = not spec.use_annotation and service.runs_in_place(section)
    return (spec.code_directory, copy) if runs_in_place and Path(spec.code_directory).is_dir() else (copy, "")
