"""What a local trial prints, kept within a limit: the beginning and the end of it.

A trial writes into its files itself. So nobody slows it down, and whose ever death ends it not. Whoever looks after it
gives the middle of a file that has become too large back to the disk. The file keeps its size, and each byte that is
left its place; so this may be repeated by anybody at any time, and may be broken off. A file system that cannot do it
keeps the file whole.
"""

from __future__ import annotations

import ctypes
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from trialflow.trial_files import open_plain

if TYPE_CHECKING:
    from pathlib import Path

OUTPUTS = ("stdout", "stderr")
_BLOCK_BYTES = 4096
_STAT_BLOCK_BYTES = 512
# Of Linux: leave the size as it is, and make a hole.
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


def limit_output(folder: Path, max_bytes: int) -> None:
    """Give back what the outputs in a trial's folder take beyond a limit, once that is a quarter of it; never raises.

    Args:
        folder: Of the trial's attempt.
        max_bytes: Of each output; half of it is kept from the beginning, and half from the end.
    """
    for name in OUTPUTS:
        with suppress(OSError):
            facts = os.lstat(folder / name)
            if stat.S_ISREG(facts.st_mode) and facts.st_blocks * _STAT_BLOCK_BYTES > max_bytes * 5 // 4:
                _keep_ends(folder, folder / name, max_bytes // 2)


def _keep_ends(root: Path, path: Path, kept_bytes: int) -> None:
    descriptor = open_plain(root, path, os.O_WRONLY)
    try:
        facts = os.fstat(descriptor)
        start = -(-kept_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
        end = (facts.st_size - kept_bytes) // _BLOCK_BYTES * _BLOCK_BYTES
        # A file with a second name may be anything.
        if end > start and facts.st_nlink == 1:
            _punch(descriptor, start, end - start)
    finally:
        os.close(descriptor)


def _punch(descriptor: int, start: int, length: int) -> None:
    """Python knows this call of Linux only in the form that takes room."""
    fallocate = getattr(ctypes.CDLL(None), "fallocate64", None)
    if fallocate is not None:
        fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(start), ctypes.c_int64(length))
