"""Every command of ``nnictl``."""

from __future__ import annotations

import csv
import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape

from trialflow import __version__
from trialflow.cli.client import Api, ApiError, explain_failure, log_in, wait_for_start
from trialflow.cli.files import convert_file, validate
from trialflow.cli.output import (
    Form,
    describe_duration,
    describe_experiment,
    describe_time,
    describe_trial,
    make_table,
    show,
)
from trialflow.cli.target import config_file, find_target, keep_target
from trialflow.errors import TrialflowError
from trialflow.records import StrEnum

if TYPE_CHECKING:
    from collections.abc import Iterator

_HELP = "Work with NNI experiments that run on Airflow."
app = typer.Typer(help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False)
experiment_app = typer.Typer(help="Look at experiments.", no_args_is_help=True)
trial_app = typer.Typer(help="Look at trials, or kill one.", no_args_is_help=True)
update_app = typer.Typer(help="Change an experiment while it runs.", no_args_is_help=True)
log_app = typer.Typer(help="Show what an experiment or a trial has written.", no_args_is_help=True)
webui_app = typer.Typer(help="Find Airflow's pages.", no_args_is_help=True)
config_app = typer.Typer(help="Look at the command line's own configuration.", no_args_is_help=True)
for name, part in {
    "experiment": experiment_app,
    "trial": trial_app,
    "update": update_app,
    "log": log_app,
    "webui": webui_app,
    "config": config_app,
}.items():
    app.add_typer(part, name=name)
app.command()(validate)
app.command("convert")(convert_file)

_RUNNING = ("INITIALIZED", "RUNNING")
_START_TIMEOUT_SECONDS = 300.0
_NEXT_COMMANDS = {
    "nnictl experiment show ID": "the experiment, as it is now",
    "nnictl trial ls ID": "its trials",
    "nnictl top": "its trials, live",
    "nnictl log trial ID --trial TRIAL": "what a trial has written",
    "nnictl update concurrency ID --value N": "more or fewer trials at a time",
    "nnictl stop ID": "end it",
    "nnictl --help": "all commands",
}

ExperimentId = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="The experiment, or how its id begins; else the one that runs.")
]
TrialOption = Annotated[str | None, typer.Option("--trial", "-T", help="The trial's id.", metavar="TRIAL")]


@dataclass(frozen=True)
class _Root:
    """What the options before the command say."""

    url: str | None
    token: str | None
    form: Form

    def api(self) -> Api:
        return Api(find_target(self.url, self.token))


class Stream(StrEnum):
    """The outputs of a trial."""

    STDOUT = "stdout"
    STDERR = "stderr"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="Airflow's address; else TRIALFLOW_URL, else as logged in.")] = None,
    token: Annotated[str | None, typer.Option(help="A token of Airflow's; else TRIALFLOW_TOKEN.")] = None,
    output: Annotated[Form, typer.Option("--output", help="How to show things.")] = Form.AUTO,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Work with NNI experiments that run on Airflow."""
    context.obj = _Root(url, token, output)


@contextmanager
def _asking(context: typer.Context) -> Iterator[tuple[Api, Form]]:
    """The API server; what it refuses is said on stderr, and the exit code is 1."""
    root: _Root = context.obj
    try:
        yield root.api(), root.form
    except TrialflowError as error:
        _fail(str(error))


def _fail(message: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]error:[/] {escape(message)}")
    raise typer.Exit(1)


# ── the life of an experiment ────────────────────────────────────────────────────────────────────────────────────


@app.command()
def login(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Address of Airflow's API server.")],
    user: Annotated[str, typer.Option("--user", "-u", prompt=True, help="Airflow's user.")],
    password: Annotated[
        str, typer.Option(envvar="TRIALFLOW_PASSWORD", prompt=True, hide_input=True, help="By default asked for.")
    ],
) -> None:
    """Get a token from Airflow and keep it, readable by you alone."""
    del context
    try:
        file = keep_target(url, log_in(url, user, password))
    except TrialflowError as error:
        _fail(str(error))
        return
    typer.echo(f"Logged in at {url} as {user}; the token is kept in {file}")


@app.command()
def create(
    context: typer.Context,
    config: Annotated[str, typer.Option("--config", "-c", help="The experiment's file.", metavar="FILE")],
    dag: Annotated[str, typer.Option(help="The DAG that is to run it.")] = "nni_experiment",
    wait: Annotated[bool, typer.Option(help="Wait until it runs, or say why it does not.")] = True,
    _port: Annotated[int | None, typer.Option("--port", "-p", hidden=True)] = None,
    _debug: Annotated[bool, typer.Option("--debug", "-d", hidden=True)] = False,
) -> None:
    """Start an experiment. The file must lie where Airflow's workers see it under the same path."""
    with _asking(context) as (api, form):
        started = api.ask(
            "POST", "/api/v1/nni/experiment", json={"config": str(Path(config).absolute()), "dag_id": dag}
        ).json()
        _await_start(api, started, form, wait=wait)


