"""Which processes of this machine belong to the private Airflow of a folder.

They are known by a variable that stands in the environment of these processes alone: the variables of ``env`` are in
people's shells, too. An id may be another process's by now; psutil compares the time of creation before it signals.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

# The folder of the Airflow to which a process belongs, and the component that the keeper started it for.
MARK = "TRIALFLOW_KEEPER"
COMPONENT = "TRIALFLOW_COMPONENT"
_KILL_TIMEOUT_SECONDS = 20.0


def of_airflow(home: Path) -> list[psutil.Process]:
    """The keeper, the components and their tasks; neither trials nor hosts of user classes, which outlive a crash."""
    return [process for process, has in _environments() if has.get(MARK) == str(home) and not _is_of_experiment(has)]


def of_experiments(home: Path) -> list[psutil.Process]:
    """The trials and the hosts of user classes."""
    folder = f"{home / 'experiments'}/"
    return [
        process
        for process, has in _environments()
        if has.get("NNI_SYS_DIR", "").startswith(folder) or has.get("TRIALFLOW_HOST", "").startswith(folder)
    ]


def _is_of_experiment(environment: Mapping[str, str]) -> bool:
    return "NNI_SYS_DIR" in environment or "TRIALFLOW_HOST" in environment


def _environments() -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """Every living process but this one whose environment may be read."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.is_running():
                yield process, process.environ()


def end(find: Callable[[], list[psutil.Process]]) -> int:
    """Kill what is found until nothing is; gives the number of those that were killed."""
    killed = set()
    deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
    while (found := find()) and time.monotonic() < deadline:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
                killed.add(process)
        time.sleep(0.05)
    return len(killed)


def components(keeper: psutil.Process) -> dict[str, psutil.Process]:
    """The components that a keeper's children are."""
    found = {}
    with suppress(psutil.Error):
        for child in keeper.children():
            with suppress(psutil.Error):  # It ends at this moment.
                if name := child.environ().get(COMPONENT):
                    found[name] = child
    return found


def end_orphans_of_group() -> None:
    """Kill what a killed component has left in our process group: its workers would wait for it for ever."""
    end(_orphans_of_group)


def _orphans_of_group() -> list[psutil.Process]:
    group, parents = os.getpgrp(), {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                parents[process] = process.ppid()
    pids = {process.pid for process in parents}
    return [process for process, parent in parents.items() if process.pid != group and parent not in pids]
