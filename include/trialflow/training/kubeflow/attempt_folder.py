"""The folder of one attempt on the shared storage: what its replicas read, and what they hand back.

    cancelled           empty; any content means that the job must not run (any more)
    parameter.cfg       what the trial gets
    run-<role>.sh       what a replica runs
    output/<role>-<index>/
        parameter.cfg, .nni/metrics, stdout, stderr, exit, started/, and what the trial writes to NNI_OUTPUT_DIR

Pods run as anybody, and a server may take every user for nobody: folders that pods write to are open to all. The files
that are read here are made here, empty: a share's client keeps in mind for up to a minute that a file was not there,
but asks the server again whenever a file that it knows is opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.metrics import METRICS_FILE
from trialflow.training.ending import last_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trialflow.records import JsonObject
    from trialflow.training.kubeflow.section import Role

OPEN_FOLDER = 0o777
READABLE_FOLDER = 0o755
_OPEN_FILE = 0o666
# NNI's SDK prints these, a Python bytes literal each, where it was told of a platform other than `local`.
_PRINTED_METRIC = re.compile(rb"NNISDK_MEb'((?:[^'\\\n]|\\.)*)'")


@dataclass(frozen=True)
class Exit:
    """How a replica's command ended.

    Attributes:
        replica: ``worker-0``.
        at: In seconds since the epoch.
    """

    replica: str
    code: int
    at: float


@dataclass(frozen=True)
class AttemptFolder:
    """One attempt's folder; it need not exist yet."""

    path: Path

    def prepare(self, parameters: JsonObject, scripts: Mapping[str, str], roles: Iterable[Role]) -> None:
        """Make everything that the pods need; may be repeated while they run."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.parent.chmod(READABLE_FOLDER)
        for folder in (self.path, self.path / "output"):
            _make_open(folder)
        self._write("parameter.cfg", json.dumps(parameters))
        for name, script in scripts.items():
            self._write(name, script)
        for role in roles:
            for index in range(role.replicas):
                self._prepare_replica(self.replica(f"{role.name}-{index}"))

    def replica(self, name: str) -> Path:
        """The folder of a replica, ``worker-0``."""
        return self.path / "output" / name

    def metrics_file(self, replica: str) -> Path:
        """The file to which a replica appends its metrics."""
        return self.replica(replica) / METRICS_FILE

    def _prepare_replica(self, folder: Path) -> None:
        for made in (folder, (folder / METRICS_FILE).parent):
            _make_open(made)
        for name in (METRICS_FILE, "stdout", "stderr", "exit"):
            with (folder / name).open("ab"), contextlib.suppress(PermissionError):
                (folder / name).chmod(_OPEN_FILE)

    def _write(self, name: str, text: str) -> None:
        """Write a file that is there whole or not at all, also for who reads it now."""
        partial = self.path / f".{name}.{os.getpid()}"
        partial.write_text(text, encoding="utf-8")
        partial.chmod(0o644)
        partial.replace(self.path / name)

    # ── cancelling ───────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self) -> None:
        """Note for good that the job must not run; a submit that comes later sees it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "cancelled").open("w") as marker:
            marker.write("cancelled\n")

    def is_cancelled(self) -> bool:
        """Whether the job must not run; opening the file for creation asks the server, whatever was cached."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "cancelled").open("a+") as marker:
            marker.seek(0)
            return bool(marker.read(1))

    # ── what came back ───────────────────────────────────────────────────────────────────────────────────────

    def exits(self) -> list[Exit]:
        """How the replicas ended that have, in the order in which they did."""
        found = []
        for file in sorted((self.path / "output").glob("*/exit")):
            with contextlib.suppress(OSError, ValueError):
                found.append(Exit(file.parent.name, int(file.read_text()), file.stat().st_mtime))
        return sorted(found, key=lambda end: end.at)

    def last_output(self, replica: str, max_lines: int) -> str:
        """The end of a replica's error output, or of its output when there is none."""
        return last_output(self.replica(replica), max_lines)

    def adopt_printed_metrics(self, chief: str, printed: bytes) -> bool:
        """Write metrics that the chief printed into its metrics file, unless it has written any there.

        Args:
            chief: The replica that stands for the trial.
            printed: Its output.

        Returns:
            Whether there was something to adopt.
        """
        file = self.metrics_file(chief)
        literals = (literal.decode("unicode_escape", "replace") for literal in _PRINTED_METRIC.findall(printed))
        bodies = [literal.encode("latin-1", "replace").strip() for literal in literals]
        if not bodies or (file.exists() and file.stat().st_size):
            return False
        partial = file.with_name("metrics.adopted")
        partial.write_bytes(b"".join(b"ME%06d%s\n" % (len(body) + 1, body) for body in bodies))
        partial.replace(file)
        return True


def _make_open(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(OPEN_FOLDER)
