"""Trials as processes of this machine, each in a session of its own, outliving the task that started them.

One attempt owns one folder, and the files in it are all that is known of the job:

    started       created exclusively before the job starts: there is at most one start per attempt
    cancelled     written before the job's processes are looked for, which look for it first: one sees the other
    lock          held (flock) by the processes of the job; free means that it is not running
    exit          the command's exit code, renamed into place when the command has ended
    run.sh        what the session's leader executes
    remark        what people should know of the trial however it ends, if anything
    terminated    not empty once the job was asked to end, by SIGTERM
    stdout, stderr, parameter.cfg, .nni/metrics

So every question survives a kill -9 of anybody: ``exit`` there → ended; lock held → running; neither → lost.
Process ids are never stored, for another process may have got one by the time it is read; the job's processes are
known by the folder's name in their environment.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from trialflow.errors import TrainingError
from trialflow.metrics import METRICS_FILE
from trialflow.processes import MarkedProcesses, find_processes
from trialflow.records import JsonObject, Outcome, TrialStatus
from trialflow.sdk import SDK_FOLDER
from trialflow.training.base import JobRequest, JobState, Preflight, TrainingService
from trialflow.training.exits import describe_exit, last_output, read_exit
from trialflow.training.local.code_changes import describe_changes
from trialflow.training.local.gpus import GpuLeases, find_shortage, list_gpus
from trialflow.training.local.interpreter import programs_of, with_python
from trialflow.training.local.output_limit import limit_output
from trialflow.training.local.section import LocalHandle, LocalSection
from trialflow.trial_files import open_plain, read_end

if TYPE_CHECKING:
    from trialflow.messages import ProblemMaker

_LOCK_WAIT_SECONDS = 0.01
# How long a trial has from SIGTERM to SIGKILL, as in NNI.
_GRACE_SECONDS = 5.0
_REMARK, _REMARK_BYTES = "remark", 1 << 10


class LocalTrainingService(TrainingService[LocalSection, LocalHandle]):
    """Runs trials on the machine of the worker."""

    section_type = LocalSection
    handle_type = LocalHandle
    is_cheap = True  # two looks at files, one new process

    def preflight(self, section: LocalSection, problem_at: ProblemMaker) -> Preflight[LocalSection]:
        """Look whether this machine has the GPUs and the Python that are named."""
        problems = []
        wish = section.gpu_wish
        if wish is not None and (shortage := find_shortage(wish, list_gpus())):
            remedy = "Ask for fewer, or start the worker on a machine that has them"
            problems.append(problem_at(("trial", "gpuNum"), shortage, str(wish.number), remedy))
        named = section.python_path
        if named and shutil.which("python3", path=str(programs_of(named))) is None:
            rule, remedy = "has no python3", "Name an environment's folder, or the one with its programs"
            problems.append(problem_at(("trial", "pythonPath"), rule, named, remedy))
        return Preflight(section, tuple(problems))

    def runs_in_place(self, section: LocalSection) -> bool:
        """As in NNI, unless the experiment asks for the copy."""
        return not section.uses_code_copy

    def attempt_folder(self, experiment_folder: Path, trial_id: str, attempt: int) -> Path:
        """Its name is the trial's id, as in NNI; attempts after the first lie apart.

        A job that was started by an earlier version, in a folder named by the attempt, stays where it is.
        """
        trials = experiment_folder / "trials"
        folder = trials / trial_id if attempt == 1 else trials / f"attempt-{attempt}" / trial_id
        former = trials / trial_id / str(attempt)
        is_former = (former / "started").exists() and not (folder / "started").exists()
        return former if is_former else folder

    def plan(self, request: JobRequest[LocalSection]) -> JsonObject:
        return {
            "command": request.section.command,
            "folder": request.folder,
            "working_folder": request.code_folder,
            "shell": shutil.which("bash") or "/bin/sh",
            "environment": _trial_environment(request, self.settings.trial_python_path),
        }

    def handle(self, request: JobRequest[LocalSection]) -> LocalHandle:
        return LocalHandle(request.folder, socket.gethostname())

    def submit(self, request: JobRequest[LocalSection]) -> None:
        folder = Path(request.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with os.fdopen(open_plain(folder, folder / "lock", os.O_WRONLY | os.O_CREAT), "w") as lock:
                # Who finds nothing started waits at most for another call of this method, or for a look at the lock;
                # never for the job, which goes on to hold the lock of the call that started it.
                while not (folder / "started").exists():
                    if _try_lock(lock):
                        _start(request, self._plan_with_gpus(request), lock)
                    else:
                        time.sleep(_LOCK_WAIT_SECONDS)
        except OSError as error:
            raise TrainingError(
                f"trial {request.trial_id} could not be started in {folder}: {error.strerror} (errno {error.errno})"
            ) from error

    def _plan_with_gpus(self, request: JobRequest[LocalSection]) -> JsonObject:
        """The plan with the GPUs that the attempt holds from now on; its lock is held."""
        plan, wish = self.plan(request), request.section.gpu_wish
        if wish is not None and not (Path(request.folder) / "started").exists():
            gpus = GpuLeases(self.settings.home, _has_live_job).take(Path(request.folder), wish)
            plan["environment"]["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
            plan["environment"]["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # NVML's order, which the numbers mean.
        return plan

    def poll(self, handle: LocalHandle) -> JobState:
        folder = _folder_here(handle)
        limit_output(folder, self.settings.max_trial_output_bytes)
        started_at = _modified_at(folder / "started")
        outcome = _read_exit(folder, started_at)
        if outcome is None and not _is_locked(folder):
            # The job may have ended between the two looks.
            outcome = _read_exit(folder, started_at) or Outcome(
                TrialStatus.FAILED, reason="the trial's process vanished without an exit code", lost=True,
                started_at=started_at,
            )  # fmt: skip
        return JobState(outcome, started_at)

    def cancel(self, handle: LocalHandle) -> None:
        folder = _folder_here(handle)
        # A submit that comes too late finds the attempt started, and starts nothing.
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "exit").exists():
            (folder / "cancelled").touch()
        (folder / "started").touch()
        _end_session(folder)

    def metrics_file(self, handle: LocalHandle) -> Path:
        return Path(handle.folder) / METRICS_FILE

    def last_output(self, handle: LocalHandle, max_lines: int = 20) -> str:
        return last_output(Path(handle.folder), Path(handle.folder), max_lines)


def _try_lock(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(request: JobRequest[LocalSection], plan: JsonObject, lock: TextIO) -> None:
    """Start the job's session, unless this attempt was started before; its processes inherit the lock."""
    folder = Path(request.folder)
    (folder / "parameter.cfg").write_text(request.parameter_file, encoding="utf-8")
    if request.code_copy and (changes := describe_changes(Path(request.code_folder), Path(request.code_copy))):
        (folder / _REMARK).write_text(changes, encoding="utf-8")
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
cd {shlex.quote(plan["working_folder"])} && {shlex.quote(plan["shell"])} -c {shlex.quote(plan["command"])}
code=$?
echo $code > "$out/exit.new" && mv "$out/exit.new" "$out/exit"
"""


def _trial_environment(request: JobRequest[LocalSection], python_setting: str) -> dict[str, str]:
    inherited = with_python(os.environ, request.section, python_setting)
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
        "PYTHONPATH": os.pathsep.join(python_path),
        "TRIALFLOW_TRIAL_SDK": os.environ.get("TRIALFLOW_TRIAL_SDK", "auto"),
    }
    if request.section.gpus == 0:  # Left out, every GPU stays visible.
        own["CUDA_VISIBLE_DEVICES"] = ""
    return {**inherited, **own}


def _folder_here(handle: LocalHandle) -> Path:
    if handle.host != socket.gethostname():
        raise TrainingError(
            f"the trial is a process of {handle.host}, and this is {socket.gethostname()}: local trials need "
            "worker and triggerer on one machine; use trainingServicePlatform kubeflow for more than one"
        )
    return Path(handle.folder)


def _ask_to_end(folder: Path, job: MarkedProcesses) -> float:
    """Send SIGTERM once, whoever else cancels, too; tells when that was. 0.0 when the trial is in the way."""
    try:
        with os.fdopen(open_plain(folder, folder / "terminated", os.O_RDWR | os.O_CREAT), "r+") as note:
            fcntl.flock(note, fcntl.LOCK_EX)
            if not note.read(1):
                job.send(signal.SIGTERM)
                note.write("x")
                note.flush()
            return os.fstat(note.fileno()).st_mtime
    except OSError:
        return 0.0


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
    remark = read_end(folder, folder / _REMARK, _REMARK_BYTES).decode(errors="replace")
    reason = "; ".join(filter(None, ["" if code == 0 else describe_exit(code), remark]))
    return Outcome(status, code, reason, started_at, ended_at)


def _modified_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _has_live_job(folder: Path) -> bool:
    """Whether a job is about to be started in an attempt's folder, or anything of it is alive."""
    return _is_locked(folder) or bool(find_processes(_mark(folder)))


def _mark(folder: Path) -> str:
    return f"NNI_SYS_DIR={folder}"


def _end_session(folder: Path) -> None:
    """Ask every process of the job to end, kill what is left after a while, and wait until nothing is left."""
    job = MarkedProcesses(_mark(folder))
    if job.find():
        asked_at = min(_ask_to_end(folder, job), time.time())
        job.wait(asked_at + _GRACE_SECONDS)
    if alive := job.kill():
        raise TrainingError(f"processes {alive} of the trial in {folder} could not be ended")
