"""What NNI's ``nnictl`` knows and ours does not: each is named, with what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialflow.cli.output import echo
from trialflow.cli.shared import fail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OWN_CLASSES = (
    "classes of your own are not registered: name className, classFileName and codeDir (v2: codeDirectory) in the "
    "experiment file"
)
# (group, command) → what to do instead
_MISSING = {
    ("", "algo"): _OWN_CLASSES,
    ("", "package"): _OWN_CLASSES,
    ("", "hello"): "there is no example to be written; start from a copy of examples/01-digits",
    ("", "jupyter-extension"): "there is no extension of Jupyter; nnictl top and nnictl webui url show experiments",
    ("experiment", "save"): "experiments stay where they are; nnictl experiment export writes their results",
    ("experiment", "load"): "nnictl experiment import takes in what nnictl experiment export has written",
    ("trial", "codegen"): "annotated code is rewritten when it is staged; nnictl ss_gen writes its search space",
}


def _ignored(*names: str, why: str) -> Any:
    """An option of NNI's that means nothing here, and says so when it is given."""

    def warn(value: Any) -> Any:
        if value:
            echo(f"warning: {names[0]} has no effect: {why}", err=True)
        return value

    return typer.Option(*names, hidden=True, callback=warn)


_NO_SERVER = "nothing is started that would listen there; Airflow's API server serves all experiments"
Port = Annotated[int | None, _ignored("--port", "-p", why=_NO_SERVER)]
UrlPrefix = Annotated[str | None, _ignored("--url_prefix", "-u", why=_NO_SERVER)]
Debug = Annotated[bool, _ignored("--debug", "-d", why="Airflow's log level counts")]
Foreground = Annotated[bool, _ignored("--foreground", "-f", why="nnictl log stdout --follow shows what happens")]
TrialCommand = Annotated[str | None, _ignored("--trial_command", "-t", why="the code is read, not run")]
ExperimentFolder = Annotated[str | None, _ignored("--experiment_dir", "-e", why="Airflow knows the folder")]


def add_missing_commands(groups: Mapping[str, typer.Typer]) -> None:
    """Let the commands that there are not answer with a sentence; they are listed in no help.

    Args:
        groups: By name; the root has an empty one.
    """
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    for (group, name), instead in _MISSING.items():
        command = f"nnictl {group} {name}".replace("  ", " ")
        sentence = f"Trialflow has no `{command}`: {instead}"
        groups[group].command(name, hidden=True, help=sentence, context_settings=anything)(_refusal(sentence))


def _refusal(sentence: str) -> Callable[[], None]:
    return lambda: fail(sentence)
