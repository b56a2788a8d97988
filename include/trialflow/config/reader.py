"""From a checked document to an `ExperimentSpec`: rules across keys, paths, and what is refused by name.

Everything here is in v1 terms, in which `trialflow.config.formats` gives a document of either format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from trialflow.config import v1, v2
from trialflow.config.fields import fold, indices_of, seconds_of
from trialflow.config.formats import EXPERIMENT_NAME, Document, add_problems, read_document
from trialflow.config.keys import builtin_name
from trialflow.config.likeness import REQUIRED, discreet_about_experiment, discreet_about_space
from trialflow.config.paths import expand
from trialflow.config.placeholders import find_placeholders
from trialflow.config.source import Source, read_source
from trialflow.errors import ConfigError
from trialflow.messages import Problem, ProblemMaker, blank_remedy, printable, show
from trialflow.records import AlgorithmSpec, ExperimentSpec, JsonObject, UserClass
from trialflow.search_space import SearchSpace, parse_search_space

if TYPE_CHECKING:

    from trialflow.config.paths import AllowedRoots
    from trialflow.config.source import FieldPath

_UNLIMITED_TRIALS = 99999
_UNLIMITED_DURATION = "999d"
# Of numbers that NNI reads as texts.
_MOST_TOLD = 20
# Keys that are understood and have no effect here: the value for which that is no news, and the reason.
_WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "nniManagerIp": ("", "no trial talks to a manager; metrics travel through the storage"),
    "logDir": ("", "the experiment's folder lies below TRIALFLOW_HOME, on kubeflow on the storage"),
    "logCollection": ("none", "the trials' output is on the storage already"),
    "versionCheck": (False, "there is no manager whose version could differ"),
    "trial.nasMode": ("", "there is no architecture search"),
    "kubeflowConfig.reuse": (False, "each trial is a job of its own"),
    "frameworkcontrollerConfig.reuse": (False, "each trial is a job of its own"),
    "remoteConfig.reuse": (False, "each trial is a job of its own"),
}
# What stands in a v2 document and has no counterpart in v1; by its last part.
_WITHOUT_COUNTERPART = {
    "trialCommand": "each role has a command of its own",
    "trialGpuNumber": "each role has a gpuNumber of its own",
    "codeDirectory": "every role runs the code of trialCodeDirectory, as in NNI",
    "reuseMode": "each trial is a job of its own",
}
# Sections and flags that are understood and not carried out yet, with the platform to which a section belongs.
_NOT_BUILT: dict[str, tuple[str, str]] = {
    "multiPhase": ("", "Report one final metric per trial"),
    "sharedStorage": ("", "Remove it: code and results lie below TRIALFLOW_HOME"),
    "machineList": ("remote", "Remove it, or run on that platform"),
    "remoteConfig": ("remote", "Remove it, or run on that platform"),
    "paiConfig": ("pai", "Remove it, or run on that platform"),
    "paiYarnConfig": ("paiYarn", "Remove it, or run on that platform"),
    "frameworkcontrollerConfig": ("frameworkcontroller", "Remove it, or run on that platform"),
    "amlConfig": ("aml", "Remove it, or run on that platform"),
    "dltsConfig": ("dlts", "Remove it, or run on that platform"),
    "hybridConfig": ("hybrid", "Remove it, or run on that platform"),
}


@dataclass(frozen=True)
class ParsedExperiment:
    """What could be read of an experiment.

    Attributes:
        spec: ``None`` when there are problems. With annotations its search space is empty: it stands in the code.
        search_space: The parameters that are right.
        tuner: As the file names it, even when something else is wrong.
        assessor: The same; ``None`` when there is none.
        problem_at: Makes a problem with a field of the file, which is named in v1 terms.
        platform: v1's name of it, if NNI knows it.
        code: The code folder and the allowed root it lies in, when both are right.
        training: The section for the training service, when it has the right keys and types.
        use_annotation: Whether the search space stands in the code.
        advisor: As the file names it; ``None`` when there is none.
        is_v2: Whether the file is in NNI's v2 format.
    """

    spec: ExperimentSpec | None
    search_space: SearchSpace
    problems: list[Problem]
    tuner: AlgorithmSpec | None
    assessor: AlgorithmSpec | None
    problem_at: ProblemMaker
    platform: str = ""
    code: tuple[Path, Path] | None = None
    training: JsonObject | None = None
    use_annotation: bool = False
    advisor: AlgorithmSpec | None = None
    is_v2: bool = False


def parse_experiment(source: Source, roots: AllowedRoots) -> ParsedExperiment:
    """Read an experiment of either format; never raises for bad input, but lists everything that is wrong with it."""
    parsed = _parse(source, roots)
    if not source.file:
        return parsed
    return replace(parsed, problems=discreet_about_experiment(parsed.problems, source.data, source.file))


def _parse(source: Source, roots: AllowedRoots) -> ParsedExperiment:
    if not isinstance(source.data, dict):
        problem = source.problem((), "an experiment is a mapping of keys to values", show(source.data),
                                 blank_remedy(source.data) or "Write it as in the NNI documentation")  # fmt: skip
        return ParsedExperiment(None, SearchSpace(()), [problem], None, None, source.problem)
    return _Reader(read_document(source), roots).read()


class _Reader:
    """Collects problems while it reads; one instance per document."""

    def __init__(self, document: Document, roots: AllowedRoots) -> None:
        self._document = document
        self._source = document.source
        self._roots = roots
        self._data: JsonObject = document.source.data
        platform = self._data.get("trainingServicePlatform")
        # NNI's v2 format has platforms that v1 never had.
        known = get_args(v1.Platform) + (get_args(v2.Platform) if document.translation is not None else ())
        self._platform = platform if isinstance(platform, str) and platform in known else ""
        self.problems: list[Problem] = []
        add_problems(self.problems, find_placeholders(document.written))
        add_problems(self.problems, document.problems)
        self._exponents: list[str] = []

    def read(self) -> ParsedExperiment:
        self._check_name()
        self._refuse_what_is_not_built()
        training = self._read_training()
        tuner = self._read_algorithm("tuner", "builtinTunerName", required="advisor" not in self._data)
        assessor = self._read_algorithm("assessor", "builtinAssessorName")
        advisor = self._read_algorithm("advisor", "builtinAdvisorName")
        raw_space, space = self._read_search_space()
        code = self._read_code_directory()
        spec = None
        suggesting = tuner or advisor
        if training is not None and suggesting and code and not self.problems:
            spec = self._spec(training, suggesting, assessor, raw_space, code)
        return ParsedExperiment(
            spec=spec,
            search_space=space,
            problems=self.problems,
            tuner=tuner,
            assessor=assessor,
            problem_at=self._source.problem,
            platform=self._platform,
            code=code,
            training=training,
            use_annotation=self._data.get("useAnnotation") is True,
            advisor=advisor,
            is_v2=self._document.translation is not None,
        )

    def _spec(
        self,
        training: JsonObject,
        tuner: AlgorithmSpec,
        assessor: AlgorithmSpec | None,
        search_space: JsonObject,
        code: tuple[Path, Path],
    ) -> ExperimentSpec:
        """The specification of a document without problems: its schema has made sure of every type."""
        data = self._data
        return ExperimentSpec(
            name=data["experimentName"],
            author=data["authorName"],
            description=data.get("description", ""),
            trial_concurrency=data["trialConcurrency"],
            max_trial_number=data.get("maxTrialNum", _UNLIMITED_TRIALS),
            max_duration_seconds=float(seconds_of(data.get("maxExecDuration", _UNLIMITED_DURATION)) or 0),
            max_trial_duration_seconds=_seconds_or_none(data.get("maxTrialDuration")),
            max_failed_trial_number=data.get("maxFailedTrialNum"),
            goal=data.get("goal"),
            platform=data["trainingServicePlatform"],
            search_space=search_space,
            use_annotation=data.get("useAnnotation", False),
            multi_thread=data.get("multiThread", False),
            tuner=tuner,
            assessor=assessor,
            code_directory=str(code[0]),
            code_root=str(code[1]),
            training=training,
            warnings=self._warnings(),
        )

    def _check_name(self) -> None:
        name = self._data.get("experimentName")
        if isinstance(name, str) and name.strip() and not (EXPERIMENT_NAME.fullmatch(name) and name.isprintable()):
            rule = "must be 1 to 128 printable characters without slash or backslash, and not . or .."
            self._refuse(("experimentName",), rule, "Choose a plain name", name)

    def _refuse_what_is_not_built(self) -> None:
        for key, (platform, remedy) in _NOT_BUILT.items():
            if self._data.get(key) and not (platform and platform == self._platform):
                self._refuse((key,), "is understood, but not built yet", remedy, self._data[key])

    def _warnings(self) -> tuple[str, ...]:
        warnings = [
            f"{self._source.name(*key.split('.'))} has no effect: {why}"
            for key, (usual, why) in _WITHOUT_EFFECT.items()
            if (value := self._value_at(key)) is not None and value != usual
        ]
        for section in ("tuner", "assessor", "advisor"):
            warnings += [
                f"{self._source.name(section, key)} has no effect: {section}s run in the worker, without a GPU"
                for key in ("gpuNum", "gpuIndices")
                if self._value_at(f"{section}.{key}") is not None
            ]
        if self._data.get("multiThread") and not self._suggests_itself:
            name = self._source.name("multiThread")
            warnings.append(f"{name} has no effect: only a tuner of your own is asked in threads")
        if self._platform == "local" and self._data.get("localConfig") and not self._value_at("trial.gpuNum"):
            warnings += [
                f"{self._source.name('localConfig', key)} has no effect: the trials ask for no GPU"
                for key in self._data["localConfig"]
            ]
        if self._data.get("searchSpace") and self._data.get("searchSpacePath"):
            name = self._source.name("searchSpacePath")
            warnings.append(f"searchSpace has no effect: {name} counts, as in NNI")
        exponents = [
            *_describe_exponents(self._document.written, ("searchSpace", "classArgs")), *self._exponents
        ]
        return (*warnings, *self._warnings_of_v2(), *exponents)

    def _warnings_of_v2(self) -> list[str]:
        translation = self._document.translation
        return [
            f"{'.'.join(path)} has no effect: {_WITHOUT_COUNTERPART[path[-1]]}"
            for path in (translation.left_behind if translation else ())
            if path[-1] in _WITHOUT_COUNTERPART
        ]

    def _value_at(self, dotted: str) -> Any:
        value: Any = self._data
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _read_training(self) -> JsonObject | None:
        trial = self._document.sections.get("trial")
        if isinstance(trial, v1.KubeflowTrial):
            return self._read_kubeflow(trial)
        if isinstance(trial, v1.FrameworkControllerTrial):
            return self._read_frameworkcontroller(trial)
        if not isinstance(trial, v1.LocalTrial):
            return None
        training = trial.model_dump(exclude={"codeDir", "nasMode"}, exclude_none=True)
        if self._platform == "remote":
            return training | {key: self._data.get(key) for key in ("machineList", "remoteConfig")}
        return training | self._read_gpu_scheduling() | self._read_python_path(trial)

    def _read_gpu_scheduling(self) -> JsonObject:
        config = self._document.sections.get("localConfig")
        scheduling = config.model_dump(exclude_none=True) if isinstance(config, v1.LocalConfig) else {}
        if "gpuIndices" in scheduling:
            scheduling["gpuIndices"] = indices_of(scheduling["gpuIndices"])
        return scheduling

    def _read_python_path(self, trial: v1.LocalTrial) -> JsonObject:
        """The interpreter that the file names, or its folder, as an absolute path."""
        path = self._resolve(("trial", "pythonPath"), trial.pythonPath) if trial.pythonPath else None
        return {} if path is None else {"pythonPath": os.path.normpath(path)}

    def _read_kubeflow(self, trial: v1.KubeflowTrial) -> JsonObject | None:
        config = self._document.sections.get("kubeflowConfig")
        if not isinstance(config, v1.KubeflowConfig):
            if self._data.get("kubeflowConfig") is None:
                self._refuse(("kubeflowConfig",), "is required on kubeflow", "Name operator, apiVersion and storage")
            return None
        if not (trial.worker or trial.ps or trial.master):
            self._refuse(("trial",), "needs at least one role: worker, ps or master", "Describe the worker")
        if self._data.get("localConfig"):
            rule = "belongs to the local platform and has no meaning on kubeflow"
            self._refuse(("localConfig",), rule, "Remove it; gpuNum of a role asks for GPUs", self._data["localConfig"])
        return {**self._read_roles(trial), "kubeflowConfig": config.model_dump(exclude={"reuse"})}

    def _read_roles(self, trial: v1.KubeflowTrial) -> JsonObject:
        """The roles, with the files that they name as absolute paths."""
        roles: JsonObject = trial.model_dump(exclude={"codeDir", "nasMode"})
        for name, role in roles.items():
            secret = role and role["privateRegistryAuthPath"]
            if not secret:
                continue
            field = ("trial", name, "privateRegistryAuthPath")
            path = self._resolve(field, secret)
            if path is not None and not self._outside(field, path):
                role["privateRegistryAuthPath"] = str(path)
                self._check_readable(field, path)
        return roles

    def _check_readable(self, field: FieldPath, path: Path) -> None:
        remedy = "Name the config.json that 'docker login' has written; relative paths start at the experiment file"
        if not path.exists():
            self._refuse(field, "no such file", remedy, str(path))
        elif not path.is_file() or not os.access(path, os.R_OK):
            self._refuse(field, "must be a file that can be read", remedy, str(path))

    def _read_frameworkcontroller(self, trial: v1.FrameworkControllerTrial) -> JsonObject | None:
        section = "frameworkcontrollerConfig"
        config = self._document.sections.get(section)
        if not isinstance(config, v1.FrameworkControllerConfig):
            if self._data.get(section) is None:
                self._refuse((section,), "is required on frameworkcontroller", "Name the storage")
            return None
        self._check_storage(config)
        if not trial.taskRoles and not config.configPath:
            self._refuse(("trial", "taskRoles"), "needs at least one role, or a template of the whole object in "
                         f"{section}.configPath", "Describe the worker")  # fmt: skip
        return {"taskRoles": trial.model_dump()["taskRoles"], section: config.model_dump(exclude={"reuse"})}

    def _check_storage(self, config: v1.FrameworkControllerConfig) -> None:
        needed = {"nfs": ("nfs",), "azureStorage": ("keyVault", "azureStorage"), "pvc": ("pvc",)}[config.storage]
        for key in needed:
            if getattr(config, key) is None:
                self._refuse(("frameworkcontrollerConfig", key), f"is required with storage {config.storage}", "Add it")

    def _read_algorithm(self, section: str, name_key: str, *, required: bool = False) -> AlgorithmSpec | None:
        raw, name_field = self._data.get(section), self._source.name(section, name_key)
        if raw is None:
            if required:
                self._refuse((section,), REQUIRED, f"Name one: {section}: {{{name_field.split('.')[-1]}: TPE}}")
            return None
        if not isinstance(raw, dict):
            return None
        if section != "advisor" and self._data.get("advisor"):
            self._refuse((section,), f"{section} and advisor exclude each other", "Remove one of them")
        if _is_own_class(raw):
            return self._read_own_class(section, name_key, raw)
        name, arguments = raw.get(name_key), raw.get("classArgs", {})
        if name is None:
            self._refuse((section, name_key), REQUIRED, "Name the algorithm")
        if not isinstance(name, str) or not name.strip():
            return None
        include = raw.get("includeIntermediateResults") is True
        return AlgorithmSpec(builtin_name(name), arguments, include) if isinstance(arguments, dict) else None

    def _read_own_class(self, section: str, name_key: str, raw: JsonObject) -> AlgorithmSpec | None:
        """A class of the user's own, in a file of a folder; v2 writes the two as ``module.Class``."""
        if raw.get(name_key):
            rule = "a built-in algorithm and a class of your own exclude each other"
            self._refuse((section, name_key), rule, "Remove one of them", raw[name_key])
        missing = [key for key in ("codeDir", "classFileName", "className") if not isinstance(raw.get(key), str)]
        for key in missing:
            if key == "classFileName" and self._document.translation is not None:
                self._refuse((section, "className"), "must name a module and a class in it",
                             "Write module.Class", raw.get("className"))  # fmt: skip
            else:
                self._refuse((section, key), "is required for a class of your own", f"Add it to the {section}")
        if missing:
            return None
        module, class_name = raw["classFileName"].removesuffix(".py").replace("/", "."), raw["className"]
        if not all(part.isidentifier() for part in module.split(".")):
            rule = "must be the name of a Python file in the folder"
            self._refuse((section, "classFileName"), rule, "Name it as in my_tuner.py", raw["classFileName"])
            return None
        code = self._read_folder((section, "codeDir"), raw["codeDir"])
        arguments = raw.get("classArgs") or {}
        if code is None or not isinstance(arguments, dict):
            return None
        dates = [item for item in arguments.values() if isinstance(item, date)]
        if dates:
            remedy = f'YAML reads {dates[0]} as a date: write "{dates[0]}"'
            self._refuse((section, "classArgs"), "must hold JSON values", remedy, arguments)
            return None
        own = UserClass(section, str(code[0]), str(code[1]), module, class_name)
        return AlgorithmSpec(class_name, arguments, raw.get("includeIntermediateResults") is True, own)

    def _read_search_space(self) -> tuple[JsonObject, SearchSpace]:
        name, inline = self._data.get("searchSpacePath"), self._data.get("searchSpace")
        if self._data.get("useAnnotation") is True:
            self._refuse_search_space_beside_annotations()
            return {}, SearchSpace(())
        if name is None and inline is not None:
            return self._check_search_space(inline, self._source)
        if not isinstance(name, str) or not name:
            if name is None and not self._data.get("useAnnotation") and not self._suggests_itself:
                self._refuse(("searchSpacePath",), REQUIRED, "Name the JSON file with the search space")
            return {}, SearchSpace(())
        path = self._resolve(("searchSpacePath",), name)
        if path is None or self._outside(("searchSpacePath",), path):
            return {}, SearchSpace(())
        try:
            root = self._roots.root_of(path) or path.parent
            source = read_source(path, self._source.name("searchSpacePath"), is_space=True, root=root)
        except ConfigError as error:
            problem_at = self._source.problem
            self.problems += [
                found if found.file else problem_at(("searchSpacePath",), found.rule, found.value, found.remedy)
                for found in error.problems
            ]
            return {}, SearchSpace(())
        self._exponents = _describe_exponents(source, ())
        return self._check_search_space(source.data, source)

    @property
    def _suggests_itself(self) -> bool:
        """Whether a class of the user's own suggests: it may do without a search space, or have types of its own."""
        return any(_is_own_class(self._data.get(section)) for section in ("tuner", "advisor"))

    def _refuse_search_space_beside_annotations(self) -> None:
        for key in ("searchSpacePath", "searchSpace"):
            if self._data.get(key):
                rule = "and useAnnotation: true exclude each other: the annotations in the code are the search space"
                self._refuse((key,), rule, "Remove one of them", self._data[key])

    def _check_search_space(self, raw: Any, source: Source) -> tuple[JsonObject, SearchSpace]:
        """Check a search space that is a source's whole document, or stands in that of the experiment."""
        prefix = ("searchSpace",) if source is self._source else ()
        space, problems = parse_search_space(
            raw, source.file, user_class=self._suggests_itself, line_of=lambda path: source.line_of(prefix + path)
        )
        if prefix:
            problems = [replace(found, field=f"searchSpace.{found.field}") for found in problems]
        elif not self._suggests_itself:
            problems = discreet_about_space(problems, raw, source.file)
        self.problems += problems
        return raw if isinstance(raw, dict) else {}, space

    def _read_code_directory(self) -> tuple[Path, Path] | None:
        trial = self._data.get("trial")
        name = trial.get("codeDir") if isinstance(trial, dict) else None
        return self._read_folder(("trial", "codeDir"), name) if isinstance(name, str) and name else None

    def _read_folder(self, field: FieldPath, name: str) -> tuple[Path, Path] | None:
        """A folder with code, and the allowed root that it lies in."""
        path = self._resolve(field, name)
        if path is None or self._outside(field, path):
            return None
        root = self._roots.root_of(path)
        if not path.exists():
            self._refuse(field, "no such folder", "Check the path; it is relative to the experiment file", str(path))
            return None
        if not path.is_dir():
            self._refuse(field, "must be a folder", "Name the folder that holds the file", str(path))
            return None
        return (path, root) if root else None

    def _resolve(self, field: FieldPath, name: str) -> Path | None:
        """An absolute path; relative ones start at the experiment file."""
        if "\0" in name:
            self._refuse(field, "must be a path", "Remove the NUL character", name)
            return None
        path = expand(name)
        if not path.is_absolute() and self._source.folder is None:
            self._refuse(field, "must be absolute in an experiment that is not a file",
                         "Write the whole path, or give the folder beside the config", name)  # fmt: skip
            return None
        return path if path.is_absolute() else (self._source.folder or Path()) / path

    def _outside(self, field: FieldPath, path: Path) -> bool:
        try:
            outside = self._roots.root_of(path) is None
            path.exists()
        except OSError as error:
            self._refuse(field, f"cannot be read: {error.strerror}", "Check the path", str(path))
            return True
        if outside:
            self._refuse(field, self._roots.describe(), self._roots.remedy, str(path))
        return outside

    def _refuse(self, field: FieldPath, rule: str, remedy: str, value: Any = None) -> None:
        shown = printable(value) if isinstance(value, str) else None if value is None else show(value)
        add_problems(self.problems, [self._source.problem(field, rule, shown, remedy)])


