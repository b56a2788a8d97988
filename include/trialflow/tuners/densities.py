"""Kernel densities of good and bad points over the unit cube, as BOHB compares them (Falkner et al., 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trialflow.tuners.cube import Cube

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trialflow.search_space import SearchSpace

    Points = NDArray[np.float64]


class Densities:
    """The two densities.

    Args:
        space: Without nested parameters.
        good: Latents of the good trials.
        bad: Latents of the bad ones.
        min_bandwidth: Of each axis.
    """

    def __init__(
        self, space: SearchSpace, good: list[dict[str, Any]], bad: list[dict[str, Any]], min_bandwidth: float
    ) -> None:
        self._cube = Cube(space)
        # 0 for an axis that is a number.
        self._options = np.array([len(parameter.options) for parameter in space.parameters])
        self._good, self._bad = self._cube.points(good), self._cube.points(bad)
        self._good_bandwidths, self._bad_bandwidths = (
            self._bandwidths(points, min_bandwidth) for points in (self._good, self._bad)
        )

    def draw_best(self, samples: int, factor: float, rng: np.random.Generator) -> dict[str, Any]:
        """Of points drawn around good ones the latents of the one that is good and not bad with most probability."""
        drawn = self._cube.snap(self._draw(samples, factor, rng))
        good = self._log_density(drawn, self._good, self._good_bandwidths)
        bad = self._log_density(drawn, self._bad, self._bad_bandwidths)
        return self._cube.latents(drawn[np.argmax(good - bad)])

    def _bandwidths(self, points: Points, least: float) -> NDArray[np.float64]:
        """By the rule of thumb for normal data; for a choice, the probability of another option."""
        count, dimensions = points.shape
        spread = np.where(self._options > 0, points * np.maximum(self._options, 1), points).std(axis=0)
        bandwidths = 1.06 * spread * count ** (-1 / (4 + dimensions))
        most = np.where(self._options > 0, 1 - 1 / np.maximum(self._options, 1), np.inf)
        bounded: NDArray[np.float64] = np.minimum(np.maximum(bandwidths, least), np.maximum(most, least))
        return bounded

    def _draw(self, samples: int, factor: float, rng: np.random.Generator) -> Points:
        from scipy.special import ndtr, ndtri

        centers = self._good[rng.integers(len(self._good), size=samples)]
        widths = self._good_bandwidths * factor
        low, high = ndtr((0 - centers) / widths), ndtr((1 - centers) / widths)
        numbers = centers + widths * ndtri(low + (high - low) * rng.random(centers.shape))
        others = rng.random(centers.shape)
        keeps = rng.random(centers.shape) >= self._good_bandwidths
        choices = np.where(keeps, centers, others)
        drawn: Points = np.where(self._options > 0, choices, numbers)
        return np.clip(drawn, 0.0, 1.0)

    def _log_density(self, points: Points, data: Points, bandwidths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of each row, by a product of kernels: normal for numbers, Aitchison and Aitken's for choices."""
        difference = points[:, None, :] - data[None, :, :]
        normal = np.exp(-0.5 * (difference / bandwidths) ** 2) / bandwidths
        elsewhere = bandwidths / np.maximum(self._options - 1, 1)
        choice = np.where(np.abs(difference) < 1e-9, 1 - bandwidths, elsewhere)
        kernels = np.where(self._options > 0, choice, normal)
        logarithms: NDArray[np.float64] = np.log(np.maximum(kernels.prod(axis=2).mean(axis=1), 1e-300))
        return logarithms
