"""A Gaussian process over the unit cube, bounded in the time that it takes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from trialflow.tuners.cube import Cube

# The length scales are fitted to so many results, the process is conditioned on so many.
_MOST_FITTED = 120
_MOST_RESULTS = 500
_RESTARTS = 1
_MOST_ITERATIONS = 30
# A prediction costs the square of the number of results; so many multiplications are spent on one search.
_AFFORDABLE = 5e8
_PART = 5000
# From the best points of a search it climbs to the top; drawing alone misses a narrow one.
_CLIMBED = 5
_MOST_CLIMBS = 50
_SLOPE_STEP = 1e-5


class Process:
    """A Gaussian process with a Matérn kernel of one length scale per axis, conditioned on results.

    Args:
        points: Rows in the unit cube.
        losses: One per row.
        kernel: Of scikit-learn, as `fit` has found it.
        alpha: Variance of the noise, in units of the variance of the losses.
    """

    def __init__(self, points: NDArray[np.float64], losses: NDArray[np.float64], kernel: Any, alpha: float) -> None:
        self.points, self.losses = points, losses
        self._model = _fit(points, losses, kernel, alpha)

    @classmethod
    def fit(
        cls, points: NDArray[np.float64], losses: NDArray[np.float64], nu: float, alpha: float, seed: int
    ) -> Process:
        """Fit the kernel's scales to the best and newest results, and condition on more of them.

        One scale for all axes, unless one for each is worth it by the Bayesian information criterion (Schwarz, 1978): a
        few results fit many scales too well.
        """
        few, many = (_best_and_newest(losses, most) for most in (_MOST_FITTED, _MOST_RESULTS))
        dimensions = points.shape[1]
        shared, own = (
            _fit_scales(points[few], losses[few], scales, nu, alpha, seed) for scales in (0.3, [0.3] * dimensions)
        )
        gain = own.log_marginal_likelihood_value_ - shared.log_marginal_likelihood_value_
        fitted = own if gain > (dimensions - 1) / 2 * np.log(len(few)) else shared
        return cls(points[many], losses[many], fitted.kernel_, alpha)

    @property
    def affordable(self) -> int:
        """How many points one search may predict in the time that it has."""
        return int(_AFFORDABLE / len(self.losses) ** 2)

    def predict(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation at each row."""
        parts = np.array_split(points, len(points) // _PART + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = [self._model.predict(part, return_std=True) for part in parts]
        means, deviations = (np.concatenate(column) for column in zip(*predicted, strict=True))
        return means, np.maximum(deviations, 1e-12)

    def given(self, points: NDArray[np.float64], losses: NDArray[np.float64] | None = None) -> Process:
        """The same process conditioned on further results; on its own mean where no losses are given."""
        if not len(points):
            return self
        assumed = self.predict(points)[0] if losses is None else losses
        merged = np.vstack([self.points, points]), np.concatenate([self.losses, assumed])
        return Process(*merged, self._model.kernel_, self._model.alpha)


def search(
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    cube: Cube,
    sizes: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Points of a cube that a trial can have, those with the highest scores first.

    Args:
        score: Of each row.
        cube: Whose points are meant.
        sizes: How many points are drawn, and from how many of the best of them the search goes on nearby.
        rng: For the draws.

    From the best points of all it climbs along the slope, by L-BFGS-B.
    """
    drawn, starts = sizes
    points = cube.snap(rng.random((drawn, cube.dimensions)))
    scores = score(points)
    for step in (0.1, 0.03, 0.01, 0.003):
        best = points[np.argsort(-scores, kind="stable")[:starts]]
        steps = rng.standard_normal((10, *best.shape)) * step
        near = cube.snap((best + steps).reshape(-1, cube.dimensions))
        points, scores = np.vstack([points, near]), np.concatenate([scores, score(near)])
    best = points[np.argsort(-scores, kind="stable")[:_CLIMBED]]
    tops = cube.snap(np.array([_climb(score, point) for point in best]))
    points, scores = np.vstack([points, tops]), np.concatenate([scores, score(tops)])
    return points[np.argsort(-scores, kind="stable")]


def _climb(score: Callable[[NDArray[np.float64]], NDArray[np.float64]], start: NDArray[np.float64]) -> Any:
    """The top of the hill on which a point of the unit cube lies."""
    from scipy.optimize import minimize

    def descend(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        steps = np.where(point < 0.5, _SLOPE_STEP, -_SLOPE_STEP)
        scores = score(np.vstack([point, point + np.diag(steps)]))
        return -float(scores[0]), (scores[0] - scores[1:]) / steps

    bounds = [(0.0, 1.0)] * len(start)
    return minimize(descend, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _MOST_CLIMBS}).x


def _fit_scales(
    points: NDArray[np.float64], losses: NDArray[np.float64], scales: Any, nu: float, alpha: float, seed: int
) -> Any:
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(scales, (0.02, 20.0), nu=nu)
    return _fit(points, losses, kernel, alpha, optimizer=_maximize_likelihood, seed=seed)


def _fit(
    points: NDArray[np.float64],
    losses: NDArray[np.float64],
    kernel: Any,
    alpha: float,
    *,
    optimizer: Callable[..., tuple[Any, float]] | None = None,
    seed: int = 0,
) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor

    restarts = _RESTARTS if optimizer else 0
    model = GaussianProcessRegressor(
        kernel, alpha=alpha, optimizer=optimizer, n_restarts_optimizer=restarts, normalize_y=True, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of scales at their bounds, which are meant to bound them.
        return model.fit(points, losses)


def _maximize_likelihood(objective: Callable[..., Any], start: Any, bounds: Any) -> tuple[Any, float]:
    from scipy.optimize import minimize

    options = {"maxiter": _MOST_ITERATIONS}
    found = minimize(objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options=options)
    return found.x, found.fun


def _best_and_newest(losses: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """The indices of so many results, in order: one half the best, one half the newest of the others."""
    if len(losses) <= most:
        return np.arange(len(losses))
    ranked = np.argsort(losses, kind="stable")
    newest = np.sort(ranked[most // 2 :])[-(most - most // 2) :]
    return np.sort(np.concatenate([ranked[: most // 2], newest]))