@app.command()
def resume(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(metavar="ID", help="The experiment, or how its id begins.")],
    wait: Annotated[bool, typer.Option(help="Wait until it runs, or say why it does not.")] = True,
    _port: Annotated[int | None, typer.Option("--port", "-p", hidden=True)] = None,
) -> None:
    """Let an experiment that has ended go on with the trials that are left."""
    with _asking(context) as (api, form):
        found = api.find(experiment)
        started = api.ask("POST", f"/api/v1/nni/experiments/{found['id']}/resume").json()
        _await_start(api, started, form, wait=wait)


def _await_start(api: Api, started: dict[str, str], form: Form, *, wait: bool) -> None:
    address = _run_address(api, started["dag_id"], started["run_id"])
    if wait:
        with Console(stderr=True).status("Checking the experiment and copying its code …"):
            reason = wait_for_start(api, started, _START_TIMEOUT_SECONDS)
        if reason is not None:
            raise ApiError(f"the experiment {started['experiment_id']} did not start:\n{reason}\nSee {address}")
    if form is Form.JSON:
        show([], form, {**started, "url": address})
        return
    lines = ["Search space and code lie on the storage.", "The experiment has started."] if wait else []
    for line in [*lines, f"The experiment id is {started['experiment_id']}", f"The Web UI urls are: {address}", ""]:
        typer.echo(line)
    show([{"command": name.replace("ID", started["experiment_id"]), "shows or does": text}
          for name, text in _NEXT_COMMANDS.items()], form)  # fmt: skip


@app.command()
def stop(
    context: typer.Context,
    experiment: ExperimentId = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Every experiment that runs.")] = False,
    _port: Annotated[int | None, typer.Option("--port", "-p", hidden=True)] = None,
) -> None:
    """End an experiment and its trials; ID* ends all whose ids begin like that."""
    with _asking(context) as (api, form):
        wanted = "*" if everything else experiment
        for found in api.find_all(wanted, any_status=False, most=1):
            status = api.ask("POST", f"/api/v1/nni/experiments/{found['id']}/stop").json()
            show([{"id": found["id"], "status": status["status"], "reason": status["reason"]}], form)


@app.command()
def view(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(metavar="ID", help="The experiment, or how its id begins.")],
) -> None:
    """Show an experiment that has ended; nothing has to be started for that."""
    show_experiment(context, experiment)


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────


@experiment_app.command("show")
def show_experiment(context: typer.Context, experiment: ExperimentId = None) -> None:
    """Show an experiment: its limits as they are in force, and how far it is."""
    with _asking(context) as (api, form):
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
        "tuner": params["tuner"]["builtinTunerName"],
        "platform": params["trainingServicePlatform"],
        "folder": profile["logDir"],
        "revision": profile["revision"],
    }
    return {name: value for name, value in described.items() if value not in ("", None)}


@experiment_app.command("status")
def show_status(context: typer.Context, experiment: ExperimentId = None) -> None:
    """Show an experiment's status; exits with 1 when it has failed."""
    with _asking(context) as (api, form):
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
    with _asking(context) as (api, form):
        found = [item for item in api.get_all("/experiments") if everything or item["status"] in _RUNNING]
        show([describe_experiment(item) for item in found], form, found)


@experiment_app.command("export")
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--filename", "-f", help="Where to write.", metavar="FILE")],
    experiment: ExperimentId = None,
    kind: Annotated[Literal["csv", "json"], typer.Option("--type", "-t", help="The file's format.")] = "json",
) -> None:
    """Write parameters and values of the trials that have one into a file."""
    with _asking(context) as (api, _):
        found = api.find(experiment)
        results = api.get(f"/experiments/{found['id']}/export-data")
        if kind == "json":
            file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        else:
            _write_csv(file, results)
        typer.echo(f"{len(results)} trials of {found['id']} were written to {file}")


def _write_csv(file: Path, results: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for result in results for name in result["parameter"]))
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "value", *names])
        for result in results:
            cells = (result["parameter"].get(name) for name in names)
            cells = (json.dumps(cell) if isinstance(cell, (dict, list)) else cell for cell in cells)
            table.writerow([result["id"], result["value"], *cells])


@trial_app.command("ls")
def list_trials(context: typer.Context, experiment: ExperimentId = None) -> None:
    """List an experiment's trials."""
    with _asking(context) as (api, form):
        jobs = api.get_all(f"/experiments/{api.find(experiment)['id']}/trial-jobs")
        show([describe_trial(job) for job in jobs], form, jobs)


