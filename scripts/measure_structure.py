"""Measures the shape of a Python tree: sizes, complexity, documentation, import circles and words per sentence.

Usage: python scripts/measure_structure.py [CHECKOUT …]. Each checkout becomes a column, so that two can be compared.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import re
import statistics
import sys
import tokenize
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

SOURCES = ("include/trialflow", "plugins")
PROSE = ("README.md", "ARCHITECTURE.md", "docs")
_BRANCHES = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.With, ast.IfExp, ast.comprehension, ast.Assert)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    """Print one row per figure, one column per checkout."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    columns = [measure(checkout) for checkout in parser.parse_args().checkouts]
    for name in columns[0]:
        sys.stdout.write(f"{name:<44}" + "".join(f"{column[name]:>18}" for column in columns) + "\n")


def measure(checkout: Path) -> dict[str, str]:
    """Every figure of one checkout, by its name."""
    files = {path: path.read_text() for source in SOURCES for path in sorted((checkout / source).rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in files.items()}
    functions = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    classes = Counter(
        node.name
        for path, tree in trees.items()
        if "sdk" not in path.parts
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    public = [node for node in functions if not node.name.startswith("_")]
    lines = sum(text.count("\n") for text in files.values())
    return {
        "modules": str(len(files)),
        "lines": str(lines),
        "lines of a module: median, p95, max": _spread([text.count("\n") for text in files.values()]),
        "lines of a function: median, p95, max": _spread([_length(node) for node in functions]),
        "complexity of a function: median, p95, max": _spread([_complexity(node) for node in functions]),
        "methods of a class: p95, max": _spread(list(_methods(trees.values()))).partition("/")[2],
        "public functions with a docstring": f"{sum(map(bool, map(ast.get_docstring, public))) / len(public):.0%}",
        "comments per 100 lines": f"{100 * sum(map(_count_comments, files)) / lines:.1f}",
        "uses of type: ignore": str(sum(text.count("type: ignore") for text in files.values())),
        "public class names in more than one module": str(sum(1 for count in classes.values() if count > 1)),
        "import circles (modules in them)": _describe_circles(find_circles(checkout)),
        "import contracts": str(_count_contracts(checkout)),
        "words of a sentence in the docs: mean": f"{_words_per_sentence(checkout):.1f}",
    }


def find_circles(checkout: Path) -> list[set[str]]:
    """The groups of modules that import each other, counting imports in functions and under TYPE_CHECKING."""
    modules = list_modules(checkout)
    imports = {module: set(_imports_of(module, path, modules)) - {module} for module, path in modules.items()}
    reachable = {module: _reach(module, imports) for module in imports}
    circles = {frozenset(other for other in reachable[module] if module in reachable[other]) for module in imports}
    return [set(circle) for circle in circles if circle]


def list_modules(checkout: Path) -> dict[str, Path]:
    """Every module of the packages, with its file; the SDK by the name under which trial code imports it."""
    roots = [checkout / "include", checkout / "plugins"]
    return {
        _own_name(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")): path
        for root in roots
        for path in sorted(root.rglob("*.py"))
    }


def _imports_of(module: str, path: Path, modules: Container[str]) -> Iterator[str]:
    """Which of these a module imports; of a package from which it takes a module, that module alone."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = _own_name(".".join([*parents, *filter(None, [node.module])]))
            found = [f"{source}.{alias.name}" for alias in node.names]
            names = [name if name in modules else source for name in found]
        yield from (name for name in map(_own_name, names) if name in modules)


def _own_name(module: str) -> str:
    return module.removeprefix("trialflow.sdk.")


def _reach(start: str, imports: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(imports[start])
    while waiting:
        if (module := waiting.pop()) not in found:
            found.add(module)
            waiting += imports[module]
    return found


def _describe_circles(circles: list[set[str]]) -> str:
    return f"{len(circles)} ({sum(map(len, circles))})"


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _complexity(function: ast.AST) -> int:
    branches = sum(isinstance(node, _BRANCHES) for node in ast.walk(function))
    return 1 + branches + sum(len(node.values) - 1 for node in ast.walk(function) if isinstance(node, ast.BoolOp))


def _methods(trees: Iterable[ast.Module]) -> Iterator[int]:
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield sum(isinstance(item, _FUNCTIONS) for item in node.body)


def _count_comments(path: Path) -> int:
    with path.open("rb") as file:
        return sum(token.type == tokenize.COMMENT for token in tokenize.tokenize(file.readline))


def _count_contracts(checkout: Path) -> int:
    parser = configparser.ConfigParser()
    parser.read(checkout / ".importlinter")
    return sum(section.startswith("importlinter:contract:") for section in parser.sections())


def _words_per_sentence(checkout: Path) -> float:
    """Of prose only: without code, tables and headings."""
    pages = [page for name in PROSE for page in _pages(checkout / name)]
    counts = [len(words) for page in pages for sentence in _sentences(page) if len(words := sentence.split()) > 2]
    return statistics.mean(counts)


def _pages(path: Path) -> list[str]:
    return [file.read_text() for file in ([path] if path.is_file() else sorted(path.rglob("*.md")))]


def _sentences(page: str) -> Iterator[str]:
    page = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    page = re.sub(r"^(\||#|<).*$", "", page, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", page):
        yield from re.split(r"(?<=[.!?:])\s+", " ".join(paragraph.split()))


def _spread(values: list[int]) -> str:
    ordered = sorted(values)
    return f"{statistics.median_low(ordered)}/{ordered[int(0.95 * (len(ordered) - 1))]}/{ordered[-1]}"


if __name__ == "__main__":
    main()
