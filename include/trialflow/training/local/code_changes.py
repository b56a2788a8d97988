"""Whether the code that a trial is about to run is still the code of which a copy was kept."""

from __future__ import annotations

import filecmp
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Programs and what configures them; trials write data beside their code, and no one is warned of that.
_SOURCES = (".py", ".pyx", ".sh", ".r", ".jl", ".yml", ".yaml", ".toml", ".cfg", ".ini")
_MOST_FILES = 2000
_MOST_BYTES = 1 << 20


def describe_changes(code: Path, copy: Path) -> str:
    """One sentence on the files that differ from their copy; empty when none does. It raises nothing.

    A file is read only when its size or its time of change gives a reason to.

    Args:
        code: The user's folder.
        copy: What was staged of it.
    """
    changed = [name for name in _source_names(copy) if _differs(code / name, copy / name)]
    if not changed:
        return ""
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"the code has changed since the experiment began: {changed[0]}{more} differs from the copy in {copy}"


def _source_names(copy: Path) -> Iterator[str]:
    left = _MOST_FILES
    for folder, _, names in os.walk(copy):
        for name in names:
            if name.lower().endswith(_SOURCES):
                yield os.path.relpath(os.path.join(folder, name), copy)  # noqa: PTH118  # thousands of names
                left -= 1
                if not left:
                    return


def _differs(path: Path, copy: Path) -> bool:
    try:
        now = path.stat()
    except OSError:
        return True
    with suppress(OSError):
        then = copy.stat()
        if now.st_size != then.st_size:
            return True
        if now.st_mtime >= then.st_mtime and now.st_size <= _MOST_BYTES:
            return not filecmp.cmp(path, copy, shallow=False)
    return False
