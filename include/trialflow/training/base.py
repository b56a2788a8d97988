"""The seam to whatever runs the jobs of trials."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trialflow.errors import TrainingError
from trialflow.records import parameter_record
from trialflow.settings import Settings, get_settings

if TYPE_CHECKING:
    from trialflow.messages import Problem, ProblemMaker
    from trialflow.records import JsonObject, Outcome

# platform → the class that serves it
REGISTRY = {
    "local": "trialflow.training.local:LocalTrainingService",
    "kubeflow": "trialflow.training.kubeflow:KubeflowTrainingService",
}


@dataclass(frozen=True)
class JobRequest:
    """Everything that a training service needs to make one job.

    Attributes:
        attempt: Counts the jobs of this trial from 1; one job exists per attempt, however often it is submitted.
        parameters: What the trial gets.
        training: The experiment's ``training`` section in the service's own terms.
        code_folder: Where the code runs.
        folder: This attempt's own folder, writable for the trial.
        code_copy: The staged copy where the code runs in the user's own folder; else empty.
        is_customized: Whether a person gave the parameters, and not the tuner.
    """

    experiment_id: str
    trial_id: str
    number: int
    attempt: int
    parameters: JsonObject
    training: JsonObject
    code_folder: str
    folder: str
    code_copy: str = ""
    is_customized: bool = False

    @property
    def parameter_file(self) -> str:
        """What stands in the trial's ``parameter.cfg``."""
        return json.dumps(parameter_record(self.number, self.parameters, is_customized=self.is_customized))


@dataclass(frozen=True)
class JobState:
    """What a job is doing.

    Attributes:
        outcome: How it ended; ``None`` while it waits or runs.
        started_at: When it began to run, in seconds since the epoch; ``None`` while it waits.
        reason: Why it waits, for people.
    """

    outcome: Outcome | None = None
    started_at: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Preflight:
    """What a training service found out about itself before the first job.

    Attributes:
        training: The ``training`` section, completed with what later calls need to know.
        problems: Everything that keeps jobs from running.
        warnings: What was accepted although it may not be meant so, one sentence each.
    """

    training: JsonObject
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


class TrainingService(ABC):
    """Runs jobs.

    Order of calls for an experiment: `check` (any time, no effect) → `preflight` → `experiment_folder` →
    `open_experiment` → the jobs → `close_experiment`. A service without anything to do there leaves them as they are.

    Order of calls for one attempt: `plan` and `handle` (any time, no effect) → `submit` → `poll` until there is an
    outcome → `cancel`, which also lets go of a job that has ended by itself. Handles are JSON, so that another process
    can go on with them.

    Attributes:
        is_cheap: Whether `poll` costs so little that a suggestion that waits for room polls every live trial many times
            a second. The tasks that follow the trials do the same, and find it done.
    """

    is_cheap: ClassVar[bool] = False

    def __init__(self, settings: Settings | None = None) -> None:
        self._given_settings = settings

    @cached_property
    def settings(self) -> Settings:
        """Of this installation."""
        return self._given_settings or get_settings()

    # ── the experiment ───────────────────────────────────────────────────────────────────────────────────────

    def check(self, training: JsonObject, problem_at: ProblemMaker) -> list[Problem]:  # noqa: ARG002
        """What is wrong with the ``training`` section by itself, whatever runs it."""
        return []

    def preflight(self, training: JsonObject, problem_at: ProblemMaker) -> Preflight:  # noqa: ARG002
        """Ask whatever runs the jobs whether it can; leaves nothing behind.

        Args:
            training: A section without problems.
            problem_at: Makes a problem with a field of the experiment file.

        Raises:
            TrainingError: It could not be asked.
        """
        return Preflight(training)

    def experiment_folder(self, experiment_id: str, training: JsonObject) -> Path:  # noqa: ARG002
        """Where the experiment's code, trials and results lie, as it is called here."""
        return self.settings.home / "experiments" / experiment_id

    def runs_in_place(self, training: JsonObject) -> bool:  # noqa: ARG002
        """Whether trials run in the user's own folder, not in the staged copy of it."""
        return False

    def attempt_folder(self, experiment_folder: Path, trial_id: str, attempt: int) -> Path:
        """The folder of one attempt's job, below the experiment's."""
        return experiment_folder / "trials" / trial_id / str(attempt)

    def open_experiment(self, experiment_id: str, training: JsonObject) -> None:  # noqa: B027
        """Make what all jobs of the experiment share; may be repeated.

        Raises:
            TrainingError: It could not be made.
        """

    def close_experiment(self, experiment_id: str, training: JsonObject) -> None:  # noqa: B027
        """Remove whatever the experiment has left behind, jobs included; files stay. May be repeated.

        Raises:
            TrainingError: Something is still there.
        """

    # ── its jobs ─────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def handle(self, request: JobRequest) -> JsonObject:
        """What the other calls know the attempt's job by, whether it was submitted or not."""

    @abstractmethod
    def plan(self, request: JobRequest) -> JsonObject:
        """What `submit` would do, printable, without doing it."""

    @abstractmethod
    def submit(self, request: JobRequest) -> None:
        """Start the attempt's job, unless an earlier call did, or it was cancelled before it began.

        Raises:
            TrainingError: The job could not be started.
        """

    @abstractmethod
    def poll(self, handle: JsonObject) -> JobState:
        """Ask once, without waiting.

        Raises:
            TrainingError: Nobody here can tell.
        """

    def glance(self, handle: JsonObject) -> str | None:  # noqa: ARG002
        """What stays the same while nothing happens to the job, told without asking anybody.

        Who follows many jobs polls those of which it has changed, and the others now and then. ``None``: only `poll`
        can tell.
        """
        return None

    @abstractmethod
    def cancel(self, handle: JsonObject) -> None:
        """End the job and everything that it started, now or later; files stay. May be repeated.

        Raises:
            TrainingError: Something of it is still running.
        """

    def output_folder(self, handle: JsonObject) -> Path:
        """Where the replica that stands for the trial writes: its stdout and stderr, and what its code leaves."""
        return Path(handle["folder"])

    @abstractmethod
    def metrics_file(self, handle: JsonObject) -> Path:
        """The file to which the trial appends its metrics."""

    @abstractmethod
    def last_output(self, handle: JsonObject, max_lines: int = 20) -> str:
        """The end of the job's error output, or of its output when there is none; for people."""


def get_training_service(platform: str, settings: Settings | None = None) -> TrainingService:
    """The service for a platform; with this process's settings unless others are given.

    Raises:
        TrainingError: There is none.
    """
    if platform not in REGISTRY:
        raise TrainingError(
            f"trainingServicePlatform {platform!r} is not built yet; this version runs: {', '.join(REGISTRY)}"
        )
    module, name = REGISTRY[platform].split(":")
    service: Any = getattr(import_module(module), name)(settings)
    assert isinstance(service, TrainingService)
    return service
