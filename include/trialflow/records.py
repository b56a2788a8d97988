"""What passes between the layers: plain frozen data, no behaviour that touches a file or a database."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

JsonObject = dict[str, Any]
# The key of the metric that counts, in a metric that is an object.
DEFAULT = "default"
# The note on a trial whose parameters a person gave.
CUSTOMIZED: JsonObject = {"parameter_source": "customized"}


class StrEnum(str, Enum):
    """An enum whose members print as their value (``enum.StrEnum`` needs Python 3.11)."""

    __str__ = str.__str__


class ExperimentStatus(StrEnum):
    """NNI's names for the state of an experiment."""

    INITIALIZED = "INITIALIZED"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    DONE = "DONE"
    ERROR = "ERROR"
    NO_MORE_TRIAL = "NO_MORE_TRIAL"
    TUNER_NO_MORE_TRIAL = "TUNER_NO_MORE_TRIAL"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to the experiment by itself."""
        return self in (ExperimentStatus.STOPPED, ExperimentStatus.DONE, ExperimentStatus.ERROR)


class TrialStatus(StrEnum):
    """NNI's names for the state of a trial."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    USER_CANCELED = "USER_CANCELED"
    SYS_CANCELED = "SYS_CANCELED"
    EARLY_STOPPED = "EARLY_STOPPED"
    UNKNOWN = "UNKNOWN"

    @property
    def is_final(self) -> bool:
        """Whether the trial's job has ended."""
        return self not in (TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.UNKNOWN)


class MetricType(StrEnum):
    """The kinds of record that a trial writes."""

    PERIODICAL = "PERIODICAL"
    FINAL = "FINAL"
    REQUEST_PARAMETER = "REQUEST_PARAMETER"


class NoticeEvent(StrEnum):
    """What people are told of an experiment."""

    DONE = "done"
    FAILED = "failed"
    STALLED = "stalled"
    IMPROVED = "improved"


class OptimizeMode(StrEnum):
    """Whether a larger or a smaller metric is better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` improves on ``than`` (anything improves on ``None``)."""
        if than is None:
            return True
        return value > than if self is OptimizeMode.MAXIMIZE else value < than


@dataclass(frozen=True)
class UserClass:
    """A class of the user's own.

    Attributes:
        kind: ``tuner``, ``assessor`` or ``advisor``.
        code_directory: The folder with its code, as it lies where the file was read.
        code_root: The allowed root in which ``code_directory`` was found to lie.
        module: In that folder, dotted.
        class_name: In that module.
    """

    kind: str
    code_directory: str
    code_root: str
    module: str
    class_name: str


@dataclass(frozen=True)
class AlgorithmSpec:
    """A tuner or assessor as the experiment names it.

    Attributes:
        user_class: Where its class is found; ``None`` for one of NNI's.
    """

    name: str
    class_args: JsonObject = field(default_factory=dict)
    include_intermediate_results: bool = False
    user_class: UserClass | None = None


