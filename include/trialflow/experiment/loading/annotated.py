"""Experiments with annotations: the search space is read off the code, and the code is staged rewritten.

The user's files are never changed. What is staged is rewritten from the very files that are staged, and must give the
search space with which the experiment was loaded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.annotations import read_annotations
from trialflow.errors import ConfigError
from trialflow.messages import Problem
from trialflow.records import JsonObject
from trialflow.search_space import parse_search_space
from trialflow.staging.scan import list_code
from trialflow.trial_files import read_user_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trialflow.config import ParsedExperiment
    from trialflow.settings import Settings
    from trialflow.staging import CodeFile

_SUFFIX = ".py"
# Of one file that is looked through for annotations.
_MOST_BYTES = 1 << 22
_REMEDY = "Write '''@nni.variable(nni.uniform(0, 1), name=x)''' above an assignment to x"


def with_search_space_of_code(parsed: ParsedExperiment, settings: Settings) -> ParsedExperiment:
    """The experiment with the search space that stands in its code; an experiment without annotations as it is."""
    if not parsed.use_annotation or parsed.code is None:
        return parsed
    listed, _ = list_code(
        *parsed.code, settings.max_code_bytes, settings.max_code_files, settings.private_folders
    )
    raw, _, problems = _read((name, path) for name, path, _ in listed)
    if not raw and not problems:
        rule = "needs a search space, and no file of the code holds an annotation with a parameter"
        problems = [parsed.problem_at(("useAnnotation",), rule, None, _REMEDY)]
    return replace(
        parsed,
        spec=parsed.spec and replace(parsed.spec, search_space=raw),
        search_space=parse_search_space(raw)[0],
        problems=[*parsed.problems, *problems],
    )


def read_search_space(folder: Path, settings: Settings) -> JsonObject:
    """The search space that stands in the annotations of a folder's code.

    Raises:
        ConfigError: The folder cannot be read, or its annotations are wrong, or there are none.
    """
    listed, problems = list_code(folder, folder.resolve(), settings.max_code_bytes, settings.max_code_files)
    raw: JsonObject = {}
    if not problems:
        raw, _, problems = _read((name, path) for name, path, _ in listed)
    if not raw and not problems:
        problems = [Problem("", "no file of the folder holds an annotation with a parameter", str(folder), _REMEDY)]
    if problems:
        raise ConfigError(problems)
    return raw


def carry_out_annotations(files: Sequence[CodeFile], search_space: JsonObject) -> list[CodeFile]:
    """The files of an experiment with annotations, as they are staged.

    Args:
        files: The code as it lies with the user.
        search_space: With which the experiment was loaded.

    Raises:
        ConfigError: The annotations are wrong, or give another search space by now.
    """
    raw, contents, problems = _read((file.name, file.path) for file in files)
    if not problems and raw != search_space:
        rule = "the annotations have changed since the experiment was loaded"
        problems = [Problem("trial.codeDir", rule, None, "Start the experiment anew")]
    if problems:
        raise ConfigError(problems)
    return [file.with_content(contents[file.name]) if file.name in contents else file for file in files]


def _read(files: Iterable[tuple[str, Path]]) -> tuple[JsonObject, dict[str, bytes], list[Problem]]:
    """The search space of some files, what becomes of those that are annotated, and what is wrong with them."""
    search_space: JsonObject = {}
    contents: dict[str, bytes] = {}
    problems: list[Problem] = []
    for name, path in files:
        if not name.endswith(_SUFFIX):
            continue
        try:
            code = read_user_file(path, _MOST_BYTES)
        except OSError as error:
            rule = f"cannot be read: {error.strerror} (more than {_MOST_BYTES} bytes are too large)"
            problems.append(Problem("", rule, None, "Name it in .nniignore if it holds no annotation", str(path)))
            continue
        found = read_annotations(code, name.removesuffix(_SUFFIX).replace("/", "."), str(path))
        search_space |= found.search_space
        problems += found.problems
        if found.code is not None:
            contents[name] = found.code
    return search_space, contents, problems
