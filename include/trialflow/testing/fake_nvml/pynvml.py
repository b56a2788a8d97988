"""A fake of the module ``pynvml`` (the package nvidia-ml-py), for machines without a GPU.

Whoever puts this folder into PYTHONPATH has as many GPUs as FAKE_NVML says: a JSON list with the process ids on each
GPU, ``[[], [4711]]``, or a file that holds one. Without it, there is no driver.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


class NVMLError(Exception):
    """What NVML reports."""


@dataclass(frozen=True)
class Process:
    """A process on a GPU."""

    pid: int


def nvmlInit() -> None:  # noqa: N802  # all these names are NVML's
    """Begin; fails without a driver."""
    _read()


def nvmlShutdown() -> None:  # noqa: N802
    """End."""


def nvmlDeviceGetCount() -> int:  # noqa: N802
    """How many GPUs there are."""
    return len(_read())


def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
    """The handle of a GPU."""
    if not 0 <= index < len(_read()):
        raise NVMLError("Invalid Argument")
    return index


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[Process]:  # noqa: N802
    """The processes on a GPU."""
    return [Process(pid) for pid in _read()[handle]]


def _read() -> list[list[int]]:
    given = os.environ.get("FAKE_NVML", "")
    if not given:
        raise NVMLError("Driver Not Loaded")
    gpus: list[list[int]] = json.loads(given if given.startswith("[") else Path(given).read_text(encoding="utf-8"))
    return gpus
