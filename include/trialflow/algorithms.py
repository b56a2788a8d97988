"""What tuners and assessors share: a registry by NNI's names, and class arguments read through pydantic."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trialflow.errors import TunerError
from trialflow.messages import Problem, show
from trialflow.records import OptimizeMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trialflow.messages import ProblemMaker
    from trialflow.records import AlgorithmSpec


def _always(value: Any) -> bool:  # noqa: ARG001
    return True


@dataclass(frozen=True)
class WithoutEffect:
    """Marks a class argument, in its annotation, as accepted without effect.

    Attributes:
        why: The middle of a sentence.
        when: Of which values that holds.
    """

    why: str
    when: Callable[[Any], bool] = _always


class ClassArgs(BaseModel):
    """Base of an algorithm's ``classArgs``; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DirectedClassArgs(ClassArgs):
    """Class arguments of an algorithm that has a direction."""

    optimize_mode: OptimizeMode = OptimizeMode.MAXIMIZE


class SeededClassArgs(DirectedClassArgs):
    """Class arguments of a tuner whose suggestions can be made repeatable."""

    seed: int | None = Field(default=None, ge=0, lt=2**32)


class ParallelClassArgs(SeededClassArgs):
    """Class arguments of a tuner that NNI carries out with hyperopt.

    Attributes:
        parallel_optimize: Whether running trials are taken into account, so that parallel suggestions spread.
        constant_liar_type: What NNI takes for their results.
    """

    parallel_optimize: bool = True
    constant_liar_type: Annotated[
        Literal["min", "max", "mean"], WithoutEffect("Optuna decides by itself what a running trial counts")
    ] = "min"


class WithDirection(BaseModel):
    """Refuses class arguments that do not say the direction, as NNI does for some algorithms."""

    @model_validator(mode="before")
    @classmethod
    def _has_direction(cls, given: Any) -> Any:
        if isinstance(given, dict) and given and "optimize_mode" not in given:
            raise ValueError("optimize_mode is required when there are class arguments")
        return given


def load(registry: Mapping[str, str], name: str) -> Any:
    """The class that a registry names.

    Raises:
        TunerError: The registry has no such name.
    """
    if name not in registry:
        raise TunerError(f"{name!r} is not built; this version has {', '.join(registry)}")
    module, attribute = registry[name].split(":")
    return getattr(import_module(module), attribute)


def check_algorithm(
    spec: AlgorithmSpec, section: str, registry: Mapping[str, str], refused: Mapping[str, str], problem_at: ProblemMaker
) -> list[Problem]:
    """What is wrong with an algorithm's name and class arguments.

    Args:
        spec: As the experiment file names it.
        section: ``tuner``, ``assessor`` or ``advisor``.
        registry: The names that are built.
        refused: NNI's names that are not, and why.
        problem_at: Makes a problem with a field of the experiment file.
    """
    if spec.name not in registry:
        rule = refused.get(spec.name, f"is no {section} of NNI's")
        name_key = f"builtin{section.capitalize()}Name"
        return [problem_at((section, name_key), rule, spec.name, f"Use one of: {', '.join(registry)}")]
    args = load(registry, spec.name).Args
    try:
        args.model_validate(spec.class_args)
    except ValidationError as error:
        known = ", ".join(args.model_fields) or "none"
        return [
            problem_at(
                (section, "classArgs", *(str(part) for part in item["loc"])),
                f"{spec.name}: {_plain(item['msg'])}",
                show(item["input"]),
                f"Arguments of {spec.name}: {known}",
            )
            for item in error.errors(include_url=False)
        ]
    return []


def find_without_effect(args: ClassArgs) -> Iterator[tuple[tuple[str, ...], str]]:
    """The path of each class argument that was given and has no effect, and why."""
    for name, info in type(args).model_fields.items():
        value = getattr(args, name)
        if name not in args.model_fields_set:
            continue
        if isinstance(value, ClassArgs):
            yield from (((name, *path), why) for path, why in find_without_effect(value))
        marks = [mark for mark in info.metadata if isinstance(mark, WithoutEffect)]
        yield from (((name,), mark.why) for mark in marks if mark.when(value))


def _plain(message: str) -> str:
    """pydantic's message as the middle of a sentence."""
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]
