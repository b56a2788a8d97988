"""What the schemas of both formats are made of: field types, and the numbers that stand behind texts with a unit."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_UNIT_BYTES = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
# What Python's float() reads, as in NNI, and a unit or none.
_DURATION = re.compile(r"\s*\+?([0-9]{0,10}\.?[0-9]{0,10}(?:e[-+]?[0-9]{1,3})?)\s*([smhd]?)\s*", re.IGNORECASE)
_LONGEST_SECONDS = 10**10
_SIZE = re.compile(r"\s*([0-9]{0,15}\.?[0-9]{1,15})\s*([kmgt]?b)", re.IGNORECASE)


# Below these stand keys that are not NNI's: a user's own, or those of Kubernetes and OpenPAI.
OPAQUE = frozenset({"classArgs", "searchSpace", "podTemplate", "openpaiConfig"})


def fold(key: str) -> str:
    """A key of the v2 format without what NNI does not mind in it."""
    return key.lower().replace("_", "")


class Section(BaseModel):
    """Base of every section of an experiment file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def seconds_of(value: Any) -> int | None:
    """A duration in whole seconds, rounded up; without a unit it is seconds. ``None`` when it is none above 0."""
    if isinstance(value, bool):
        return None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    try:
        seconds = float(match[1]) * _UNIT_SECONDS[match[2].lower() or "s"] if match else value
        return math.ceil(seconds) if 0 < seconds < _LONGEST_SECONDS else None
    except (TypeError, ValueError):
        return None


def megabytes_of(value: Any) -> int | None:
    """A size in whole MB, rounded up; a number is MB. ``None`` when it is no size."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return math.ceil(float(match[1]) * _UNIT_BYTES[match[2].lower()] / _UNIT_BYTES["mb"]) if match else None


def _check_duration(value: Any) -> Any:
    if seconds_of(value) is None:
        raise PydanticCustomError("duration", "must be a duration")
    return value


def _check_size(value: Any) -> Any:
    if megabytes_of(value) is None:
        raise PydanticCustomError("size", "must be a size")
    return value


def indices_of(value: Any) -> list[int]:
    """The numbers of GPUs in ascending order, each once: of ``0``, ``"0,1"`` or ``[0, 1]``."""
    return sorted({int(index) for index in _split_indices(value)})


def _split_indices(value: Any) -> list[Any]:
    return value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]


def _check_gpu_indices(value: Any) -> Any:
    indices = _split_indices(value)
    if value is not None and not all(re.fullmatch(r"\s*[0-9]{1,6}\s*", str(index)) for index in indices):
        raise PydanticCustomError("gpu_indices", "must be the numbers of GPUs")
    return value


# As many trials as NNI takes, in all and at a time.
MOST_TRIALS = 99_999
Count = Annotated[int, Field(strict=True, ge=1, le=MOST_TRIALS)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Amount = Annotated[int, Field(strict=True, ge=0)]
Integer = Annotated[int, Field(strict=True)]
# Of one argument of a program, which a trial's command becomes: Linux takes no longer one.
LONGEST_TEXT = (1 << 17) - 1
Text = Annotated[str, Field(strict=True, max_length=LONGEST_TEXT)]
NonEmptyText = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=LONGEST_TEXT, strip_whitespace=True)
]
Flag = Annotated[bool, Field(strict=True)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
# What NNI 3.0 reads in both formats: any number with a unit, or seconds.
Duration = Annotated[Any, AfterValidator(_check_duration)]
MemorySize = Annotated[Any, AfterValidator(_check_size)]
GpuIndices = Annotated[Any, AfterValidator(_check_gpu_indices)]
# The value at which an experiment has what it was made for.
Goal = Annotated[float, Field(strict=True, allow_inf_nan=False)]
