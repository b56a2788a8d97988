"""Processes of this machine that are known by a mark in their environment, for an id may be another one's by now."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_KILL_TIMEOUT_SECONDS = 5.0
_LOOK_SECONDS = 0.02


class MarkedProcesses:
    """The living processes with ``NAME=value`` in the environment of their start, and the rest of their sessions.

    A session that was found once counts until it is empty: what has no mark may outlive what has one.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._sessions: set[int] = set()

    def find(self) -> list[int]:
        """Their ids."""
        sessions: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # It has ended, or belongs to somebody else.
                    sessions[int(entry.name)] = os.getsid(int(entry.name))
        marked = {pid for pid in sessions if self._mark in _environment_of(pid)}
        ours = (self._sessions | {sessions[pid] for pid in marked}) - {os.getsid(0)}
        found = [pid for pid, session in sessions.items() if pid in marked or (session in ours and not _is_zombie(pid))]
        # The number of an empty session may become another one's.
        self._sessions = ours & {sessions[pid] for pid in found}
        return found

    def send(self, number: int) -> None:
        """Send them a signal."""
        _send(self.find(), number)

    def wait(self, deadline: float) -> None:
        """Wait until there are none, but not longer than to a time since the epoch."""
        while self.find() and time.time() < deadline:
            time.sleep(_LOOK_SECONDS)

    def kill(self) -> list[int]:
        """Kill them, and wait until there are none; gives those that would not end in time."""
        deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
        while alive := self.find():
            if time.monotonic() > deadline:
                return alive
            _send(alive, signal.SIGKILL)
            time.sleep(0.01)
        return []


def find_processes(mark: str) -> list[int]:
    """What `MarkedProcesses` finds at the first look."""
    return MarkedProcesses(mark).find()


def end_processes(mark: str) -> list[int]:
    """Kill what is marked; see `MarkedProcesses.kill`."""
    return MarkedProcesses(mark).kill()


def _send(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes; one that has ended meanwhile is passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _environment_of(pid: int) -> list[bytes]:
    """The environment with which a process was started; empty for one that has ended, a zombie included."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
