"""The routes of one experiment."""

from __future__ import annotations

from functools import partial
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Body, Path, Query, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from trialflow.config.fields import seconds_of
from trialflow.config.source import MAX_FILE_BYTES, parse_text, take_object
from trialflow.errors import ConfigError
from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.showing import nni_views
from trialflow.experiment.showing.folders import output_folder
from trialflow.experiment.showing.logs import LogName, LogPart, read_trial_log
from trialflow.experiment.showing.nni_views import NniClient
from trialflow.experiment.showing.study import StudySource, write_study
from trialflow.messages import Problem, show
from trialflow.records import Experiment, MetricType, Trial, TrialStatus
from trialflow.store import Adjustable, MetricQuery
from trialflow.training import get_training_service
from trialflow_airflow.web import runs
from trialflow_airflow.web.access import Editor, LogReader, NniVersion, Offset, Reader, Starter, Visit
from trialflow_airflow.web.turns import Turns

router = APIRouter()

TrialId = Annotated[str, Path(description="The trial's id.", pattern="^[A-Za-z0-9]{1,8}$")]
TrialLimit = Annotated[int | None, Query(ge=1, le=10_000)]
MetricLimit = Annotated[int | None, Query(ge=1, le=100_000)]
# What one answer may hold.
_MOST_TRIALS = 100_000
_MOST_METRICS = 200_000
_MOST_IMPORTED = 100_000
_LARGEST_LOG_PART = 1 << 20
# Optuna takes its time over a study, and the processor of a server that has others to serve.
_studies = Turns("other studies are being written here", may_wait=4, patience_seconds=60.0)
_LARGEST_FILE = 16 << 20
# NNI's names of the files that it shows; a trial's two outputs are what there is of them.
TrialFile = Literal["stdout", "stderr", "trial.log"]
_Items = list[dict[str, Any]]
_Duration = Annotated[str, Field(max_length=64)]


class NewParams(BaseModel):
    """What may be changed of an experiment; only the one that ``update_type`` names is."""

    trialConcurrency: int | None = None
    maxTrialNum: int | None = None
    maxTrialNumber: int | None = None
    maxExecDuration: float | _Duration | None = None
    maxExperimentDuration: float | _Duration | None = None
    searchSpace: Annotated[str, Field(max_length=MAX_FILE_BYTES)] | dict[str, Any] | None = None


class NewProfile(BaseModel):
    """A profile with the changed value; the rest of it is not looked at."""

    params: NewParams


UpdateType = Literal["TRIAL_CONCURRENCY", "MAX_EXEC_DURATION", "SEARCH_SPACE", "MAX_TRIAL_NUM"]
# What each kind of update changes: its key in NNI 1.x and 2.x, and the one in NNI 3.x if that is another.
_UPDATES: dict[str, tuple[Adjustable, tuple[str, ...]]] = {
    "TRIAL_CONCURRENCY": (Adjustable.CONCURRENCY, ("trialConcurrency",)),
    "MAX_EXEC_DURATION": (Adjustable.DURATION, ("maxExecDuration", "maxExperimentDuration")),
    "SEARCH_SPACE": (Adjustable.SEARCH_SPACE, ("searchSpace",)),
    "MAX_TRIAL_NUM": (Adjustable.TRIAL_NUMBER, ("maxTrialNum", "maxTrialNumber")),
}


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/check-status")
def check_status(visit: Reader) -> dict[str, Any]:
    """The experiment's status, and why it failed."""
    return nni_views.show_status(visit.experiment)


@router.get("/experiment")
def get_profile(visit: Reader, version: NniVersion = None) -> dict[str, Any]:
    """The experiment's profile: its parameters as they are in force, and how far it is."""
    return _profile(visit, version)


@router.get("/experiment-metadata")
def get_metadata(visit: Reader) -> dict[str, Any]:
    """The experiment as it stands in ``experiments-info``."""
    return nni_views.show_metadata(visit.experiment)


@router.get("/job-statistics")
def get_statistics(visit: Reader) -> list[dict[str, Any]]:
    """How many trials are in each status."""
    return nni_views.show_statistics(visit.store.count_trials(visit.experiment.id))


@router.get("/trial-jobs", response_model=_Items)
def list_trials(
    visit: Reader,
    status: Annotated[TrialStatus | None, Query()] = None,
    limit: TrialLimit = None,
    offset: Offset = 0,
    version: NniVersion = None,
) -> Response:
    """The trials, in the order in which they were made."""
    found, total = visit.store.page_trials(visit.experiment.id, status, limit or _MOST_TRIALS, offset)
    _require_whole(len(found), limit, offset, total)
    finals, client = visit.store.list_finals(visit.experiment.id), NniClient.of(version)
    shown = [nni_views.show_trial(trial, finals.get(trial.id), _output_of(visit, trial), client) for trial in found]
    return _page(shown, total)


