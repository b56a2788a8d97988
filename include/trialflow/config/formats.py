"""Which of NNI's two formats a document is written in, and the document in v1 terms whichever it is.

Everything behind this module knows v1's keys only. A problem that it reports is placed on the key that the user wrote.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from trialflow.config import keys, v1, v2
from trialflow.config.fields import OPAQUE, fold
from trialflow.config.pydantic_problems import validate
from trialflow.config.translate import Translation, has_value, put, to_v1, value_at
from trialflow.records import JsonObject, StrEnum

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trialflow.config.source import FieldPath, Source
    from trialflow.messages import Problem

# An Airflow asset URI and file names are made from the name.
EXPERIMENT_NAME = re.compile(r"(?!\.{1,2}$)[^/\\]{1,128}")
_FALLBACK_NAME = "experiment"
_V1_MODELS: dict[str, dict[str, type[BaseModel]]] = {
    "local": {"trial": v1.LocalTrial, "localConfig": v1.LocalConfig},
    "remote": {"trial": v1.LocalTrial},
    "kubeflow": {"trial": v1.KubeflowTrial, "kubeflowConfig": v1.KubeflowConfig},
    "frameworkcontroller": {
        "trial": v1.FrameworkControllerTrial,
        "frameworkcontrollerConfig": v1.FrameworkControllerConfig,
    },
}
_V1_KEYS, _V2_KEYS = frozenset(v1.ExperimentV1.model_fields), frozenset(v2.ExperimentV2.model_fields)
_ALGORITHM_SECTIONS = ("tuner", "assessor", "advisor")
_V1_ALGORITHM_KEYS = frozenset(
    {"builtinTunerName", "builtinAssessorName", "builtinAdvisorName", "classFileName", "codeDir"}
)
_V2_ALGORITHM_KEYS = frozenset({"name", "codeDirectory"})


class Format(StrEnum):
    """NNI's formats of an experiment file."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True)
class Document:
    """An experiment's document, checked against the schema of its format.

    Attributes:
        written: As the user wrote it, except that keys of v2 are spelled as in NNI's documentation.
        source: The same in v1 terms.
        sections: The platform's sections in v1 terms, those that are right.
        problems: What the schemas find wrong, one problem a field.
        translation: From v2 to v1; ``None`` for a v1 document.
    """

    format: Format
    written: Source
    source: Source
    sections: Mapping[str, BaseModel]
    problems: list[Problem]
    translation: Translation | None = None


def read_document(source: Source) -> Document:
    """Recognise a document's format and check its keys; ``source.data`` is a mapping."""
    spelled = _respell(source)
    v1_keys = _keys_of(source.data, _V1_KEYS - _V2_KEYS, _V1_ALGORITHM_KEYS)
    v2_keys = _keys_of(spelled.data, _V2_KEYS - _V1_KEYS, _V2_ALGORITHM_KEYS)
    if v1_keys and v2_keys:
        return _read_mixed(spelled, v1_keys, v2_keys)
    return _read_v2(spelled) if v2_keys else _read_v1(source)


def add_problems(problems: list[Problem], more: list[Problem]) -> None:
    """Add problems with fields that have none yet: of one field the first thing that is wrong is enough."""
    known = {(problem.file, problem.field) for problem in problems}
    problems += [problem for problem in more if (problem.file, problem.field) not in known]


def _read_v1(source: Source) -> Document:
    _, problems = validate(v1.ExperimentV1, source.data, source)
    sections = _check_sections(source, problems)
    return Document(Format.V1, source, source, sections, problems)


def _read_v2(written: Source) -> Document:
    service = written.data.get("trainingService")
    problems: list[Problem] = []
    if isinstance(service, list):
        rule = "several training services for one experiment are understood, but not built yet"
        problems.append(written.problem(("trainingService",), rule, None, "Name one of them, as a mapping"))
    add_problems(problems, validate(v2.ExperimentV2, written.data, written)[1])
    if isinstance(service, dict):
        model = v2.PLATFORMS.get(str(service.get("platform")), v2.AnyPlatform)
        add_problems(problems, validate(model, service, written, ("trainingService",))[1])
    translation = to_v1(written.data, _default_name(written))
    source = replace(written, data=translation.data, original=translation.original)
    sections = _check_sections(source, problems)
    return Document(Format.V2, written, source, sections, problems, translation)


