"""The unit cube in which models of numbers work: one axis per parameter, even in its prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trialflow.search_space import SearchSpace
from trialflow.tuners.listing import point_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trialflow.search_space import Parameter

# A parameter with more values is taken for continuous.
_MOST_STEPS = 10_000


class Cube:
    """Turns latents into points of the cube and back; a discrete parameter has steps along its axis.

    Args:
        space: Without nested parameters.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._axes = [_Axis(parameter) for parameter in space.parameters]
        self.dimensions = len(self._axes)

    def point(self, latents: dict[str, Any]) -> NDArray[np.float64]:
        """The point of a trial."""
        return np.array([axis.position(latents[axis.label]) for axis in self._axes])

    def points(self, many: list[dict[str, Any]]) -> NDArray[np.float64]:
        """The points of trials, one per row."""
        return np.array([self.point(latents) for latents in many]).reshape(-1, self.dimensions)

    def latents(self, point: NDArray[np.float64]) -> dict[str, Any]:
        """The latents of a point."""
        return {axis.label: axis.latent(float(position)) for axis, position in zip(self._axes, point, strict=True)}

    def snap(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The nearest points that a trial can have, for rows of any points."""
        columns = [axis.snap(np.clip(column, 0.0, 1.0)) for axis, column in zip(self._axes, points.T, strict=True)]
        return np.stack(columns, axis=1)


class _Axis:
    """One parameter; a choice among numbers is put in their order."""

    def __init__(self, parameter: Parameter) -> None:
        self.label = parameter.label
        self._parameter = parameter
        latents = _all_latents(parameter)
        shares = sorted(parameter.share_of(latent) for latent in latents)
        self._latents = dict(zip(shares, latents, strict=True))
        self._places = {_key(latent): share for share, latent in self._latents.items()}
        self._steps = np.array(shares)

    def position(self, latent: Any) -> float:
        key = _key(latent)
        return self._places[key] if key in self._places else self._parameter.share_of(latent)

    def latent(self, position: float) -> Any:
        return self._latents[position] if position in self._latents else self._parameter.latent_at(position)

    def snap(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self._steps.size:
            return column
        between = (self._steps[1:] + self._steps[:-1]) / 2
        snapped: NDArray[np.float64] = self._steps[np.searchsorted(between, column)]
        return snapped


def _all_latents(parameter: Parameter) -> list[Any]:
    """Every latent of a discrete parameter in order; none of a continuous one."""
    if parameter.size > _MOST_STEPS:
        return []
    alone = SearchSpace((parameter,))
    latents = [point_at(alone, index)[parameter.label] for index in range(int(parameter.size))]
    values = [option.value for option in parameter.options]
    if values and all(type(value) in (int, float) for value in values):
        return [latent for _, latent in sorted(zip(values, latents, strict=True), key=lambda pair: pair[0])]
    return latents


def _key(latent: Any) -> tuple[type, Any]:
    return type(latent), latent
