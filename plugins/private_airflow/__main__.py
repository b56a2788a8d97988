"""The private Airflow's command line.

python -m private_airflow up | down | status | demo | env
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from private_airflow import keeper
from private_airflow.client import Client
from private_airflow.demo import run_demo
from private_airflow.installation import CHECKOUT, USER, Installation
from private_airflow.lifecycle import find_keeper, list_components, start, stop
from private_airflow.reporting import Reporter, say
from trialflow_airflow.identity import DAG_ID

if TYPE_CHECKING:
    from collections.abc import Callable


def _up(installation: Installation) -> int:
    report = Reporter(say)
    try:
        start(installation, report)
        client = Client(installation)
        report.waits_for(f"the DAG {DAG_ID}", installation.log("dag-processor"))
        client.wait_for_dag(DAG_ID, waiting=report.is_late)
        report.has_come(f"the DAG {DAG_ID} is ready")
        client.close()
    except KeyboardInterrupt:
        runs = find_keeper(installation) is not None
        say(f"Interrupted; {'Airflow goes on with its start; to end it: make down' if runs else 'nothing runs'}")
        return 130
    say(f"Airflow runs at {installation.url}; log in as {USER} with the password {installation.password}")
    say(f"For nnictl: nnictl login {installation.url} --user {USER}")
    say('For the airflow command: eval "$(make env)"; to end it: make down')
    return 0


def _down(installation: Installation) -> int:
    stop(installation, Reporter(say))
    return 0


def _status(installation: Installation) -> int:
    """0 when every component is up, else 1."""
    if find_keeper(installation) is None:
        say(f"No private Airflow of {installation.home} runs; to start one: make up")
        return 1
    say(f"The private Airflow of {installation.home} runs at {installation.url}")
    components = list_components(installation)
    for component in components:
        state = "up" if component.is_up else "not up yet"
        say(f"{component.name:15}{state:12}{installation.log(component.name)}")
    return 0 if all(component.is_up for component in components) else 1


def _env(installation: Installation) -> int:
    for name, value in installation.settings().items():
        say(f"export {name}={shlex.quote(value)}")
    return 0


def _demo(installation: Installation) -> int:
    return run_demo(installation, CHECKOUT / "examples" / "01-digits" / "config.yml")


def _keep(installation: Installation) -> int:
    keeper.keep(installation)
    return 0


_COMMANDS: dict[str, Callable[[Installation], int]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "demo": _demo,
    "env": _env,
    keeper.COMMAND: _keep,
}


def main() -> None:
    """Run the command that was given."""
    command = _COMMANDS.get(" ".join(sys.argv[1:]))
    if command is None:
        raise SystemExit(__doc__)
    raise SystemExit(command(Installation.open()))


if __name__ == "__main__":
    main()
