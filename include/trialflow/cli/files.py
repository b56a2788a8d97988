"""The commands that read and write experiment files, on this machine alone.

What reads experiments is imported inside: no other command should have to wait for it.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trialflow.cli.nni import TrialCommand
from trialflow.cli.output import Form, describe_seconds, echo, show, tell
from trialflow.errors import ConfigError, TrainingError
from trialflow.messages import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trialflow.records import ExperimentSpec


def validate(
    context: typer.Context,
    config: Annotated[Path, typer.Option("--config", "-c", help="The experiment's YAML file.", metavar="FILE")],
    preflight: Annotated[bool, typer.Option("--preflight", help="Ask the cluster and the storage, too.")] = False,
) -> None:
    """Check an experiment file, its search space and its code, without running anything.

    With --preflight the cluster of a kubeflow experiment is asked as well, over KUBECONFIG.

    Exits with 0 when the experiment can run, and with 1 after a list of everything that is wrong with it.
    """
    with _problems_on_stderr():
        loaded = load_in_shell(config, preflight=preflight)
    _show_spec(loaded.spec, loaded.python, context.obj.form)


@dataclass(frozen=True)
class LoadedInShell:
    """An experiment as an Airflow on this machine would load it.

    Attributes:
        python: The Python of its trials, for people; empty where they run elsewhere.
        environment: What Airflow is to be told of this shell; ``None``: nothing.
    """

    spec: ExperimentSpec
    python: str
    environment: dict[str, str] | None


def load_in_shell(config: Path, *, preflight: bool = False) -> LoadedInShell:
    """Load an experiment with this shell's Python.

    Where no environment is active, and the Python on the PATH lacks what the trials import and nnictl's own does not,
    nnictl was called by its path, from the environment that is meant.

    Raises:
        ConfigError: With everything that is wrong.
        TrainingError: The training service could not be asked.
    """
    from trialflow.experiment.loading.load import describe_trial_python, load_experiment
    from trialflow.settings import get_settings
    from trialflow.training.local.interpreter import sent_environment

    settings, name = get_settings(), str(config.absolute())
    is_active = any(os.environ.get(variable) for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"))
    for environment in (sent_environment(os.environ), None):
        spec = load_experiment(name, settings, preflight=preflight, environment=environment)
        python = describe_trial_python(spec, settings)
        loaded = LoadedInShell(spec, python.description if python else "", environment)
        if environment is not None:
            first = loaded
        if python is None or is_active or not python.warnings:
            return loaded
    return first


def describe_shell(config: Path) -> dict[str, str] | None:
    """What Airflow is told of this shell; says which Python that means."""
    from trialflow.training.local.interpreter import sent_environment

    try:
        loaded = load_in_shell(config)
    except (ConfigError, TrainingError):  # Airflow finds what is wrong again, and says it.
        return sent_environment(os.environ)
    if loaded.python:
        echo(f"The trials' Python is {loaded.python}.", err=True)
    return loaded.environment


def convert_file(
    config: Annotated[Path, typer.Option("--config", "-c", help="The experiment's YAML file.", metavar="FILE")],
    to: Annotated[Literal["v1", "v2"] | None, typer.Option(help="NNI's format to write; else the other one.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of printing.", metavar="FILE")
    ] = None,
) -> None:
    """Write an experiment file in NNI's other format: v1 (NNI 1.x) or v2 (NNI 2.x and 3.x).

    Comments cannot be kept. What has no counterpart is listed on stderr.
    """
    from trialflow.config import Format, convert, read_source

    with _problems_on_stderr():
        source = read_source(config.absolute(), "config")
        conversion = convert(source, Format(to) if to else None)
        _write(conversion.text, output)
    warnings = list(conversion.warnings)
    if output is not None and conversion.paths and output.absolute().parent != config.absolute().parent:
        warnings.append(f"relative paths start at the file's new folder now: {', '.join(conversion.paths)}")
    for warning in warnings:
        echo(f"warning: {warning}", err=True)


def generate_search_space(
    context: typer.Context,
    folder: Annotated[Path, typer.Option("--trial_dir", "-d", help="The annotated code.", metavar="DIR")] = Path(),
    file: Annotated[Path, typer.Option("--file", "-f", help="Where to write.", metavar="FILE")] = Path(
        "nni_auto_gen_search_space.json"
    ),
    _command: TrialCommand = None,
) -> None:
    """Write the search space that stands in the annotations of trial code. The code is read, not run."""
    from trialflow.experiment.loading.annotated import read_search_space
    from trialflow.settings import get_settings

    with _problems_on_stderr():
        found = read_search_space(folder.absolute(), get_settings())
        _write(json.dumps(found, indent=2) + "\n", file)
    written = {"parameters": len(found), "file": str(file)}
    tell(f"{len(found)} parameters were written to {file}", context.obj.form, written)


def read_platform(config: Path) -> str:
    """The platform that an experiment file names, whatever else is wrong with it.

    Raises:
        ConfigError: The file cannot be read, or names none.
    """
    from trialflow.config import AllowedRoots, parse_experiment, read_source

    source = read_source(config.absolute(), "config")
    parsed = parse_experiment(source, AllowedRoots.of((), source.folder))
    if not parsed.platform:
        raise ConfigError([parsed.problem_at(("trainingServicePlatform",), "must name a platform of NNI's")])
    return parsed.platform


def _write(text: str, output: Path | None) -> None:
    if output is None:
        echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = Problem("output", f"cannot be written: {error.strerror}", str(output), "Check the folder's rights")
        raise ConfigError([problem]) from error


@contextmanager
def _problems_on_stderr() -> Iterator[None]:
    try:
        yield
    except (ConfigError, TrainingError) as error:
        echo(str(error), err=True)
        raise typer.Exit(1) from error


def _show_spec(spec: ExperimentSpec, python: str, form: Form) -> None:
    rows = {
        "experiment": spec.name,
        "platform": spec.platform,
        "tuner": f"{spec.tuner.name} ({spec.optimize_mode})",
        "assessor": spec.assessor.name if spec.assessor else "none",
        "trials": f"{spec.max_trial_number}, at most {spec.trial_concurrency} at once",
        "duration": describe_seconds(spec.max_duration_seconds),
        "ends early": _describe_limits(spec),
        "search space": ", ".join(map(str, spec.search_space)) or "none",
        "code": spec.code_directory,
        **({"python": python} if python else {}),
    }
    show([{"": name, " ": value} for name, value in rows.items()], form, {**rows, "warnings": spec.warnings})
    if form is not Form.JSON:
        echo("".join(f"warning: {warning}\n" for warning in spec.warnings) + "The experiment can run.")


def _describe_limits(spec: ExperimentSpec) -> str:
    limits = {
        f"a trial after {describe_seconds(spec.max_trial_duration_seconds or 0)}": spec.max_trial_duration_seconds,
        f"the experiment at a value of {spec.goal}": spec.goal,
        f"the experiment at more than {spec.max_failed_trial_number} failed trials": spec.max_failed_trial_number,
    }
    return ", ".join(text for text, limit in limits.items() if limit is not None) or "nothing"
