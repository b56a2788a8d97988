"""How a job's end is told to people, whatever ran it."""

from __future__ import annotations

import contextlib
import re
import signal
from typing import TYPE_CHECKING

from trialflow.trial_files import read_end, read_part

if TYPE_CHECKING:
    from pathlib import Path

_TAIL_BYTES = 16 << 10
# What a shell says of a command, and more than that takes.
_EXIT = re.compile(rb"\s*(\d{1,3})\s*")
_EXIT_BYTES = 16


def describe_exit(code: int) -> str:
    """What a shell's exit code means."""
    if code == 127:
        return "exit code 127: the trial's command was not found"
    if code == 126:
        return "exit code 126: the trial's command cannot be executed"
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"exit code {code}: ended by {signal.Signals(code - 128).name}"
    return f"exit code {code}"


def read_exit(root: Path, path: Path) -> tuple[int, float] | None:
    """The exit code in a file, and when it was written; ``None`` without one that a shell can have written."""
    try:
        said = read_part(root, path, 0, _EXIT_BYTES)
    except FileNotFoundError:
        return None
    code = _EXIT.fullmatch(said.content)
    return (int(code[1]), said.modified_at) if code else None


def last_output(root: Path, folder: Path, max_lines: int) -> str:
    """The end of a folder's file ``stderr``, or of its ``stdout`` when there is none; see `trial_files`."""
    for name in ("stderr", "stdout"):
        lines = read_end(root, folder / name, _TAIL_BYTES).decode(errors="replace").splitlines()[-max_lines:]
        if lines:
            return "\n".join(lines)
    return ""
