"""Calling an experiment's own classes, from whatever process; the host is started on demand, and rebuilt after a crash.

Callers hold the study's lock: so there is one call at a time, and nobody starts a host beside another one. See
`trialflow.hosting.host` for the files that caller and host share.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.errors import ClassBusyError, TunerError, UserClassError
from trialflow.processes import end_processes, find_processes
from trialflow.sdk import SDK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trialflow.records import AlgorithmSpec, JsonObject

logger = logging.getLogger(__name__)

# A host that is killed during a call is rebuilt; one that ends by itself each time is not.
_ATTEMPTS = 3
_START_SECONDS = 60.0
_CLOSE_SECONDS = 5.0
_LOG_BYTES = 4000
# Of the worker's environment; the rest, credentials of whatever kind, is none of a class's business.
_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")
_CALLS = {
    "made": "when it was made, or when its earlier calls were repeated",
    "space": "in update_search_space",
    "ask": "when it was asked for parameters",
    "assess": "when it was asked to assess a trial",
    "end": "when it was told the end of a trial",
    "import": "when it was given data to import",
    "close": "in _on_exit",
}


class ClassHost:
    """The host of one experiment's own classes.

    Order of calls: `plan` once; any number of `call`, from any number of processes, one at a time; at last `close`.

    Args:
        experiment_id: The experiment.
        folder: The experiment's folder.
        call_seconds: How long one call may take.
        environment: In which ``python3`` is that of the classes; ``None``: they have the worker's.
    """

    def __init__(
        self, experiment_id: str, folder: Path, call_seconds: float, environment: Mapping[str, str] | None = None
    ) -> None:
        self._experiment_id = experiment_id
        self._python_environment = environment
        self._folder = folder / "algorithm"
        self._call_seconds = call_seconds
        # Of the host, since a call was last answered.
        self._deaths = 0

    @property
    def mark(self) -> str:
        """What stands in the environment of the host's processes, and of no others."""
        return f"TRIALFLOW_HOST={self._folder}"

    @property
    def log_file(self) -> Path:
        """What the host and the classes have printed."""
        return self._folder / "log"

    def plan(self, classes: Mapping[str, tuple[AlgorithmSpec, str]], *, threads: bool = False) -> None:
        """Write down what is to be hosted.

        Args:
            classes: ``tuner``, ``assessor`` or ``advisor`` → as the experiment names it, and where its code was staged.
            threads: Whether the tuner is asked in threads, and may wait in one for what it is told meanwhile.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        plan: JsonObject = {
            section: {
                "folder": folder,
                "original": spec.user_class.code_directory,
                "module": spec.user_class.module,
                "class": spec.user_class.class_name,
                "args": spec.class_args,
            }
            for section, (spec, folder) in classes.items()
            if spec.user_class is not None
        }
        self._write("plan.json", plan | {"threads": True} if threads else plan)

    def call(self, call: JsonObject) -> JsonObject:
        """Have a call made, and wait for its answer; a call that was made before is not made again.

        Raises:
            UserClassError: The class raised, took too long, or ended its process.
        """
        while True:
            with contextlib.suppress(ClassBusyError):
                return self.try_call(call)

    def try_call(self, call: JsonObject, *, has_time: bool = False) -> JsonObject:
        """The same, for a caller that does not wait: a call that takes a while goes on, and is to be made again.

        Args:
            call: The call.
            has_time: Whether the class may take as long as it likes, because something goes on that it may wait for.

        Raises:
            ClassBusyError: There is no answer yet.
            UserClassError: As of `call`.
        """
        answer = self._try(call)
        if "busy" not in answer:
            self._deaths = 0
            return answer
        if answer["busy"] > self._call_seconds and not has_time:
            self._kill()
            raise self._too_long(answer["while"])
        raise ClassBusyError(answer["while"])

    def _try(self, call: JsonObject) -> JsonObject:
        while self._deaths < _ATTEMPTS:
            connection = self._connect() or self._start()
            with connection:
                answer = self._ask(connection, call)
            if answer is not None:
                return answer
            self._deaths += 1
            logger.warning("%s: the host of its classes was killed, and is built again", self._experiment_id)
        raise UserClassError(
            f"the process that hosts the experiment's classes ended {_ATTEMPTS} times {_CALLS.get(call['call'], '')}; "
            f"the end of {self.log_file}:\n{self._end_of_log()}"
        )

    def close(self) -> None:
        """Let the classes end, and leave no process of theirs; may be repeated.

        A host on another machine retires, when it sees that it is not in charge any more.
        """
        connection = self._connect() if find_processes(self.mark) else None
        if connection is not None:
            with connection, contextlib.suppress(OSError, ValueError):
                connection.settimeout(_CLOSE_SECONDS)
                connection.sendall(b'{"call": "close"}\n')
                while connection.recv(65536):  # Its end, or that of the process.
                    pass
        deadline = time.monotonic() + _CLOSE_SECONDS
        while find_processes(self.mark) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._kill()
        if (self._folder / "owner.json").exists():
            self._write("owner.json", {"token": "", "machine": ""})

    def _ask(self, connection: socket.socket, call: JsonObject) -> JsonObject | None:
        """The answer; ``None`` when the host was gone before it came."""
        connection.settimeout(self._call_seconds)
        received = b""
        try:
            connection.sendall(json.dumps(call).encode() + b"\n")
            # Empty lines come while earlier calls are repeated.
            while not (received := received.lstrip(b"\n")).endswith(b"\n"):
                chunk = connection.recv(1 << 20)
                if not chunk:
                    return None
                received += chunk
        except TimeoutError as error:
            self._kill()
            raise self._too_long(call["call"]) from error
        except OSError:
            return None
        answer: JsonObject = json.loads(received)
        if "error" in answer:
            raise UserClassError(
                f"the experiment's class failed {_CALLS.get(answer['while'], '')}: {answer['error']}\n"
                f"{answer['traceback']}"
            )
        return answer

    def _too_long(self, call: str) -> UserClassError:
        return UserClassError(
            f"the experiment's class took longer than {self._call_seconds:g} s {_CALLS.get(call, '')}; "
            "the operator may allow more with TRIALFLOW_CLASS_CALL_SECONDS"
        )

    def _connect(self) -> socket.socket | None:
        """A connection to the host that is in charge, if it lives on this machine."""
        try:
            owner = json.loads((self._folder / "owner.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return self._open() if owner.get("machine") == socket.gethostname() else None

    def _open(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            handle = os.open(self._folder, os.O_RDONLY)
            try:
                # A folder's name may be longer than an address can be.
                connection.connect(f"/proc/self/fd/{handle}/socket")
            finally:
                os.close(handle)
        except OSError:
            connection.close()
            return None
        return connection

    def _start(self) -> socket.socket:
        """Start a host in the place of any other one, which retires; tells when it takes calls."""
        self._kill()
        token = secrets.token_hex(8)
        (self._folder / "socket").unlink(missing_ok=True)
        self._write("owner.json", {"token": token, "machine": socket.gethostname()})
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", 'cd "$1" && exec "$2" "$3" "$4"', "sh", str(self._folder), self._python(), _HOST, token],
            self._environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log_file), flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while (connection := self._open()) is None:
            if os.waitpid(pid, os.WNOHANG)[0] or time.monotonic() > deadline:
                raise TunerError(
                    f"the host of the classes of experiment {self._experiment_id} could not be started; "
                    f"the end of {self.log_file}:\n{self._end_of_log()}"
                )
            time.sleep(0.01)
        return connection

    def _python(self) -> str:
        path = None if self._python_environment is None else self._python_environment["PATH"]
        return sys.executable if path is None else shutil.which("python3", path=path) or sys.executable

    def _environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        worker = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
        python = self._python_environment or {"PATH": worker}
        return {
            **inherited,
            **{name: python[name] for name in ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX") if name in python},
            "TRIALFLOW_HOST": str(self._folder),
            "TRIALFLOW_SDK": str(SDK_FOLDER),
            # Also where the real NNI is installed: its commands would go to a manager that is not there.
            "TRIALFLOW_TRIAL_SDK": "own",
            "NNI_EXP_ID": self._experiment_id,
            "NNI_LOG_DIRECTORY": str(self._folder),
            "NNI_CHECKPOINT_DIRECTORY": str(self._folder),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONDONTWRITEBYTECODE": "1",
            # The same order of sets after a crash.
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
        }

    def _kill(self) -> None:
        if left := end_processes(self.mark):
            raise TunerError(f"processes {left}, which host classes of the user's, could not be ended")

    def _write(self, name: str, content: JsonObject) -> None:
        partial = self._folder / f".{name}.{os.getpid()}"
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(self._folder / name)

    def _end_of_log(self) -> str:
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return "(there is none)"


_HOST = str(Path(__file__).with_name("host.py"))