@router.get("/trial-jobs/{trial_id}")
def get_trial(visit: Reader, trial_id: TrialId, version: NniVersion = None) -> dict[str, Any]:
    """One trial."""
    trial = visit.store.get_trial(visit.experiment.id, trial_id)
    finals = [metric for metric in visit.store.list_metrics(trial) if metric.type is MetricType.FINAL]
    final = finals[0] if finals else None
    return nni_views.show_trial(trial, final, _output_of(visit, trial), NniClient.of(version))


@router.get("/trial-jobs/{trial_id}/log", response_class=PlainTextResponse)
def get_trial_log(
    visit: LogReader,
    trial_id: TrialId,
    name: LogName = LogName.STDOUT,
    offset: Annotated[int, Query(description="Where to start, in bytes; negative: that far from the end.")] = 0,
    limit: Annotated[int, Query(ge=1, le=_LARGEST_LOG_PART)] = _LARGEST_LOG_PART,
) -> PlainTextResponse:
    """A part of what the trial has written; the header ``X-Log-Bytes`` tells for how many bytes of it that stands."""
    trial = visit.store.get_trial(visit.experiment.id, trial_id)
    return _log_part(read_trial_log(visit.experiment, trial, name, offset, limit))


@router.get("/trial-file/{trial_id}/{name}", response_class=PlainTextResponse)
def get_trial_file(
    visit: LogReader,
    trial_id: TrialId,
    name: Annotated[TrialFile, Path(description="By its name in NNI.")],
    limit: Annotated[int | None, Query(ge=1, le=_LARGEST_FILE)] = None,
    offset: Offset = 0,
) -> PlainTextResponse:
    """What the trial has written, whole; the header ``X-Log-Bytes`` tells for how many bytes of it that stands."""
    trial = visit.store.get_trial(visit.experiment.id, trial_id)
    log = LogName.STDERR if name == "stderr" else LogName.STDOUT
    part = _read_log(visit.experiment, trial, log, offset, limit or _LARGEST_FILE + 1)
    if limit is None and len(part.content) > _LARGEST_FILE:
        rule = f"is needed, for the file is larger than {_LARGEST_FILE} bytes, which one answer holds"
        raise ConfigError([Problem("limit", rule, None, "Ask for parts with limit and offset")])
    return _log_part(part)


@router.get("/metric-data", response_model=_Items)
def list_metrics(
    visit: Reader,
    type_: Annotated[MetricType | None, Query(alias="type")] = None,
    limit: MetricLimit = None,
    offset: Offset = 0,
    version: NniVersion = None,
) -> Response:
    """What the trials have reported, by trial."""
    return _metrics(visit, MetricQuery(type=type_), limit, offset, version)


@router.get("/metric-data/{trial_id}", response_model=_Items)
def list_trial_metrics(
    visit: Reader,
    trial_id: TrialId,
    type_: Annotated[MetricType | None, Query(alias="type")] = None,
    limit: MetricLimit = None,
    offset: Offset = 0,
    version: NniVersion = None,
) -> Response:
    """What one trial has reported."""
    visit.store.get_trial(visit.experiment.id, trial_id)
    return _metrics(visit, MetricQuery(trial_id=trial_id, type=type_), limit, offset, version)


@router.get("/metric-data-range/{first}/{last}", response_model=_Items)
def list_metrics_in_range(
    visit: Reader,
    first: Annotated[int, Path(ge=0, le=1_000_000_000)],
    last: Annotated[int, Path(ge=0, le=1_000_000_000)],
    limit: MetricLimit = None,
    offset: Offset = 0,
    version: NniVersion = None,
) -> Response:
    """What the trials from one number to another have reported, both included."""
    return _metrics(visit, MetricQuery(numbers=(first, last)), limit, offset, version)


@router.get("/metric-data-latest", response_model=_Items)
def list_latest_metrics(
    visit: Reader, limit: MetricLimit = None, offset: Offset = 0, version: NniVersion = None
) -> Response:
    """The last metric of each type of every trial."""
    return _metrics(visit, MetricQuery(latest=True), limit, offset, version)


