"""The points of a finite search space, by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialflow.search_space import SearchSpace

if TYPE_CHECKING:
    from trialflow.search_space import Parameter


def point_at(space: SearchSpace, index: int) -> dict[str, Any]:
    """The latents of a finite space's point, counted from 0 in the order of the product."""
    latents: dict[str, Any] = {}
    for parameter in reversed(space.parameters):
        index, digit = divmod(index, int(parameter.size))
        latents.update(_branch_at(parameter, digit))
    return latents


def _branch_at(parameter: Parameter, digit: int) -> dict[str, Any]:
    """The latents of one of a parameter's values, with those of the parameters nested in it."""
    if parameter.options:
        return _option_at(parameter, digit)
    low, high = parameter.arguments[:2]
    if parameter.type == "randint":
        return {parameter.label: int(low) + digit}
    if parameter.type.startswith("q"):
        q = parameter.arguments[2]
        return {parameter.label: parameter.encode(min(max((round(low / q) + digit) * q, low), high))}
    return {parameter.label: low}


def _option_at(parameter: Parameter, digit: int) -> dict[str, Any]:
    for index, option in enumerate(parameter.options):
        nested = SearchSpace(option.nested or ())
        if digit < nested.size:
            share = (index + 0.5) / len(parameter.options)
            return {parameter.label: parameter.latent_at(share), **point_at(nested, digit)}
        digit -= int(nested.size)
    raise IndexError(digit)
