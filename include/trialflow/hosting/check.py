"""What can be told of a class of the user's own without importing it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from trialflow.errors import Problem
from trialflow.sdk import SDK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from trialflow.records import OwnClass

_MOST_BYTES = 1 << 20


def check_class(
    own: OwnClass, section: str, files: Mapping[str, Path], place: Callable[..., Problem]
) -> list[Problem]:
    """What is wrong with the file of a class; its folder was checked before.

    Args:
        own: The class.
        section: ``tuner``, ``assessor`` or ``advisor``.
        files: The files of its folder that are staged, by their names in it.
        place: Makes a problem with a field of the experiment file.
    """
    stem = own.module.replace(".", "/")
    file = files.get(f"{stem}.py") or files.get(f"{stem}/__init__.py")
    if file is None:
        rule, remedy = "there is no such file in the folder", "Check the name, and the folder's .nniignore"
        return [place((section, "classFileName"), rule, f"{stem}.py", remedy)]
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"is larger than {_MOST_BYTES} bytes")
        tree = ast.parse(file.read_bytes(), str(file))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        return [place((section, "classFileName"), "cannot be read", f"{file}: {error}", "Name a Python file")]
    except SyntaxError as error:
        return [Problem(section, f"is no Python that can be read: {error.msg}", None, "", str(file), error.lineno)]
    problems = []
    if own.class_name not in _names(tree.body):
        classes = ", ".join(node.name for node in tree.body if isinstance(node, ast.ClassDef)) or "none"
        remedy = f"Classes of {file.name}: {classes}"
        problems.append(place((section, "className"), "there is no such class in the file", own.class_name, remedy))
    return problems + [
        Problem(section, "the class imports a part of NNI that Trialflow does not have", name,
                f"There are: {', '.join(sorted(_modules()))}", str(file), line)
        for name, line in _imports(tree)
        if name.split(".")[0] == "nni" and name not in _modules()
    ]  # fmt: skip


def _names(body: list[ast.stmt]) -> Iterator[str]:
    """The names that a module has after it was imported; those of a starred import are not known."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            for block in ("body", "orelse", "finalbody", "handlers"):
                for inner in getattr(node, block, []):
                    yield from _names(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def _modules() -> set[str]:
    """The modules of our `nni`."""
    files = (SDK_FOLDER / "nni").rglob("*.py")
    names = (file.relative_to(SDK_FOLDER).with_suffix("").as_posix().replace("/", ".") for file in files)
    return {name.removesuffix(".__init__") for name in names if "._" not in name.removesuffix(".__init__")}

