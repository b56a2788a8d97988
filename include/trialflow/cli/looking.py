"""The commands that look at experiments and trials, and change nothing."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialflow.cli.client import ENDED, Api, explain_failure
from trialflow.cli.output import describe_duration, describe_experiment, describe_time, describe_trial, make_table, show
from trialflow.cli.shared import ExperimentId, asking, run_address
from trialflow.cli.target import config_file
from trialflow.records import StrEnum

if TYPE_CHECKING:
    from rich.console import Group

experiment_app = typer.Typer(help="Look at experiments, carry results between them, delete them.", no_args_is_help=True)
trial_app = typer.Typer(help="Look at trials, add one, kill one.", no_args_is_help=True)
log_app = typer.Typer(help="Show what an experiment or a trial has written.", no_args_is_help=True)
webui_app = typer.Typer(help="Find Airflow's pages.", no_args_is_help=True)
config_app = typer.Typer(help="Look at the command line's own configuration.", no_args_is_help=True)

TrialOption = Annotated[str | None, typer.Option("--trial", "-T", help="The trial's id.", metavar="TRIAL")]


class Stream(StrEnum):
    """The outputs of a trial."""

    STDOUT = "stdout"
    STDERR = "stderr"


@experiment_app.command("show")
def show_experiment(context: typer.Context, experiment: ExperimentId = None) -> None:
    """Show an experiment: its limits as they are in force, and how far it is."""
    with asking(context) as (api, form):
        base = f"/experiments/{api.find(experiment)['id']}"
        profile, statistics = api.get(f"{base}/experiment"), api.get(f"{base}/job-statistics")
        show([{"": name, " ": value} for name, value in _describe(profile, statistics).items()], form, profile)


def _describe(profile: dict[str, Any], statistics: list[dict[str, Any]]) -> dict[str, Any]:
    params = profile["params"]
    counts = ", ".join(f"{item['trialJobNumber']} {item['trialJobStatus']}" for item in statistics)
    described = {
        "id": profile["id"],
        "name": params["experimentName"],
        "status": f"{profile['status']} {profile['statusReason']}".strip(),
        "trials": f"{profile['nextSequenceId']} of {params['maxTrialNum']}: {counts or 'none yet'}",
        "at a time": params["trialConcurrency"],
        "duration": f"{describe_duration(0.1, 0.1 + profile['execDuration'] * 1000)}"
        f" of {describe_duration(0.1, 0.1 + params['maxExecDuration'] * 1000)}",
        "tuner": params["tuner"].get("builtinTunerName") or params["tuner"]["className"],
        "platform": params["trainingServicePlatform"],
        "folder": profile["logDir"],
        "revision": profile["revision"],
    }
    return {name: value for name, value in described.items() if value not in ("", None)}


@experiment_app.command("status")
def show_status(context: typer.Context, experiment: ExperimentId = None) -> None:
    """Show an experiment's status; exits with 1 when it has failed."""
    with asking(context) as (api, form):
        found = api.find(experiment)
        status = api.get(f"/experiments/{found['id']}/check-status")
        show([{"id": found["id"], "status": status["status"], "reason": status["reason"]}], form, status)
        if status["status"] == "ERROR":
            raise typer.Exit(1)


@experiment_app.command("list")
def list_experiments(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
) -> None:
    """List the experiments that run."""
    with asking(context) as (api, form):
        found = [item for item in api.get_all("/experiments") if everything or item["status"] not in ENDED]
        show([describe_experiment(item) for item in found], form, found)


@trial_app.command("ls")
def list_trials(context: typer.Context, experiment: ExperimentId = None) -> None:
    """List an experiment's trials."""
    with asking(context) as (api, form):
        jobs = api.get_all(f"/experiments/{api.find(experiment)['id']}/trial-jobs")
        show([describe_trial(job) for job in jobs], form, jobs)