@router.get("/export-data")
def export_data(visit: Reader, version: NniVersion = None) -> list[dict[str, Any]]:
    """Parameters and final metric of every trial that has one."""
    trials, finals = visit.store.list_trials(visit.experiment.id), visit.store.list_finals(visit.experiment.id)
    return nni_views.show_results(trials, finals, NniClient.of(version))


@router.get("/experiment/imported-data", response_model=list[str])
def list_imported_data(visit: Reader, limit: TrialLimit = None, offset: Offset = 0) -> Response:
    """What was imported; each entry is the text of a list of results."""
    found, total = visit.store.page_known_points(visit.experiment.id, limit or _MOST_IMPORTED, offset)
    _require_whole(len(found), limit, offset, total)
    return _page([nni_views.show_imported(point) for point in found], total)


@router.get("/export-study", response_class=FileResponse)
def export_study(visit: Reader, background: BackgroundTasks, intermediate: bool = False) -> FileResponse:
    """The experiment as an Optuna study, in an SQLite database with nothing else in it."""
    with _studies.take():
        folder = TemporaryDirectory(prefix="trialflow-study-")
        file = FilePath(folder.name) / f"{visit.experiment.id}.db"
        try:
            source = StudySource.read(visit.store, visit.experiment.id, with_steps=intermediate)
            write_study(source, f"sqlite:///{file}")
        except BaseException:
            folder.cleanup()
            raise
    background.add_task(folder.cleanup)
    return FileResponse(file, filename=file.name)


@router.get("/changes")
def list_changes(visit: Reader) -> list[dict[str, Any]]:
    """What was done to the experiment, by whom and when."""
    return [nni_views.show_change(change) for change in visit.store.list_changes(visit.experiment.id)]


@router.get("/runs")
def list_runs(visit: Reader) -> list[str]:
    """The ids of the DAG runs that carry the experiment, in order."""
    return visit.store.list_runs(visit.experiment.id)


# ── acting ───────────────────────────────────────────────────────────────────────────────────────────────────────


@router.put("/experiment")
def update_experiment(visit: Editor, update_type: UpdateType, body: NewProfile) -> dict[str, Any]:
    """Change a limit or the search space of the experiment, from the next trial on; gives its profile."""
    actions = Actions(visit.experiment.id, visit.who)
    adjustable, value = _find_new_value(actions.experiment, update_type, body.params)
    actions.change(adjustable, value)
    runs.resize_pool(actions.experiment)
    batch = actions.plan_on(runs.namer(actions.experiment))
    if batch is not None:
        runs.start_batch(actions.experiment, batch, visit.who)
    return _profile(Visit(actions.experiment, visit.who, visit.store))


@router.delete("/experiment")
@router.post("/stop")
def stop_experiment(visit: Editor) -> dict[str, Any]:
    """End the experiment and its live trials; one that has ended stays as it is, without what a crash left of it."""
    actions = Actions(visit.experiment.id, visit.who)
    actions.stop()
    runs.clear_away(actions)
    return nni_views.show_status(actions.experiment)


@router.post("/resume")
def resume_experiment(visit: Starter) -> dict[str, Any]:
    """Let an experiment that has ended, or whose run was lost, go on with the trials that are left."""
    runs.require_startable(visit.experiment)
    actions = Actions(visit.experiment.id, visit.who)
    batch = actions.resume(runs.namer(visit.experiment), partial(runs.is_alive, visit.experiment.owner))
    run_id = runs.start_batch(visit.experiment, batch, visit.who)
    return {"experiment_id": visit.experiment.id, "dag_id": visit.experiment.owner, "run_id": run_id}


@router.post("/trial-jobs")
def add_trial(visit: Editor, parameters: Annotated[Any, Body(description="The trial's parameters.")]) -> dict[str, int]:
    """Let a trial with parameters of your own have the next free place; gives the number that it will have."""
    return {"sequenceId": Actions(visit.experiment.id, visit.who).add(parameters)}


@router.post("/experiment/import-data")
def import_data(
    visit: Editor, data: Annotated[Any, Body(description='A list of {"parameter": {…}, "value": number}.')]
) -> dict[str, int]:
    """Let the tuner know results from elsewhere, in the form of ``export-data``; may be repeated."""
    return Actions(visit.experiment.id, visit.who).import_data(data)


@router.delete("/trial-jobs/{trial_id}")
def kill_trial(visit: Editor, trial_id: TrialId) -> dict[str, Any]:
    """End one trial."""
    trial = Actions(visit.experiment.id, visit.who).kill(trial_id)
    return nni_views.show_trial(trial, None, _output_of(visit, trial))


