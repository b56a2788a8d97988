"""The folder of one attempt on the shared storage: what its replicas read, and what they hand back.

    <attempt>.cancelled     empty; any content means that the job must not run (any more)
    <attempt>/
        parameter.cfg       what the trial gets
        run-<role>.sh       what a replica runs
        output/<role>-<index>/
            parameter.cfg, .nni/metrics, stdout, stderr, exit, started/, and what the trial writes to NNI_OUTPUT_DIR

Pods run as anybody, and a server may take every user for nobody: the replicas' folders are open to all. A pod mounts
the attempt's folder, and as root it may put there what it likes. So all of it is touched by way of `trial_files`, and
what no pod may change lies outside. The files that are read here are made here, empty: a share's client keeps in mind
for up to a minute that a file was not there, but asks the server again whenever a file that it knows is opened.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from trialflow import trial_files
from trialflow.metrics import METRICS_FILE
from trialflow.training.exits import last_output, read_exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trialflow.training.kubeflow.section import Role

OPEN_FOLDER = 0o777
READABLE_FOLDER = 0o755
_OPEN_FILE = 0o666
# Folders of replicas that are looked at, should a pod have made more of them than anybody can look through.
_MOST_REPLICAS = 1000
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
    """One attempt's folder, ``<experiment>/trials/<trial>/<attempt>``; it need not exist yet."""

    path: Path

    @property
    def root(self) -> Path:
        """The experiment's folder."""
        return self.path.parents[2]

    def prepare(self, files: Mapping[str, str], roles: Iterable[Role]) -> None:
        """Make everything that the pods need; may be repeated while they run.

        Args:
            files: Name → what stands in it.
            roles: Whose replicas have a folder each.
        """
        for folder in (self.path.parent, self.path, self.path / "output"):
            trial_files.make_folder(self.root, folder, READABLE_FOLDER)
        for name, text in files.items():
            trial_files.write_whole(self.root, self.path / name, text.encode())
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
            trial_files.make_folder(self.root, made, OPEN_FOLDER)
        for name in (METRICS_FILE, "stdout", "stderr", "exit"):
            trial_files.make_file(self.root, folder / name, _OPEN_FILE)

    # ── cancelling ───────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self) -> None:
        """Note for good that the job must not run; a submit that comes later sees it."""
        with self._open_mark() as mark:
            mark.write(b"cancelled\n")

    def is_cancelled(self) -> bool:
        """Whether the job must not run; opening the file for creation asks the server, whatever was cached."""
        with self._open_mark() as mark:
            return bool(mark.read(1))

    def _open_mark(self) -> BinaryIO:
        trial_files.make_folder(self.root, self.path.parent, READABLE_FOLDER)
        mark = self.path.with_name(f"{self.path.name}.cancelled")
        return os.fdopen(trial_files.open_plain(self.root, mark, os.O_RDWR | os.O_CREAT), "r+b")

    # ── what came back ───────────────────────────────────────────────────────────────────────────────────────

    def exits(self) -> list[Exit]:
        """How the replicas ended that have, in the order in which they did."""
        found = []
        for replica in trial_files.list_names(self.root, self.path / "output", _MOST_REPLICAS):
            with contextlib.suppress(OSError):
                if end := read_exit(self.root, self.replica(replica) / "exit"):
                    found.append(Exit(replica, *end))
        return sorted(found, key=lambda end: end.at)

    def last_output(self, replica: str, max_lines: int) -> str:
        """The end of a replica's error output, or of its output when there is none."""
        return last_output(self.root, self.replica(replica), max_lines)

    def adopt_printed_metrics(self, chief: str, printed: bytes) -> bool:
        """Write metrics that the chief printed into its metrics file, unless it has written any there.

        Args:
            chief: The replica that stands for the trial.
            printed: Its output.

        Returns:
            Whether there was something to adopt.
        """
        literals = (literal.decode("unicode_escape", "replace") for literal in _PRINTED_METRIC.findall(printed))
        bodies = [literal.encode("latin-1", "replace").strip() for literal in literals]
        if not bodies or self.has_metrics(chief):
            return False
        records = b"".join(b"ME%06d%s\n" % (len(body) + 1, body) for body in bodies)
        trial_files.write_whole(self.root, self.metrics_file(chief), records)
        return True

    def has_metrics(self, replica: str) -> bool:
        """Whether a replica has written anything into its metrics file."""
        return trial_files.size_of(self.root, self.metrics_file(replica)) > 0
