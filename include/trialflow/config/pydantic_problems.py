"""Turning pydantic's errors into sentences with a rule, a value and a remedy."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from trialflow.errors import Problem
from trialflow.search_space import show

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from trialflow.config.source import FieldPath, Source

Model = TypeVar("Model", bound=BaseModel)

# error type → (rule, remedy); {…} are filled from the error's own context.
_RULES: dict[str, tuple[str, str]] = {
    "missing": ("is required", "Add it"),
    "int_type": ("must be an integer", "Write a whole number without quotes or unit"),
    "int_from_float": ("must be an integer", "Write a whole number without quotes or unit"),
    "float_type": ("must be a number", "Write a number without quotes"),
    "bool_type": ("must be true or false", "Write true or false without quotes"),
    "string_type": ("must be text", "Put it in quotes"),
    "string_too_short": ("must not be empty", "Fill it in"),
    "dict_type": ("must be a mapping of keys to values", "Indent its keys below it"),
    "model_type": ("must be a mapping of keys to values", "Indent its keys below it"),
    "list_type": ("must be a list", "Start each item with '- '"),
    "literal_error": ("must be one of {expected}", "Use one of these, as they are spelled"),
    "greater_than_equal": ("must be at least {ge}", "Raise it"),
    "greater_than": ("must be greater than {gt}", "Raise it"),
    "less_than_equal": ("must be at most {le}", "Lower it"),
    "finite_number": ("must be finite", "Write a number"),
}
_DURATION = ("must be a whole number of at most 10 digits, followed by s, m, h or d", "Write 90m or 1h, for example")


def validate(
    model: type[Model], data: Any, source: Source, prefix: FieldPath = ()
) -> tuple[Model | None, list[Problem]]:
    """Validate ``data``, the part of ``source`` below ``prefix``; the model is ``None`` when there are problems."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, [_problem(model, item, source, prefix) for item in error.errors(include_url=False)]


def _problem(model: type[BaseModel], error: ErrorDetails, source: Source, prefix: FieldPath) -> Problem:
    path = (*prefix, *(str(part) for part in error["loc"]))
    value = None if error["type"] == "missing" else show(error["input"])
    if _is_placeholder(error["input"]) and error["type"] != "extra_forbidden":
        name = next(iter(error["input"]))
        return source.problem(path, "still holds a placeholder", f"{{{name}}}", "Replace it, braces included")
    if error["type"] == "extra_forbidden":
        rule, remedy = "is not a key that NNI knows here", _spelling_remedy(model, error)
        return source.problem(path, rule, value, remedy)
    if error["type"] == "string_pattern_mismatch":
        return source.problem(path, *_with_value(_DURATION, value))
    rule, remedy = _RULES.get(error["type"], (error["msg"], "Correct it"))
    return source.problem(path, rule.format(**error.get("ctx", {})), value, remedy)


def _with_value(rule: tuple[str, str], value: str | None) -> tuple[str, str | None, str]:
    return rule[0], value, rule[1]


def _is_placeholder(value: Any) -> bool:
    """Whether YAML read ``{your_server_ip}``, left unfilled, as a mapping."""
    return isinstance(value, dict) and len(value) == 1 and next(iter(value.values())) is None


def _spelling_remedy(model: type[BaseModel], error: ErrorDetails) -> str:
    known = _keys_at(model, error["loc"][:-1])
    close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Remove it; known here: {', '.join(sorted(known))}"


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at ``loc``, found by walking the annotations of the fields."""
    for part in loc:
        annotation = model.model_fields[str(part)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