# ── shared ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _output_of(visit: Visit, trial: Trial) -> FilePath | None:
    """Where a trial writes, once its job was submitted."""
    if trial.job is None:
        return None
    return output_folder(visit.experiment, trial, get_training_service(visit.experiment.spec.platform))


def _profile(visit: Visit, version: str | None = None) -> dict[str, Any]:
    changes = visit.store.list_changes(visit.experiment.id)
    created = sum(visit.store.count_trials(visit.experiment.id).values())
    best = visit.store.find_best(visit.experiment.id, visit.experiment.spec.optimize_mode)
    revision = changes[-1].revision if changes else 0
    return nni_views.show_profile(visit.experiment, revision, created, best, NniClient.of(version))


def _read_log(experiment: Experiment, trial: Trial, log: LogName, offset: int, limit: int) -> LogPart:
    """So much of an output, across gaps."""
    content, length = b"", 0
    while len(content) < limit:
        part = read_trial_log(experiment, trial, log, offset + length, limit - len(content))
        if not part.length:
            break
        content, length = content + part.content, length + part.length
    return LogPart(content, length)


def _log_part(part: LogPart) -> PlainTextResponse:
    headers = {"X-Log-Bytes": str(part.length), "X-Content-Type-Options": "nosniff"}
    return PlainTextResponse(part.content.decode(errors="replace"), headers=headers)


def _metrics(visit: Visit, query: MetricQuery, limit: int | None, offset: int, version: str | None) -> Response:
    found, total = visit.store.page_metrics(visit.experiment.id, query, limit or _MOST_METRICS, offset)
    _require_whole(len(found), limit, offset, total)
    client = NniClient.of(version)
    return _page([nni_views.show_metric(metric, client) for metric in found], total)


def _require_whole(found: int, limit: int | None, offset: int, total: int) -> None:
    """Refuse to answer with a part of a list to whoever has not asked for a part.

    NNI gave everything, and its clients look at no header: what a part leaves out, they would never miss. But one
    answer must not fill the API server's memory either, which is everybody's; so what is too much is refused aloud.
    """
    if limit is None and offset + found < total:
        rule = f"is needed, for there are {total} entries, and one answer holds {found} at most"
        raise ConfigError([Problem("limit", rule, None, "Ask for pages with limit and offset")])


def _page(items: list[Any], total: int) -> Response:
    """A part of a list; made here, for FastAPI would look at every value of it once more."""
    return JSONResponse(items, headers={"X-Total-Count": str(total)})


def _find_new_value(experiment: Experiment, update_type: UpdateType, params: NewParams) -> tuple[Adjustable, Any]:
    """What an update changes, and the new value.

    NNI's clients send the whole profile back, with the value changed under the key of their version. So of two keys
    the one counts whose value is not in force.

    Raises:
        ConfigError: There is no value, or there are two.
    """
    adjustable, names = _UPDATES[update_type]
    given = {name: _read(adjustable, value) for name in names if (value := getattr(params, name)) is not None}
    if not given:
        raise ConfigError([Problem(f"params.{names[-1]}", f"is needed for {update_type}", None, "Send the new value")])
    new = [value for value in given.values() if value != _in_force(experiment)[adjustable]]
    if len(new) > 1 and new[0] != new[1]:
        rule = f"must be the same as params.{names[0]} where both are changed"
        raise ConfigError([Problem(f"params.{names[1]}", rule, show(given[names[1]]), "Send one of them")])
    return adjustable, (new or list(given.values()))[0]


def _in_force(experiment: Experiment) -> dict[Adjustable, Any]:
    return {
        Adjustable.CONCURRENCY: experiment.trial_concurrency,
        Adjustable.DURATION: experiment.max_duration_seconds,
        Adjustable.SEARCH_SPACE: experiment.spec.search_space,
        Adjustable.TRIAL_NUMBER: experiment.max_trial_number,
    }


def _read(adjustable: Adjustable, value: Any) -> Any:
    """The value in our own terms: a search space may come as a text, a duration as ``2h``, or ``7200`` in seconds."""
    if adjustable is Adjustable.SEARCH_SPACE:
        return _read_search_space(value)
    if adjustable is Adjustable.DURATION and isinstance(value, str):
        return seconds_of(value) or seconds_of(f"{value}s") or value
    return value


def _read_search_space(value: Any) -> Any:
    """A search space as an object, or in JSON or YAML, as a file of an experiment holds it."""
    if isinstance(value, str):
        return parse_text(value, "params.searchSpace", is_space=True).data
    return take_object(value).data
