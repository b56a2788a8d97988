"""Namespaces of one cluster's own: its processes, mounts and pod networks are seen, and end, nowhere else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_HOLDER = Path(__file__).with_name("holder.py")
_START_TIMEOUT_SECONDS = 20.0
_END_TIMEOUT_SECONDS = 20.0
_CGROUPS = Path("/sys/fs/cgroup")


class SandboxError(Exception):
    """The sandbox cannot be made or ended."""


@dataclass(frozen=True)
class Sandbox:
    """A process namespace and a mount namespace, held open by one process.

    Processes run in the machine's network, except those that are given a network namespace made with ``ip netns``.

    Args:
        home: The cluster's folder; every process of the sandbox carries it in its environment.
        pid: Of the process whose death ends the sandbox.
    """

    home: Path
    pid: int

    @classmethod
    def start(cls, home: Path, programs: Path, *, tied: bool) -> Sandbox:
        """Make the namespaces.

        Args:
            home: The cluster's folder.
            programs: The folder that the sandbox finds at ``/run/programs``.
            tied: Whether the sandbox ends with the calling process, however that ends.
        """
        ready = home / "sandbox.ready"
        ready.unlink(missing_ok=True)
        leash = ["setpriv", "--pdeathsig", "KILL"] if tied else []
        unshare = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
        with (home / "logs" / "sandbox.log").open("ab") as log:
            process = subprocess.Popen(
                [*leash, *unshare, sys.executable, "-I", str(_HOLDER), str(home), str(programs)],
                env=_environment(home, "sandbox"),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise SandboxError(f"namespaces and mounts of its own must be allowed; see {log.name}")
            time.sleep(0.01)
        process.returncode = 0  # It lives on without us; `end` sees it go.
        return cls(home, process.pid)

    @property
    def is_alive(self) -> bool:
        """Whether its holder runs, and is ours, not a later process of that number."""
        return f"TRIALFLOW_CLUSTER={self.home}".encode() in _read_environment(self.pid)

    @property
    def root(self) -> Path:
        """The sandbox's file system, seen from outside."""
        return Path(f"/proc/{self.pid}/root")

    def spawn(self, name: str, command: Sequence[str], network: str = "") -> None:
        """Start a process that stays, with a log of its name."""
        background = ["sh", "-c", 'exec "$@" </dev/null >>"$0" 2>&1 &', str(self.home / "logs" / f"{name}.log")]
        self._enter([*background, "setsid", *command], name, network)

    def call(self, command: Sequence[str], network: str = "") -> str:
        """Run a command to its end; gives its output.

        Raises:
            SandboxError: It failed.
        """
        return self._enter(command, "call", network)

    def _enter(self, command: Sequence[str], name: str, network: str) -> str:
        spaces = [f"--mount=/proc/{self.pid}/ns/mnt", f"--pid=/proc/{self.pid}/ns/pid_for_children"]
        if network:
            spaces.append(f"--net={self.root}/run/netns/{network}")
        done = subprocess.run(
            ["nsenter", *spaces, "--", *command],
            env=_environment(self.home, name),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SandboxError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout.strip()}")
        return done.stdout

    def pids(self, name: str, *, with_keepers: bool = False) -> list[int]:
        """The processes that were started under a name; containers' keepers, which outlive containerd, on request."""
        marks = {f"TRIALFLOW_CLUSTER={self.home}".encode(), f"TRIALFLOW_COMPONENT={name}".encode()}
        found = [pid for pid in all_pids() if marks <= _read_environment(pid)]
        return found if with_keepers else [pid for pid in found if not _keeps_container(pid)]

    def kill(self, name: str) -> None:
        """End a process with SIGKILL; returns when it is gone."""
        deadline = time.monotonic() + _END_TIMEOUT_SECONDS
        while pids := self.pids(name):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise SandboxError(f"{name} must end after SIGKILL, but {pids} live")
            time.sleep(0.02)

    def end(self) -> None:
        """End every process of the sandbox; its mounts and networks go with them. No effect when it has ended."""
        deadline = time.monotonic() + _END_TIMEOUT_SECONDS
        while left := self.members():
            # The holder, not its parent: the kernel has ended all the others when the parent sees the holder end.
            for pid in self.pids("sandbox"):
                if pid != self.pid:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise SandboxError(f"the sandbox must end when its holder is killed, but {left} live")
            time.sleep(0.02)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def members(self) -> list[int]:
        """The processes that carry the cluster's mark: containers do not, but end with those that do."""
        mark = f"TRIALFLOW_CLUSTER={self.home}".encode()
        return [pid for pid in all_pids() if mark in _read_environment(pid) and pid != os.getpid()]


def all_pids() -> list[int]:
    """Every process of this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def cgroup_pids(name: str) -> set[int]:
    """The processes in a control group and below it."""
    found = set()
    for folder in cgroup_folders(name):
        for file in folder.rglob("cgroup.procs"):
            with suppress(OSError):
                found |= {int(line) for line in file.read_text().split()}
    return found


def remove_cgroup(name: str) -> None:
    """Remove a control group without processes, in every hierarchy."""
    deadline = time.monotonic() + _END_TIMEOUT_SECONDS
    while folders := cgroup_folders(name):
        for folder in folders:
            for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
                with suppress(OSError):
                    path.rmdir()
            with suppress(OSError):
                folder.rmdir()
        if time.monotonic() > deadline:
            raise SandboxError(f"control group {name} must be empty after the cluster has ended")
        time.sleep(0.02)


def make_cgroup(name: str) -> None:
    """Make a control group in every hierarchy."""
    for root in _cgroup_roots():
        (root / name).mkdir(parents=True, exist_ok=True)
        for folder in (*reversed((root / name).relative_to(root).parents), Path(name)):
            _pass_controllers_on(root / folder)


def _pass_controllers_on(folder: Path) -> None:
    """In version 2 a group's children have the controllers that it passes on; version 1 has no such file."""
    switch = folder / "cgroup.subtree_control"
    if switch.exists():
        for controller in (folder / "cgroup.controllers").read_text().split():
            with suppress(OSError):  # One that a hierarchy of version 1 has taken is named, but cannot be had.
                switch.write_text(f"+{controller}")


def cgroup_folders(name: str) -> list[Path]:
    """The folder of a control group in each hierarchy that has it."""
    return [root / name for root in _cgroup_roots() if (root / name).is_dir()]


def _cgroup_roots() -> list[Path]:
    """The hierarchies: version 1 has several, version 2 one."""
    if (_CGROUPS / "cgroup.procs").exists():
        return [_CGROUPS]
    return [path for path in _CGROUPS.iterdir() if (path / "cgroup.procs").exists()]


def _keeps_container(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.startswith("containerd-shim")
    except OSError:
        return False


def _read_environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def _environment(home: Path, name: str) -> dict[str, str]:
    """Nothing is inherited: a proxy or a token of the caller has no business here."""
    path = os.pathsep.join(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    own = str(Path(shutil.which("runc") or "/usr/sbin/runc").parent)
    return {
        "PATH": f"{path}{os.pathsep}{own}",
        "HOME": "/run",
        "TRIALFLOW_CLUSTER": str(home),
        "TRIALFLOW_COMPONENT": name,
    }
