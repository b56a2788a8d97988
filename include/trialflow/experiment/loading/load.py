"""Loading an experiment: everything that can be wrong with it is found here, before anything is made."""

from __future__ import annotations

import ast
import os
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialflow.algorithms import find_without_effect
from trialflow.assessors import check_assessor, get_assessor
from trialflow.config import AllowedRoots, Source, parse_experiment, read_source
from trialflow.config.keys import v2_platform
from trialflow.config.paths import expand
from trialflow.config.source import parse_text, take_object
from trialflow.errors import ConfigError
from trialflow.experiment.loading.annotated import with_search_space_of_code
from trialflow.experiment.loading.trial_script import TrialPython, find_trial_python
from trialflow.hosting import check_class, missing_parts
from trialflow.messages import Problem, show
from trialflow.staging.scan import list_code
from trialflow.training.base import REGISTRY as TRAINING_SERVICES
from trialflow.training.base import get_training_service
from trialflow.training.local.interpreter import read_environment
from trialflow.training.local.section import LocalSection
from trialflow.trial_files import read_user_file
from trialflow.tuners import check_space, check_tuner, get_tuner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trialflow.assessors import Assessor
    from trialflow.config import ParsedExperiment
    from trialflow.records import AlgorithmSpec, ExperimentSpec
    from trialflow.settings import Settings
    from trialflow.tuners import Tuner

# Of the trials' code, what is looked at for parts of NNI that are missing, and how much is said about it.
_MOST_FILES = 1000
_MOST_BYTES = 1 << 20
_MOST_WARNINGS = 10


def load_experiment(
    config: Any, settings: Settings, folder: str = "", *, preflight: bool = True, environment: Any = None
) -> ExperimentSpec:
    """Read and check an experiment without running anything.

    Args:
        config: A file's path, the experiment as an object, or its YAML as a text of several lines.
        settings: Of this installation.
        folder: Where relative paths start in an experiment that is not a file.
        environment: What the command line sent of its own; see `trialflow.training.local.interpreter`.
        preflight: Ask the training service as well; without, the experiment is checked but cannot be run.

    Raises:
        ConfigError: With everything that is wrong.
        TrainingError: The training service could not be asked.
    """
    source = _read(config, settings, folder)
    roots = _roots(source.folder, settings)
    parsed = with_search_space_of_code(parse_experiment(source, roots), settings)
    problems = [*parsed.problems, *_check_tuner(parsed), *_check_parts(parsed, settings)]
    if problems or parsed.spec is None:
        raise ConfigError(problems)
    spec = _with_environment(parsed.spec, read_environment(environment))
    found = (*_find_idle_arguments(parsed), *_find_missing_parts(parsed, settings))
    spec = replace(spec, warnings=(*spec.warnings, *found, *_find_python_trouble(spec, settings)))
    return _preflight(spec, parsed, settings) if preflight else spec


def _with_environment(spec: ExperimentSpec, variables: dict[str, str] | None) -> ExperimentSpec:
    service = get_training_service(spec.platform)
    section = service.read_section(spec.training)
    if not isinstance(section, LocalSection) or variables is None:
        return spec
    return replace(spec, training=service.write_section(replace(section, environment=variables)))


def _find_python_trouble(spec: ExperimentSpec, settings: Settings) -> tuple[str, ...]:
    python = describe_trial_python(spec, settings)
    return () if python is None else python.warnings


def describe_trial_python(spec: ExperimentSpec, settings: Settings) -> TrialPython | None:
    """The Python of an experiment's trials, where they run on this machine."""
    section = get_training_service(spec.platform, settings).read_section(spec.training)
    if not isinstance(section, LocalSection):
        return None
    return find_trial_python(section, Path(spec.code_directory), settings.trial_python_path)


def _preflight(spec: ExperimentSpec, parsed: ParsedExperiment, settings: Settings) -> ExperimentSpec:
    service = get_training_service(spec.platform, settings)
    found = service.preflight(service.read_section(spec.training), parsed.problem_at)
    if found.problems:
        raise ConfigError(found.problems)
    return replace(spec, training=service.write_section(found.section), warnings=(*spec.warnings, *found.warnings))


def _read(config: Any, settings: Settings, folder: str) -> Source:
    base = expand(folder) if folder else None
    if base is not None and ("\0" in folder or not base.is_absolute()):
        raise ConfigError([Problem("folder", "must be an absolute path", show(folder), "Write the whole path")])
    if isinstance(config, dict):
        return take_object(config, base)
    if not isinstance(config, str) or not config.strip():
        rule = "must be the path of an experiment file, its text, or an object"
        raise ConfigError([Problem("config", rule, show(config), 'Write {"config": "/path/to/config.yml"}')])
    if "\n" in config.strip():
        return parse_text(config, folder=base)
    return _read_file(config.strip(), settings)


def _read_file(name: str, settings: Settings) -> Source:
    path = expand(name)
    if "\0" in name or not path.is_absolute():
        rule = "must be the absolute path of an experiment file"
        raise ConfigError([Problem("config", rule, show(name), "Write the whole path, as the worker sees it")])
    roots = _roots(path.parent, settings)
    root = roots.root_of(path)
    if root is None:
        raise ConfigError([Problem("config", roots.describe(), name, roots.remedy)])
    return read_source(path, "config", root=root)


