"""The commands that show what an experiment and its trials have written."""

from __future__ import annotations

import sys
import time
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialflow.cli.client import ENDED, ApiError, explain_failure
from trialflow.cli.output import describe_time, show
from trialflow.cli.shared import ExperimentId, TrialOption, asking
from trialflow.records import StrEnum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trialflow.cli.client import Api

log_app = typer.Typer(help="Show what an experiment or a trial has written.", no_args_is_help=True)

_LOOK_SECONDS = 1.0
Head = Annotated[int | None, typer.Option("--head", "-H", min=1, help="Only the first lines.")]
Tail = Annotated[int | None, typer.Option("--tail", "-T", "-t", min=1, help="Only the last lines.")]
ShowPath = Annotated[bool, typer.Option("--path", help="Show only where the files lie.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")]


class Stream(StrEnum):
    """The outputs of a trial."""

    STDOUT = "stdout"
    STDERR = "stderr"


@log_app.command("trial")
def log_trial(
    context: typer.Context,
    experiment: ExperimentId = None,
    trial: TrialOption = None,
    stream: Annotated[Stream, typer.Option("--stream", help="Which output.")] = Stream.STDOUT,
    follow: Follow = False,
) -> None:
    """Show what a trial has written; without --trial, where the trials' files lie."""
    with asking(context) as (api, form):
        base = f"/experiments/{api.find(experiment)['id']}"
        if trial is None:
            jobs = api.get_all(f"{base}/trial-jobs")
            show([{"id": job["id"], "folder": job.get("logPath", "")} for job in jobs], form)
            return
        offset = 0
        while True:
            ended = "endTime" in api.get(f"{base}/trial-jobs/{trial}")
            try:
                offset = _print_log(api, f"/api/v1/nni{base}/trial-jobs/{trial}/log", stream, offset)
            except ApiError as error:
                if error.status != HTTPStatus.NOT_FOUND or ended or not follow:
                    raise  # Else it has not begun to write.
            if ended or not follow:
                return
            time.sleep(_LOOK_SECONDS)


def _print_log(api: Api, path: str, stream: Stream, offset: int) -> int:
    """Print all that there is from an offset on; gives the offset behind it."""
    while True:
        part = api.ask("GET", path, params={"name": stream.value, "offset": offset})
        length = int(part.headers["X-Log-Bytes"])
        if not length:
            return offset
        sys.stdout.write(part.text)
        sys.stdout.flush()
        offset += length


@log_app.command("stderr")
def log_stderr(
    context: typer.Context,
    experiment: ExperimentId = None,
    head: Head = None,
    tail: Tail = None,
    path: ShowPath = False,
) -> None:
    """Show why an experiment's runs failed: the errors in the logs of their tasks."""
    with asking(context) as (api, form):
        found = api.find(experiment)
        if path:
            _show_folder(api, found["id"], form)
            return
        runs = api.get(f"/experiments/{found['id']}/runs")
        texts = (explain_failure(api, f"/api/v2/dags/{found['dagId']}/dagRuns/{run_id}") for run_id in runs)
        lines = [line for text in texts for line in text.splitlines()]
        for line in _cut(lines, head, tail):
            typer.echo(line)


@log_app.command("stdout")
def log_stdout(
    context: typer.Context,
    experiment: ExperimentId = None,
    head: Head = None,
    tail: Tail = None,
    path: ShowPath = False,
    follow: Follow = False,
) -> None:
    """Show what happened to an experiment: what people did, and its trials' starts and ends, in order."""
    with asking(context) as (api, form):
        found = api.find(experiment)
        if path:
            _show_folder(api, found["id"], form)
            return
        base, shown = f"/experiments/{found['id']}", set[tuple[float, str]]()
        for look in count():
            ended = api.get(f"{base}/check-status")["status"] in ENDED
            events = _events(api.get(f"{base}/changes"), api.get_all(f"{base}/trial-jobs"))
            new = [event for event in events if event not in shown]
            shown.update(new)
            chosen = _cut(new, head, tail) if look == 0 else new
            show([{"time": describe_time(at), "event": text} for at, text in chosen], form)
            if ended or not follow:
                return
            time.sleep(_LOOK_SECONDS)


def _events(changes: list[dict[str, Any]], jobs: list[dict[str, Any]]) -> list[tuple[float, str]]:
    found = [(change["time"], f"{change['who']}: {change['what']} {change['value'] or ''}") for change in changes]
    for job in jobs:
        name = f"trial #{job['sequenceId']} {job['id']}"
        if "startTime" in job:
            found.append((job["startTime"], f"{name} started"))
        if "endTime" in job:
            value = f" with {job['value']:.6g}" if "value" in job else ""
            reason = f": {job['reason'].partition(chr(10))[0]}" if "reason" in job else ""
            found.append((job["endTime"], f"{name} ended, {job['status']}{value}{reason}"))
    return sorted(found)


def _cut(items: Sequence[Any], head: int | None, tail: int | None) -> Sequence[Any]:
    return items[:head] if head else items[-tail:] if tail else items


def _show_folder(api: Api, experiment_id: str, form: Any) -> None:
    show([{"folder": api.get(f"/experiments/{experiment_id}/experiment")["logDir"]}], form)
