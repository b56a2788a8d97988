"""TensorBoard on what trials have logged: the user's own program, on this machine, on folders that it can see.

What was started is noted in a file beside the login. A process is known by its id and the moment of its start, so that
another one that got the same id later is left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trialflow.cli.client import ApiError
from trialflow.cli.output import show
from trialflow.cli.shared import ExperimentId, TrialOption, asking
from trialflow.cli.target import config_file

if TYPE_CHECKING:
    from trialflow.cli.client import Api

tensorboard_app = typer.Typer(help="Look at what trials have logged for TensorBoard.", no_args_is_help=True)

_FOLDER = "tensorboard"
_PORT = 6006
_START_SECONDS = 60.0
_END_SECONDS = 5.0
_INSTALL = "tensorboard is not installed on this machine; install it: pip install tensorboard"


@tensorboard_app.command("start")
def start(
    context: typer.Context,
    experiment: ExperimentId = None,
    trial: TrialOption = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where it listens, on 127.0.0.1.")] = _PORT,
) -> None:
    """Start TensorBoard on an experiment's trials, or on one of them.

    Trials log into the folder tensorboard below NNI_OUTPUT_DIR, as with NNI.
    """
    with asking(context) as (api, form):
        program = shutil.which("tensorboard")
        if program is None:
            raise ApiError(_INSTALL)
        found = api.find(experiment)
        folders = _find_folders(api, found["id"], trial)
        if _answers(port):
            raise ApiError(f"port {port} is taken; choose another one: --port {port + 1}")
        entry = _run(program, folders, port, found["id"])
        show([{"id": found["id"], "trials": len(folders), "url": entry["url"]}], form, entry)


@tensorboard_app.command("stop")
def stop(context: typer.Context, experiment: ExperimentId = None) -> None:
    """End the TensorBoards that were started here: those of an experiment, or all."""
    with asking(context) as (api, form):
        wanted = api.find(experiment)["id"] if experiment else None
        entries = _read()
        ours = [entry for entry in entries if wanted in (None, entry["id"])]
        for entry in ours:
            _end(entry)
        _write([entry for entry in entries if entry not in ours])
        show([{"id": entry["id"], "stopped": entry["url"]} for entry in ours], form)


def _find_folders(api: Api, experiment_id: str, trial: str | None) -> dict[str, str]:
    """The log folders that are here, by the trials' ids.

    Raises:
        ApiError: There is none.
    """
    base = f"/experiments/{experiment_id}/trial-jobs"
    jobs = [api.get(f"{base}/{trial}")] if trial else api.get_all(base)
    logged = {job["id"]: Path(job["logPath"]) / _FOLDER for job in jobs if "logPath" in job}
    folders = {trial_id: str(folder) for trial_id, folder in logged.items() if folder.is_dir()}
    if not folders:
        looked = next(iter(logged.values()), "the trials' folders")
        raise ApiError(
            f"no trial of {experiment_id} has a folder {_FOLDER} that this machine sees (looked for {looked}); trials "
            f"write it below the environment variable NNI_OUTPUT_DIR, and storage of another machine has to be mounted"
        )
    return folders


def _run(program: str, folders: dict[str, str], port: int, experiment_id: str) -> dict[str, Any]:
    """Start it in a session of its own, and wait until it answers."""
    spec = ",".join(f"{trial_id}:{folder}" for trial_id, folder in folders.items())
    log = config_file().with_name(f"tensorboard-{port}.log")
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "--logdir_spec", spec, "--port", str(port), "--host", "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    entry = {"id": experiment_id, "pid": process.pid, "started": _started_at(process.pid), "url": url}
    _write([*_read(), entry])
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(port):
            process.returncode = 0  # It lives on without us; nobody here waits for it.
            return entry
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    last = log.read_text(errors="replace").strip().splitlines()[-5:]
    raise ApiError("\n".join(["tensorboard did not start:", *last, f"See {log}"]))


def _end(entry: dict[str, Any]) -> None:
    """End the process that was started, and its children; one that has gone is fine."""
    deadline = time.monotonic() + _END_SECONDS
    number = signal.SIGTERM
    while (started := _started_at(entry["pid"])) is not None and started == entry["started"]:
        with suppress(ProcessLookupError):
            os.killpg(entry["pid"], number)
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        time.sleep(0.1)


def _started_at(pid: int) -> str | None:
    """When a living process was started, in the kernel's own terms; ``None`` when there is none."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state == "Z" else fields[18]
    return None


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _notes() -> Path:
    return config_file().with_name("tensorboards.json")


def _read() -> list[dict[str, Any]]:
    """What was started here and may still be running."""
    try:
        kept = json.loads(_notes().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in kept if _started_at(entry["pid"]) == entry["started"]]


def _write(entries: list[dict[str, Any]]) -> None:
    partial = _notes().with_suffix(f".{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial.write_text(json.dumps(entries), encoding="utf-8")
    partial.replace(_notes())
