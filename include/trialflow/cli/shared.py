"""What all commands share: the options before the command, and what becomes of a refusal."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from trialflow.cli.client import Api
from trialflow.cli.output import Form, echo
from trialflow.cli.target import find_target
from trialflow.errors import TrialflowError

if TYPE_CHECKING:
    from collections.abc import Iterator

ExperimentId = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="The experiment, or how its id begins; else the one that runs.")
]
TrialOption = Annotated[
    str | None, typer.Option("--trial", "-T", "--trial_id", help="The trial's id.", metavar="TRIAL")
]


@dataclass(frozen=True)
class Root:
    """What the options before the command say."""

    url: str | None
    token: str | None
    form: Form

    def api(self) -> Api:
        return Api(find_target(self.url, self.token))


@contextmanager
def asking(context: typer.Context) -> Iterator[tuple[Api, Form]]:
    """The API server; what it refuses is said on stderr, and the exit code is 1."""
    root: Root = context.obj
    try:
        yield root.api(), root.form
    except TrialflowError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    typer.echo(typer.style("error:", fg="red"), err=True, nl=False)
    echo(f" {message}", err=True)
    raise typer.Exit(1)


def run_address(api: Api, dag_id: str, run_id: str) -> str:
    return f"{api.target.url}/dags/{dag_id}/runs/{run_id}"