@dataclass(frozen=True)
class ExperimentSpec:
    """One experiment after its file was read and checked; every path is absolute.

    Attributes:
        max_duration_seconds: No new trial starts after this much time since the start.
        max_trial_number: Trials created in all, failed ones included.
        max_trial_duration_seconds: A trial whose job has run longer is stopped early; ``None``: as long as it takes.
        max_failed_trial_number: Failed trials that are put up with; one more ends the experiment. ``None``: any number.
        goal: The final metric with which the experiment has what it was made for, and ends; ``None``: there is none.
        use_annotation: The search space stands in annotations of the code, which are carried out when it is staged.
        code_directory: The user's code, as it lies where the file was read.
        code_root: The allowed root in which ``code_directory`` was found to lie.
        training: What the training service needs, in its own terms (``command`` for ``local``).
        multi_thread: A tuner of the user's own is asked in threads, and may wait in one for another trial's result.
        warnings: Keys that were accepted and have no effect, one sentence each.
        first_search_space: The one with which the experiment began; ``None`` while nobody has changed it.
    """

    name: str
    author: str
    trial_concurrency: int
    max_trial_number: int
    max_duration_seconds: float
    platform: str
    search_space: JsonObject
    tuner: AlgorithmSpec
    code_directory: str
    code_root: str
    training: JsonObject
    assessor: AlgorithmSpec | None = None
    max_trial_duration_seconds: float | None = None
    max_failed_trial_number: int | None = None
    goal: float | None = None
    use_annotation: bool = False
    description: str = ""
    multi_thread: bool = False
    warnings: tuple[str, ...] = ()
    first_search_space: JsonObject | None = None

    @property
    def optimize_mode(self) -> OptimizeMode:
        """The direction of the search; NNI's default is to maximise."""
        mode = self.tuner.class_args.get("optimize_mode", OptimizeMode.MAXIMIZE)
        if self.tuner.user_class is not None and mode not in list(OptimizeMode):
            return OptimizeMode.MAXIMIZE  # A class of the user's own may call something else by this name.
        return OptimizeMode(mode)

    @property
    def objectives(self) -> dict[str, OptimizeMode]:
        """Key in the final metric → direction; there is more than ``default`` when the tuner knows of more."""
        given = {} if self.tuner.user_class is not None else self.tuner.class_args.get("objectives", {})
        return {DEFAULT: self.optimize_mode, **{key: OptimizeMode(mode) for key, mode in given.items()}}

    @property
    def suggests_itself(self) -> bool:
        """Whether a tuner or advisor of the user's own suggests."""
        return self.tuner.user_class is not None

    @property
    def user_classes(self) -> dict[str, AlgorithmSpec]:
        """The classes of the user's own: ``tuner``, ``assessor`` or ``advisor`` → as it is named."""
        named = [spec for spec in (self.tuner, self.assessor) if spec is not None]
        return {spec.user_class.kind: spec for spec in named if spec.user_class is not None}


@dataclass(frozen=True)
class Experiment:
    """An experiment's control row: its specification and the limits in force now.

    Attributes:
        folder: Where its code, trials and results lie on the shared storage.
        code_folder: The staged copy of the code; ``None`` until it is complete.
        created_at: Seconds since the epoch, as all times here.
        started_at: When its first trial was claimed; the duration counts from here.
        idle_seconds: How long it had ended before it was resumed, each time summed up; no part of its duration.
        owner: Whose rights decide who may see and change it: the DAG that runs it.
    """

    id: str
    spec: ExperimentSpec
    status: ExperimentStatus
    status_reason: str
    folder: str
    code_folder: str | None
    trial_concurrency: int
    max_trial_number: int
    max_duration_seconds: float
    created_at: float
    started_at: float | None
    ended_at: float | None
    idle_seconds: float = 0.0
    owner: str = ""

    def duration_seconds(self, now: float) -> float:
        """How long it has been running so far."""
        if self.started_at is None:
            return 0.0
        return max(0.0, (self.ended_at or now) - self.started_at - self.idle_seconds)

    def is_overdue(self, now: float) -> bool:
        """Whether maxExecDuration is over."""
        return self.started_at is not None and self.duration_seconds(now) >= self.max_duration_seconds


@dataclass(frozen=True)
class Change:
    """Something that a person did to an experiment.

    Attributes:
        revision: Counts the changes of an experiment from 1.
        at: Seconds since the epoch.
        what: ``concurrency``, ``stop`` and so on.
        value: The new value; ``None`` where there is none.
    """

    revision: int
    at: float
    who: str
    what: str
    value: Any


@dataclass(frozen=True)
class Slot:
    """One of a trial batch, planned before any trial exists; the key under which a trial is claimed."""

    batch: int
    index: int


