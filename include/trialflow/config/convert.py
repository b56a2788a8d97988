"""Writing an experiment file in the other format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from trialflow.config import keys, v1, v2
from trialflow.config.fields import OPAQUE
from trialflow.config.formats import Document, Format, add_problems, read_document
from trialflow.config.placeholders import find_placeholders
from trialflow.config.source import EXPONENT
from trialflow.config.translate import to_v2
from trialflow.errors import ConfigError
from trialflow.messages import show
from trialflow.records import JsonObject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trialflow.config.source import FieldPath, Source

# What a format is given although NNI does not know it there, by the last part of the key.
_OURS: dict[Format, frozenset[str]] = {
    Format.V1: frozenset({"goal", "maxFailedTrialNum", "searchSpace", "podTemplate"}),
    Format.V2: frozenset(
        {"authorName", "description", "multiThread", "goal", "maxFailedTrialNumber", "includeIntermediateResults",
         "privateRegistryAuthPath", "uploadRetryCount", "podTemplate", "claim"}
    ),
}  # fmt: skip
# The same on one platform alone; elsewhere NNI knows them.
_OURS_ON = {
    "kubeflow": frozenset({"serviceAccountName", "pvc"}),
    "local": frozenset({"useCodeCopy", "pythonPath"}),
}
_PATHS = frozenset({"searchSpacePath", "searchSpaceFile", "codeDir", "trialCodeDirectory", "codeDirectory"})
_REQUIRED_IN_V1 = {"useAnnotation": False}


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what would be read as a number, and is a text to YAML 1.1."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if EXPONENT.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


@dataclass(frozen=True)
class Conversion:
    """An experiment file in the other format.

    Attributes:
        text: YAML.
        warnings: What could not be taken over, or is no key of NNI's in this format; one sentence each.
        paths: The relative paths in it, which start at the folder of the file.
    """

    format: Format
    text: str
    warnings: tuple[str, ...]
    paths: tuple[str, ...]


def convert(source: Source, to: Format | None = None) -> Conversion:
    """Write an experiment in a format; whatever its keys name need not exist.

    Args:
        source: The experiment, of either format.
        to: The format; ``None`` for the one that it does not have.

    Raises:
        ConfigError: Its keys are not what they should be, or there is no counterpart for its platform.
    """
    document = _check(source)
    target = to or (Format.V2 if document.format is Format.V1 else Format.V1)
    data, dropped = _translate(document, target)
    schema = v1.ExperimentV1 if target is Format.V1 else v2.ExperimentV2
    data = {key: data[key] for key in schema.model_fields if key in data}  # in the usual order
    ours = _OURS[target] | _OURS_ON.get(document.source.data["trainingServicePlatform"], frozenset())
    warnings = [f"{'.'.join(path)} has no counterpart in {target} and is left out" for path in dropped]
    warnings += [
        f"{'.'.join(path)} is no key of NNI's {target} format; only Trialflow reads it there"
        for path in _key_paths(data)
        if path[-1] in ours
    ]
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return Conversion(target, text, tuple(warnings), tuple(_relative_paths(data)))


def _check(source: Source) -> Document:
    if not isinstance(source.data, dict):
        rule = "an experiment is a mapping of keys to values"
        raise ConfigError([source.problem((), rule, show(source.data), "Write it as in the NNI documentation")])
    document = read_document(source)
    problems = find_placeholders(document.written)
    add_problems(problems, document.problems)
    platform = document.source.data.get("trainingServicePlatform")
    if not problems and platform not in keys.CONVERTIBLE:
        rule, remedy = "has no counterpart in the other format", f"Use one of: {', '.join(keys.CONVERTIBLE)}"
        problems.append(document.source.problem(("trainingServicePlatform",), rule, str(platform), remedy))
    if problems:
        raise ConfigError(problems)
    return document


def _translate(document: Document, target: Format) -> tuple[JsonObject, Iterable[FieldPath]]:
    if document.format is target:
        return document.written.data, ()
    if document.translation is not None:
        return {**_REQUIRED_IN_V1, **document.translation.data}, document.translation.left_behind
    translation = to_v2(document.written.data)
    return translation.data, translation.left_behind


def _key_paths(value: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    """The path of every key of NNI's."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, str(key))
            if key not in OPAQUE:
                yield from _key_paths(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _key_paths(item, (*path, str(index)))


def _relative_paths(data: JsonObject) -> Iterator[str]:
    for path in _key_paths(data):
        if path[-1] in _PATHS:
            value: Any = data
            for part in path:
                value = value[int(part)] if isinstance(value, list) else value[part]
            if isinstance(value, str) and not value.startswith(("/", "~")):
                yield value
