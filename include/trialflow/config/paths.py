"""Which folders an experiment may read: names in a file are hostile until they were resolved and checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def expand(name: str) -> Path:
    """A path with a leading ``~`` or ``~user`` expanded; left as it is when there is no such home."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


@dataclass(frozen=True)
class AllowedRoots:
    """The folders in which everything that an experiment names must lie, links followed.

    Attributes:
        roots: Absolute folders with every link resolved.
        private: The folder of everything that is written, other people's experiments among it: of that an experiment
            may read no more than a root that lies in there itself.
    """

    roots: tuple[Path, ...]
    private: Path | None = None

    @classmethod
    def of(cls, configured: Sequence[Path], folder: Path | None, private: Path | None = None) -> AllowedRoots:
        """The configured roots, or else the folder of the experiment file."""
        roots = configured or ((folder,) if folder else ())
        real = tuple(Path(os.path.realpath(root.expanduser())) for root in roots)
        return cls(real, None if private is None else Path(os.path.realpath(private)))

    def root_of(self, path: Path) -> Path | None:
        """The root in which ``path`` lies once ``..`` and links are resolved; ``None`` when it lies in none."""
        real = Path(os.path.realpath(path))
        roots = [root for root in self.roots if real.is_relative_to(root)]
        if self.private is not None and real.is_relative_to(self.private):
            roots = [root for root in roots if root.is_relative_to(self.private)]
        return roots[0] if roots else None

    def holds_private(self, folder: Path) -> bool:
        """Whether what an experiment may not read lies somewhere in a folder."""
        private = self.private
        return private is not None and private.is_relative_to(os.path.realpath(folder)) and private.exists()

    def describe(self) -> str:
        """The rule in words."""
        where = ", ".join(str(root) for root in self.roots) or "none"
        outside = "" if self.private is None else f"; TRIALFLOW_HOME ({self.private}) is none"
        return f"must lie inside an allowed folder ({where}), '..' and links resolved{outside}"

    @property
    def remedy(self) -> str:
        """How to allow more."""
        return "Move it there, or let the operator add its folder to TRIALFLOW_ALLOWED_ROOTS"