def _describe_exponents(source: Source, below: FieldPath) -> list[str]:
    """Of numbers that are texts to NNI and not bounds, which it makes numbers of: where they stand, one line a list."""
    texts: dict[FieldPath, list[str]] = {}
    names = {fold(name) for name in below}
    for path, text in source.exponents.items():
        if (not below or names.intersection(map(fold, path))) and not _is_bound(source.data, path):
            field = path[:-1] if path[-1].isdigit() else path
            texts.setdefault(field, []).append(text)
    told = [
        f"{'.'.join(field)} has numbers that NNI reads as texts: {', '.join(found[:_MOST_TOLD])}"
        f"{', …' if found[_MOST_TOLD:] else ''}; put them in quotes if they are texts"
        for field, found in list(texts.items())[:_MOST_TOLD]
    ]
    return [*told, f"{len(texts) - len(told)} more lists have such numbers"] if len(texts) > len(told) else told


def _is_bound(data: Any, path: FieldPath) -> bool:
    """Whether a number is one of those between which a parameter lies."""
    for part in path[:-2]:
        data = data[int(part)] if isinstance(data, list) else data[part]
    return path[-2:-1] == ("_value",) and isinstance(data, dict) and data.get("_type") != "choice"


def _is_own_class(section: Any) -> bool:
    return isinstance(section, dict) and any(section.get(key) for key in ("codeDir", "classFileName", "className"))


def _seconds_or_none(duration: Any) -> float | None:
    seconds = seconds_of(duration)
    return None if seconds is None else float(seconds)
