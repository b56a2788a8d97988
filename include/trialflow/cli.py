"""``nnictl``: the command line that NNI users know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trialflow import __version__
from trialflow.errors import ConfigError, TrainingError
from trialflow.experiment.loading import load_experiment
from trialflow.records import ExperimentSpec
from trialflow.settings import get_settings

app = typer.Typer(
    help="Work with NNI experiments that run on Airflow.", no_args_is_help=True, pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Work with NNI experiments that run on Airflow."""


@app.command()
def validate(
    config: Annotated[Path, typer.Option("--config", "-c", help="The experiment's YAML file.", metavar="FILE")],
    preflight: Annotated[bool, typer.Option("--preflight", help="Ask the cluster and the storage, too.")] = False,
) -> None:
    """Check an experiment file, its search space and its code, without running anything.

    With --preflight the cluster of a kubeflow experiment is asked as well, over KUBECONFIG.

    Exits with 0 when the experiment can run, and with 1 after a list of everything that is wrong with it.
    """
    try:
        spec = load_experiment(str(config.absolute()), get_settings(), preflight=preflight)
    except (ConfigError, TrainingError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(escape(str(error)))
        raise typer.Exit(1) from error
    _print_spec(spec)


def _print_spec(spec: ExperimentSpec) -> None:
    console = Console(soft_wrap=True, highlight=False)
    table = Table(show_header=False, box=None)
    rows = {
        "experiment": spec.name,
        "platform": spec.platform,
        "tuner": f"{spec.tuner.name} ({spec.optimize_mode})",
        "assessor": spec.assessor.name if spec.assessor else "none",
        "trials": f"{spec.max_trial_number}, at most {spec.trial_concurrency} at once",
        "duration": f"{spec.max_duration_seconds:.0f} s",
        "search space": ", ".join(spec.search_space),
        "code": spec.code_directory,
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    console.print(table)
    for warning in spec.warnings:
        console.print(f"warning: {escape(warning)}")
    console.print("The experiment can run.")


def main() -> None:
    """The entry point of ``nnictl`` and ``trialflow``."""
    app()
