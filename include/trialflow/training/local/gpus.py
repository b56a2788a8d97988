"""The GPUs of this machine, and which of them a trial holds.

A lease is a file in TRIALFLOW_HOME, below the machine's name, written under a lock before the trial's process starts.
It holds as long as the job lives, which is asked of the job itself: its attempt's lock, then the marked processes.
Nobody has to give a lease back, so whoever is killed leaves none behind that holds. Rows of the store would outlive
the job, and would have to be tidied up by somebody who may be dead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialflow.errors import BusyError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_QUERY_SECONDS = 10.0
_LOCK_SECONDS = 30.0


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        index: NVML's number of it, in the order of the PCI bus.
        is_used: Whether any process runs on it.
    """

    index: int
    is_used: bool


@dataclass(frozen=True)
class GpuWish:
    """What a trial asks for.

    Attributes:
        number: How many GPUs.
        indices: Those that it may have; ``None``: any.
        most_trials: How many trials may share one.
        use_active: Whether it takes a GPU on which processes run that belong to no trial.
    """

    number: int
    indices: tuple[int, ...] | None = None
    most_trials: int = 1
    use_active: bool = False


@dataclass(frozen=True)
class Lease:
    """What an attempt holds: its folder, the numbers of the GPUs, and how many trials may share one."""

    folder: str
    gpus: tuple[int, ...]
    most_trials: int


# ── which there are ──────────────────────────────────────────────────────────────────────────────────────────────


def list_gpus() -> list[Gpu]:
    """The GPUs of this machine, asked of NVML, or of ``nvidia-smi`` where Python has no NVML; none without either.

    Raises:
        UnavailableError: The driver does not answer.
    """
    try:
        import pynvml
    except ImportError:
        return _ask_nvidia_smi()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []  # There is no driver, or no GPU.
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [Gpu(index, _has_processes(pynvml, handle)) for index, handle in enumerate(handles)]
    except pynvml.NVMLError as error:
        raise UnavailableError(f"the GPUs of {socket.gethostname()} cannot be asked for: {error}") from error
    finally:
        pynvml.nvmlShutdown()


def _has_processes(nvml: Any, handle: Any) -> bool:
    return bool(nvml.nvmlDeviceGetComputeRunningProcesses(handle))


def _ask_nvidia_smi() -> list[Gpu]:
    try:
        listed = [line.split(", ") for line in _query("gpu=index,uuid")]
        used = {line.strip() for line in _query("compute-apps=gpu_uuid")}
        return [Gpu(int(index), uuid.strip() in used) for index, uuid in listed]
    except FileNotFoundError:
        return []
    except subprocess.CalledProcessError:
        return []  # It is there, and finds no driver.
    except (subprocess.TimeoutExpired, OSError, ValueError) as error:
        raise UnavailableError(f"nvidia-smi of {socket.gethostname()} does not answer: {error}") from error


def _query(what: str) -> list[str]:
    command = ["nvidia-smi", f"--query-{what}", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True)
    return [line for line in answer.stdout.splitlines() if line.strip()]


def find_shortage(wish: GpuWish, gpus: Sequence[Gpu]) -> str:
    """Why a machine can never give what is asked for; empty when it can."""
    there = {gpu.index for gpu in gpus}
    missing = set(wish.indices or ()) - there
    owned = f"the GPUs {sorted(there)}" if there else "no GPU that NVML or nvidia-smi finds"
    has = f"{socket.gethostname()} has {owned}"
    if missing:
        return f"names GPUs that are not there: {sorted(missing)}; {has}"
    most = len(there if wish.indices is None else wish.indices)
    return f"asks for {wish.number} GPUs of {most}; {has}" if wish.number > most else ""


# ── which are taken ──────────────────────────────────────────────────────────────────────────────────────────────


class GpuLeases:
    """The leases of this machine.

    Args:
        home: TRIALFLOW_HOME; installations with another one know nothing of these leases.
        is_alive: Whether the job of an attempt's folder lives.
    """

    def __init__(self, home: Path, is_alive: Callable[[Path], bool]) -> None:
        self._folder = home / "gpus" / socket.gethostname()
        self._is_alive = is_alive

    def take(self, attempt: Path, wish: GpuWish) -> tuple[int, ...]:
        """Lease GPUs for an attempt whose lock the caller holds; the same again for the same attempt.

        Raises:
            BusyError: Too few are free.
            UnavailableError: The driver does not answer.
        """
        with self._locked():
            leases = {lease.folder: lease for lease in self._living()}
            mine = leases.pop(str(attempt), None)
            if mine is not None:
                return mine.gpus
            free = _find_free(wish, list_gpus(), list(leases.values()))
            if len(free) < wish.number:
                raise BusyError(_describe_wait(wish, free))
            lease = Lease(str(attempt), tuple(sorted(free[: wish.number])), wish.most_trials)
            self._write(lease)
            return lease.gpus

    def _living(self) -> Iterator[Lease]:
        """The leases whose jobs live; the others are deleted."""
        for file in self._folder.glob("*.json"):
            lease = _read(file)
            if lease is not None and self._is_alive(Path(lease.folder)):
                yield lease
            else:
                file.unlink(missing_ok=True)

    def _write(self, lease: Lease) -> None:
        name = hashlib.sha256(lease.folder.encode()).hexdigest()[:32]
        growing = self._folder / "new"  # One at a time writes here.
        with growing.open("w", encoding="utf-8") as file:
            json.dump(asdict(lease), file)
            file.flush()
            os.fsync(file.fileno())
        growing.replace(self._folder / f"{name}.json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _LOCK_SECONDS
        with (self._folder / "lock").open("a") as lock:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if time.monotonic() > deadline:
                    raise UnavailableError("another trial looks for GPUs for too long; does the driver hang?")
                time.sleep(0.02)
            yield


def _read(file: Path) -> Lease | None:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        return Lease(raw["folder"], tuple(raw["gpus"]), raw["most_trials"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _find_free(wish: GpuWish, gpus: Sequence[Gpu], leases: Sequence[Lease]) -> list[int]:
    """The GPUs that the trial may have, those with the fewest trials first.

    As in NNI, processes on a GPU that trials hold count as theirs. The smallest limit of all who share a GPU holds.
    """
    trials = Counter(index for lease in leases for index in lease.gpus)
    strictest_last = sorted(leases, key=lambda lease: -lease.most_trials)
    limits = {index: lease.most_trials for lease in strictest_last for index in lease.gpus}
    free = [
        gpu.index
        for gpu in gpus
        if (wish.indices is None or gpu.index in wish.indices)
        and trials[gpu.index] < min(wish.most_trials, limits.get(gpu.index, wish.most_trials))
        and (wish.use_active or trials[gpu.index] or not gpu.is_used)
    ]
    return sorted(free, key=lambda index: (trials[index], index))


def _describe_wait(wish: GpuWish, free: Sequence[int]) -> str:
    of = "" if wish.indices is None else f" of {', '.join(map(str, wish.indices))}"
    free_now = f"{len(free) or 'none'} of them {'is' if len(free) < 2 else 'are'} free"
    return f"it waits for {wish.number} free GPU{'s' if wish.number > 1 else ''}{of}, and {free_now}"
