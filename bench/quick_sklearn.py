"""The numbers of scikit-learn's Gaussian process and mixture, without what it does for every other kernel and shape.

NNI's GPTuner and Metis ask one process for its likelihood and for single points some hundred thousand times per trial,
Metis two mixtures as well, and most of that time is spent on checking arguments and composing kernels. `install` puts
plainer formulas in their place, for what these tuners use, and compares them with scikit-learn's own first: NNI's code
and its decisions stay as they are, while twenty seeds take an hour and not a day.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dtrsv
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.spatial.distance import pdist, squareform
from scipy.special import digamma
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, Product
from sklearn.mixture import BayesianGaussianMixture

Floats = NDArray[np.float64]

_original_likelihood = GaussianProcessRegressor.log_marginal_likelihood
_original_predict = GaussianProcessRegressor.predict
_original_score = BayesianGaussianMixture.score


def install() -> None:
    """Use the plain formulas from here on; raises AssertionError where they differ from scikit-learn's."""
    _compare_process()
    _compare_mixture()
    GaussianProcessRegressor.log_marginal_likelihood = _likelihood
    GaussianProcessRegressor.predict = _predict
    BayesianGaussianMixture.score = _score


def _read(kernel: Any) -> tuple[float, float, float] | None:
    """Constant, length scale and nu of a Matern kernel, alone or behind a constant; None for any other kernel."""
    constant = 1.0
    if type(kernel) is Product and type(kernel.k1) is ConstantKernel:
        constant, kernel = kernel.k1.constant_value, kernel.k2
    if type(kernel) is Matern and kernel.nu in (1.5, 2.5) and np.ndim(kernel.length_scale) == 0:
        return constant, kernel.length_scale, kernel.nu
    return None


def _correlation(scaled: Floats, nu: float) -> tuple[Floats, Floats]:
    """Matern's correlation at distances in length scales, and its slope along the logarithm of the length scale."""
    s = math.sqrt(2 * nu) * scaled
    decay = np.exp(-s)
    if nu == 1.5:
        return (1 + s) * decay, s * s * decay
    return (1 + s + s * s / 3) * decay, s * s / 3 * (1 + s) * decay


def _likelihood(self: Any, theta: Any = None, eval_gradient: bool = False, clone_kernel: bool = True) -> Any:
    known = _read(self.kernel_)
    if known is None or not eval_gradient:
        return _original_likelihood(self, theta, eval_gradient, clone_kernel)
    if self.__dict__.get("_measured") is not self.X_train_:
        self._measured, self._distances = self.X_train_, squareform(pdist(self.X_train_))
    constant = math.exp(theta[0]) if len(theta) == 2 else 1.0
    correlation, slope = _correlation(self._distances / math.exp(theta[-1]), known[2])
    covariance = constant * correlation
    covariance.flat[:: len(covariance) + 1] += self.alpha
    lower, failed = dpotrf(covariance, lower=1, clean=1)
    if failed:
        return -np.inf, np.zeros_like(theta)
    y = self.y_train_.ravel()
    weights = dpotrs(lower, y, lower=1)[0]
    likelihood = -0.5 * y @ weights - np.log(np.diagonal(lower)).sum() - len(y) / 2 * math.log(2 * math.pi)
    half = dpotri(lower, lower=1)[0]  # the lower triangle of the inverse; above it is what the clean factor had: zeros
    inner = np.outer(weights, weights) - half - half.T
    inner.flat[:: len(inner) + 1] += np.diagonal(half)
    slopes = [constant * correlation, constant * slope] if len(theta) == 2 else [slope]
    return likelihood, np.array([0.5 * np.vdot(inner, one) for one in slopes])


def _predict(self: Any, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:  # noqa: N803
    points = np.asarray(X, dtype=float)
    known = _read(getattr(self, "kernel_", None))
    if known is None or not return_std or points.shape[0] != 1 or not hasattr(self, "alpha_"):
        return _original_predict(self, X, return_std, return_cov)
    constant, length, nu = known
    apart = self.X_train_ - points
    correlation = _correlation(np.sqrt(np.einsum("ij,ij->i", apart, apart)) / length, nu)[0]
    covariance = constant * correlation
    scale, shift = float(np.ravel(self._y_train_std)[0]), float(np.ravel(self._y_train_mean)[0])
    solved = dtrsv(self.L_, covariance, lower=1)
    variance = max(constant - solved @ solved, 0.0)
    return (
        np.array([scale * (covariance @ self.alpha_.ravel()) + shift]),
        np.array([math.sqrt(variance * scale * scale)]),
    )


def _score(self: Any, X: Any, y: Any = None) -> Any:  # noqa: N803
    if len(X) != 1 or self.covariance_type != "full" or not hasattr(self, "means_"):
        return _original_score(self, X, y)
    if self.__dict__.get("_flattened") is not self.means_:
        self._flattened = self.means_
        factors = self.precisions_cholesky_
        count, size = self.means_.shape
        freedom = self.degrees_of_freedom_
        self._factors = np.ascontiguousarray(factors.transpose(1, 0, 2).reshape(size, count * size))
        self._offsets = np.einsum("ki,kij->kj", self.means_, factors).ravel()
        self._constants = (
            np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
            - 0.5 * size * (np.log(2 * math.pi) + np.log(freedom) + 1 / self.mean_precision_)
            + 0.5 * (size * np.log(2.0) + digamma(0.5 * (freedom - np.arange(size)[:, None])).sum(axis=0))
            + self._estimate_log_weights()
        )
    apart = (np.asarray(X[0], dtype=float) @ self._factors - self._offsets).reshape(self.means_.shape)
    logarithms = self._constants - 0.5 * np.einsum("kj,kj->k", apart, apart)
    most = logarithms.max()
    return most + math.log(np.exp(logarithms - most).sum())


def _compare_process() -> None:
    generator = np.random.default_rng(0)
    points, values = generator.random((30, 3)), generator.random(30)
    constant = ConstantKernel(1.0, (1e-12, 1e12))
    for kernel in (constant * Matern(nu=1.5), constant * Matern(nu=2.5), Matern(nu=1.5), Matern(nu=2.5)):
        for targets in (values, values[:, None]):
            process = GaussianProcessRegressor(kernel, alpha=1e-10, normalize_y=True).fit(points, targets)
            for theta in (process.kernel_.theta, process.kernel_.theta - 0.5, process.kernel_.theta + 0.3):
                mine, slope = _likelihood(process, theta, eval_gradient=True, clone_kernel=True)
                theirs, its_slope = _original_likelihood(process, theta, eval_gradient=True)
                np.testing.assert_allclose(mine, theirs, rtol=1e-8)
                np.testing.assert_allclose(slope, its_slope, rtol=1e-5, atol=1e-6)
            for point in (points[:1] + 0.1, generator.random((1, 3))):
                for mine, theirs in zip(
                    _predict(process, point, return_std=True),
                    _original_predict(process, point, return_std=True),
                    strict=True,
                ):
                    assert mine.shape == theirs.shape, (mine.shape, theirs.shape)
                    np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-12)


def _compare_mixture() -> None:
    generator = np.random.default_rng(0)
    for samples, components in ((20, 19), (40, 12), (5, 1)):
        mixture = BayesianGaussianMixture(n_components=components, random_state=0, max_iter=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It need not converge.
            mixture.fit(generator.random((samples, 3)))
        for point in generator.random((5, 3)):
            asked = [list(point)]
            np.testing.assert_allclose(_score(mixture, asked), _original_score(mixture, asked), rtol=1e-10)
