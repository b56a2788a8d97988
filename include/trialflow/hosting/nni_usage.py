"""Which parts of NNI a file of Python uses that our `nni` does not have; nothing is imported to find out."""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING

from trialflow.sdk import SDK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator


def missing_imports(tree: ast.Module) -> dict[str, int]:
    """The modules and names that a file imports from `nni` and that are not there, each with its line.

    An import that the file itself expects to fail, in a ``try`` with a handler, is left out.
    """
    tries = (node for node in ast.walk(tree) if isinstance(node, ast.Try) and node.handlers)
    guarded = {inner for node in tries for statement in node.body for inner in ast.walk(statement)}
    return _missing(found for node in ast.walk(tree) if node not in guarded for found in _imported(node))


def missing_parts(tree: ast.Module) -> dict[str, int]:
    """The same, and what the file takes from the module by a dot, as in ``nni.choice(…)``."""
    aliases = {
        alias.asname or "nni"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "nni" or (alias.name.startswith("nni.") and not alias.asname)
    }
    used = ((_dotted(node, aliases), node.lineno) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return _missing(used) | missing_imports(tree)


def names_of(body: list[ast.stmt]) -> Iterator[str]:
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
                    yield from names_of(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


@cache
def modules() -> dict[str, frozenset[str]]:
    """The modules of our `nni`, without private ones, and the names in each."""
    found = {}
    for file in (SDK_FOLDER / "nni").rglob("*.py"):
        name = file.relative_to(SDK_FOLDER).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        if "._" not in name:
            found[name] = frozenset(names_of(ast.parse(file.read_bytes()).body))
    return found


def _missing(used: Iterator[tuple[str, int]]) -> dict[str, int]:
    """Of dotted names with their lines, what is not there of those in `nni`; each once."""
    found: dict[str, int] = {}
    for name, line in used:
        missing = _first_missing(name) if name.split(".")[0] == "nni" else ""
        if missing:
            found.setdefault(missing, line)
    return found


def _first_missing(dotted: str) -> str:
    """The first part of a dotted name that is not there; empty when all of it is."""
    module = "nni"
    for part in dotted.split(".")[1:]:
        name = f"{module}.{part}"
        if name not in modules():
            return "" if part in modules()[module] else name
        module = name
    return ""


def _imported(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = (node.module if alias.name == "*" else f"{node.module}.{alias.name}" for alias in node.names)
        yield from ((name, node.lineno) for name in names)


def _dotted(node: ast.expr, aliases: set[str]) -> str:
    """``nni.a.b`` for that expression, under whatever name the module goes; empty for another one."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    is_nni = isinstance(node, ast.Name) and node.id in aliases
    return ".".join(["nni", *reversed(parts)]) if is_nni else ""