def top(
    context: typer.Context,
    experiment: ExperimentId = None,
    seconds: Annotated[float, typer.Option("--time", "-t", min=0.2, help="Between two looks.")] = 3.0,
) -> None:
    """Show an experiment and its newest trials, live, until it ends or you press Ctrl-C; once in a pipe."""
    from rich.console import Console
    from rich.live import Live

    with asking(context) as (api, _):
        base = f"/experiments/{api.find(experiment)['id']}"
        console = Console()
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                profile = api.get(f"{base}/experiment")
                picture = _picture(api, base, profile, rows=max(5, console.height - 14))
                live.update(picture, refresh=True)
                if not console.is_terminal or profile["status"] in ENDED:
                    break
                time.sleep(seconds)
        if console.is_terminal:
            console.print(picture)


def _picture(api: Api, base: str, profile: dict[str, Any], rows: int) -> Group:
    from rich.console import Group

    first = max(0, profile["nextSequenceId"] - rows)
    jobs = api.get(f"{base}/trial-jobs", offset=first, limit=rows)
    described = _describe(profile, api.get(f"{base}/job-statistics"))
    head = [{"": name, " ": value} for name, value in described.items()]
    return Group(make_table(head), "", make_table([describe_trial(job) for job in reversed(jobs)]))


@log_app.command("trial")
def log_trial(
    context: typer.Context,
    experiment: ExperimentId = None,
    trial: TrialOption = None,
    stream: Annotated[Stream, typer.Option("--stream", help="Which output.")] = Stream.STDOUT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the trial ends.")] = False,
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
            offset = _print_log(api, f"/api/v1/nni{base}/trial-jobs/{trial}/log", stream, offset)
            if ended or not follow:
                return
            time.sleep(1)


def _print_log(api: Api, path: str, stream: Stream, offset: int) -> int:
    """Print all that there is from an offset on; gives the offset behind it."""
    while True:
        part = api.ask("GET", path, params={"name": stream.value, "offset": offset})
        count = int(part.headers["X-Log-Bytes"])
        if not count:
            return offset
        sys.stdout.write(part.text)
        sys.stdout.flush()
        offset += count


@log_app.command("stderr")
def log_stderr(context: typer.Context, experiment: ExperimentId = None) -> None:
    """Show why an experiment's run failed: the errors in the logs of its tasks."""
    with asking(context) as (api, _):
        found = api.find(experiment)
        for run_id in api.get(f"/experiments/{found['id']}/runs"):
            text = explain_failure(api, f"/api/v2/dags/{found['dagId']}/dagRuns/{run_id}")
            if text:
                typer.echo(text)


@log_app.command("stdout")
def log_stdout(
    context: typer.Context,
    experiment: ExperimentId = None,
    head: Annotated[int | None, typer.Option("--head", "-h", min=1, help="Only the first lines.")] = None,
    tail: Annotated[int | None, typer.Option("--tail", "-t", min=1, help="Only the last lines.")] = None,
) -> None:
    """Show what happened to an experiment: what people did, and its trials' starts and ends, in order."""
    with asking(context) as (api, form):
        base = f"/experiments/{api.find(experiment)['id']}"
        events = _events(api.get(f"{base}/changes"), api.get_all(f"{base}/trial-jobs"))
        events = events[:head] if head else events[-tail:] if tail else events
        show([{"time": describe_time(at), "event": text} for at, text in events], form)


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


@webui_app.command("url")
def show_url(context: typer.Context, experiment: ExperimentId = None) -> None:
    """Show the addresses of an experiment's runs in Airflow."""
    with asking(context) as (api, form):
        found = api.find(experiment)
        runs = api.get(f"/experiments/{found['id']}/runs")
        show([{"url": run_address(api, found["dagId"], run_id)} for run_id in runs], form)


@config_app.command("show")
def show_config(context: typer.Context) -> None:
    """Show which Airflow is asked, and where that is written."""
    with asking(context) as (api, form):
        values = {"url": api.target.url, "from": api.target.source, "file": str(config_file())}
        show([values], form, values)
