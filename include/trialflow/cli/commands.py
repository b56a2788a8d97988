"""Every command of ``nnictl``, and those that act."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from trialflow import __version__
from trialflow.cli.client import ENDED, START_TIMEOUT_SECONDS, Api, ApiError, NothingRunsError, log_in, wait_for_start
from trialflow.cli.data import export, import_data
from trialflow.cli.files import convert_file, generate_search_space, read_platform, validate
from trialflow.cli.logs import log_app
from trialflow.cli.nni import Debug, ExperimentFolder, Foreground, Port, UrlPrefix, add_missing_commands
from trialflow.cli.output import Form, busy, echo, show, tell
from trialflow.cli.shared import ExperimentId, Root, asking, fail, run_address
from trialflow.cli.status import config_app, experiment_app, show_experiment, top, trial_app, webui_app
from trialflow.cli.target import is_private, keep_target
from trialflow.cli.tensorboard import tensorboard_app
from trialflow.cli.upload import send_experiment
from trialflow.errors import TrialflowError

if TYPE_CHECKING:
    from collections.abc import Iterator


class _RootGroup(TyperGroup):
    """Takes ``--output FORM`` also where people type it: behind the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for index, option in enumerate(args):
            name, _, form = option.partition("=")
            length = 1 if form else 2
            if name == "--output" and (form or "".join(args[index + 1 : index + 2])) in list(Form):
                args = [*args[index : index + length], *args[:index], *args[index + length :]]
        return super().parse_args(ctx, args)


