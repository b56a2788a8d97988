"""The process that starts the components, starts them again when they end, and bounds their logs.

It leads a process group, which is ended as a whole: Airflow's own ``standalone`` leaves some processes behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from private_airflow import processes

if TYPE_CHECKING:
    from pathlib import Path

    from private_airflow.installation import Installation

COMMAND = "keep"
_POLL_SECONDS = 0.5
_STOP_TIMEOUT_SECONDS = 10.0
# What lives shorter has failed to start; it is started again after a pause that doubles from one failure to the next.
_SHORTEST_LIFE_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
# A log that has grown so large becomes NAME.log.1, in place of the one before.
MAX_LOG_BYTES = 10_000_000


@dataclass
class Kept:
    """A component, which runs or is to run again at ``due``."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    failures: int = 0

    def start(self) -> None:
        environment = {**os.environ, processes.COMPONENT: self.name}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.started = time.monotonic()

    def note_end(self, code: int) -> str:
        """Decide when to start again; gives the sentence that tells it."""
        now = time.monotonic()
        self.process = None
        self.failures = self.failures + 1 if now - self.started < _SHORTEST_LIFE_SECONDS else 0
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** (self.failures - 1), _LONGEST_PAUSE_SECONDS) if self.failures else 0.0
        self.due = now + pause
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        again = f"it starts again in {pause:.0f} s" if pause else "it starts again"
        why = "" if code < 0 else f": {last_line(self.log)}"
        return f"{self.name} {how} after {now - self.started:.0f} s{why}; {again}; see {self.log}"


@dataclass
class Keeper:
    installation: Installation
    kept: list[Kept] = field(default_factory=list)

    def look(self) -> None:
        """Start what has to be started, and bound the logs."""
        for kept in self.kept:
            if kept.process is not None and (code := kept.process.poll()) is not None:
                _note(kept.note_end(code))
                processes.end_orphans_of_group()
            if kept.process is None and time.monotonic() >= kept.due:
                kept.start()
            bound(kept.log)
        bound(self.installation.log("keeper"))

    def end(self) -> None:
        living = [kept.process for kept in self.kept if kept.process is not None]
        for process in living:
            process.terminate()
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        for process in living:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))


def keep(installation: Installation) -> None:
    """Run the components until this process is told to end; then end them all."""
    keeper = Keeper(installation)
    for name, command in installation.components.items():
        whole = [sys.executable, "-m", "airflow", *command]
        keeper.kept.append(Kept(name, whole, installation.log(name)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            keeper.look()
            time.sleep(_POLL_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        keeper.end()
        os.killpg(os.getpgrp(), signal.SIGKILL)


def bound(log: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
    """Move what a log holds to ``NAME.log.1`` when it is too large.

    It is copied and cut, for the component goes on writing to the file that it has open, at its end. What it writes
    between copy and cut is lost. On a full disk nothing can be copied; cut it then all the more.
    """
    with suppress(FileNotFoundError):
        if log.stat().st_size > max_bytes:
            with suppress(OSError):
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def last_line(log: Path) -> str:
    """The last line of a log that says something: the error, where a program ended with one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it wrote nothing"


def _note(sentence: str) -> None:
    """Write to the keeper's log, which ``make up`` reads to people."""
    with suppress(OSError):
        sys.stdout.write(f"{sentence}\n")
        sys.stdout.flush()
