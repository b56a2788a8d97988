"""What can be told of a class of the user's own without importing it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from trialflow.hosting.nni_usage import missing_imports, modules, names_of
from trialflow.messages import Problem, ProblemMaker
from trialflow.trial_files import TooLargeError, read_user_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trialflow.records import UserClass

_MOST_BYTES = 1 << 20


def check_class(
    user_class: UserClass, section: str, files: Mapping[str, Path], problem_at: ProblemMaker
) -> list[Problem]:
    """What is wrong with the file of a class; its folder was checked before.

    Args:
        user_class: The class.
        section: ``tuner``, ``assessor`` or ``advisor``.
        files: The files of its folder that are staged, by their names in it.
        problem_at: Makes a problem with a field of the experiment file.
    """
    stem = user_class.module.replace(".", "/")
    file = files.get(f"{stem}.py") or files.get(f"{stem}/__init__.py")
    if file is None:
        rule, remedy = "there is no such file in the folder", "Check the name, and the folder's .nniignore"
        return [problem_at((section, "classFileName"), rule, f"{stem}.py", remedy)]
    try:
        tree = ast.parse(read_user_file(file, _MOST_BYTES), str(file))
    except TooLargeError:
        rule = f"must not be larger than {_MOST_BYTES} bytes"
        return [problem_at((section, "classFileName"), rule, str(file), "Name a Python file")]
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        return [problem_at((section, "classFileName"), "cannot be read", f"{file}: {error}", "Name a Python file")]
    except SyntaxError as error:
        return [Problem(section, f"is no Python that can be read: {error.msg}", None, "", str(file), error.lineno)]
    problems = []
    if user_class.class_name not in names_of(tree.body):
        classes = ", ".join(node.name for node in tree.body if isinstance(node, ast.ClassDef)) or "none"
        remedy = f"Classes of {file.name}: {classes}"
        rule = "there is no such class in the file"
        problems.append(problem_at((section, "className"), rule, user_class.class_name, remedy))
    return problems + [
        Problem(section, "the class imports a part of NNI that Trialflow does not have", name,
                _describe_parts(name), str(file), line)
        for name, line in missing_imports(tree).items()
    ]  # fmt: skip


def _describe_parts(missing: str) -> str:
    """What there is instead: in the same module, if there is that."""
    module = missing.rpartition(".")[0]
    names = sorted(name for name in modules().get(module, ()) if not name.startswith("_"))
    if module != "nni" and names:
        return f"In {module} there are: {', '.join(names)}"
    return f"There are: {', '.join(sorted(modules()))}"
