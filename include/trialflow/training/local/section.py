"""What an experiment says to the local platform, and what a job is known by there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from trialflow.training.base import JobHandle
from trialflow.training.local.gpus import GpuWish


@dataclass(frozen=True)
class LocalSection:
    """The file's ``trial`` and ``localConfig``.

    Attributes:
        gpus: How many GPUs a trial asks for; 0: none is visible, ``None``: every one is.
        gpu_indices: Those that it may have; ``None``: any.
        trials_per_gpu: How many trials may share one.
        uses_active_gpu: Whether it takes a GPU on which processes run that belong to no trial.
        python_path: The interpreter that the file names, or its folder.
        uses_code_copy: Whether trials run in the staged copy, not in the user's own folder.
        environment: What ``nnictl create`` sent of its shell on this machine; ``None`` when it sent nothing.
    """

    command: str
    gpus: Annotated[int | None, Field(alias="gpuNum")] = None
    gpu_indices: Annotated[tuple[int, ...] | None, Field(alias="gpuIndices")] = None
    trials_per_gpu: Annotated[int, Field(alias="maxTrialNumPerGpu")] = 1
    uses_active_gpu: Annotated[bool, Field(alias="useActiveGpu")] = False
    python_path: Annotated[str | None, Field(alias="pythonPath")] = None
    uses_code_copy: Annotated[bool, Field(alias="useCodeCopy")] = False
    environment: dict[str, str] | None = None

    @property
    def gpu_wish(self) -> GpuWish | None:
        """``None`` when it asks for no GPU."""
        if not self.gpus:
            return None
        return GpuWish(self.gpus, self.gpu_indices, self.trials_per_gpu, self.uses_active_gpu)


@dataclass(frozen=True)
class LocalHandle(JobHandle):
    """A job on this machine.

    Attributes:
        host: The name of the machine.
    """

    host: str