@dataclass(frozen=True)
class Trial:
    """A row of the ledger.

    Attributes:
        number: 0-based and without gaps: NNI's sequence id.
        attempt: Counts the jobs made for these parameters, from 1.
        run_id: The DAG run that claimed the trial.
        parameters: ``None`` while the tuner is still being asked.
        note: What the tuner wants to read on this trial when it is asked for later ones.
        job: The training service's handle of the attempt's job; ``None`` before it was submitted.
        followed_at: When those who follow the job took over from whoever claimed the trial.
        value: The final metric as the tuner sees it; ``None`` when there is none that counts.
        reason: Why the status is what it is, for people; empty when nothing is unusual.
        reported_at: Since when its result counts and its place under the cap is free.
    """

    experiment_id: str
    id: str
    number: int
    slot: Slot
    run_id: str
    status: TrialStatus
    attempt: int
    claimed_at: float
    parameters: JsonObject | None = None
    note: JsonObject | None = None
    job: JsonObject | None = None
    followed_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    reported_at: float | None = None
    exit_code: int | None = None
    value: float | None = None
    reason: str = ""

    @property
    def shown_status(self) -> TrialStatus:
        """The status for people: a job that somebody cancels runs, or waits, until nothing of it is left."""
        if self.status is not TrialStatus.USER_CANCELED or self.job is None or self.reported_at is not None:
            return self.status
        return TrialStatus.RUNNING if self.started_at is not None else TrialStatus.WAITING

    @property
    def is_customized(self) -> bool:
        """Whether a person gave the parameters, and not the tuner."""
        return self.note == CUSTOMIZED

    @property
    def label(self) -> str:
        """The trial for a list: number, id, parameters."""
        parameters = "" if self.parameters is None else f" {describe_parameters(self.parameters)}"
        return f"#{self.number} {self.id}{parameters}"


@dataclass(frozen=True)
class Metric:
    """One record that a trial wrote.

    Attributes:
        sequence: Counts the records of one type from 0.
        value: As reported: a number, or an object with the key ``default``; anything JSON when invalid.
        at: When it was read, in seconds since the epoch.
    """

    type: MetricType
    sequence: int
    value: Any
    at: float


@dataclass(frozen=True)
class KnownPoint:
    """A result that a person brought from elsewhere, in the form of a trial's parameters and final metric."""

    parameters: JsonObject
    value: float


@dataclass(frozen=True)
class Outcome:
    """How a job ended, as the training service saw it.

    Attributes:
        lost: The job vanished without an exit code: the infrastructure failed, not the trial.
    """

    status: TrialStatus
    exit_code: int | None = None
    reason: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    lost: bool = False


def parameter_record(number: int, parameters: Any, *, is_customized: bool) -> JsonObject:
    """What NNI writes into a trial's ``parameter.cfg``, and shows of it; a person may have given the parameters."""
    source = "customized" if is_customized else "algorithm"
    return {"parameter_id": number, "parameter_source": source, "parameters": parameters}


def named_parameters(parameters: Any) -> JsonObject:
    """A trial's parameters by name; of a BatchTuner's trial they may be any value, which is called ``value``."""
    if parameters is None:
        return {}
    return parameters if isinstance(parameters, dict) else {"value": parameters}


def describe_parameters(parameters: Any, max_length: int = 160) -> str:
    """Print parameters on one short line: ``lr=0.0123 layer=Conv(k=3)``; of BatchTuner's they may be any value."""
    if not isinstance(parameters, dict):
        return one_line(str(_describe_value(parameters)), max_length)
    named = (f"{name}={_describe_value(value)}" for name, value in parameters.items())
    return one_line(" ".join(named), max_length)


def one_line(text: str, max_length: int) -> str:
    """The text without line ends and other signs that do not print, and no longer than that."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def _describe_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict) and "_name" in value:
        inner = {key: item for key, item in value.items() if key != "_name"}
        return f"{value['_name']}({describe_parameters(inner)})" if inner else str(value["_name"])
    return str(value)
