"""Documents taken from one format to the other, key by key.

Nothing is checked here: what no row of `trialflow.config.keys` names, and sections that are not what they should be,
are left behind; the schemas of the two formats tell what is wrong with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trialflow.config import keys
from trialflow.config.fields import megabytes_of, seconds_of
from trialflow.records import JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trialflow.config.keys import AdvisorSection, Row
    from trialflow.config.source import FieldPath

# The author of a v2 document, which names none.
NO_AUTHOR = "default"
_DEFAULT_IMAGE = "msranni/nni:latest"
_SECTIONS = ("tuner", "assessor", "advisor")
_ROLES = ("master", "ps", "worker")


@dataclass(frozen=True)
class Translation:
    """A document in the terms of the other format.

    Attributes:
        origins: Path of a value in ``data`` → where it came from.
        left_behind: Paths in the original of values that have no counterpart.
        rows: What was translated by, as (path in ``data``, path in the original).
        sections: Sections of ``data`` that have no row of their own → where to look in the original.
    """

    data: JsonObject
    origins: Mapping[FieldPath, FieldPath]
    left_behind: tuple[FieldPath, ...]
    rows: tuple[Row, ...] = ()
    sections: Mapping[FieldPath, FieldPath] = field(default_factory=dict)

    def original(self, path: FieldPath) -> FieldPath:
        """Where a field of ``data`` stands in the original, or would stand if it were there."""
        if path[-1:] == ("classFileName",):
            path = (*path[:-1], "className")  # v2 writes the two as one.
        for known in (self.origins.get, self._by_row, self.sections.get):
            for length in range(len(path), 0, -1):
                found = known(path[:length])
                if found is not None:
                    return (*found, *path[length:])
        return path

    def _by_row(self, path: FieldPath) -> FieldPath | None:
        for here, there in self.rows:
            if len(here) == len(path) and all(part in ("*", key) for part, key in zip(here, path, strict=True)):
                return _fill(there, [key for part, key in zip(here, path, strict=True) if part == "*"])
        return None


def to_v1(data: JsonObject, default_name: str) -> Translation:
    """A v2 document in v1 terms, with the defaults that v1 does not have filled in.

    Args:
        data: The document; its keys are spelled as in NNI's documentation.
        default_name: Of an experiment that has none.
    """
    service, advisor = _mapping(data.get("trainingService")), _advisor_section(data)
    storage = str(_mapping(service.get("storage")).get("storageType"))
    rows = keys.rows_of(keys.v1_platform(str(service.get("platform"))), advisor, storage)
    backwards = [(v2, v1) for v1, v2 in rows]
    moved = _move(data, [*backwards, *((v2, v1) for v1, v2 in keys.shortcuts_of(rows))], _TO_V1)
    _split_class_names(moved.data)
    _fill_v1_defaults(moved.data, default_name)
    left_behind = tuple(path for path in moved.left_behind if not _goes_without_saying(data, moved.data, path))
    return replace(moved, left_behind=left_behind, rows=tuple(rows), sections=keys.sections_of(advisor))


def to_v2(data: JsonObject) -> Translation:
    """A v1 document in v2 terms, with what NNI 3.x requires filled in."""
    advisor: AdvisorSection | None = "advisor" if data.get("advisor") else None
    platform = str(data.get("trainingServicePlatform"))
    storage = str(_mapping(data.get(keys.storage_section(platform))).get("storage"))
    rows = keys.rows_of(platform, advisor, storage)
    moved = _move(data, rows, _TO_V2)
    _join_class_names(moved.data, data)
    _fill_v2_defaults(moved.data)
    joined = {(section, "classFileName") for section in _SECTIONS}
    left_behind = tuple(path for path in moved.left_behind if path not in joined)
    return replace(moved, left_behind=left_behind)


def _goes_without_saying(v2: JsonObject, v1: JsonObject, path: FieldPath) -> bool:
    """Whether a value of a v2 document that v1 cannot express says what is so anyway."""
    values = [value for _, value in _find(v2, path)]
    if path[-1] == "codeDirectory":  # NNI takes the code of every role from one folder, whatever the role says.
        return values == [v1["trial"]["codeDir"]]
    return path == ("experimentType",) and values == ["hpo"]


def _advisor_section(v2: JsonObject) -> AdvisorSection | None:
    if v2.get("advisor"):
        return "advisor"
    name = _mapping(v2.get("tuner")).get("name")
    return "tuner" if isinstance(name, str) and keys.is_advisor(name) else None


def _move(
    data: JsonObject, rows: list[Row], converters: Mapping[str, Callable[[Any], Any]]
) -> Translation:
    """Copy what each row names from its first path to its second; null means that nothing is there."""
    moved: JsonObject = {}
    origins: dict[FieldPath, FieldPath] = {}
    for source, target in rows:
        convert = converters.get(target[-1], _same)
        for indices, value in _find(data, source):
            moved_to = _fill(target, indices)
            put(moved, moved_to, convert(value))
            origins[moved_to] = _fill(source, indices)
    taken = {_fill(source, indices) for source, _ in rows for indices, _ in _find(data, source)}
    left_behind = tuple(
        path for path in _leaves(data) if not any(path[:length] in taken for length in range(1, len(path) + 1))
    )
    return Translation(moved, origins, left_behind)


def _find(value: Any, path: FieldPath, indices: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values at a path, with the list indices on the way."""
    if not path:
        if value is not None:
            yield indices, value
    elif path[0] == "*":
        for index, item in enumerate(value if isinstance(value, list) else []):
            yield from _find(item, path[1:], (*indices, str(index)))
    elif isinstance(value, dict) and path[0] in value:
        yield from _find(value[path[0]], path[1:], indices)


