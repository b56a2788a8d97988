"""Turning pydantic's errors into sentences with a rule, a value and a remedy."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from trialflow.config import keys, placeholders
from trialflow.config import v2 as v2_models
from trialflow.config.fields import fold
from trialflow.config.likeness import REQUIRED
from trialflow.config.placeholders import unfilled_name
from trialflow.errors import MOST_PROBLEMS
from trialflow.messages import blank_remedy, close_remedy, number_remedy, show

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from trialflow.config.source import FieldPath, Source
    from trialflow.messages import Problem

Model = TypeVar("Model", bound=BaseModel)

# error type → (rule, remedy); {…} are filled from the error's own context.
_RULES: dict[str, tuple[str, str]] = {
    "missing": (REQUIRED, "Add it"),
    "int_type": ("must be an integer", "Write a whole number without quotes or unit"),
    "int_from_float": ("must be an integer", "Write a whole number without quotes or unit"),
    "float_type": ("must be a number", "Write a number without quotes"),
    "bool_type": ("must be true or false", "Write true or false without quotes"),
    "string_type": ("must be text", "Put it in quotes"),
    "string_too_short": ("must not be empty", "Fill it in"),
    "string_too_long": ("must not be longer than {max_length} characters", "Shorten it, or write it into a file"),
    "dict_type": ("must be a mapping of keys to values", "Indent its keys below it"),
    "model_type": ("must be a mapping of keys to values", "Indent its keys below it"),
    "list_type": ("must be a list", "Start each item with '- '"),
    "literal_error": ("must be one of {expected}", "Use one of these, as they are spelled"),
    "greater_than_equal": ("must be at least {ge}", "Raise it"),
    "greater_than": ("must be greater than {gt}", "Raise it"),
    "less_than_equal": ("must be at most {le}", "Lower it"),
    "too_short": ("must have at least {min_length} item", "Start each item with '- '"),
    "finite_number": ("must be finite", "Write a number"),
    "duration": (
        "must be a number greater than 0 of at most 10 digits, followed by s, m, h or d; without a unit it is seconds",
        "Write 3600, 90m or 0.5h, for example",
    ),
    "size": ("must be a whole number of MB, or a number followed by b, kb, mb, gb or tb", "Write 8gb, for example"),
    "gpu_indices": ("must be the number of a GPU, or several with commas between them", "Write 0 or \"0,1\""),
}
# What null mostly is when it stands for one of these: keys that were not indented.
_SECTION_TYPES = ("dict_type", "model_type", "list_type")


def validate(
    model: type[Model], data: Any, source: Source, prefix: FieldPath = ()
) -> tuple[Model | None, list[Problem]]:
    """Validate ``data``, the part of ``source`` below ``prefix``; the model is ``None`` when there are problems."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        found = error.errors(include_url=False)
        told = [_problem(model, item, source, prefix) for item in found[:MOST_PROBLEMS]]
        # Of these only their number is told, and looking for a remedy takes its time.
        return None, told + [source.problem(_path_of(item, prefix), item["msg"]) for item in found[MOST_PROBLEMS:]]


def _problem(model: type[BaseModel], error: ErrorDetails, source: Source, prefix: FieldPath) -> Problem:
    path = _path_of(error, prefix)
    value = None if error["type"] == "missing" else show(error["input"])
    if error["type"] != "extra_forbidden" and (name := unfilled_name(error["input"])) is not None:
        return source.problem(path, placeholders.RULE, f"{{{name}}}", placeholders.REMEDY)
    if error["type"] == "extra_forbidden":
        rule, remedy = "is not a key that NNI knows here", _key_remedy(model, error, source, path)
        return source.problem(path, rule, value, remedy)
    rule, remedy = _RULES.get(error["type"], (error["msg"], "Correct it"))
    if error["type"] == "float_type":
        remedy = number_remedy(error["input"]) or remedy
    if error["type"] in _SECTION_TYPES:
        remedy = blank_remedy(error["input"]) or remedy
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        choices = re.findall("'([^']*)'", error.get("ctx", {}).get("expected", ""))
        remedy = close_remedy(error["input"], choices) or remedy
    if error["input"] is None and error["type"] != "missing":
        remedy = remedy if error["type"] in _SECTION_TYPES else "Give it a value"
        if not _is_required(model, error["loc"]):
            remedy = f"Remove the key, or {remedy[0].lower()}{remedy[1:]}"
    return source.problem(path, rule.format(**error.get("ctx", {})), value, remedy)


def _path_of(error: ErrorDetails, prefix: FieldPath) -> FieldPath:
    return (*prefix, *(str(part) for part in error["loc"]))


def _key_remedy(model: type[BaseModel], error: ErrorDetails, source: Source, path: FieldPath) -> str:
    """What to do about a key that is not known where it stands."""
    key, known = str(error["loc"][-1]), _keys_at(model, error["loc"][:-1])
    blank = blank_remedy({key: error["input"]})
    if blank:
        return blank
    here = f"known here: {', '.join(sorted(known))}"
    v2 = model.__module__ == v2_models.__name__
    known_paths = keys.paths_of(key, v2=v2)
    beside = next((known_path for known_path in known_paths if known_path[-1] in known), None)
    if beside is not None:
        return f"Write {beside[-1]}, as {'v2' if v2 else 'v1'} calls it"
    platform = _platform_of(source.data)
    here_too = [known_path for known_path, platforms in known_paths.items() if platform in platforms]
    if here_too:
        return _describe_path(here_too[0], key)
    if known_paths and platform and len(path) > 1:
        where = ", ".join(dict.fromkeys(name for platforms in known_paths.values() for name in platforms))
        return f"Remove it: it belongs to other platforms ({where}); {here}"
    close = difflib.get_close_matches(key, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Remove it; {here}"


def _describe_path(known_path: FieldPath, key: str) -> str:
    name = known_path[-1] if fold(known_path[-1]) == fold(key) else f"it is called {known_path[-1]} and"
    section = ".".join(part for part in known_path[:-1] if part != "*")
    where = f"belongs into {section}" if section else "belongs to the top of the file"
    return f"Move it: {name} {where}"


def _platform_of(data: Any) -> str:
    """v1's name of a document's platform; empty when it has none that is known."""
    service = data.get("trainingService") if isinstance(data, dict) else None
    name = service.get("platform") if isinstance(service, dict) else data.get("trainingServicePlatform", "")
    return keys.v1_platform(name) if isinstance(name, str) else ""


def _is_required(model: type[BaseModel], loc: tuple[int | str, ...]) -> bool:
    field = _model_at(model, loc[:-1]).model_fields.get(str(loc[-1]))
    return field is None or field.is_required()


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    return list(_model_at(model, loc).model_fields)


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The section at ``loc``, found by walking the annotations of the fields."""
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as ``list[Machine] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
