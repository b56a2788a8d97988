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
        is_default: The operator set none, so that the experiment file's own folder is the root.
    """

    roots: tuple[Path, ...]
    is_default: bool = False

    @classmethod
    def of(cls, configured: Sequence[Path], folder: Path | None) -> AllowedRoots:
        """The configured roots, or else the folder of the experiment file."""
        if configured:
            return cls(tuple(Path(os.path.realpath(root.expanduser())) for root in configured))
        return cls((Path(os.path.realpath(folder)),) if folder else (), is_default=True)

    def root_of(self, path: Path) -> Path | None:
        """The root in which ``path`` lies once ``..`` and links are resolved; ``None`` when it lies in none."""
        real = Path(os.path.realpath(path))
        return next((root for root in self.roots if real.is_relative_to(root)), None)

    def describe(self) -> str:
        """The rule in words."""
        where = ", ".join(str(root) for root in self.roots) or "(none)"
        return f"must lie inside an allowed folder ({where}), '..' and links resolved"

    @property
    def remedy(self) -> str:
        """How to allow more."""
        return "Move it there, or let the operator add its folder to TRIALFLOW_ALLOWED_ROOTS"