def _fill(path: FieldPath, indices: list[str] | tuple[str, ...]) -> FieldPath:
    rest = iter(indices)
    return tuple(next(rest) if part == "*" else part for part in path)


def value_at(data: Any, path: FieldPath) -> Any:
    """What stands at a path of mappings; ``None`` when nothing does."""
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data


def has_value(data: Any, path: FieldPath) -> bool:
    """Whether something other than null stands at a path of mappings."""
    return value_at(data, path) is not None


def put(data: JsonObject, path: FieldPath, value: Any) -> None:
    """Write a value to a path, and the sections on the way; a number stands for an item of a list."""
    target: Any = data
    for part, following in zip(path, (*path[1:], None), strict=True):
        if isinstance(target, list):
            target += [{} for _ in range(len(target), int(part) + 1)]
            target = target[int(part)]
        elif following is None:
            target[part] = value
        else:
            kind: type[Any] = list if following.isdigit() else dict
            if not isinstance(target.get(part), kind):
                target[part] = kind()
            target = target[part]


def _leaves(value: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, str(index)))
    elif value is not None:
        yield path


def _split_class_names(data: JsonObject) -> None:
    """v2's ``module.Class`` is a file and a class in v1."""
    for section in _SECTIONS:
        algorithm = data.get(section, {})
        name = algorithm.get("className")
        if isinstance(name, str) and "." in name:
            module, _, algorithm["className"] = name.rpartition(".")
            algorithm["classFileName"] = f"{module.replace('.', '/')}.py"


def _join_class_names(data: JsonObject, v1: JsonObject) -> None:
    for section in _SECTIONS:
        file = _mapping(v1.get(section)).get("classFileName")
        if isinstance(file, str) and "className" in data.get(section, {}):
            module = file.removesuffix(".py").replace("/", ".")
            data[section]["className"] = f"{module}.{data[section]['className']}"


def _fill_v1_defaults(data: JsonObject, default_name: str) -> None:
    data.setdefault("authorName", NO_AUTHOR)
    data["experimentName"] = data.get("experimentName") or default_name
    trial = data.setdefault("trial", {})
    trial.setdefault("codeDir", ".")
    roles = [trial[name] for name in _ROLES if name in trial] + trial.get("taskRoles", [])
    for role in roles:
        role.setdefault("gpuNum", 0)
        role.setdefault("image", _DEFAULT_IMAGE)


def _fill_v2_defaults(data: JsonObject) -> None:
    if data.get("authorName") == NO_AUTHOR:
        del data["authorName"]
    if data.get("multiThread") is False:
        del data["multiThread"]  # NNI's v2 format does not know it.
    service = data["trainingService"]
    if data.get("trialGpuNumber") and service["platform"] == "local":
        service.setdefault("useActiveGpu", False)  # NNI 3.x wants it said.
    if "storage" in service:
        service["storage"].setdefault("storageType", "nfs")
    for name in _ROLES:
        if name in service:
            service[name]["codeDirectory"] = data.get("trialCodeDirectory", ".")


def _mapping(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _same(value: Any) -> Any:
    return value


def _v1_duration(value: Any) -> Any:
    """A whole number with the largest unit that fits."""
    seconds = seconds_of(value)
    if seconds is None:
        return value
    size, unit = next((size, unit) for unit, size in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"


def _v2_duration(value: Any) -> Any:
    """Seconds without a unit as a number: NNI takes no text there."""
    return seconds_of(value) if isinstance(value, str) and value[-1:].isdigit() else value


def _megabytes(value: Any) -> Any:
    size = megabytes_of(value)
    return value if size is None else size


def _v1_indices(value: Any) -> Any:
    return ",".join(str(index) for index in value) if isinstance(value, list) else value


def _v1_name(value: Any) -> Any:
    return keys.builtin_name(value) if isinstance(value, str) else value


def _v1_platform(value: Any) -> Any:
    return keys.v1_platform(value) if isinstance(value, str) else value


_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
# By the last part of the key that is written.
_TO_V1: dict[str, Callable[[Any], Any]] = {
    "maxExecDuration": _v1_duration,
    "maxTrialDuration": _v1_duration,
    "memoryMB": _megabytes,
    "gpuIndices": _v1_indices,
    "trainingServicePlatform": _v1_platform,
    **{f"builtin{section.capitalize()}Name": _v1_name for section in _SECTIONS},
}
_TO_V2: dict[str, Callable[[Any], Any]] = {
    "platform": keys.v2_platform,
    "maxExperimentDuration": _v2_duration,
    "maxTrialDuration": _v2_duration,
}
