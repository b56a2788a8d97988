"""Code that is read from a copy, and takes itself for what was copied.

A class is made anew when its host was killed, and must then be what it was. So its code comes from the copy that was
staged. What it finds beside its ``__file__``, and writes there, is in the user's own folder, as in NNI.
"""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, ModuleType


def add_code(copy: str, original: str) -> None:
    """Let modules be imported from a copy; without the original they know of the copy alone."""
    sys.path.insert(1, copy)
    if not original or not Path(original).is_dir():
        return

    class _Loader(SourceFileLoader):
        def exec_module(self, module: ModuleType) -> None:
            module.__file__ = _original_of(self.path)
            super().exec_module(module)

        # Its two bases disagree on what it takes.
        def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
            return super().source_to_code(data, _original_of(path), _optimize=_optimize)

    def _original_of(path: str) -> str:
        return str(Path(original, Path(path).relative_to(copy)))

    def find_in_copy(folder: str) -> FileFinder:
        if Path(folder) != Path(copy) and Path(copy) not in Path(folder).parents:
            raise ImportError("not below the copy")
        return FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, find_in_copy)
