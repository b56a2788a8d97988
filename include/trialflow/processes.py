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


def find_processes(mark: str) -> list[int]:
    """The living processes with ``NAME=value`` in the environment of their start, and the rest of their sessions."""
    marked_by = mark.encode()
    sessions: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # It has ended, or belongs to somebody else.
                sessions[int(entry.name)] = os.getsid(int(entry.name))
    marked = {pid for pid in sessions if marked_by in _environment_of(pid)}
    ours = {sessions[pid] for pid in marked} - {os.getsid(0)}
    return [pid for pid, session in sessions.items() if pid in marked or (session in ours and not _is_zombie(pid))]


def send_signal(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes; one that has ended meanwhile is passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_until_ended(mark: str, deadline: float) -> bool:
    """Wait until `find_processes` finds nothing; tells whether that was so before a time since the epoch."""
    while find_processes(mark):
        if time.time() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def end_processes(mark: str) -> list[int]:
    """Kill what `find_processes` finds, and wait until nothing is left; gives those that would not end in time."""
    deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
    while alive := find_processes(mark):
        send_signal(alive, signal.SIGKILL)
        if time.monotonic() > deadline:
            return alive
        time.sleep(0.01)
    return []


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
