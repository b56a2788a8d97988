"""The commands that look at experiments and trials, and change nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialflow.cli.client import ENDED, Api
from trialflow.cli.output import (
    describe_experiment,
    describe_seconds,
    describe_time,
    describe_trial,
    echo,
    is_drawn,
    make_table,
    show,
)
from trialflow.cli.shared import ExperimentId, asking, fail, run_address
from trialflow.cli.target import config_file
from trialflow.records import describe_parameters

if TYPE_CHECKING:
    from rich.table import Table

experiment_app = typer.Typer(help="Look at experiments, carry results between them, delete them.", no_args_is_help=True)
trial_app = typer.Typer(help="Look at trials, add one, kill one.", no_args_is_help=True)
webui_app = typer.Typer(help="Find Airflow's pages.", no_args_is_help=True)
config_app = typer.Typer(help="Look at the command line's own configuration.", no_args_is_help=True)

# Of each experiment, what top shows in a pipe, and of which it keeps the line when it draws several.
_PIPED_TRIALS = 20
_ALL = "nnictl experiment list --all shows those that have ended."
_BRIEF = ("id", "name", "status", "trials", "at a time", "duration")


@experiment_app.command("show")
def show_experiment(context: typer.Context, experiment: ExperimentId = None) -> None:
    """Show an experiment: its limits as they are in force, and how far it is."""
    with asking(context) as (api, form):
        base = f"/experiments/{api.find(experiment)['id']}"
        profile, statistics = api.get(f"{base}/experiment"), api.get(f"{base}/job-statistics")
        show(_head(profile, statistics), form, profile)


def _head(profile: dict[str, Any], statistics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"": name, " ": value} for name, value in _describe(profile, statistics).items()]


def _describe(profile: dict[str, Any], statistics: list[dict[str, Any]]) -> dict[str, Any]:
    params = profile["params"]
    kind = "advisor" if "advisor" in params else "tuner"
    counts = ", ".join(f"{item['trialJobNumber']} {item['trialJobStatus']}" for item in statistics)
    described = {
        "id": profile["id"],
        "name": params["experimentName"],
        "status": f"{profile['status']} {profile['statusReason']}".strip(),
        "trials": f"{profile['nextSequenceId']} of {params['maxTrialNum']}: {counts or 'none yet'}",
        "at a time": params["trialConcurrency"],
        "best": _describe_best(profile.get("best")),
        "started": describe_time(profile.get("startTime")),
        "ended": describe_time(profile.get("endTime")),
        "duration": f"{describe_seconds(profile['execDuration'])} of {describe_seconds(params['maxExecDuration'])}",
        kind: params[kind].get(f"builtin{kind.capitalize()}Name") or params[kind]["className"],
        "platform": params["trainingServicePlatform"],
        "folder": profile["logDir"],
        "revision": profile["revision"],
    }
    return {name: value for name, value in described.items() if value not in ("", None)}


def _describe_best(best: dict[str, Any] | None) -> str:
    if best is None:
        return ""
    return f"{best['value']:.6g} by trial {best['id']}: {describe_parameters(best['parameters'])}"


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
        if not found:
            echo("There is no experiment yet." if everything else f"No experiment runs; {_ALL}", err=True)
        show([describe_experiment(item) for item in found], form, found)


@trial_app.command("ls")
def list_trials(
    context: typer.Context,
    experiment: ExperimentId = None,
    head: Annotated[int | None, typer.Option(min=1, help="Only so many, those with the highest values.")] = None,
    tail: Annotated[int | None, typer.Option(min=1, help="Only so many, those with the lowest values.")] = None,
) -> None:
    """List an experiment's trials."""
    if head and tail:
        fail("--head and --tail exclude each other; give one of them")
    with asking(context) as (api, form):
        jobs = api.get_all(f"/experiments/{api.find(experiment)['id']}/trial-jobs")
        if head or tail:
            valued = (job for job in jobs if "value" in job)
            jobs = sorted(valued, key=lambda job: job["value"], reverse=bool(head))[: head or tail]
        show([describe_trial(job) for job in jobs], form, jobs)


def top(
    context: typer.Context,
    experiment: ExperimentId = None,
    seconds: Annotated[float, typer.Option("--time", "-t", min=0.2, help="Between two looks.")] = 3.0,
) -> None:
    """Show an experiment, or all that run, with the newest trials: live, until all end or you press Ctrl-C.

    In a pipe, and in a form that --output asks for, once.
    """
    with asking(context) as (api, form):
        found = api.find_all(experiment or "*", any_status=experiment is not None)
        ids = [item["id"] for item in found]
        if is_drawn(form):
            _draw_live(api, ids, seconds)
            return
        looks = [_look(api, each, _PIPED_TRIALS) for each in ids]
        rows: list[dict[str, Any]] = []
        for look in looks:
            rows += [*_head(look, look["jobStatistics"]), *map(describe_trial, look["trialJobs"])]
        show(rows, form, looks)


def _draw_live(api: Api, ids: list[str], seconds: float) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            rows = max(5, console.height - 14) if len(ids) == 1 else max(2, console.height // len(ids) - 5)
            looks = [_look(api, each, rows) for each in ids]
            picture = Group(*(part for look in looks for part in _draw(look, brief=len(ids) > 1)))
            live.update(picture, refresh=True)
            if all(look["status"] in ENDED for look in looks):
                break
            time.sleep(seconds)
    console.print(picture)


def _look(api: Api, experiment_id: str, rows: int) -> dict[str, Any]:
    """An experiment's profile with the statistics and the newest trials beside it, the newest first."""
    base = f"/experiments/{experiment_id}"
    profile = api.get(f"{base}/experiment")
    jobs = api.get(f"{base}/trial-jobs", offset=max(0, profile["nextSequenceId"] - rows), limit=rows)
    return {**profile, "jobStatistics": api.get(f"{base}/job-statistics"), "trialJobs": jobs[::-1]}


def _draw(look: dict[str, Any], *, brief: bool) -> list[Table | str]:
    """One experiment of the picture; of several, each has one line above its trials."""
    profile, statistics = look, look["jobStatistics"]
    described = _describe(profile, statistics)
    head = [{name: described[name] for name in _BRIEF}] if brief else _head(profile, statistics)
    return [make_table(head), "", make_table([describe_trial(job) for job in look["trialJobs"]]), *[""] * brief]


@webui_app.command("url")
def show_url(context: typer.Context, experiment: ExperimentId = None) -> None:
    """Show the addresses of an experiment's runs in Airflow; before the first one is planned, that of all runs."""
    with asking(context) as (api, form):
        found = api.find(experiment)
        runs = api.get(f"/experiments/{found['id']}/runs")
        addresses = [run_address(api, found["dagId"], run_id) for run_id in runs]
        show([{"url": url} for url in addresses or [f"{api.target.url}/dags/{found['dagId']}/runs"]], form)


@config_app.command("show")
def show_config(context: typer.Context) -> None:
    """Show which Airflow is asked, and where that is written."""
    with asking(context) as (api, form):
        values = {"url": api.target.url, "from": api.target.source, "file": str(config_file())}
        show([values], form, values)