_HELP = "Work with NNI experiments that run on Airflow."
app = typer.Typer(
    help=_HELP,
    cls=_RootGroup,
    context_settings={"help_option_names": ["--help", "-h"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
platform_app = typer.Typer(help="Clear up where trials ran.", no_args_is_help=True)
update_app = typer.Typer(help="Change an experiment while it runs.", no_args_is_help=True)
_GROUPS = {
    "experiment": experiment_app,
    "trial": trial_app,
    "update": update_app,
    "log": log_app,
    "webui": webui_app,
    "config": config_app,
    "platform": platform_app,
    "tensorboard": tensorboard_app,
}
for name, part in _GROUPS.items():
    app.add_typer(part, name=name)
add_missing_commands({"": app, **_GROUPS})
app.command()(top)
experiment_app.command("export")(export)
experiment_app.command("import")(import_data)
app.command()(validate)
app.command("convert")(convert_file)
app.command("ss_gen")(generate_search_space)

_NEXT_COMMANDS = {
    "nnictl experiment show ID": "the experiment, as it is now",
    "nnictl trial ls ID": "its trials",
    "nnictl top ID": "its trials, live",
    "nnictl log trial ID --trial TRIAL": "what a trial has written",
    "nnictl update concurrency ID --value N": "more or fewer trials at a time",
    "nnictl stop ID": "end it",
    "nnictl --help": "all commands",
}


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="Airflow's address; else TRIALFLOW_URL, else as logged in.")] = None,
    token: Annotated[str | None, typer.Option(help="A token of Airflow's; else TRIALFLOW_TOKEN.")] = None,
    output: Annotated[Form, typer.Option("--output", help="How to show things; also after a command.")] = Form.AUTO,
    _version: Annotated[
        bool, typer.Option("--version", "-v", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Work with NNI experiments that run on Airflow."""
    context.obj = Root(url, token, output)


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
    if not is_private(url):
        echo(f"warning: password and token go to {url} as anybody on the way can read them; use https://", err=True)
    try:
        file = keep_target(url, log_in(url, user, password))
    except TrialflowError as error:
        fail(str(error))
    sentence = f"Logged in at {url} as {user}; the token is kept in {file}"
    tell(sentence, context.obj.form, {"url": url, "user": user, "file": str(file)})


@app.command()
def create(
    context: typer.Context,
    config: Annotated[str, typer.Option("--config", "-c", help="The experiment's file.", metavar="FILE")],
    dag: Annotated[
        str | None, typer.Option(help="The DAG that is to run it; by default nni_experiment.", show_default=False)
    ] = None,
    upload: Annotated[
        bool | None, typer.Option(help="Send the files to Airflow; by default when it does not have the same ones.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it runs, or say why it does not.")] = True,
    _port: Port = None,
    _debug: Debug = False,
    _foreground: Foreground = False,
    _url_prefix: UrlPrefix = None,
) -> None:
    """Start an experiment; its folder is sent to an Airflow that does not have it on its disk."""
    chosen = {} if dag is None else {"dag_id": dag}
    with asking(context) as (api, form):
        started = send_experiment(api, Path(config), chosen, upload)
        _await_start(api, started, form, wait=wait)


@app.command()
def resume(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(metavar="ID", help="The experiment, or how its id begins.")],
    wait: Annotated[bool, typer.Option(help="Wait until it runs, or say why it does not.")] = True,
    _port: Port = None,
    _debug: Debug = False,
    _foreground: Foreground = False,
    _folder: ExperimentFolder = None,
) -> None:
    """Let an experiment that has ended go on with the trials that are left."""
    with asking(context) as (api, form):
        found = api.find(experiment)
        try:
            started = api.ask("POST", f"/api/v1/nni/experiments/{found['id']}/resume").json()
        except ApiError as error:
            if found["status"] != "DONE" or error.status != HTTPStatus.CONFLICT:
                raise
            tell(f"Nothing was resumed: {error.detail}", form, {"experiment_id": found["id"], "reason": error.detail})
            return
        _await_start(api, started, form, wait=wait)


def _await_start(api: Api, started: dict[str, str], form: Form, *, wait: bool) -> None:
    address = run_address(api, started["dag_id"], started["run_id"])
    if wait:
        with busy("Checking the experiment and copying its code …"):
            reason = wait_for_start(api, started, START_TIMEOUT_SECONDS)
        if reason is not None:
            raise ApiError(f"the experiment {started['experiment_id']} did not start:\n{reason}\nSee {address}")
    profile = api.get(f"/experiments/{started['experiment_id']}/experiment") if wait else {}
    warnings = profile.get("warnings", [])
    for warning in warnings:
        echo(f"warning: {warning}", err=True)
    if form is Form.JSON:
        show([], form, {**started, "url": address, "warnings": warnings})
        return
    if wait:
        echo(f"Search space and code were expanded to {profile['logDir']}\nThe experiment has started.")
    echo(f"The experiment id is {started['experiment_id']}\nThe Web UI urls are: {address}\n")
    show([{"command": name.replace("ID", started["experiment_id"]), "shows or does": text}
          for name, text in _NEXT_COMMANDS.items()], form)  # fmt: skip


@app.command()
def stop(
    context: typer.Context,
    experiment: ExperimentId = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Every experiment that runs.")] = False,
    port: Annotated[int | None, typer.Option("--port", "-p", hidden=True)] = None,
) -> None:
    """End an experiment and its trials; ID* ends all whose ids begin like that.

    Without an experiment that runs, and for one that has ended, this does nothing.
    """
    if port is not None:  # In NNI it names the experiment; without it another one would be stopped.
        fail(f"no experiment is known by a port, {port} for one; name it by its id: nnictl stop ID")
    with asking(context) as (api, form):
        try:
            all_found = _find_running(api, "*" if everything else experiment)
        except NothingRunsError:
            tell("No experiment runs.", form, [])
            return
        with _showing_all(form) as done:
            for found in all_found:
                status = api.ask("POST", f"/api/v1/nni/experiments/{found['id']}/stop").json()
                row = {"id": found["id"], "status": status["status"], "reason": status["reason"]}
                done.append((row, row))


def _find_running(api: Api, wanted: str | None) -> list[dict[str, Any]]:
    """The experiments to be stopped: those that run, or one that has ended when none that runs is meant."""
    try:
        return api.find_all(wanted, any_status=False)
    except NothingRunsError:
        if wanted is None or wanted.endswith("*"):
            raise
        return api.find_all(wanted)


@contextmanager
def _showing_all(form: Form) -> Iterator[list[tuple[dict[str, Any], Any]]]:
    """Collect what is done, a row and what programs get; it is shown in the end, also when a later one is refused."""
    done: list[tuple[dict[str, Any], Any]] = []
    try:
        yield done
    finally:
        show([row for row, _ in done], form, [raw for _, raw in done])


@app.command()
def view(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(metavar="ID", help="The experiment, or how its id begins.")],
    _port: Port = None,
    _folder: ExperimentFolder = None,
) -> None:
    """Show an experiment that has ended; nothing has to be started for that."""
    show_experiment(context, experiment)


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────────


@experiment_app.command("delete")
def delete_experiment(
    context: typer.Context,
    experiment: ExperimentId = None,
    everything: Annotated[bool, typer.Option("--all", help="Every experiment that has ended.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete an experiment that has ended, with its trials, code and results; ID* deletes all that begin like that."""
    with asking(context) as (api, form):
        if experiment is None and not everything:
            raise ApiError("name the experiment that is to be deleted, or give --all for every one that has ended")
        found = api.find_all("*" if everything else experiment)
        if everything:
            found = [item for item in found if item["status"] in ENDED]
        _delete_all(api, found, form, yes=yes)


@platform_app.command("clean")
def clean_platform(
    context: typer.Context,
    config: Annotated[Path, typer.Option("--config", "-c", help="An experiment's file.", metavar="FILE")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete every experiment that has ended on the platform that a file names, with trials, code and results."""
    with asking(context) as (api, form):
        platform = read_platform(config)
        known = api.get_all("/experiments")
        found = [item for item in known if item["status"] in ENDED and item["platform"] == platform]
        _delete_all(api, found, form, yes=yes)


def _delete_all(api: Api, found: list[dict[str, Any]], form: Form, *, yes: bool) -> None:
    if not found:
        echo("There is nothing to be deleted.", err=True)
    elif not yes:
        names = ", ".join(item["id"] for item in found)
        typer.confirm(f"Delete {names} for good, with folders and results?", abort=True, err=True)
    with _showing_all(form) as done:
        for item in found:
            answer = api.ask("DELETE", f"/api/v1/nni/experiments/{item['id']}").json()
            left = "" if answer["folder_deleted"] else f"the server does not see {answer['folder']}"
            done.append(({"id": answer["id"], "deleted": "yes", "left": left}, answer))


@trial_app.command("add")
def add_trial(
    context: typer.Context,
    parameters: Annotated[str, typer.Option("--parameters", "-p", help="As JSON, or @FILE.", metavar="JSON")],
    experiment: ExperimentId = None,
) -> None:
    """Let a trial with parameters of your own have the next free place."""
    with asking(context) as (api, form):
        body = _read_json(parameters)
        found = api.find(experiment)
        added = api.ask("POST", f"/api/v1/nni/experiments/{found['id']}/trial-jobs", json=body).json()
        waits = f"it waits until that is resumed: nnictl resume {found['id']}" if found["status"] in ENDED else ""
        show([{"id": found["id"], "number": added["sequenceId"], "note": waits}], form, added)


def _read_json(given: str) -> Any:
    """JSON as it was given, or from the file that ``@`` names."""
    try:
        text = Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
        return json.loads(text)
    except OSError as error:
        raise ApiError(f"{given[1:]} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ApiError(f"parameters must be JSON, like '{{\"lr\": 0.1}}': {error}") from error


@trial_app.command("kill")
def kill_trial(
    context: typer.Context,
    trial: Annotated[str, typer.Option("--trial", "-T", "--trial_id", help="The trial's id.", metavar="TRIAL")],
    experiment: ExperimentId = None,
) -> None:
    """End one trial; the experiment goes on."""
    with asking(context) as (api, form):
        path = f"/api/v1/nni/experiments/{api.find(experiment)['id']}/trial-jobs/{trial}"
        job = api.ask("DELETE", path).json()
        show([{"id": job["id"], "status": job["status"], "reason": job.get("reason", "")}], form, job)


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
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}")
    _update(context, experiment, "SEARCH_SPACE", "searchSpace", text)


def _update(context: typer.Context, experiment: str | None, kind: str, key: str, value: Any) -> None:
    with asking(context) as (api, form):
        found = api.find(experiment)
        path = f"/api/v1/nni/experiments/{found['id']}/experiment"
        body = {"params": {key: value}}
        profile = api.ask("PUT", path, params={"update_type": kind}, json=body).json()
        row = {"id": found["id"], "changed": key, "value": profile["params"][key], "revision": profile["revision"]}
        show([row], form, profile)