def _roots(folder: Path | None, settings: Settings) -> AllowedRoots:
    """The allowed roots; an experiment that was uploaded may read what was uploaded with it, and nothing else.

    Elsewhere in the folder of everything that is written there is no experiment: it would be somebody else's.
    """
    real = Path(os.path.realpath(folder or "/"))
    if not real.is_relative_to(os.path.realpath(settings.home)):
        return AllowedRoots.of(settings.readable_roots, None, settings.private_folders)
    uploads = Path(os.path.realpath(settings.uploads))
    upload = real.relative_to(uploads).parts[:1] if real.is_relative_to(uploads) else ()
    is_one = upload and not upload[0].startswith(".")  # What begins so is ours.
    return AllowedRoots.of((), uploads.joinpath(*upload) if is_one else None, settings.private_folders)


def _check_tuner(parsed: ParsedExperiment) -> list[Problem]:
    problems: list[Problem] = []
    if parsed.tuner is not None and parsed.tuner.user_class is None:
        problems += check_tuner(parsed.tuner, parsed.problem_at)
    if parsed.advisor is not None and parsed.advisor.user_class is None:
        problems += check_tuner(parsed.advisor, parsed.problem_at, section="advisor")
    suggesting = parsed.tuner or parsed.advisor
    if problems or suggesting is None:
        return problems
    return [
        parsed.problem_at(("searchSpacePath",), f"{found.field}: {found.rule}", found.value, found.remedy)
        for found in check_space(suggesting, parsed.search_space)
    ]


def _check_parts(parsed: ParsedExperiment, settings: Settings) -> list[Problem]:
    """What the parts that will carry the experiment out have to say about it."""
    problems = _check_user_classes(parsed, settings)
    if parsed.assessor is not None and parsed.assessor.user_class is None:
        problems += check_assessor(parsed.assessor, parsed.problem_at)
    if refused := _refuse_platform(parsed, settings):
        problems.append(refused)
    elif parsed.training is not None:
        service = get_training_service(parsed.platform, settings)
        problems += service.check(service.read_section(parsed.training), parsed.problem_at)
    if parsed.code is not None:
        problems += _list_folder(*parsed.code, ("trial", "codeDir"), parsed, settings)[1]
    return problems


def _refuse_platform(parsed: ParsedExperiment, settings: Settings) -> Problem | None:
    """Why no trial runs on the platform; ``None`` when it does, or is no platform of NNI's."""
    if not parsed.platform:
        return None
    if parsed.platform not in TRAINING_SERVICES:
        rule, usable = "is understood, but trials cannot run there yet", tuple(TRAINING_SERVICES)
    elif settings.platforms and parsed.platform not in settings.platforms:
        rule, usable = "is a platform on which this installation runs no experiments", settings.platforms
    else:
        return None
    written = v2_platform(parsed.platform) if parsed.is_v2 else parsed.platform
    return parsed.problem_at(("trainingServicePlatform",), rule, written, f"Use one of: {', '.join(usable)}")


def _check_user_classes(parsed: ParsedExperiment, settings: Settings) -> list[Problem]:
    problems: list[Problem] = []
    for section in ("tuner", "assessor", "advisor"):
        spec: AlgorithmSpec | None = getattr(parsed, section)
        if spec is not None and spec.user_class is not None and not settings.user_classes:
            rule, remedy = "is a class of your own, and this installation runs none", "Use one of the built-in ones"
            problems.append(parsed.problem_at((section, "className"), rule, spec.user_class.class_name, remedy))
        elif spec is not None and spec.user_class is not None:
            folders = (Path(spec.user_class.code_directory), Path(spec.user_class.code_root))
            listed, found = _list_folder(*folders, (section, "codeDir"), parsed, settings)
            # What a link leads to, out of the folder, is not even looked at.
            problems += found or check_class(spec.user_class, section, listed, parsed.problem_at)
    return problems


def _find_idle_arguments(parsed: ParsedExperiment) -> Iterator[str]:
    """The class arguments that have no effect."""
    built: dict[str, Callable[[AlgorithmSpec], Tuner | Assessor]]
    built = {"tuner": get_tuner, "assessor": get_assessor, "advisor": get_tuner}
    for section, get in built.items():
        spec: AlgorithmSpec | None = getattr(parsed, section)
        if spec is not None and spec.user_class is None:
            for path, why in find_without_effect(get(spec).args):
                yield f"{parsed.problem_at((section, 'classArgs', *path), why).field} has no effect: {why}"


def _find_missing_parts(parsed: ParsedExperiment, settings: Settings) -> list[str]:
    """What the trials' code uses of NNI that we do not have; no more than warned of, for the image may have it."""
    listed = _list_folder(*parsed.code, ("trial", "codeDir"), parsed, settings)[0] if parsed.code else {}
    found: dict[str, str] = {}
    for name, path in islice(((name, path) for name, path in listed.items() if name.endswith(".py")), _MOST_FILES):
        with suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # It may be no trial code at all.
            text = read_user_file(path, _MOST_BYTES)
            for part, line in (missing_parts(ast.parse(text)) if b"nni" in text else {}).items():
                found.setdefault(part, f"{name}:{line}")
    found.pop("nni.experiment", None)  # The script that starts the experiment may lie beside the trials' code.
    return [
        f"{where} uses {part}, a part of NNI that Trialflow's module nni does not have; a trial that comes there "
        "fails, unless NNI is installed where it runs"
        for part, where in islice(found.items(), _MOST_WARNINGS)
    ]


def _list_folder(
    folder: Path, root: Path, field: tuple[str, ...], parsed: ParsedExperiment, settings: Settings
) -> tuple[dict[str, Path], list[Problem]]:
    """The files of a code folder by their names in it, and what is wrong with them."""
    listed, problems = list_code(
        folder, root, settings.max_code_bytes, settings.max_code_files, settings.private_folders
    )
    return {name: path for name, path, _ in listed}, [
        problem if problem.file else parsed.problem_at(field, problem.rule, problem.value, problem.remedy)
        for problem in problems
    ]
