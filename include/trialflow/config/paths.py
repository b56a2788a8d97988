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
        private: Folders with other people's experiments, or with an installation's secrets: of such a folder an
            experiment may read no more than a root that lies in there itself.
    """

    roots: tuple[Path, ...]
    private: tuple[Path, ...] = ()

    @classmethod
    def of(cls, configured: Sequence[Path], folder: Path | None, private: Sequence[Path] = ()) -> AllowedRoots:
        """The configured roots, or else one folder."""
        roots = configured or ((folder,) if folder else ())
        real = tuple(Path(os.path.realpath(root.expanduser())) for root in roots)
        return cls(real, tuple(Path(os.path.realpath(folder)) for folder in private))

    def root_of(self, path: Path) -> Path | None:
        """The root in which ``path`` lies once ``..`` and links are resolved; ``None`` when it lies in none."""
        real = Path(os.path.realpath(path))
        roots = [root for root in self.roots if real.is_relative_to(root)]
        for folder in self.private:
            if real.is_relative_to(folder):
                roots = [root for root in roots if root.is_relative_to(folder)]
        return roots[0] if roots else None

    def describe(self) -> str:
        """The rule in words."""
        where = ", ".join(str(root) for root in self.roots) or "none"
        written = " and ".join(map(str, self.private))
        outside = f"; what Trialflow and Airflow write is none ({written})" if written else ""
        return f"must lie inside an allowed folder ({where}), '..' and links resolved{outside}"

    @property
    def remedy(self) -> str:
        """How to allow more."""
        return "Move it there, or let the operator add its folder to TRIALFLOW_ALLOWED_ROOTS"