@trial_app.command("kill")
def kill_trial(
    context: typer.Context,
    trial: Annotated[str, typer.Option("--trial", "-T", help="The trial's id.", metavar="TRIAL")],
    experiment: ExperimentId = None,
) -> None:
    """End one trial; the experiment goes on."""
    with _asking(context) as (api, form):
        path = f"/api/v1/nni/experiments/{api.find(experiment)['id']}/trial-jobs/{trial}"
        job = api.ask("DELETE", path).json()
        show([{"id": job["id"], "status": job["status"], "reason": job.get("reason", "")}], form, job)


@app.command()
def top(
    context: typer.Context,
    experiment: ExperimentId = None,
    seconds: Annotated[float, typer.Option("--time", "-t", min=0.2, help="Between two looks.")] = 3.0,
) -> None:
    """Show an experiment and its newest trials, live, until it ends or you press Ctrl-C; once in a pipe."""
    with _asking(context) as (api, _):
        base = f"/experiments/{api.find(experiment)['id']}"
        console = Console()
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                profile = api.get(f"{base}/experiment")
                picture = _picture(api, base, profile, rows=max(5, console.height - 14))
                live.update(picture, refresh=True)
                if not console.is_terminal or profile["status"] not in _RUNNING:
                    break
                time.sleep(seconds)
        if console.is_terminal:
            console.print(picture)


def _picture(api: Api, base: str, profile: dict[str, Any], rows: int) -> Group:
    first = max(0, profile["nextSequenceId"] - rows)
    jobs = api.get(f"{base}/trial-jobs", offset=first, limit=rows)
    described = _describe(profile, api.get(f"{base}/job-statistics"))
    head = [{"": name, " ": value} for name, value in described.items()]
    return Group(make_table(head), "", make_table([describe_trial(job) for job in reversed(jobs)]))


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────────


@update_app.command("concurrency")
def update_concurrency(
    context: typer.Context,
    value: Annotated[int, typer.Option("--value", "-v", help="Trials at a time.")],
    experiment: ExperimentId = None,
) -> None:
    """Change how many trials run at a time; none is killed."""
    _update(context, experiment, "TRIAL_CONCURRENCY", "trialConcurrency", value)


@update_app.command("trialnum")
def update_trial_number(
    context: typer.Context,
    value: Annotated[int, typer.Option("--value", "-v", help="Trials in all.")],
    experiment: ExperimentId = None,
) -> None:
    """Change how many trials are made in all."""
    _update(context, experiment, "MAX_TRIAL_NUM", "maxTrialNum", value)


@update_app.command("duration")
def update_duration(
    context: typer.Context,
    value: Annotated[str, typer.Option("--value", "-v", help="30m, 2h or 1d, for example.")],
    experiment: ExperimentId = None,
) -> None:
    """Change after how much time no new trial starts."""
    _update(context, experiment, "MAX_EXEC_DURATION", "maxExecDuration", value)


@update_app.command("searchspace")
def update_search_space(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--filename", "-f", help="The new search space.", metavar="FILE")],
    experiment: ExperimentId = None,
) -> None:
    """Change what the next trials are drawn from."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        _fail(f"{file} cannot be read: {error.strerror}")
        return
    _update(context, experiment, "SEARCH_SPACE", "searchSpace", text)


def _update(context: typer.Context, experiment: str | None, kind: str, key: str, value: Any) -> None:
    with _asking(context) as (api, form):
        found = api.find(experiment)
        path = f"/api/v1/nni/experiments/{found['id']}/experiment"
        body = {"params": {key: value}}
        profile = api.ask("PUT", path, params={"update_type": kind}, json=body).json()
        row = {"id": found["id"], "changed": key, "value": profile["params"][key], "revision": profile["revision"]}
        show([row], form, profile)


# ── logs and the rest ────────────────────────────────────────────────────────────────────────────────────────────


@log_app.command("trial")
def log_trial(
    context: typer.Context,
    experiment: ExperimentId = None,
    trial: TrialOption = None,
    stream: Annotated[Stream, typer.Option("--stream", help="Which output.")] = Stream.STDOUT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the trial ends.")] = False,
) -> None:
    """Show what a trial has written; without --trial, where the trials' files lie."""
    with _asking(context) as (api, form):
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
    with _asking(context) as (api, _):
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
    with _asking(context) as (api, form):
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
    with _asking(context) as (api, form):
        found = api.find(experiment)
        runs = api.get(f"/experiments/{found['id']}/runs")
        show([{"url": _run_address(api, found["dagId"], run_id)} for run_id in runs], form)


def _run_address(api: Api, dag_id: str, run_id: str) -> str:
    return f"{api.target.url}/dags/{dag_id}/runs/{run_id}"


@config_app.command("show")
def show_config(context: typer.Context) -> None:
    """Show which Airflow is asked, and where that is written."""
    with _asking(context) as (api, form):
        values = {"url": api.target.url, "from": api.target.source, "file": str(config_file())}
        show([values], form, values)
