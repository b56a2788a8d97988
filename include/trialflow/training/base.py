"""The seam to whatever runs the jobs of trials."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

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

SectionT = TypeVar("SectionT")
HandleT = TypeVar("HandleT", bound="JobHandle")


@dataclass(frozen=True)
class JobHandle:
    """What a job is known by, in the ledger and in every process; a service adds what else it needs.

    Attributes:
        folder: The attempt's own folder.
    """

    folder: str


@dataclass(frozen=True)
class JobRequest(Generic[SectionT]):
    """Everything that a training service needs to make one job.

    Attributes:
        attempt: Counts the jobs of this trial from 1; one job exists per attempt, however often it is submitted.
        parameters: What the trial gets.
        section: What the experiment says to the service.
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
    section: SectionT
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
class Preflight(Generic[SectionT]):
    """What a training service found out about itself before the first job.

    Attributes:
        section: The experiment's, completed with what later calls need to know.
        problems: Everything that keeps jobs from running.
        warnings: What was accepted although it may not be meant so, one sentence each.
    """

    section: SectionT
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


class TrainingService(ABC, Generic[SectionT, HandleT]):
    """Runs jobs.

    What an experiment says to its service, and what a job is known by, are frozen dataclasses of the service. The
    ledger keeps both as JSON, in which an experiment's keys are those of its file.

    Order of calls for an experiment: `check` (any time, no effect) → `preflight` → `experiment_folder` →
    `open_experiment` → the jobs → `close_experiment`. A service without anything to do there leaves them as they are.

    Order of calls for one attempt: `plan` and `handle` (any time, no effect) → `submit` → `poll` until there is an
    outcome → `cancel`, which also lets go of a job that has ended by itself.

    Attributes:
        section_type: The dataclass of its sections; pydantic's aliases name the keys.
        handle_type: The dataclass of its handles. A field that either gets later has a default: older rows lack it.
        is_cheap: Whether `poll` costs so little that a suggestion that waits for room polls every live trial many times
            a second. The tasks that follow the trials do the same, and find it done.
    """

    section_type: ClassVar[Any]
    handle_type: ClassVar[Any]
    is_cheap: ClassVar[bool] = False

    def __init__(self, settings: Settings | None = None) -> None:
        self._given_settings = settings

    @cached_property
    def settings(self) -> Settings:
        """Of this installation."""
        return self._given_settings or get_settings()

    # ── what the ledger keeps ────────────────────────────────────────────────────────────────────────────────

    def read_section(self, kept: JsonObject) -> SectionT:
        """The section of an experiment whose file was checked.

        Raises:
            TrainingError: Another program has written it.
        """
        section: SectionT = _read(self.section_type, kept)
        return section

    def write_section(self, section: SectionT) -> JsonObject:
        """The opposite of `read_section`."""
        return _write(self.section_type, section)

    def read_handle(self, kept: JsonObject) -> HandleT:
        """The handle of a job that was submitted.

        Raises:
            TrainingError: Another program has written it.
        """
        handle: HandleT = _read(self.handle_type, kept)
        return handle

    def write_handle(self, handle: HandleT) -> JsonObject:
        """The opposite of `read_handle`."""
        return _write(self.handle_type, handle)

    # ── the experiment ───────────────────────────────────────────────────────────────────────────────────────

    def check(self, section: SectionT, problem_at: ProblemMaker) -> list[Problem]:  # noqa: ARG002
        """What is wrong with a section by itself, whatever runs it."""
        return []

    def preflight(self, section: SectionT, problem_at: ProblemMaker) -> Preflight[SectionT]:  # noqa: ARG002
        """Ask whatever runs the jobs whether it can; leaves nothing behind.

        Args:
            section: One without problems.
            problem_at: Makes a problem with a field of the experiment file.

        Raises:
            TrainingError: It could not be asked.
        """
        return Preflight(section)

    def experiment_folder(self, experiment_id: str, section: SectionT) -> Path:  # noqa: ARG002
        """Where the experiment's code, trials and results lie, as it is called here."""
        return self.settings.home / "experiments" / experiment_id

    def runs_in_place(self, section: SectionT) -> bool:  # noqa: ARG002
        """Whether trials run in the user's own folder, not in the staged copy of it."""
        return False

    def attempt_folder(self, experiment_folder: Path, trial_id: str, attempt: int) -> Path:
        """The folder of one attempt's job, below the experiment's."""
        return experiment_folder / "trials" / trial_id / str(attempt)

    def open_experiment(self, experiment_id: str, section: SectionT) -> None:
        """Make what all jobs of the experiment share; may be repeated.

        Raises:
            TrainingError: It could not be made.
        """

    def close_experiment(self, experiment_id: str, section: SectionT) -> None:
        """Remove whatever the experiment has left behind, jobs included; files stay. May be repeated.

        Raises:
            TrainingError: Something is still there.
        """

    # ── its jobs ─────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def handle(self, request: JobRequest[SectionT]) -> HandleT:
        """What the other calls know the attempt's job by, whether it was submitted or not."""

    @abstractmethod
    def plan(self, request: JobRequest[SectionT]) -> JsonObject:
        """What `submit` would do, printable, without doing it."""

    @abstractmethod
    def submit(self, request: JobRequest[SectionT]) -> None:
        """Start the attempt's job, unless an earlier call did, or it was cancelled before it began.

        Raises:
            TrainingError: The job could not be started.
        """

    @abstractmethod
    def poll(self, handle: HandleT) -> JobState:
        """Ask once, without waiting.

        Raises:
            TrainingError: Nobody here can tell.
        """

    def glance(self, handle: HandleT) -> str | None:  # noqa: ARG002
        """What stays the same while nothing happens to the job, told without asking anybody.

        Who follows many jobs polls those of which it has changed, and the others now and then. ``None``: only `poll`
        can tell.
        """
        return None

    @abstractmethod
    def cancel(self, handle: HandleT) -> None:
        """End the job and everything that it started, now or later; files stay. May be repeated.

        Raises:
            TrainingError: Something of it is still running.
        """

    def output_folder(self, handle: HandleT) -> Path:
        """Where the replica that stands for the trial writes: its stdout and stderr, and what its code leaves."""
        return Path(handle.folder)

    @abstractmethod
    def metrics_file(self, handle: HandleT) -> Path:
        """The file to which the trial appends its metrics."""

    @abstractmethod
    def last_output(self, handle: HandleT, max_lines: int = 20) -> str:
        """The end of the job's error output, or of its output when there is none; for people."""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _read(kind: Any, kept: JsonObject) -> Any:
    try:
        return _adapter(kind).validate_python(kept)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise TrainingError(
            f"the ledger holds a {kind.__name__} that cannot be read, at {where or 'its beginning'}; "
            "was it written by another version?"
        ) from error


def _write(kind: Any, value: Any) -> JsonObject:
    written: JsonObject = _adapter(kind).dump_python(value, mode="json", by_alias=True, exclude_defaults=True)
    return written


def get_training_service(platform: str, settings: Settings | None = None) -> TrainingService[Any, Any]:
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
