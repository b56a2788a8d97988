"""From a parsed v1 file to an `ExperimentSpec`: rules across keys, paths, and what is refused by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from trialflow.config import v1
from trialflow.config.paths import expand
from trialflow.config.pydantic_problems import validate
from trialflow.config.source import Source, read_source
from trialflow.errors import ConfigError, Problem
from trialflow.records import AlgorithmSpec, ExperimentSpec, JsonObject
from trialflow.search_space import SearchSpace, parse_search_space, printable, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from trialflow.config.paths import AllowedRoots

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TRIAL_MODELS: dict[str, type[v1.LocalTrial] | type[v1.KubeflowTrial]] = {
    "local": v1.LocalTrial,
    "kubeflow": v1.KubeflowTrial,
}
# Keys that are understood and have no effect here, with the reason.
_WITHOUT_EFFECT: dict[str, str] = {
    "nniManagerIp": "no trial talks to a manager; metrics travel through the storage",
    "logDir": "the experiment's folder lies below TRIALFLOW_HOME",
    "logCollection": "the trials' output is on the storage already",
    "multiThread": "the tuner is asked for one trial at a time",
    "versionCheck": "there is no manager whose version could differ",
}
# Sections and flags that are understood and not carried out yet.
_NOT_BUILT: dict[str, str] = {
    "useAnnotation": "Write the search space into a file and name it in searchSpacePath",
    "multiPhase": "Report one final metric per trial",
    "machineList": "Use trainingServicePlatform local or kubeflow",
    "paiConfig": "Use trainingServicePlatform local or kubeflow",
    "paiYarnConfig": "Use trainingServicePlatform local or kubeflow",
    "frameworkcontrollerConfig": "Use trainingServicePlatform local or kubeflow",
}
# An Airflow asset URI and file names are made from the name.
_NAME = re.compile(r"(?!\.{1,2}$)[^/\\]{1,128}")


@dataclass(frozen=True)
class ParsedExperiment:
    """What could be read of an experiment.

    Attributes:
        spec: ``None`` when there are problems.
        search_space: The parameters that are right.
        tuner: As the file names it, even when something else is wrong.
        assessor: The same; ``None`` when there is none.
        platform: As the file names it, if NNI knows it.
        code: The code folder and the allowed root it lies in, when both are right.
        place: Makes a problem with a field of the file.
        advisor: As the file names it; ``None`` when there is none.
    """

    spec: ExperimentSpec | None
    search_space: SearchSpace
    problems: list[Problem]
    tuner: AlgorithmSpec | None
    assessor: AlgorithmSpec | None
    place: Callable[..., Problem]
    platform: str = ""
    code: tuple[Path, Path] | None = None
    advisor: AlgorithmSpec | None = None


def parse_experiment(source: Source, roots: AllowedRoots) -> ParsedExperiment:
    """Read a v1 experiment; never raises for bad input, but lists everything that is wrong with it."""
    if not isinstance(source.data, dict):
        problem = source.problem((), "an experiment is a mapping of keys to values", show(source.data),
                                 "Write it as in the NNI documentation")  # fmt: skip
        return ParsedExperiment(None, SearchSpace(()), [problem], None, None, source.problem)
    return _Reader(source, roots).read()


class _Reader:
    """Collects problems while it reads; one instance per file."""

    def __init__(self, source: Source, roots: AllowedRoots) -> None:
        self._source = source
        self._roots = roots
        self._data: JsonObject = source.data
        self.problems: list[Problem] = []

    def read(self) -> ParsedExperiment:
        if "trainingService" in self._data and "trainingServicePlatform" not in self._data:
            self._refuse(("trainingService",), "the v2 format is not built yet",
                         "Write the v1 keys (trainingServicePlatform, trial, searchSpacePath, …)")  # fmt: skip
            return ParsedExperiment(None, SearchSpace(()), self.problems, None, None, self._source.problem)
        model, problems = validate(v1.ExperimentV1, self._data, self._source)
        self.problems += problems
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
        if model and training is not None and suggesting and code and not self.problems:
            spec = self._spec(model, training, suggesting, assessor, raw_space, code)
        platform = self._data.get("trainingServicePlatform")
        known = platform if isinstance(platform, str) and platform in get_args(v1.Platform) else ""
        return ParsedExperiment(spec, space, self.problems, tuner, assessor, self._source.problem, known, code, advisor)

    def _spec(
        self,
        model: v1.ExperimentV1,
        training: JsonObject,
        tuner: AlgorithmSpec,
        assessor: AlgorithmSpec | None,
        search_space: JsonObject,
        code: tuple[Path, Path],
    ) -> ExperimentSpec:
        return ExperimentSpec(
            name=model.experimentName,
            author=model.authorName,
            description=model.description,
            trial_concurrency=model.trialConcurrency,
            max_trial_number=model.maxTrialNum,
            max_duration_seconds=_seconds(model.maxExecDuration),
            platform=model.trainingServicePlatform,
            search_space=search_space,
            tuner=tuner,
            assessor=assessor,
            code_directory=str(code[0]),
            code_root=str(code[1]),
            training=training,
            warnings=self._warnings(),
        )

    def _check_name(self) -> None:
        name = self._data.get("experimentName")
        if isinstance(name, str) and name.strip() and not (_NAME.fullmatch(name) and name.isprintable()):
            rule = "must be 1 to 128 printable characters without slash or backslash, and not . or .."
            self._refuse(("experimentName",), rule, "Choose a plain name", name)

    def _refuse_what_is_not_built(self) -> None:
        for key, remedy in _NOT_BUILT.items():
            if self._data.get(key):
                self._refuse((key,), "is understood, but not built yet", remedy, self._data[key])

    def _warnings(self) -> tuple[str, ...]:
        warnings = [f"{key} has no effect: {why}" for key, why in _WITHOUT_EFFECT.items() if self._data.get(key)]
        for section in ("tuner", "assessor"):
            warnings += [
                f"{section}.{key} has no effect: {section}s run in the worker, without a GPU"
                for key in ("gpuNum", "gpuIndices")
                if (self._data.get(section) or {}).get(key) is not None
            ]
        return tuple(warnings)

    def _read_training(self) -> JsonObject | None:
        platform, trial = self._data.get("trainingServicePlatform"), self._data.get("trial")
        model_class = _TRIAL_MODELS.get(platform) if isinstance(platform, str) else None
        if model_class is None or not isinstance(trial, dict):
            return None
        model, problems = validate(model_class, trial, self._source, ("trial",))
        self.problems += problems
        if isinstance(model, v1.KubeflowTrial):
            return self._read_kubeflow(model)
        self._refuse_gpu_scheduling(model)
        return None if model is None else model.model_dump(exclude={"codeDir"})

    def _refuse_gpu_scheduling(self, trial: v1.LocalTrial | None) -> None:
        remedy = "Set gpuNum: 0 and choose the device in the trial's command"
        if trial and trial.gpuNum:
            self._refuse(("trial", "gpuNum"), "GPU scheduling of local trials is not built yet", remedy, trial.gpuNum)
        if self._data.get("localConfig"):
            config = self._data["localConfig"]
            self._refuse(("localConfig",), "GPU scheduling of local trials is not built yet", remedy, config)

    def _read_kubeflow(self, trial: v1.KubeflowTrial) -> JsonObject | None:
        if self._data.get("kubeflowConfig") is None:
            self._refuse(("kubeflowConfig",), "is required on kubeflow", "Name operator, apiVersion and storage")
            return None
        config, problems = validate(
            v1.KubeflowConfig, self._data["kubeflowConfig"], self._source, ("kubeflowConfig",)
        )
        self.problems += problems
        if config is None:
            return None
        needed = {"nfs": ("nfs",), "azureStorage": ("keyVault", "azureStorage")}[config.storage]
        for key in needed:
            if getattr(config, key) is None:
                self._refuse(("kubeflowConfig", key), f"is required with storage {config.storage}", "Add it")
        if not (trial.worker or trial.ps or trial.master):
            self._refuse(("trial",), "needs at least one role: worker, ps or master", "Describe the worker")
        return {**trial.model_dump(exclude={"codeDir"}), "kubeflowConfig": config.model_dump()}

    def _read_algorithm(self, section: str, name_key: str, *, required: bool = False) -> AlgorithmSpec | None:
        raw = self._data.get(section)
        if raw is None:
            if required:
                self._refuse((section,), "is required", f"Name one: {section}: {{{name_key}: TPE}}")
            return None
        if not isinstance(raw, dict):
            return None
        if section != "advisor" and self._data.get("advisor"):
            self._refuse(("advisor",), f"{section} and advisor exclude each other", "Remove one of them")
        if any(raw.get(key) for key in ("codeDir", "classFileName", "className")):
            self._refuse((section,), f"a {section} class of your own is understood, but not built yet",
                         f"Name a built-in one with {name_key}", raw)  # fmt: skip
            return None
        name, arguments = raw.get(name_key), raw.get("classArgs", {})
        if name is None:
            self._refuse((section, name_key), "is required", "Name the algorithm")
        if not isinstance(name, str) or not name.strip():
            return None
        include = raw.get("includeIntermediateResults") is True
        return AlgorithmSpec(name, arguments, include) if isinstance(arguments, dict) else None

    def _read_search_space(self) -> tuple[JsonObject, SearchSpace]:
        name = self._data.get("searchSpacePath")
        if not isinstance(name, str) or not name:
            if name is None and not self._data.get("useAnnotation"):
                self._refuse(("searchSpacePath",), "is required", "Name the JSON file with the search space")
            return {}, SearchSpace(())
        path = self._resolve(("searchSpacePath",), name)
        if path is None or self._outside(("searchSpacePath",), path):
            return {}, SearchSpace(())
        try:
            raw = read_source(path, "searchSpacePath").data
        except ConfigError as error:
            self.problems += [
                found if found.file else self._source.problem((found.field,), found.rule, found.value, found.remedy)
                for found in error.problems
            ]
            return {}, SearchSpace(())
        space, problems = parse_search_space(raw, str(path))
        self.problems += problems
        return raw if isinstance(raw, dict) else {}, space

    def _read_code_directory(self) -> tuple[Path, Path] | None:
        trial = self._data.get("trial")
        name = trial.get("codeDir") if isinstance(trial, dict) else None
        if not isinstance(name, str) or not name:
            return None
        field = ("trial", "codeDir")
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

    def _resolve(self, field: tuple[str, ...], name: str) -> Path | None:
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

    def _outside(self, field: tuple[str, ...], path: Path) -> bool:
        try:
            outside = self._roots.root_of(path) is None
            path.exists()
        except OSError as error:
            self._refuse(field, f"cannot be read: {error.strerror}", "Check the path", str(path))
            return True
        if outside:
            self._refuse(field, self._roots.describe(), self._roots.remedy, str(path))
        return outside

    def _refuse(self, field: tuple[str, ...], rule: str, remedy: str, value: Any = None) -> None:
        shown = printable(value) if isinstance(value, str) else None if value is None else show(value)
        self.problems.append(self._source.problem(field, rule, shown, remedy))


def _seconds(duration: str) -> float:
    return float(int(duration[:-1]) * _UNIT_SECONDS[duration[-1]])
