"""Trials as processes of this machine, each in a session of its own, outliving the task that started them.

One attempt owns one folder, and the files in it are all that is known of the job:

    started       created exclusively before the job starts: there is at most one start per attempt
    cancelled     written before the job's processes are looked for, which look for it first: one sees the other
    lock          held (flock) by the processes of the job; free means that it is not running
    exit          the command's exit code, renamed into place when the command has ended
    run.sh        what the session's leader executes
    stdout, stderr, parameter.cfg, .nni/metrics

So every question survives a kill -9 of anybody: ``exit`` there → ended; lock held → running; neither → lost.
Process ids are never stored, for another process may have got one by the time it is read; the job's processes are
known by the folder's name in their environment.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import TextIO

from trialflow.errors import TrainingError
from trialflow.metrics import METRICS_FILE
from trialflow.processes import end_processes
from trialflow.records import JsonObject, Outcome, TrialStatus
from trialflow.sdk import SDK_FOLDER
from trialflow.training.base import JobRequest, JobState, TrainingService
from trialflow.training.exits import describe_exit, last_output, read_exit
from trialflow.trial_files import open_plain

# The installation's own configuration, database address and keys are none of a trial's business.
_PRIVATE_PREFIXES = ("AIRFLOW", "_AIRFLOW", "TRIALFLOW")
_LOCK_WAIT_SECONDS = 0.01


class LocalTrainingService(TrainingService):
    """Runs trials on the machine of the worker; ``training`` is ``{"command": shell command, "gpuNum": 0}``."""

    is_cheap = True  # two looks at files, one new process

    def plan(self, request: JobRequest) -> JsonObject:
        return {
            "command": request.training["command"],
            "folder": request.folder,
            "working_folder": request.code_folder,
            "environment": _trial_environment(request),
        }

    def handle(self, request: JobRequest) -> JsonObject:
        return {"folder": request.folder, "host": socket.gethostname()}

    def submit(self, request: JobRequest) -> None:
        folder = Path(request.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with os.fdopen(open_plain(folder, folder / "lock", os.O_WRONLY | os.O_CREAT), "w") as lock:
                # Who finds nothing started waits at most for another call of this method, or for a look at the lock;
                # never for the job, which goes on to hold the lock of the call that started it.
                while not (folder / "started").exists():
                    if _try_lock(lock):
                        _start(request, self.plan(request), lock)
                    else:
                        time.sleep(_LOCK_WAIT_SECONDS)
        except OSError as error:
            raise TrainingError(
                f"trial {request.trial_id} could not be started in {folder}: {error.strerror} (errno {error.errno})"
            ) from error

    def poll(self, handle: JsonObject) -> JobState:
        folder = _folder_here(handle)
        started_at = _modified_at(folder / "started")
        outcome = _read_exit(folder, started_at)
        if outcome is None and not _is_locked(folder):
            # The job may have ended between the two looks.
            outcome = _read_exit(folder, started_at) or Outcome(
                TrialStatus.FAILED, reason="the trial's process vanished without an exit code", lost=True,
                started_at=started_at,
            )  # fmt: skip
        return JobState(outcome, started_at)

    def cancel(self, handle: JsonObject) -> None:
        folder = _folder_here(handle)
        # A submit that comes too late finds the attempt started, and starts nothing.
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "exit").exists():
            (folder / "cancelled").touch()
        (folder / "started").touch()
        _end_session(folder)

    def metrics_file(self, handle: JsonObject) -> Path:
        return Path(handle["folder"]) / METRICS_FILE

    def last_output(self, handle: JsonObject, max_lines: int = 20) -> str:
        return last_output(Path(handle["folder"]), Path(handle["folder"]), max_lines)


def _try_lock(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(request: JobRequest, plan: JsonObject, lock: TextIO) -> None:
    """Start the job's session, unless this attempt was started before; its processes inherit the lock."""
    folder = Path(request.folder)
    parameters = {"parameter_id": request.number, "parameter_source": "algorithm", "parameters": request.parameters}
    (folder / "parameter.cfg").write_text(json.dumps(parameters), encoding="utf-8")
    (folder / "run.sh").write_text(_run_script(plan), encoding="utf-8")
    try:
        (folder / "started").touch(exist_ok=False)
    except FileExistsError:
        return
    os.set_inheritable(lock.fileno(), True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.posix_spawn(
        "/bin/sh",
        ["sh", str(folder / "run.sh")],
        plan["environment"],
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / "stdout"), flags, 0o644),
            (os.POSIX_SPAWN_OPEN, 2, str(folder / "stderr"), flags, 0o644),
        ],
        setsid=True,
    )


def _run_script(plan: JsonObject) -> str:
    """The leader: runs the command in a shell of its own and notes the exit code, by a rename."""
    return f"""#!/bin/sh
out={shlex.quote(plan["folder"])}
[ -e "$out/cancelled" ] && exit 1
cd {shlex.quote(plan["working_folder"])} && sh -c {shlex.quote(plan["command"])}
code=$?
echo $code > "$out/exit.new" && mv "$out/exit.new" "$out/exit"
"""


def _trial_environment(request: JobRequest) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE_PREFIXES)}
    python_path = [str(SDK_FOLDER), *filter(None, [inherited.get("PYTHONPATH")])]
    own = {
        "NNI_PLATFORM": "local",
        "NNI_EXP_ID": request.experiment_id,
        "NNI_TRIAL_JOB_ID": request.trial_id,
        "NNI_TRIAL_SEQ_ID": str(request.number),
        "NNI_SYS_DIR": request.folder,
        "NNI_OUTPUT_DIR": request.folder,
        "NNI_CODE_DIR": request.code_folder,
        "MULTI_PHASE": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(python_path),
        "TRIALFLOW_TRIAL_SDK": os.environ.get("TRIALFLOW_TRIAL_SDK", "auto"),
        # The command `python3` is the worker's own interpreter, with the libraries installed beside it.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]),
    }
    return {**inherited, **own}


def _folder_here(handle: JsonObject) -> Path:
    if handle["host"] != socket.gethostname():
        raise TrainingError(
            f"the trial is a process of {handle['host']}, and this is {socket.gethostname()}: local trials need "
            "worker and triggerer on one machine; use trainingServicePlatform kubeflow for more than one"
        )
    return Path(handle["folder"])


def _is_locked(folder: Path) -> bool:
    """Whether a process of the job is alive."""
    try:
        with os.fdopen(open_plain(folder, folder / "lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _read_exit(folder: Path, started_at: float | None) -> Outcome | None:
    end = read_exit(folder, folder / "exit")
    if end is None:
        return None
    code, ended_at = end
    status = TrialStatus.SUCCEEDED if code == 0 else TrialStatus.FAILED
    reason = "" if code == 0 else describe_exit(code)
    return Outcome(status, code, reason, started_at, ended_at)


def _modified_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _end_session(folder: Path) -> None:
    """Kill every process of the job, and wait until none is left."""
    if alive := end_processes(f"NNI_SYS_DIR={folder}"):
        raise TrainingError(f"processes {alive} of the trial in {folder} could not be ended")
