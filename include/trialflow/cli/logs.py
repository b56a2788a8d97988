"""The commands that show what an experiment and its trials have written."""

from __future__ import annotations

import sys
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from trialflow.cli.client import ENDED, NNI, ApiError, explain_failure
from trialflow.cli.output import Form, describe_time, harmless, show, show_lines
from trialflow.cli.shared import ExperimentId, TrialOption, asking
from trialflow.records import StrEnum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trialflow.cli.client import Api

log_app = typer.Typer(help="Show what an experiment or a trial has written.", no_args_is_help=True)

_LOOK_SECONDS = 1.0
_Item = TypeVar("_Item")
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
    stream: Annotated[Stream | None, typer.Option("--stream", help="Only this output.", show_default=False)] = None,
    follow: Follow = False,
) -> None:
    """Show what a trial has written; without --trial, where the trials' files lie.

    What it wrote to stderr is written to stderr here, too.
    """
    with asking(context) as (api, form):
        base = f"/experiments/{api.find(experiment)['id']}"
        if trial is None:
            jobs = api.get_all(f"{base}/trial-jobs")
            show([{"id": job["id"], "folder": job.get("logPath", "")} for job in jobs], form)
            return
        _require_end(form, follow)
        streams = [stream] if stream else list(Stream)
        parts = _read_log(api, f"{base}/trial-jobs/{trial}", streams, follow=follow)
        if form is Form.JSON:
            written = dict.fromkeys(streams, "")
            for each, part in parts:
                written[each] += part
            lines = {each.value: text.splitlines() for each, text in written.items()}
            show([], form, lines[stream.value] if stream else lines)
            return
        for each, part in parts:
            target = sys.stderr if each is Stream.STDERR and stream is None else sys.stdout
            target.write(harmless(part) if target.isatty() else part)
            target.flush()


def _read_log(api: Api, trial: str, streams: Sequence[Stream], *, follow: bool) -> Iterator[tuple[Stream, str]]:
    """What a trial has written, and when followed what it goes on to write, part by part.

    Raises:
        ApiError: There is none of these outputs.
    """
    offsets = dict.fromkeys(streams, 0)
    while True:
        ended = "endTime" in api.get(trial)
        missing: list[ApiError] = []
        for stream in streams:
            try:
                for part, length in _read_stream(api, trial, stream, offsets[stream]):
                    yield stream, part
                    offsets[stream] += length
            except ApiError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                missing.append(error)
        if ended or not follow:
            if len(missing) == len(streams):
                raise missing[0]
            return
        time.sleep(_LOOK_SECONDS)


def _read_stream(api: Api, trial: str, stream: Stream, offset: int) -> Iterator[tuple[str, int]]:
    """What stands behind an offset, part by part, each with its length in bytes."""
    while True:
        part = api.ask("GET", f"{NNI}{trial}/log", params={"name": stream.value, "offset": offset})
        length = int(part.headers["X-Log-Bytes"])
        if not length:
            return
        yield part.text, length
        offset += length


@log_app.command("stderr")
def log_stderr(
    context: typer.Context,
    experiment: ExperimentId = None,
    head: Head = None,
    tail: Tail = None,
    path: ShowPath = False,
    follow: Follow = False,
) -> None:
    """Show why an experiment's runs failed, and its trials: the errors in the logs of tasks, and trials' last words."""
    with asking(context) as (api, form):
        found = api.find(experiment)
        if path:
            _show_folder(api, found["id"], form)
            return
        _require_end(form, follow)
        look = partial(_look_at_failures, api, found, {}, follow=follow)
        for lines in _watch(look, head, tail, follow=follow):
            show_lines([line for _, _, line in lines], form)


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
        _require_end(form, follow)
        for events in _watch(partial(_look_at_events, api, found), head, tail, follow=follow):
            rows = [{"time": describe_time(at), "event": text} for at, text in events]
            # Lines that come one after another make no table.
            show(rows, Form.PLAIN if follow else form)


def _watch(
    look: Callable[[], tuple[Sequence[_Item], bool]], head: int | None, tail: int | None, *, follow: bool
) -> Iterator[Sequence[_Item]]:
    """What there is, cut, and when followed what comes, until it is over."""
    items, over = look()
    yield items[:head] if head else items[-tail:] if tail else items
    shown = set(items)
    while follow and not over:
        time.sleep(_LOOK_SECONDS)
        items, over = look()
        yield [item for item in items if item not in shown]
        shown.update(items)


def _look_at_events(api: Api, found: dict[str, Any]) -> tuple[list[tuple[float, str]], bool]:
    base = f"/experiments/{found['id']}"
    over = api.get(f"{base}/check-status")["status"] in ENDED
    return _events(api.get(f"{base}/changes"), api.get_all(f"{base}/trial-jobs")), over


def _look_at_failures(
    api: Api, found: dict[str, Any], known: dict[str, str], *, follow: bool
) -> tuple[list[tuple[str, int, str]], bool]:
    """The lines of what failed in each run; of a run that has ended, ``known`` keeps them."""
    base = f"/experiments/{found['id']}"
    over = not follow or api.get(f"{base}/check-status")["status"] in ENDED
    lines = []
    for run_id in api.get(f"{base}/runs"):
        run = f"/api/v2/dags/{found['dagId']}/dagRuns/{run_id}"
        text = known.get(run_id)
        if text is None:
            goes_on = follow and api.ask("GET", run).json()["state"] not in ("success", "failed")
            text = explain_failure(api, run)
            if goes_on:
                over = False
            else:
                known[run_id] = text
        lines += [(run_id, number, line) for number, line in enumerate(text.splitlines())]
    for job in api.get_all(f"{base}/trial-jobs"):
        if job["status"] == "FAILED":
            text = f"trial #{job['sequenceId']} {job['id']} failed: {job.get('reason', '')}"
            lines += [(job["id"], number, line) for number, line in enumerate(text.splitlines())]
    return lines, over


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


def _require_end(form: Form, follow: bool) -> None:
    if follow and form is Form.JSON:
        raise ApiError("what is followed has no end, as a JSON document has; leave out --follow, or --output json")


def _show_folder(api: Api, experiment_id: str, form: Any) -> None:
    show([{"folder": api.get(f"/experiments/{experiment_id}/experiment")["logDir"]}], form)
