"""The commands that look at experiments and trials, and change nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialflow.cli.client import ENDED, Api
from trialflow.cli.output import describe_duration, describe_experiment, describe_trial, make_table, show
from trialflow.cli.shared import ExperimentId, asking, fail, run_address
from trialflow.cli.target import config_file

if TYPE_CHECKING:
    from rich.console import Group

experiment_app = typer.Typer(help="Look at experiments, carry results between them, delete them.", no_args_is_help=True)
trial_app = typer.Typer(help="Look at trials, add one, kill one.", no_args_is_help=True)
webui_app = typer.Typer(help="Find Airflow's pages.", no_args_is_help=True)
config_app = typer.Typer(help="Look at the command line's own configuration.", no_args_is_help=True)


@experiment_app.command("show")
def show_experiment(context: typer.Context, experiment: ExperimentId = None) -> None:
    """Show an experiment: its limits as they are in force, and how far it is."""
    with asking(context) as (api, form):
        base = f"/experiments/{api.find(experiment)['id']}"
        profile, statistics = api.get(f"{base}/experiment"), api.get(f"{base}/job-statistics")
        show([{"": name, " ": value} for name, value in _describe(profile, statistics).items()], form, profile)


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
        "duration": f"{describe_duration(0.1, 0.1 + profile['execDuration'] * 1000)}"
        f" of {describe_duration(0.1, 0.1 + params['maxExecDuration'] * 1000)}",
        kind: params[kind].get(f"builtin{kind.capitalize()}Name") or params[kind]["className"],
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
