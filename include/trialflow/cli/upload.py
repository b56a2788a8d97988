"""Bringing an experiment's files to an Airflow that does not see them."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from trialflow.cli.client import is_on_this_machine
from trialflow.cli.files import describe_shell
from trialflow.cli.output import busy, echo
from trialflow.errors import ConfigError
from trialflow.messages import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from trialflow.cli.client import Api
    from trialflow.experiment.loading.bundle import Bundle

_UPLOADS = "/api/v1/nni/uploads"
_TIMEOUT_SECONDS = 600.0


def send_experiment(api: Api, config: Path, chosen: dict[str, str], upload: bool | None) -> dict[str, str]:
    """Start an experiment; the arguments are those of `bring_experiment`.

    Returns:
        Its id, the DAG's and the run's.
    """
    there = bring_experiment(api, config, chosen, upload)
    body = {"config": there, **chosen, **_describe_shell(api, config, there)}
    started: dict[str, str] = api.ask("POST", "/api/v1/nni/experiment", json=body).json()
    return started


def _describe_shell(api: Api, config: Path, there: str) -> dict[str, Any]:
    """What an Airflow on this machine is told of this shell's Python; says which one that is."""
    if there != str(config.absolute()) or not is_on_this_machine(api):
        return {}
    environment = describe_shell(config)
    return {"environment": environment} if environment else {}


def bring_experiment(api: Api, config: Path, chosen: dict[str, str], upload: bool | None) -> str:
    """The path under which Airflow finds the experiment; its files are sent there when that is needed.

    Args:
        api: The server.
        config: The experiment file on this machine.
        chosen: The DAG that is to run it, under ``dag_id``; empty for the one that Airflow takes by itself.
        upload: Whether to send the files; ``None``: unless the server has the same ones under the same path.

    Raises:
        ApiError: The server does not take them.
        ConfigError: They have to be sent, and cannot be.
    """
    from trialflow.config.source import MAX_FILE_BYTES
    from trialflow.experiment.loading.bundle import Bundle
    from trialflow.settings import get_settings
    from trialflow.staging.files import digest_file
    from trialflow.training.local.interpreter import machine_id

    here = str(config.absolute())
    if upload is False:
        return here
    if not config.exists():
        remedy = "Check the path; with --no-upload Airflow looks for it on its own disk"
        raise ConfigError([Problem("config", "no such file", here, remedy)])
    try:
        bundle = Bundle.of(config.absolute(), get_settings())
    except ConfigError as error:
        if upload:
            raise
        # Airflow may see more than this machine does; what is wrong there, it will say.
        echo(f"warning: the files cannot be sent to Airflow, which has to find them itself: {error}", err=True)
        return here
    if upload is None:
        file_digest = digest_file(config, MAX_FILE_BYTES)
        body = {"config": here, "digest": bundle.digest, "file_digest": file_digest, "machine": machine_id()}
        found = api.ask("POST", f"{_UPLOADS}/known", params=chosen, json=body).json()
        if found["known"]:
            return here
        if found.get("folder"):
            return f"{found['folder']}/{bundle.config}"
    return f"{_send(api, bundle, chosen)}/{bundle.config}"


def _send(api: Api, bundle: Bundle, chosen: dict[str, str]) -> str:
    with tempfile.TemporaryFile() as archive:
        bundle.write_to(archive)
        size = archive.tell()
        archive.seek(0)
        with busy(f"Sending {len(bundle.files)} files, {size / 1e6:.1f} MB …"):
            headers = {"Content-Type": "application/zip", "Content-Length": str(size)}
            answer = api.ask("POST", _UPLOADS, params=chosen, content=archive, headers=headers,
                             timeout=_TIMEOUT_SECONDS)  # fmt: skip
    return str(answer.json()["folder"])
