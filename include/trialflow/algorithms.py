"""What tuners and assessors share: a registry by NNI's names, and class arguments read through pydantic."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trialflow.errors import Problem, TunerError
from trialflow.records import OptimizeMode
from trialflow.search_space import show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trialflow.records import AlgorithmSpec


class ClassArgs(BaseModel):
    """Base of an algorithm's ``classArgs``; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DirectedClassArgs(ClassArgs):
    """Class arguments of an algorithm that has a direction."""

    optimize_mode: OptimizeMode = OptimizeMode.MAXIMIZE


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
    spec: AlgorithmSpec,
    section: str,
    registry: Mapping[str, str],
    not_built: tuple[str, ...],
    place: Callable[..., Problem],
) -> list[Problem]:
    """What is wrong with an algorithm's name and class arguments.

    Args:
        spec: As the experiment file names it.
        section: ``tuner`` or ``assessor``.
        registry: The names that are built.
        not_built: NNI's names that are not.
        place: Makes a problem with a field of the experiment file.
    """
    if spec.name not in registry:
        rule = "is one of NNI's, but not built yet" if spec.name in not_built else f"is no {section} of NNI's"
        name_key = f"builtin{section.capitalize()}Name"
        return [place((section, name_key), rule, spec.name, f"Use one of: {', '.join(registry)}")]
    try:
        load(registry, spec.name).Args.model_validate(spec.class_args)
    except ValidationError as error:
        known = ", ".join(load(registry, spec.name).Args.model_fields) or "none"
        return [
            place(
                (section, "classArgs", *(str(part) for part in item["loc"])),
                f"{spec.name}: {item['msg'][0].lower()}{item['msg'][1:]}",
                show(item["input"]),
                f"Arguments of {spec.name}: {known}",
            )
            for item in error.errors(include_url=False)
        ]
    return []