def _check_sections(source: Source, problems: list[Problem]) -> dict[str, BaseModel]:
    """Validate the platform's own sections; what is wrong with them is added to ``problems``."""
    platform = source.data.get("trainingServicePlatform")
    sections: dict[str, BaseModel] = {}
    for key, schema in _V1_MODELS.get(platform if isinstance(platform, str) else "", {}).items():
        if isinstance(source.data.get(key), dict):
            section, found = validate(schema, source.data[key], source, (key,))
            add_problems(problems, found)
            if section is not None:
                sections[key] = section
    return sections


def _keys_of(data: JsonObject, top: frozenset[str], algorithm: frozenset[str]) -> list[FieldPath]:
    """The keys that stand in one format only."""
    found: list[FieldPath] = [(key,) for key in data if key in top]
    for section in _ALGORITHM_SECTIONS:
        if isinstance(data.get(section), dict):
            found += [(section, key) for key in data[section] if key in algorithm]
    return found


def _read_mixed(spelled: Source, v1_keys: list[FieldPath], v2_keys: list[FieldPath]) -> Document:
    """Read a file of both formats as if the keys of the one that has fewer were written as in the other."""
    kept, strays = (Format.V1, v2_keys) if len(v1_keys) >= len(v2_keys) else (Format.V2, v1_keys)
    rows = [row if kept is Format.V1 else row[::-1] for row in keys.rows_of(_platform_of(spelled.data))]
    data, lines = deepcopy(spelled.data), dict(spelled.lines)
    problems = []
    for stray in strays:
        found = [(here, there) for here, there in rows if there[: len(stray)] == stray and has_value(data, there)]
        for here, there in found:
            problems.append(_stray_problem(spelled, kept, there, f"Write {'.'.join(here)}"))
            if not has_value(data, here):
                put(data, here, value_at(data, there))
                lines.setdefault(here, lines.get(there, 0))
        if not found:
            problems.append(_stray_problem(spelled, kept, stray, f"Remove it: {kept} has no such key"))
    for stray in strays:
        value_at(data, stray[:-1]).pop(stray[-1], None)
    source = replace(spelled, data=data, lines={path: line for path, line in lines.items() if line})
    document = _read_v1(source) if kept is Format.V1 else _read_v2(source)
    add_problems(problems, document.problems)
    return replace(document, problems=problems)


def _stray_problem(source: Source, kept: Format, path: FieldPath, remedy: str) -> Problem:
    other = Format.V2 if kept is Format.V1 else Format.V1
    rule = f"is a key of NNI's {other} format, and the rest of the file is in {kept}: a file is in one of the two"
    return source.problem(path, rule, None, remedy)


def _platform_of(data: JsonObject) -> str:
    """v1's name of the platform, wherever it stands."""
    name = value_at(data, ("trainingServicePlatform",)) or value_at(data, ("trainingService", "platform"))
    return keys.v1_platform(name) if isinstance(name, str) else "local"


def _default_name(source: Source) -> str:
    """v2 can do without a name: then an experiment is called after its folder."""
    name = source.folder.name if source.folder else ""
    return name if EXPERIMENT_NAME.fullmatch(name) and name.isprintable() else _FALLBACK_NAME


def _v2_names() -> Iterator[str]:
    for model in vars(v2).values():
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from model.model_fields


_SPELLINGS = {fold(name): name for name in _v2_names()} | {"minsucceededtaskcount": "minSucceedTaskCount"}


def _respell(source: Source) -> Source:
    """Spell v2's keys as in NNI's documentation: NNI minds neither their case nor underscores."""
    lines = {_respell_path(path): line for path, line in source.lines.items()}
    return replace(source, data=_respell_keys(source.data), lines=lines)


def _respell_path(path: FieldPath) -> FieldPath:
    spelled: FieldPath = ()
    for index, part in enumerate(path):
        if spelled and spelled[-1] in OPAQUE:
            return spelled + path[index:]
        spelled += (_SPELLINGS.get(fold(part), part),)
    return spelled


def _respell_keys(value: Any) -> Any:
    if isinstance(value, list):
        return [_respell_keys(item) for item in value]
    if not isinstance(value, dict):
        return value
    spelled = {}
    for key, item in value.items():
        name = _SPELLINGS.get(fold(key), key) if isinstance(key, str) else key
        spelled[name] = item if name in OPAQUE else _respell_keys(item)
    return spelled
